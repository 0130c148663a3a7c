import numpy as np
import pandas as pd
import pytest

from analysis.audit import (
    describe_rungs,
    describe_stops,
    find_parameter,
    range_edge,
    sampling_errors,
    search_audit,
)


def test_the_audit_counts_ends_and_epochs_of_each_arm(load):
    record = load("truth")
    audit = search_audit(record.trials, record.protocol).set_index("arm")
    row = audit.loc["focal"]
    assert (row["trials"], row["completed"], row["pruned"], row["failed"]) == (6, 4, 2, 0)
    assert row["epochs"] == 4 * 8 + 2 + 6
    assert row["stopped"] == "1 of 6 at rung 1, 1 of 5 at rung 2"
    assert row["best_val_accuracy"] == pytest.approx(0.9 + 0.015)
    assert row["winner"] == 1


def test_a_winner_near_the_end_of_its_optimizers_range_is_marked(load):
    record = load("truth")
    audit = search_audit(record.trials, record.protocol).set_index("arm")
    assert audit["edge"].to_dict() == {"cross_entropy": "", "focal": "", "hinge": "high", "l1": ""}
    assert (audit.loc["hinge", "low"], audit.loc["hinge", "high"]) == (1e-5, 1e-1)


def test_an_arm_without_a_winner_is_kept(load):
    record = load("searching")
    audit = search_audit(record.trials, record.protocol).set_index("arm")
    assert audit["winner"].isna().to_dict() == {"cross_entropy": False, "focal": True}


def test_the_audit_needs_no_protocol(load):
    audit = search_audit(load("bare").trials, {})
    assert audit["arm"].tolist() == ["cross_entropy", "focal"]
    assert audit["edge"].tolist() == ["", ""]


@pytest.mark.parametrize(("number", "edge"), [(0, "low"), (1, "low"), (2, ""), (10, "high")])
def test_a_winner_on_the_common_grid_of_a_report_is_marked_by_its_place_on_it(number, edge):
    rates = [10.0**power for power in range(-8, 4)]
    trials = pd.DataFrame([{"arm": "a", "phase": "search", "stop_reason": "completed", "epochs_done": 3}])
    winners = {"a": {"number": number, "config": {"optimizer.learning_rate": 123.0}}}
    audit = search_audit(trials, {"learning_rates": rates, "winners": winners, "arms": [{"name": "a"}]})
    row = audit.iloc[0]
    assert (row["learning_rate"], row["low"], row["high"], row["edge"]) == (rates[number], 1e-8, 1e3, edge)


@pytest.mark.parametrize(
    ("value", "log", "edge"),
    [
        (1e-4, True, "low"),
        (2.4e-4, True, "low"),
        (2.6e-4, True, ""),
        (0.39, True, ""),
        (0.9, True, "high"),
        (0.09, False, "low"),
        (0.5, False, ""),
    ],
)
def test_the_outer_tenth_of_a_range_is_its_edge(value, log, edge):
    assert range_edge(value, 1e-4 if log else 0.0, 1.0, log=log) == edge


def test_an_unknown_range_has_no_edge():
    assert range_edge(0.1, float("nan"), 1.0, log=True) == ""
    assert range_edge(0.1, 1.0, 1.0, log=False) == ""


def test_the_parameter_is_the_one_whose_condition_holds(truth_class):
    protocol = truth_class().protocol({})
    found = find_parameter(protocol, "focal", "optimizer.learning_rate", {"optimizer": "sgd"})
    assert (found["low"], found["high"]) == (1e-3, 1.0)
    assert find_parameter(protocol, "focal", "optimizer.learning_rate", {"optimizer": "lion"}) == {}
    joint = protocol | {"arms": protocol["arms"][:1]}
    assert find_parameter(joint, "focal", "optimizer.learning_rate", {"optimizer": "sgd"})["high"] == 1.0


def searched(*trials):
    """Search trials as ``(stop_reason, epochs_done, planned epochs)``."""
    return pd.DataFrame(trials, columns=["stop_reason", "epochs_done", "epochs"])


def test_a_trial_is_stopped_at_the_last_rung_it_reached():
    search = searched(
        ("pruned", 3, 40), ("pruned", 3, 40), ("pruned", 4, 40), ("pruned", 9, 40), ("completed", 40, 40)
    )  # fmt: skip
    assert describe_stops(search, {"rungs": [3, 9], "time_attribute": "epoch"}) == "3 of 5 at rung 1, 1 of 2 at rung 2"


def test_rungs_of_a_schedule_lie_at_each_trials_own_epochs():
    # 12.5% and 37.5% of 10 epochs are looked at after epochs 2 and 4, of 40 after 5 and 15.
    search = searched(("pruned", 2, 10), ("pruned", 4, 10), ("pruned", 5, 40), ("pruned", 15, 40), ("diverged", 4, 40))
    protocol = {"rungs": [12.5, 37.5], "time_attribute": "schedule_percent"}
    assert describe_stops(search, protocol) == "2 of 4 at rung 1, 2 of 2 at rung 2"
    assert describe_rungs(protocol) == "1 at 12.5% of the schedule, 2 at 37.5% of the schedule"


def test_stops_without_a_rung_are_told_by_their_epoch():
    search = searched(("pruned", 2, 8), ("pruned", 6, 8), ("pruned", 2, 8))
    assert describe_stops(search, {}) == "2 at epoch 2, 1 at epoch 6"
    assert describe_stops(search, {"rungs": [4]}) == "1 of 1 at rung 1, 2 at epoch 2"
    assert describe_stops(search.iloc[:0], {"rungs": [4]}) == ""
    assert describe_rungs({}) == ""
    assert describe_rungs({"rungs": [2, 6], "time_attribute": "epoch"}) == "1 at epoch 2, 2 at epoch 6"


def errors_of(accuracies, num_test, **comparisons):
    """The errors of arms of ten seeds with an SD of a point, the first the baseline."""
    rows = [
        {"arm": arm, "baseline": place == 0, "num_seeds": 10, "accuracy": value, "accuracy_sd": 0.01}
        for place, (arm, value) in enumerate(accuracies.items())
    ]
    compared = [
        {"arm": arm, "num_seeds": 10, "sd_points": 2.0, "detectable_points": 3.0} | comparisons
        for arm in list(accuracies)[1:]
    ]
    columns = ["arm", "num_seeds", "sd_points", "detectable_points"]
    return sampling_errors(pd.DataFrame(rows), pd.DataFrame(compared, columns=columns), num_test).set_index("arm")


def test_the_errors_of_a_worked_example():
    errors = errors_of({"ce": 0.9, "focal": 0.8}, 400)
    assert errors.loc["focal", "accuracy_seeds"] == pytest.approx(1 / np.sqrt(10))
    assert errors.loc["focal", "accuracy_split"] == pytest.approx(100 * np.sqrt(0.16 / 400))
    assert errors.loc["focal", "difference_seeds"] == pytest.approx(2 / np.sqrt(10))
    # They disagree on at most 30% of the images, so the variance is at most 0.3 - 0.1 squared.
    assert errors.loc["focal", "difference_split"] == pytest.approx(100 * np.sqrt(0.29 / 400))
    assert errors.loc["focal", "detectable"] == 3
    assert errors.loc["ce", ["difference_seeds", "difference_split", "detectable"]].isna().all()


@pytest.mark.parametrize("shared", [0.0, 0.5, 1.0])
def test_the_error_of_another_test_split_is_bounded_and_the_bound_is_reached(shared):
    """Splits drawn anew, with a baseline wrong on 10% of the images and an arm on 20%, ``shared`` of the 10% both."""
    images, generator = 400, np.random.default_rng(3)
    place = generator.random((2000, images))
    baseline, start = place < 0.1, 0.1 * (1 - shared)
    arm = (place >= start) & (place < start + 0.2)
    differences = 100 * (baseline.mean(axis=1) - arm.mean(axis=1))
    errors = errors_of({"ce": 0.9, "focal": 0.8}, images).loc["focal"]
    assert 100 * arm.mean(axis=1).std() == pytest.approx(errors["accuracy_split"], rel=0.05)
    if shared == 0:
        assert differences.std() == pytest.approx(errors["difference_split"], rel=0.05)
    else:
        assert differences.std() < 0.95 * errors["difference_split"]


def test_errors_that_nobody_knows_are_missing():
    errors = errors_of({"ce": 0.9, "focal": 0.8}, 0)
    assert errors[["accuracy_split", "difference_split"]].isna().all(axis=None)
    alone = sampling_errors(
        pd.DataFrame([{"arm": "a", "baseline": False, "num_seeds": 1, "accuracy": 0.9, "accuracy_sd": np.nan}]),
        pd.DataFrame(columns=["arm", "num_seeds", "sd_points", "detectable_points"]),
        100,
    )
    assert alone["accuracy_split"].notna().all()
    assert alone[["accuracy_seeds", "difference_seeds", "difference_split", "detectable"]].isna().all(axis=None)
