"""The training loop against an independent plain one, and what a seed, a schedule and a precision decide."""

import dataclasses
import math
import sys
import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from torch import nn
from torch.nn import functional as F

import trainables.loop
from trainables.config import LOOKS, InputError, TrialConfig
from trainables.data import load_dataset, split_indices
from trainables.loop import (
    batches,
    draw_split,
    load_resident,
    predict_logits,
    run_epoch,
    start_training,
    train_epoch,
)
from trainables.losses import LOSSES

FLAT = {
    "loss": "cross_entropy",
    "optimizer": "sgd",
    "optimizer.learning_rate": 0.1,
    "batch_size": 32,
    "epochs": 4,
    "model": "mlp",
    "seed": 1,
}
CPU = torch.device("cpu")
#: Finite logits whose differences are not; a loss on probabilities stays finite, the NLL does not.
SATURATED = torch.tensor([-3e38] * 5 + [3e38] * 5)
AVERAGED = [f"{name}_{average}" for name in ("precision", "recall", "f1") for average in ("macro", "weighted")]
QUANTITIES = ["loss", "nll", "accuracy", *AVERAGED]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def dataset():
    return load_dataset("digits", train_size=240)  # 200 to train on, 40 to validate on


@pytest.fixture(scope="module")
def data(dataset):
    return load_resident(dataset, CPU)


@pytest.fixture
def own(monkeypatch):
    """Name a part of the user's own that the test writes in place."""
    module = types.ModuleType("users_module")
    monkeypatch.setitem(sys.modules, "users_module", module)

    def name_part(part):
        name = f"part_{len(vars(module))}"
        setattr(module, name, part)
        return f"users_module:{name}"

    return name_part


def start(data, split=None, **changes):
    return start_training(TrialConfig.from_flat(FLAT | changes), data, split)


def train(data, **changes):
    """A trial run to its end, and its rows without the seconds."""
    state = start(data, **changes)
    rows = [run_epoch(state, data) for _ in range(state.config.epochs)]
    for row in rows:
        del row["epoch_seconds"]
    return state, rows


def weights(state):
    return torch.cat([parameter.detach().flatten() for parameter in state.model.parameters()])


def expected_quantities(logits, labels):
    """What the metrics of a split trained with cross-entropy must be, by scikit-learn."""
    predictions, nll = logits.argmax(dim=1), F.cross_entropy(logits.double(), labels).item()
    expected = {"loss": nll, "nll": nll, "accuracy": sklearn_metrics.accuracy_score(labels, predictions)}
    for average in ("macro", "weighted"):
        values = sklearn_metrics.precision_recall_fscore_support(
            labels, predictions, average=average, zero_division=0, labels=range(10)
        )
        expected |= {
            f"{name}_{average}": value for name, value in zip(("precision", "recall", "f1"), values[:3], strict=True)
        }
    return expected


PLAIN_OPTIMIZERS = {
    "sgd": lambda parameters, rate: torch.optim.SGD(parameters, lr=rate, foreach=False),
    "adam": lambda parameters, rate: torch.optim.Adam(parameters, lr=rate, foreach=False),
    "adamw": lambda parameters, rate: torch.optim.AdamW(parameters, lr=rate, foreach=False),
    "rmsprop": lambda parameters, rate: torch.optim.RMSprop(parameters, lr=rate, foreach=False),
}


@pytest.mark.parametrize("optimizer", PLAIN_OPTIMIZERS)
@pytest.mark.parametrize(("reduction", "batch_size"), [("mean", 32), ("sum", 7), ("mean", 500)])
def test_an_epoch_is_that_of_a_plain_loop(dataset, data, optimizer, reduction, batch_size):
    rate = 0.01
    state = start(
        data, optimizer=optimizer, reduction=reduction, batch_size=batch_size, **{"optimizer.learning_rate": rate}
    )
    train_indices, val_indices = split_indices(dataset.train_labels, seed=1)
    standardised = (dataset.train_images / 255 - dataset.mean[0]) / dataset.std[0]
    inputs, labels = torch.tensor(standardised, dtype=torch.float32), torch.tensor(dataset.train_labels)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    model.load_state_dict(state.model.state_dict())
    generator = torch.Generator()
    generator.set_state(state.order.get_state())
    order = torch.tensor(train_indices)[torch.randperm(len(train_indices), generator=generator)]
    plain = PLAIN_OPTIMIZERS[optimizer](model.parameters(), rate)
    seen = []
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        logits = model(inputs[batch])
        seen.append(logits.detach())
        plain.zero_grad()
        F.cross_entropy(logits, labels[batch], reduction=reduction).backward()
        plain.step()
    with torch.no_grad():
        val_logits = model(inputs[val_indices])

    row = run_epoch(state, data)

    torch.testing.assert_close(list(state.model.parameters()), list(model.parameters()), rtol=1e-3, atol=1e-4)
    for split, logits, truth in (("train", torch.cat(seen), labels[order]), ("val", val_logits, labels[val_indices])):
        row_of_split = {key: row[f"{split}_{key}"] for key in QUANTITIES}
        assert row_of_split == pytest.approx(expected_quantities(logits, truth), rel=1e-3)


def test_a_row_holds_every_metric_of_both_splits_and_nothing_else(data):
    row = run_epoch(start(data), data)
    of_splits = {f"{split}_{key}" for split in ("train", "val") for key in QUANTITIES}
    assert set(row) == of_splits | {"learning_rate", "epoch_seconds", "diverged"}
    assert all(isinstance(value, float) and math.isfinite(value) for value in row.values())
    assert row["diverged"] == 0
    assert row["epoch_seconds"] > 0


def test_the_loss_of_a_row_is_the_trials_own_and_the_nll_is_cross_entropy(data):
    state = start(data, loss="hinge", **{"loss.margin": 2.0})
    row = run_epoch(state, data)
    logits, labels = predict_logits(state, data, data.images, state.val_indices), data.labels[state.val_indices]
    expected = F.multi_margin_loss(logits, labels, margin=2.0) * 10  # PyTorch's is averaged over the classes
    assert row["val_loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert row["val_nll"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)


@pytest.mark.parametrize("model", ["mlp", "convnet"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_learns(data, model, precision):
    changes = {"optimizer": "adam", "optimizer.learning_rate": 0.01, "width": 16}
    _, rows = train(data, epochs=25, model=model, precision=precision, **changes)
    assert rows[0]["val_accuracy"] < 0.7
    assert rows[-1]["val_accuracy"] > 0.8
    assert rows[-1]["train_nll"] < rows[0]["train_nll"] / 3


def test_training_happens_in_training_mode_and_evaluation_in_evaluation_mode(data, own):
    class NoisyInTraining(nn.Linear):
        def forward(self, images):
            logits = super().forward(images.flatten(1))
            return logits if self.training else torch.zeros_like(logits)

    state = start(data, model=own(lambda _shape, _classes: NoisyInTraining(64, 10)))
    for _ in range(2):
        row = run_epoch(state, data)
        assert row["val_nll"] == pytest.approx(math.log(10))
        assert row["train_nll"] != pytest.approx(math.log(10), rel=1e-3)


def test_the_batch_order_is_that_of_the_seed_whatever_the_batch_size_and_the_rest(data, own):
    def seen_images(seed, **changes):
        seen = []

        def build(_shape, _classes):
            model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

            def keep(module, inputs):
                if module.training:
                    seen.append(inputs[0].clone())  # their place is used again

            model.register_forward_pre_hook(keep)
            return model

        state = start(data, model=own(build), seed=seed, **changes)
        seen.clear()
        for _ in range(2):
            train_epoch(state, data)
        return torch.cat(seen)

    first = seen_images(1)
    assert len(first) == 400
    assert not torch.equal(first[:200], first[200:])
    others = {"loss": "mse", "optimizer": "adam", "reduction": "sum", "schedule": "cosine", "precision": "bf16"}
    for changes in ({"batch_size": 7}, {"batch_size": 500}, others):
        assert torch.equal(seen_images(1, **changes), first)
    assert not torch.equal(seen_images(2), first)


def test_augmentation_leaves_the_batch_order_and_changes_the_images(data):
    plain, augmented = start(data), start(data, augment=True)
    for state in (plain, augmented):
        train_epoch(state, data)
    assert torch.equal(plain.order.get_state(), augmented.order.get_state())
    assert not torch.equal(weights(plain), weights(augmented))


def test_validation_images_are_not_augmented(data):
    state = start(data, augment=True)
    row = run_epoch(state, data)
    with torch.no_grad():
        logits = state.model(data.to_input(data.images[state.val_indices]))
    expected = F.cross_entropy(logits, data.labels[state.val_indices]).item()
    assert row["val_nll"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_seed_gives_every_loss_the_same_split_weights_and_order(data, loss):
    reference, state = start(data), start(data, loss=loss, optimizer="adam", batch_size=64)
    assert torch.equal(state.train_indices, reference.train_indices)
    assert torch.equal(state.val_indices, reference.val_indices)
    assert torch.equal(weights(state), weights(reference))
    assert torch.equal(state.order.get_state(), reference.order.get_state())


def test_another_seed_gives_another_split_other_weights_and_another_order(data):
    one, other = start(data), start(data, seed=2)
    assert not torch.equal(one.val_indices, other.val_indices)
    assert not torch.equal(weights(one), weights(other))
    assert not torch.equal(one.order.get_state(), other.order.get_state())
    assert not torch.equal(one.augmentation.get_state(), one.order.get_state())


def test_the_streams_of_neighbouring_seeds_are_all_different(data):
    states = [start(data, seed=seed) for seed in range(20)]
    seeds = [generator.initial_seed() for state in states for generator in (state.order, state.augmentation)]
    assert len(set(seeds)) == 40


def test_a_split_that_the_caller_has_is_used(data):
    split = draw_split(data.labels, 7)
    state = start(data, split)
    assert state.train_indices is split[0]
    assert state.val_indices is split[1]
    assert torch.equal(start(data, seed=7).val_indices, split[1])


def named_parameters(state):
    return {name: parameter.detach().clone() for name, parameter in state.model.named_parameters()}


@pytest.mark.parametrize("model", ["mlp", "convnet"])
def test_a_given_deviation_decides_the_weights_and_leaves_the_biases_to_the_model(data, model):
    own, drawn = (named_parameters(start(data, model=model, init_std=std)) for std in (0.0, 0.01))
    for name, parameter in drawn.items():
        assert torch.equal(parameter, own[name]) == name.endswith("bias")
    flat = torch.cat([parameter.flatten() for name, parameter in drawn.items() if name.endswith("weight")])
    bounds = 4 / math.sqrt(len(flat))  # four standard errors
    assert flat.mean().item() / 0.01 == pytest.approx(0, abs=bounds)
    assert flat.std().item() / 0.01 == pytest.approx(1, abs=bounds)
    assert (flat.abs() < 0.01).double().mean().item() == pytest.approx(0.6827, abs=bounds)  # and they are normal


def test_given_deviations_scale_the_same_draws_and_a_seed_gives_every_arm_the_same(data):
    small, large = (named_parameters(start(data, init_std=std)) for std in (0.01, 0.02))
    other_arm = start(data, init_std=0.01, loss="hinge", optimizer="adam", activation="selu", reduction="sum")
    for name, parameter in named_parameters(other_arm).items():
        assert torch.equal(parameter, small[name])
        torch.testing.assert_close(large[name], small[name] if name.endswith("bias") else 2 * small[name])
    other_seed = named_parameters(start(data, init_std=0.01, seed=2))
    assert not torch.equal(other_seed["1.weight"], small["1.weight"])


def test_a_deviation_changes_neither_the_split_nor_the_order(data):
    plain, drawn = start(data), start(data, init_std=0.01)
    assert torch.equal(plain.train_indices, drawn.train_indices)
    assert torch.equal(plain.order.get_state(), drawn.order.get_state())


def test_an_imbalance_thins_the_training_split_alone(data):
    whole, tailed = start(data), start(data, imbalance=4.0)
    assert torch.equal(tailed.val_indices, whole.val_indices)
    assert set(tailed.train_indices.tolist()) < set(whole.train_indices.tolist())
    counts = torch.bincount(data.labels[tailed.train_indices]).tolist()
    assert counts == [round(counts[0] * 4 ** (-label / 9)) for label in range(10)]
    assert counts[0] == 4 * counts[-1]
    assert torch.equal(start(data, imbalance=4.0, loss="hinge").train_indices, tailed.train_indices)
    other = start(data, imbalance=4.0, seed=2)
    assert not torch.equal(other.train_indices, tailed.train_indices)


def test_a_trial_with_an_imbalance_trains_on_what_is_left(data):
    state = start(data, imbalance=4.0, batch_size=1000)
    logits, labels = predict_logits(state, data, data.images, state.train_indices), data.labels[state.train_indices]
    row = run_epoch(state, data)
    assert row["train_nll"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)


SWITCHING = {
    "optimizer.momentum": 0.9,
    "epochs": 5,
    "second_optimizer": "adam",
    "second_optimizer.learning_rate": 0.003,
    "switch_epoch": 2,
}


def train_by_hand(data, model, order, indices, *, optimizer, rates):
    """Plain PyTorch: an epoch at each of the rates, in batches of 32, on images in the order drawn."""
    for rate in rates:
        for group in optimizer.param_groups:
            group["lr"] = rate
        for batch in torch.split(indices[torch.randperm(len(indices), generator=order)], 32):
            loss = F.cross_entropy(model(data.to_input(data.images[batch])), data.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_switch_of_optimizers_is_two_trainings_done_by_hand_one_after_the_other(data, schedule):
    state = start(data, **SWITCHING, schedule=schedule)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    model.load_state_dict(state.model.state_dict())
    order = torch.Generator()
    order.set_state(state.order.get_state())

    def rates(rate, epochs):
        return [
            rate * (1 if schedule == "constant" else (1 + math.cos(math.pi * k / epochs)) / 2) for k in range(epochs)
        ]

    parts = [
        (torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True), rates(0.1, 2)),
        (torch.optim.Adam(model.parameters(), lr=0.003, fused=True), rates(0.003, 3)),
    ]
    told = [run_epoch(state, data)["learning_rate"] for _ in range(5)]
    for optimizer, rates_of_part in parts:
        train_by_hand(data, model, order, state.train_indices, optimizer=optimizer, rates=rates_of_part)
    assert told == [*parts[0][1], *parts[1][1]]
    pairs = zip(state.model.parameters(), model.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_until_the_switch_a_trial_is_one_of_the_first_optimizer_alone(data, schedule):
    first = {"optimizer.momentum": 0.9, "schedule": schedule}
    _, alone = train(data, epochs=2, **first)
    _, switched = train(data, **(first | SWITCHING))
    assert switched[:2] == alone
    assert switched[2]["val_nll"] != alone[1]["val_nll"]


def test_a_second_optimizer_that_cannot_be_built_is_refused_before_the_first_epoch(data):
    with pytest.raises(InputError, match="The optimizer 'adam' has no parameter 'momentum'"):
        start(data, **SWITCHING, **{"second_optimizer.momentum": 0.9})


def test_a_watched_row_holds_every_metric_of_the_test_split_and_three_under_noise(data):
    row = run_epoch(start(data), data, watch=LOOKS)
    noisy = {f"noisy_test_{key}" for key in ("loss", "nll", "accuracy")}
    assert set(row) - set(run_epoch(start(data), data)) == {f"test_{key}" for key in QUANTITIES} | noisy
    only_noise = run_epoch(start(data), data, watch=["noise"])
    assert {key for key in only_noise if "test" in key} == noisy


def test_what_is_watched_is_measured_at_the_end_of_the_epoch_in_evaluation_mode(data):
    state = start(data, loss="hinge")
    for _ in range(2):
        row = run_epoch(state, data, watch=["test"])
    with torch.no_grad():
        logits = state.model.eval()(data.to_input(data.test_images))
    expected = expected_quantities(logits, data.test_labels)
    expected["loss"] = F.multi_margin_loss(logits, data.test_labels).item() * 10
    assert {key: row[f"test_{key}"] for key in QUANTITIES} == pytest.approx(expected, rel=1e-3)


class Listening(nn.Linear):
    """A model that keeps what it is shown in evaluation mode."""

    def __init__(self, num_classes):
        super().__init__(64, num_classes)
        self.heard = []

    def forward(self, images):
        if not self.training:
            self.heard.append(images)
        return super().forward(images.flatten(1))


def noise_heard(data, own, *, epochs=1, **changes):
    """What was added to the test images after the last epoch, and the row of that epoch."""
    state = start(data, model=own(lambda _shape, classes: Listening(classes)), **changes)
    for _ in range(epochs):
        state.model.heard.clear()
        row = run_epoch(state, data, watch=["noise"])
    heard = torch.cat(state.model.heard[-math.ceil(len(data.test_images) / trainables.loop.CPU_EVALUATION_BATCH) :])
    return heard - data.to_input(data.test_images), heard, row, state


def test_noise_is_standard_normal_on_normalised_images_and_not_clipped(data, own):
    noise, heard, row, state = noise_heard(data, own)
    count = noise.numel()
    assert noise.mean().item() == pytest.approx(0, abs=4 / math.sqrt(count))
    assert noise.std().item() == pytest.approx(1, abs=4 / math.sqrt(count))
    assert (noise.abs() < 1).double().mean().item() == pytest.approx(0.6827, abs=4 / math.sqrt(count))
    assert heard.min() < data.to_input(torch.zeros(1, 1, 1, 1)).min() - 2  # darker than black
    assert abs(np.corrcoef(noise[0].flatten(), noise[1].flatten())[0, 1]) < 0.6  # one of its own for every image
    with torch.no_grad():
        logits = state.model(heard)
    assert row["noisy_test_nll"] == pytest.approx(F.cross_entropy(logits, data.test_labels).item(), rel=1e-5)
    assert row["noisy_test_loss"] == pytest.approx(row["noisy_test_nll"], rel=1e-5)
    assert row["noisy_test_accuracy"] == (logits.argmax(dim=1) == data.test_labels).double().mean().item()


def test_noise_depends_on_seed_and_epoch_alone(data, own, monkeypatch):
    _, first, _, _ = noise_heard(data, own)
    _, second, _, _ = noise_heard(data, own, epochs=2)
    assert not torch.equal(second, first)
    assert not torch.equal(noise_heard(data, own, seed=2)[1], first)
    arms = {"loss": "hinge", "optimizer": "adam", "reduction": "sum", "batch_size": 7, "augment": True, "init_std": 0.1}
    assert torch.equal(noise_heard(data, own, **arms)[1], first)
    monkeypatch.setattr(trainables.loop, "CPU_EVALUATION_BATCH", 37)
    assert torch.equal(noise_heard(data, own)[1], first)


def test_watching_changes_nothing_of_the_trial_and_is_not_in_its_seconds(data, monkeypatch):
    changes = {"model": "convnet", "width": 4, "augment": True}
    plain, watched = start(data, **changes), start(data, **changes)
    now, look = 0.0, trainables.loop.look_at_test

    def slow_look(*arguments, **keywords):
        nonlocal now
        now += 100.0
        return look(*arguments, **keywords)

    monkeypatch.setattr(trainables.loop, "look_at_test", slow_look)
    monkeypatch.setattr(trainables.loop, "time", types.SimpleNamespace(perf_counter=lambda: now))
    for _ in range(3):
        expected = run_epoch(plain, data)
        assert expected.items() <= run_epoch(watched, data, watch=LOOKS).items()
        assert expected["epoch_seconds"] == 0
    assert now == 600
    assert torch.equal(weights(plain), weights(watched))


@pytest.mark.parametrize(("watch", "expected"), [(LOOKS, {"test_accuracy": 0.1}), (["noise"], {}), ([], {})])
def test_a_watched_trial_that_diverges_counts_as_chance_on_the_test_split(data, watch, expected):
    row = run_epoch(start(data, **{"optimizer.learning_rate": 1e38}), data, watch=watch)
    assert row["diverged"] == 1
    assert {key: value for key, value in row.items() if "test" in key} == expected


def test_two_runs_of_one_configuration_agree_to_the_bit(data):
    changes = {"model": "convnet", "width": 8, "augment": True, "precision": "bf16", "optimizer": "adam"}
    (first, first_rows), (second, second_rows) = train(data, **changes), train(data, **changes)
    assert first_rows == second_rows
    assert torch.equal(weights(first), weights(second))


def test_the_sum_of_losses_at_a_rate_over_the_batch_size_is_their_mean(data):
    # 200 training examples are five batches of 40: no shorter batch breaks the relation.
    of_mean, _ = train(data, batch_size=40)
    of_sum, _ = train(data, batch_size=40, reduction="sum", **{"optimizer.learning_rate": 0.1 / 40})
    of_sum_at_full_rate, _ = train(data, batch_size=40, reduction="sum")
    torch.testing.assert_close(weights(of_sum), weights(of_mean), rtol=1e-4, atol=1e-5)
    assert (weights(of_sum_at_full_rate) - weights(of_mean)).abs().max() > 0.1


def test_the_reduction_changes_what_is_trained_but_not_what_is_reported(data):
    _, of_mean = train(data, epochs=1, batch_size=500)
    _, of_sum = train(data, epochs=1, batch_size=500, reduction="sum")
    # One batch: both are measured before the only step.
    assert of_mean[0]["train_loss"] == of_sum[0]["train_loss"]
    assert of_mean[0]["val_loss"] != of_sum[0]["val_loss"]


def test_a_cosine_schedule_falls_along_half_a_wave_of_the_trials_epochs(data):
    _, rows = train(data, epochs=4, schedule="cosine")
    expected = [0.1 * (1 + math.cos(math.pi * done / 4)) / 2 for done in range(4)]
    assert [row["learning_rate"] for row in rows] == pytest.approx(expected)


def test_a_constant_schedule_stays(data):
    _, rows = train(data)
    assert [row["learning_rate"] for row in rows] == [0.1] * 4


def test_a_cosine_schedule_moves_the_weights_less_and_less(data):
    state = start(data, epochs=10, schedule="cosine")
    distances = []
    for _ in range(10):
        before = weights(state)
        run_epoch(state, data)
        distances.append((weights(state) - before).norm().item())
    assert distances[-1] < distances[0] / 20


@settings(deadline=None)  # a busy machine is not a failure
@given(st.integers(1, 400), st.integers(1, 450))
def test_batches_are_consecutive_and_a_single_last_example_joins_its_neighbour(count, batch_size):
    expected = [list(range(count))[first : first + batch_size] for first in range(0, count, batch_size)]
    if len(expected) > 1 and len(expected[-1]) == 1:
        single = expected.pop()
        expected[-1] += single
    assert [list(range(count))[part] for part in batches(count, batch_size)] == expected


def test_batch_normalisation_trains_where_one_example_is_left_over(data, own):
    def build(_shape, classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Linear(16, classes))

    row = run_epoch(start(data, model=own(build), batch_size=199), data)
    assert row["diverged"] == 0


def test_input_is_standardised_by_the_channels_of_the_training_part():
    generator = np.random.default_rng(0)
    dataset = dataclasses.replace(
        load_dataset("digits", train_size=20),
        train_images=generator.integers(0, 256, (20, 3, 5, 4), dtype=np.uint8),
        mean=(0.2, 0.5, 0.7),
        std=(0.1, 1.0, 0.3),
    )
    data = load_resident(dataset, CPU)
    pixels = dataset.train_images.astype(np.float64)
    expected = (pixels / 255 - np.reshape(dataset.mean, (1, 3, 1, 1))) / np.reshape(dataset.std, (1, 3, 1, 1))
    for given_pixels in (data.images, data.images.float(), data.images.double()):
        inputs = data.to_input(given_pixels)
        assert inputs.dtype == torch.float32
        np.testing.assert_allclose(inputs.numpy(), expected, rtol=1e-5, atol=1e-5)
        # What is put into a place of one's own is the same to the bit, and so is a part of the images.
        place = torch.full((30, 3, 5, 4), math.nan)
        assert data.to_input(given_pixels[3:], place[3:20]).data_ptr() == place[3:].data_ptr()
        assert torch.equal(place[3:20], inputs[3:])
        assert place[:3].isnan().all()
        assert place[20:].isnan().all()
    assert data.input_shape == (3, 5, 4)


def test_a_denormal_number_is_zero_in_a_training_step_and_nowhere_else(data, own):
    tiny, seen = torch.full((), 1e-39), []

    def keeps(logits, labels):
        seen.append((logits.requires_grad, bool(tiny * 1 == 0)))
        return F.cross_entropy(logits, labels, reduction="none")

    state = start(data, loss=own(keeps))
    seen.clear()
    run_epoch(state, data)
    assert {is_zero for training, is_zero in seen if training} == {True}
    assert {is_zero for training, is_zero in seen if not training} == {False}
    assert tiny * 1 > 0

    def fails(logits, labels):
        raise ValueError("no loss")

    with pytest.raises(ValueError, match="no loss"):
        train_epoch(dataclasses.replace(state, loss=fails), data)
    assert tiny * 1 > 0


def test_the_momentum_of_a_unit_that_died_comes_to_nothing(data):
    state = start(data, **{"optimizer.momentum": 0.8})
    run_epoch(state, data)
    with torch.no_grad():
        state.model[1].bias[0] = -1e6  # no image gets past that
    for _ in range(80):
        run_epoch(state, data)
    momentum = state.optimizer.state[state.model[1].weight]["momentum_buffer"]
    assert not momentum[0].any()
    assert momentum[1:].any()


def test_data_on_the_cpu_are_shared_and_never_written(dataset):
    arrays = [dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels]
    copies = [array.copy() for array in arrays]
    for array in copies:
        array.flags.writeable = False  # as Ray's object store hands them out
    names = ("train_images", "train_labels", "test_images", "test_labels")
    shared = dataclasses.replace(dataset, **dict(zip(names, copies, strict=True)))
    data = load_resident(shared, CPU)
    train(data, epochs=2, augment=True)
    tensors = [data.images, data.labels, data.test_images, data.test_labels]
    for tensor, array, original in zip(tensors, copies, arrays, strict=True):
        assert tensor.data_ptr() == array.ctypes.data
        np.testing.assert_array_equal(array, original)


@pytest.mark.parametrize("model", ["mlp", "convnet"])
def test_bf16_computes_in_bfloat16_and_hands_out_float32(data, model):
    full, half = start(data, model=model), start(data, model=model, precision="bf16")
    exact, rounded = (predict_logits(state, data, data.images) for state in (full, half))
    assert exact.dtype == rounded.dtype == torch.float32
    assert torch.equal(rounded, rounded.bfloat16().float())
    assert not torch.equal(exact, exact.bfloat16().float())
    torch.testing.assert_close(rounded, exact, rtol=0.1, atol=0.02)
    row = run_epoch(half, data)
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.float32}
    assert row != run_epoch(full, data)


def test_logits_do_not_depend_on_how_many_images_are_predicted_at_once(data, monkeypatch):
    state = start(data)
    whole = predict_logits(state, data, data.images)
    monkeypatch.setattr(trainables.loop, "CPU_EVALUATION_BATCH", 7)
    assert whole.shape == (240, 10)
    torch.testing.assert_close(predict_logits(state, data, data.images), whole)
    torch.testing.assert_close(predict_logits(state, data, data.images, torch.tensor([5, 3])), whole[[5, 3]])


def break_logits(at):
    """A model whose weights are fine and whose logits are not finite from the ``at``-th training batch on."""

    class Breaking(nn.Linear):
        batches = 0

        def forward(self, images):
            logits = super().forward(images.flatten(1))
            self.batches += self.training
            return logits * math.nan if self.training and self.batches >= at else logits

    return lambda _shape, _classes: Breaking(64, 10)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer.learning_rate": 1e38},
        {"optimizer.learning_rate": 1e38, "batch_size": 500},  # one step: training looks fine, validation does not
        {"optimizer.learning_rate": 1e38, "precision": "bf16"},
        {"optimizer.learning_rate": 1e38, "loss": "mse_logits", "optimizer": "adam"},
    ],
)
def test_a_trial_that_diverges_reports_chance_and_finite_values_only(data, changes):
    row = run_epoch(start(data, **changes), data)
    assert row["diverged"] == 1
    assert row["val_accuracy"] == 0.1
    assert all(math.isfinite(value) for value in row.values())
    assert {"learning_rate", "epoch_seconds"} <= set(row)


@pytest.mark.parametrize("at", [1, 4, 7])
def test_one_batch_with_a_loss_that_is_not_a_number_is_divergence(data, own, at):
    state = start(data, model=own(break_logits(at)))
    row = run_epoch(state, data)
    assert row["diverged"] == 1
    assert row["val_accuracy"] == 0.1
    assert all(math.isfinite(value) for value in row.values())


def test_a_nll_beyond_float32_is_divergence_even_where_the_loss_is_finite(data, own):
    def saturated(_shape, _classes):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        with torch.no_grad():
            model[1].bias.copy_(SATURATED)
        return model

    row = run_epoch(start(data, loss="l1", model=own(saturated)), data)
    assert math.isfinite(row["val_loss"])
    assert row["diverged"] == 1
    assert all(math.isfinite(value) for value in row.values())


def test_logits_that_overflow_in_training_alone_leave_their_metric_out(data, own):
    class SaturatedInTraining(nn.Linear):
        def forward(self, images):
            logits = super().forward(images.flatten(1))
            return logits + SATURATED if self.training else logits

    model = own(lambda _shape, _classes: SaturatedInTraining(64, 10))
    row = run_epoch(start(data, loss="l1", model=model), data)
    assert row["diverged"] == 0
    assert set(row) == set(run_epoch(start(data), data)) - {"train_nll"}
