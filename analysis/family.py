"""One test over every comparison of a page: all pairs of a study's arms, or all arms of several studies.

Holm's correction multiplies the smallest p that so many seeds can reach: with seven arms, four datasets and ten seeds
it ends above 0.05 however large the effects are. Step-down max-T tests flip the signs of whole seeds, so arms of one
study keep their dependence, and a clear difference stays clear.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import special

from analysis.inference import MAX_EXACT, ROUNDING, Array

#: Random flips where there are too many to try them all; the observed signs are one more.
NUM_FLIPS = 4_095


def page_p(studies: Sequence[Array]) -> list[Array]:
    """Two-sided p of every paired mean, corrected for all of them together.

    The chance that the strongest of the comparisons still in question is at least as strong when the signs of seeds
    are tossed, study by study. Holds the family's error rate, however many of the differences are real, where
    differences of a seed are jointly symmetric about zero under the null. Studies are tossed apart, which is safe for
    studies that share data: their strongest comparisons then come together.

    Args:
        studies: Per study the paired differences, ``(arms, seeds)``, NaN where a seed has no pair.

    Returns:
        p per study, ``(arms,)``; 1 for fewer than two pairs.

    References:
        Westfall & Young, Resampling-Based Multiple Testing, 1993, algorithm 4.1 (step-down).
    """
    scores = [_flip_scores(np.asarray(study, dtype=np.float64)) for study in studies]
    adjusted = [np.ones(len(own)) for own in scores]
    open_ = [np.ones(len(own), dtype=bool) for own in scores]
    places = [(study, arm) for study, own in enumerate(scores) for arm in range(len(own))]
    running = 0.0
    for study, arm in sorted(places, key=lambda place: float(scores[place[0]][place[1], 0])):
        observed = scores[study][arm, 0]
        if observed >= 1:
            break
        weaker = 1.0
        for own, rest in zip(scores, open_, strict=True):
            if rest.any():
                weaker *= 1 - float(np.mean(own[rest].min(axis=0) <= observed * (1 + ROUNDING)))
        running = max(running, 1 - weaker)
        adjusted[study][arm] = running
        open_[study][arm] = False
    return adjusted


def _flip_scores(differences: Array) -> Array:
    """The t test's p under every flip, ``(arms, flips)``, the observed signs first: a scale common to all sizes."""
    paired = np.isfinite(differences)
    values = np.where(paired, differences, 0.0)
    n = paired.sum(axis=1, keepdims=True)
    # A flip never changes the sum of squares, so the sum alone orders the flips of an arm.
    squares = np.sum(values**2, axis=1, keepdims=True)
    known = (n > 1) & (squares > ROUNDING**2)
    share = (values @ _flips(differences.shape[1])) ** 2 / np.where(known, squares * n, 1.0)
    rest = 1 - np.minimum(share, 1.0)
    t = np.sqrt(np.maximum(n - 1, 1) * share / np.where(rest > ROUNDING, rest, ROUNDING))
    p = np.where(rest > ROUNDING, 2 * special.stdtr(np.maximum(n - 1, 1), -t), 0.0)
    return np.where(known, p, 1.0)


def _flips(n: int) -> Array:
    if n <= MAX_EXACT:
        codes = np.arange(2 ** max(n - 1, 0))
        return np.where((codes[None, :] >> np.arange(n)[:, None]) & 1, -1.0, 1.0)
    drawn = np.random.default_rng(0).choice([-1.0, 1.0], size=(n, NUM_FLIPS))
    return np.concatenate([np.ones((n, 1)), drawn], axis=1)
