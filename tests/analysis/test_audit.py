import pytest

from analysis.audit import find_parameter, range_edge, search_audit


def test_the_audit_counts_ends_and_epochs_of_each_arm(load):
    record = load("truth")
    audit = search_audit(record.trials, record.protocol).set_index("arm")
    row = audit.loc["focal"]
    assert (row["trials"], row["completed"], row["pruned"], row["failed"]) == (6, 4, 2, 0)
    assert row["epochs"] == 4 * 8 + 2 + 6
    assert row["stopped"] == "1 at epoch 2, 1 at epoch 6"
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
