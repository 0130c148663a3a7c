import math
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from analysis.finals import (
    calibration_scores,
    compare_values,
    corruption_drops,
    corruption_points,
    final_runs,
    pool_bins,
    pool_curves,
    reliability_bins,
)
from trainables.metrics import calibration

SYNTHETIC = runpy.run_path(str(Path(__file__).with_name("synthetic_final.py")))
build = SYNTHETIC["build_final_record"]


def test_a_curve_starts_at_the_accuracy_on_its_own_images():
    # The whole test split is easier than the images of the curves: the area tells theirs.
    record = build({"base": {1: {"accuracy": 0.7, "drop": 0.4, "test_accuracy": 0.75}}})
    points = corruption_points(record).set_index(["corruption", "severity"])["accuracy"]
    assert points[("gaussian_noise", 0.0)] == pytest.approx(0.7)
    assert points[("blur", 0.0)] == pytest.approx(0.7)
    assert points[("gaussian_noise", 0.5)] == pytest.approx(0.5)
    without = replace(record, trials=record.trials.drop(columns="test_corruption_area"))
    assert corruption_points(without).query("severity == 0")["accuracy"].unique().tolist() == [0.75]


def test_pooled_curves_are_means_with_students_interval():
    scores = [0.80, 0.83, 0.79, 0.84]
    record = build({"base": {seed: {"accuracy": score, "drop": 0.5} for seed, score in enumerate(scores)}})
    curves = pool_curves(corruption_points(record)).set_index(["corruption", "severity"])
    row = curves.loc[("gaussian_noise", 0.2)]
    lost = np.array(scores) - 0.1
    low, high = stats.t.interval(0.95, 3, lost.mean(), stats.sem(lost))
    assert row[["mean", "low", "high"]].tolist() == pytest.approx([lost.mean(), low, high])
    assert row["num_seeds"] == 4
    assert set(curves.index.get_level_values(0)) == set(SYNTHETIC["SEVERITIES"])


def test_the_mean_loss_of_gaussian_noise_is_the_recorded_area():
    record = build({"base": {1: {"drop": 0.3}}, "other": {1: {"drop": 0.1}}})
    drops = corruption_drops(corruption_points(record)).set_index(["arm", "corruption"])["value"]
    recorded = record.trials.set_index("arm")["test_corruption_area"] * 100
    for arm in ("base", "other"):
        assert drops[arm, "gaussian_noise"] == pytest.approx(recorded[arm])
    assert drops["base", "blur"] == pytest.approx(15)  # a straight fall by 30 points loses half of them on average


def test_a_diverged_seed_guesses_at_every_severity_and_has_nothing_to_lose():
    record = build({"base": {1: {}, 2: {"diverged": True}}})
    points = corruption_points(record)
    assert points.query("seed == 2")["accuracy"].tolist() == [0.1] * len(points.query("seed == 1"))
    assert pool_curves(points)["num_diverged"].unique().tolist() == [1]
    assert corruption_drops(points)["seed"].unique().tolist() == [1]
    assert reliability_bins(record)["seed"].unique().tolist() == [1]


def test_of_two_runs_of_a_seed_the_later_with_a_score_counts():
    record = build({"base": {1: {"accuracy": 0.6}, 2: {"accuracy": 0.7}, 3: {"final": {}, "accuracy": 0.9}}})
    record = replace(record, trials=record.trials.assign(seed=1))
    assert final_runs(record)["accuracy"].tolist() == [0.7]


def test_a_run_that_failed_says_nothing():
    record = build({"base": {1: {}, 2: {"stop_reason": "failed"}, 3: {"stop_reason": "interrupted"}}})
    assert final_runs(record)["seed"].tolist() == [1]


ODD = [
    {},
    {"corruptions": None, "reliability": None},
    {"corruptions": [1, 2], "reliability": [3]},
    {
        "corruptions": {"gaussian_noise": {"severities": [0.1, 0.2], "accuracy": [0.5]}},
        "reliability": {"edges": [0, 1]},
    },
    {"corruptions": {"blur": {"severities": ["a"], "accuracy": [None]}}, "reliability": {"counts": "many"}},
]


@pytest.mark.parametrize("final", ODD)
def test_an_odd_record_leaves_the_others_as_they_are(final):
    whole, odd = build({"base": {1: {}}}), build({"base": {1: {}, 2: {"final": final}}})
    pd.testing.assert_frame_equal(corruption_points(odd), corruption_points(whole))
    pd.testing.assert_frame_equal(reliability_bins(odd), reliability_bins(whole))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_run_with_a_bin_that_is_not_finite_is_left_out_whole(value):
    final = SYNTHETIC["final_record"](0.8, num_classes=10, num_test=100)
    final["reliability"]["confidence"][-1] = value
    record = build({"base": {1: {}, 2: {"final": final}}})
    assert reliability_bins(record)["seed"].unique().tolist() == [1]
    assert set(corruption_points(record)["seed"]) == {1, 2}


def test_a_point_that_is_not_finite_is_left_out():
    final = SYNTHETIC["final_record"](0.8, num_classes=10, num_test=100)
    final["corruptions"]["blur"]["accuracy"][-1] = math.nan
    points = corruption_points(build({"base": {1: {"final": final}}}))
    assert points["accuracy"].notna().all()
    assert len(points.query("corruption == 'blur'")) == 5  # clean and four of five


def test_nothing_confirmed_gives_empty_frames():
    record = build({"base": {1: {}}})
    record = replace(record, trials=record.trials.assign(phase="search"), finals={})
    assert corruption_points(record).empty
    assert reliability_bins(record).empty


def test_pooled_bins_are_those_of_all_images_together():
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn((size, 4), generator=generator) * 3 for size in (300, 200)]
    labels = [torch.randint(4, (size,), generator=generator) for size in (300, 200)]
    single = [calibration(*pair) for pair in zip(logits, labels, strict=True)]
    keys = ("edges", "counts", "confidence", "accuracy")
    finals = [{"reliability": {key: getattr(one, key) for key in keys}} for one in single]
    bins = reliability_bins(build({"base": {seed: {"final": final} for seed, final in enumerate(finals)}}))
    together = calibration(torch.cat(logits), torch.cat(labels))
    filled = np.array(together.counts) > 0
    pooled = pool_bins(bins)
    for column, expected in (
        ("count", together.counts),
        ("confidence", together.confidence),
        ("accuracy", together.accuracy),
    ):
        assert pooled[column].to_numpy() == pytest.approx(np.array(expected)[filled])
    assert calibration_scores(bins)["ece"].tolist() == pytest.approx([100 * one.ece for one in single])


def test_the_gap_is_positive_where_an_arm_is_too_sure():
    record = build({"base": {1: {"overconfidence": 0.05}}, "shy": {1: {"overconfidence": -0.03}}})
    scores = calibration_scores(reliability_bins(record)).set_index("arm")
    assert scores["gap"].to_dict() == pytest.approx({"base": 5, "shy": -3})
    assert scores["ece"].to_dict() == pytest.approx({"base": 5, "shy": 3})


def test_arms_are_compared_on_the_seeds_they_share():
    values = pd.DataFrame(
        [("base", seed, 1.0 * seed) for seed in range(10)]
        + [("worse", seed, seed + 2.0 + 0.1 * (seed % 2)) for seed in range(10)]
        + [("same", seed, 1.0 * seed) for seed in range(3, 12)]
        + [("apart", 99, 5.0)],
        columns=["arm", "seed", "value"],
    )
    compared = compare_values(values, "base").set_index("arm")
    assert compared["difference"].to_dict() == pytest.approx({"same": 0, "worse": 2.05})
    assert compared["num_pairs"].to_dict() == {"same": 7, "worse": 10}
    assert compared["p_holm"].to_dict() == pytest.approx({"same": 1, "worse": 2 * 2 / 2**10})
    difference = np.array([2.0, 2.1] * 5)
    expected = stats.t.interval(0.95, 9, difference.mean(), stats.sem(difference))
    assert compared.loc["worse", ["low", "high"]].tolist() == pytest.approx(list(expected))
    assert compare_values(values, "missing").empty
