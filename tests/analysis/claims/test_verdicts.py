import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from analysis.claims.model import HOLDS, INCONCLUSIVE, NOT_RUN, NOT_TESTABLE, REFUTED
from analysis.claims.shares import omega_squared
from analysis.claims.verdicts import (
    Result,
    all_of,
    any_of,
    best,
    different,
    effect_size,
    equal,
    most_of,
    number,
    opposite,
    ordered,
    rarer,
    share,
    superior,
)

#: Ten values of mean 0 and standard deviation 1, to be shifted and scaled.
SPREAD = stats.zscore(stats.norm.ppf(np.linspace(0.05, 0.95, 10)), ddof=1)
ZEROS, NOTHING = np.zeros(10), np.array([])


def sample(mean, deviation=1.0, n=10):
    spread = SPREAD if n == 10 else stats.zscore(stats.norm.ppf(np.linspace(0.05, 0.95, n)), ddof=1)
    return mean + deviation * spread


# --- superior ---------------------------------------------------------------------------------------------------------


def test_superior_shows_mean_and_95_percent_interval_and_the_corrected_p():
    result = superior({"a - b": sample(2.0), "a - c": sample(3.0)})
    reference = stats.ttest_1samp(sample(2.0), 0).confidence_interval(0.95)
    assert result.verdict == HOLDS
    assert (result.effect, result.low, result.high) == pytest.approx((2.0, reference.low, reference.high))
    assert (result.n, result.label) == (10, "a - b")  # the weaker of the two
    assert result.p == pytest.approx(2 * 2 / 1024)
    assert [part.label for part in result.parts] == ["a - b", "a - c"]


def test_lower_mirrors_the_verdict_and_keeps_the_sign_of_the_effect():
    result = superior({"a - b": sample(-2.0)}, lower=True)
    assert (result.verdict, result.effect) == (HOLDS, pytest.approx(-2.0))
    assert result.low < result.high < 0
    assert superior({"a - b": sample(2.0)}, lower=True).reason == "reversed: the 95% CI lies above 0"
    assert superior({"a": sample(94.0)}, lower=True, bound=95).verdict == HOLDS


def test_an_interval_wholly_below_delta_is_said_to_be():
    result = superior({"d": sample(0.3, 0.1)}, delta=0.5)
    assert (result.verdict, result.reason) == (HOLDS, "below delta: the whole CI is under 0.5")
    assert superior({"d": sample(0.45, 0.1)}, delta=0.5).reason == ""
    assert superior({"d": sample(-0.3, 0.1)}, delta=0.5, lower=True).reason.startswith("below delta")


@pytest.mark.parametrize(
    ("values", "options", "verdict", "reason"),
    [
        (sample(-2.0), {}, REFUTED, "reversed: the 95% CI lies below 0"),
        (sample(0.0, 0.3), {"delta": 0.5}, REFUTED, "equal: the 90% CI lies within 0 ± 0.5"),
        (sample(95.1, 0.3), {"delta": 0.5, "bound": 95}, REFUTED, "equal: the 90% CI lies within 95 ± 0.5"),
        (sample(0.0, 0.3), {}, INCONCLUSIVE, "the 95% CI includes 0"),
        (sample(0.2, 2.0), {"delta": 0.5}, INCONCLUSIVE, "the 95% CI includes 0"),
    ],
)
def test_superior_says_why_not(values, options, verdict, reason):
    result = superior({"d": values}, **options)
    assert (result.verdict, result.reason) == (verdict, reason)


def test_too_few_seeds_for_any_p_are_named_only_where_they_alone_decide():
    five = superior({"d": sample(5.0, n=5)})
    assert (five.verdict, five.reason) == (
        INCONCLUSIVE,
        "the CI would do, but no sign-flip p of 5 seeds can be below 0.05: it takes 6",
    )
    assert superior({"d": sample(5.0, n=6)}).verdict == HOLDS
    assert superior({"d": sample(0.1, n=5)}).reason == "the 95% CI includes 0"
    assert superior({"d": sample(5.0, n=5)}, interval_only=True).verdict == HOLDS


def test_a_family_too_large_for_its_seeds_is_named():
    family = {f"d{index}": sample(5.0) for index in range(26)}
    assert superior(dict(list(family.items())[:25])).verdict == HOLDS
    result = superior(family)
    assert result.verdict == INCONCLUSIVE
    assert (
        result.reason == "the CI would do, but with 10 seeds at most 25 tests can survive Holm, and this family has 26"
    )
    assert superior({"d": sample(5.0)}, family=26).reason == result.reason


def test_a_p_that_only_the_correction_raises_is_shown():
    result = superior({f"d{index}": sample(0.9) for index in range(6)})
    assert result.verdict == INCONCLUSIVE
    assert result.reason == f"the CI would do, but the Holm-corrected p is {result.p:.3f}"
    assert superior({"d": sample(0.9)}).verdict == HOLDS


def test_a_refutation_that_does_not_survive_its_family_is_inconclusive_and_says_so():
    family = {"weak": sample(-0.8), **{f"d{index}": sample(5.0) for index in range(5)}}
    result = superior(family)
    assert (result.verdict, result.label) == (INCONCLUSIVE, "weak")
    assert result.reason == "refuted only without Holm's correction over 6 contrasts"
    assert superior({"weak": sample(-0.8)}).verdict == REFUTED


def test_one_refuted_contrast_refutes_the_family_and_shows_its_numbers():
    result = superior({"good": sample(5.0), "bad": sample(-5.0), "open": sample(0.0)})
    assert (result.verdict, result.label, result.effect) == (REFUTED, "bad", pytest.approx(-5.0))


def test_the_inconclusive_contrast_closest_to_its_bound_is_shown():
    result = superior({"near": sample(0.5), "far": sample(0.1), "good": sample(5.0)})
    assert (result.verdict, result.label) == (INCONCLUSIVE, "far")


def test_greatly_superior_starts_at_twice_delta():
    def judge(mean):
        return superior({"d": sample(mean, 0.2)}, delta=1.0, at_least_twice_delta=True)

    assert judge(3.0).verdict == HOLDS
    assert judge(2.1).reason == "the 95% CI does not clear twice delta (2)"
    assert (judge(1.0).verdict, judge(1.0).reason) == (REFUTED, "the 95% CI ends before twice delta (2)")
    with pytest.raises(ValueError, match="needs delta"):
        superior({"d": sample(1.0)}, at_least_twice_delta=True)


def test_differences_that_are_exactly_zero_refute_superior_and_confirm_equal_where_delta_is_given():
    refuted = superior({"kl - ce": ZEROS}, delta=0.5)
    assert (refuted.verdict, refuted.effect, refuted.low, refuted.high) == (REFUTED, 0, 0, 0)
    assert (
        superior({"kl - ce": ZEROS}).reason == "every value is exactly at the bound, and no smallest difference is set"
    )
    confirmed = equal({"kl - ce": ZEROS}, delta=0.5)
    assert (confirmed.verdict, confirmed.effect, confirmed.low, confirmed.high) == (HOLDS, 0, 0, 0)
    assert equal({"kl - ce": ZEROS}, delta=0.0).verdict == HOLDS
    assert equal({"kl - ce": ZEROS + 0.01}, delta=0.0).verdict == REFUTED


def test_rounding_of_sums_is_no_difference():
    noise = np.full(10, 5e-17)
    assert superior({"d": noise}, delta=0.5).verdict == REFUTED
    assert different({"d": noise}).verdict == INCONCLUSIVE


def test_a_constant_difference_needs_its_p_as_well():
    assert superior({"d": np.full(10, 0.7)}, delta=0.5).verdict == HOLDS
    assert superior({"d": np.full(5, 0.7)}, delta=0.5).verdict == INCONCLUSIVE
    assert superior({"d": np.full(5, 0.1)}, delta=0.5).verdict == REFUTED


@pytest.mark.parametrize(
    "judge",
    [
        superior,
        best,
        ordered,
        different,
        lambda family: equal(family, delta=0.5),
        lambda family: number(next(iter(family.values())), value=1.0),
        lambda family: share(family, above=0.5),
        lambda family: share(family, at_least=0.5),
    ],
)
def test_no_runs_are_not_run_and_one_seed_decides_nothing(judge):
    assert judge({"d": NOTHING}).verdict == NOT_RUN
    result = judge({"d": np.array([1.0])})
    assert (result.verdict, result.reason, result.n) == (INCONCLUSIVE, "one seed has no uncertainty", 1)
    assert result.effect == 1.0


@pytest.mark.parametrize("judge", [superior, best, ordered, different, lambda family: equal(family, delta=0.5)])
def test_an_empty_family_is_not_run(judge):
    assert judge({}).verdict == NOT_RUN


def test_an_unrun_contrast_leaves_the_family_not_run_unless_another_refutes_it():
    assert superior({"a": sample(5.0), "b": NOTHING}).verdict == NOT_RUN
    assert superior({"a": sample(-5.0), "b": NOTHING}).verdict == REFUTED


# --- best and ordered -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("judge", [best, ordered])
def test_best_and_ordered_hold_when_every_contrast_does(judge):
    assert judge({"b": sample(2.0), "c": sample(3.0)}).verdict == HOLDS
    assert judge({"b": sample(-2.0), "c": sample(-3.0)}, lower=True).verdict == HOLDS


@pytest.mark.parametrize("judge", [best, ordered])
def test_best_and_ordered_are_refuted_by_a_reversed_or_equal_contrast(judge):
    assert judge({"b": sample(2.0), "c": sample(-3.0)}).label == "c"
    assert judge({"b": sample(2.0), "c": sample(-3.0)}).verdict == REFUTED
    equal_rival = judge({"b": sample(2.0), "c": sample(0.0, 0.2)}, delta=0.5)
    assert (equal_rival.verdict, equal_rival.reason) == (REFUTED, "equal: the 90% CI lies within 0 ± 0.5")
    assert judge({"b": sample(2.0), "c": sample(0.0, 0.2)}).verdict == INCONCLUSIVE


def test_a_rival_must_be_superior_by_the_test_too_to_refute_best():
    assert best({"b": sample(-5.0, n=5)}).verdict == INCONCLUSIVE
    assert superior({"b": sample(-5.0, n=5)}).verdict == REFUTED


# --- equal, different, number -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "deviation", "verdict"),
    [(0.1, 0.3, HOLDS), (-0.1, 0.3, HOLDS), (1.0, 0.3, REFUTED), (-1.0, 0.3, REFUTED), (0.5, 0.3, INCONCLUSIVE)],
)
def test_equal_is_two_one_sided_tests_and_refuted_outside(mean, deviation, verdict):
    values = sample(mean, deviation)
    result = equal({"d": values}, delta=0.5)
    assert result.verdict == verdict
    below = stats.ttest_1samp(values, 0.5, alternative="less").pvalue
    above = stats.ttest_1samp(values, -0.5, alternative="greater").pvalue
    assert result.p == pytest.approx(max(below, above))


def test_equal_shows_the_contrast_that_reaches_furthest():
    result = equal({"small": sample(0.0, 0.1), "large": sample(0.2, 0.2), "smaller": sample(0.05, 0.1)}, delta=0.5)
    assert (result.verdict, result.label) == (HOLDS, "large")


def test_different_holds_by_one_contrast_and_shows_it():
    result = different({"none": sample(0.0), "some": sample(-2.0)}, delta=0.5)
    assert (result.verdict, result.label, result.effect) == (HOLDS, "some", pytest.approx(-2.0))


def test_different_is_refuted_only_when_every_contrast_is_equal():
    assert different({"a": sample(0.0, 0.2), "b": sample(0.05, 0.2)}, delta=0.5).verdict == REFUTED
    assert different({"a": sample(0.0, 0.2), "b": sample(0.0, 2.0)}, delta=0.5).label == "b"
    assert different({"a": sample(0.0, 0.2), "b": sample(0.0, 2.0)}, delta=0.5).verdict == INCONCLUSIVE
    assert different({"a": sample(0.0, 0.2)}).verdict == INCONCLUSIVE
    assert different({"a": sample(0.0, 0.2), "b": NOTHING}, delta=0.5).verdict == NOT_RUN


def test_different_names_seeds_too_few_for_any_p():
    assert "it takes 6" in different({"a": sample(5.0, n=5)}).reason


def test_a_number_is_judged_by_the_prediction_interval_of_one_further_run():
    values = sample(97.0, 0.2)
    half = stats.t.ppf(0.975, 9) * 0.2 * np.sqrt(1.1)
    result = number(values, value=97 + half - 1e-6, label="tanh: accuracy")
    assert (result.verdict, result.label, result.n) == (HOLDS, "tanh: accuracy", 10)
    assert (result.low, result.high) == pytest.approx((97 - half, 97 + half))
    refuted = number(values, value=97 + half + 1e-6)
    assert refuted.verdict == REFUTED
    assert "outside the 95% prediction interval" in refuted.reason


def test_a_number_that_every_run_repeats_holds_despite_rounding():
    assert number(np.full(10, 0.1 * 100), value=10.0).verdict == HOLDS
    assert number(np.full(10, 10.1), value=10.0).verdict == REFUTED


def test_two_seeds_predict_no_third():
    assert number(sample(1.0, n=3)[:2], value=50.0).verdict == INCONCLUSIVE


# --- share and rarer --------------------------------------------------------------------------------------------------


def happened(count, n=10):
    return np.array([1.0] * count + [0.0] * (n - count))


@pytest.mark.parametrize(
    ("count", "verdict"), [(10, HOLDS), (9, HOLDS), (8, INCONCLUSIVE), (2, INCONCLUSIVE), (1, REFUTED)]
)
def test_share_above_a_half_needs_nine_of_ten(count, verdict):
    result = share({"two_layers": happened(count)}, above=0.5)
    assert (result.verdict, result.effect, result.reason) == (verdict, count / 10, f"{count} of 10")
    reference = stats.binomtest(count, 10).proportion_ci(0.95, method="exact")
    assert (result.low, result.high) == pytest.approx((reference.low, reference.high))


def test_share_of_every_arm_must_do():
    assert share({"a": happened(10), "b": happened(6)}, above=0.5).label == "b"
    assert share({"a": happened(10), "b": happened(0)}, above=0.5).verdict == REFUTED


def test_at_least_is_judged_on_the_observed_share():
    assert share({"a": happened(10)}, at_least=0.95).verdict == HOLDS
    assert share({"a": happened(9)}, at_least=0.95).verdict == INCONCLUSIVE
    assert share({"a": happened(6)}, at_least=0.95).verdict == REFUTED
    assert share({"a": happened(19, 20)}, at_least=0.95).verdict == HOLDS


def test_share_takes_one_bound():
    for bounds in ({}, {"above": 0.5, "at_least": 0.5}):
        with pytest.raises(ValueError, match="one of"):
            share({"a": happened(5)}, **bounds)


def test_rarer_is_fishers_test_corrected_over_the_rivals():
    result = rarer((0, 36), {"l1": (12, 36), "focal": (9, 36)})
    one = stats.fisher_exact([[0, 36], [12, 24]]).pvalue
    other = stats.fisher_exact([[0, 36], [9, 27]]).pvalue
    assert (result.verdict, result.label, result.effect) == (HOLDS, "focal", pytest.approx(-0.25))
    assert [part.p for part in result.parts] == pytest.approx([2 * one, max(2 * one, other)])
    assert result.reason == "0 of 36 against 9 of 36"


def test_rarer_is_refuted_by_a_rival_that_is_rarer_or_the_same():
    assert rarer((12, 36), {"focal": (0, 36)}).verdict == REFUTED
    same = rarer((0, 36), {"focal": (0, 36)})
    assert (same.verdict, same.reason) == (REFUTED, "equal within 0.1: 0 of 36 against 0 of 36")


def test_the_same_rate_in_few_trials_or_of_much_noise_is_inconclusive():
    assert rarer((0, 20), {"focal": (0, 20)}).verdict == INCONCLUSIVE
    assert rarer((18, 36), {"focal": (18, 36)}).verdict == INCONCLUSIVE
    assert rarer((0, 36), {"a": (0, 36), "b": (0, 36), "c": (0, 36)}).verdict == INCONCLUSIVE


def test_rarer_without_trials_is_not_run():
    assert rarer((0, 36), {"focal": (0, 0)}).verdict == NOT_RUN
    assert rarer((0, 0), {"focal": (3, 36)}).verdict == NOT_RUN


# --- effect_size ------------------------------------------------------------------------------------------------------


def cross(factor, other, noise=1.0, seeds=10, seed=0):
    generator = np.random.default_rng(seed)
    cells = np.asarray(factor)[:, None] + np.asarray(other)[None, :]
    blocks = generator.normal(size=(seeds, 1, 1))
    return cells + blocks + noise * generator.normal(size=(seeds, len(factor), len(other)))


def test_omega_squared_equals_the_textbook_formula_on_statsmodels_table():
    cells = cross([0, 1, 2], [0, 3, 1, 5])
    index = itertools.product(range(10), range(3), range(4))
    frame = pd.DataFrame([(*place, cells[place]) for place in index], columns=["seed", "factor", "other", "value"])
    table = anova_lm(ols("value ~ C(seed) + C(factor) * C(other)", frame).fit())
    mean_square = table["mean_sq"]
    total = table["sum_sq"].sum() + mean_square["C(seed)"]
    expected = [
        (table["sum_sq"][name] - table["df"][name] * mean_square["Residual"]) / total
        for name in ("C(factor)", "C(other)")
    ]
    assert omega_squared(cells) == pytest.approx(tuple(expected))


def test_effect_size_below_a_share():
    small = effect_size(cross([0, 0.1, 0.2], [0, 10, 20, 30]), below=0.06)
    assert (small.verdict, small.n, small.label) == (HOLDS, 10, "omega squared")
    assert 0 <= small.low <= small.high < 0.06
    assert effect_size(cross([0, 10, 20], [0, 1, 2, 3]), below=0.06).verdict == REFUTED
    noisy = effect_size(cross([0, 0.5, 1], [0, 1, 2, 3], noise=3), below=0.06)
    assert (noisy.verdict, noisy.reason) == (INCONCLUSIVE, "the 95% CI includes 0.06")


def test_effect_size_than_the_other_factor():
    larger = effect_size(cross([0, 10, 20], [0, 1, 2, 3]), than=True)
    assert larger.verdict == HOLDS
    assert larger.low > 0
    assert larger.effect == pytest.approx(np.subtract(*omega_squared(cross([0, 10, 20], [0, 1, 2, 3]))))
    assert effect_size(cross([0, 1, 2], [0, 10, 20, 30]), than=True).verdict == REFUTED
    assert effect_size(cross([0, 0, 0], [0, 0, 0, 0]), than=True).verdict == INCONCLUSIVE


def test_effect_size_without_variance():
    nothing = effect_size(np.full((5, 3, 4), 2.5), below=0.06)
    assert (nothing.verdict, nothing.effect, nothing.high) == (HOLDS, 0, 0)
    assert effect_size(np.full((5, 3, 4), 2.5), than=True).verdict == INCONCLUSIVE
    certain = np.broadcast_to(np.array([0.0, 1.0])[:, None], (5, 2, 2))
    assert effect_size(certain, below=0.06).verdict == REFUTED
    assert effect_size(certain, than=True).verdict == HOLDS


def test_effect_size_needs_three_seeds_two_levels_and_one_question():
    assert effect_size(np.empty((0, 3, 4)), below=0.06).verdict == NOT_RUN
    assert effect_size(cross([0, 1], [0, 1], seeds=1), below=0.06).reason == "one seed has no uncertainty"
    assert effect_size(cross([0, 1], [0, 1], seeds=2), than=True).verdict == INCONCLUSIVE
    with pytest.raises(ValueError, match="at least 2"):
        effect_size(cross([0], [0, 1]), below=0.06)
    for question in ({}, {"below": 0.06, "than": True}):
        with pytest.raises(ValueError, match="one of below and than"):
            effect_size(cross([0, 1], [0, 1]), **question)


# --- combinations -----------------------------------------------------------------------------------------------------


def results(letters):
    names = {"h": HOLDS, "r": REFUTED, "i": INCONCLUSIVE, "n": NOT_RUN, "t": NOT_TESTABLE}
    return [Result(names[letter], label=f"{letter}{index}", reason=letter) for index, letter in enumerate(letters)]


@pytest.mark.parametrize(
    ("letters", "every", "some", "most"),
    [
        ("hhh", HOLDS, HOLDS, HOLDS),
        ("hhr", REFUTED, HOLDS, HOLDS),
        ("hr", REFUTED, HOLDS, REFUTED),
        ("rrr", REFUTED, REFUTED, REFUTED),
        ("hi", INCONCLUSIVE, HOLDS, INCONCLUSIVE),
        ("ri", REFUTED, INCONCLUSIVE, REFUTED),
        ("rii", REFUTED, INCONCLUSIVE, INCONCLUSIVE),
        ("hn", NOT_RUN, HOLDS, NOT_RUN),
        ("hhn", NOT_RUN, HOLDS, HOLDS),
        ("rn", REFUTED, NOT_RUN, REFUTED),
        ("in", NOT_RUN, NOT_RUN, NOT_RUN),
        ("ht", HOLDS, HOLDS, HOLDS),
        ("rt", REFUTED, REFUTED, REFUTED),
        ("hrt", REFUTED, HOLDS, REFUTED),
        ("tt", NOT_TESTABLE, NOT_TESTABLE, NOT_TESTABLE),
        ("", NOT_RUN, NOT_RUN, NOT_RUN),
    ],
)
def test_combinations(letters, every, some, most):
    parts = results(letters)
    assert (all_of(parts).verdict, any_of(parts).verdict, most_of(parts).verdict) == (every, some, most)
    assert all_of(parts).parts == tuple(parts)


def test_a_combination_shows_the_part_that_decided_and_what_was_left_out():
    assert all_of(results("hir")).label == "r2"
    assert any_of(results("rih")).label == "h2"
    assert all_of(results("th")).reason == "h; left out as not testable: 1 of 2 parts (t)"
    assert all_of(results("tt")).reason == "t"


def test_the_opposite_swaps_holds_and_refuted_only():
    swapped = [opposite(result).verdict for result in results("hrint")]
    assert swapped == [REFUTED, HOLDS, INCONCLUSIVE, NOT_RUN, NOT_TESTABLE]
    assert opposite(superior({"d": sample(2.0)})).effect == pytest.approx(2.0)
