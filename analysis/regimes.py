"""A reported study's arms in both regimes: what each scored as stated, and what it scores once its rate is tuned."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.claims.evidence import GRID, Measured
from analysis.compare import POINTS
from analysis.inference import t_interval
from analysis.tables import Cell, render_table, text
from search_spaces.reported import REGIMES

SEED_COLUMNS = ("regime", "arm", "seed", "learning_rate", "epochs", "accuracy", "nll", "train_accuracy", "diverged")
MISSING = "-"
#: The table of an arm that a regime lacks.
NOTHING = pd.DataFrame(columns=["accuracy", "diverged", "rate_width", "divergence_rate"], dtype=float)


def seed_table(study: Measured) -> pd.DataFrame:
    """What every confirm trial came to, one row each: the numbers that everything else is worked out from.

    Returns:
        ``regime, arm, seed, learning_rate`` (as the optimizer had it)``, epochs`` (trained)``, accuracy`` and
        ``train_accuracy`` (fractions)``, nll, diverged``; in full precision.
    """
    keys = ["regime", "arm", "seed"]
    record = study.record
    parts = [
        table.reset_index().assign(regime=regime, arm=arm)
        for (regime, arm), table in study.tables.items()
        if regime in REGIMES
    ]
    if not parts:  # interrupted while it searched
        return pd.DataFrame(columns=list(SEED_COLUMNS))
    measured = pd.concat(parts)[[*keys, "accuracy", "nll", "train_accuracy", "diverged"]]
    confirm = record.trials[record.trials["phase"] == "confirm"].sort_values("start")
    settings = confirm.drop_duplicates(keys, keep="last")[[*keys, "optimizer.learning_rate", "epochs_done"]]
    names = {"optimizer.learning_rate": "learning_rate", "epochs_done": "epochs"}
    frame = measured.merge(settings.astype({"seed": int}).rename(columns=names), on=keys)
    # Shares of whole examples; what the way over points added in the last digits is taken off again.
    frame[["accuracy", "train_accuracy"]] = (frame[["accuracy", "train_accuracy"]] / POINTS).round(12)
    order = {arm["name"]: place for place, arm in enumerate(record.protocol["arms"])}
    frame = frame.sort_values(keys, key=lambda column: column.map(order) if column.name == "arm" else column)
    return frame[list(SEED_COLUMNS)].reset_index(drop=True)


def regime_table(study: Measured) -> pd.DataFrame:
    """One row per arm, both regimes side by side.

    Returns:
        ``arm``, then for ``stated`` and ``fair`` each ``_seeds, _accuracy, _low, _high`` (points; 95% t interval cut
        at [0, 100]) and ``_diverged`` (seeds), ``rate`` (tuned, for a mean over the batch), ``rate_width`` (points:
        the share of the grid within two points of the arm's best) and ``failed`` (points: the share of the grid's
        trials that diverged or did no better than guessing). NaN where a regime has nothing.
    """
    protocol = study.record.protocol
    winners = protocol.get("winners") or {}
    rows = []
    for arm in (str(arm["name"]) for arm in protocol["arms"]):
        row: dict[str, Any] = {"arm": arm}
        for regime in REGIMES:
            own = study.tables.get((regime, arm), NOTHING)
            values = own["accuracy"].dropna().to_numpy(dtype=float)
            mean, low, high = (float(v) for v in t_interval(values)) if len(values) else (np.nan,) * 3
            row |= {f"{regime}_seeds": len(values), f"{regime}_accuracy": mean}
            row |= {f"{regime}_low": np.clip(low, 0, POINTS), f"{regime}_high": np.clip(high, 0, POINTS)}
            row[f"{regime}_diverged"] = int(own["diverged"].sum())
        winner = winners.get(arm)
        row["rate"] = protocol["learning_rates"][winner["number"]] if winner else np.nan
        grid = study.tables.get((GRID, arm), NOTHING)
        row["rate_width"] = grid["rate_width"].mean()
        row["failed"] = POINTS * grid["divergence_rate"].mean()
        rows.append(row)
    return pd.DataFrame(rows)


HEADINGS = (
    ("Arm", "the report's arm"),
    ("As stated, % [95% CI]", "test accuracy with the report's own hyperparameters"),
    ("Tuned, % [95% CI]", "test accuracy at the tuned learning rate"),
    ("Tuned rate", "for a mean over the batch"),
    ("Rates within 2 points, %", "share of the grid within two points of the arm's best"),
    ("Grid failed, %", "share of the grid's trials that diverged or did no better than guessing"),
)


def as_markdown(table: pd.DataFrame) -> str:
    """The table of :func:`regime_table` for a page of the project's own."""
    headings, rows = _filled(table)
    lines = ["| " + " | ".join(name for name, _ in headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(shown for shown, _ in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def regimes_section(table: pd.DataFrame) -> str:
    """A section of the report's page."""
    headings, rows = _filled(table)
    shown = [[(text(words), value) for words, value in row] for row in rows]
    return (
        '<section id="section-regimes"><h2>As stated and fairly tuned</h2>'
        f"{render_table('regimes', headings, shown)}"
        '<p class="caption">Test accuracy, mean over seeds with its 95% t interval. Tuned rates are for a mean over '
        "the batch; an arm without a share of the grid took over another's rate or is in the stated regime only. "
        "Failed: diverged, or no better than guessing on the validation split.</p></section>"
    )


def _filled(table: pd.DataFrame) -> tuple[list[tuple[str, str]], list[list[Cell]]]:
    """Headings and rows without the columns that are empty, as those of a regime that was not run."""
    rows = [_cells(row) for row in table.to_dict("records")]
    kept = [place for place in range(len(HEADINGS)) if any(row[place][0] != MISSING for row in rows)]
    return [HEADINGS[place] for place in kept], [[row[place] for place in kept] for row in rows]


#: How the numbers beside the two regimes' are written.
FORMS = {"rate": ".3g", "rate_width": ".0f", "failed": ".0f"}


def _cells(row: Mapping[Hashable, Any]) -> list[Cell]:
    """What is shown of an arm, as plain text, and what it is sorted by."""
    return [
        (str(row["arm"]), str(row["arm"]).lower()),
        *((_interval(row, regime), row[f"{regime}_accuracy"]) for regime in REGIMES),
        *((_number(row[key], form), row[key]) for key, form in FORMS.items()),
    ]


def _interval(row: Mapping[Hashable, Any], regime: str) -> str:
    if not row[f"{regime}_seeds"]:
        return MISSING
    mean, low, high = (float(row[f"{regime}_{part}"]) for part in ("accuracy", "low", "high"))
    diverged = f", {row[f'{regime}_diverged']} diverged" if row[f"{regime}_diverged"] else ""
    between = f" [{low:.2f}, {high:.2f}]" if math.isfinite(low) else ""
    return f"{mean:.2f}{between}{diverged}"


def _number(value: float, form: str) -> str:
    return MISSING if math.isnan(value) else format(value, form)
