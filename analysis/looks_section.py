"""The looks of a study that was extended, as the page's table and as rows of text."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from analysis import sections
from analysis.arm_section import accuracy_cell, difference_cell, holm_cell, seeds_cell
from analysis.compare import POINTS
from analysis.looks import BETTER, EQUIVALENT, INCONCLUSIVE, LUCK, WORSE, look_remarks, title_of
from analysis.tables import MISSING, Cell, render_table, text

#: What a look finds of an arm, as a table says it.
SHOWN = {BETTER: "better", WORSE: "worse", LUCK: "luck", EQUIVALENT: "equal", INCONCLUSIVE: "unclear", "": ""}
HEADINGS = (
    ("Arm", "the value of the factor; best at the last look first"),
    ("Look", "which confirmation; the rest of the page speaks of the last alone"),
    ("Trials per arm", "searched before it, all together"),
    ("Accuracy %", "test accuracy, mean over the look's seeds, with its 95% t interval"),
    ("Δ points", "mean paired difference to the baseline, with its 95% t interval"),
    ("Holm p", "sign-flip test, corrected for the arms of the look; bold below 0.05"),
    ("Finds", "as the verdict judges; equal: within δ, luck: no more than a twin's search made of one function"),
    ("Winner", "number of the winning trial; new: another configuration than at the look before"),
    ("Seeds", "confirm runs with a score; a diverged one counts with chance accuracy"),
)


def looks_section(looks: pd.DataFrame) -> str:
    """The page's section.

    Args:
        looks: From :func:`analysis.looks.measure_looks`, not empty.
    """
    rows = [_cells(row) for _, row in looks.iterrows()]
    remarks = "".join(f"<li>{text(remark)}</li>" for remark in look_remarks(looks))
    return (
        f'<section id="section-looks"><h2>{text(title_of(looks))}</h2>{render_table("looks", HEADINGS, rows)}'
        f"<ul>{remarks}</ul></section>"
    )


def _cells(row: pd.Series[Any]) -> list[Cell]:
    tag = ' <span class="tag">baseline</span>' if row["baseline"] else ""
    known = not pd.isna(row["winner"])
    return [
        (f"{text(row['arm'])}{tag}", str(row["arm"]).lower()),
        (str(row["look"]), float(row["look"])),
        (str(row["trials_per_arm"]), float(row["trials_per_arm"])),
        accuracy_cell(row),
        difference_cell(row),
        holm_cell(row),
        (text(SHOWN[row["finding"]] or MISSING), str(row["finding"])),
        (_winner(row) or MISSING, float(row["winner"]) if known else math.nan),
        seeds_cell(row),
    ]


def _winner(row: pd.Series[Any]) -> str:
    """``7``, or ``41 (new)`` where the look before confirmed another configuration; empty where there is none."""
    if pd.isna(row["winner"]):
        return ""
    changed = {True: " (new)", False: " (same)", None: ""}
    return f"{row['winner']}{changed[row['winner_changed']]}"


def looks_table(looks: pd.DataFrame) -> sections.Section:
    """The same for a terminal."""
    headings = ("arm", "look", "trials", "accuracy %", "95% CI", "diff", "95% CI", "Holm p", "finds", "winner")
    rows = [
        [
            str(row["arm"]),
            str(row["look"]),
            str(row["trials_per_arm"]),
            sections.cell(row["accuracy"] * POINTS),
            sections.interval(row["accuracy_low"] * POINTS, row["accuracy_high"] * POINTS),
            "baseline" if row["baseline"] else sections.cell(row["difference_points"], "+.2f"),
            sections.interval(row["low_points"], row["high_points"], "+.2f"),
            sections.cell(row["p_holm"], ".2g"),
            SHOWN[row["finding"]] or sections.MISSING,
            _winner(row) or sections.MISSING,
            f"{row['num_seeds']}{'*' if row['num_diverged'] else ''}",
        ]
        for _, row in looks.iterrows()
    ]
    note = (
        "Trials: searched per arm before the look. Equal: within δ. New: another configuration than at the look before."
    )
    marked = "* a seed diverged and counts with chance accuracy"
    remarks = [note, *([marked] if looks["num_diverged"].any() else []), *look_remarks(looks)]
    return sections.Section(title_of(looks), (*headings, "seeds"), rows, remarks)
