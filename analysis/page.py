"""Findings to one HTML page."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.arm_section import arm_section
from analysis.audit_section import audit_section
from analysis.configurations import trials_section
from analysis.document import document, figure_section, header
from analysis.figures.style import build_style
from analysis.figures.table import FIGURES
from analysis.findings import Findings, describe
from analysis.looks_section import looks_section
from analysis.reported import ReportedPart
from analysis.tables import text

#: Figures that stand above the table, in the order of the report.
FIRST = ("forest",)
#: Of a study that states none of its own.
QUESTION = "Does this choice matter, by how much, and how sure are we?"


def build_page(findings: Findings, reported: ReportedPart | None = None) -> str:
    """The whole report as HTML; ``reported`` is what a reported study has beside."""
    return document(findings.record.name, _header(findings), [*_sections(findings, reported)])


def _sections(findings: Findings, reported: ReportedPart | None) -> Iterator[str]:
    """Everything below the verdict, best first; figures without data are named in one line."""
    style = build_style(findings)
    drawn = {}
    for key, figure in FIGURES.items():
        info = figure.info(findings)
        if not info.empty:
            takeaway = figure.takeaway(info, style)
            drawn[key] = figure_section(key, figure.title, takeaway, figure.plot(info, style), figure.caption)
    yield from (drawn[key] for key in FIRST if key in drawn)
    if not findings.table.empty:
        yield arm_section(findings)
    if not findings.looks.empty:
        yield looks_section(findings.looks)
    yield from reported.sections if reported else ()
    yield from (section for key, section in drawn.items() if key not in FIRST)
    missing = [FIGURES[key].title for key in FIGURES if key not in drawn]
    if missing:
        absent = f"Nothing to draw, since the record holds no data: {', '.join(missing)}."
        yield f'<p class="caption">{text(absent)}</p>'
    yield trials_section(findings)
    yield audit_section(findings)


def _header(findings: Findings) -> str:
    question = str(findings.record.protocol.get("question") or QUESTION)
    return header(describe(findings), findings.record.name, question, findings.verdict)
