"""Bands of a distribution function hold as often as they say, to the digit where that can be worked out."""

from itertools import pairwise

import numpy as np
import pytest
from opda.nonparametric import _ld_band_weights
from scipy import stats

from analysis.band import chance_between, equal_tailed_band, kolmogorov_band


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.2, 0.9), (0.0, 0.3), (0.7, 1.0)])
def test_one_draw_lies_between_its_bounds_as_often_as_they_are_wide(low, high):
    assert chance_between(np.array([low]), np.array([high])) == pytest.approx(high - low)


@pytest.mark.parametrize("size", [2, 7, 60])
def test_draws_that_all_have_the_same_bounds_are_independent(size):
    low, high = np.full(size, 0.1), np.full(size, 0.95)
    assert chance_between(low, high) == pytest.approx(0.85**size)


@pytest.mark.parametrize(("size", "distance"), [(1, 0.6), (5, 0.4), (30, 0.2), (100, 0.13)])
def test_bounds_of_one_width_are_kept_as_often_as_kolmogorov_says(size, distance):
    ranks = np.arange(1, size + 1)
    low, high = np.clip(ranks / size - distance, 0, 1), np.clip((ranks - 1) / size + distance, 0, 1)
    assert chance_between(low, high) == pytest.approx(stats.kstwo(size).cdf(distance), abs=1e-9)


def test_bounds_of_any_form_are_kept_as_often_as_draws_do():
    generator = np.random.default_rng(40)
    low = np.array([0.0, 0.0, 0.15, 0.15, 0.55, 0.56])
    high = np.array([0.35, 0.5, 0.6, 0.9, 0.9, 1.0])
    draws = np.sort(generator.random((200_000, 6)), axis=1)
    kept = ((low <= draws) & (draws <= high)).all(axis=1).mean()
    assert chance_between(low, high) == pytest.approx(kept, abs=4 * np.sqrt(0.25 / 200_000))


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("size", [1, 2, 16, 100, 1000])
def test_the_whole_band_holds_with_the_probability_asked_for(size, confidence):
    least, most = equal_tailed_band(size, confidence)
    assert chance_between(least[1:], most[:-1]) == pytest.approx(confidence, abs=1e-9)
    for ends in (least, most):
        assert len(ends) == size + 1
        assert all(one < other for one, other in pairwise(ends))
    # Each end is missed equally often at each order statistic, and below as often as above.
    tails = stats.beta(np.arange(1, size + 1), size - np.arange(size))
    missed = np.concatenate([tails.cdf(least[1:]), tails.sf(most[:-1])])
    assert missed == pytest.approx(missed[0])
    assert least == pytest.approx(1 - most[::-1])


@pytest.mark.parametrize("size", [3, 12, 40])
def test_the_band_is_what_simulating_it_comes_to(size):
    simulated = _ld_band_weights(size, 0.95, "equal_tailed", np.random.default_rng(1), n_jobs=1)
    for ours, theirs in zip(equal_tailed_band(size, 0.95), simulated, strict=True):
        assert ours == pytest.approx(theirs, abs=2e-3)


@pytest.mark.parametrize("size", [1, 10, 5000])
def test_kolmogorovs_band_is_of_one_width(size):
    least, most = kolmogorov_band(size, 0.95)
    inside = (least > 0) & (most < 1)
    assert np.ptp((most - least)[inside]) == pytest.approx(0) if inside.any() else size == 1
    assert least[0] == 0
    assert most[-1] == 1
