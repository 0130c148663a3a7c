"""A band that a distribution function lies in, all of it at once: from the order of a sample alone, exactly."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

Array = npt.NDArray[np.float64]


@lru_cache
def equal_tailed_band(size: int, confidence: float) -> tuple[Array, Array]:
    """The band whose ends are equally likely to be missed at every order statistic: tight at both ends of the sample.

    The i-th smallest of ``n`` uniform draws has the distribution Beta(i, n + 1 - i). The band's ends are the same
    quantile of each, chosen such that all hold at once with the asked probability.

    Args:
        size: Of the sample.
        confidence: Of the whole band, between 0 and 1.

    Returns:
        The least and the most that the distribution function is above the j smallest, j from 0 to ``size``: two arrays
        of shape ``(size + 1,)``.

    References:
        Learned-Miller & DeStefano, IEEE Transactions on Information Theory, 2008; Aldor-Noiman et al., The American
        Statistician, 2013.
    """
    ranks = np.arange(1, size + 1)

    def ends(log_miss: float) -> tuple[Array, Array]:
        shape = ranks, size + 1 - ranks
        tail = np.exp(log_miss) / 2
        low, high = special.betaincinv(*shape, tail), special.betainccinv(*shape, tail)
        return np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)

    def excess(log_miss: float) -> float:
        return chance_between(*ends(log_miss)) - confidence

    # By Bonferroni each may be missed with a share of the whole, and none oftener than the whole.
    fewest, most = np.log((1 - confidence) / (2 * size)), np.log(1 - confidence)
    low, high = ends(optimize.brentq(excess, fewest, most + 1e-9))
    return np.concatenate([[0.0], low]), np.concatenate([high, [1.0]])


@lru_cache
def kolmogorov_band(size: int, confidence: float) -> tuple[Array, Array]:
    """The band of one width everywhere, as :func:`equal_tailed_band` gives it; takes no time for any size."""
    shares, width = np.arange(size + 1) / size, stats.kstwo(size).ppf(confidence)
    return np.clip(shares - width, 0, 1), np.clip(shares + width, 0, 1)


def chance_between(low: Array, high: Array) -> float:
    """How probable it is that every order statistic of uniform draws lies between its bounds.

    The draws up to a time are a Poisson process, given how many there are in the end; so the chances of each count go
    from bound to bound by convolution, and counts that a bound forbids are left out.

    Args:
        low: Lower bound of each, ascending in [0, 1], shape ``(n,)``.
        high: Upper bound of each, likewise and above ``low``.

    References:
        Moscovich & Nadler, Statistics & Probability Letters, 2017.
    """
    size = len(low)
    times = np.sort(np.concatenate([low, high]))
    # At each time: the draws that must have come, and those that may have.
    due, allowed = np.searchsorted(high, times, "right"), np.searchsorted(low, times, "left")
    waits = size * np.diff(times, prepend=0.0)
    log_factorials = special.gammaln(np.arange(size + 1) + 1)

    def arrivals(wait: float, counts: npt.NDArray[np.int64]) -> Array:
        return np.asarray(np.exp(special.xlogy(counts, wait) - wait - log_factorials[counts]))

    chances, least = np.ones(1), 0  # of `least` draws and more
    for wait, fewest, most in zip(waits, due, allowed, strict=True):
        come = np.convolve(chances, arrivals(wait, np.arange(most - least + 1)))
        chances, least = come[fewest - least : most - least + 1], int(fewest)
    left = size - least - np.arange(len(chances))
    return float(chances @ arrivals(size * (1 - times[-1]), left) / stats.poisson.pmf(size, size))
