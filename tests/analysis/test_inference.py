import itertools

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.inference import (
    ALPHA,
    detectable_effect,
    equivalence_p,
    holm,
    mean_below_p,
    prediction_interval,
    probability_superior,
    sign_flip_interval,
    sign_flip_p,
    smallest_p,
    t_interval,
)

STUDIES, SEEDS, ARMS = 2000, 10, 9
#: Darwin's maize, crossed minus self-fertilised plants in eighths of an inch: Fisher's example of the sign-flip test
#: (The Design of Experiments, 1935, section 21).
MAIZE = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48], dtype=float)


def collapse(generator, shape):
    """Half a point of spread, and one seed in twenty collapses by 80 points."""
    return generator.normal(0, 0.5, size=shape) - 80 * (generator.random(shape) < 0.05)


def contaminate(generator, shape):
    """Normal, but a tenth has ten times the spread."""
    return generator.normal(size=shape) * np.where(generator.random(shape) < 0.1, 10, 1)


#: Shape of the differences → how they are drawn, and their mean.
SHAPES = {
    "normal": (lambda generator, shape: generator.normal(size=shape), 0.0),
    "t with 3 degrees of freedom": (lambda generator, shape: generator.standard_t(3, size=shape), 0.0),
    "contaminated normal": (contaminate, 0.0),
    "exponential": (lambda generator, shape: generator.exponential(size=shape), 1.0),
    "lognormal": (lambda generator, shape: generator.lognormal(size=shape), np.exp(0.5)),
    "collapsing": (collapse, -4.0),
}
#: What the docstrings of the intervals say they cover.
STATED = {
    t_interval: (0.951, 0.960, 0.974, 0.901, 0.840, 0.402),
    sign_flip_interval: (0.952, 0.952, 0.952, 0.906, 0.847, 0.402),
}


def binomial_error(share):
    """Three standard errors of a share of the simulated studies."""
    return 3 * np.sqrt(share * (1 - share) / STUDIES)


@pytest.fixture(scope="module", params=["normal", "lognormal", "collapsing"])
def null_studies(request):
    """Paired differences of nine arms that all equal the baseline, whose own noise they share."""
    generator = np.random.default_rng(20)
    draw, _ = SHAPES[request.param]
    return draw(generator, (STUDIES, ARMS, SEEDS)) - draw(generator, (STUDIES, 1, SEEDS))


def test_t_interval_of_the_textbook_maize():
    mean, low, high = t_interval(MAIZE)
    assert mean == pytest.approx(20.933, abs=1e-3)
    reference = stats.ttest_1samp(MAIZE, 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((reference.low, reference.high))


@pytest.mark.parametrize("n", [3, 6, 10])
def test_t_interval_covers_the_truth_95_times_in_100(n):
    sample = np.random.default_rng(n).normal(0.3, 2.0, size=(STUDIES, n))
    _, low, high = t_interval(sample)
    assert 0.93 <= np.mean((low <= 0.3) & (high >= 0.3)) <= 0.97


@pytest.mark.parametrize(
    ("interval", "shape", "stated"),
    [(interval, *pair) for interval, shares in STATED.items() for pair in zip(SHAPES, shares, strict=True)],
)
def test_an_interval_covers_what_its_docstring_states(interval, shape, stated):
    draw, mean = SHAPES[shape]
    _, low, high = interval(draw(np.random.default_rng(13), (STUDIES, SEEDS)))
    covered = np.mean((low <= mean) & (mean <= high))
    assert covered == pytest.approx(stated, abs=binomial_error(stated))
    assert f"{stated:.1%}" in interval.__doc__
    if shape == "normal":
        assert 0.93 <= covered <= 0.97


def enumerated_subset_means(sample):
    """The mean of every subset that is not empty, sorted, one subset at a time."""
    places = range(len(sample))
    subsets = itertools.chain.from_iterable(itertools.combinations(places, size) for size in range(1, len(sample) + 1))
    return sorted(float(np.mean([sample[place] for place in subset])) for subset in subsets)


@pytest.mark.parametrize(("n", "place"), [(6, 1), (8, 6), (10, 25)])
def test_the_sign_flip_interval_ends_at_hartigans_order_statistics(n, place):
    sample = np.random.default_rng(n).normal(0.4, 1, size=n)
    means = enumerated_subset_means(sample)
    mean, low, high = sign_flip_interval(sample)
    assert float(mean) == pytest.approx(sample.mean())
    assert (float(low), float(high)) == pytest.approx((means[place - 1], means[-place]))


@pytest.mark.parametrize("n", [5, 6, 7, 10, 12, 14])
def test_the_sign_flip_interval_excludes_zero_exactly_where_p_is_below_five_percent(n):
    generator = np.random.default_rng(n)
    shape = (500, n)
    whole = generator.integers(-3, 7, size=shape).astype(float)
    for sample in (generator.normal(0.7, 1, size=shape), generator.exponential(size=shape) - 0.4, whole, whole * 0.1):
        _, low, high = sign_flip_interval(sample)
        rejected = sign_flip_p(sample) < ALPHA
        assert (rejected == ((low > 0) | (high < 0))).all()
        assert rejected.any() == (n >= 6)


@pytest.mark.parametrize("n", [8, 20])
def test_the_sign_flip_interval_holds_what_the_test_does_not_reject(n):
    sample = np.random.default_rng(n).normal(3, 2, size=n)
    _, low, high = (float(number) for number in sign_flip_interval(sample))
    inside, outside = np.array([low + 1e-6, high - 1e-6]), np.array([low - 1e-6, high + 1e-6])
    assert (sign_flip_p(sample - inside[:, np.newaxis]) >= ALPHA).all()
    assert (sign_flip_p(sample - outside[:, np.newaxis]) < ALPHA).all()


def test_too_few_differences_leave_the_sign_flip_interval_open():
    for n in (1, 2, 5):
        mean, low, high = sign_flip_interval(np.arange(1.0, n + 1))
        assert (float(mean), float(low), float(high)) == ((n + 1) / 2, -np.inf, np.inf)
    assert [float(number) for number in sign_flip_interval(np.full(6, 0.5))] == [0.5, 0.5, 0.5]
    _, low, high = sign_flip_interval(np.arange(1.0, 6.0), confidence=0.9)
    assert (float(low), float(high)) == (1, 5)


def test_t_interval_without_variance_or_spread():
    assert [float(number) for number in t_interval([0.5, 0.5, 0.5])] == [0.5, 0.5, 0.5]
    mean, low, high = t_interval([0.5])
    assert mean == 0.5
    assert np.isnan(low)
    assert np.isnan(high)


def test_sign_flip_p_equals_fishers_count_on_the_maize():
    # Fisher counted 1,726 of 32,768 sign choices at least as extreme; above twelve pairs the flips are drawn.
    assert float(sign_flip_p(MAIZE)) == pytest.approx(1726 / 32768, abs=0.007)


@pytest.mark.parametrize("n", [2, 5, 10, 12])
def test_sign_flip_p_equals_full_enumeration(n):
    sample = np.random.default_rng(n).normal(0.4, 1, size=n)
    flips = np.array(list(itertools.product([1, -1], repeat=n)))
    means = np.abs((flips * sample).mean(axis=1))
    assert float(sign_flip_p(sample)) == pytest.approx(np.mean(means >= abs(sample.mean()) - 1e-12))


def test_sign_flip_p_equals_scipys_permutation_test():
    samples = np.random.default_rng(8).normal(0.3, 1, size=(20, 10))
    reference = stats.permutation_test(
        (samples,), lambda x, axis: np.mean(x, axis=axis), permutation_type="samples", n_resamples=1024, axis=-1
    )
    assert sign_flip_p(samples) == pytest.approx(reference.pvalue)


def test_sign_flip_p_counts_ties_that_rounding_hides():
    # Multiples of 0.1 that sum to the same mean in another order differ in their last bits.
    sample = np.array([0.1, 0.2, 0.3, 0.1, 0.2, 0.3, -0.7, 0.4])
    whole = np.array([1, 2, 3, 1, 2, 3, -7, 4], dtype=float)
    assert sign_flip_p(sample) == sign_flip_p(whole)


def test_sign_flip_p_of_degenerate_differences():
    assert float(sign_flip_p(np.zeros(10))) == 1
    assert float(sign_flip_p(np.full(10, 0.25))) == smallest_p(10) == 2 / 1024
    assert float(sign_flip_p([3.0])) == 1


def test_one_input_always_gives_one_p():
    sample = np.random.default_rng(3).normal(size=30)
    assert sign_flip_p(sample) == sign_flip_p(sample)


def test_family_wise_false_positives_stay_below_five_percent(null_studies):
    p = sign_flip_p(null_studies)
    smallest = np.minimum(1, ARMS * p.min(axis=1))  # Holm's first step decides whether anything is found
    assert smallest[:40] == pytest.approx([holm(family).min() for family in p[:40]])
    assert np.mean(smallest < ALPHA) <= 0.061
    # Uncorrected, the test is not timid; ties of collapses against collapses make it so by a little.
    assert 0.04 <= np.mean(p < ALPHA) <= 0.06


def test_holm_of_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]).size == 0


def test_holm_equals_statsmodels_with_ties():
    generator = np.random.default_rng(5)
    for size in (1, 2, 7, 30):
        p = generator.integers(1, 60, size=size) / 512
        assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_mean_below_p_equals_the_one_sided_t_test():
    sample = np.random.default_rng(6).normal(size=(5, 9))
    reference = stats.ttest_1samp(sample, 0.4, axis=-1, alternative="less").pvalue
    assert mean_below_p(sample, 0.4) == pytest.approx(reference)


def test_mean_below_p_without_variance_or_spread():
    assert float(mean_below_p([0.1, 0.1, 0.1], 0.2)) == 0
    assert float(mean_below_p([0.2, 0.2, 0.2], 0.2)) == 1
    assert float(mean_below_p([0.3, 0.3, 0.3], 0.2)) == 1
    assert float(mean_below_p([0.1], 0.2)) == 1


def test_prediction_interval_of_a_worked_example():
    # Mean 3, standard deviation sqrt(2.5), t(0.975, 4) = 2.776, so 3 ± 2.776 × 1.5811 × sqrt(1.2).
    mean, low, high = prediction_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (float(mean), float(low), float(high)) == pytest.approx((3, 3 - 4.8089, 3 + 4.8089), abs=1e-3)


def test_prediction_interval_covers_one_further_value_95_times_in_100():
    sample = np.random.default_rng(11).normal(2.0, 3.0, size=(STUDIES, SEEDS + 1))
    _, low, high = prediction_interval(sample[:, :SEEDS])
    assert 0.936 <= np.mean((low <= sample[:, -1]) & (sample[:, -1] <= high)) <= 0.964


def test_equivalence_is_claimed_at_a_true_effect_of_delta_five_times_in_a_hundred():
    sample = np.random.default_rng(9).normal(1.0, 0.5, size=(STUDIES, SEEDS))
    claimed = np.mean(equivalence_p(sample, 1.0) < ALPHA)
    assert 0.03 <= claimed <= 0.061


@pytest.mark.parametrize(
    ("shape", "sign", "stated"),
    [
        ("t with 3 degrees of freedom", 1, 0.045),
        ("contaminated normal", 1, 0.031),
        ("exponential", 1, 0.133),
        ("lognormal", 1, 0.206),
        ("collapsing", -1, 0.597),
    ],
)
def test_equivalence_at_delta_is_claimed_as_often_as_its_docstring_states(shape, sign, stated):
    draw, mean = SHAPES[shape]
    delta = 4.0
    scale = 1.0 if shape == "collapsing" else 0.3
    sample = delta + sign * scale * (draw(np.random.default_rng(15), (STUDIES, SEEDS)) - mean)
    claimed = np.mean(equivalence_p(sample, delta) < ALPHA)
    assert claimed == pytest.approx(stated, abs=binomial_error(stated))


def test_equivalence_p_is_the_larger_of_two_one_sided_tests():
    sample = np.random.default_rng(2).normal(0.2, 0.6, size=8)
    lower = stats.ttest_1samp(sample, -0.5, alternative="greater").pvalue
    upper = stats.ttest_1samp(sample, 0.5, alternative="less").pvalue
    assert float(equivalence_p(sample, 0.5)) == pytest.approx(max(lower, upper))


def test_equivalence_agrees_with_the_90_percent_interval():
    samples = np.random.default_rng(4).normal(0.3, 0.8, size=(200, 8))
    _, low, high = t_interval(samples, confidence=0.9)
    assert ((equivalence_p(samples, 0.7) < ALPHA) == ((low > -0.7) & (high < 0.7))).all()


def test_equivalence_without_variance_is_certain():
    assert float(equivalence_p([0.2, 0.2, 0.2], 1.0)) == 0
    assert float(equivalence_p([2.0, 2.0, 2.0], 1.0)) == 1
    assert float(equivalence_p([1.0, 1.0, 1.0], 1.0)) == 1
    assert float(equivalence_p([0.0], 1.0)) == 1


def test_probability_superior_counts_ties_half():
    assert float(probability_superior([1.0, 2.0, -1.0, 0.0])) == 0.625


@pytest.mark.parametrize(("n", "num_tests"), [(6, 1), (10, 1), (10, 9), (12, 9)])
def test_the_detectable_effect_is_found_four_times_in_five(n, num_tests):
    effect = detectable_effect(2.0, n, num_tests)
    sample = np.random.default_rng(77).normal(effect, 2.0, size=(STUDIES, n))
    assert np.mean(sign_flip_p(sample) < ALPHA / num_tests) == pytest.approx(0.8, abs=0.04)


def test_too_few_pairs_detect_nothing():
    assert detectable_effect(1.0, 5) == np.inf
    assert detectable_effect(1.0, 8, 9) == np.inf
    assert detectable_effect(0.0, 10, 9) == 0
    assert [smallest_p(n) < ALPHA for n in (5, 6)] == [False, True]
    assert [smallest_p(n, 9) < ALPHA for n in (8, 9)] == [False, True]
