import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.proportion import proportion_confint

from analysis.load import StudyRecord
from analysis.measures import measure_trials
from analysis.trainability import TRAINABILITY_COLUMNS, count_failures, measure_speed, measure_trainability
from analysis.tuning import count_events, measure_tuning

REPORTED = runpy.run_path(str(Path(__file__).parent / "synthetic_reported.py"))


@pytest.fixture(scope="module")
def fair():
    """A reported study of one regime, so that its measures can be compared with those of the claims."""
    truth = REPORTED["ReportedTruth"](
        regimes=("fair",),
        fair_effects={"focal": -2.0, "hinge": 1.0},
        best_rates={"focal": -1.0},
        diverging_rates={"focal": 0.0},
    )
    return REPORTED["build_record"](truth)


def test_a_reported_studys_measures_are_those_of_its_claims(fair):
    frame = measure_trainability(fair, fair.protocol)
    claimed = measure_trials(fair)
    late = claimed["target_missed"] == 1
    for column in ("epochs_to_target", "seconds_to_target"):
        medians = claimed[column].mask(late, np.inf).groupby(claimed["arm"]).median()
        assert frame[column].to_dict() == medians.to_dict()
    assert frame["target_missed"].to_dict() == claimed.groupby("arm")["target_missed"].sum().to_dict()
    events = {arm: (row["search_failed"], row["search_ended"]) for arm, row in frame.iterrows()}
    assert events == count_events(fair, "no_convergence")
    assert events["focal"][0] > 0
    widths = measure_tuning(fair).groupby("arm")["rate_width"].mean() / 100
    assert frame["rate_width"].to_dict() == widths.to_dict()


def test_a_tuned_study_has_epochs_and_failures_but_no_width(load):
    record = load("truth")
    frame = measure_trainability(record, record.protocol)
    assert frame.columns.tolist() == list(TRAINABILITY_COLUMNS)
    assert frame["rate_width"].isna().all()
    assert frame["search_ended"].eq(6).all()
    assert frame["search_failed"].eq(0).all()
    confirm = record.trials.query("phase == 'confirm'")
    best = record.epochs[record.epochs["run_id"].isin(confirm["run_id"])].groupby(["arm", "seed"])["val_accuracy"].max()
    target = best["cross_entropy"].median() - 0.01
    assert frame["target_accuracy"].tolist() == pytest.approx([target] * 4)
    assert frame["target_missed"].to_dict() == (best < target - 1e-9).groupby("arm").sum().to_dict()
    assert frame.loc["l1", "target_missed"] > 5
    assert frame.loc["l1", "epochs_to_target"] == np.inf
    assert frame.loc["cross_entropy", "epochs_to_target"] <= 8


def record_of(curves, *, epochs=10):
    """A study with ``{arm: [accuracies a seed]}`` on record, the first arm its baseline."""
    rows, steps = [], []
    for arm, seeds in curves.items():
        for seed, values in enumerate(seeds):
            run_id = f"{arm}-{seed}"
            rows.append({"run_id": run_id, "arm": arm, "seed": seed, "epochs": epochs, "stop_reason": "completed"})
            steps += [
                {"run_id": run_id, "epoch": epoch, "val_accuracy": value, "epoch_seconds": 2.0}
                for epoch, value in enumerate(values, start=1)
            ]
    trials = pd.DataFrame(rows).assign(phase="confirm", regime="search", start=pd.Timestamp("2026-01-01"))
    protocol = {"baseline": next(iter(curves)), "delta": 1.0}
    return StudyRecord("s", "p", "1", "memory", {}, protocol, trials, pd.DataFrame(steps), {})


def test_a_miss_is_later_than_any_epoch():
    climb = [0.5, 0.8, 0.91, 0.91]
    record = record_of({"ce": [climb] * 3, "late": [climb, [0.5] * 4, [0.5] * 4], "half": [climb, climb, [0.5] * 4]})
    frame = measure_speed(record, record.protocol)
    assert frame["target_accuracy"].tolist() == pytest.approx([0.9] * 3)
    assert frame["epochs_to_target"].to_dict() == {"ce": 3, "half": 3, "late": np.inf}
    assert frame["seconds_to_target"].to_dict() == {"ce": 6, "half": 6, "late": np.inf}
    assert frame["target_missed"].to_dict() == {"ce": 0, "half": 1, "late": 2}
    assert frame["planned_epochs"].eq(10).all()


def test_half_of_the_seeds_missing_leaves_no_median():
    climb = [0.5, 0.91]
    record = record_of({"ce": [climb] * 2, "half": [climb, [0.5, 0.5]]})
    assert measure_speed(record, record.protocol).loc["half", "epochs_to_target"] == np.inf


def test_without_a_baseline_there_is_no_target(load):
    record = load("truth")
    assert measure_speed(record, {**record.protocol, "baseline": "missing"}).empty
    assert measure_speed(replace(record, trials=record.trials.iloc[:0]), record.protocol).empty


def searched(*trials):
    return pd.DataFrame(trials, columns=["arm", "stop_reason", "val_accuracy"]).assign(phase="search")


def test_failures_are_divergence_and_guessing_of_trials_that_say_something():
    protocol = {"dataset": {"num_classes": 10, "num_val": 900}}  # guessing: up to 10% and three times 1%
    trials = searched(
        ("a", "completed", 0.9), ("a", "completed", 0.129), ("a", "pruned", 0.131), ("a", "pruned", 0.1),
        ("a", "diverged", 0.1), ("a", "failed", np.nan), ("a", "interrupted", 0.1), ("b", "completed", 0.9),
    )  # fmt: skip
    frame = count_failures(trials, protocol)
    assert (frame.loc["a", "search_failed"], frame.loc["a", "search_ended"]) == (3, 5)
    low, high = proportion_confint(3, 5, method="wilson")
    assert (frame.loc["a", "failure_low"], frame.loc["a", "failure_high"]) == pytest.approx((low, high))
    # Wilson's interval of none in one: 0 to z**2 / (1 + z**2).
    assert frame.loc["b", ["failure_rate", "failure_low", "failure_high"]].tolist() == pytest.approx(
        [0, 0, 3.8415 / 4.8415], abs=1e-4
    )
    assert count_failures(trials, {}).loc["a", "search_failed"] == 1


def test_no_search_has_no_failures():
    assert count_failures(searched(), {}).empty
