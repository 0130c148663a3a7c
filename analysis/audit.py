"""Frame to frame: was the search fair, where did its winners land, and how large are the errors?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.compare import POINTS, arm_names
from analysis.load import numbers

LEARNING_RATE = "optimizer.learning_rate"
STOP_REASONS = ("completed", "pruned", "diverged", "failed", "interrupted", "running")
#: What a trial's time is counted in where a schedule runs over its own epochs.
SCHEDULE_PERCENT = "schedule_percent"
#: A winner in the outer tenth of its range suggests that the best lies outside.
EDGE = 0.1


def search_audit(trials: pd.DataFrame, protocol: Mapping[str, Any]) -> pd.DataFrame:
    """What each arm's search spent and found.

    Args:
        trials: A study's ``trials``.
        protocol: Its ``study.json``.

    Returns:
        One row per arm: ``arm, trials, completed, pruned, diverged, failed, interrupted, running, epochs`` spent,
        ``stopped`` (how many were pruned at which rung, as text), ``best_val_accuracy`` of a completed trial,
        ``winner`` (its number, missing where there is none), ``learning_rate`` of the winner with its range ``low`` and
        ``high`` (of a reported study's common grid, for a mean over the batch), and ``edge``: ``low`` or ``high`` where
        it lies in the outer tenth of the range, on a log scale if the search's was.
    """
    search = trials[trials["phase"] == "search"]
    winners: Mapping[str, Any] = protocol.get("winners") or {}
    names = list(dict.fromkeys([*arm_names(trials, protocol), *sorted(set(search["arm"]))]))
    rows = []
    for arm in names:
        own = search[search["arm"] == arm]
        completed = own[own["stop_reason"] == "completed"]
        row: dict[str, Any] = {"arm": arm, "trials": len(own), "epochs": int(own["epochs_done"].sum())}
        row |= {reason: int((own["stop_reason"] == reason).sum()) for reason in STOP_REASONS}
        row["stopped"] = describe_stops(own, protocol)
        row["best_val_accuracy"] = completed["val_accuracy"].max() if "val_accuracy" in completed else np.nan
        rows.append(row | _describe_winner(arm, winners.get(arm), protocol))
    columns = ["arm", "trials", *STOP_REASONS, "epochs", "stopped", "best_val_accuracy"]
    columns += ["winner", "learning_rate", "low", "high", "edge"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(winner=frame["winner"].astype("Int64"))


def describe_stops(search: pd.DataFrame, protocol: Mapping[str, Any]) -> str:
    """How many trials were stopped at which rung, of how many that reached it: ``8 of 12 at rung 1, 2 of 4 at rung 2``.

    A trial is stopped at the last rung it has reached. One that reached none, or of a study without rungs on record,
    is listed by its epoch.
    """
    done = numbers(search, "epochs_done")
    reached = pd.Series(0, index=search.index)
    for epochs in _rung_epochs(search, protocol):
        reached += (done >= epochs).astype(int)
    stopped = search["stop_reason"] == "pruned"
    parts = [
        f"{count} of {int((reached >= rung).sum())} at rung {rung}"
        for rung in range(1, int(reached.max() if len(reached) else 0) + 1)
        if (count := int((stopped & (reached == rung)).sum()))
    ]
    by_epoch = search.loc[stopped & (reached == 0), "epochs_done"].value_counts().sort_index()
    return ", ".join([*parts, *(f"{count} at epoch {epoch}" for epoch, count in by_epoch.items())])


def _rung_epochs(search: pd.DataFrame, protocol: Mapping[str, Any]) -> list[pd.Series[float]]:
    """For each rung the epoch of each trial at which it is looked at, as the scheduler of the search has it."""
    rungs = [float(rung) for rung in protocol.get("rungs") or []]
    if protocol.get("time_attribute") == SCHEDULE_PERCENT:
        planned = numbers(search, "epochs")
        return [(rung * planned / 100).round(6).map(np.ceil) for rung in rungs]
    return [pd.Series(rung, index=search.index) for rung in rungs]


def describe_rungs(protocol: Mapping[str, Any]) -> str:
    """Where the rungs lie: ``1 at epoch 2, 2 at epoch 6``; empty where nothing was stopped."""
    percent = protocol.get("time_attribute") == SCHEDULE_PERCENT
    places = [f"{rung:g}% of the schedule" if percent else f"epoch {rung:g}" for rung in protocol.get("rungs") or []]
    return ", ".join(f"{number} at {place}" for number, place in enumerate(places, start=1))


def sampling_errors(table: pd.DataFrame, comparisons: pd.DataFrame, num_test: int) -> pd.DataFrame:
    """The error that seeds leave beside the error that another test split would bring.

    With errors ``e`` on one split of N images, one arm's accuracy has a standard error of at most sqrt(e (1 - e) / N),
    which its mean over seeds does not exceed. Two arms disagree on at most ``e_a + e_b`` of the images (and on no more
    than both are right on), so their difference D has at most sqrt((e_a + e_b - D**2) / N): which images both get wrong
    is not on record, and the true error is smaller where they are the same ones.

    Args:
        table: From ``arm_table``.
        comparisons: From ``compare_to_baseline``.
        num_test: Images in the test split; 0 where not on record.

    Returns:
        One row per arm with a score: ``arm, accuracy_seeds, accuracy_split, difference_seeds, difference_split,
        detectable``, standard errors and the smallest detectable effect in points; NaN where there is none.

    References:
        McNemar, Psychometrika, 1947 (the variance of a paired difference of proportions).
    """
    scored = table[table["num_seeds"] > 0].set_index("arm")
    compared = comparisons.set_index("arm").reindex(scored.index)
    images = float(num_test) if num_test else np.nan
    right = scored["accuracy"].astype(float)
    base = float(right[scored["baseline"].astype(bool)].mean())  # NaN without a baseline
    difference = right - base
    disagreement = np.minimum(2 - right - base, right + base)
    split = np.sqrt(np.maximum(disagreement - difference**2, 0.0) / images)
    frame = pd.DataFrame(
        {
            "accuracy_seeds": POINTS * scored["accuracy_sd"] / np.sqrt(scored["num_seeds"].astype(float)),
            "accuracy_split": POINTS * np.sqrt(right * (1 - right) / images),
            "difference_seeds": compared["sd_points"] / np.sqrt(compared["num_seeds"].astype(float)),
            "difference_split": POINTS * split.where(compared["num_seeds"].notna()),
            "detectable": compared["detectable_points"],
        }
    )
    return frame.astype(float).rename_axis("arm").reset_index()


def _describe_winner(arm: str, winner: Mapping[str, Any] | None, protocol: Mapping[str, Any]) -> dict[str, Any]:
    if not winner:
        return {"winner": None, "learning_rate": np.nan, "low": np.nan, "high": np.nan, "edge": ""}
    rates, number = protocol.get("learning_rates"), winner.get("number")
    if rates and number is not None:  # a reported study's common grid, for a mean over the batch
        rate, low, high = float(rates[number]), float(rates[0]), float(rates[-1])
        edge = range_edge(rate, low, high, log=True)
        return {"winner": number, "learning_rate": rate, "low": low, "high": high, "edge": edge}
    config: Mapping[str, Any] = winner.get("config") or {}
    rate = float(config.get(LEARNING_RATE, np.nan))
    parameter = find_parameter(protocol, arm, LEARNING_RATE, config)
    low, high = (float(parameter.get(end, np.nan)) for end in ("low", "high"))
    edge = range_edge(rate, low, high, log=bool(parameter.get("log")))
    return {"winner": winner.get("number"), "learning_rate": rate, "low": low, "high": high, "edge": edge}


def find_parameter(protocol: Mapping[str, Any], arm: str, key: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The declared parameter ``key`` of an arm whose condition the configuration meets; empty if there is none."""
    arms = protocol.get("arms", [])
    # A joint search declares one space for all values of the factor.
    declared = [spec for spec in arms if spec["name"] == arm] or (arms if len(arms) == 1 else [])
    for spec in declared:
        for parameter in spec.get("parameters", []):
            condition = parameter.get("when") or {}
            if parameter["key"] == key and all(config.get(name) in values for name, values in condition.items()):
                found: Mapping[str, Any] = parameter
                return found
    return {}


def range_edge(value: float, low: float, high: float, *, log: bool) -> str:
    """``low`` or ``high`` if ``value`` lies in the outer tenth of its range, else nothing."""
    if not all(map(math.isfinite, (value, low, high))) or low >= high or (log and min(value, low) <= 0):
        return ""
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    position = (value - low) / (high - low)
    return "low" if position < EDGE else "high" if position > 1 - EDGE else ""
