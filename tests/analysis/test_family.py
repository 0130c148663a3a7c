"""The page's one correction: simulated pages of known truth, three studies of three arms against a noisy baseline."""

import numpy as np
import pytest

from analysis.family import page_p
from analysis.inference import ALPHA, holm, sign_flip_p

PAGES, STUDIES, ARMS, SEEDS = 2000, 3, 3, 8
#: 5% and what 2,000 simulated pages may show of it.
MOST = 0.061
DRAW = {
    "normal": lambda generator, shape: generator.normal(size=shape),
    "heavy-tailed": lambda generator, shape: generator.standard_t(3, size=shape),
    "skewed": lambda generator, shape: generator.exponential(size=shape),
}


def pages(kind="normal", effect=None, seed=1):
    """The corrected p of every page, ``(pages, studies, arms)``; arms share the baseline's noise."""
    generator = np.random.default_rng(seed)
    shape = (PAGES, STUDIES, ARMS, SEEDS)
    differences = DRAW[kind](generator, shape) - DRAW[kind](generator, (PAGES, STUDIES, 1, SEEDS))
    if effect is not None:
        differences += np.asarray(effect, dtype=float)[..., None]
    return np.array([page_p(list(page)) for page in differences])


@pytest.mark.parametrize("kind", DRAW)
def test_where_no_arm_differs_anywhere_one_page_in_twenty_says_otherwise(kind):
    wrong = np.mean((pages(kind) < ALPHA).any(axis=(1, 2)))
    assert 0.02 < wrong <= MOST


def test_an_arm_that_is_better_on_one_dataset_only_is_found_there_and_nowhere_else():
    effect = np.zeros((STUDIES, ARMS))
    effect[1, 0] = 4
    found = pages(effect=effect) < ALPHA
    assert found[:, 1, 0].mean() > 0.95
    found[:, 1, 0] = False
    assert found.any(axis=(1, 2)).mean() <= MOST


def test_an_arm_that_is_better_everywhere_is_found_everywhere_and_no_other():
    effect = np.zeros((STUDIES, ARMS))
    effect[:, 0] = 4
    found = pages(effect=effect) < ALPHA
    assert found[:, :, 0].all(axis=1).mean() > 0.95
    assert found[:, :, 1:].any(axis=(1, 2)).mean() <= MOST


def test_clear_effects_stay_clear_where_holm_could_find_none():
    generator = np.random.default_rng(2)
    studies = [generator.normal(size=(7, 10)) - generator.normal(size=(1, 10)) for _ in range(4)]
    for study in studies:
        study[0] += 6
    each = np.concatenate([sign_flip_p(study) for study in studies])
    assert holm(each).min() > ALPHA  # 28 comparisons of ten seeds
    corrected = page_p(studies)
    assert all(p[0] < ALPHA for p in corrected)


def test_one_comparison_needs_no_correction():
    sample = np.random.default_rng(3).normal(0.5, 1, size=(1, 9))
    assert page_p([sample])[0] == pytest.approx(sign_flip_p(sample))


def test_a_correction_never_makes_a_p_smaller_and_never_smaller_than_a_larger_family():
    sample = np.random.default_rng(4).normal(0.7, 1, size=(3, 9))
    own, other = page_p([sample]), page_p([sample, np.random.default_rng(5).normal(size=(4, 9))])
    assert (own[0] >= sign_flip_p(sample) - 1e-12).all()
    assert (other[0] >= own[0] - 1e-12).all()
    assert other[0].max() <= 1


def test_a_seed_without_a_pair_counts_in_the_other_arms():
    sample = np.random.default_rng(6).normal(1, 1, size=(1, 8))
    padded = np.concatenate([sample, [[np.nan]]], axis=1)
    assert page_p([padded])[0] == pytest.approx(page_p([sample])[0])


def test_more_than_twelve_seeds_are_flipped_at_random_and_reach_far_down():
    sample = np.random.default_rng(7).normal(3, 1, size=(2, 20))
    assert page_p([sample])[0].max() < 0.001
    assert page_p([sample])[0].tolist() == page_p([sample])[0].tolist()


@pytest.mark.parametrize("values", [[[1.0]], [[np.nan, np.nan]], [[0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]])
def test_one_pair_none_or_no_difference_at_all_show_nothing(values):
    assert page_p([np.array(values)])[0].tolist() == [1.0]


def test_constant_differences_are_as_sure_as_their_seeds_allow():
    assert page_p([np.full((1, 8), 0.4)])[0].tolist() == [2 / 2**8]


def test_a_study_without_comparisons_changes_nothing():
    sample = np.random.default_rng(8).normal(1, 1, size=(2, 8))
    assert page_p([sample, np.empty((0, 0))])[0] == pytest.approx(page_p([sample])[0])
