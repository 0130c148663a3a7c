"""Findings to the page's table of arms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.compare import POINTS
from analysis.figures.style import build_style, swatch
from analysis.findings import Findings
from analysis.inference import ALPHA
from analysis.tables import MISSING, Cell, number, render_table, text
from analysis.verdict import differs_beside


@dataclass(frozen=True)
class Column:
    """A column of the table, left out where no arm has anything in it.

    Args:
        name: Its heading, short.
        meaning: What it is, for the pointer that rests on the heading.
        cell: A row of the table of arms, with its comparison beside, to what is shown.
    """

    name: str
    meaning: str
    cell: Callable[[pd.Series[Any]], Cell]


def stacked(shown: str, below: str) -> str:
    """A number over what qualifies it, so that fourteen columns share a page's width; both are HTML already."""
    return f'{shown}<br><span class="interval">{below}</span>' if below else shown


def plain(column: str, form: str) -> Callable[[pd.Series[Any]], Cell]:
    """The cell of a column of numbers as it stands."""
    return lambda row: number(row[column], form)


def accuracy_cell(row: pd.Series[Any]) -> Cell:
    """Mean test accuracy in percent over its interval."""
    shown, value = number(row["accuracy"] * POINTS, ".2f")
    low, high = row["accuracy_low"] * POINTS, row["accuracy_high"] * POINTS
    return stacked(shown, f"[{low:.2f}, {high:.2f}]" if math.isfinite(low) else ""), value


def difference_cell(row: pd.Series[Any]) -> Cell:
    """Mean paired difference in points over its interval; the baseline is zero for the order of the rows."""
    if math.isnan(row["difference_points"]):
        return MISSING, 0.0 if row["baseline"] else math.nan
    low, high = row["low_points"], row["high_points"]
    below = f"[{low:+.2f}, {high:+.2f}]" if math.isfinite(low) else ""
    return stacked(f"{row['difference_points']:+.2f}", below), row["difference_points"]


def holm_cell(row: pd.Series[Any]) -> Cell:
    """The corrected p, bold where it is below 0.05."""
    shown, value = number(row["p_holm"], ".2g")
    return (f"<b>{shown}</b>" if row["p_holm"] < ALPHA else shown), value


def equivalence_cell(row: pd.Series[Any]) -> Cell:
    """Whether the two one-sided tests show a difference within δ, sorted by their p."""
    if pd.isna(row["equivalent"]):
        return MISSING, math.nan
    return "yes" if row["equivalent"] else "no", row["equivalence_p"]


def epochs_cell(row: pd.Series[Any]) -> Cell:
    """Median epochs to the common target; a miss is later than the last epoch, and counted below."""
    value = row["epochs_to_target"]
    if math.isnan(value):
        return MISSING, math.nan
    missed, seeds = int(row["target_missed"]), int(row["target_seeds"])
    shown = f"{value:g}" if math.isfinite(value) else f"&gt; {row['planned_epochs']:g}"
    return stacked(shown, f"{missed} of {seeds} missed" if missed else ""), value


def failure_cell(row: pd.Series[Any]) -> Cell:
    """The share of search trials that diverged or collapsed, in percent, over its interval."""
    if math.isnan(row["failure_rate"]):
        return MISSING, math.nan
    rate, low, high = (POINTS * row[key] for key in ("failure_rate", "failure_low", "failure_high"))
    return stacked(f"{rate:.0f}", f"[{low:.0f}, {high:.0f}]"), rate


def seeds_cell(row: pd.Series[Any]) -> Cell:
    """How many confirm runs have a score, and how many of them diverged."""
    flag = f'<b class="warn">{row["num_diverged"]} diverged</b>' if row["num_diverged"] else ""
    return stacked(str(row["num_seeds"]), flag), float(row["num_seeds"])


def width_cell(row: pd.Series[Any]) -> Cell:
    """The share of the common grid's rates that are good, in percent."""
    return number(POINTS * row["rate_width"], ".0f")


COLUMNS = (
    Column("Accuracy %", "test accuracy, mean over seeds, with its 95% t interval", accuracy_cell),
    Column("Δ points", "mean paired difference to the baseline, with its 95% t interval", difference_cell),
    Column("P(better)", "share of seeds on which the arm beats the baseline", plain("probability_better", ".2f")),
    Column("Holm p", "sign-flip test, corrected for the family of arms; bold below 0.05", holm_cell),
    Column("Within δ", "whether two one-sided tests show a difference smaller than δ", equivalence_cell),
    Column("F1", "macro F1 on the test split", plain("f1_macro", ".3f")),
    Column("NLL", "negative log-likelihood on the test split, nats", plain("nll", ".3f")),
    Column("ECE", "expected calibration error on the test split, 15 bins", plain("ece", ".3f")),
    Column("Epochs to target", "median over seeds of the epochs to the common validation accuracy", epochs_cell),
    Column("Failed %", "share of search trials that diverged or ended at chance, with a 95% interval", failure_cell),
    Column("LR width %", "share of the common grid's learning rates within 2 points of the arm's best", width_cell),
    Column("s/epoch", "median seconds per epoch, without the first", plain("epoch_seconds", ".3g")),
    Column("Seeds", "confirm runs with a score; a diverged one counts with chance accuracy", seeds_cell),
)


def arm_section(findings: Findings) -> str:
    """The section with one row per arm, best first."""
    table = findings.table.merge(
        findings.comparisons.drop(columns=["num_seeds", "num_diverged"]), on="arm", how="left", validate="one_to_one"
    )
    rows = [row for _, row in table.iterrows()]
    cells = {column: [column.cell(row) for row in rows] for column in COLUMNS}
    kept = [column for column in COLUMNS if any(shown != MISSING for shown, _ in cells[column])]
    headings = [("Arm", "the value of the factor"), *((column.name, column.meaning) for column in kept)]
    lines = [
        [name, *others]
        for name, *others in zip(_name_cells(findings, rows), *(cells[column] for column in kept), strict=True)
    ]
    return (
        f'<section id="section-arms"><h2>Arms</h2>{render_table("arms", headings, lines)}'
        f'<p class="caption">{text(_caption(findings, {column.name for column in kept}))}</p></section>'
    )


def _name_cells(findings: Findings, rows: list[pd.Series[Any]]) -> list[Cell]:
    style = build_style(findings)
    beside = differs_beside({**findings.record.protocol, "baseline": findings.baseline})
    cells: list[Cell] = []
    for row in rows:
        arm = str(row["arm"])
        also = f"{arm}: differs from {findings.baseline} in {', '.join(beside[arm])} too" if arm in beside else arm
        tag = '<br> <span class="tag">baseline</span>' if row["baseline"] else ""
        cells.append((f'<span title="{text(also)}">{swatch(arm, style)}{text(arm)}</span>{tag}', arm.lower()))
    return cells


def _caption(findings: Findings, columns: set[str]) -> str:
    parts = ["Mean over the confirm seeds, scored once on the test split. P(better) counts ties half."]
    if "Epochs to target" in columns:
        target = findings.table["target_accuracy"].max()
        parts.append(
            f"Target: {target:.2%} validation accuracy, the median of the baseline's best minus δ; a seed that misses "
            "it counts as later than its last epoch."
        )
    if "Failed %" in columns:
        parts.append(
            "Failed: search trials that diverged or ended no better than guessing, those stopped early as they stood; "
            "95% Wilson interval."
        )
    return " ".join([*parts, "Click a heading to sort."])
