"""An actor trains several trials as one model and tells of each what it would have said alone."""

import math

import pytest
import torch

import trainables.trainer
from tests.trainables.test_trainable import CONFIGS, DATASET, finish, fresh, request, rows
from trainables.config import InputError

FLAT = {
    "loss": "hinge", "loss.margin": 2.0, "optimizer": "sgd", "optimizer.learning_rate": 0.02, "optimizer.momentum": 0.9,
    "model": "mlp", "width": 16, "batch_size": 20, "epochs": 3, "init_std": 0.1,
}  # fmt: skip
TRIALS = ((1, 0.002), (1, 0.02), (2, 0.02))


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def members(flat=None, trials=TRIALS, **more):
    return [
        {
            **request({**(flat or FLAT), "seed": seed, "optimizer.learning_rate": rate}, **more),
            "key": f"arm/search/{number}",
        }
        for number, (seed, rate) in enumerate(trials)
    ]


def together(requests):
    return {"key": requests[0]["key"], "phase": requests[0]["phase"], "rungs": [], "members": requests}


def comparable(told):
    """The rows of a trial without seconds, and what else it says."""
    names = ("epoch", "val_accuracy", "val_nll", "diverged", "done")
    return rows([told]), {name: told[name] for name in names}


def assert_as_alone(told, asked):
    alone = finish(fresh(asked))
    expected = {**alone[-1], "rows": [row for result in alone for row in result["rows"]]}
    (own_rows, said), (expected_rows, expected_said) = comparable(told), comparable(expected)
    assert said == pytest.approx(expected_said, rel=1e-3, abs=1e-4)
    assert [epoch for epoch, _ in own_rows] == [epoch for epoch, _ in expected_rows]
    for (_, row), (_, other) in zip(own_rows, expected_rows, strict=True):
        assert row.pop("shared_seconds") > 0
        assert row == pytest.approx(other, rel=1e-3, abs=1e-4)
    assert ("final" in told) == ("final" in expected)
    if "final" in told:
        assert told["final"]["confusion"] == expected["final"]["confusion"]
        assert told["final"]["class_names"] == list(DATASET.class_names)


@pytest.mark.parametrize("how", [{}, {"phase": "confirm"}, {"phase": "confirm", "watch": ["test", "noise"]}])
def test_each_trial_says_at_the_end_what_it_would_have_said_alone(how):
    requests = members(**how)
    results = finish(fresh(together(requests)))
    assert all(result["members"] == [] for result in results[:-1])
    told = results[-1]["members"]
    assert [member["key"] for member in told] == [asked["key"] for asked in requests]
    for member, asked in zip(told, requests, strict=True):
        assert_as_alone(member, asked)


def test_nothing_is_told_of_any_before_all_have_ended(monkeypatch):
    monkeypatch.setattr(trainables.trainer, "REPORT_SECONDS", -1.0)
    results = finish(fresh(together(members())))
    assert [(result["epoch"], result["done"], len(result["members"])) for result in results] == [
        (1, False, 0),
        (2, False, 0),
        (3, True, 3),
    ]
    assert [round(result["schedule_percent"]) for result in results] == [33, 67, 100]


def test_one_that_diverges_ends_there_and_at_chance():
    told = finish(fresh(together(members(trials=((1, 0.02), (1, 1e38))))))[-1]["members"]
    assert [(member["epoch"], member["diverged"]) for member in told] == [(3, 0), (1, 1)]
    assert told[1]["val_accuracy"] == 0.1
    assert told[1]["val_nll"] == math.inf


def test_the_weights_of_each_are_left_where_it_was_asked(tmp_path):
    requests = members(phase="confirm")
    for asked in requests:
        asked["model_path"] = str(tmp_path / f"{asked['key'].rpartition('/')[2]}.pt")
    finish(fresh(together(requests)))
    alone = tmp_path / "alone.pt"
    finish(fresh({**requests[1], "model_path": str(alone)}))
    own, other, expected = (
        torch.load(file, weights_only=True) for file in (tmp_path / "1.pt", tmp_path / "2.pt", alone)
    )
    for name, values in expected.items():
        torch.testing.assert_close(own[name], values, rtol=1e-3, atol=1e-4)
        assert not torch.equal(other[name], values)


def test_a_trial_after_a_pack_and_a_pack_after_a_trial_are_as_on_a_fresh_actor():
    single, pack = request(CONFIGS[1]), together(members())
    expected = rows(finish(fresh(single)))
    told = [rows([member]) for member in finish(fresh(pack))[-1]["members"]]
    actor = fresh(single)
    finish(actor)
    for _ in range(2):
        actor.reset_config(pack)
        again = [rows([member]) for member in finish(actor)[-1]["members"]]
        assert [without_seconds(one) for one in again] == [without_seconds(one) for one in told]
        actor.reset_config(single)
        assert rows(finish(actor)) == expected


def without_seconds(told):
    return [(epoch, {key: value for key, value in row.items() if key != "shared_seconds"}) for epoch, row in told]


def test_what_cannot_be_watched_is_refused_as_of_a_trial_alone():
    actor = fresh(together(members(watch=["train"])))
    with pytest.raises(InputError, match="`watch` takes test, noise; got 'train'"):
        actor.step()
