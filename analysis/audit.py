"""Frame to frame: was the search fair, and where did its winners land?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.compare import arm_names

LEARNING_RATE = "optimizer.learning_rate"
STOP_REASONS = ("completed", "pruned", "diverged", "failed", "interrupted", "running")
#: A winner in the outer tenth of its range suggests that the best lies outside.
EDGE = 0.1


def search_audit(trials: pd.DataFrame, protocol: Mapping[str, Any]) -> pd.DataFrame:
    """What each arm's search spent and found.

    Args:
        trials: A study's ``trials``.
        protocol: Its ``study.json``.

    Returns:
        One row per arm: ``arm, trials, completed, pruned, diverged, failed, interrupted, running, epochs`` spent,
        ``stopped`` (how many were pruned after which epoch, as text), ``best_val_accuracy`` of a completed trial,
        ``winner`` (its number, missing where there is none), ``learning_rate`` of the winner with its range ``low`` and
        ``high``, and ``edge``: ``low`` or ``high`` where it lies in the outer tenth of the range, on a log scale if the
        search's was.
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
        row["stopped"] = describe_stops(own)
        row["best_val_accuracy"] = completed["val_accuracy"].max() if "val_accuracy" in completed else np.nan
        rows.append(row | _describe_winner(arm, winners.get(arm), protocol))
    columns = ["arm", "trials", *STOP_REASONS, "epochs", "stopped", "best_val_accuracy"]
    columns += ["winner", "learning_rate", "low", "high", "edge"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(winner=frame["winner"].astype("Int64"))


def describe_stops(search: pd.DataFrame) -> str:
    """How many trials were pruned after which epoch: ``8 at epoch 5, 2 at epoch 15``."""
    epochs = search.loc[search["stop_reason"] == "pruned", "epochs_done"]
    return ", ".join(f"{count} at epoch {epoch}" for epoch, count in epochs.value_counts().sort_index().items())


def _describe_winner(arm: str, winner: Mapping[str, Any] | None, protocol: Mapping[str, Any]) -> dict[str, Any]:
    if not winner:
        return {"winner": None, "learning_rate": np.nan, "low": np.nan, "high": np.nan, "edge": ""}
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
