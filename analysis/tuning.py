"""The fair regime's search: which learning rate an arm wants, how wide a range it bears, how often it fails.

Every arm is trained at every rate of one grid with every search seed, so rates, widths and failures of all arms come
from trials that differ in nothing else.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.end_measures import POINTS, collapse_bound, ended, has_diverged
from analysis.load import StudyRecord, numbers
from search_spaces.reported import FAIR, rate_in_mean

#: Rates that score within so many points of the arm's best count as good.
WIDTH_POINTS = 2.0
#: What a rate in mean reduction is worked out from.
RATE_KEYS = ("optimizer.learning_rate", "batch_size", "reduction")
EVENTS = ("diverged", "no_convergence")
GRID_COLUMNS = ("arm", "seed", "log10_rate", "val_accuracy", *EVENTS)
TUNING_COLUMNS = ("regime", "arm", "seed", "tuned_log10_rate", "rate_width", "divergence_rate")


def search_grid(record: StudyRecord) -> pd.DataFrame:
    """The trials of the fair search that ended.

    Returns:
        ``arm, seed, log10_rate`` (in mean reduction), ``val_accuracy`` (points, at the end; a diverged trial's is
        on record as chance), ``diverged, no_convergence`` (0 or 1; no better than guessing on the validation split).
    """
    trials = ended(record.trials, "search")
    trials = trials[trials["regime"] == FAIR].sort_values("start")
    trials = trials.drop_duplicates("trial_id", keep="last")
    diverged = has_diverged(trials)
    accuracy = numbers(trials, "val_accuracy")
    keys = [key for key in RATE_KEYS if key in trials]
    rates = [rate_in_mean({key: row[key] for key in keys}) for row in trials[keys].to_dict("records")]
    grid = pd.DataFrame(
        {
            "arm": trials["arm"],
            "seed": trials["seed"].astype(int),
            "log10_rate": np.log10(np.array(rates, dtype=float)),
            "val_accuracy": POINTS * accuracy,
            "diverged": diverged.astype(float),
            "no_convergence": (diverged | (accuracy <= collapse_bound(record.protocol, "val"))).astype(float),
        },
        columns=list(GRID_COLUMNS),
    )
    return grid.dropna(subset="val_accuracy").sort_values(["arm", "seed", "log10_rate"], ignore_index=True)


def measure_tuning(record: StudyRecord) -> pd.DataFrame:
    """What the fair search says of each arm, by search seed.

    An arm that takes over another's rate was not searched and has no row.

    Returns:
        ``regime, arm, seed, tuned_log10_rate, rate_width`` (points)``, divergence_rate`` (a fraction).
    """
    rows = [
        {
            "regime": FAIR,
            "arm": arm,
            "seed": seed,
            "tuned_log10_rate": peak(own["log10_rate"].to_numpy(), own["val_accuracy"].to_numpy()),
            "rate_width": POINTS * float((own["val_accuracy"] >= own["val_accuracy"].max() - WIDTH_POINTS).mean()),
            "divergence_rate": float(own["no_convergence"].mean()),
        }
        for (arm, seed), own in search_grid(record).groupby(["arm", "seed"])
    ]
    return pd.DataFrame(rows, columns=list(TUNING_COLUMNS))


def count_events(record: StudyRecord, event: str) -> dict[str, tuple[int, int]]:
    """How often an event happened over the fair search, by arm: ``(events, trials)``.

    Args:
        record: The study.
        event: ``diverged`` or ``no_convergence``.

    Raises:
        ValueError: If there is no such event.
    """
    if event not in EVENTS:
        raise ValueError(f"{event!r} is no event of the search; there are {', '.join(EVENTS)}.")
    return {str(arm): (int(own.sum()), len(own)) for arm, own in search_grid(record).groupby("arm")[event]}


def peak(places: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """The top of the parabola through the best point and its two neighbours; the best point itself at an edge.

    Args:
        places: Increasing, shape ``(n,)``.
        scores: Shape ``(n,)``; of equal bests the first counts.
    """
    best = int(np.argmax(scores))
    if best in {0, len(scores) - 1}:
        return float(places[best])
    around = slice(best - 1, best + 2)
    left, right = places[around][[0, 2]] - places[best]
    left_fall, right_fall = scores[best] - scores[around][[0, 2]]
    # The parabola through (left, -left_fall), (0, 0), (right, -right_fall); its sides fall, so its top is between them.
    bend = left_fall * right - right_fall * left
    shift = (left_fall * right**2 - right_fall * left**2) / (2 * bend) if bend > 0 else 0.0
    return float(places[best] + shift)
