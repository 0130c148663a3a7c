"""The answer on a page: ``python -m analysis.report --study NAME``.

Built from MLflow alone. Writes ``report.html`` (opens anywhere, needs no network), ``arms.csv``, ``comparisons.csv``
and ``epochs.parquet``; or prints the same as text, Markdown or JSON and writes nothing. ``docs/report.md`` describes
the files.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from analysis import terminal
from analysis.command import OneLineParser, check_text, leave, refusal
from analysis.epochs_file import FILE_NAME, to_parquet
from analysis.findings import Findings, find
from analysis.load import StudyRecord, load_epochs, load_protocol, load_study
from analysis.measures import METRICS
from analysis.page import build_page
from analysis.plain import needs_ascii, plain, to_ascii
from analysis.reported import ReportedPart
from trainables.config import InputError

#: What can be printed beside the page, and the name of its file.
PRINTED = {"text": "report.txt", "markdown": "report.md", "json": "report.json"}


@dataclass(frozen=True)
class Report:
    """What a report left behind.

    Args:
        path: The page.
        verdict: Its answer.
        text: The arm table as plain text, at most 120 columns wide.
        tables: The files beside the page: arms and comparisons as CSV, all epochs as Parquet; of a reported study its
            claims and seeds too.
        findings: What all of it was made from.
        claims: A reported study's claims as plain text; empty for any other.
    """

    path: Path
    verdict: str
    text: str
    tables: tuple[Path, ...]
    findings: Findings
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
    folder = Path(output) if output is not None else Path("reports") / folder_name(study)
    record = load_study(study, tracking_uri=tracking_uri, metrics=METRICS)
    # A server takes its time for the metrics that nothing is drawn from; the page is made meanwhile.
    with ThreadPoolExecutor(1) as beside:
        whole = beside.submit(load_epochs, record)
        findings, reported = _find(record)
        contents: dict[str, str | bytes] = {
            "report.html": build_page(findings, reported),
            "arms.csv": findings.table.to_csv(index=False),
            "comparisons.csv": findings.comparisons.to_csv(index=False),
            FILE_NAME: to_parquet(whole.result(), record.trials),
            **(reported.files if reported else {}),
        }
    paths = [write_file(folder / name, content) for name, content in contents.items()]
    text = reported.text if reported else ""
    return Report(paths[0], findings.verdict, terminal.format_table(findings), tuple(paths[1:]), findings, text)


def print_report(study: str, form: str, *, tracking_uri: str | None = None, ascii_only: bool = False) -> str:
    """A study's report as text.

    Args:
        study: The study's name.
        form: One of ``PRINTED``.
        tracking_uri: As in :func:`build_report`.
        ascii_only: Whether whoever reads it can show ASCII only.

    Raises:
        InputError: If the study cannot be read.
    """
    # Only a reported study's measures are worked out from the confusions in final.json.
    is_reported = "report" in load_protocol(study, tracking_uri=tracking_uri)
    findings, reported = _find(load_study(study, tracking_uri=tracking_uri, metrics=METRICS, finals=is_reported))
    if form == "json":
        return terminal.as_json(findings, reported)
    view = terminal.as_text if form == "text" else terminal.as_markdown
    return view(findings, reported, ascii_only=ascii_only)


def _find(record: StudyRecord) -> tuple[Findings, ReportedPart | None]:
    findings = find(record)
    if "report" not in record.protocol:
        return findings, None
    reported = ReportedPart.of(record)
    if reported.answer:  # what such a study is run for comes first
        findings = replace(findings, verdict=f"{reported.answer} Its arms: {findings.verdict}")
    return findings, reported


def folder_name(study: str) -> str:
    """A study's name as one folder below the working directory, whatever is in it."""
    return re.sub(r"[^\w.\-]", "_", study).strip(".") or "study"


def write_file(path: Path, content: str | bytes) -> Path:
    """Write a file, text as UTF-8, at once: whoever opens it sees the old one or the new one.

    Raises:
        InputError: If that is not possible.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
            temporary.chmod(0o644)  # mkstemp makes it the owner's alone
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"Cannot write {str(path)!r}: {error.strerror or error}.") from error
    return path.absolute()


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="python -m analysis.report",
        description="Write a study's report from its MLflow record, or print it.",
    )
    parser.add_argument("--study", required=True, metavar="NAME", help="the study's name, as given to study.launch")
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="where MLflow keeps the record (default: MLFLOW_TRACKING_URI, else mlflow.db in this folder)",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        help=f"folder to write to (default for html: reports/NAME); for the others {', '.join(PRINTED.values())} in it",
    )
    parser.add_argument(
        "--format",
        choices=("html", *PRINTED),
        default="html",
        help="html writes the page and its tables; the others are printed, and written only with --output "
        "(default: html)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 if the report stands, 2 if the input breaks a rule."""
    given = sys.argv[1:] if argv is None else list(argv)
    ascii_only = needs_ascii(sys.stdout)
    try:
        check_text(given)
        options = build_parser().parse_args(given)
        if options.format == "html":
            report = build_report(options.study, tracking_uri=options.tracking_uri, output=options.output)
            answer = f"{plain(report.verdict)}\n{plain(report.path)}\n"
        else:
            to_file = options.output is not None
            answer = print_report(
                options.study, options.format, tracking_uri=options.tracking_uri, ascii_only=ascii_only and not to_file
            )
            if to_file:
                answer = f"{plain(write_file(Path(options.output) / PRINTED[options.format], answer))}\n"
    except InputError as error:
        print(f"error: {refusal(error)}", file=sys.stderr)  # noqa: T201 - one line, no traceback
        return 2
    sys.stdout.write(to_ascii(answer) if ascii_only else answer)
    return 0


if __name__ == "__main__":
    leave(main())
