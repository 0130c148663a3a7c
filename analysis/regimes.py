"""A reported study's arms in both regimes: what each scored as stated, and what it scores once its rate is tuned."""

from __future__ import annotations

import html
import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.compare import POINTS
from analysis.inference import t_interval
from analysis.load import StudyRecord
from analysis.measures import measure_trials
from analysis.tuning import measure_tuning
from search_spaces.reported import FAIR, REGIMES, STATED

SEED_COLUMNS = ("regime", "arm", "seed", "learning_rate", "epochs", "accuracy", "nll", "train_accuracy", "diverged")
MISSING = "-"


def seed_table(record: StudyRecord) -> pd.DataFrame:
    """What every confirm trial came to, one row each: the numbers that everything else is worked out from.

    Returns:
        ``regime, arm, seed, learning_rate`` (as the optimizer had it)``, epochs`` (trained)``, accuracy`` and
        ``train_accuracy`` (fractions)``, nll, diverged``; in full precision.
    """
    keys = ["regime", "arm", "seed"]
    measured = measure_trials(record)[[*keys, "accuracy", "nll", "train_accuracy", "diverged"]]
    confirm = record.trials[record.trials["phase"] == "confirm"].sort_values("start")
    settings = confirm.drop_duplicates(keys, keep="last")[[*keys, "optimizer.learning_rate", "epochs_done"]]
    names = {"optimizer.learning_rate": "learning_rate", "epochs_done": "epochs"}
    frame = measured.merge(settings.astype({"seed": int}).rename(columns=names), on=keys)
    # Shares of whole examples; what the way over points added in the last digits is taken off again.
    frame[["accuracy", "train_accuracy"]] = (frame[["accuracy", "train_accuracy"]] / POINTS).round(12)
    order = {arm["name"]: place for place, arm in enumerate(record.protocol["arms"])}
    frame = frame.sort_values(keys, key=lambda column: column.map(order) if column.name == "arm" else column)
    return frame[list(SEED_COLUMNS)].reset_index(drop=True)


def regime_table(record: StudyRecord) -> pd.DataFrame:
    """One row per arm, both regimes side by side.

    Returns:
        ``arm``, then for ``stated`` and ``fair`` each ``_seeds, _accuracy, _low, _high`` (points; 95% t interval cut
        at [0, 100]) and ``_diverged`` (seeds), ``rate`` (tuned, for a mean over the batch), ``rate_width`` (points:
        the share of the grid within two points of the arm's best) and ``failed`` (points: the share of the grid's
        trials that diverged or did no better than guessing). NaN where a regime has nothing.
    """
    trials = measure_trials(record)
    tuning = measure_tuning(record).groupby("arm")[["rate_width", "divergence_rate"]].mean()
    winners = record.protocol.get("winners") or {}
    rows = []
    for arm in (str(arm["name"]) for arm in record.protocol["arms"]):
        row: dict[str, Any] = {"arm": arm}
        for regime in REGIMES:
            own = trials[(trials["regime"] == regime) & (trials["arm"] == arm)]
            values = own["accuracy"].dropna().to_numpy(dtype=float)
            mean, low, high = (float(v) for v in t_interval(values)) if len(values) else (np.nan,) * 3
            row |= {f"{regime}_seeds": len(values), f"{regime}_accuracy": mean}
            row |= {f"{regime}_low": np.clip(low, 0, POINTS), f"{regime}_high": np.clip(high, 0, POINTS)}
            row[f"{regime}_diverged"] = int(own["diverged"].sum())
        winner = winners.get(arm)
        config = record.protocol["learning_rates"] if winner else []
        row["rate"] = config[winner["number"]] if winner else np.nan
        row["rate_width"] = tuning["rate_width"].get(arm, np.nan)
        row["failed"] = POINTS * tuning["divergence_rate"].get(arm, np.nan)
        rows.append(row)
    return pd.DataFrame(rows)


HEADINGS = {
    "arm": "Arm",
    STATED: "As stated, % [95% CI]",
    FAIR: "Tuned, % [95% CI]",
    "rate": "Tuned rate",
    "rate_width": "Rates within 2 points, %",
    "failed": "Grid failed, %",
}


def as_markdown(table: pd.DataFrame) -> str:
    """The table of :func:`regime_table` for a page of the project's own."""
    lines = ["| " + " | ".join(HEADINGS.values()) + " |", "|" + "---|" * len(HEADINGS)]
    return "\n".join([*lines, *("| " + " | ".join(_cells(row)) + " |" for row in table.to_dict("records"))]) + "\n"


def regimes_section(table: pd.DataFrame) -> str:
    """A section of the report's page."""
    head = "".join(
        f'<th scope="col" aria-sort="none"><button type="button">{html.escape(name)}</button></th>'
        for name in HEADINGS.values()
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-value="{html.escape(value)}">{html.escape(shown)}</td>'
            for shown, value in zip(_cells(row), _values(row), strict=True)
        )
        + "</tr>\n"
        for row in table.to_dict("records")
    )
    return (
        '<section id="section-regimes"><h2>As stated and fairly tuned</h2>'
        '<div class="scroll" tabindex="0" role="region" aria-label="regimes">'
        f'<table id="regimes"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        '<p class="caption">Test accuracy, mean over seeds with its 95% t interval. Tuned rates are for a mean over '
        "the batch; an arm without a share of the grid took over another's rate or is in the stated regime only. "
        "Failed: diverged, or no better than guessing on the validation split.</p></section>"
    )


def _cells(row: Mapping[Hashable, Any]) -> list[str]:
    return [
        str(row["arm"]),
        *(_interval(row, regime) for regime in REGIMES),
        _number(row["rate"], ".3g"),
        _number(row["rate_width"], ".0f"),
        _number(row["failed"], ".0f"),
    ]


def _values(row: Mapping[Hashable, Any]) -> list[str]:
    """What the cells are sorted by."""
    keys = (*(f"{regime}_accuracy" for regime in REGIMES), "rate", "rate_width", "failed")
    numbers = (float(row[key]) for key in keys)
    return [str(row["arm"]).lower(), *("" if math.isnan(number) else repr(number) for number in numbers)]


def _interval(row: Mapping[Hashable, Any], regime: str) -> str:
    if not row[f"{regime}_seeds"]:
        return MISSING
    mean, low, high = (float(row[f"{regime}_{part}"]) for part in ("accuracy", "low", "high"))
    diverged = f", {row[f'{regime}_diverged']} diverged" if row[f"{regime}_diverged"] else ""
    between = f" [{low:.2f}, {high:.2f}]" if math.isfinite(low) else ""
    return f"{mean:.2f}{between}{diverged}"


def _number(value: float, form: str) -> str:
    return MISSING if math.isnan(value) else format(value, form)
