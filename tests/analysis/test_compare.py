import numpy as np
import pandas as pd
import pytest

from analysis import inference
from analysis.compare import (
    arm_names,
    arm_table,
    compare_to_baseline,
    confirm_scores,
    control_difference,
    paired_differences,
)


def build_trials(scores, *, phase="confirm", diverged=()):
    """Trials as ``load_study`` gives them from ``{arm: {seed: accuracy}}``."""
    rows = [
        {
            "run_id": f"{arm}-{seed}",
            "arm": arm,
            "phase": phase,
            "seed": seed,
            "stop_reason": "diverged" if (arm, seed) in diverged else "completed",
            "start": pd.Timestamp("2026-01-01", tz="UTC") + pd.Timedelta(seconds=seed),
            "val_accuracy": 0.1 if (arm, seed) in diverged else score,
            "test_accuracy": score,
            "test_nll": 1 - score,
        }
        for arm, own in scores.items()
        for seed, score in own.items()
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(seed=frame["seed"].astype("Int64"))


def seeds(*values):
    return dict(enumerate(values, start=1))


def test_a_pair_is_two_arms_on_one_seed():
    trials = build_trials({"a": {1: 0.9, 2: 0.8}, "b": {2: 0.85, 1: 0.92, 3: 0.7}})
    pairs = paired_differences(trials, "a").set_index("seed")
    assert pairs.loc[[1, 2], "difference"].tolist() == pytest.approx([0.02, 0.05])
    assert np.isnan(pairs.loc[3, "difference"])
    assert set(pairs["arm"]) == {"b"}


def test_the_comparison_recovers_the_truth(load):
    frame = compare_to_baseline(load("truth").trials, "cross_entropy", 1.0).set_index("arm")
    for arm, effect in {"focal": 1.5, "hinge": 0.0}.items():
        assert frame.loc[arm, "difference_points"] == pytest.approx(effect, abs=0.4)
        assert frame.loc[arm, "num_seeds"] == 10
    assert frame.loc["focal", "low_points"] > 0
    assert frame.loc["focal", "p_holm"] == pytest.approx(3 * 2 / 1024)
    assert frame.loc["focal", "probability_better"] == 1
    assert frame.loc["hinge", "equivalent"]
    assert not frame.loc["focal", "equivalent"]
    assert frame.loc["l1", "num_diverged"] == 1
    assert frame.index.tolist() == ["focal", "hinge", "l1"]


def test_a_comparison_is_the_statistics_of_its_differences():
    trials = build_trials(
        {"a": seeds(0.90, 0.91, 0.92, 0.90, 0.93, 0.91), "b": seeds(0.93, 0.92, 0.95, 0.94, 0.93, 0.92)}
    )
    row = compare_to_baseline(trials, "a", 1.0).iloc[0]
    points = [3, 1, 3, 4, 0, 1]
    mean, low, high = inference.t_interval(points)
    assert row["difference_points"] == pytest.approx(float(mean))
    assert (row["low_points"], row["high_points"]) == pytest.approx((float(low), float(high)))
    assert row["p"] == row["p_holm"] == pytest.approx(float(inference.sign_flip_p(points)))
    assert row["probability_better"] == pytest.approx(5.5 / 6)
    assert row["sd_points"] == pytest.approx(np.std(points, ddof=1))


def test_a_comparison_holds_the_interval_that_agrees_with_its_p(load):
    frame = compare_to_baseline(load("truth").trials, "cross_entropy", 1.0).set_index("arm")
    apart = (frame["flip_low_points"] > 0) | (frame["flip_high_points"] < 0)
    assert (apart == (frame["p"] < 0.05)).all()
    assert apart.to_dict() == {"focal": True, "hinge": False, "l1": True}
    # One seed that diverged widens the t interval of l1 over zero; the signs are as sure as before.
    assert frame.loc["l1", "low_points"] < 0 < frame.loc["l1", "high_points"]
    assert frame.loc["l1", "flip_high_points"] < 0


def test_the_family_of_a_study_is_corrected_as_the_simulated_families_are():
    generator = np.random.default_rng(12)
    for _ in range(10):
        scores = 0.8 + generator.normal(0, 0.01, size=(10, 10))
        trials = build_trials({f"arm{place}": seeds(*own) for place, own in enumerate(scores)})
        frame = compare_to_baseline(trials, "arm0", 1.0).sort_values("arm")
        p = inference.sign_flip_p(scores[1:] - scores[0])
        assert frame["p_holm"].tolist() == pytest.approx(inference.holm(p).tolist())


def test_identical_arms_have_p_one_and_an_interval_of_zero():
    values = seeds(0.91, 0.93, 0.92, 0.94, 0.90, 0.95)
    row = compare_to_baseline(build_trials({"a": values, "b": values}), "a", 1.0).iloc[0]
    assert (row["p"], row["p_holm"]) == (1, 1)
    assert (row["low_points"], row["high_points"]) == (0, 0)
    assert row["equivalent"]
    assert row["probability_better"] == 0.5


def test_a_constant_difference_is_no_rounding_noise():
    base = {seed: 0.1 + seed / 30 for seed in range(1, 11)}
    trials = build_trials({"a": base, "b": {seed: score + 0.005 for seed, score in base.items()}})
    row = compare_to_baseline(trials, "a", 1.0).iloc[0]
    assert (row["low_points"], row["high_points"]) == (0.5, 0.5)
    assert row["p"] == 2 / 1024
    assert row["detectable_points"] == 0
    assert row["equivalent"]


def test_one_seed_compares_without_an_interval():
    row = compare_to_baseline(build_trials({"a": seeds(0.9), "b": seeds(0.92)}), "a", 1.0).iloc[0]
    assert row["difference_points"] == pytest.approx(2)
    assert np.isnan(row["low_points"])
    assert row["p"] == 1
    assert not row["equivalent"]
    assert row["detectable_points"] == np.inf


def test_arms_without_a_common_seed_are_not_compared():
    trials = build_trials({"a": {1: 0.9}, "b": {2: 0.9}})
    assert compare_to_baseline(trials, "a", 1.0).empty
    assert compare_to_baseline(trials, "missing", 1.0).empty
    assert compare_to_baseline(trials.iloc[:0], "a", 1.0).empty


def test_a_diverged_seed_counts_with_chance_and_is_flagged():
    trials = build_trials({"a": seeds(0.9, 0.9, 0.9), "b": seeds(0.9, np.nan, 0.9)}, diverged={("b", 2)})
    assert confirm_scores(trials).query("arm == 'b'")["score"].tolist() == [0.9, 0.1, 0.9]
    row = compare_to_baseline(trials, "a", 1.0).iloc[0]
    assert row["num_seeds"] == 3
    assert row["num_diverged"] == 1
    assert row["difference_points"] == pytest.approx(-80 / 3)


def test_a_seed_that_failed_is_left_out_and_counted():
    trials = build_trials({"a": seeds(0.9, 0.9, 0.9), "b": seeds(0.95, np.nan, 0.95)})
    row = compare_to_baseline(trials, "a", 1.0).iloc[0]
    assert (row["num_seeds"], row["num_unpaired"]) == (2, 1)


def test_of_two_runs_of_one_seed_the_later_with_a_score_stays():
    first = build_trials({"a": seeds(0.8)})
    later = build_trials({"a": seeds(0.9)}).assign(start=lambda frame: frame["start"] + pd.Timedelta(days=1))
    failed = later.assign(test_accuracy=np.nan, start=lambda frame: frame["start"] + pd.Timedelta(days=1))
    assert confirm_scores(pd.concat([later, first, failed], ignore_index=True))["score"].tolist() == [0.9]


def test_the_table_holds_mean_interval_and_spread_of_each_arm(load):
    record = load("truth")
    table = arm_table(record.trials, record.protocol, record.epochs).set_index("arm")
    own = record.trials.query("phase == 'confirm' and arm == 'focal'")["test_accuracy"].to_numpy(dtype=float)
    mean, low, high = inference.t_interval(own)
    row = table.loc["focal"]
    assert (row["accuracy"], row["accuracy_low"], row["accuracy_high"]) == pytest.approx(
        (float(mean), float(low), float(high))
    )
    assert row["accuracy_sd"] == pytest.approx(np.std(own, ddof=1))
    assert row["f1_macro"] == pytest.approx(float(mean) - 0.01)
    assert row["epoch_seconds"] == 0.5  # without the slow first epoch
    assert table.index[0] == "focal"
    assert table["baseline"].to_dict() == {"focal": False, "hinge": False, "cross_entropy": True, "l1": False}
    assert table["num_diverged"].to_dict() == {"focal": 0, "hinge": 0, "cross_entropy": 0, "l1": 1}


def test_an_accuracy_interval_stays_within_zero_and_one():
    table = arm_table(build_trials({"a": seeds(0.99, 1.0, 1.0), "b": seeds(0.0, 0.02, 0.0)}), {})
    assert table["accuracy_high"].max() == 1
    assert table["accuracy_low"].min() == 0


def test_an_arm_without_confirm_runs_is_listed_last_with_no_seed(load):
    record = load("searching")
    table = arm_table(record.trials, record.protocol, record.epochs)
    assert table["num_seeds"].tolist() == [0, 0]
    assert table["accuracy"].isna().all()


def test_a_joint_study_has_the_arms_that_were_confirmed(load):
    record = load("joint")
    assert arm_names(record.trials, record.protocol) == ["cross_entropy", "focal"]
    single = record.protocol | {"arms": [{"name": "joint", "parameters": []}]}
    assert arm_names(record.trials, single) == ["cross_entropy", "focal"]


def test_the_control_equals_the_baseline_seed_by_seed(load):
    frame = control_difference(load("truth").trials, "cross_entropy")
    assert len(frame) == 20
    assert set(frame["metric"]) == {"test_accuracy", "test_nll"}
    assert frame["difference"].abs().max() == 0


def test_a_control_that_differs_shows_by_how_much_and_where(load):
    frame = control_difference(load("drifting").trials, "cross_entropy")
    wrong = frame[frame["difference"] != 0]
    assert set(wrong["seed"]) == {10}
    assert wrong["difference"].abs().max() == pytest.approx(0.001)


def test_no_control_gives_no_rows(load):
    assert control_difference(load("searching").trials, "cross_entropy").empty


def test_intervals_of_simulated_arms_cover_the_truth():
    generator = np.random.default_rng(5)
    baseline = 0.8 + generator.normal(0, 0.02, size=10)  # a seed effect that pairing removes
    arms = {f"arm{number}": baseline + generator.normal(0.007, 0.004, size=10) for number in range(250)}
    trials = build_trials({arm: seeds(*scores) for arm, scores in ({"a": baseline} | arms).items()})
    frame = compare_to_baseline(trials, "a", 1.0)
    assert len(frame) == 250
    assert ((frame["low_points"] <= 0.7) & (frame["high_points"] >= 0.7)).mean() == pytest.approx(0.95, abs=0.03)
