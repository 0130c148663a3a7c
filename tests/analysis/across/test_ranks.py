import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.across.ranks import agreement, critical_difference, friedman_p, inseparable, smallest_friedman_p
from analysis.inference import ALPHA


def ranks_of(n, k, seed, size=()):
    return stats.rankdata(np.random.default_rng(seed).normal(size=(*size, n, k)), axis=-1)


@pytest.mark.parametrize(("n", "k"), [(2, 3), (3, 3), (4, 3)])
def test_friedman_p_equals_full_enumeration(n, k):
    observed = ranks_of(n, k, seed=n)
    orders = list(itertools.permutations(range(1, k + 1)))
    sums = np.array([np.sum(choice, axis=0) for choice in itertools.product(orders, repeat=n)])
    spread = np.sum((sums - sums.mean()) ** 2, axis=1)
    mine = np.sum((observed.sum(axis=0) - n * (k + 1) / 2) ** 2)
    assert friedman_p(observed) == pytest.approx(np.mean(spread >= mine - 1e-9), abs=0.015)


def test_friedman_p_nears_scipys_chi_squared_over_many_datasets():
    scores = np.random.default_rng(4).normal([0, 0, 0.1, 0.4], size=(60, 4))
    reference = stats.friedmanchisquare(*scores.T).pvalue
    assert 0.0005 < reference < 0.2
    assert friedman_p(stats.rankdata(scores, axis=1)) == pytest.approx(reference, abs=0.01)


def test_scipys_chi_squared_would_be_wrong_for_three_datasets():
    agreed = np.tile([1.0, 2.0, 3.0], (3, 1))
    assert stats.friedmanchisquare(*agreed.T).pvalue == pytest.approx(0.0498, abs=1e-4)
    assert friedman_p(agreed) == pytest.approx(1 / 36, abs=0.005)


@pytest.mark.parametrize(("n", "k"), [(2, 4), (3, 3), (5, 4)])
def test_equal_arms_get_a_small_friedman_p_once_in_twenty_at_most(n, k):
    p = [friedman_p(ranks) for ranks in ranks_of(n, k, seed=10 * n + k, size=(300,))]
    assert np.mean(np.array(p) < ALPHA) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_the_smallest_p_is_what_full_agreement_gives_and_no_less():
    for n, k in [(2, 2), (3, 3), (2, 5)]:
        floor = smallest_friedman_p(n, k)
        assert floor == pytest.approx(math.factorial(k) ** (1 - n))
        assert floor <= friedman_p(np.tile(np.arange(1.0, k + 1), (n, 1))) <= floor + 0.01


def test_one_dataset_is_no_test():
    assert friedman_p(np.array([[1.0, 2.0, 3.0]])) == 1
    assert math.isnan(agreement(np.array([[1.0, 2.0, 3.0]])))


def test_kendalls_w_of_full_agreement_and_of_opposite_orders():
    assert agreement(np.tile([1.0, 2.0, 3.0, 4.0], (5, 1))) == pytest.approx(1)
    assert agreement(np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])) == pytest.approx(0)


def test_the_critical_difference_of_demsars_example():
    # Demšar 2006, section 3.2.2: four classifiers, fourteen data sets, CD = 2.569 √(4·5 / (6·14)) = 1.25.
    assert critical_difference(14, 4) == pytest.approx(1.25, abs=0.005)


def demsar():
    """Demšar 2006, table 6: AUC of C4.5 and its variants; mean ranks 3.143, 2.000, 2.893, 1.964."""
    rows = [
        (0.763, 0.768, 0.771, 0.798), (0.599, 0.591, 0.590, 0.569), (0.954, 0.971, 0.968, 0.967),
        (0.628, 0.661, 0.654, 0.657), (0.882, 0.888, 0.886, 0.898), (0.936, 0.931, 0.916, 0.931),
        (0.661, 0.668, 0.609, 0.685), (0.583, 0.583, 0.563, 0.625), (0.775, 0.838, 0.866, 0.875),
        (1.000, 1.000, 1.000, 1.000), (0.940, 0.962, 0.965, 0.962), (0.619, 0.666, 0.614, 0.669),
        (0.972, 0.981, 0.9751, 0.975), (0.957, 0.978, 0.946, 0.970),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"])


def test_demsars_example_ranks_tests_and_bars():
    ranks = demsar().rank(axis=1, ascending=False)
    assert ranks.mean().round(3).tolist() == [3.143, 2.0, 2.893, 1.964]
    p = friedman_p(ranks.to_numpy())
    # Demšar's χ² = 9.28 leaves ties uncorrected; SciPy counts them, as shuffling does.
    assert p == pytest.approx(stats.friedmanchisquare(*demsar().to_numpy().T).pvalue, abs=0.008)
    order = ["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]
    # No difference of mean ranks reaches 1.25: Demšar finds none by Nemenyi's test either.
    assert inseparable(demsar()[order], p) == ((0, 3),)


def test_bars_join_only_what_cannot_be_told_apart():
    generator = np.random.default_rng(9)
    scores = pd.DataFrame(generator.normal(size=(20, 4)) * 0.3 + [3.0, 3.0, 1.0, 1.0], columns=list("abcd"))
    order = scores.rank(axis=1, ascending=False).mean().sort_values().index
    assert inseparable(scores[order], p=0.001) == ((0, 1), (2, 3))
    assert inseparable(scores[order], p=0.2) == ((0, 3),)  # nothing is looked at where the ranks as a whole say nothing


def test_equal_arms_are_told_apart_once_in_twenty_at_most():
    generator = np.random.default_rng(11)
    wrong = 0
    for scores in generator.normal(size=(200, 6, 4)):
        frame = pd.DataFrame(scores)
        ranks = frame.rank(axis=1, ascending=False)
        ordered = frame[ranks.mean().sort_values().index]
        wrong += inseparable(ordered, friedman_p(ranks.to_numpy())) != ((0, 3),)
    assert wrong / 200 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)


def test_studies_of_one_dataset_are_one_block(result_of):
    ranking = result_of("digits-1", "digits-2", "letters").ranking
    assert ranking.num_datasets == 2
    assert list(ranking.ranks.columns) == ["arm", "mean_rank", "digits", "letters"]
    assert ranking.ranks["arm"].iloc[0] == "focal"
    assert ranking.ranks["arm"].iloc[-1] == "l1"
    assert result_of("digits-1", "digits-2").ranking.num_datasets == 1
    assert result_of("digits-1", "digits-2").ranking.p == 1


def test_the_ranks_are_of_the_means_on_record(result_of):
    result = result_of("digits-1", "letters", "clothes")
    wide = result.scores.pivot_table(index="arm", columns="dataset", values="accuracy")
    expected = wide.rank(ascending=False)
    shown = result.ranking.ranks.set_index("arm")
    for dataset in expected:
        assert shown[dataset].to_dict() == expected[dataset].to_dict()
    assert shown["mean_rank"].to_dict() == pytest.approx(expected.mean(axis=1).to_dict())


def test_a_twin_of_the_baseline_is_not_ranked_and_one_arm_has_no_rank(result_of):
    assert set(result_of("twins", "hostile-2").ranking.ranks["arm"]) == {"cross_entropy", "focal"}
    assert result_of("digits-1", "alone").ranking is None


def test_it_says_how_many_datasets_it_would_take(result_of):
    ranking = result_of("digits-1", "stopped").ranking  # two arms
    assert ranking.smallest_p == 0.5
    assert ranking.num_for_any == 6  # 2 / 2⁶ < 0.05
    assert ranking.critical_difference == pytest.approx(1.96 * math.sqrt(2 * 3 / (6 * 2)), abs=0.001)
