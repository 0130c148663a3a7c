"""Mean ranks over datasets and which of them can be told apart (Demšar, JMLR 7, 2006)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.across.studies import Comparison
from analysis.inference import ALPHA, Array

#: Random rankings behind the Friedman test, beside the one observed.
NUM_RANKINGS = 9_999
MIN_ARMS = 2
MIN_BLOCKS = 2


@dataclass(frozen=True, eq=False)
class Ranking:
    """The arms in order, and how much datasets say about that order.

    Args:
        ranks: ``arm``, ``mean_rank`` (1 is best) and a column per dataset with its rank there; best first.
        num_datasets: Blocks of the test: a dataset is one, however many studies draw on it.
        agreement: Kendall's W in [0, 1]: 1 where every dataset gives the same order; NaN for one dataset.
        p: Of the Friedman test, by permutation; 1 for one dataset.
        smallest_p: What the test would give if every dataset gave the same order.
        num_for_any: Datasets from which on that is below 0.05.
        critical_difference: Of two mean ranks by Nemenyi, at 5%; infinite for one dataset.
        num_for_ends: Datasets that would tell the best from the last arm if the mean ranks stayed as they are; 0
            where all are equal.
        bars: Runs of arms, ``(first, last)`` places in ``ranks``, that cannot be told apart.
    """

    ranks: pd.DataFrame
    num_datasets: int
    agreement: float
    p: float
    smallest_p: float
    num_for_any: int
    critical_difference: float
    num_for_ends: int
    bars: tuple[tuple[int, int], ...]


def rank_arms(scores: pd.DataFrame, comparison: Comparison) -> Ranking | None:
    """Rank the arms within each dataset and test whether the ranks are more alike than chance; None for one arm.

    The blocks are datasets, never seeds: seeds of one dataset repeat its verdict and know nothing of others. Studies
    of one dataset are averaged. A twin of the baseline is not ranked, being the same function under another name.

    Args:
        scores: From :func:`analysis.across.effects.score_table`.
        comparison: Whose arms they are.
    """
    ranked = scores[~scores["twin"]]
    blocks = ranked.pivot_table(index="dataset", columns="arm", values="accuracy", aggfunc="mean", sort=False)
    blocks = blocks.loc[comparison.datasets, [arm for arm in comparison.arms if arm in blocks.columns]].round(12)
    n, k = blocks.shape
    if k < MIN_ARMS:
        return None
    ranks = blocks.rank(axis=1, ascending=False, method="average")
    means = ranks.mean().sort_values(kind="stable")
    p = friedman_p(ranks.to_numpy(dtype=float))
    table = ranks.T.loc[means.index].reset_index(names="arm").rename_axis(columns=None)
    table.insert(1, "mean_rank", means.to_numpy())
    spread = float(means.iloc[-1] - means.iloc[0])
    return Ranking(
        ranks=table,
        num_datasets=n,
        agreement=agreement(ranks.to_numpy(dtype=float)),
        p=p,
        smallest_p=smallest_friedman_p(n, k),
        num_for_any=next(blocks for blocks in range(MIN_BLOCKS, 64) if smallest_friedman_p(blocks, k) < ALPHA),
        critical_difference=critical_difference(n, k) if n >= MIN_BLOCKS else math.inf,
        num_for_ends=math.ceil((critical_difference(1, k) / spread) ** 2) if spread else 0,
        bars=inseparable(blocks[means.index], p),
    )


def friedman_p(ranks: Array) -> float:
    """Friedman test by permuting ranks within datasets, which holds for two datasets as for twenty.

    The chi-squared approximation is for many blocks; with three arms and three datasets that agree it says 0.0498
    where 0.028 is true.

    Args:
        ranks: ``(datasets, arms)``.
    """
    n, k = ranks.shape
    if n < MIN_BLOCKS:
        return 1.0
    generator = np.random.default_rng(0)
    shuffled = generator.permuted(np.broadcast_to(ranks, (NUM_RANKINGS, n, k)), axis=-1)
    chance = _spread(shuffled)
    observed = _spread(ranks)
    share = (1 + np.sum(chance >= observed - 1e-9)) / (1 + NUM_RANKINGS)
    return float(max(share, smallest_friedman_p(n, k)))


def _spread(ranks: Array) -> Array:
    """Squared distances of the rank sums from their mean: what the Friedman statistic is proportional to."""
    n, k = ranks.shape[-2:]
    return np.asarray(np.sum((ranks.sum(axis=-2) - n * (k + 1) / 2) ** 2, axis=-1))


def smallest_friedman_p(n: int, k: int) -> float:
    """The chance that ``n`` datasets rank ``k`` arms in one and the same order when all orders are equally likely."""
    return float(math.factorial(k)) ** (1 - n)


def agreement(ranks: Array) -> float:
    """Kendall's W of ``(datasets, arms)`` ranks, without a correction for ties; NaN for one dataset."""
    n, k = ranks.shape
    return float(12 * _spread(ranks) / (n**2 * (k**3 - k))) if n >= MIN_BLOCKS else math.nan


def critical_difference(n: int, k: int) -> float:
    """Nemenyi's: mean ranks of ``k`` arms over ``n`` datasets that differ by this much are told apart at 5%."""
    quantile = float(stats.studentized_range.ppf(1 - ALPHA, k, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(k * (k + 1) / (6 * n))


def inseparable(blocks: pd.DataFrame, p: float) -> tuple[tuple[int, int], ...]:
    """The longest runs of arms that Nemenyi's test does not tell apart; all of them where the Friedman test does not.

    Args:
        blocks: Accuracies, a row per dataset, a column per arm, in the order of mean ranks.
        p: Of the Friedman test: without it no pair is looked at.
    """
    from scikit_posthocs import posthoc_nemenyi_friedman  # noqa: PLC0415 - brings matplotlib, a second on its own

    k = blocks.shape[1]
    if p >= ALPHA:
        return ((0, k - 1),)
    pairs = posthoc_nemenyi_friedman(blocks.to_numpy()).to_numpy()
    runs: list[tuple[int, int]] = []
    for first in range(k):
        last = max(place for place in range(first, k) if pairs[first, place] >= ALPHA)
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return tuple(runs)
