"""A comparison of studies as one HTML page that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from analysis.across import figures, render, takeaways
from analysis.across.changes import NONE
from analysis.across.result import Result
from analysis.across.sentence import places
from analysis.document import document, figure_section, header
from analysis.inference import ALPHA
from analysis.tables import MISSING, Cell, number, render_table, text

FOREST_CAPTION = (
    "Mean paired difference over seeds with its 95% t interval, each study by itself; grey: that study's ±δ. Filled: "
    "p < 0.05 by a sign-flip test corrected for every comparison of the page (step-down max-T, Westfall & Young 1993), "
    "so a study's own report, which corrects for its own arms only, may say more."
)
POOLED_CAPTION = (
    " Diamond: random-effects mean (Paule & Mandel; t interval over datasets), of datasets like these, not of these "
    "alone; dotted: where one further dataset may lie, cut off at the edge of the drawing."
)


def build_page(result: Result) -> str:
    """The whole comparison as HTML."""
    sections = [
        _forest_section(result),
        _score_section(result),
        _ranking_section(result),
        _version_section(result),
        _protocol_section(result),
    ]
    return document(_title(result), _header(result), [section for section in sections if section])


def _title(result: Result) -> str:
    return " · ".join(study.name for study in result.comparison.studies)


def _header(result: Result) -> str:
    comparison = result.comparison
    facts = [places(comparison), f"{len(comparison.arms)} arms shared", f"baseline {comparison.baseline}"]
    facts += [f"{comparison.regime} regime"] if comparison.regime else []
    factor = f"Is the answer about the {comparison.factor} the same" if comparison.factor else "Is the answer the same"
    question = f"{factor} on every dataset and in every version, and what changed?"
    return header(facts, _title(result), question, result.verdict)


def _forest_section(result: Result) -> str:
    info = figures.info_forest(result)
    title = f"Difference to {result.comparison.baseline}, study by study"
    if info.empty:
        words = "Nothing to draw: no two arms shared have scores on the same seeds."
        return f'<section id="section-forest"><h2>{text(title)}</h2><p class="takeaway">{text(words)}</p></section>'
    drawing = figures.plot_forest(info, result.comparison.baseline, figures.colours_of(result))
    caption = FOREST_CAPTION + (POOLED_CAPTION if len(result.pooled) else "")
    return figure_section("forest", title, takeaways.say_forest(result), drawing, caption)


def _score_section(result: Result) -> str:
    studies = result.comparison.studies
    meaning = "test accuracy in % [95% CI], mean over seeds; rank among the arms shared"
    same = "Welch's test that the difference to the baseline is the same in all studies, Holm p"
    headings = [
        ("Arm", "the value of the factor"),
        *((study.name, f"{meaning}; {study.setting}") for study in studies),
        ("Effect the same?", same),
    ]
    colours = figures.colours_of(result)
    by_place = {(row["arm"], row["study"]): row for row in result.scores.to_dict("records")}
    changes = {str(row["arm"]): row for row in result.effect_changes.to_dict("records")}
    rows: list[list[Cell]] = []
    for arm in result.comparison.arms:
        tag = "baseline" if arm == result.comparison.baseline else "twin" if arm in result.comparison.twins else ""
        tagged = f' <span class="tag">{tag}</span>' if tag else ""
        name = f'<span class="swatch" style="background:{colours[arm]}"></span>{text(arm)}{tagged}'
        cells = [_score_cell(by_place[arm, study.name]) for study in studies]
        rows.append([(name, arm.lower()), *cells, _change_cell(changes.get(arm))])
    left = "".join(f"<p>{text(line)}</p>" for line in render.left_out(result))
    note = "Means over the confirm seeds; # is the rank by the mean, which says nothing of chance."
    return (
        '<section id="section-arms"><h2>Scores</h2>'
        + render_table("arms", headings, rows)
        + f'<div class="caption">{text(note)}{left}</div></section>'
    )


def _score_cell(row: Mapping[Any, Any]) -> Cell:
    shown, _, rest = render.accuracy_cell(row).partition(" ")
    return (f'{text(shown)} <span class="interval">{text(rest)}</span>', float(row["accuracy"]))


def _change_cell(row: Mapping[Any, Any] | None) -> Cell:
    if row is None or math.isnan(row["p_holm"]):
        return (MISSING, math.nan)
    shown, value = number(row["p_holm"], ".2g")
    if row["p_holm"] >= ALPHA:
        return (f"not shown to differ, p = {shown}", value)
    return (f"<b>differs</b>, {row['smallest']:+.2f} to {row['largest']:+.2f}, p = {shown}", value)


def _ranking_section(result: Result) -> str:
    if result.ranking is None:
        return ""
    drawing = figures.plot_critical_difference(result.ranking, figures.colours_of(result))
    caption = takeaways.caption_ranking(result)
    return figure_section("ranking", "Critical differences", takeaways.say_ranking(result), drawing, caption)


VERSION_HEADINGS = (
    ("Arm", "the value of the factor"),
    ("From", "the study named first"),
    ("To", "the later study"),
    ("Change, points [95% CI]", "test accuracy of the later study minus that of the first"),
    ("Compared", "by pairs of seeds on equal data, else as independent samples (Welch)"),
    ("Holm p", "sign-flip or Welch test, corrected for the rows of this table"),
    ("Winner", "how the configuration that was confirmed changed"),
)


def _version_section(result: Result) -> str:
    if result.versions.empty:
        return ""
    rows = [_version_cells(row) for row in result.versions.to_dict("records")]
    changed = result.versions[result.versions["p_holm"] < ALPHA]
    number_of = f"{len(changed)} of {len(rows)} scores changed beyond chance after Holm's correction."
    return (
        '<section id="section-versions"><h2>The same dataset again</h2>'
        f'<p class="takeaway">{text(number_of)}</p>' + render_table("versions", VERSION_HEADINGS, rows) + "</section>"
    )


def _version_cells(row: Mapping[Any, Any]) -> list[Cell]:
    shown, _, how = render.change_cell(row).rpartition(" (")
    mean, _, interval = shown.partition(" ")
    return [
        *((text(row[key]), str(row[key]).lower()) for key in ("arm", "before", "after")),
        (f'{text(mean)} <span class="interval">{text(interval)}</span>', float(row["change"])),
        (text(how.removesuffix(")")), how),
        number(row["p_holm"], ".2g"),
        (f'<div class="words">{text(row["winner"])}</div>', str(row["winner"])),
    ]


def _protocol_section(result: Result) -> str:
    differs = result.protocols["differs"].astype(bool)
    names = [(study.name, "as its record says") for study in result.comparison.studies]
    headings = [("Fact", "of the studies' protocols"), *names]
    rows = [_protocol_cells(row, len(names)) for row in result.protocols[differs].to_dict("records")]
    same = "".join(
        f"<dt>{text(row['fact'])}</dt><dd>{text(row[0])}</dd>" for row in result.protocols[~differs].to_dict("records")
    )
    table = render_table("protocols", headings, rows) if rows else "<p>Nothing that is on record.</p>"
    remarks = "".join(f"<li>{text(remark)}</li>" for remark in result.comparison.remarks)
    listed = f"<ul>{remarks}</ul>" if remarks else ""
    folded = f"<details><summary>{int((~differs).sum())} facts are the same</summary><dl>{same}</dl></details>"
    return (
        f'<section id="section-protocols"><h2>What differs between the studies</h2>{listed}{table}'
        f'<div class="caption">{folded if same else ""}</div></section>'
    )


def _protocol_cells(row: Mapping[Any, Any], number_of: int) -> list[Cell]:
    values = [str(row[place]) for place in range(number_of)]
    cells: list[Cell] = [(text(value) if value != NONE else MISSING, value) for value in values]
    return [(text(row["fact"]), str(row["fact"]).lower()), *cells]
