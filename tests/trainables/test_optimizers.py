import io
import math
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from trainables.config import Component, InputError
from trainables.optimizers import OPTIMIZERS, build_optimizer, build_schedule

RATE = 0.1

# One scalar parameter in plain Python floats: (weight, gradient, state, step from 1) -> weight.


def sgd_step(weight, gradient, state, _step, momentum=0.0, weight_decay=0.0):
    gradient += weight_decay * weight
    state["velocity"] = momentum * state["velocity"] + gradient if "velocity" in state else gradient
    return weight - RATE * state["velocity"]


def adam_step(weight, gradient, state, step, weight_decay=0.0):
    gradient += weight_decay * weight
    state["first"] = 0.9 * state.get("first", 0.0) + 0.1 * gradient
    state["second"] = 0.999 * state.get("second", 0.0) + 0.001 * gradient**2
    first, second = state["first"] / (1 - 0.9**step), state["second"] / (1 - 0.999**step)
    return weight - RATE * first / (math.sqrt(second) + 1e-8)


def adamw_step(weight, gradient, state, step, weight_decay=0.01):
    return adam_step(weight, gradient, state, step) - RATE * weight_decay * weight


def rmsprop_step(weight, gradient, state, _step, weight_decay=0.0):
    gradient += weight_decay * weight
    state["second"] = 0.99 * state.get("second", 0.0) + 0.01 * gradient**2
    return weight - RATE * gradient / (math.sqrt(state["second"]) + 1e-8)


REFERENCES = {"sgd": sgd_step, "adam": adam_step, "adamw": adamw_step, "rmsprop": rmsprop_step}


def test_every_optimizer_has_a_reference():
    assert set(REFERENCES) == set(OPTIMIZERS)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        *[(name, {}) for name in REFERENCES],
        *[(name, {"weight_decay": 0.3}) for name in REFERENCES],
        ("sgd", {"momentum": 0.9, "weight_decay": 0.3}),
    ],
)
def test_optimizer_takes_the_steps_of_its_definition(name, params):
    parameter = nn.Parameter(torch.tensor([2.0, -1.0], dtype=torch.float64))
    optimizer = build_optimizer(Component(name, {"learning_rate": RATE, **params}), iter([parameter]))
    expected, states = [2.0, -1.0], [{}, {}]
    for step in range(1, 6):
        parameter.grad = torch.sin(3 * parameter.detach())
        gradients = np.sin(3 * np.array(expected))
        expected = [
            REFERENCES[name](weight, gradient, state, step, **params)
            for weight, gradient, state in zip(expected, gradients, states, strict=True)
        ]
        optimizer.step()
        np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_optimizer_is_fused_on_the_cpu(name):
    optimizer = build_optimizer(Component(name, {"learning_rate": RATE}), nn.Linear(2, 2).parameters())
    assert optimizer.defaults["fused"] is True


def test_optimizer_is_not_fused_where_pytorch_cannot():
    parameter = nn.Parameter(torch.zeros(2, device="meta"))
    assert build_optimizer(Component("sgd", {"learning_rate": RATE}), [parameter]).defaults["fused"] is False


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("sgd", {"momentum": 1.0}, "`momentum` must be a finite number >= 0 and < 1; got 1.0."),
        ("sgd", {"momentum": -0.1}, "`momentum` must be a finite number >= 0 and < 1; got -0.1."),
        (
            "adam",
            {"momentum": 0.9},
            "The optimizer 'adam' has no parameter 'momentum'; it accepts learning_rate, weight_",
        ),
        (
            "adam",
            {"parameters": 1},
            "The optimizer 'adam' has no parameter 'parameters'; it accepts learning_rate, weig",
        ),
        ("rmsprop", {"weight_decay": math.nan}, "`weight_decay` must be a finite number >= 0; got nan."),
        ("adamw", {"learning_rate": 0.0}, "`learning_rate` must be a finite number > 0; got 0.0."),
        ("adagrad", {}, "Unknown optimizer 'adagrad'; choose from adam, adamw, rmsprop, sgd"),
        (
            "torch.optim:NAdam",
            {},
            "The optimizer 'torch.optim:NAdam' has no parameter 'learning_rate'; it accepts lr, ",
        ),
    ],
)
def test_what_an_optimizer_cannot_take_is_refused(name, params, message):
    with pytest.raises(InputError) as caught:
        build_optimizer(Component(name, {"learning_rate": RATE, **params}), nn.Linear(2, 2).parameters())
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_model_without_parameters_is_refused():
    with pytest.raises(InputError, match=r"The optimizer 'sgd' cannot be built: ValueError: .*empty parameter list"):
        build_optimizer(Component("sgd", {"learning_rate": RATE}), nn.ReLU().parameters())


def test_a_users_own_optimizer_is_built(monkeypatch):
    own = types.ModuleType("own")
    own.nadam = lambda parameters, *, learning_rate, **params: torch.optim.NAdam(parameters, lr=learning_rate, **params)
    own.nothing = lambda parameters, *, learning_rate: None
    monkeypatch.setitem(sys.modules, "own", own)
    params = {"learning_rate": RATE, "weight_decay": 0.5}
    optimizer = build_optimizer(Component("own:nadam", params), nn.Linear(2, 2).parameters())
    assert isinstance(optimizer, torch.optim.NAdam)
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (RATE, 0.5)
    with pytest.raises(InputError, match=r"'own:nothing' must build a torch\.optim\.Optimizer; got NoneType\."):
        build_optimizer(Component("own:nothing", {"learning_rate": RATE}), nn.Linear(2, 2).parameters())


def a_parameter_and_its_optimizer(name="sgd"):
    parameter = nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3)
    return parameter, build_optimizer(Component(name, {"learning_rate": RATE}), [parameter])


def rates_of_epochs(optimizer, schedule, epochs):
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_constant_schedule_keeps_the_rate():
    _, optimizer = a_parameter_and_its_optimizer()
    assert rates_of_epochs(optimizer, build_schedule(optimizer, "constant", 4), 6) == [RATE] * 6


def test_cosine_schedule_starts_at_the_full_rate_and_is_zero_when_the_trial_is_over():
    _, optimizer = a_parameter_and_its_optimizer()
    schedule = build_schedule(optimizer, "cosine", 4)
    rates = rates_of_epochs(optimizer, schedule, 4)
    assert rates[0] == RATE
    assert rates == pytest.approx([0.1, 0.0853553, 0.05, 0.0146447], rel=1e-5)
    assert optimizer.param_groups[0]["lr"] == 0.0
    assert rates_of_epochs(optimizer, schedule, 2) == [0.0, 0.0]  # it does not rise again


def test_cosine_schedule_of_one_epoch_trains_at_the_full_rate():
    _, optimizer = a_parameter_and_its_optimizer()
    assert rates_of_epochs(optimizer, build_schedule(optimizer, "cosine", 1), 1) == [RATE]


def test_an_unknown_schedule_is_refused():
    _, optimizer = a_parameter_and_its_optimizer()
    with pytest.raises(InputError, match=r"`schedule` must be one of constant, cosine; got 'linear'\."):
        build_schedule(optimizer, "linear", 4)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_and_schedule_resume_to_the_same_bits_from_a_safe_file(name):
    whole, optimizer = a_parameter_and_its_optimizer(name)
    schedule = build_schedule(optimizer, "cosine", 6)
    rates_of_epochs(optimizer, schedule, 3)
    file = io.BytesIO()
    torch.save((whole.detach().clone(), optimizer.state_dict(), schedule.state_dict()), file)
    rates = rates_of_epochs(optimizer, schedule, 3)

    resumed, optimizer = a_parameter_and_its_optimizer(name)
    schedule = build_schedule(optimizer, "cosine", 6)
    file.seek(0)
    weights, optimizer_state, schedule_state = torch.load(file, weights_only=True)
    resumed.data.copy_(weights)
    optimizer.load_state_dict(optimizer_state)
    schedule.load_state_dict(schedule_state)
    assert rates_of_epochs(optimizer, schedule, 3) == rates
    assert torch.equal(whole, resumed)
    assert not torch.equal(weights, resumed)


WITHOUT_COMPILER = """
import sys, torch
from torch import nn
from trainables.config import Component
from trainables.optimizers import OPTIMIZERS, build_optimizer, build_schedule
for name in OPTIMIZERS:
    model = nn.Linear(3, 2)
    optimizer = build_optimizer(Component(name, {"learning_rate": 0.1}), model.parameters())
    schedule = build_schedule(optimizer, "cosine", 2)
    optimizer.zero_grad()
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    schedule.step()
    optimizer.load_state_dict(optimizer.state_dict())
assert "torch._dynamo" not in sys.modules
compiled = torch.compile(model, backend="eager")
torch.testing.assert_close(compiled(torch.ones(4, 3)), model(torch.ones(4, 3)))
assert "torch._dynamo" in sys.modules
"""


def test_training_does_not_import_the_compiler_and_a_model_can_still_be_compiled():
    done = subprocess.run([sys.executable, "-c", WITHOUT_COMPILER], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_is_that_of_the_optimizer_as_pytorch_has_it_to_the_bit(name):
    ours, theirs = (nn.Linear(5, 3) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    optimizer = build_optimizer(Component(name, {"learning_rate": RATE}), ours.parameters())
    reference = type(optimizer)(
        theirs.parameters(),
        **{key: value for key, value in optimizer.defaults.items() if key != "decoupled_weight_decay"},
    )
    for step in range(3):
        for model, stepped in ((ours, optimizer), (theirs, reference)):
            stepped.zero_grad()
            model(torch.full((4, 5), step + 1.0)).square().sum().backward()
            stepped.step()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)
        assert not mine.grad_fn


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradients_are_forgotten_in_every_group(name):
    model = nn.Linear(5, 3)
    optimizer = build_optimizer(Component(name, {"learning_rate": RATE}), [model.weight])
    optimizer.add_param_group({"params": [model.bias]})
    model(torch.ones(4, 5)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())
