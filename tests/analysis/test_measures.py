import math
import runpy
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.load import load_study
from analysis.measures import (
    CURVE_MEASURES,
    DIAGNOSTIC_MEASURES,
    MEASURES,
    METRICS,
    TRIAL_MEASURES,
    TUNING_MEASURES,
    measure_diagnostics,
    measure_trials,
)
from analysis.tuning import measure_tuning

SIMULATED = runpy.run_path(str(Path(__file__).with_name("synthetic_reported.py")))


def truth_of(**options):
    return SIMULATED["ReportedTruth"](**({"seeds": (1, 2, 3), "search_seeds": (101,)} | options))


def record_of(**options):
    return SIMULATED["build_record"](truth_of(**options), METRICS)


def row_of(frame, regime, arm, seed):
    return frame.set_index(["regime", "arm", "seed"]).loc[(regime, arm, seed)]


def test_there_is_one_row_per_confirm_trial_and_one_column_per_measure():
    frame = measure_trials(record_of(not_in_fair=("focal",)))
    assert frame.columns.tolist() == ["regime", "arm", "seed", *TRIAL_MEASURES]
    assert frame.groupby(["regime", "arm"])["seed"].apply(list).to_dict() == {
        ("fair", "cross_entropy"): [1, 2, 3],
        ("fair", "hinge"): [1, 2, 3],
        ("stated", "cross_entropy"): [1, 2, 3],
        ("stated", "focal"): [1, 2, 3],
        ("stated", "hinge"): [1, 2, 3],
    }
    assert frame[list(TRIAL_MEASURES)].dtypes.eq(float).all()


def test_scores_are_those_that_were_simulated():
    truth = truth_of(fair_effects={"focal": 3.0})
    frame = measure_trials(SIMULATED["build_record"](truth, METRICS))
    for regime in ("stated", "fair"):
        for arm in truth.effects:
            for seed in truth.seeds:
                expected = 100 * truth.score(regime, arm, seed)
                assert row_of(frame, regime, arm, seed)["accuracy"] == pytest.approx(expected)


def test_the_held_out_split_is_test_where_it_was_watched_and_else_validation():
    record = record_of()
    epochs = record.epochs.copy()
    epochs["test_accuracy"] -= 0.2  # the stated regime has it in every epoch, the fair one in the last
    frame = measure_trials(replace(record, epochs=epochs))
    before = measure_trials(record)
    shift = (frame["area"] - before["area"]).groupby(frame["regime"]).unique()
    assert shift["stated"] == pytest.approx(-20)
    assert shift["fair"] == pytest.approx(0)


def test_a_test_split_seen_once_is_not_held_out_even_if_the_trial_has_one_epoch():
    record = record_of(epochs=1, scored={"test_accuracy": {("focal", 1): 0.33}})
    frame = measure_trials(record)
    assert row_of(frame, "stated", "focal", 1)["area"] == pytest.approx(33)
    assert row_of(frame, "fair", "focal", 1)["area"] != pytest.approx(33)


def test_the_target_is_the_median_best_of_the_baseline_minus_delta_in_each_regime():
    record = record_of(effects={"cross_entropy": 0.0, "focal": -5.0, "hinge": 5.0}, delta=0.5, epochs=20)
    frame = measure_trials(record).set_index(["regime", "arm", "seed"])
    confirm = record.epochs[record.epochs["phase"] == "confirm"].merge(record.trials[["run_id", "regime"]], on="run_id")
    for regime, own in confirm.groupby("regime"):
        best = own[own["arm"] == "cross_entropy"].groupby("seed")["val_accuracy"].max()
        target = best.median() - 0.005
        for (arm, seed), curve in own.groupby(["arm", "seed"]):
            reached = curve.loc[curve["val_accuracy"] >= target, "epoch"]
            expected = reached.min() if len(reached) else 21
            assert frame.loc[(regime, arm, seed), "epochs_to_target"] == expected
    missed = frame.loc[("stated", "focal"), ["epochs_to_target", "target_missed"]]
    assert missed.to_numpy().tolist() == [[21, 1]] * 3


def test_without_a_baseline_no_target_is_missed():
    record = record_of(baseline="other", noise=0.0)
    assert measure_trials(record)[["epochs_to_target", "target_missed"]].isna().all(axis=None)


def test_a_diverged_trial_counts_with_guessing_and_misses_its_target():
    frame = measure_trials(record_of(diverged=(("stated", "focal", 2),), epochs=10))
    assert len(frame) == 18
    row = row_of(frame, "stated", "focal", 2)
    assert row[["accuracy", "diverged", "epochs_to_target", "target_missed"]].tolist() == [10, 1, 11, 1]
    chance, first = SIMULATED["climb"](0.1, truth_of().score("stated", "focal", 2), 10)[:2], 10
    assert row["area"] == pytest.approx((100 * sum(chance) + first) / 3)  # two epochs and the one it diverged in
    assert row["best_minus_last"] == pytest.approx(100 * chance[1] - 10)
    assert math.isnan(row["nll"])


def test_histories_beyond_those_named_change_nothing():
    truth = truth_of(diverged=(("stated", "focal", 2),), watch_noise=True)
    whole, least = (SIMULATED["build_record"](truth, metrics) for metrics in (None, METRICS))
    assert "val_nll" in whole.epochs
    assert "val_nll" not in least.epochs
    pd.testing.assert_frame_equal(measure_trials(whole), measure_trials(least))


def test_the_noise_watched_in_the_stated_regime_is_measured():
    frame = measure_trials(record_of(watch_noise=True)).groupby("regime")
    assert frame["noisy_drop"].mean().to_dict() == pytest.approx({"stated": 10, "fair": math.nan}, nan_ok=True)
    assert frame["noise_lowers"].mean().to_dict() == {"stated": 1, "fair": 1}


def test_of_two_runs_of_one_seed_the_later_counts_and_a_failed_one_never():
    record = record_of(regimes=("stated",))
    trials = record.trials.copy()
    first = trials.index[(trials["arm"] == "focal") & (trials["seed"] == 1)]
    again = trials.loc[first].assign(run_id="again", start=trials["start"].max() + pd.Timedelta(1, "s"))
    again["test_accuracy"] = 0.42
    for reason, expected in (("completed", 42), ("failed", 100 * trials.loc[first[0], "test_accuracy"])):
        both = pd.concat([trials, again.assign(stop_reason=reason)], ignore_index=True)
        frame = measure_trials(replace(record, trials=both))
        assert len(frame) == 9
        assert row_of(frame, "stated", "focal", 1)["accuracy"] == pytest.approx(expected)


def test_a_trial_without_histories_keeps_its_end():
    record = record_of(regimes=("stated",))
    gone = record.trials.loc[record.trials["arm"] == "focal", "run_id"]
    frame = measure_trials(replace(record, epochs=record.epochs[~record.epochs["run_id"].isin(gone)]))
    focal = frame[frame["arm"] == "focal"]
    assert focal["accuracy"].notna().all()
    assert focal[list(CURVE_MEASURES)].isna().all(axis=None)


def test_a_study_of_another_regime_is_held_out_on_validation():
    record = record_of(regimes=("stated",), diverged=(("stated", "focal", 2),))
    frame = measure_trials(replace(record, trials=record.trials.assign(regime="search")))
    assert frame["regime"].unique().tolist() == ["search"]
    assert frame["target_missed"].notna().all()
    lowered = replace(record, epochs=record.epochs.assign(test_accuracy=0.0), trials=record.trials.assign(regime=""))
    assert measure_trials(lowered)["area"].tolist() == frame["area"].tolist()


def test_a_study_without_confirm_runs_has_no_rows():
    record = record_of()
    searching = replace(record, trials=record.trials.query("phase == 'search'"), finals={})
    frame = measure_trials(searching)
    assert frame.empty
    assert frame.columns.tolist() == ["regime", "arm", "seed", *TRIAL_MEASURES]


def test_a_study_without_protocol_has_what_needs_none():
    frame = measure_trials(replace(record_of(), protocol={}))
    assert frame[["accuracy", "area", "convergence_epoch"]].notna().all(axis=None)
    assert frame[["epochs_to_target", "collapsed"]].isna().all(axis=None)


def test_a_record_from_a_store_measures_as_one_from_memory(tmp_path):
    diagnostics = {"seeds": [1, 2], "arms": {"focal": {"loss_share": [0.1, 0.2]}}}
    truth = truth_of(
        diverged=(("stated", "focal", 2),), seeds=(2,), effects={"cross_entropy": 0.0, "focal": 1.0}, epochs=4,
        diagnostics=diagnostics, identities={"kl_div_equals_cross_entropy": {"holds": True}},
    )  # fmt: skip
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    SIMULATED["write_record"](uri, tmp_path / "artifacts", truth)
    stored, built = load_study(truth.name, tracking_uri=uri, metrics=METRICS), SIMULATED["build_record"](truth, METRICS)
    pd.testing.assert_frame_equal(measure_trials(stored), measure_trials(built))
    pd.testing.assert_frame_equal(measure_tuning(stored), measure_tuning(built))
    pd.testing.assert_frame_equal(measure_diagnostics(stored), measure_diagnostics(built))
    assert stored.identities == truth.identities
    assert stored.diagnostics == diagnostics
    assert stored.protocol["report"] == "003"


def test_diagnostics_are_one_row_per_arm_and_repetition():
    measured = {
        "focal": {"log_steps_to_fall": [3.0, 4.0], "steps_censored": [0.0, 1.0], "note": ["a", "b"]},
        "cross_entropy": {"loss_share": [0.25, None]},
    }
    frame = measure_diagnostics(record_of(diagnostics={"seeds": [7, 8], "arms": measured}))
    expected = pd.DataFrame(
        {
            "arm": ["focal", "focal", "cross_entropy", "cross_entropy"],
            "seed": [7, 8, 7, 8],
            "loss_share": [np.nan, np.nan, 0.25, np.nan],
            "log_steps_to_fall": [3, 4, np.nan, np.nan],
            "steps_censored": [0, 1, np.nan, np.nan],
        }
    )
    pd.testing.assert_frame_equal(frame, expected)


def test_a_study_without_diagnostics_has_no_rows():
    frame = measure_diagnostics(record_of())
    assert frame.empty
    assert frame.columns.tolist() == ["arm", "seed"]


def test_every_measure_says_what_it_is_and_what_difference_matters():
    assert len(MEASURES) == len(TRIAL_MEASURES) + len(TUNING_MEASURES) + len(DIAGNOSTIC_MEASURES)
    for name, measure in MEASURES.items():
        assert measure.unit, name
        assert measure.doc, name
        if measure.delta == "accuracy":
            assert measure.unit == "points", name
    assert MEASURES["accuracy"].delta == MEASURES["gap_accuracy"].delta == MEASURES["noisy_drop"].delta == "accuracy"
    assert MEASURES["epochs_to_target"].delta == MEASURES["convergence_epoch"].delta == 1.0
    assert MEASURES["log_epoch_seconds"].delta == MEASURES["log_total_seconds"].delta == 0.05
    assert MEASURES["fluctuation"].delta is MEASURES["nll"].delta is None


def test_a_thousand_trials_of_200_epochs_are_measured_in_seconds():
    """Seven curves each; what a thousand trials take is extrapolated from a tenth of them."""
    record = record_of(effects={f"arm{n}": 0.1 * n for n in range(10)}, baseline="arm0", epochs=200,
                       seeds=tuple(range(1, 11)), regimes=("stated",))  # fmt: skip
    started = time.process_time()
    assert len(measure_trials(record)) == 100
    assert time.process_time() - started < 1.0
