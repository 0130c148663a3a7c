"""Events to verdicts, and two factors' shares of the variance.

Shares of events are judged more strictly than by a Wilson interval, because simulation showed that interval to be wrong
too often with ten seeds: at a true share of .1 it lies above .1 in 70 studies of 1,000, at .95 below in 86. The exact
interval of Clopper and Pearson keeps 25 of 1,000 at either end, for every share and number of seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special, stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from analysis.claims.model import HOLDS, INCONCLUSIVE, NOT_RUN, REFUTED
from analysis.claims.results import Result, jointly
from analysis.inference import ALPHA, ROUNDING, Array, holm, t_interval

#: Two rates closer than this are the same for the purpose of a claim, and so many trials must show it.
SAME_RATE, MIN_TRIALS = 0.1, 30
#: Fewer seeds leave the jackknife one degree of freedom.
MIN_SEEDS = 3


def share(
    events: Mapping[str, npt.NDArray[np.float64]], *, above: float | None = None, at_least: float | None = None
) -> Result:
    """Judge whether an event happens in enough of every arm's seeds.

    ``above``: holds when every arm's exact 95% interval lies above; refuted when one's lies below (Holm-corrected over
    the arms). ``at_least``: holds when every observed share is at least that; refuted as before. The second is a
    statement about the seeds that ran: at a true share of .9 ten of ten seeds show the event in one study of three.

    Args:
        events: Arm → 0 or 1 a seed, shape ``(seeds,)``.
        above: The share to exceed, in [0, 1].
        at_least: The share to reach; give one of the two.

    References:
        Clopper & Pearson, Biometrika, 1934.
    """
    bound = above if above is not None else at_least
    if bound is None or (above is not None and at_least is not None):
        raise ValueError("share takes one of above and at_least")
    counts = {arm: (round(float(np.sum(values))), len(values)) for arm, values in events.items()}
    # Doubled, so that one arm alone is refuted exactly where its two-sided interval lies below.
    fewer = holm([min(1.0, 2 * float(stats.binom.cdf(count, n, bound))) for count, n in counts.values()])
    parts = [
        _judge_share(arm, count, n, float(p), bound, observed=above is None)
        for (arm, (count, n)), p in zip(counts.items(), fewer, strict=True)
    ]
    return jointly(parts, [part.low if part.low is not None else 0.0 for part in parts])


def _judge_share(arm: str, count: int, n: int, fewer: float, bound: float, *, observed: bool) -> Result:
    if n == 0:
        return Result(NOT_RUN, label=arm, reason="no runs")
    low, high = _exact_interval(count, n)
    rate, reason = count / n, f"{count} of {n}"
    if n == 1:
        return Result(INCONCLUSIVE, rate, low, high, n, label=arm, reason="one seed has no uncertainty")
    holds = rate >= bound - ROUNDING if observed else low > bound
    verdict = HOLDS if holds else REFUTED if fewer < ALPHA else INCONCLUSIVE
    return Result(verdict, rate, low, high, n, label=arm, reason=reason)


@lru_cache(maxsize=4096)
def _exact_interval(count: int, n: int) -> tuple[float, float]:
    low, high = proportion_confint(count, n, alpha=ALPHA, method="beta")
    return float(low), float(high)


def rarer(arm: tuple[int, int], rivals: Mapping[str, tuple[int, int]]) -> Result:
    """Judge whether an event is rarer in an arm than in every rival: Fisher's exact test, Holm-corrected over rivals.

    Refuted when a rival is rarer by the same test, or has the same rate: at least 30 trials each and Newcombe's
    interval of the difference within ± .1, its confidence raised to 1 - .05 / rivals.

    Args:
        arm: Events and trials.
        rivals: Rival → events and trials.

    Returns:
        effect, low, high: the arm's rate minus the rival's with Newcombe's 95% interval; n: the fewer trials.

    References:
        Newcombe, Statistics in Medicine, 1998, method 10.
    """
    p_values = holm([_fisher_p(*arm, *rival) for rival in rivals.values()])
    columns = zip(rivals.items(), p_values, strict=True)
    parts = [_judge_rarer(arm, name, rival, float(p), len(rivals)) for (name, rival), p in columns]
    # The weakest evidence is the largest p.
    return jointly(parts, [-(part.p or 0.0) for part in parts])


def _judge_rarer(arm: tuple[int, int], name: str, rival: tuple[int, int], p: float, tests: int) -> Result:
    (events, trials), (rival_events, rival_trials) = arm, rival
    n = min(trials, rival_trials)
    if n == 0:
        return Result(NOT_RUN, label=name, reason="no runs")
    effect = events / trials - rival_events / rival_trials
    low, high = _rate_difference(events, trials, rival_events, rival_trials, ALPHA)
    reason = f"{events} of {trials} against {rival_events} of {rival_trials}"
    verdict = INCONCLUSIVE
    if p < ALPHA:
        verdict = HOLDS if effect < 0 else REFUTED
    elif n >= MIN_TRIALS:
        ends = _rate_difference(events, trials, rival_events, rival_trials, ALPHA / tests)
        if max(abs(end) for end in ends) < SAME_RATE:
            verdict, reason = REFUTED, f"equal within {SAME_RATE:g}: {reason}"
    return Result(verdict, effect, low, high, n, p, name, reason)


@lru_cache(maxsize=4096)
def _fisher_p(events: int, trials: int, rival_events: int, rival_trials: int) -> float:
    table = np.array([[events, trials - events], [rival_events, rival_trials - rival_events]])
    return float(stats.fisher_exact(table).pvalue)


@lru_cache(maxsize=4096)
def _rate_difference(events: int, trials: int, others: int, other_trials: int, alpha: float) -> tuple[float, float]:
    low, high = confint_proportions_2indep(
        events, trials, others, other_trials, method="newcomb", compare="diff", alpha=alpha
    )
    return float(low), float(high)


def effect_size(cells: npt.NDArray[np.float64], *, below: float | None = None, than: bool = False) -> Result:
    """Judge a factor's share of the variance, omega squared, in two fixed factors crossed, with seeds as random blocks.

    ``below``: holds when the 95% interval of the factor's share lies below the number, refuted when above it.
    ``than``: holds when the interval of the factor's share minus the other's lies above 0, refuted when below.

    The interval of a difference is Student's t on the jackknife's pseudo-values, one a seed. That of a share is the
    wider, at either end, of the jackknife's on arcsin(sqrt(share)) and the one that inverts the noncentral F: the first
    alone misses upwards in up to 14 of 100 studies of five seeds where the noise is large, the second in up to 7 of
    100 where the seeds differ much. Simulated over 3, 5 and 10 seeds, five mixtures of variances, equal and unequal
    noise, normal and t(3): at a true share of .06 the interval lies below it in at most 4 of 100 studies and above it
    in at most 4; two factors of the same share, from 0 to .4, are told apart in at most 4 on either side.

    Args:
        cells: Shape ``(seeds, levels of the factor, levels of the other)``, complete; any unit.
        below: A share in (0, 1]; or
        than: whether to compare with the other factor; give one of the two.

    References:
        Olejnik & Algina, Psychological Methods, 2003 (omega squared with random blocks); Miller, Biometrika, 1974 (the
        jackknife); Steiger, Psychological Methods, 2004 (noncentral F).
    """
    if (below is not None) == than:
        raise ValueError("effect_size takes one of below and than")
    values = np.asarray(cells, dtype=np.float64)
    seeds, levels, others = values.shape
    if min(levels, others) < 2:  # noqa: PLR2004 - one level does not vary
        raise ValueError(f"{levels} x {others} levels: both factors need at least 2")
    label = "omega squared minus the other factor's" if than else "omega squared"
    if seeds == 0:
        return Result(NOT_RUN, label=label, reason="no runs")
    if seeds < MIN_SEEDS:
        reason = "one seed has no uncertainty" if seeds == 1 else "two seeds give no interval"
        return Result(INCONCLUSIVE, n=seeds, label=label, reason=reason)
    effect, low, high = _difference_of_shares(values) if than else _share_of_variance(values)
    bound = 0.0 if below is None else below
    over, under = (HOLDS, REFUTED) if than else (REFUTED, HOLDS)
    verdict = under if high < bound else over if low > bound else INCONCLUSIVE
    reason = "" if verdict != INCONCLUSIVE else f"the 95% CI includes {bound:g}"
    return Result(verdict, effect, low, high, seeds, label=label, reason=reason)


def _difference_of_shares(cells: Array) -> tuple[float, float, float]:
    shares = [omega_squared(sample) for sample in (cells, *_leaving_one_out(cells))]
    differences = np.array([factor - other for factor, other in shares])
    _, low, high = t_interval(_pseudo_values(differences))
    return float(differences[0]), float(low), float(high)


def _share_of_variance(cells: Array) -> tuple[float, float, float]:
    shares = np.array([omega_squared(sample)[0] for sample in (cells, *_leaving_one_out(cells))])
    angles = np.arcsin(np.sqrt(np.clip(shares, 0.0, 1.0)))
    _, *ends = t_interval(_pseudo_values(angles))
    low, high = (float(np.sin(np.clip(end, 0.0, np.pi / 2)) ** 2) for end in ends)
    model_low, model_high = _noncentral_interval(cells)
    return float(shares[0]), min(low, model_low), max(high, model_high)


def _leaving_one_out(cells: Array) -> list[Array]:
    return [np.delete(cells, seed, axis=0) for seed in range(len(cells))]


def _pseudo_values(estimates: Sequence[float] | Array) -> Array:
    """The whole sample's estimate, then those leaving each seed out, to one pseudo-value a seed."""
    whole, *without = estimates
    seeds = len(without)
    return np.asarray(seeds * whole - (seeds - 1) * np.asarray(without))


def omega_squared(cells: Array) -> tuple[float, float]:
    """Omega squared of the factor and of the other, as shares of all variance, seeds and noise included.

    Args:
        cells: Shape ``(seeds, levels of the factor, levels of the other)``, at least 2 each.

    Returns:
        Both estimates; below 0 where a factor explains less than noise would, 0 where nothing varies.
    """
    squares, seed_mean_square, error = _squares(cells)
    total = sum(squares) + seed_mean_square
    if total < ROUNDING**2:
        return 0.0, 0.0
    _, levels, others = cells.shape
    return (squares[0] - (levels - 1) * error) / total, (squares[1] - (others - 1) * error) / total


def _squares(cells: Array) -> tuple[list[float], float, float]:
    """Sums of squares (factor, other, interaction, seeds, error); mean squares of seeds and of error."""
    seeds, levels, others = cells.shape
    grand = cells.mean()
    factor = cells.mean(axis=(0, 2)) - grand
    other = cells.mean(axis=(0, 1)) - grand
    block = cells.mean(axis=(1, 2)) - grand
    together = cells.mean(axis=0) - grand - factor[:, None] - other
    error = cells - cells.mean(axis=0) - block[:, None, None]
    sums = [
        seeds * others * np.square(factor).sum(),
        seeds * levels * np.square(other).sum(),
        seeds * np.square(together).sum(),
        levels * others * np.square(block).sum(),
        np.square(error).sum(),
    ]
    freedom = (seeds - 1) * (levels * others - 1)
    return [float(number) for number in sums], float(sums[3] / (seeds - 1)), float(sums[4] / freedom)


def _noncentral_interval(cells: Array) -> tuple[float, float]:
    """Invert the noncentral F of the factor, taking the other variances as estimated."""
    seeds, levels, others = cells.shape
    squares, seed_mean_square, error = _squares(cells)
    if error < ROUNDING**2:
        exact = max(0.0, omega_squared(cells)[0])
        return exact, exact
    freedom = levels - 1, (seeds - 1) * (levels * others - 1)
    ratio = squares[0] / freedom[0] / error
    total = (sum(squares) + seed_mean_square) / (cells.size * error)
    rest = total - max(0.0, squares[0] / error - freedom[0]) / cells.size
    ends = []
    for tail in (1 - ALPHA / 2, ALPHA / 2):
        # Below the central distribution's own tail no noncentrality fits, and the share ends at 0.
        central = float(special.fdtr(*freedom, ratio))
        noncentrality = float(special.ncfdtrinc(*freedom, tail, ratio)) if central > tail else 0.0
        explained = noncentrality / cells.size
        ends.append(explained / (explained + rest))
    return ends[0], ends[1]
