import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis import curve_measures as measures
from analysis.curve_measures import Curves, measure_curves
from analysis.measures import CURVE_MEASURES

NAN = math.nan
accuracies = st.lists(st.floats(0, 100), min_size=1, max_size=30).map(np.array)
losses = st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=30).map(np.array)


def array(*values):
    return np.array(values, dtype=float)


def curves_of(accuracy, loss=None, *, epochs=None, seconds=None):
    """Curves whose splits all show the same accuracy and loss."""
    accuracy = np.array(accuracy, dtype=float)
    loss = 100 - accuracy if loss is None else np.array(loss, dtype=float)
    seconds = np.ones(len(accuracy)) if seconds is None else np.array(seconds, dtype=float)
    return Curves(epochs or len(accuracy), accuracy, loss, accuracy, loss, accuracy, loss, seconds)


def random_walk(seed, epochs=40):
    return np.random.default_rng(seed).normal(0.2, 1, epochs).cumsum() + 50


def test_every_curve_measure_is_measured():
    assert set(measure_curves(curves_of(random_walk(0)), 50.0)) == set(CURVE_MEASURES)


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_very_short_trial_has_every_measure_and_no_warning(epochs):
    row = measure_curves(curves_of([50.0, 60.0, 70.0][:epochs]), 55.0)
    assert row["area"] == pytest.approx([50, 55, 60][epochs - 1])
    assert row["convergence_epoch"] == epochs + 1
    assert math.isnan(row["trend_accuracy"]) == (epochs < 3)


def test_curves_without_a_single_value_measure_nothing():
    empty = np.full(4, NAN)
    row = measure_curves(Curves(4, *[empty] * 7), 55.0)
    assert all(math.isnan(value) or name.endswith(("_missed", "_epochs", "to_target", "dip", "epoch"))
               for name, value in row.items())  # fmt: skip
    assert row["target_missed"] == row["convergence_missed"] == 1


# Area


@given(accuracies)
def test_the_area_lies_between_the_lowest_and_the_highest_accuracy(values):
    area = measure_curves(curves_of(values), NAN)["area"]
    assert values.min() - 1e-9 <= area <= values.max() + 1e-9


@pytest.mark.parametrize(("epochs", "counted"), [(5, 1), (10, 1), (19, 1), (20, 2), (40, 4)])
def test_the_early_area_is_over_the_first_tenth_of_the_planned_epochs(epochs, counted):
    values = random_walk(1, epochs)
    assert measure_curves(curves_of(values), NAN)["early_area"] == pytest.approx(sum(values[:counted]) / counted)


def test_the_early_area_of_a_diverged_trial_is_over_the_epochs_that_exist():
    assert measure_curves(curves_of([30, 10], epochs=40), NAN)["early_area"] == 20


# Fluctuation


def sd_of_steps(values):
    """By explicit loops."""
    steps = [after - before for before, after in pairwise(values)]
    middle = sum(steps) / len(steps)
    return math.sqrt(sum((step - middle) ** 2 for step in steps) / (len(steps) - 1))


@pytest.mark.parametrize(("epochs", "second_half_from"), [(6, 3), (7, 3), (40, 20), (41, 20)])
def test_fluctuation_is_the_deviation_of_the_steps_in_the_second_half(epochs, second_half_from):
    values = random_walk(2, epochs)
    row = measure_curves(curves_of(values), NAN)
    expected = sd_of_steps(values[second_half_from:])
    for name in ("fluctuation", "train_fluctuation", "held_out_fluctuation"):
        assert row[name] == pytest.approx(expected)


@pytest.mark.parametrize(("epochs", "counted"), [(5, 3), (15, 3), (20, 4), (200, 40)])
def test_early_fluctuation_is_over_the_first_fifth_and_at_least_three_epochs(epochs, counted):
    values = random_walk(3, epochs)
    assert measure_curves(curves_of(values), NAN)["early_fluctuation"] == pytest.approx(sd_of_steps(values[:counted]))


def test_fluctuation_worked_by_hand():
    assert measures.fluctuation(array(1, 3, 2, 4)) == pytest.approx(math.sqrt(3))  # steps 2, -1, 2: mean 1, 6 / 2
    assert math.isnan(measures.fluctuation(array(1, 2)))


@given(st.floats(-5, 5), st.integers(3, 30))
def test_a_steady_climb_does_not_fluctuate(step, epochs):
    assert measures.fluctuation(step * np.arange(epochs)) == pytest.approx(0, abs=1e-9)


# Target


def test_epochs_and_seconds_to_target_by_hand():
    row = measure_curves(curves_of([50, 60, 70, 69, 71], seconds=[3, 1, 1, 1, 1]), 70.0)
    assert (row["epochs_to_target"], row["seconds_to_target"], row["target_missed"]) == (3, 5, 0)


def test_a_missed_target_is_censored_at_one_epoch_more():
    row = measure_curves(curves_of([50, 60, 70, 69], seconds=[3, 1, 1, 1]), 70.5)
    assert (row["epochs_to_target"], row["target_missed"]) == (5, 1)
    assert row["seconds_to_target"] == pytest.approx(6 * 5 / 4)


def test_a_diverged_trial_misses_a_target_of_the_planned_epochs_unless_reached_before():
    missed = measure_curves(curves_of([50, 60, 10], epochs=40, seconds=[2, 2, 2]), 61.0)
    assert (missed["epochs_to_target"], missed["seconds_to_target"], missed["target_missed"]) == (41, 82, 1)
    reached = measure_curves(curves_of([50, 60, 10], epochs=40, seconds=[2, 2, 2]), 60.0)
    assert (reached["epochs_to_target"], reached["seconds_to_target"], reached["target_missed"]) == (2, 4, 0)


def test_without_a_target_nothing_is_timed_to_it():
    row = measure_curves(curves_of([50, 60]), NAN)
    assert all(math.isnan(row[name]) for name in ("epochs_to_target", "seconds_to_target", "target_missed"))


@given(accuracies, st.floats(0, 100), st.floats(0, 50))
def test_epochs_to_target_never_rise_when_the_target_falls(values, target, less):
    strict, lenient = (measures.first_at_least(values, goal, len(values)) for goal in (target, target - less))
    assert lenient[0] <= strict[0] <= len(values) + 1
    assert strict[1] == (strict[0] == len(values) + 1)


# Convergence and plateau


def converged_by_loop(loss, epochs):
    changes = {epoch: 100 * (loss[epoch - 1] - loss[epoch - 2]) / loss[epoch - 2] for epoch in range(2, len(loss) + 1)}
    for epoch in range(2, len(loss) - 1):
        if all(abs(changes[later]) < 1 for later in (epoch, epoch + 1, epoch + 2)):
            return epoch
    return epochs + 1


def test_convergence_worked_by_hand():
    #          epoch 1  2     3   4     5      6      7
    loss = array(100, 99.5, 90, 89.5, 89.2, 89.0, 88.9)  # changes -.5, -9.5, -.56, -.34, -.22, -.11 percent
    assert measures.convergence_epoch(loss, 7) == (4, 0)
    assert measures.convergence_epoch(loss[:5], 7) == (8, 1)
    assert measures.convergence_epoch(array(5, 4, 3), 3) == (4, 1)


@given(losses)
def test_convergence_is_that_of_the_definition(loss):
    assert measures.convergence_epoch(loss, len(loss))[0] == converged_by_loop(loss, len(loss))


@given(st.integers(0, 10_000))
def test_convergence_is_that_of_the_definition_where_changes_are_small(seed):
    loss = np.exp(np.random.default_rng(seed).normal(0, 0.008, 30).cumsum())
    assert measures.convergence_epoch(loss, 30)[0] == converged_by_loop(loss, 30)


def test_a_loss_that_is_not_finite_does_not_converge():
    assert measures.convergence_epoch(array(1, 1, 1, NAN, 1, 1, 1), 7) == (8, 1)
    assert measures.convergence_epoch(array(1, 0, 0, 0, 0), 5) == (3, 0)


def test_plateau_epochs_by_hand():
    assert measures.plateau_epochs(array(2, 2, 1.96, 1.9, 1.5), 5) == 4
    assert measures.plateau_epochs(array(2, 2, 1.96), 5) == 6
    assert measures.plateau_epochs(array(NAN, 1, 1), 5) == 6


# Trends and slopes


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.8]), min_size=3, max_size=30))
def test_the_trend_is_spearmans_correlation_also_with_ties(values):
    found = measures.trend(np.array(values))
    if len(set(values)) == 1:
        assert found == 0
    else:
        assert found == pytest.approx(stats.spearmanr(range(len(values)), values).statistic)


@given(accuracies.filter(lambda values: len(values) > 2))
def test_a_trend_lies_between_minus_one_and_one(values):
    assert -1 - 1e-9 <= measures.trend(values) <= 1 + 1e-9


def test_a_trend_leaves_out_epochs_without_a_value():
    values = array(3, NAN, 2, 2.5, NAN, 1)
    assert measures.trend(values) == pytest.approx(stats.spearmanr([1, 3, 4, 6], [3, 2, 2.5, 1]).statistic)
    assert math.isnan(measures.trend(array(1, NAN, 2)))


def test_late_trends_are_over_the_second_half():
    loss = array(9, 8, 7, 6, 1, 2, 3, 4)
    row = measure_curves(curves_of(np.zeros(8), loss), NAN)
    assert row["late_trend_val_loss"] == row["late_trend_train_loss"] == pytest.approx(1)
    assert row["trend_loss"] == row["trend_train_loss"] == pytest.approx(stats.spearmanr(range(8), loss).statistic)


@pytest.mark.parametrize("epochs", [8, 9, 40])
def test_slopes_are_those_of_a_linear_regression(epochs):
    values = random_walk(4, epochs)
    half = epochs // 2
    row = measure_curves(curves_of(values), NAN)
    first = stats.linregress(range(1, half + 1), values[:half]).slope
    second = stats.linregress(range(half + 1, epochs + 1), values[half:]).slope
    assert row["slope_first_half"] == pytest.approx(first)
    assert row["slope_second_half"] == pytest.approx(second)
    assert row["slowdown"] == pytest.approx(first - second)


# Ends


def test_rise_and_best_minus_last_by_hand():
    row = measure_curves(curves_of([50, 80, 70], [2, 1, 1.5]), NAN)
    assert row["val_loss_rise"] == pytest.approx(0.5)
    assert row["best_minus_last"] == 10
    assert math.isnan(measures.rise(array(1, 0, 1)))


@given(losses)
def test_a_rise_is_never_negative(loss):
    assert measures.rise(loss) >= 0


@pytest.mark.parametrize(("lowest", "epochs", "late"), [(20, 20, 1), (19, 20, 1), (18, 20, 0), (5, 5, 1), (4, 5, 0)])
def test_the_lowest_loss_is_late_in_the_last_tenth(lowest, epochs, late):
    loss = np.ones(epochs)
    loss[lowest - 1] = 0.5
    assert measures.lowest_is_late(loss, epochs) == late


def test_a_diverged_trial_never_has_its_lowest_loss_late():
    assert measures.lowest_is_late(array(3, 2, 1, NAN), 40) == 0


DIP = {
    "recovers above": ([50, 60, 55, 58, 61], [5, 4, 6, 5, 3], 1),
    "by exactly a point": ([50, 60, 59, 61], [5, 4, 4.5, 3], 1),
    "by less than a point": ([50, 60, 59.1, 61], [5, 4, 4.5, 3], 0),
    "never above again": ([50, 60, 55, 60], [5, 4, 6, 3], 0),
    "loss goes on falling": ([50, 60, 55, 61], [5, 4, 3.5, 3], 0),
    "loss stays up": ([50, 60, 55, 61], [5, 4, 6, 7], 0),
    "second of two falls": ([50, 49.5, 51, 60, 50, 65], [5, 6, 4, 3, 4, 2], 1),
    "only a climb": ([50, 60, 70], [3, 2, 1], 0),
    "loss unknown": ([50, 60, 55, 61], [NAN] * 4, 0),
}


@pytest.mark.parametrize(("accuracy", "loss", "dips"), DIP.values(), ids=DIP)
def test_a_dip_falls_by_a_point_under_a_loss_peak_and_recovers(accuracy, loss, dips):
    assert measures.has_dip(array(*accuracy), array(*loss)) == dips


def test_rounding_of_fractions_does_not_hide_a_dip_of_one_point():
    assert measures.has_dip(100 * array(0.5, 0.57, 0.56, 0.58), array(5, 4, 6, 3)) == 1


# Times


def test_epoch_seconds_are_the_median_without_the_first():
    row = measure_curves(curves_of([1, 2, 3, 4], seconds=[10, 1, 3, 2]), NAN)
    assert row["epoch_seconds"] == 2
    assert row["log_epoch_seconds"] == pytest.approx(math.log(2))
    assert row["log_total_seconds"] == pytest.approx(math.log(16))
    assert measures.epoch_seconds(array(4)) == 4


def test_the_total_time_of_a_diverged_trial_is_that_of_its_planned_epochs():
    row = measure_curves(curves_of([1, 2], seconds=[1, 3], epochs=10), NAN)
    assert row["log_total_seconds"] == pytest.approx(math.log(20))


def test_each_measure_reads_the_split_it_names():
    base = curves_of(random_walk(5))
    for name, moved in {
        "fluctuation": "val_accuracy",
        "early_fluctuation": "val_accuracy",
        "epochs_to_target": "val_accuracy",
        "train_fluctuation": "train_accuracy",
        "trend_train_accuracy": "train_accuracy",
        "held_out_fluctuation": "held_out_accuracy",
        "area": "held_out_accuracy",
        "trend_accuracy": "held_out_accuracy",
        "best_minus_last": "held_out_accuracy",
        "slowdown": "held_out_accuracy",
        "trend_loss": "held_out_loss",
        "trend_train_loss": "train_loss",
        "late_trend_train_loss": "train_loss",
        "late_trend_val_loss": "val_loss",
        "val_loss_rise": "val_loss",
    }.items():
        other = measure_curves(dataclasses.replace(base, **{moved: random_walk(6) + 20}), 55.0)
        unmoved = {field.name for field in dataclasses.fields(Curves)} - {moved, "epochs", "seconds"}
        untouched = measure_curves(dataclasses.replace(base, **dict.fromkeys(unmoved, random_walk(6) + 20)), 55.0)
        reference = measure_curves(base, 55.0)
        assert other[name] != reference[name], name
        assert untouched[name] == reference[name], name
