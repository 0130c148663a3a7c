"""The report without a browser: the page's verdict, tables and remarks as plain text, Markdown and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.address import redact
from analysis.audit import STOP_REASONS, describe_rungs, sampling_errors
from analysis.claims import render
from analysis.compare import POINTS
from analysis.findings import Findings, describe
from analysis.looks_section import looks_table
from analysis.places import nodes_section
from analysis.plain import fit, plain, to_ascii, width, wrap
from analysis.remarks import audit_remarks, protocol_facts
from analysis.reported import ReportedPart
from analysis.sections import MISSING, Section, cell, interval

TEXT_WIDTH = 120
#: Of a table's first column, where the others leave it less.
LEAST_WIDTH = 8
#: Version of the JSON, raised when a key changes its meaning or goes; new keys may come at any time.
SCHEMA = 1
#: What would be markup in a Markdown cell.
MARKUP = "\\|*_`<>[]#"

Words = Callable[[object], str]


def build_sections(findings: Findings) -> list[Section]:
    """What follows the verdict, in the order of the page; sections without content are left out."""
    facts = [f"{name}: {value}" for name, value in protocol_facts(findings).items()]
    command = findings.record.protocol.get("command") or findings.record.tags.get("command")
    sections = [
        _arm_section(findings),
        _comparison_section(findings),
        *([] if findings.looks.empty else [looks_table(findings.looks)]),
        Section("Audit", remarks=audit_remarks(findings)),
        _search_section(findings),
        _error_section(findings),
        nodes_section(findings.nodes, len(findings.record.trials)),
        Section("Protocol", remarks=[*facts, *([f"Command: {command}"] if command else [])]),
    ]
    return [section for section in sections if section.rows or section.remarks]


def as_text(findings: Findings, reported: ReportedPart | None = None, *, ascii_only: bool = False) -> str:
    """The report for a terminal of 120 columns.

    Args:
        findings: Of the study.
        reported: What a reported study has beside.
        ascii_only: Whether the terminal shows ASCII only.
    """

    def words(value: object) -> str:
        return to_ascii(plain(value)) if ascii_only else plain(value)

    lines = [*wrap(words(findings.record.name), TEXT_WIDTH), *wrap(words(_subject(findings)), TEXT_WIDTH), ""]
    lines += wrap(words(findings.verdict), TEXT_WIDTH)
    for section in build_sections(findings):
        lines += ["", words(section.title), "=" * len(section.title)]
        if section.rows:
            lines += align([section.headings, *section.rows], words)
        for remark in section.remarks:
            lines += wrap(f"- {words(remark)}", TEXT_WIDTH, indent="  ")
    if reported and reported.claims:
        lines += ["", "Claims of the report", "=" * len("Claims of the report")]
        for line in reported.text.splitlines():
            lines += [""] if not line else _kept(words(line))
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _kept(line: str) -> list[str]:
    """A line laid out elsewhere: as it is, unless its spelling in ASCII made it too long."""
    return [line] if width(line) <= TEXT_WIDTH else wrap(line, TEXT_WIDTH, indent="    ")


def as_markdown(findings: Findings, reported: ReportedPart | None = None, *, ascii_only: bool = False) -> str:
    """The report as Markdown with pipe tables; arguments as of :func:`as_text`."""

    def words(value: object) -> str:
        shown = "".join(f"\\{character}" if character in MARKUP else character for character in plain(value))
        return to_ascii(shown) if ascii_only else shown

    lines = [f"# {words(findings.record.name)}", "", words(_subject(findings)), "", f"**{words(findings.verdict)}**"]
    for section in build_sections(findings):
        lines += ["", f"## {section.title}", ""]
        if section.rows:
            lines += [_pipes(words, section.headings), "|---" + "|---:" * (len(section.headings) - 1) + "|"]
            lines += [_pipes(words, row) for row in section.rows]
        if section.rows and section.remarks:
            lines.append("")
        lines += [f"- {words(remark)}" for remark in section.remarks]
    if reported and reported.claims:
        claims = [plain(line) for line in render.as_markdown(reported.claims).splitlines()]
        lines += ["", "## Claims of the report", "", *(map(to_ascii, claims) if ascii_only else claims)]
    return "\n".join(lines) + "\n"


def _pipes(words: Words, cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(words, cells))} |"


def as_json(findings: Findings, reported: ReportedPart | None = None) -> str:
    """The report as one JSON object, as ``docs/report.md`` describes it.

    Strict JSON in ASCII: what is not a finite number is null, and no name acts on the terminal.
    """
    record = findings.record
    content = {
        "schema": SCHEMA,
        "study": record.name,
        "run_id": record.run_id,
        "experiment_id": record.experiment_id,
        "tracking_uri": redact(record.tracking_uri),
        "state": record.tags.get("state"),
        "question": record.protocol.get("question"),
        "baseline": findings.baseline or None,
        "delta_points": findings.delta,
        "verdict": findings.verdict,
        "arms": to_records(findings.table),
        "comparisons": to_records(findings.comparisons),
        "control": to_records(findings.control),
        "search": to_records(findings.audit),
        "errors": to_records(_errors(findings)),
        "nodes": to_records(findings.nodes),
        **({} if findings.looks.empty else {"looks": to_records(findings.looks)}),
        "remarks": audit_remarks(findings),
        "protocol": protocol_facts(findings),
        "claims": json.loads(render.as_json(reported.claims)) if reported else None,
    }
    return json.dumps(_strict(content), indent=1, allow_nan=False) + "\n"


def to_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame's rows as JSON takes them: missing and infinite values are None."""
    return [{str(key): _strict(value) for key, value in row.items()} for row in frame.to_dict("records")]


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is pd.NA or value is pd.NaT or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _subject(findings: Findings) -> str:
    """One line on what was studied."""
    question = str(findings.record.protocol.get("question") or "")
    return " · ".join([*([question] if question else []), *describe(findings)])


def _arm_section(findings: Findings) -> Section:
    headings = ("arm", "accuracy %", "95% CI", "SD", "F1", "NLL", "ECE", "s/epoch", "seeds")
    rows = []
    for row in findings.table.to_dict("records"):
        name = f"{row['arm']} (baseline)" if row["baseline"] else str(row["arm"])
        diverged = "*" if row["num_diverged"] else ""
        rows.append(
            [
                name,
                cell(row["accuracy"] * POINTS),
                interval(row["accuracy_low"] * POINTS, row["accuracy_high"] * POINTS),
                cell(row["accuracy_sd"] * POINTS),
                *(cell(row[key], ".3f") for key in ("f1_macro", "nll", "ece")),
                cell(row["epoch_seconds"], ".3g"),
                f"{row['num_seeds']}{diverged}",
            ]
        )
    note = "Test accuracy, mean over the confirm seeds."
    marked = "* a seed diverged and counts with chance accuracy"
    remarks = [note, *([marked] if findings.table["num_diverged"].any() else [])]
    return Section("Arms", headings, rows, remarks if rows else ())


def _comparison_section(findings: Findings) -> Section:
    headings = ("arm", "difference", "95% CI", "p", "Holm p", "P(better)", "within delta", "detectable", "seeds")
    rows = [
        [
            str(row["arm"]),
            cell(row["difference_points"], "+.2f"),
            interval(row["low_points"], row["high_points"], "+.2f"),
            cell(row["p"], ".2g"),
            cell(row["p_holm"], ".2g"),
            cell(row["probability_better"]),
            "yes" if row["equivalent"] else "no",
            cell(row["detectable_points"]),
            str(row["num_seeds"]),
        ]
        for row in findings.comparisons.to_dict("records")
    ]
    note = (
        f"Paired differences to {findings.baseline} in accuracy points; delta = {findings.delta:g}. Detectable: the "
        "smallest effect found four times in five."
    )
    return Section("Comparisons", headings, rows, [note] if rows else ())


def _search_section(findings: Findings) -> Section:
    audit = findings.audit
    searched = audit[audit["trials"] > 0]
    reasons = [reason for reason in STOP_REASONS if searched[reason].any()]
    headings = ("arm", "trials", *reasons, "epochs", "winner", "learning rate", "range", "edge")
    rows = [
        [
            str(row["arm"]),
            *(str(row[key]) for key in ("trials", *reasons, "epochs")),
            MISSING if pd.isna(row["winner"]) else str(row["winner"]),
            cell(row["learning_rate"], ".3g"),
            f"{row['low']:.2g} to {row['high']:.2g}" if np.isfinite(row["low"]) else MISSING,
            str(row["edge"]) or MISSING,
        ]
        for row in searched.to_dict("records")
    ]
    stops = [f"{row['arm']}: stopped early: {row['stopped']}" for row in searched.to_dict("records") if row["stopped"]]
    rungs = describe_rungs(findings.record.protocol)
    remarks = [*([f"Rungs: {rungs}. A rung compares trials of one arm."] if rungs else []), *stops]
    return Section("Search", headings, rows, remarks if rows else ())


def _errors(findings: Findings) -> pd.DataFrame:
    images = int((findings.record.protocol.get("dataset") or {}).get("num_test") or 0)
    return sampling_errors(findings.table, findings.comparisons, images)


def _error_section(findings: Findings) -> Section:
    headings = ("arm", "accuracy: seeds", "accuracy: split", "difference: seeds", "difference: split")
    keys = ("accuracy_seeds", "accuracy_split", "difference_seeds", "difference_split")
    rows = [[str(row["arm"]), *(cell(row[key]) for key in keys)] for row in _errors(findings).to_dict("records")]
    note = "Standard errors in points: what other seeds would move, and at most what another test split would."
    return Section("Errors", headings, rows, [note] if rows else ())


def format_table(findings: Findings) -> str:
    """Arms and comparisons in one table for the end of a launch: ASCII, at most 120 columns."""
    header = ["arm", "accuracy %", "95% CI", "diff", "95% CI", "Holm p", "NLL", "s/epoch", "n"]
    comparisons = {str(row["arm"]): row for row in findings.comparisons.to_dict("records")}
    lines = [header]
    for row in findings.table.to_dict("records"):
        arm = str(row["arm"])
        accuracy = interval(row["accuracy_low"] * POINTS, row["accuracy_high"] * POINTS)
        cells = [arm, cell(row["accuracy"] * POINTS), accuracy]
        if arm in comparisons:
            other = comparisons[arm]
            cells.append(cell(other["difference_points"], "+.2f"))
            cells.append(interval(other["low_points"], other["high_points"], "+.2f"))
            cells.append(cell(other["p_holm"], ".3f"))
        else:
            cells += ["baseline" if arm == findings.baseline else MISSING, "", ""]
        flag = "*" if row["num_diverged"] else ""
        lines.append([*cells, cell(row["nll"], ".3f"), cell(row["epoch_seconds"], ".3g"), f"{row['num_seeds']}{flag}"])
    text = align(lines, lambda value: to_ascii(plain(value)))
    if findings.table["num_diverged"].any():
        text.append("* a seed diverged and counts with chance accuracy")
    return "\n".join(text)


def align(lines: Sequence[Sequence[str]], words: Words) -> list[str]:
    """Rows below their headings, at most 120 columns: the first column left and cut to fit, the others right."""
    shown = [[words(value) for value in line] for line in lines]
    widths = [max(map(width, column)) for column in zip(*shown, strict=True)]
    widths[0] = min(widths[0], max(TEXT_WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1), LEAST_WIDTH))
    text = [
        "  ".join(
            [
                fit(line[0], widths[0]),
                *(" " * (columns - width(value)) + value for value, columns in zip(line[1:], widths[1:], strict=True)),
            ]
        ).rstrip()
        for line in shown
    ]
    text.insert(1, "-" * max(map(width, text)))
    return text
