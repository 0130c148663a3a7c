"""Each function against 1,000 simulated studies of ten paired seeds whose truth is known.

A null may be wrong in at most 66 of 1,000: the 99% bound of a test that is wrong five times in a hundred.
"""

from collections import Counter

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from analysis.claims.model import HOLDS, INCONCLUSIVE, REFUTED
from analysis.claims.shares import omega_squared
from analysis.claims.verdicts import (
    all_of,
    best,
    different,
    effect_size,
    equal,
    number,
    ordered,
    rarer,
    share,
    superior,
)

STUDIES, SEEDS, MOST_WRONG, CLEAR = 1000, 10, 66, 800
DELTA = 0.5
#: Noise of a paired difference that an interval of ten seeds resolves well within delta.
NARROW = 0.3
#: Noise at which a difference of delta is most often called equal: less, and it is confirmed before; more, and the
#: interval does not fit into ± delta.
BORDER = 0.55


def verdicts(judge, studies):
    return Counter(judge(study).verdict for study in studies)


def one(values):
    return {"a - b": values}


def family(values):
    return {f"contrast {index}": row for index, row in enumerate(values)}


def normal(seed, mean, deviation, contrasts=None):
    """Studies of one contrast, shape (studies, seeds), or of several independent ones."""
    shape = (STUDIES, SEEDS) if contrasts is None else (STUDIES, contrasts, SEEDS)
    return np.random.default_rng(seed).normal(mean, deviation, size=shape)


def arms_minus_rivals(seed, means, deviation=1.0):
    """The first arm minus each other: the rivals share the first arm's noise."""
    arms = np.random.default_rng(seed).normal(size=(STUDIES, len(means), SEEDS)) * deviation
    arms += np.array(means)[:, None]
    return arms[:, :1] - arms[:, 1:]


def neighbours(seed, means, deviation=1.0):
    """Each arm minus the next: neighbouring differences are negatively correlated."""
    arms = np.random.default_rng(seed).normal(size=(STUDIES, len(means), SEEDS)) * deviation
    return -np.diff(arms + np.array(means)[:, None], axis=1)


# --- superior ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("delta", [None, DELTA])
def test_superior_confirms_a_mean_at_the_bound_at_most_66_times(lower, delta):
    found = verdicts(lambda d: superior(one(d), bound=3.0, lower=lower, delta=delta), normal(1, 3.0, 1.0))
    assert 0 < found[HOLDS] <= MOST_WRONG


def test_superior_by_the_interval_alone_confirms_a_mean_at_the_bound_at_most_66_times():
    assert 0 < verdicts(lambda d: superior(one(d), interval_only=True), normal(2, 0, 1))[HOLDS] <= MOST_WRONG


def test_superior_refutes_a_mean_at_the_bound_at_most_66_times_without_delta():
    assert 0 < verdicts(lambda d: superior(one(d)), normal(3, 0, 1))[REFUTED] <= MOST_WRONG


def test_superior_refutes_a_difference_of_exactly_delta_as_equal_at_most_66_times():
    assert 0 < verdicts(lambda d: superior(one(d), delta=DELTA), normal(4, DELTA, BORDER))[REFUTED] <= MOST_WRONG


@pytest.mark.parametrize("deviation", [0.2, 0.4, 0.5, 0.8, 2.0])
def test_the_two_ways_to_refute_are_together_wrong_at_most_66_times(deviation):
    found = verdicts(lambda d: superior(one(d), delta=DELTA), normal(5, DELTA, deviation))
    assert found[REFUTED] <= MOST_WRONG


def test_superior_refutes_six_differences_of_exactly_delta_at_most_66_times_only_by_its_correction():
    studies = normal(6, DELTA, BORDER, contrasts=6)
    assert verdicts(lambda d: superior(family(d), delta=DELTA), studies)[REFUTED] <= MOST_WRONG
    one_by_one = sum(any(superior(one(row), delta=DELTA).verdict == REFUTED for row in study) for study in studies)
    assert one_by_one > 3 * MOST_WRONG


def test_superior_tells_better_worse_equal_and_noise_apart():
    assert verdicts(lambda d: superior(one(d), delta=DELTA), normal(7, 1.5, 1))[HOLDS] >= CLEAR
    assert verdicts(lambda d: superior(one(d), delta=DELTA), normal(8, -1.5, 1))[REFUTED] >= CLEAR
    assert verdicts(lambda d: superior(one(d), delta=DELTA), normal(9, 0, NARROW))[REFUTED] >= CLEAR
    assert verdicts(lambda d: superior(one(d), delta=DELTA), normal(10, 0.3, 2))[INCONCLUSIVE] >= CLEAR


def test_superior_tells_better_worse_and_equal_apart_in_a_family_of_six():
    assert verdicts(lambda d: superior(family(d), delta=DELTA), normal(11, 2.5, 1, contrasts=6))[HOLDS] >= CLEAR
    assert verdicts(lambda d: superior(family(d), delta=DELTA), normal(12, -1.5, 1, contrasts=6))[REFUTED] >= CLEAR
    assert verdicts(lambda d: superior(family(d), delta=DELTA), normal(13, 0, NARROW, contrasts=6))[REFUTED] >= CLEAR


def test_greatly_superior_is_confirmed_and_refuted_at_twice_delta_at_most_66_times():
    def judge(d):
        return superior(one(d), delta=DELTA, at_least_twice_delta=True)

    found = verdicts(judge, normal(14, 2 * DELTA, NARROW))
    assert 0 < found[HOLDS] <= MOST_WRONG
    assert 0 < found[REFUTED] <= MOST_WRONG
    assert verdicts(judge, normal(15, 4 * DELTA, NARROW))[HOLDS] >= CLEAR
    assert verdicts(judge, normal(16, DELTA, NARROW))[REFUTED] >= CLEAR


@pytest.mark.parametrize(("tail", "least", "most"), [(1.0, 0, 15), (-1.0, 60, 110)])
def test_skewed_differences_break_the_bound_only_where_the_tail_points_away_from_the_claim(tail, least, most):
    # Exponential differences (skewness 2) with a true mean of 0: the limit of the t rules, stated in their docstring.
    skewed = tail * (np.random.default_rng(17).exponential(size=(STUDIES, SEEDS)) - 1)
    assert least <= verdicts(lambda d: superior(one(d)), skewed)[HOLDS] <= most


def test_differences_of_two_equally_skewed_arms_keep_the_bound():
    pairs = np.random.default_rng(18).exponential(size=(2, STUDIES, SEEDS))
    assert verdicts(lambda d: superior(one(d)), pairs[0] - pairs[1])[HOLDS] <= MOST_WRONG


def test_parts_that_share_a_family_are_together_wrongly_refuted_at_most_66_times():
    def judge(study):
        return all_of([superior(one(row), delta=DELTA, family=4) for row in study])

    assert verdicts(judge, normal(19, DELTA, BORDER, contrasts=4))[REFUTED] <= MOST_WRONG


# --- best and ordered -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", [None, DELTA])
def test_best_of_equal_arms_is_confirmed_at_most_66_times(delta):
    found = verdicts(lambda d: best(family(d), delta=delta), arms_minus_rivals(20, [0] * 5))
    assert found[HOLDS] <= MOST_WRONG
    if delta is None:
        assert found[REFUTED] <= MOST_WRONG


def test_best_by_exactly_delta_is_refuted_at_most_66_times():
    studies = arms_minus_rivals(21, [DELTA, 0, 0, 0, 0], BORDER / np.sqrt(2))
    assert verdicts(lambda d: best(family(d), delta=DELTA), studies)[REFUTED] <= MOST_WRONG


def test_best_tells_best_beaten_equal_and_noise_apart():
    def judge(d):
        return best(family(d), delta=DELTA)

    assert verdicts(judge, arms_minus_rivals(22, [3, 0, 0, 0, 0]))[HOLDS] >= CLEAR
    assert verdicts(judge, arms_minus_rivals(23, [0, 3, 0, 0, 0]))[REFUTED] >= CLEAR
    assert verdicts(judge, arms_minus_rivals(24, [0, 0, -3, -3, -3], NARROW / 2))[REFUTED] >= CLEAR
    assert verdicts(judge, arms_minus_rivals(25, [0.3, 0, 0, 0, 0], 2.0))[INCONCLUSIVE] >= CLEAR


@pytest.mark.parametrize("delta", [None, DELTA])
def test_an_order_of_equal_arms_is_confirmed_at_most_66_times(delta):
    found = verdicts(lambda d: ordered(family(d), delta=delta), neighbours(26, [0] * 4))
    assert found[HOLDS] <= MOST_WRONG
    if delta is None:
        assert found[REFUTED] <= MOST_WRONG


def test_an_order_in_steps_of_exactly_delta_is_refuted_at_most_66_times():
    studies = neighbours(27, [3 * DELTA, 2 * DELTA, DELTA, 0], BORDER / np.sqrt(2))
    assert verdicts(lambda d: ordered(family(d), delta=DELTA), studies)[REFUTED] <= MOST_WRONG


def test_ordered_tells_ordered_reversed_equal_and_noise_apart():
    def judge(d):
        return ordered(family(d), delta=DELTA)

    assert verdicts(judge, neighbours(28, [9, 6, 3, 0]))[HOLDS] >= CLEAR
    assert verdicts(judge, neighbours(29, [9, 3, 6, 0]))[REFUTED] >= CLEAR
    assert verdicts(judge, neighbours(30, [9, 6, 6, 0], NARROW / 2))[REFUTED] >= CLEAR
    assert verdicts(judge, neighbours(31, [0.6, 0.4, 0.2, 0], 2.0))[INCONCLUSIVE] >= CLEAR


# --- equal, different, number -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", [DELTA, -DELTA])
def test_equal_is_confirmed_and_refuted_at_exactly_delta_at_most_66_times(effect):
    found = verdicts(lambda d: equal(one(d), delta=DELTA), normal(40, effect, NARROW))
    assert 0 < found[HOLDS] <= MOST_WRONG
    assert 0 < found[REFUTED] <= MOST_WRONG


def test_equal_refutes_six_contrasts_of_exactly_delta_at_most_66_times():
    found = verdicts(lambda d: equal(family(d), delta=DELTA), normal(41, DELTA, NARROW, contrasts=6))
    assert found[HOLDS] + found[REFUTED] <= MOST_WRONG


def test_equal_confirms_at_most_66_times_when_one_contrast_of_six_is_exactly_delta():
    studies = normal(42, 0, NARROW / 2, contrasts=6) + np.array([DELTA, 0, 0, 0, 0, 0])[:, None]
    assert 0 < verdicts(lambda d: equal(family(d), delta=DELTA), studies)[HOLDS] <= MOST_WRONG


def test_equal_tells_equal_unequal_and_noise_apart():
    def judge(d):
        return equal(family(d), delta=DELTA)

    assert verdicts(judge, normal(43, 0, NARROW / 2, contrasts=6))[HOLDS] >= CLEAR
    assert verdicts(judge, normal(44, 3 * DELTA, NARROW, contrasts=6))[REFUTED] >= CLEAR
    assert verdicts(judge, normal(45, 0.2, 2, contrasts=6))[INCONCLUSIVE] >= CLEAR


def test_different_finds_six_interactions_of_zero_at_most_66_times():
    studies = normal(46, 0, 1, contrasts=6)
    assert 0 < verdicts(lambda d: different(family(d), delta=DELTA), studies)[HOLDS] <= MOST_WRONG


def test_different_is_refuted_at_most_66_times_when_one_contrast_is_exactly_delta():
    studies = normal(47, 0, NARROW, contrasts=6) + np.array([DELTA, 0, 0, 0, 0, 0])[:, None]
    assert verdicts(lambda d: different(family(d), delta=DELTA), studies)[REFUTED] <= MOST_WRONG


def test_different_tells_one_interaction_none_and_noise_apart():
    def judge(d):
        return different(family(d), delta=DELTA)

    one_of_six = np.array([2, 0, 0, 0, 0, 0])[:, None]
    assert verdicts(judge, normal(48, 0, 1, contrasts=6) + one_of_six)[HOLDS] >= CLEAR
    assert verdicts(judge, normal(49, 0, NARROW / 2, contrasts=6))[REFUTED] >= CLEAR
    assert verdicts(judge, normal(50, 0, 2, contrasts=6) + one_of_six / 10)[INCONCLUSIVE] >= CLEAR


def test_a_number_from_the_same_distribution_is_refuted_at_most_66_times():
    runs = np.random.default_rng(51).normal(97, 0.2, size=(STUDIES, SEEDS + 1))
    found = verdicts(lambda run: number(run[:-1], value=run[-1]), runs)
    assert 0 < found[REFUTED] <= MOST_WRONG
    assert found[HOLDS] >= CLEAR


def test_a_number_far_from_the_runs_is_refuted():
    assert verdicts(lambda run: number(run, value=99.0), normal(52, 97, 0.2))[REFUTED] >= CLEAR


# --- share and rarer --------------------------------------------------------------------------------------------------


def events(seed, rate, arms):
    return (np.random.default_rng(seed).random(size=(STUDIES, arms, SEEDS)) < rate).astype(float)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3, 0.5, 0.7, 0.95])
def test_share_at_exactly_the_bound_is_confirmed_and_refuted_at_most_66_times(rate):
    single = verdicts(lambda e: share(family(e), above=rate), events(60, rate, arms=1))
    assert single[HOLDS] <= MOST_WRONG
    assert single[REFUTED] <= MOST_WRONG
    assert verdicts(lambda e: share(family(e), above=rate), events(61, rate, arms=4))[REFUTED] <= MOST_WRONG
    assert verdicts(lambda e: share(family(e), at_least=rate), events(62, rate, arms=4))[REFUTED] <= MOST_WRONG


def test_wilsons_interval_would_break_the_bound_at_ten_seeds():
    def miss(rate, end):
        counts = np.random.default_rng(63).binomial(SEEDS, rate, size=200_000)
        ends = np.array(proportion_confint(np.arange(SEEDS + 1), SEEDS, method="wilson"))[:, counts]
        return np.mean(ends[0] > rate) if end == "low" else np.mean(ends[1] < rate)

    assert miss(0.1, "low") == pytest.approx(0.070, abs=0.003)
    assert miss(0.95, "high") == pytest.approx(0.086, abs=0.003)


def test_share_tells_often_seldom_and_half_apart():
    def judge(e):
        return share(family(e), above=0.5)

    assert verdicts(judge, events(64, 0.99, arms=2))[HOLDS] >= CLEAR
    assert verdicts(judge, events(65, 0.01, arms=2))[REFUTED] >= CLEAR
    assert verdicts(judge, events(66, 0.6, arms=2))[INCONCLUSIVE] >= CLEAR
    assert verdicts(lambda e: share(family(e), at_least=0.95), events(67, 0.2, arms=2))[REFUTED] >= CLEAR
    assert verdicts(lambda e: share(family(e), at_least=0.95), events(68, 0.999, arms=2))[HOLDS] >= CLEAR


def test_at_least_speaks_of_the_seeds_that_ran():
    # At a true share of .9 all ten seeds show the event in .9**10 of the studies, as the docstring says.
    assert verdicts(lambda e: share(family(e), at_least=0.95), events(69, 0.9, arms=1))[HOLDS] == pytest.approx(
        349, 0.2
    )


def grids(seed, rates, trials):
    """Events of the arm and of its rivals, over the same number of trials."""
    return np.random.default_rng(seed).binomial(trials, rates, size=(STUDIES, len(rates)))


def judge_rarer(trials):
    def judge(counts):
        arm, *rivals = (int(count) for count in counts)
        return rarer((arm, trials), {f"rival {index}": (count, trials) for index, count in enumerate(rivals)})

    return judge


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("rivals", [1, 3])
def test_equal_rates_are_called_rarer_at_most_66_times(rate, rivals):
    assert verdicts(judge_rarer(36), grids(70, [rate] * (1 + rivals), 36))[HOLDS] <= MOST_WRONG


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("trials", [36, 400])
def test_a_rate_lower_by_exactly_what_matters_is_refuted_at_most_66_times(rate, trials):
    studies = grids(71, [rate, rate + 0.1, rate + 0.1, rate + 0.1], trials)
    assert verdicts(judge_rarer(trials), studies)[REFUTED] <= MOST_WRONG


def test_rarer_tells_rarer_commoner_equal_and_too_few_trials_apart():
    assert verdicts(judge_rarer(36), grids(72, [0.02, 0.5, 0.5, 0.5], 36))[HOLDS] >= CLEAR
    assert verdicts(judge_rarer(36), grids(73, [0.5, 0.02, 0.5, 0.5], 36))[REFUTED] >= CLEAR
    assert verdicts(judge_rarer(36), grids(74, [0.0, 0.0], 36))[REFUTED] >= CLEAR
    assert verdicts(judge_rarer(12), grids(75, [0.1, 0.2, 0.2, 0.2], 12))[INCONCLUSIVE] >= CLEAR


# --- effect_size ------------------------------------------------------------------------------------------------------


def crosses(seed, *variances, unequal=False, heavy=False, blocks=SEEDS):
    """Studies of 3 × 4 cells; ``unequal``: the noise grows over the other factor's levels.

    The variances are those of factor, other, interaction, seeds and noise.
    """
    factor, other, together, seeds, noise = variances
    generator = np.random.default_rng(seed)

    def levels(count, variance):
        places = np.linspace(-1, 1, count)
        return places * np.sqrt(variance / np.mean(places**2))

    pattern = np.array([[1, -1, 0, 0], [0, 0, 1, -1], [-1, 1, -1, 1]], dtype=float)
    shape = (STUDIES, blocks, 3, 4)
    errors = generator.standard_t(3, size=shape) / np.sqrt(3) if heavy else generator.normal(size=shape)
    if unequal:
        weights = np.linspace(0.3, 1.7, 4)
        errors *= weights / np.sqrt(np.mean(weights**2))
    cells = levels(3, factor)[:, None] + levels(4, other) + pattern * np.sqrt(together / np.mean(pattern**2))
    return cells + generator.normal(size=(STUDIES, blocks, 1, 1)) * np.sqrt(seeds) + errors * np.sqrt(noise)


#: Variances as above that sum to 1, the factor's being the .06 of a small effect.
MIXTURES = {
    "noise": (0.06, 0.04, 0.0, 0.1, 0.8),
    "other": (0.06, 0.85, 0.02, 0.02, 0.05),
    "nothing else": (0.06, 0.0, 0.0, 0.0, 0.94),
    "seeds": (0.06, 0.1, 0.0, 0.6, 0.24),
    "interaction": (0.06, 0.6, 0.25, 0.04, 0.05),
}


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize(("options", "blocks"), [({}, 10), ({}, 5), ({"heavy": True}, 10), ({"unequal": True}, 5)])
def test_a_share_of_variance_at_the_bound_is_misjudged_at_most_66_times(mixture, options, blocks):
    studies = crosses(80, *MIXTURES[mixture], blocks=blocks, **options)[:500]
    found = verdicts(lambda cells: effect_size(cells, below=0.06), studies)
    assert found[HOLDS] <= MOST_WRONG / 2
    assert found[REFUTED] <= MOST_WRONG / 2


@pytest.mark.parametrize("share_of_each", [0.0, 0.06, 0.2, 0.4])
@pytest.mark.parametrize("options", [{}, {"unequal": True}])
def test_two_factors_of_the_same_share_are_told_apart_at_most_66_times(share_of_each, options):
    rest = 1 - 2 * share_of_each
    studies = crosses(81, share_of_each, share_of_each, rest / 8, rest / 8, 0.75 * rest, **options)
    found = verdicts(lambda cells: effect_size(cells, than=True), studies)
    assert found[HOLDS] <= MOST_WRONG
    assert found[REFUTED] <= MOST_WRONG


def test_effect_size_tells_small_large_and_noise_apart():
    def judge(cells):
        return effect_size(cells, below=0.06)

    assert verdicts(judge, crosses(82, 0.005, 0.8, 0.01, 0.05, 0.135))[HOLDS] >= CLEAR
    assert verdicts(judge, crosses(83, 0.3, 0.5, 0.01, 0.05, 0.14))[REFUTED] >= CLEAR
    assert verdicts(judge, crosses(84, 0.06, 0, 0, 0, 0.94))[INCONCLUSIVE] >= CLEAR


def test_effect_size_tells_which_of_two_factors_is_larger():
    def judge(cells):
        return effect_size(cells, than=True)

    assert verdicts(judge, crosses(85, 0.6, 0.05, 0.01, 0.05, 0.29))[HOLDS] >= CLEAR
    assert verdicts(judge, crosses(86, 0.05, 0.6, 0.01, 0.05, 0.29))[REFUTED] >= CLEAR
    assert verdicts(judge, crosses(87, 0.03, 0.03, 0, 0, 0.94))[INCONCLUSIVE] >= CLEAR


def test_omega_squared_is_unbiased_where_noise_would_inflate_it():
    studies = crosses(88, 0.0, 0.06, 0.0, 0.1, 0.84)
    factor, other = np.mean([omega_squared(cells) for cells in studies], axis=0)
    assert factor == pytest.approx(0.0, abs=0.002)
    assert other == pytest.approx(0.06, abs=0.004)
