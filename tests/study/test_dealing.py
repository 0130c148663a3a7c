"""Stages are dealt in order, each when the one before has ended, and what is on record is not run again."""

import pickle

import pytest
from ray.tune.search import Searcher

from study.dealing import Dealer
from study.failures import CROWDED, ENDED, LOST, OWN, REFUSED, Failure
from study.ledger import COMPLETED, CONFIRM, DIVERGED, FAILED, INTERRUPTED, Ledger, Request


def a_request(arm, number=1):
    return Request(arm, CONFIRM, number, {"epochs": 2, "seed": number}, regime="stated")


def a_result(epoch=2, diverged=0.0, val_accuracy=0.5):
    values = {"epoch": epoch, "val_accuracy": val_accuracy, "val_nll": 1.0, "diverged": diverged, "trial_seconds": 0.1}
    return {**values, "rows": []}


def a_dealer(*stages, ledger=None, **how):
    how = {"max_concurrent": None, "to_config": lambda request: {"arm": request.arm}, **how}
    return Dealer([lambda stage=stage: iter(stage) for stage in stages], ledger or Ledger(), **how)


def test_requests_are_dealt_in_order_with_their_key_and_place():
    dealer = a_dealer([a_request("a"), a_request("b")])
    assert dealer.suggest("1") == {"arm": "a", "key": "a/stated-confirm/1", "index": 1}
    assert dealer.suggest("2") == {"arm": "b", "key": "b/stated-confirm/1", "index": 2}


def test_the_next_stage_waits_for_every_trial_of_the_one_before():
    dealer = a_dealer([a_request("a"), a_request("b")], [a_request("c")])
    dealer.suggest("1")
    dealer.suggest("2")
    assert dealer.suggest("3") is None
    dealer.on_trial_complete("1", a_result())
    assert dealer.suggest("3") is None
    dealer.on_trial_complete("2", a_result())
    assert dealer.suggest("3")["arm"] == "c"
    dealer.on_trial_complete("3", a_result())
    assert dealer.suggest("4") == Searcher.FINISHED


def test_a_stage_is_planned_when_it_begins_and_sees_what_came_before():
    ledger = Ledger()
    seen = []

    def second():
        seen.extend(record.stop_reason for record in ledger.records.values())
        return iter([])

    dealer = Dealer(
        [lambda: iter([a_request("a")]), second], ledger, max_concurrent=None, to_config=lambda _request: {}
    )
    dealer.suggest("1")
    dealer.on_trial_complete("1", a_result(diverged=1.0))
    assert seen == []
    assert dealer.suggest("2") == Searcher.FINISHED
    assert seen == [DIVERGED]


def test_no_more_trials_than_allowed_are_dealt_at_once():
    dealer = a_dealer([a_request("a"), a_request("b")], max_concurrent=1)
    dealer.suggest("1")
    assert dealer.suggest("2") is None
    dealer.on_trial_complete("1", a_result())
    assert dealer.suggest("2")["arm"] == "b"


def test_trials_on_record_are_adopted_and_not_dealt_again():
    ledger = Ledger()
    known = {"a/stated-confirm/1": {**a_result(val_accuracy=0.75), "stop_reason": COMPLETED}}
    dealer = a_dealer([a_request("a"), a_request("b")], ledger=ledger, recalled=known)
    assert dealer.suggest("1")["arm"] == "b"
    adopted = ledger.records["a/stated-confirm/1"]
    assert (adopted.stop_reason, adopted.val_accuracy, adopted.epoch) == (COMPLETED, 0.75, 2)


def test_a_study_that_is_on_record_in_full_has_nothing_to_deal():
    known = {a_request(arm).key: {**a_result(), "stop_reason": COMPLETED} for arm in ("a", "b")}
    dealer = a_dealer([a_request("a")], [a_request("b")], recalled=known)
    assert dealer.suggest("1") == Searcher.FINISHED


@pytest.mark.parametrize(("error", "epoch", "reason"), [(True, 1, FAILED), (False, 2, COMPLETED)])
def test_the_end_of_a_trial_is_noted_with_its_reason(error, epoch, reason):
    ledger = Ledger()
    dealer = a_dealer([a_request("a")], ledger=ledger)
    dealer.suggest("1")
    dealer.on_trial_complete("1", a_result(epoch), error=error)
    assert ledger.records["a/stated-confirm/1"].stop_reason == reason


def test_a_trial_that_failed_is_dealt_again_as_often_as_it_may_be_before_anything_else():
    ledger = Ledger()
    dealer = a_dealer([a_request("a"), a_request("b")], [a_request("c")], ledger=ledger, max_failures=2)
    dealer.suggest("1")
    dealer.on_trial_result("1", a_result(1))
    for attempt, following in (("1", "2"), ("2", "3")):
        dealer.on_trial_complete(attempt, error=True)
        assert ledger.records["a/stated-confirm/1"].stop_reason is None
        assert dealer.suggest(following) == {"arm": "a", "key": "a/stated-confirm/1", "index": 1}
    assert ledger.records["a/stated-confirm/1"].epoch == 1  # what was told stays told
    dealer.on_trial_complete("3", error=True)
    record = ledger.records["a/stated-confirm/1"]
    assert (record.stop_reason, len(record.failures)) == (FAILED, 3)
    assert dealer.suggest("4")["arm"] == "b"
    dealer.on_trial_complete("4", error=True)
    assert not dealer.exhausted
    assert dealer.suggest("5")["arm"] == "b"  # and not the next stage
    dealer.on_trial_complete("5", a_result())
    assert dealer.suggest("6")["arm"] == "c"
    assert dealer.dealt == 3
    dealer.on_trial_complete("6", a_result())
    assert dealer.suggest("7") == Searcher.FINISHED
    assert dealer.exhausted


@pytest.mark.parametrize(("kind", "tries"), [(LOST, 21), (REFUSED, 21), (CROWDED, 2), (OWN, 1), (ENDED, 1)])
def test_what_a_machine_did_costs_none_of_the_trials_own_failures(kind, tries):
    ledger = Ledger()
    dealer = a_dealer([a_request("a")], ledger=ledger, max_failures=0)
    key = a_request("a").key
    for attempt in range(1, tries + 1):
        assert ledger.records.get(key) is None or ledger.records[key].stop_reason is None
        assert dealer.suggest(str(attempt))["arm"] == "a"
        ledger.note_failure(key, Failure(kind, "node"))
        dealer.on_trial_complete(str(attempt), error=True)
    assert (ledger.records[key].stop_reason, len(ledger.records[key].failures)) == (FAILED, tries)


def test_what_is_left_running_ends_as_interrupted():
    dealer = a_dealer([a_request("a"), a_request("b")])
    dealer.suggest("1")
    dealer.on_trial_complete("1", a_result())
    dealer.suggest("2")
    assert [(record.request.arm, record.stop_reason) for record in dealer.finish()] == [("b", INTERRUPTED)]


def test_tune_pickles_nothing_of_it():
    assert pickle.loads(pickle.dumps(a_dealer([a_request("a")]))) == {}


def packed_requests(count=3):
    flat = {"loss": "mse", "optimizer": "sgd", "optimizer.learning_rate": 0.1, "model": "mlp", "epochs": 2}
    return [Request("a", CONFIRM, seed, {**flat, "seed": seed}, regime="stated") for seed in range(count)]


def test_a_pack_is_dealt_once_and_each_of_its_trials_is_noted_at_its_end():
    ledger = Ledger()
    to_config = lambda request: {"arm": request.arm, "phase": request.phase, "number": request.number}  # noqa: E731
    dealer = a_dealer(packed_requests(), ledger=ledger, replicas=10, max_concurrent=1, to_config=to_config)
    config = dealer.suggest("1")
    keys = [f"a/stated-confirm/{seed}" for seed in range(3)]
    assert [member["key"] for member in config["members"]] == keys == list(ledger.records)
    assert (config["index"], dealer.dealt, dealer.suggest("2")) == (3, 3, None)
    dealer.on_trial_result("1", {"epoch": 1, "members": [], "trial_seconds": 6.0})
    assert [record.epoch for record in ledger.records.values()] == [0, 0, 0]
    assert [(record.trained, record.seconds) for record in ledger.records.values()] == [(1, 2.0)] * 3
    told = [
        {**a_result(2), "key": keys[0]},
        {**a_result(1, diverged=1.0), "key": keys[1]},
        {**a_result(2), "key": keys[2]},
    ]
    dealer.on_trial_result("1", {"epoch": 2, "members": told})
    dealer.on_trial_complete("1", {"epoch": 2, "members": told})
    assert [record.stop_reason for record in ledger.records.values()] == [COMPLETED, DIVERGED, COMPLETED]
    assert [record.epoch for record in ledger.records.values()] == [2, 1, 2]
    assert [record.trained for record in ledger.records.values()] == [2, 1, 2]
    assert dealer.suggest("2") == Searcher.FINISHED


def test_the_trials_of_a_pack_that_failed_are_dealt_again_one_by_one():
    ledger = Ledger()
    to_config = lambda request: {"arm": request.arm, "phase": request.phase, "number": request.number}  # noqa: E731
    dealer = a_dealer(packed_requests(2), ledger=ledger, replicas=10, max_failures=1, to_config=to_config)
    dealer.suggest("1")
    dealer.on_trial_result("1", {"epoch": 1, "members": [], "trial_seconds": 6.0})
    dealer.on_trial_complete("1", {"epoch": 1, "members": []}, error=True)
    # What was not told is lost.
    assert [(record.trained, record.seconds) for record in ledger.records.values()] == [(0, 0.0)] * 2
    again = [dealer.suggest(name) for name in "23"]
    assert [config["key"] for config in again] == list(ledger.records)
    assert not any("members" in config for config in again)
    assert dealer.suggest("4") is None
    dealer.on_trial_complete("2", a_result())
    dealer.on_trial_complete("3", error=True)  # once too often
    assert [record.stop_reason for record in ledger.records.values()] == [COMPLETED, FAILED]
    assert dealer.suggest("4") == Searcher.FINISHED


def test_of_a_pack_what_is_on_record_is_not_trained_again():
    known = {"a/stated-confirm/1": {**a_result(), "stop_reason": COMPLETED}}
    to_config = lambda request: {"arm": request.arm, "phase": request.phase, "number": request.number}  # noqa: E731
    dealer = a_dealer(packed_requests(), replicas=10, recalled=known, to_config=to_config)
    assert [member["key"] for member in dealer.suggest("1")["members"]] == ["a/stated-confirm/0", "a/stated-confirm/2"]
    assert dealer.dealt == 2
