"""Single steps are those of the training loop, and the clock measures what it is given."""

import time

import pytest
import torch

from trainables.config import TrialConfig
from trainables.data import load_dataset
from trainables.loop import load_resident, start_training, train_epoch
from trainables.steps import median_seconds, one_thread, parts_of_a_step, train_on, training_batches

FLAT = {
    "loss": "cross_entropy",
    "optimizer": "sgd",
    "optimizer.learning_rate": 0.05,
    "optimizer.momentum": 0.9,
    "batch_size": 32,
    "epochs": 4,
    "model": "mlp",
    "width": 16,
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def data():
    return load_resident(load_dataset("digits", train_size=240), torch.device("cpu"))


@pytest.mark.parametrize(
    "changes", [{}, {"reduction": "sum"}, {"augment": True}, {"precision": "bf16"}, {"schedule": "cosine"}]
)
def test_steps_train_to_the_bits_of_the_loop(data, changes):
    config = TrialConfig.from_flat(FLAT | changes)
    by_loop, by_step = start_training(config, data), start_training(config, data)
    for _ in range(2):
        train_epoch(by_loop, data)
    batches = training_batches(by_step)
    for _ in range(2 * 7):  # 200 examples in batches of 32
        train_on(by_step, data, next(batches))
    for ours, theirs in zip(by_step.model.parameters(), by_loop.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_factor_multiplies_the_loss(data):
    config = TrialConfig.from_flat(FLAT | {"optimizer.momentum": 0.0})
    once, thrice = start_training(config, data), start_training(config, data)
    before = [parameter.detach().clone() for parameter in once.model.parameters()]
    indices = next(training_batches(once))
    train_on(once, data, indices)
    train_on(thrice, data, indices, factor=3.0)
    for start, ours, theirs in zip(before, once.model.parameters(), thrice.model.parameters(), strict=True):
        torch.testing.assert_close(theirs - start, 3 * (ours - start), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "shapes"),
    [
        ({"hidden_layers": 3}, [(32, 16)] * 3),
        ({"activation": "gelu"}, [(32, 16)]),
        # Halved before its activation: 8 × 8 pixels are 4 × 4 where the first one is applied.
        ({"model": "convnet", "width": 2}, [(32, 2, 4, 4), (32, 4, 2, 2), (32, 8, 2, 2)]),
    ],
)
def test_every_activation_is_found_with_what_it_is_given(data, changes, shapes):
    parts = parts_of_a_step(TrialConfig.from_flat(FLAT | changes), data, 1)
    assert [tuple(call.inputs.shape) for call in parts.activations] == shapes
    assert tuple(parts.logits.shape) == (32, 10)


def test_only_the_whole_step_changes_the_weights(data):
    parts = parts_of_a_step(TrialConfig.from_flat(FLAT), data, 1)
    before = [parameter.detach().clone() for parameter in parts.state.model.parameters()]
    parts.run_activations()
    parts.run_loss()
    after = list(parts.state.model.parameters())
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(before, after, strict=True))
    parts.step()
    assert not any(torch.equal(ours, theirs) for ours, theirs in zip(before, after, strict=True))


def test_median_leaves_out_the_warm_up_and_takes_turns(monkeypatch):
    now, calls = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def part(name, seconds):
        def run():
            calls.append(name)
            # The first call of a part is slow, and one in twenty meets something else.
            now[0] += 100 if calls.count(name) in (1, 9) else seconds

        return run

    assert median_seconds([part("a", 2.0), part("b", 3.0)], repetitions=20) == pytest.approx([2.0, 3.0])
    assert calls == ["a", "b"] * 22


def test_one_thread_gives_the_others_back_after_an_error():
    before = torch.get_num_threads()

    def fail():
        with one_thread():
            assert torch.get_num_threads() == 1
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.get_num_threads() == before
