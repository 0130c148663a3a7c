"""A trial's numbers do not depend on the actor's past, on the clock, on an interruption, or on the test split."""

import dataclasses
import errno
import json
import logging
import math
import os
import random
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import trainables.trainer
from trainables.config import InputError
from trainables.data import load_dataset
from trainables.trainable import ClassifierTrainable

DATASET = load_dataset("digits", train_size=120)  # 100 to train on, 20 to validate on
OTHER_TEST = dataclasses.replace(
    DATASET, test_images=255 - DATASET.test_images[::-1], test_labels=(DATASET.test_labels + 1) % 10
)


class Dropping(nn.Module):
    """A user's model that draws from all three global generators while it trains."""

    def __init__(self, num_classes, rate):
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Dropout(rate))
        self.head = nn.Linear(24, num_classes)

    def forward(self, images):
        noise = random.random() + np.random.normal() if self.training else 0.0  # noqa: NPY002
        return self.head(self.features(images)) * (1 + noise / 10)


DROPPING = {"model": "users_module:build", "model.rate": 0.3}

#: Neighbours, the last and the first included, differ in everything here.
PARTS = [
    {"loss": "cross_entropy", "optimizer": "sgd", "optimizer.learning_rate": 0.1, "optimizer.momentum": 0.9,
     "model": "mlp", "width": 32, "batch_size": 16, "epochs": 3},
    {"loss": "focal", "loss.gamma": 0.5, "optimizer": "adam", "optimizer.learning_rate": 0.01,
     "model": "convnet", "width": 4, "activation": "silu", "batch_size": 33, "epochs": 4},
    {"loss": "hinge", "loss.margin": 2.0, "optimizer": "adamw", "optimizer.learning_rate": 0.003,
     "optimizer.weight_decay": 0.1, **DROPPING, "batch_size": 25, "epochs": 5},
    {"loss": "l1", "optimizer": "rmsprop", "optimizer.learning_rate": 0.002,
     "model": "mlp", "hidden_layers": 2, "width": 16, "model.last_width": 8, "activation": "gelu", "batch_size": 99,
     "epochs": 3},
    {"loss": "mse_logits", "optimizer": "adam", "optimizer.learning_rate": 0.02,
     "model": "convnet", "width": 6, "batch_size": 20, "epochs": 4},
    {"loss": "smooth_l1", "optimizer": "sgd", "optimizer.learning_rate": 1.0,
     "loss.class_reduction": "sum", **DROPPING, "batch_size": 40, "epochs": 5},
    {"loss": "kl_div", "optimizer": "rmsprop", "optimizer.learning_rate": 0.004, "optimizer.weight_decay": 0.01,
     "model": "mlp", "width": 48, "activation": "selu", "batch_size": 64, "epochs": 3},
    {"loss": "mse", "optimizer": "adamw", "optimizer.learning_rate": 0.03,
     **DROPPING, "model.rate": 0.1, "batch_size": 17, "epochs": 6},
]  # fmt: skip


def switches(number):
    """Seed and two-valued fields; over the eight numbers every pair of values meets."""
    bits = [bool(number >> place & 1) for place in range(3)]
    return {
        "seed": 10 + number,
        "precision": "bf16" if bits[0] else "fp32",
        "reduction": "sum" if bits[1] else "mean",
        "schedule": "cosine" if bits[2] else "constant",
        "augment": bits[0] ^ bits[1] ^ bits[2],
    }


def extras(number):
    """Fields that are left out at their default, each set where its bit of the number is."""
    second = {"second_optimizer": "adam", "second_optimizer.learning_rate": 0.002, "switch_epoch": 1 + number % 2}
    values = ({"init_std": 0.1}, {"imbalance": 3.0}, second)
    return {key: value for place, part in enumerate(values) if number >> place & 1 for key, value in part.items()}


CONFIGS = [parts | switches(number) | extras(number) for number, parts in enumerate(PARTS)]
#: For each configuration one that differs from it in every field: number 7 - n has the opposite bits of n.
OPPOSITES = [PARTS[(number + 1) % 8] | switches(7 - number) | extras(7 - number) for number in range(8)]
EXTRAS = ("init_std", "imbalance", "second_optimizer", "second_optimizer.learning_rate", "switch_epoch")
DIVERGING = {"optimizer.learning_rate": 1e38}
every_config = pytest.mark.parametrize("number", range(8), ids=[f"{c['loss']}-{c['optimizer']}" for c in CONFIGS])


@pytest.fixture(scope="module", autouse=True)
def _users_module():
    module = types.ModuleType("users_module")
    module.build = lambda _shape, num_classes, *, rate: Dropping(num_classes, rate)
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "users_module", module)
        yield
    torch.set_num_threads(threads)


def with_loss(flat, name):
    """The configuration with a loss that takes no parameters."""
    return {key: value for key, value in flat.items() if not key.startswith("loss.")} | {"loss": name}


def request(flat, *, phase="search", rungs=(), model_path=None, **more):
    """What the searcher puts into Ray's configuration."""
    fields = {"config": flat, "phase": phase, "rungs": list(rungs), "model_path": model_path, "key": "arm/search/0"}
    return fields | more


def fresh(first_request, dataset=DATASET):
    """An actor as a new process has it."""
    # Ray's constructor would make a folder in the home directory and does nothing that a trial depends on.
    actor = ClassifierTrainable.__new__(ClassifierTrainable)
    actor.setup(first_request, dataset=dataset)
    return actor


def finish(actor):
    """Every result until the trial says that it is done."""
    results = [actor.step()]
    while not results[-1]["done"]:
        results.append(actor.step())
    return results


def rows(results):
    """(epoch, row) of every epoch, in the order told, without the seconds."""
    return [
        (epoch, {key: value for key, value in row.items() if key != "epoch_seconds"})
        for result in results
        for epoch, row in result["rows"]
    ]


def end(results):
    """What the last result says beside its rows and seconds, and the notice that a first result may have."""
    return {key: value for key, value in results[-1].items() if key not in ("rows", "trial_seconds", "notice")}


def state_of(actor):
    """Everything that a further epoch would depend on."""
    state = actor._trainer._state
    tensors = {f"model.{key}": value.clone() for key, value in state.model.state_dict().items()}
    for position, values in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{position}.{key}": torch.as_tensor(value).clone() for key, value in values.items()}
    tensors |= {"order": state.order.get_state(), "augmentation": state.augmentation.get_state()}
    return tensors | {"global": torch.get_rng_state()}


def assert_equal_to_the_bit(first, second):
    assert first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key], second[key])] == []


def run(actor):
    results = finish(actor)
    return rows(results), end(results), state_of(actor)


@every_config
@pytest.mark.parametrize("ending", ["completed", "stopped", "diverged", "confirmed", "restored"])
def test_a_reused_actor_gives_what_a_fresh_one_gives(number, ending, tmp_path, monkeypatch):
    target, predecessor = CONFIGS[number], OPPOSITES[number]
    shared = ("loss", "optimizer", "optimizer.learning_rate", "model", "batch_size", "epochs", *switches(0), *EXTRAS)
    assert [key for key in shared if target.get(key) == predecessor.get(key)] == []
    watched = request(target, phase="confirm", watch=["test", "noise"])
    expected_rows, expected_end, expected_state = run(fresh(watched))
    assert [epoch for epoch, _ in expected_rows] == list(range(1, target["epochs"] + 1))
    assert expected_end["diverged"] == 0

    if ending == "diverged":
        predecessor = with_loss(predecessor, "mse" if number == 0 else "cross_entropy") | DIVERGING
    before = request(predecessor, phase="confirm" if ending == "confirmed" else "search", rungs=[1])
    if ending == "restored":
        monkeypatch.setattr(trainables.trainer, "TRAINING_PER_SAVING", 0)
        before["checkpoint"] = str(tmp_path / "trial.pt")
        fresh(before).step()
    actor = fresh(before)
    if ending == "stopped":
        assert not actor.step()["done"]
    else:
        results = finish(actor)
        assert results[-1]["diverged"] == (ending == "diverged")
        assert ("notice" in results[0]) == (ending == "restored")
    assert actor.reset_config(watched)
    reused_rows, reused_end, reused_state = run(actor)

    assert reused_rows == expected_rows
    assert reused_end == expected_end
    assert_equal_to_the_bit(reused_state, expected_state)


def test_one_actor_through_all_trials_in_both_directions_gives_what_fresh_ones_give():
    expected = [run(fresh(request(flat))) for flat in CONFIGS]
    actor = fresh(request(CONFIGS[0]))
    for number in [*range(8), *reversed(range(8))]:
        actor.reset_config(request(CONFIGS[number]))
        actual = run(actor)
        assert actual[:2] == expected[number][:2]
        assert_equal_to_the_bit(actual[2], expected[number][2])


def test_a_trial_that_cannot_start_fails_in_its_first_step_and_not_the_actor():
    actor = fresh(request(CONFIGS[0] | {"loss": "cross"}))
    with pytest.raises(InputError, match="Unknown loss 'cross'"):
        actor.step()
    actor.reset_config(request(CONFIGS[0]))
    assert rows(finish(actor)) == rows(finish(fresh(request(CONFIGS[0]))))


def test_an_actor_computes_in_one_thread():
    torch.set_num_threads(2)
    fresh(request(CONFIGS[0]))
    assert torch.get_num_threads() == 1


# Checkpoints

SCRATCH = "the trial starts from scratch."


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoints" / "arm-search-0.pt"


@pytest.fixture
def _saving(monkeypatch):
    """Saves after every report, whatever it costs."""
    monkeypatch.setattr(trainables.trainer, "TRAINING_PER_SAVING", 0)


def saved(path, flat, epoch=1, **more):
    """A request whose trial was killed after an epoch; every epoch is reported and saved."""
    asked = request(flat, checkpoint=str(path), rungs=range(20), **more)
    actor = fresh(asked)
    assert [actor.step()["epoch"] for _ in range(epoch)] == list(range(1, epoch + 1))
    return asked


def names(path):
    return sorted(file.name for file in path.parent.iterdir())


@every_config
@pytest.mark.usefixtures("_saving")
def test_a_trial_killed_after_any_epoch_goes_on_as_if_it_never_was(number, path, tmp_path):
    flat = CONFIGS[number]
    watched = request(flat, phase="confirm", rungs=range(20), watch=["noise", "test"])
    expected_rows, expected_end, expected_state = run(fresh(watched))

    first, told = fresh(watched | {"checkpoint": str(path)}), []
    while not told or not told[-1]["done"]:
        told.append(first.step())
        shutil.copy(path, tmp_path / f"after-{told[-1]['epoch']}.pt")
    assert names(path) == [path.name, f"{path.name}.previous"]
    assert rows(told) == expected_rows
    assert_equal_to_the_bit(state_of(first), expected_state)

    actor = fresh(request(OPPOSITES[number], rungs=[1]))
    for epoch in range(1, flat["epochs"] + 1):
        actor.reset_config(request(OPPOSITES[number], rungs=[1]))
        actor.step()
        actor.reset_config(watched | {"checkpoint": str(tmp_path / f"after-{epoch}.pt")})
        results = finish(actor)
        assert [result["epoch"] for result in results] == list(range(epoch, flat["epochs"] + 1))
        assert rows(results) == expected_rows
        assert end(results) == expected_end
        assert_equal_to_the_bit(state_of(actor), expected_state)
        assert results[0]["trial_seconds"] == told[epoch - 1]["trial_seconds"]
        assert results[0]["rows"][: epoch - 1] == [row for result in told[: epoch - 1] for row in result["rows"]]
        notices = [f"The trial went on from its checkpoint, after epoch {epoch}.", *[None] * (len(results) - 1)]
        assert [result.get("notice") for result in results] == notices


@every_config
@pytest.mark.usefixtures("_saving")
def test_a_trial_killed_after_every_epoch_is_told_whole(number, path):
    flat, results = CONFIGS[number], []
    asked = request(flat, phase="control", rungs=range(20), checkpoint=str(path))
    while not results or not results[-1]["done"]:
        actor = fresh(asked)
        results = [actor.step(), actor.step()] if results else [actor.step()]
    expected_rows, expected_end, expected_state = run(fresh(request(flat, phase="control")))
    assert (rows(results), end(results)) == (expected_rows, expected_end)
    assert_equal_to_the_bit(state_of(actor), expected_state)


@pytest.mark.parametrize("saved_after", range(1, 7))
@pytest.mark.usefixtures("_saving")
def test_a_trial_goes_on_before_at_and_after_the_switch_of_its_optimizer(saved_after, path):
    # Not AdamW: its saved state would make an Adam in its place behave as it does.
    flat = CONFIGS[7] | {"optimizer": "rmsprop", "switch_epoch": 3}
    expected_rows, _, expected_state = run(fresh(request(flat, watch=["noise"])))
    actor = fresh(saved(path, flat, saved_after, watch=["noise"]))
    assert rows(finish(actor)) == expected_rows
    assert_equal_to_the_bit(state_of(actor), expected_state)
    assert [row["learning_rate"] <= 0.002 for _, row in expected_rows] == [False] * 3 + [True] * 3


@pytest.mark.usefixtures("_saving")
def test_a_confirmation_killed_after_its_last_epoch_is_looked_at_again_and_leaves_the_same_weights(path, tmp_path):
    weights = tmp_path / "models" / "arm-10.pt"
    asked = request(CONFIGS[2], phase="confirm", checkpoint=str(path), model_path=str(weights))
    expected = finish(fresh(asked))
    expected_weights = weights.read_bytes()
    weights.unlink()
    (again,) = finish(fresh(asked))
    assert rows([again]) == rows(expected)
    assert again["final"] == expected[-1]["final"]
    assert weights.read_bytes() == expected_weights


@pytest.mark.parametrize("phase", ["search", "confirm"])
@pytest.mark.usefixtures("_saving")
def test_a_trial_that_diverged_stays_so(phase, path, monkeypatch):
    flat = with_loss(CONFIGS[0], "cross_entropy") | DIVERGING | {"epochs": 6}
    asked = request(flat, phase=phase, checkpoint=str(path))
    expected = finish(fresh(asked))
    monkeypatch.setattr(trainables.trainer, "run_epoch", None)
    (again,) = finish(fresh(asked))
    assert again["diverged"] == 1
    assert rows([again]) == rows(expected)
    assert end([again]) == end(expected)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"config": CONFIGS[0] | {"seed": 99}}, "is of another trial (by its config)"),
        ({"config": CONFIGS[0] | {"optimizer.learning_rate": 0.2}}, "is of another trial (by its config)"),
        ({"config": CONFIGS[0] | {"width": 33}}, "is of another trial (by its config, model)"),
        ({"key": "arm/search/1"}, "is of another trial (by its key)"),
        ({"phase": "confirm"}, "is of another trial (by its phase)"),
        ({"watch": ["noise"]}, "is of another trial (by its watch)"),
    ],
)
@pytest.mark.usefixtures("_saving")
def test_a_checkpoint_of_another_trial_is_refused(change, reason, path):
    asked = saved(path, CONFIGS[0]) | change
    results = finish(fresh(asked))
    assert results[0]["notice"] == f"The checkpoint {path.name} {reason}; the trial starts from scratch."
    assert rows(results) == rows(finish(fresh(asked | {"checkpoint": None})))
    assert not any("notice" in result for result in results[1:])


@pytest.mark.usefixtures("_saving")
def test_a_checkpoint_of_other_data_or_of_another_torch_is_refused(path, monkeypatch):
    asked = saved(path, CONFIGS[0])
    shutil.copy(path, path.with_name("other.pt"))
    results = finish(fresh(asked, OTHER_TEST))
    assert results[0]["notice"] == f"The checkpoint {path.name} is of another trial (by its data); " + SCRATCH
    monkeypatch.setattr(torch, "__version__", "1.0")
    results = finish(fresh(asked | {"checkpoint": str(path.with_name("other.pt"))}))
    assert results[0]["notice"] == "The checkpoint other.pt is of another trial (by its torch); " + SCRATCH


@pytest.mark.parametrize("keep", [0, 40, 70, 5000, -1])
@pytest.mark.usefixtures("_saving")
def test_a_damaged_checkpoint_gives_way_to_the_one_before_it_and_then_to_the_start(keep, path):
    expected = run(fresh(request(CONFIGS[7])))
    for damaged, epochs in ([path], [2, 3, 4, 5, 6]), ([path, path.with_name(f"{path.name}.previous")], range(1, 7)):
        asked = saved(path, CONFIGS[7], 3)
        for file in damaged:
            file.write_bytes(file.read_bytes()[:keep])
        actor = fresh(asked)
        results = finish(actor)
        assert [result["epoch"] for result in results] == list(epochs)
        assert (rows(results), end(results)) == expected[:2]
        assert_equal_to_the_bit(state_of(actor), expected[2])
        notice = results[0]["notice"]
        assert notice.startswith(f"The checkpoint {path.name} ")
        used = "the one before it is used instead. The trial went on from its checkpoint, after epoch 2."
        assert notice.endswith(SCRATCH if len(damaged) > 1 else used)
        for file in path.parent.iterdir():
            file.unlink()


def users_optimizer(num_groups):
    """A user's optimizer, with its parameters in some groups."""

    def build(parameters, *, learning_rate):
        parameters = list(parameters)
        cuts = [parameters[number::num_groups] for number in range(num_groups)]
        return torch.optim.SGD([{"params": cut} for cut in cuts], lr=learning_rate, momentum=0.9)

    return build


@pytest.mark.usefixtures("_saving")
def test_a_checkpoint_that_a_changed_part_of_the_users_cannot_take_is_no_reason_to_fail(path, monkeypatch):
    flat = {**CONFIGS[7], "optimizer": "users_module:rule", "optimizer.learning_rate": 0.1, "switch_epoch": 5}
    monkeypatch.setattr(sys.modules["users_module"], "rule", users_optimizer(1), raising=False)
    asked = saved(path, flat, 2)
    monkeypatch.setattr(sys.modules["users_module"], "rule", users_optimizer(2))
    results = finish(fresh(asked))
    assert results[0]["notice"].startswith(f"The checkpoint {path.name} does not fit (ValueError: ")
    assert results[0]["notice"].endswith("; " + SCRATCH)
    assert rows(results) == rows(finish(fresh(request(flat))))


@pytest.mark.usefixtures("_saving")
def test_a_part_of_the_users_that_cannot_be_saved_is_no_reason_to_fail(path, monkeypatch, caplog):
    def build(parameters, *, learning_rate):
        optimizer = users_optimizer(1)(parameters, learning_rate=learning_rate)
        optimizer.param_groups[0]["rule"] = lambda: None
        return optimizer

    flat = {**CONFIGS[7], "optimizer": "users_module:rule", "optimizer.learning_rate": 0.1, "switch_epoch": 5}
    monkeypatch.setattr(sys.modules["users_module"], "rule", build, raising=False)
    expected = rows(finish(fresh(request(flat))))
    assert rows(finish(fresh(request(flat, checkpoint=str(path), rungs=[1])))) == expected
    assert "Trials go on without being saved: " in caplog.text


@pytest.mark.usefixtures("_saving")
def test_a_full_disk_does_not_end_a_trial_and_is_said_once(path, monkeypatch, caplog):
    expected = rows(finish(fresh(request(CONFIGS[7]))))
    asked = saved(path, CONFIGS[7], 1)

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        actor = fresh(asked)
        assert rows(finish(actor)) == expected
        actor.reset_config(request(CONFIGS[0], checkpoint=str(path.with_name("other.pt"))))
        finish(actor)
    said = "Trials go on without being saved: OSError: [Errno 28] No space left on device"
    assert [(record.levelno, record.message) for record in caplog.records] == [(logging.WARNING, said)]
    assert names(path) == [path.name]
    results = finish(fresh(asked))
    assert results[0]["epoch"] == 1
    assert rows(results) == expected


@settings(deadline=None)  # a busy machine is not a failure
@given(
    # Binary fractions, whose sums and differences are exact.
    training=st.lists(st.integers(1, 1280).map(lambda count: count / 64), min_size=20, max_size=20),
    saving=st.lists(st.integers(1, 2048).map(lambda count: count / 4096), min_size=20, max_size=20),
    breaks=st.booleans(),
)
def test_saving_takes_two_percent_of_the_training_at_most(training, saving, breaks):
    now, saves = 0.0, []

    def pretend_epoch(state, _data, *, watch):
        state.epoch += 1
        return {"val_accuracy": 0.5, "diverged": 0.0, "epoch_seconds": training[state.epoch - 1]}

    def pretend_write(_path, content):
        nonlocal now
        now += saving[len(saves)]
        saves.append(content["epoch"])
        if breaks:
            raise OSError

    actor = fresh(request(CONFIGS[0] | {"epochs": 20}, rungs=range(30), checkpoint="/nowhere/trial.pt"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainables.trainer, "run_epoch", pretend_epoch)
        patch.setattr(trainables.trainer, "write_checkpoint", pretend_write)
        patch.setattr(trainables.trainer, "time", types.SimpleNamespace(monotonic=lambda: now))
        finish(actor)
    expected, last, needed = [], 0, 50 * 0.005
    for epoch in range(1, 21):
        if sum(training[last:epoch]) >= needed:
            needed = 50 * saving[len(expected)]
            expected.append(epoch)
            last = epoch
    assert saves == expected


def test_a_trial_shorter_than_a_save_is_worth_writes_nothing(path, monkeypatch):
    run_epoch = trainables.trainer.run_epoch
    monkeypatch.setattr(
        trainables.trainer, "run_epoch", lambda *state, watch: run_epoch(*state, watch=watch) | {"epoch_seconds": 0.08}
    )
    finish(fresh(request(CONFIGS[0], checkpoint=str(path))))  # of three epochs
    assert not path.parent.exists()
    finish(fresh(request(CONFIGS[1], checkpoint=str(path))))  # of four
    assert names(path) == [path.name]


def test_without_a_checkpoint_there_is_no_notice(path):
    for more in ({}, {"checkpoint": None}, {"checkpoint": str(path)}):
        assert not any("notice" in result for result in finish(fresh(request(CONFIGS[0], **more))))


# Reports


@settings(deadline=None)  # a busy machine is not a failure
@given(
    epochs=st.integers(1, 30),
    rungs=st.lists(st.integers(1, 40), unique=True),
    seconds=st.lists(st.floats(0, 0.5), min_size=30, max_size=30),
)
def test_reports_end_at_every_rung_whatever_the_time_and_tell_each_epoch_once(epochs, rungs, seconds):
    now = 0.0

    def pretend_epoch(state, _data, *, watch):
        nonlocal now
        state.epoch += 1
        now += seconds[state.epoch - 1]
        return {"val_accuracy": state.epoch / 100, "diverged": 0.0, "epoch_seconds": seconds[state.epoch - 1]}

    actor = fresh(request(CONFIGS[0] | {"epochs": epochs}, rungs=rungs))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainables.trainer, "run_epoch", pretend_epoch)
        patch.setattr(trainables.trainer, "time", types.SimpleNamespace(monotonic=lambda: now))
        results = finish(actor)
    told = [epoch for result in results for epoch, _ in result["rows"]]
    ends = [result["epoch"] for result in results]
    assert told == list(range(1, epochs + 1))
    assert ends == [result["rows"][-1][0] for result in results]
    assert {rung for rung in rungs if rung <= epochs} | {epochs} <= set(ends)
    assert [result["done"] for result in results] == [False] * (len(results) - 1) + [True]
    for result in results:
        assert result["val_accuracy"] == result["epoch"] / 100
        assert result["schedule_percent"] == pytest.approx(100 * result["epoch"] / epochs)
        # An epoch is in a report only if the ones before it in the report were within the time.
        assert sum(seconds[epoch - 1] for epoch, _ in result["rows"][:-1]) <= trainables.trainer.REPORT_SECONDS + 1e-9
    assert results[-1]["trial_seconds"] == pytest.approx(sum(seconds[:epochs]))


def test_short_epochs_travel_together_and_long_ones_alone(monkeypatch):
    flat = CONFIGS[0] | {"epochs": 9}
    monkeypatch.setattr(trainables.trainer, "REPORT_SECONDS", math.inf)
    together = finish(fresh(request(flat, rungs=[2, 5])))
    assert [result["epoch"] for result in together] == [2, 5, 9]
    monkeypatch.setattr(trainables.trainer, "REPORT_SECONDS", -1.0)
    alone = finish(fresh(request(flat, rungs=[2, 5])))
    assert [result["epoch"] for result in alone] == list(range(1, 10))
    assert rows(together) == rows(alone)


def test_a_result_repeats_what_its_last_row_says_and_counts_the_seconds_of_its_trial_alone():
    actor = fresh(request(CONFIGS[0]))
    finish(actor)
    actor.reset_config(request(CONFIGS[1], rungs=range(20)))
    results = finish(actor)
    for result in results:
        _, row = result["rows"][-1]
        assert {key: result[key] for key in ("val_accuracy", "val_nll", "diverged")}.items() <= row.items()
        assert json.loads(json.dumps(result, allow_nan=False))["epoch"] == result["epoch"]
    seconds = [row["epoch_seconds"] for result in results for _, row in result["rows"]]
    assert results[-1]["trial_seconds"] == pytest.approx(sum(seconds))


@pytest.mark.parametrize("phase", ["search", "confirm", "control"])
@every_config
def test_a_diverged_trial_ends_itself_at_chance_with_finite_values_only(number, phase):
    flat = with_loss(CONFIGS[number], "cross_entropy") | DIVERGING | {"epochs": 6}
    results = finish(fresh(request(flat, phase=phase)))
    last_epoch, last = results[-1]["rows"][-1]
    assert last_epoch < 6
    assert results[-1]["done"]
    assert results[-1]["diverged"] == last["diverged"] == 1
    assert results[-1]["val_accuracy"] == last["val_accuracy"] == 0.1
    assert all(math.isfinite(value) for _, row in rows(results) for value in row.values())
    assert [row["diverged"] for _, row in rows(results)[:-1]] == [0.0] * (last_epoch - 1)
    if phase == "search":
        assert not any(key.startswith("test_") for key in last)
    else:
        assert {key: value for key, value in last.items() if key.startswith("test_")} == {"test_accuracy": 0.1}
        assert results[-1]["final"] == {"class_names": list(DATASET.class_names)}


# The test split


class Poison:
    """Stands for a test split that nobody may touch."""

    def __getattribute__(self, name):
        raise AssertionError(f"the test split was read: {name}")


def poison_test_split(actor):
    actor._trainer._data = dataclasses.replace(actor._trainer._resident(), test_images=Poison(), test_labels=Poison())


@every_config
def test_the_search_never_touches_the_test_split(number):
    actor = fresh(request(CONFIGS[number]))
    poison_test_split(actor)
    results = finish(actor)
    assert rows(results) == rows(finish(fresh(request(CONFIGS[number]), OTHER_TEST)))
    assert not any(key.startswith("test_") for _, row in rows(results) for key in row)
    assert not any("final" in result for result in results)


@pytest.mark.parametrize("phase", ["confirm", "control"])
def test_confirmation_reads_the_test_split_once_after_the_last_epoch(phase, monkeypatch):
    looks = []
    look = trainables.trainer.final_evaluation

    def counted(state, *arguments, **keywords):
        looks.append(state.epoch)
        return look(state, *arguments, **keywords)

    monkeypatch.setattr(trainables.trainer, "final_evaluation", counted)
    actor = fresh(request(CONFIGS[0], phase=phase, rungs=[1, 2]))
    data = actor._trainer._resident()
    poison_test_split(actor)
    results = [actor.step(), actor.step()]
    actor._trainer._data = data
    results.append(actor.step())
    assert looks == [3]
    assert [result["done"] for result in results] == [False, False, True]
    assert ["final" in result for result in results] == [False, False, True]
    assert ["test_accuracy" in row for _, row in rows(results)] == [False, False, True]


@every_config
def test_watching_changes_no_other_value_and_agrees_with_the_final_evaluation(number):
    plain = rows(finish(fresh(request(CONFIGS[number]))))
    watched = rows(finish(fresh(request(CONFIGS[number], watch=["test", "noise"]))))
    confirmed = rows(finish(fresh(request(CONFIGS[number], phase="confirm", watch=["test", "noise"]))))
    for (_, plain_row), (_, watched_row), (_, confirmed_row) in zip(plain, watched, confirmed, strict=True):
        assert plain_row.items() <= watched_row.items() <= confirmed_row.items()
        assert len([key for key in watched_row if key.startswith("test_")]) == 9
        assert len([key for key in watched_row if key.startswith("noisy_test_")]) == 3
    assert watched[:-1] == confirmed[:-1]


def test_the_last_look_at_the_test_split_is_left_to_the_final_evaluation(monkeypatch):
    looks, run_epoch = [], trainables.trainer.run_epoch

    def listened(state, data, *, watch):
        looks.append(list(watch))
        return run_epoch(state, data, watch=watch)

    monkeypatch.setattr(trainables.trainer, "run_epoch", listened)
    finish(fresh(request(CONFIGS[0], phase="confirm", watch=["test", "noise"])))
    finish(fresh(request(CONFIGS[0], watch=["test"])))
    finish(fresh(request(CONFIGS[0], phase="control")))
    assert looks == [["test", "noise"], ["test", "noise"], ["noise"], *[["test"]] * 3, *[[]] * 3]


@pytest.mark.parametrize("phase", ["search", "confirm"])
def test_a_watched_trial_that_diverges_ends_at_chance(phase):
    flat = with_loss(CONFIGS[0], "cross_entropy") | DIVERGING
    last = finish(fresh(request(flat, phase=phase, watch=["test", "noise"])))[-1]["rows"][-1][1]
    assert {key: value for key, value in last.items() if "test" in key} == {"test_accuracy": 0.1}


def test_an_unknown_look_is_refused():
    actor = fresh(request(CONFIGS[0], watch=["test", "blur"]))
    with pytest.raises(InputError, match=r"^`watch` takes test, noise; got 'blur'\.$"):
        actor.step()


def test_trials_of_one_seed_and_another_imbalance_do_not_share_their_split():
    flat = CONFIGS[0] | {"batch_size": 10}
    actor = fresh(request(flat))
    counts = []
    for imbalance in (1.0, 5.0, 2.0, 1.0):
        actor.reset_config(request(flat | {"imbalance": imbalance}))
        finish(actor)
        counts.append(len(actor._trainer._state.train_indices))
    assert counts[0] == counts[3] == 100
    assert counts[1] < counts[2] < 100


def test_poison_is_noticed_where_the_test_split_is_read():
    actor = fresh(request(CONFIGS[0], phase="confirm"))
    poison_test_split(actor)
    with pytest.raises((AssertionError, TypeError)):
        finish(actor)


def test_another_test_split_changes_the_test_metrics_and_nothing_else():
    one = finish(fresh(request(CONFIGS[0], phase="confirm")))
    other = finish(fresh(request(CONFIGS[0], phase="confirm"), OTHER_TEST))
    kept = [
        [{key: value for key, value in row.items() if not key.startswith("test_")} for _, row in rows(results)]
        for results in (one, other)
    ]
    assert kept[0] == kept[1]
    assert rows(one)[-1][1]["test_accuracy"] > rows(other)[-1][1]["test_accuracy"]
    assert one[-1]["final"]["confusion"] != other[-1]["final"]["confusion"]


def test_the_record_of_a_confirmation_is_json_with_the_class_names():
    final = finish(fresh(request(CONFIGS[0], phase="confirm")))[-1]["final"]
    assert set(final) == {"confusion", "reliability", "corruptions", "class_names"}
    assert json.loads(json.dumps(final, allow_nan=False)) == final
    assert final["class_names"] == [str(digit) for digit in range(10)]


def test_test_images_are_corrupted_once_per_actor(monkeypatch):
    corrupt, calls = trainables.trainer.corrupt_test_images, []
    monkeypatch.setattr(trainables.trainer, "corrupt_test_images", lambda data: calls.append(1) or corrupt(data))
    actor = fresh(request(CONFIGS[0], phase="confirm"))
    finish(actor)
    actor.reset_config(request(CONFIGS[3], phase="confirm"))
    finish(actor)
    assert calls == [1]


def test_a_confirmation_leaves_its_weights_where_asked(tmp_path):
    path = tmp_path / "models" / "arm-10.pt"
    actor = fresh(request(CONFIGS[2], phase="confirm", model_path=str(path)))
    finish(actor)
    weights, model = torch.load(path, weights_only=True), actor._trainer._state.model.state_dict()
    assert_equal_to_the_bit(weights, model)
    assert list(path.parent.iterdir()) == [path]


def test_a_search_leaves_no_weights(tmp_path):
    finish(fresh(request(CONFIGS[0], model_path=str(tmp_path / "models" / "arm-10.pt"))))
    assert list(tmp_path.iterdir()) == []


# The negative control


@every_config
def test_kl_divergence_trains_exactly_as_cross_entropy_does(number):
    flat = CONFIGS[number] | {"epochs": 6, "optimizer.learning_rate": 0.02}
    of_cross_entropy = run(fresh(request(with_loss(flat, "cross_entropy"), phase="confirm")))
    of_kl_divergence = run(fresh(request(with_loss(flat, "kl_div"), phase="control")))
    assert of_kl_divergence[:2] == of_cross_entropy[:2]
    assert_equal_to_the_bit(of_kl_divergence[2], of_cross_entropy[2])


HANGING = """
import time
from types import SimpleNamespace
from trainables.trainable import ClassifierTrainable

trainable = ClassifierTrainable.__new__(ClassifierTrainable)
trainable._hang_seconds, trainable._other = 0.5, ""
for seconds in (0.0, 0.0, 60.0):
    trainable._trainer = SimpleNamespace(advance=lambda: time.sleep(seconds) or {"done": False})
    print(trainable.step(), flush=True)
    time.sleep(0.6)  # between two steps no clock runs
"""


def test_a_step_that_hangs_ends_its_process_and_one_that_does_not_is_left_alone():
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout == "{'done': False}\n" * 2
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "in <lambda>" in done.stderr  # where it hung
