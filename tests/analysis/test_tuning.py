import math
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.tuning import count_events, measure_tuning, peak, search_grid

SIMULATED = runpy.run_path(str(Path(__file__).with_name("synthetic_reported.py")))
RATES = np.log10(SIMULATED["RATES"])
STEP = 6 / 11


def record_of(**truth):
    options = {"effects": {"cross_entropy": 0.0, "focal": 0.0}, "seeds": (1,), "epochs": 3, "fall": 30.0}
    return SIMULATED["build_record"](SIMULATED["ReportedTruth"](**(options | truth)))


def tuned(record, arm):
    return measure_tuning(record).query("arm == @arm")


# The peak


def test_the_peak_of_a_parabola_is_found_exactly():
    for top in (-3.1, -2.0, 0.3):
        assert peak(RATES, 80 - 5 * (RATES - top) ** 2) == pytest.approx(top)


def test_the_peak_of_uneven_places_is_that_of_the_parabola_through_three_points():
    places, scores = np.array([-4.0, -3.2, -2.9, -1.0]), np.array([10.0, 70.0, 80.0, 20.0])
    a, b, _ = np.polyfit(places[1:], scores[1:], 2)
    assert peak(places, scores) == pytest.approx(-b / (2 * a))


@pytest.mark.parametrize(("scores", "expected"), [([9, 5, 1], 0), ([1, 5, 9], 2), ([5, 5, 5], 0), ([7], 0)])
def test_at_an_edge_the_peak_is_the_grid_point(scores, expected):
    assert peak(np.arange(len(scores), dtype=float), np.array(scores, dtype=float)) == expected


def test_two_equal_bests_have_their_peak_in_the_middle():
    assert peak(np.arange(4.0), np.array([1.0, 9, 9, 1])) == pytest.approx(1.5)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12))
def test_the_peak_lies_within_half_a_step_of_the_best_point(scores):
    scores = np.array(scores)
    places = np.arange(len(scores), dtype=float)
    assert abs(peak(places, scores) - np.argmax(scores)) <= 0.5 + 1e-9


# From the record


def test_the_tuned_rate_is_recovered_for_every_search_seed():
    frame = tuned(record_of(best_rates={"focal": -1.7}), "focal")
    assert frame["seed"].tolist() == [101, 102, 103]
    assert frame["regime"].unique().tolist() == ["fair"]
    assert frame["tuned_log10_rate"].tolist() == pytest.approx([-1.7] * 3, abs=1e-6)


def test_a_rate_of_summed_gradients_is_that_of_the_mean():
    mean, summed = (record_of(reduction=reduction) for reduction in ("mean", "sum"))
    assert summed.trials["optimizer.learning_rate"].max() == pytest.approx(
        mean.trials["optimizer.learning_rate"].max() / 100
    )
    pd.testing.assert_frame_equal(measure_tuning(summed), measure_tuning(mean))


def test_the_width_is_the_share_of_rates_within_two_points_of_the_best():
    frame = tuned(record_of(best_rates={"focal": RATES[5]}, fall=2 / (2 * STEP) ** 2 * 0.999), "focal")
    assert frame["rate_width"].tolist() == pytest.approx([100 * 5 / 12] * 3)  # two steps to each side
    narrow = tuned(record_of(best_rates={"focal": RATES[5]}, fall=2 / STEP**2 * 1.001), "focal")
    assert narrow["rate_width"].tolist() == pytest.approx([100 / 12] * 3)


def test_diverged_and_collapsed_trials_are_counted_and_none_is_dropped():
    # 80% at -2, less 30 points per squared decade: 10% and less from 1.53 decades away on.
    record = record_of(diverging_rates={"focal": 0.0}, num_test=10_000)
    bound = 0.1 + 3 * math.sqrt(0.09 / 10_000)
    collapsed = sum(0.8 - 0.3 * (rate + 2) ** 2 <= bound for rate in RATES if rate < 0)
    too_high = sum(rate >= 0 for rate in RATES)
    assert count_events(record, "diverged") == {"cross_entropy": (0, 36), "focal": (3 * too_high, 36)}
    assert count_events(record, "no_convergence")["focal"] == (3 * (too_high + collapsed), 36)
    assert tuned(record, "focal")["divergence_rate"].tolist() == pytest.approx([(too_high + collapsed) / 12] * 3)
    grid = search_grid(record)
    assert grid.loc[grid["diverged"] == 1, "val_accuracy"].unique().tolist() == pytest.approx([10])


def test_trials_that_failed_say_nothing_about_their_arm():
    record = record_of()
    failed = record.trials["phase"].eq("search") & record.trials["number"].eq(0)
    trials = record.trials.assign(stop_reason=record.trials["stop_reason"].mask(failed, "failed"))
    assert count_events(replace(record, trials=trials), "diverged") == {"cross_entropy": (0, 35), "focal": (0, 35)}


def test_an_ordinary_search_is_no_grid():
    record = record_of()
    older = replace(record, trials=record.trials.assign(regime="search"))
    assert measure_tuning(older).empty
    assert count_events(older, "diverged") == {}
    assert measure_tuning(record_of(regimes=("stated",))).empty


def test_an_unknown_event_is_refused():
    with pytest.raises(ValueError, match="'pruned' is no event of the search; there are diverged, no_convergence"):
        count_events(record_of(), "pruned")
