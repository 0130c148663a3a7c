import pandas as pd
import pytest

from analysis.earlier import Look, at_each_look, looks_of, mark_earlier
from analysis.load import load_study

FIRST = {"trials_per_arm": 3, "confirm_seeds": [1, 2], "winners": {"a": {"number": 0}}}
SECOND = {"trials_per_arm": 5, "confirm_seeds": [3, 4], "winners": {}}
THIRD = {"trials_per_arm": 9, "confirm_seeds": [5], "winners": {}}


def trials_of(*rows):
    frame = pd.DataFrame(rows, columns=["phase", "seed"])
    return frame.assign(seed=frame["seed"].astype("Int64"), arm="a")


TRIALS = trials_of(
    ("search", 1), ("confirm", 1), ("control", 2), ("confirm", 3), ("control", 4), ("confirm", 5), ("confirm", 77)
)


def test_looks_are_read_as_they_are_on_record():
    assert looks_of({"looks": [FIRST, SECOND]}) == [Look(3, (1, 2), {"a": {"number": 0}}), Look(5, (3, 4), {})]
    assert looks_of({"looks": [{"trials_per_arm": 3, "confirm_seeds": [], "winners": None}]}) == [Look(3, (), {})]
    assert looks_of({}) == []


@pytest.mark.parametrize("looks", [None, [], [FIRST]])
def test_a_study_of_one_look_keeps_its_phases(looks):
    assert mark_earlier(TRIALS, {} if looks is None else {"looks": looks}) is TRIALS


def test_every_look_but_the_last_gets_phases_of_its_own():
    marked = mark_earlier(TRIALS, {"looks": [FIRST, SECOND, THIRD]})
    assert marked["phase"].tolist() == [
        "search", "earlier confirm", "earlier control", "earlier confirm", "earlier control", "confirm", "confirm",
    ]  # fmt: skip
    two = mark_earlier(TRIALS, {"looks": [FIRST, SECOND]})["phase"].tolist()
    assert two == ["search", "earlier confirm", "earlier control", "confirm", "control", "confirm", "confirm"]
    assert TRIALS["phase"].tolist()[1] == "confirm"
    assert marked.drop(columns="phase").equals(TRIALS.drop(columns="phase"))


def test_a_run_without_a_seed_is_the_last_looks():
    assert mark_earlier(trials_of(("confirm", None)), {"looks": [FIRST, SECOND]})["phase"].tolist() == ["confirm"]


def test_a_study_without_trials_has_none_to_mark():
    empty = pd.DataFrame(columns=["phase", "seed", "arm"])
    assert mark_earlier(empty, {"looks": [FIRST, SECOND]}).empty


def test_each_look_has_its_own_confirmation_and_the_whole_search():
    protocol = {"looks": [FIRST, SECOND, THIRD]}
    parts = at_each_look(mark_earlier(TRIALS, protocol), protocol)
    assert [look.trials_per_arm for look, _ in parts] == [3, 5, 9]
    assert [list(zip(own["phase"], own["seed"], strict=True)) for _, own in parts] == [
        [("search", 1), ("confirm", 1), ("control", 2)],
        [("search", 1), ("confirm", 3), ("control", 4)],
        [("search", 1), ("confirm", 5), ("confirm", 77)],
    ]


def test_a_record_is_read_with_its_looks_told_apart(extended_store):
    record = load_study("extended", tracking_uri=extended_store)
    counts = record.trials.groupby(["phase", "arm"]).size()
    assert counts["search"].to_dict() == dict.fromkeys(("cross_entropy", "focal", "hinge", "l1"), 6)
    for phase in ("confirm", "earlier confirm"):
        assert counts[phase].to_dict() == dict.fromkeys(("cross_entropy", "focal", "hinge", "l1"), 10)
    for phase in ("control", "earlier control"):
        assert counts[phase].to_dict() == {"kl_div": 10}
    of_run = record.trials.set_index("run_id")["phase"]
    assert record.epochs["phase"].tolist() == record.epochs["run_id"].map(of_run).tolist()
    assert set(of_run[list(record.finals)]) == {"confirm", "control"}
    assert len(record.finals) == 50  # ten seeds of four arms and the control
