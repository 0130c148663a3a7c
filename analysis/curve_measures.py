"""One trial's curves → numbers: how fast it learned, how unsteadily, and whether it ended well.

Every function takes the values of the epochs that exist, in order, shape ``(epochs_done,)``. A loss that was not finite
is NaN. What never happens within the planned epochs is censored at one epoch more, so that a miss counts as late and is
not dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[np.float64]

#: A loss that changes by less than this, in percent, for so many epochs in a row has converged.
CONVERGED_PERCENT = 1.0
CONVERGED_EPOCHS = 3
#: A plateau is over when the loss has lost this share of what it was after the first epoch.
PLATEAU_DROP = 0.05
#: A dip is a fall by at least this, in points.
DIP_POINTS = 1.0
#: With two points a rank correlation is always 1 or -1.
LEAST_TREND_EPOCHS = 3
#: Accuracies are counts over a few thousand images; what lies closer than this is rounding.
ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Curves:
    """What one trial recorded per epoch, each of shape ``(epochs_done,)``; accuracies in points.

    ``held_out_*`` is the test split where it was watched in every epoch, else the validation split. ``epochs`` is what
    was planned, which a diverged trial does not reach.
    """

    epochs: int
    val_accuracy: Values
    val_loss: Values
    held_out_accuracy: Values
    held_out_loss: Values
    train_accuracy: Values
    train_loss: Values
    seconds: Values


def measure_curves(curves: Curves, target: float) -> dict[str, float]:
    """Every measure that is taken from a trial's curves, by name.

    Args:
        curves: At least one epoch.
        target: The validation accuracy to reach, in points; NaN if there is none.
    """
    epochs, held_out, val, train = curves.epochs, curves.held_out_accuracy, curves.val_accuracy, curves.train_accuracy
    to_target, target_missed = first_at_least(val, target, epochs)
    convergence, convergence_missed = convergence_epoch(curves.held_out_loss, epochs)
    first, second = slope(first_half(held_out)), slope(second_half(held_out))
    seconds = epoch_seconds(curves.seconds)
    return {
        "area": mean(held_out),
        "early_area": mean(held_out[: max(1, epochs // 10)]),
        "fluctuation": fluctuation(second_half(val)),
        "early_fluctuation": fluctuation(val[: max(3, epochs // 5)]),
        "train_fluctuation": fluctuation(second_half(train)),
        "held_out_fluctuation": fluctuation(second_half(held_out)),
        "epochs_to_target": to_target,
        "seconds_to_target": seconds_until(curves.seconds, to_target),
        "target_missed": target_missed,
        "convergence_epoch": convergence,
        "convergence_missed": convergence_missed,
        "trend_accuracy": trend(held_out),
        "trend_loss": trend(curves.held_out_loss),
        "trend_train_loss": trend(curves.train_loss),
        "trend_train_accuracy": trend(train),
        "late_trend_val_loss": trend(second_half(curves.val_loss)),
        "late_trend_train_loss": trend(second_half(curves.train_loss)),
        "val_loss_rise": rise(curves.val_loss),
        "slope_first_half": first,
        "slope_second_half": second,
        "slowdown": first - second,
        "best_minus_last": float(np.max(held_out) - held_out[-1]),
        "best_loss_late": lowest_is_late(curves.held_out_loss, epochs),
        "dip": has_dip(held_out, curves.held_out_loss),
        "plateau_epochs": plateau_epochs(curves.train_loss, epochs),
        "epoch_seconds": seconds,
        "log_epoch_seconds": logarithm(seconds),
        "log_total_seconds": logarithm(mean(curves.seconds) * epochs),
    }


def first_half(values: Values) -> Values:
    """The epochs up to the middle one, without it where their number is odd."""
    return values[: len(values) // 2]


def second_half(values: Values) -> Values:
    """The epochs from the middle one on."""
    return values[len(values) // 2 :]


def mean(values: Values) -> float:
    """The mean of the values that exist, NaN if there is none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan


def logarithm(value: float) -> float:
    """The natural logarithm, NaN where there is none."""
    return float(np.log(value)) if value > 0 else np.nan


def fluctuation(values: Values) -> float:
    """The standard deviation (n - 1) of the steps from epoch to epoch; NaN for fewer than two steps.

    A steady climb has none, unlike in the standard deviation of the values themselves.
    """
    steps = np.diff(values)
    steps = steps[np.isfinite(steps)]
    return float(steps.std(ddof=1)) if len(steps) > 1 else np.nan


def first_at_least(values: Values, target: float, epochs: int) -> tuple[float, float]:
    """The first epoch, from 1, whose value is at least the target; ``epochs + 1`` if there is none.

    Returns:
        The epoch, and 1 for a miss, else 0; both NaN without a target.
    """
    if np.isnan(target):
        return np.nan, np.nan
    return _first(values >= target - ROUNDING, epochs)


def seconds_until(seconds: Values, epoch: float) -> float:
    """The training time up to the end of an epoch; past the epochs that exist, at their mean pace."""
    if np.isnan(epoch):
        return np.nan
    done = int(epoch)
    return float(seconds[:done].sum()) if done <= len(seconds) else mean(seconds) * epoch


def convergence_epoch(loss: Values, epochs: int) -> tuple[float, float]:
    """The first of three consecutive epochs in which the loss changes by less than one percent.

    The change in epoch t is ``100 (L_t - L_{t-1}) / L_{t-1}``, so the second epoch is the earliest answer. That is the
    reports' own criterion; it also calls a loss converged that has not begun to fall.

    Returns:
        The epoch, ``epochs + 1`` if there is none, and 1 for a miss, else 0.
    """
    before, change = loss[:-1], np.diff(loss)
    # |change / before| < 1% without a division, so that a loss of zero that stays there has converged.
    small = (np.abs(change) * 100 < CONVERGED_PERCENT * np.abs(before)) | ((change == 0) & (before == 0))
    if len(small) < CONVERGED_EPOCHS:
        return float(epochs + 1), 1.0
    runs = np.lib.stride_tricks.sliding_window_view(small, CONVERGED_EPOCHS).all(axis=1)
    return _first(np.concatenate(([False], runs)), epochs)


def plateau_epochs(train_loss: Values, epochs: int) -> float:
    """The first epoch whose training loss is at most 95% of the first epoch's; ``epochs + 1`` if there is none."""
    return _first(train_loss <= (1 - PLATEAU_DROP) * train_loss[0], epochs)[0]


def trend(values: Values) -> float:
    """Spearman's rank correlation with the epoch, in [-1, 1] (Spearman 1904).

    A curve that never moves has no trend, so 0 and not undefined; NaN for fewer than three epochs.
    """
    known = np.flatnonzero(np.isfinite(values))
    if len(known) < LEAST_TREND_EPOCHS:
        return np.nan
    ranks = stats.rankdata(values[known])
    if np.ptp(ranks) == 0:
        return 0.0
    return float(np.corrcoef(np.arange(len(known)), ranks)[0, 1])


def slope(values: Values) -> float:
    """The least-squares slope per epoch; NaN for fewer than two epochs."""
    known = np.flatnonzero(np.isfinite(values))
    if len(known) < 2:  # noqa: PLR2004 - a line needs two points
        return np.nan
    place = known - known.mean()
    return float(place @ values[known] / (place @ place))


def rise(loss: Values) -> float:
    """The last loss over the lowest, minus 1: 0 if it ended at its lowest; NaN if the lowest is not above zero."""
    known = loss[np.isfinite(loss)]
    if not len(known) or known.min() <= 0:
        return np.nan
    return float(known[-1] / known.min() - 1)


def lowest_is_late(loss: Values, epochs: int) -> float:
    """1 if the lowest loss lies in the last tenth of the planned epochs (at least one), else 0; NaN without a loss."""
    if not np.isfinite(loss).any():
        return np.nan
    return float(np.nanargmin(loss) >= epochs - max(1, epochs // 10))


def has_dip(accuracy: Values, loss: Values) -> float:
    """1 if the accuracy falls from its best so far and later exceeds it while the loss peaks in between, else 0.

    Args:
        accuracy: In points; the fall is at least one.
        loss: It peaks if it is higher in between than where the accuracy began to fall and where it had recovered.
    """
    best_before = np.maximum.accumulate(np.concatenate(([-np.inf], accuracy[:-1])))
    records = np.flatnonzero(accuracy > best_before)
    for start, end in pairwise(records):
        between = slice(start + 1, end)
        if end - start > 1 and accuracy[between].min() <= accuracy[start] - DIP_POINTS + ROUNDING:
            peaks = loss[between] > np.fmax(loss[start], loss[end])
            if peaks.any():
                return 1.0
    return 0.0


def epoch_seconds(seconds: Values) -> float:
    """The median without the first epoch, which warms caches up, unless there is no other."""
    steady = seconds[1:] if len(seconds) > 1 else seconds
    known = steady[np.isfinite(steady)]
    return float(np.median(known)) if len(known) else np.nan


def _first(happened: NDArray[np.bool_], epochs: int) -> tuple[float, float]:
    """The first epoch in which something happened, and 0; or the censor value, and 1."""
    places = np.flatnonzero(happened)
    return (float(places[0] + 1), 0.0) if len(places) else (float(epochs + 1), 1.0)
