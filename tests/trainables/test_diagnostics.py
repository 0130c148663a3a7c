"""Diagnostics where the truth is known: from theory, from a table worked out by hand, or from a model built for it."""

import dataclasses
import json
import math
import sys
import types

import pytest
import torch
from torch import nn

import trainables.diagnostics as diagnostics_module
from trainables.config import InputError, TrialConfig
from trainables.data import load_dataset
from trainables.diagnostics import (
    ALPHA,
    DIAGNOSTICS,
    FALL,
    MAX_STEPS,
    gelu_forms,
    gradient_scale,
    gradient_variance,
    measure_diagnostics,
    profile,
    steps_to_fall,
)
from trainables.loop import load_resident, start_training
from trainables.losses import cross_entropy
from trainables.steps import one_thread

FLAT = {
    "loss": "cross_entropy",
    "optimizer": "sgd",
    "optimizer.learning_rate": 0.05,
    "batch_size": 32,
    "epochs": 4,
    "model": "mlp",
    "width": 16,
    "activation": "gelu",
}
MEASURES = {
    "gradient_variance": {"gradient_variance_slope"},
    "profile": {"activation_share", "loss_share"},
    "gelu_forms": {"log_tanh_over_exact", "exact_uses_tanh"},
    "steps_to_fall": {
        f"{quantity}{ending}"
        for quantity in ("log_steps_to_fall", "steps_censored")
        for ending in ("", "_own_init", "_alpha", "_own_init_alpha")
    },
    "gradient_scale": {"gradient_scale_start", "gradient_scale_late"},
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def dataset():
    return load_dataset("digits")


@pytest.fixture(scope="module")
def data(dataset):
    return load_resident(dataset, torch.device("cpu"))


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


def config(**changes):
    return TrialConfig.from_flat(FLAT | {key.replace("__", "."): value for key, value in changes.items()})


def test_every_diagnostic_gives_the_measures_it_promises(dataset, monkeypatch):
    monkeypatch.setattr(diagnostics_module, "MAX_STEPS", 20)
    measured = measure_diagnostics({name: ["base"] for name in DIAGNOSTICS}, {"base": FLAT}, dataset, [1])
    assert set(DIAGNOSTICS) == set(MEASURES)
    assert set(measured["arms"]["base"]) == set().union(*MEASURES.values())


# The variance of the gradient


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_variance_of_the_gradient_falls_as_one_over_the_batch_size(data, precision):
    slopes = [gradient_variance(config(precision=precision), data, seed)["gradient_variance_slope"] for seed in (1, 2)]
    assert sum(slopes) / 2 == pytest.approx(-1, abs=0.15)


def test_slope_is_another_where_the_loss_depends_on_the_batch_size(data, own):
    # A mean loss multiplied by the root of the batch size has a gradient whose variance stays the same.
    louder = own(lambda logits, labels: cross_entropy(logits, labels) * len(labels) ** 0.5)
    slope = gradient_variance(config(loss=louder, optimizer__learning_rate=0.01), data, 1)["gradient_variance_slope"]
    assert slope == pytest.approx(0, abs=0.2)


def test_slope_of_a_training_that_diverges_is_recorded_as_missing(dataset):
    flat = FLAT | {"loss": "mse_logits", "optimizer.learning_rate": 1e6}
    measured = measure_diagnostics({"gradient_variance": ["wild"]}, {"wild": flat}, dataset, [1])
    assert measured["arms"]["wild"] == {"gradient_variance_slope": [None]}


# Shares of a step's time


@pytest.mark.parametrize("changes", [{}, {"model": "convnet", "width": 2}, {"precision": "bf16"}, {"augment": True}])
def test_parts_take_a_share_of_a_step(data, changes):
    shares = profile(config(**changes), data, 1)
    assert all(0 < share < 1 for share in shares.values())


def test_a_slow_activation_and_a_slow_loss_take_most_of_a_step(data, own):
    class SlowActivation(nn.Module):
        def forward(self, inputs):
            for _ in range(100):
                inputs = torch.tanh(inputs)
            return inputs

    def slow_loss(logits, labels):
        for _ in range(100):
            logits = torch.tanh(logits)
        return cross_entropy(logits, labels)

    slow = profile(config(activation=own(SlowActivation)), data, 1)
    assert slow["activation_share"] > 0.5 > slow["loss_share"]
    slow = profile(config(loss=own(slow_loss)), data, 1)
    assert slow["loss_share"] > 0.5 > slow["activation_share"]


def test_activations_of_a_model_without_any_take_nothing(data, own):
    linear = own(lambda input_shape, num_classes: nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes)))
    flat = {key: value for key, value in FLAT.items() if key not in ("width", "activation")} | {"model": linear}
    assert profile(TrialConfig.from_flat(flat), data, 1)["activation_share"] < 0.05
    with pytest.raises(InputError, match="shows no activation"):
        gelu_forms(TrialConfig.from_flat(flat), data, 1)


# Two forms of GELU


def test_exact_gelu_does_not_use_tanh_and_the_times_compare(data):
    row = gelu_forms(config(), data, 1)
    assert row["exact_uses_tanh"] == 0
    assert math.isfinite(row["log_tanh_over_exact"])


def test_a_gelu_that_approximates_by_tanh_is_found_out(data, monkeypatch):
    monkeypatch.setattr(diagnostics_module, "build_activation", lambda _: nn.GELU(approximate="tanh"))
    assert gelu_forms(config(), data, 1)["exact_uses_tanh"] == 1


def test_time_ratio_is_that_of_tanh_over_exact(data, monkeypatch):
    gelu = nn.functional.gelu

    def slow_tanh(inputs, approximate):
        for _ in range(20 if approximate == "tanh" else 1):
            outputs = gelu(inputs, approximate=approximate)
        return outputs

    monkeypatch.setattr(diagnostics_module.F, "gelu", slow_tanh)
    assert gelu_forms(config(batch_size=256, width=128), data, 1)["log_tanh_over_exact"] > math.log(3)


# Steps until the loss falls


def test_a_loss_that_falls_at_once_takes_one_step(data):
    row = steps_to_fall(config(optimizer__learning_rate=1.0, batch_size=1500), data, 1)
    assert row["log_steps_to_fall"] == 0
    assert row["steps_censored"] == 0


def test_a_loss_that_stays_is_censored_at_the_most_steps(data, monkeypatch):
    monkeypatch.setattr(diagnostics_module, "MAX_STEPS", 40)
    row = steps_to_fall(config(optimizer__learning_rate=1e-9), data, 1)
    assert {value for key, value in row.items() if key.startswith("log")} == {math.log(40)}
    assert {value for key, value in row.items() if key.startswith("steps")} == {1.0}


def test_a_loss_that_diverges_is_censored(data):
    row = steps_to_fall(config(loss="mse_logits", optimizer__learning_rate=1e6), data, 1)
    assert row["steps_censored"] == 1
    assert row["log_steps_to_fall"] == math.log(MAX_STEPS)


def test_steps_are_those_of_a_plain_count(data):
    """Gradient descent on the whole of a batch, one step at a time, by hand."""
    slow = config(optimizer__learning_rate=0.002, batch_size=1500)
    steps = math.exp(steps_to_fall(slow, data, 1)["log_steps_to_fall"])
    state = start_training(dataclasses.replace(slow, seed=1), data)
    inputs, labels = data.to_input(data.images[state.train_indices]), data.labels[state.train_indices]
    losses = []
    for _ in range(int(2 * steps)):
        loss = cross_entropy(state.model(inputs), labels).mean()
        losses.append(loss.item())
        state.optimizer.zero_grad()
        loss.backward()
        state.optimizer.step()
    counted = next(step for step, loss in enumerate(losses) if loss <= (1 - FALL) * losses[0])
    assert counted > 20
    assert steps == pytest.approx(counted, rel=0.02)  # 1,000 of the 1,497 examples are looked at


def test_a_tenth_of_the_loss_is_a_tenth_of_the_rate_under_plain_gradient_descent(data):
    fast = steps_to_fall(config(), data, 1)
    slow = steps_to_fall(config(optimizer__learning_rate=0.05 * ALPHA), data, 1)
    assert fast["log_steps_to_fall_alpha"] == slow["log_steps_to_fall"] > fast["log_steps_to_fall"]


def test_small_initial_weights_put_the_fall_off(data):
    row = steps_to_fall(config(init_std=0.001), data, 1)
    assert row["log_steps_to_fall"] > row["log_steps_to_fall_own_init"]
    own_init = steps_to_fall(config(), data, 1)
    assert row["log_steps_to_fall_own_init"] == own_init["log_steps_to_fall"] == own_init["log_steps_to_fall_own_init"]
    assert row["log_steps_to_fall_own_init_alpha"] == own_init["log_steps_to_fall_alpha"]


# The size of the gradient. Worked out by hand: with p = softmax(z) over ten classes, cross-entropy's is ‖p − one-hot‖.

SCALES = [
    ({"loss": "cross_entropy"}, 1.0, 1.0, 1e-6),
    ({"loss": "kl_div"}, 1.0, 1.0, 1e-6),
    ({"loss": "focal", "loss__gamma": 0.5}, 1.07, 0.47, 0.005),
    ({"loss": "focal", "loss__gamma": 2.0}, 1.22, 0.029, 0.005),
    ({"loss": "hinge", "loss__margin": 5.0}, 10.0, 90.0, 1e-3),
    ({"loss": "mse_logits"}, 0.21, 6.4, 0.05),
    ({"loss": "mse"}, 0.02, 0.02, 0.005),
    ({"loss": "l1"}, 0.02, 0.18, 0.005),
]


@pytest.mark.parametrize(("changes", "start", "late", "tolerance"), SCALES)
def test_gradient_scale_is_that_of_the_table(data, changes, start, late, tolerance):
    row = gradient_scale(config(**changes), data, 1)
    assert row["gradient_scale_start"] == pytest.approx(start, abs=tolerance)
    assert row["gradient_scale_late"] == pytest.approx(late, abs=tolerance)


def test_gradient_scale_of_focal_is_its_factor_in_closed_form(data):
    row = gradient_scale(config(loss="focal", loss__gamma=2.0), data, 1)
    for key, p in (("gradient_scale_start", 0.1), ("gradient_scale_late", 0.9)):
        factor = (1 - p) ** 2 - 2 * p * (1 - p) * math.log(p)
        assert row[key] == pytest.approx(factor, rel=1e-4)


# The record


def test_measured_diagnostics_are_plain_json_with_a_value_per_seed(dataset):
    configs = {"tanh": FLAT | {"activation": "tanh"}, "gelu": FLAT, "unused": {"loss": "nonsense"}}
    plan = {"gradient_scale": ["gelu", "tanh"], "gelu_forms": ["gelu"]}
    measured = measure_diagnostics(plan, configs, dataset, range(3, 6))
    assert json.loads(json.dumps(measured, allow_nan=False)) == measured
    assert measured["seeds"] == [3, 4, 5]
    assert set(measured["arms"]) == {"tanh", "gelu"}
    assert set(measured["arms"]["gelu"]) == MEASURES["gradient_scale"] | MEASURES["gelu_forms"]
    assert all(len(values) == 3 for measures in measured["arms"].values() for values in measures.values())


@pytest.mark.parametrize("name", ["gradient_variance", "steps_to_fall", "gradient_scale"])
def test_what_no_clock_decides_is_the_same_again_and_the_seed_decides_it(dataset, name):
    configs = {"arm": FLAT | {"seed": 7, "init_std": 0.1}}
    once, again, other = (measure_diagnostics({name: ["arm"]}, configs, dataset, [seed])["arms"] for seed in (1, 1, 2))
    assert once == again
    assert (once == other) is (name == "gradient_scale")


def test_threads_are_given_back_also_after_a_refusal(dataset):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(InputError):
            measure_diagnostics({"profile": ["arm"]}, {"arm": FLAT | {"loss": "nonsense"}}, dataset, [1])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("plan", "value", "choices"),
    [({"speed": ["arm"]}, "'speed'", DIAGNOSTICS), ({"profile": ["leg"]}, "'leg'", ["arm"])],
)
def test_unknown_diagnostic_or_arm_is_refused_with_the_choices(dataset, plan, value, choices):
    with pytest.raises(InputError) as refusal:
        measure_diagnostics(plan, {"arm": FLAT}, dataset, [1])
    message = str(refusal.value)
    assert value in message
    assert all(choice in message for choice in choices)
    assert "\n" not in message
