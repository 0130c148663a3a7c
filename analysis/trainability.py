"""A study's record to one row per arm: how fast its winner trains, how often its search fails, which rates it bears.

The same measures as the claims', worked out by the same functions; here for tuned spaces too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from analysis.curve_measures import first_at_least, seconds_until
from analysis.end_measures import ENDED, POINTS, collapse_bound, ended, has_diverged
from analysis.inference import ALPHA
from analysis.load import StudyRecord, numbers
from analysis.measures import build_curves, find_targets
from analysis.tuning import measure_tuning

SPEED_COLUMNS = (
    "target_accuracy", "epochs_to_target", "seconds_to_target", "target_missed", "target_seeds", "planned_epochs",
)  # fmt: skip
FAILURE_COLUMNS = ("search_failed", "search_ended", "failure_rate", "failure_low", "failure_high")
TRAINABILITY_COLUMNS = (*SPEED_COLUMNS, *FAILURE_COLUMNS, "rate_width")


def measure_trainability(record: StudyRecord, protocol: Mapping[str, Any]) -> pd.DataFrame:
    """What it takes to train each arm.

    Args:
        record: A study, or one regime of it, with the histories of ``val_accuracy`` and ``epoch_seconds``.
        protocol: Its ``study.json`` with ``baseline`` and ``delta``.

    Returns:
        Indexed by arm, the columns of :func:`measure_speed` and :func:`count_failures`, and ``rate_width`` (a
        fraction: the share of the common grid's learning rates within two points of the arm's best, mean over search
        seeds; NaN where the search had no common grid). NaN where the record holds nothing.
    """
    speed = measure_speed(record, protocol)
    failures = count_failures(record.trials, protocol)
    width = measure_tuning(record).groupby("arm")["rate_width"].mean() / POINTS
    frame = speed.join(failures, how="outer").join(width, how="outer")
    return frame.reindex(columns=list(TRAINABILITY_COLUMNS)).astype(float).rename_axis("arm")


def measure_speed(record: StudyRecord, protocol: Mapping[str, Any]) -> pd.DataFrame:
    """How long each arm's winner takes to a common validation accuracy: the baseline's median best minus delta.

    Args:
        record: A study, or one regime of it.
        protocol: Its ``study.json`` with ``baseline`` and ``delta``.

    Returns:
        Indexed by arm: ``target_accuracy`` (a fraction), medians over seeds ``epochs_to_target`` and
        ``seconds_to_target``, how many of ``target_seeds`` missed the target, ``planned_epochs``. A miss is no number
        but later than any, so both medians are infinite where half of the seeds missed it.
    """
    confirm = ended(record.trials, "confirm").sort_values("start", kind="stable")
    confirm = confirm.drop_duplicates(["regime", "arm", "seed"], keep="last").reset_index(drop=True)
    curves = dict(build_curves(record.epochs, confirm))
    targets = find_targets(confirm, curves, protocol)
    rows = []
    for place, curve in curves.items():
        target = targets.get(str(confirm.loc[place, "regime"]), np.nan)
        epochs, missed = first_at_least(curve.val_accuracy, target, curve.epochs)
        seconds = seconds_until(curve.seconds, epochs)
        rows.append((confirm.loc[place, "arm"], target / POINTS, epochs, seconds, missed, curve.epochs))
    names = ["arm", "target_accuracy", "epochs_to_target", "seconds_to_target", "target_missed", "planned_epochs"]
    frame = pd.DataFrame(rows, columns=names).dropna(subset="target_accuracy")
    late = frame["target_missed"] == 1
    timed = frame.assign(
        epochs_to_target=frame["epochs_to_target"].mask(late, np.inf),
        seconds_to_target=frame["seconds_to_target"].mask(late, np.inf),
    ).groupby("arm")
    return (
        timed[["target_accuracy", "epochs_to_target", "seconds_to_target", "planned_epochs"]]
        .median()
        .assign(target_missed=timed["target_missed"].sum(), target_seeds=timed.size())[list(SPEED_COLUMNS)]
    )


def count_failures(trials: pd.DataFrame, protocol: Mapping[str, Any]) -> pd.DataFrame:
    """How often each arm's search trials diverged or were no better than guessing when they ended.

    A trial that its arm's ASHA stopped counts as it stood; one that crashed or was interrupted says nothing.

    Args:
        trials: A study's ``trials``.
        protocol: Its ``study.json``.

    Returns:
        Indexed by arm: ``search_failed`` of ``search_ended`` trials, their share ``failure_rate`` with its 95% Wilson
        interval ``failure_low`` to ``failure_high``, fractions. Without the number of classes on record only
        divergence is known and counted.

    References:
        Wilson, Journal of the American Statistical Association, 1927.
    """
    search = trials[(trials["phase"] == "search") & trials["stop_reason"].isin((*ENDED, "pruned"))]
    collapsed = numbers(search, "val_accuracy") <= collapse_bound(protocol, "val")
    failed = (has_diverged(search) | collapsed).groupby(search["arm"])
    frame = pd.DataFrame({"search_failed": failed.sum(), "search_ended": failed.size()}, dtype=float)
    low, high = proportion_confint(frame["search_failed"], frame["search_ended"], alpha=ALPHA, method="wilson")
    rate = frame["search_failed"] / frame["search_ended"]
    return frame.assign(failure_rate=rate, failure_low=np.maximum(low, 0.0), failure_high=np.minimum(high, 1.0))
