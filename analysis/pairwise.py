"""Frame to frame: every arm against every other, seed by seed.

The baseline's comparisons answer the study's question; these say which of the arms can be told apart at all. Every
unordered pair is one test, and each of the two families, differences and equivalences, is corrected over all pairs:
differences by step-down max-T, since with ten arms and ten seeds Holm's correction could never find any.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis import inference
from analysis.compare import POINTS, confirm_scores
from analysis.family import NUM_FLIPS, page_p

PAIR_COLUMNS = (
    "arm", "other", "num_seeds", "num_diverged", "difference_points", "low_points", "high_points", "probability_better",
    "p", "p_family", "differs", "equivalence_p", "equivalence_p_holm", "equivalent",
)  # fmt: skip
#: What turns its sign where the two arms of a pair change places.
SIGNED = ("difference_points", "low_points", "high_points")


def pairwise_comparisons(trials: pd.DataFrame, delta_points: float, *, metric: str = "test_accuracy") -> pd.DataFrame:
    """Every ordered pair of confirmed arms over the seeds that both have.

    Args:
        trials: A study's ``trials``.
        delta_points: The largest difference that does not matter, in points.
        metric: A metric of the confirm runs that is a fraction; more is better.

    Returns:
        One row per ordered pair ``arm, other`` with at least one common seed, best arm first by its mean score: the
        mean paired difference with its 95% t interval in points, ``probability_better`` (the share of seeds on which
        ``arm`` scores higher, ties half), sign-flip ``p`` and, of two one-sided tests within ±δ, ``equivalence_p``,
        each also corrected over all unordered pairs (``p_family`` by step-down max-T, which keeps the dependence of
        pairs that share an arm, ``equivalence_p_holm`` by Holm), and whether that leaves them below 0.05: ``differs``,
        ``equivalent``. ``num_diverged`` counts runs among these seeds.

    References:
        Westfall & Young, Resampling-Based Multiple Testing, 1993; Holm, Scandinavian Journal of Statistics, 1979;
        Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics, 1987.
    """
    confirmed = confirm_scores(trials, metric)
    scores = confirmed.pivot(index="seed", columns="arm", values="score").dropna(axis="columns", how="all")  # noqa: PD010 - one score per cell
    diverged = confirmed.pivot(index="seed", columns="arm", values="diverged")  # noqa: PD010
    best_first = list(scores.mean().sort_values(ascending=False, kind="stable").index)
    rows, samples = [], []
    for arm, other in itertools.combinations(best_first, 2):
        # Rounded, since (a - b) of equal fractions may differ in the last bit and would break ties at random.
        by_seed = np.round((scores[arm] - scores[other]).to_numpy(dtype=float) * POINTS, 9)
        paired = np.isfinite(by_seed)
        if paired.any():
            count = int(diverged.loc[paired, [arm, other]].eq(other=True).to_numpy().sum())
            described = describe_pair(by_seed[paired], delta_points)
            rows.append({"arm": arm, "other": other, "num_diverged": count, **described})
            samples.append(by_seed)
    pairs = correct_pairs(pd.DataFrame(rows, columns=list(PAIR_COLUMNS)), np.reshape(samples, (len(rows), len(scores))))
    both_ways = pd.concat([pairs, turn_pairs(pairs)], ignore_index=True)
    place = {arm: number for number, arm in enumerate(best_first)}
    return both_ways.sort_values(["arm", "other"], key=lambda names: names.map(place), ignore_index=True)


def describe_pair(sample: npt.NDArray[np.float64], delta: float) -> dict[str, Any]:
    """The statistics of one pair's differences, all in the unit of ``sample``; keys as in the comparisons."""
    mean, low, high = (float(number) for number in inference.t_interval(sample))
    return {
        "num_seeds": len(sample),
        "difference_points": mean,
        "low_points": low,
        "high_points": high,
        "probability_better": float(inference.probability_superior(sample)),
        "p": float(inference.sign_flip_p(sample)),
        "equivalence_p": float(inference.equivalence_p(sample, delta)),
    }


def correct_pairs(pairs: pd.DataFrame, differences: npt.NDArray[np.float64]) -> pd.DataFrame:
    """Correct for the family of all unordered pairs, differences and equivalences each for themselves.

    Args:
        pairs: A row each, with ``equivalence_p``.
        differences: Theirs by seed, shape ``(pairs, seeds)``, NaN where a pair lacks a seed.
    """
    corrected = {
        "p_family": page_p([differences])[0],
        "equivalence_p_holm": inference.holm(pairs["equivalence_p"].astype(float)),
    }
    pairs = pairs.assign(**corrected)
    return pairs.assign(
        differs=pairs["p_family"] < inference.ALPHA, equivalent=pairs["equivalence_p_holm"] < inference.ALPHA
    )


def turn_pairs(pairs: pd.DataFrame) -> pd.DataFrame:
    """The same pairs seen from the other arm."""
    swapped = {"arm": "other", "low_points": "high_points"}
    turned = pairs.rename(columns=swapped | {other: one for one, other in swapped.items()})
    turned = turned.assign(**{column: 0.0 - turned[column].astype(float) for column in SIGNED})
    return turned.assign(probability_better=1 - turned["probability_better"].astype(float))[list(PAIR_COLUMNS)]


def smallest_pair_p(num_seeds: int) -> float:
    """The smallest corrected p that so many seeds can give, however many pairs there are."""
    return inference.smallest_p(num_seeds) if num_seeds <= inference.MAX_EXACT else 1 / (NUM_FLIPS + 1)
