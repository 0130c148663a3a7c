import math

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.meta_analysis import combine_effects

from analysis.across.effects import BETTER, EQUAL, UNCLEAR, WORSE, outcome, pooled_effects, random_effects, welch_p
from analysis.compare import compare_to_baseline

STUDIES, SEEDS = 2000, 10


def outcomes(result, arm):
    rows = result.scores[result.scores["arm"] == arm]
    return dict(zip(rows["study"], rows["outcome"], strict=True))


def test_what_is_true_of_each_dataset_is_found_on_it(result_of):
    result = result_of("digits-1", "letters", "clothes")
    assert outcomes(result, "focal") == {"digits-1": BETTER, "letters": BETTER, "clothes": WORSE}
    assert set(outcomes(result, "l1").values()) == {WORSE}
    assert set(outcomes(result, "hinge").values()) == {EQUAL}


def test_differences_are_those_of_each_studys_own_report(compare, result_of):
    result = result_of("digits-1", "letters")
    for study in compare("digits-1", "letters").studies:
        own = compare_to_baseline(study.findings.record.trials, "cross_entropy", study.delta).set_index("arm")
        rows = result.scores[(result.scores["study"] == study.name) & ~result.scores["baseline"]].set_index("arm")
        for column in ("difference_points", "low_points", "high_points", "p"):
            assert rows[column].to_dict() == pytest.approx(own.loc[rows.index, column].to_dict())
        assert (rows["p_page"] >= rows["p"] - 1e-12).all()


def test_the_baseline_and_its_twin_have_no_corrected_p(result_of):
    scores = result_of("twins", "letters").scores
    assert scores.loc[scores["baseline"], ["p_page", "difference_points"]].isna().all(axis=None)


def test_an_outcome_is_by_the_corrected_p_then_by_equivalence():
    assert outcome(1.0, 0.01, equivalent=True) == BETTER
    assert outcome(-1.0, 0.01, equivalent=False) == WORSE
    assert outcome(1.0, 0.2, equivalent=True) == EQUAL
    assert outcome(1.0, 0.2, equivalent=False) == UNCLEAR


def test_an_effect_that_luck_of_the_search_may_explain_is_open_however_sure_its_p():
    assert outcome(1.0, 0.01, equivalent=False, lucky=True) == UNCLEAR
    assert outcome(0.1, 0.2, equivalent=True, lucky=True) == EQUAL


@pytest.mark.parametrize("scales", [(1.0, 1.0), (0.5, 2.0), (0.5, 1.0, 3.0)])
def test_one_effect_everywhere_is_called_different_once_in_twenty(scales):
    generator = np.random.default_rng(len(scales))
    found = [welch_p([generator.normal(1, scale, SEEDS) for scale in scales]) < 0.05 for _ in range(STUDIES)]
    assert 0.02 < np.mean(found) <= 0.061


def test_different_effects_are_called_different():
    generator = np.random.default_rng(3)
    found = [welch_p([generator.normal(0, 1, SEEDS), generator.normal(2, 1, SEEDS)]) < 0.05 for _ in range(200)]
    assert np.mean(found) > 0.95


def test_welch_says_nothing_of_one_value_or_of_no_spread():
    assert math.isnan(welch_p([np.array([1.0]), np.array([1.0, 2.0])]))
    assert math.isnan(welch_p([np.array([1.0, 1.0]), np.array([1.0, 2.0])]))


def test_the_effect_that_turns_is_the_one_found_to_differ(result_of):
    changes = result_of("digits-1", "letters", "clothes").effect_changes.set_index("arm")
    assert changes.loc["focal", "p_holm"] < 0.001
    assert changes.loc[["hinge", "l1"], "p_holm"].min() > 0.05
    assert changes.loc["focal", "smallest"] < -1 < 1 < changes.loc["focal", "largest"]


def simulated(k, tau, seed):
    """Effects of 2,000 pages over k datasets, truth 1, SD tau between datasets, ten seeds of unequal noise."""
    generator = np.random.default_rng(seed)
    truth = 1 + tau * generator.normal(size=(STUDIES, k))
    seeds = truth[..., None] + np.linspace(0.5, 1.5, k)[:, None] * generator.normal(size=(STUDIES, k, SEEDS))
    return seeds.mean(axis=-1), seeds.var(axis=-1, ddof=1) / SEEDS


@pytest.mark.parametrize(("k", "tau"), [(3, 0.0), (3, 1.0), (5, 0.3), (8, 1.0)])
def test_the_random_effects_interval_covers_where_the_normal_one_does_not(k, tau):
    effects, variances = simulated(k, tau, seed=k)
    rows = [random_effects(*page) for page in zip(effects, variances, strict=True)]
    covered = np.mean([row["low"] <= 1 <= row["high"] for row in rows])
    # Where datasets do not differ at all it covers more: it does not trust so few of them to say so.
    assert covered >= 0.93
    if tau:
        assert covered <= 0.975
    if (k, tau) == (3, 1.0):
        normal = [combine_effects(*page).conf_int(use_t=False)[1] for page in zip(effects, variances, strict=True)]
        assert np.mean([low <= 1 <= high for low, high in normal]) < 0.85


def test_the_next_datasets_interval_holds_where_datasets_differ():
    effects, variances = simulated(5, 1.0, seed=5)
    following = 1 + np.random.default_rng(6).normal(size=STUDIES)
    rows = [random_effects(*page) for page in zip(effects, variances, strict=True)]
    held = [row["next_low"] <= value <= row["next_high"] for row, value in zip(rows, following, strict=True)]
    assert 0.92 <= np.mean(held) <= 0.97


def test_random_effects_of_equal_effects_find_no_heterogeneity():
    row = random_effects(np.full(4, 0.7), np.full(4, 0.01))
    assert (row["mean"], row["tau2"], row["i2"]) == pytest.approx((0.7, 0, 0))
    assert row["low"] == pytest.approx(0.7 - 3.182 * 0.05, abs=1e-3)  # t with 3 degrees of freedom


def test_i2_and_tau2_of_a_hand_computed_example():
    # Q = Σ(y - 2)² / v = (4 + 0 + 4) / 0.5 = 16; equal variances: τ² = s² - v = 4 - 0.5.
    row = random_effects(np.array([0.0, 2.0, 4.0]), np.full(3, 0.5))
    assert row["i2"] == pytest.approx(1 - 2 / 16)
    assert row["tau2"] == pytest.approx(3.5, abs=1e-4)


def scores_of(rows):
    frame = pd.DataFrame(rows, columns=["arm", "dataset", "difference_points", "sd_points", "num_pairs"])
    return frame.assign(baseline=False, twin=False)


def test_there_is_no_mean_over_two_datasets_and_three_studies_of_two_are_two(result_of):
    assert result_of("digits-1", "letters").pooled.empty
    assert result_of("digits-1", "digits-2", "letters").pooled.empty
    assert set(result_of("digits-1", "letters", "clothes").pooled["arm"]) == {"focal", "hinge", "l1"}


def test_studies_of_one_dataset_weigh_as_one():
    three = [("a", name, effect, 1.0, 10) for name, effect in zip("xyz", (0.0, 1.0, 2.0), strict=True)]
    doubled = [*three, ("a", "x", 0.0, 1.0, 10)]
    pd.testing.assert_frame_equal(pooled_effects(scores_of(three)), pooled_effects(scores_of(doubled)))


def test_an_effect_without_spread_or_with_one_seed_has_no_mean():
    for spread in (0.0, math.nan):
        rows = [("a", "x", 0.0, 1.0, 10), ("a", "y", 1.0, 1.0, 10), ("a", "z", 2.0, spread, 10)]
        assert pooled_effects(scores_of(rows)).empty
