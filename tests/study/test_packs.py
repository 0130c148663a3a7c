"""Trials that can be trained as one model are dealt as one; whatever else is dealt alone."""

import itertools

import pytest

from study.ledger import CONFIRM, SEARCH, Request
from study.packs import as_one, keys_of, pack, results_of
from trainables.config import TrialConfig

FLAT = TrialConfig.from_flat(
    {"loss": "focal", "loss.gamma": 2.0, "optimizer": "sgd", "optimizer.learning_rate": 0.1, "model": "mlp",
     "batch_size": 32, "epochs": 3}
).to_flat()  # fmt: skip
RATES = (0.01, 0.1, 1.0)


def a_request(arm="a", seed=1, rate=0.1, *, phase=CONFIRM, regime="fair", group=None, **changes):
    config = {**FLAT, "seed": seed, "optimizer.learning_rate": rate, **changes}
    return Request(arm, phase, 100 * seed + RATES.index(rate), config, regime=regime, group=group)


def a_grid(arm, **how):
    return [a_request(arm, seed, rate, phase=SEARCH, **how) for seed, rate in itertools.product((1, 2), RATES)]


def sizes(packs):
    return [len(requests) for requests in packs]


def test_a_grid_is_one_pack_an_arm_in_the_order_of_its_rates():
    grids = {arm: a_grid(arm) for arm in "ab"}
    mixed = [request for pair in zip(*grids.values(), strict=True) for request in pair]
    first, second = pack(mixed, 100)
    assert {request.arm for request in first} == {"a"}
    assert {request.arm for request in second} == {"b"}
    assert [request.config["optimizer.learning_rate"] for request in first] == sorted(RATES * 2)
    assert {request.key for request in first} == {request.key for request in grids["a"]}


@pytest.mark.parametrize(("size", "expected"), [(6, [6]), (5, [3, 3]), (4, [3, 3]), (2, [2, 2, 2]), (1, [1] * 6)])
def test_packs_are_as_even_as_they_can_be_and_no_larger_than_asked_for(size, expected):
    packs = list(pack(a_grid("a"), size))
    assert sizes(packs) == expected
    assert {request.key for requests in packs for request in requests} == {request.key for request in a_grid("a")}


@pytest.mark.parametrize(
    "other",
    [
        a_request("b", 2),
        a_request("a", 2, phase=SEARCH),
        a_request("a", 2, regime="stated"),
        a_request("a", 2, batch_size=64),
        a_request("a", 2, **{"loss.gamma": 1.0}),
        a_request("a", 2, imbalance=10.0),
    ],
)
def test_other_arms_phases_regimes_and_values_are_never_in_one_pack(other):
    assert sizes(pack([a_request("a", 1), other], 10)) == [1, 1]


@pytest.mark.parametrize(
    "changes", [{"model": "resnet18"}, {"loss": "mine:loss"}, {"optimizer": "mine:lars"}, {"augment": True}]
)
def test_what_cannot_be_batched_is_dealt_alone(changes):
    assert sizes(pack([a_request(seed=seed, **changes) for seed in (1, 2)], 10)) == [1, 1]


def test_a_trial_of_which_epochs_are_on_record_goes_on_alone():
    requests = [a_request(seed=seed) for seed in (1, 2, 3)]
    packs = list(pack(requests, 10, {requests[1].key}))
    assert [[request.key for request in dealt] for dealt in packs] == [
        [requests[1].key],
        [requests[0].key, requests[2].key],
    ]


def test_what_optuna_asks_for_is_dealt_before_the_next_is_asked_for():
    asked = []

    def ask():
        for seed in (1, 2):
            asked.append(seed)
            yield a_request(seed=seed, phase=SEARCH, group="a")

    packs = pack(ask(), 10)
    assert sizes([next(packs)]) == [1]
    assert asked == [1]


MEMBER = {"arm": "a", "phase": CONFIRM, "number": 1, "rungs": [3], "config": FLAT}


def test_a_pack_of_one_is_a_trial_like_any_other():
    member = {**MEMBER, "key": "a/confirm/1"}
    assert as_one([member]) is member
    assert keys_of(member) == ("a/confirm/1",)
    result = {"epoch": 2, "rows": []}
    assert dict(results_of(member, result)) == {"a/confirm/1": result}
    assert dict(results_of(member, None)) == {"a/confirm/1": {}}


def test_a_pack_is_known_by_its_first_trial_and_tells_of_each_at_its_end():
    members = [{**MEMBER, "key": f"a/confirm/{number}", "number": number} for number in (1, 2)]
    config = as_one(members)
    assert (config["key"], config["number"], config["rungs"]) == ("a/confirm/1", 1, [])
    assert keys_of(config) == ("a/confirm/1", "a/confirm/2")
    assert dict(results_of(config, {"epoch": 1, "members": []})) == {}
    told = [{"key": key, "epoch": 3} for key in keys_of(config)]
    assert dict(results_of(config, {"epoch": 3, "members": told})) == dict(zip(keys_of(config), told, strict=True))
