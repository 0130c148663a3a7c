"""The answer on a page: ``python -m analysis.report --study NAME``.

Built from MLflow alone. Writes ``report.html`` (opens anywhere, needs no network), ``arms.csv`` and
``comparisons.csv``.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.compare import POINTS
from analysis.findings import Findings, find
from analysis.load import load_protocol, load_study
from analysis.measures import METRICS as CURVES
from analysis.page import build_page
from analysis.reported import ReportedPart
from trainables.config import InputError

#: Histories that the page draws; the rest stay in MLflow, since reading all of them is most of a report's time.
METRICS = ("val_accuracy", "epoch_seconds")
TEXT_WIDTH = 120
MISSING = "-"


@dataclass(frozen=True)
class Report:
    """What a report left behind.

    Args:
        path: The page.
        verdict: Its answer.
        text: The arm table as plain text, at most 120 columns wide.
        tables: The files beside the page: arms and comparisons as CSV; of a reported study its claims and seeds too.
        claims: A reported study's claims as plain text; empty for any other.
    """

    path: Path
    verdict: str
    text: str
    tables: tuple[Path, ...]
    claims: str = ""


def build_report(study: str, *, tracking_uri: str | None = None, output: Path | str | None = None) -> Report:
    """Write a study's report.

    Args:
        study: The study's name.
        tracking_uri: Default: ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` in the working directory.
        output: The folder to write to; default: ``reports/<study>`` in the working directory.

    Raises:
        InputError: If the study cannot be read or the folder cannot be written.
    """
    is_reported = "report" in load_protocol(study, tracking_uri=tracking_uri)
    metrics = CURVES if is_reported else METRICS
    record = load_study(study, tracking_uri=tracking_uri, metrics=metrics, finals=is_reported)
    findings = find(record)
    reported = ReportedPart.of(record) if is_reported else None
    folder = Path(output) if output is not None else Path("reports") / folder_name(study)
    contents = {
        "report.html": build_page(findings, reported),
        "arms.csv": findings.table.to_csv(index=False),
        "comparisons.csv": findings.comparisons.to_csv(index=False),
        **(reported.files if reported else {}),
    }
    paths = [write_file(folder / name, content) for name, content in contents.items()]
    text = reported.text if reported else ""
    return Report(paths[0], findings.verdict, format_table(findings), tuple(paths[1:]), text)


def folder_name(study: str) -> str:
    """A study's name as one folder below the working directory, whatever is in it."""
    return re.sub(r"[^\w.\-]", "_", study).strip(".") or "study"


def write_file(path: Path, content: str) -> Path:
    """Write a file at once: whoever opens it sees the old one or the new one.

    Raises:
        InputError: If that is not possible.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(content)
            temporary.chmod(0o644)  # mkstemp makes it the owner's alone
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"Cannot write {str(path)!r}: {error.strerror or error}.") from error
    return path.absolute()


def format_table(findings: Findings) -> str:
    """The arm table for a terminal: aligned, plain characters, at most 120 columns."""
    header = ["arm", "accuracy %", "95% CI", "diff", "95% CI", "Holm p", "NLL", "s/epoch", "n"]
    comparisons = {str(row["arm"]): row for row in findings.comparisons.to_dict("records")}
    lines = [header]
    for row in findings.table.to_dict("records"):
        arm = str(row["arm"])
        cells = [
            arm,
            _cell(row["accuracy"] * POINTS),
            _interval(row["accuracy_low"] * POINTS, row["accuracy_high"] * POINTS),
        ]
        if arm in comparisons:
            other = comparisons[arm]
            cells += [
                _cell(other["difference_points"], "+.2f"),
                _interval(other["low_points"], other["high_points"], "+.2f"),
            ]
            cells.append(_cell(other["p_holm"], ".3f"))
        else:
            cells += ["baseline" if arm == findings.baseline else MISSING, "", ""]
        flag = "*" if row["num_diverged"] else ""
        lines.append(
            [*cells, _cell(row["nll"], ".3f"), _cell(row["epoch_seconds"], ".3g"), f"{row['num_seeds']}{flag}"]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(1, len(header))]
    first = min(max(len(line[0]) for line in lines), TEXT_WIDTH - sum(widths) - 2 * len(widths))
    text = [
        "  ".join(
            [_shorten(line[0], first), *(cell.rjust(width) for cell, width in zip(line[1:], widths, strict=True))]
        ).rstrip()
        for line in lines
    ]
    text.insert(1, "-" * max(map(len, text)))
    if findings.table["num_diverged"].any():
        text.append("* a seed diverged and counts with chance accuracy")
    return "\n".join(text)


def _cell(value: float, form: str = ".2f") -> str:
    return format(value, form) if np.isfinite(value) else MISSING


def _interval(low: float, high: float, form: str = ".2f") -> str:
    return f"[{low:{form}}, {high:{form}}]" if np.isfinite(low) else MISSING


def _shorten(name: str, width: int) -> str:
    plain = name.encode("ascii", "replace").decode()
    return plain.ljust(width) if len(plain) <= width else f"{plain[: width - 2]}.."


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.report",
        description="Write a study's report from its MLflow record: report.html, arms.csv and comparisons.csv.",
    )
    parser.add_argument("--study", required=True, metavar="NAME", help="the study's name, as given to study.launch")
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="where MLflow keeps the record (default: MLFLOW_TRACKING_URI, else mlflow.db in this folder)",
    )
    parser.add_argument("--output", metavar="DIR", help="folder to write to (default: reports/NAME)")
    parser.add_argument(
        "--format",
        choices=("html", "text"),
        default="html",
        help="html writes the files; text prints the arm table and writes nothing (default: html)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 if the report stands, 2 if the input breaks a rule."""
    options = build_parser().parse_args(argv)
    try:
        if options.format == "text":
            findings = find(load_study(options.study, tracking_uri=options.tracking_uri, metrics=METRICS, finals=False))
            print(f"{format_table(findings)}\n\n{findings.verdict}")  # noqa: T201 - the answer
            return 0
        report = build_report(options.study, tracking_uri=options.tracking_uri, output=options.output)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - one line, no traceback
        return 2
    print(f"{report.verdict}\n{report.path}")  # noqa: T201 - the answer
    return 0


if __name__ == "__main__":
    sys.exit(main())
