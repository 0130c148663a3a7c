"""Arrays to numbers: interval, test, equivalence and power for paired differences.

Every function works along the last axis, so that a simulation checks the same lines a study runs. Units are the
caller's; a study gives differences in accuracy points.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

Array = npt.NDArray[np.float64]

ALPHA = 0.05
POWER = 0.8
#: Up to this many seeds every one of the 2**n sign flips is tried; above, a fixed random sample of them.
MAX_EXACT = 12
NUM_RANDOM_FLIPS = 9_999
#: Simulated studies behind the smallest detectable effect: power within about one percentage point.
NUM_POWER_STUDIES = 1_000
#: Differences closer than this are rounding, not variance.
ROUNDING = 1e-9


def t_interval(values: npt.ArrayLike, *, confidence: float = 1 - ALPHA) -> tuple[Array, Array, Array]:
    """Mean and Student's t interval.

    Args:
        values: Shape ``(..., n)``.
        confidence: Coverage under normal differences, in (0, 1).

    Returns:
        ``mean, low, high``, each of shape ``(...)``; the ends are NaN for n < 2 and equal the mean without variance.
    """
    sample = np.asarray(values, dtype=np.float64)
    n = sample.shape[-1]
    mean = sample.mean(axis=-1)
    if n < 2:  # noqa: PLR2004 - one value has no spread
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * sample.std(axis=-1, ddof=1) / np.sqrt(n)
    return mean, mean - half, mean + half


def sign_flip_p(differences: npt.ArrayLike) -> Array:
    """Two-sided p of the sign-flip permutation test of the mean: exact up to 12 differences.

    Under the null the sign of each paired difference is a fair coin. All 2**n flips are tried, or 9,999 drawn by a
    fixed generator, so one input always gives one p.

    Args:
        differences: Shape ``(..., n)``.

    Returns:
        p of shape ``(...)``; at least 2 / 2**n, and 1 where every difference is zero.

    References:
        Fisher, The Design of Experiments, 1935, section 21; Phipson & Smyth, 2010, arXiv:1603.05766 (the added one).
    """
    sample = np.asarray(differences, dtype=np.float64)
    n = sample.shape[-1]
    if n < 2:  # noqa: PLR2004 - a coin tossed once is no test
        return np.ones(sample.shape[:-1])
    test: Any = stats.permutation_test  # its stubs know no array of unknown shape
    result = test(
        (sample,),
        _mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**n if n <= MAX_EXACT else NUM_RANDOM_FLIPS,
        batch=max(1, 2_000_000 // sample.size),
        axis=-1,
        rng=np.random.default_rng(0),
    )
    return np.asarray(result.pvalue, dtype=np.float64)


def _mean(sample: Array, axis: int) -> Array:
    return np.asarray(np.mean(sample, axis=axis))


def smallest_p(n: int, num_tests: int = 1) -> float:
    """The smallest Holm-corrected p that n paired differences can give: both all-one-sign flips, times the family."""
    return min(1.0, num_tests * 2.0 ** (1 - n))


def holm(p: npt.ArrayLike) -> Array:
    """Correct p values for the family they come as (Holm, Scandinavian Journal of Statistics, 1979)."""
    raw = np.asarray(p, dtype=np.float64)
    return np.asarray(multipletests(raw, method="holm")[1], dtype=np.float64) if raw.size else raw


def probability_superior(differences: npt.ArrayLike) -> Array:
    """Share of pairs in which the first is better, ties counted half; shape ``(..., n)`` to ``(...)``."""
    signs = np.sign(np.asarray(differences, dtype=np.float64))
    return np.asarray((signs.mean(axis=-1) + 1) / 2)


def equivalence_p(differences: npt.ArrayLike, delta: float) -> Array:
    """Show by two one-sided t tests that the mean lies within ±delta.

    The larger p of the two; below 0.05 exactly where the 90% interval lies inside ±delta.

    Args:
        differences: Shape ``(..., n)``, in the unit of ``delta``.
        delta: The largest difference that does not matter.

    References:
        Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics, 1987.
    """
    sample = np.asarray(differences, dtype=np.float64)
    n = sample.shape[-1]
    mean = sample.mean(axis=-1)
    if n < 2:  # noqa: PLR2004 - one value has no spread
        return np.ones_like(mean)
    error = sample.std(axis=-1, ddof=1) / np.sqrt(n)
    # Without variance the mean is known: inside is certain, outside impossible.
    certain = np.where(np.abs(mean) < delta, 0.0, 1.0)
    margin = (delta - np.abs(mean)) / np.where(error > ROUNDING, error, 1.0)
    return np.asarray(np.where(error > ROUNDING, stats.t.sf(margin, n - 1), certain))


def detectable_effect(standard_deviation: float, n: int, num_tests: int = 1) -> float:
    """The smallest mean difference that a study of this size finds with 80% probability.

    For the sign-flip test at α divided by the family, which is Holm's first step, under normal differences. The
    familiar answer for the paired t test is too low at small n, where few flips are rarer than α: with nine
    comparisons of ten seeds that effect is found two times in three, not four in five.

    Args:
        standard_deviation: Of the paired differences; the result has its unit.
        n: Pairs.
        num_tests: Comparisons in the family.

    Returns:
        The effect; infinite where no p of n pairs survives the correction.
    """
    if smallest_p(n, num_tests) >= ALPHA:
        return float("inf")
    return _standard_effect(n, num_tests) * standard_deviation if standard_deviation > ROUNDING else 0.0


@lru_cache
def _standard_effect(n: int, num_tests: int) -> float:
    """The detectable effect in standard deviations: the t test's, raised by bisection where the flips are few."""
    solve: Any = TTestPower().solve_power
    effect = solve(effect_size=None, nobs=n, alpha=ALPHA / num_tests, power=POWER, alternative="two-sided")
    low = float(np.asarray(effect).item())
    if n >= MAX_EXACT:
        return low
    noise = np.random.default_rng(0).standard_normal((NUM_POWER_STUDIES, n))
    high = 2 * low
    for _ in range(8):
        middle = (low + high) / 2
        found = float(np.mean(sign_flip_p(noise + middle) <= ALPHA / num_tests))
        low, high = (middle, high) if found < POWER else (low, middle)
    return high
