"""What every activation, optimizer and model in its table promises."""

import copy
import io

import pytest
import torch
from torch import nn

from trainables.activations import ACTIVATIONS, build_activation
from trainables.checks import keyword_names
from trainables.config import Component, InputError
from trainables.models import MODELS, accepted_parameters, build_model
from trainables.optimizers import OPTIMIZERS, build_optimizer

every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)
every_model = pytest.mark.parametrize("model", MODELS)
every_table = pytest.mark.parametrize("table", [ACTIVATIONS, OPTIMIZERS, MODELS])


@every_table
def test_names_are_lower_case_words_and_say_a_thing_once(table):
    assert all(name.isidentifier() and name == name.lower() for name in table)
    assert len(set(table.values())) == len(table)


@every_activation
def test_activation_acts_on_each_number_and_passes_a_gradient(activation):
    inputs = torch.linspace(-4, 4, 24).reshape(2, 3, 4).requires_grad_()
    outputs = build_activation(activation)(inputs)
    assert outputs.shape == inputs.shape
    torch.testing.assert_close(outputs.flatten()[5], build_activation(activation)(inputs.flatten()[5]))
    outputs.sum().backward()
    assert inputs.grad.isfinite().all()
    assert inputs.grad.abs().sum() > 0


@every_activation
def test_activation_is_built_afresh_and_leaves_its_input(activation):
    assert build_activation(activation) is not build_activation(activation)
    inputs = torch.linspace(-4, 4, 9)
    before = inputs.clone()
    build_activation(activation)(inputs)
    assert torch.equal(inputs, before)


@every_activation
@pytest.mark.parametrize("model", [name for name in MODELS if "activation" in accepted_parameters(name)])
def test_activation_fits_every_model_that_takes_one(activation, model):
    built = build_model(Component(model, {"activation": activation}), (1, 8, 8), 3)
    assert any(isinstance(module, ACTIVATIONS[activation]) for module in built.modules())


def a_problem():
    torch.manual_seed(0)
    model = nn.Linear(5, 1)
    return model, torch.randn(40, 5), torch.randn(40, 1)


def train(model, optimizer, inputs, targets, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
    return loss.item()


@every_optimizer
def test_optimizer_lowers_a_loss(optimizer):
    model, inputs, targets = a_problem()
    before = nn.functional.mse_loss(model(inputs), targets).item()
    built = build_optimizer(Component(optimizer, {"learning_rate": 1e-2}), model.parameters())
    assert train(model, built, inputs, targets, 50) < 0.97 * before


@every_optimizer
def test_optimizer_goes_on_to_the_same_bits_from_a_saved_state(optimizer):
    component = Component(optimizer, {"learning_rate": 1e-2})
    model, inputs, targets = a_problem()
    built = build_optimizer(component, model.parameters())
    train(model, built, inputs, targets, 3)
    file = io.BytesIO()
    torch.save(built.state_dict(), file)
    twin = copy.deepcopy(model)
    file.seek(0)
    restored = build_optimizer(component, twin.parameters())
    restored.load_state_dict(torch.load(file, weights_only=True))
    train(model, built, inputs, targets, 3)
    train(twin, restored, inputs, targets, 3)
    assert torch.equal(model.weight, twin.weight)


@every_optimizer
def test_weight_decay_shrinks_weights_that_have_no_gradient(optimizer):
    sizes = []
    for weight_decay in (0.0, 0.5):
        parameter = nn.Parameter(torch.tensor([2.0, -3.0]))
        parameter.grad = torch.zeros(2)
        params = {"learning_rate": 0.01, "weight_decay": weight_decay}
        build_optimizer(Component(optimizer, params), [parameter]).step()
        sizes.append(parameter.abs().sum().item())
    assert sizes[0] == 5.0
    assert sizes[1] < 5.0


@every_optimizer
def test_every_parameter_of_an_optimizer_is_checked(optimizer):
    for parameter in keyword_names(OPTIMIZERS[optimizer], num_positional=1):
        component = Component(optimizer, {"learning_rate": 0.1, parameter: -1.0})
        with pytest.raises(InputError, match=f"`{parameter}` must be a finite number"):
            build_optimizer(component, nn.Linear(2, 2).parameters())


@every_optimizer
def test_optimizer_refuses_an_unknown_parameter_and_names_its_own(optimizer):
    params = {"learning_rate": 0.1, "unheard_of": 1.0}
    with pytest.raises(InputError, match=f"'{optimizer}' has no parameter 'unheard_of'; it accepts learning_rate"):
        build_optimizer(Component(optimizer, params), nn.Linear(2, 2).parameters())


@every_model
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
def test_model_maps_images_to_one_logit_per_class(model, shape):
    built = build_model(Component(model), shape, 7).eval()
    with torch.no_grad():
        logits = built(torch.randn(3, *shape))
    assert logits.shape == (3, 7)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@every_model
def test_model_is_decided_by_the_seed_and_leaves_a_decided_generator(model):
    states, generators = [], []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build_model(Component(model), (1, 8, 8), 4).state_dict())
        generators.append(torch.get_rng_state())
    assert torch.equal(generators[0], generators[1])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])


@every_model
def test_trying_a_model_leaves_it_in_training_with_fresh_statistics(model):
    built = build_model(Component(model), (1, 8, 8), 4)
    assert all(module.training for module in built.modules())
    for name, buffer in built.named_buffers():
        assert torch.equal(buffer, torch.ones_like(buffer) if "var" in name else torch.zeros_like(buffer))


@every_model
def test_every_weight_of_a_model_gets_a_gradient(model):
    built = build_model(Component(model), (1, 8, 8), 4)
    nn.functional.cross_entropy(built(torch.randn(4, 1, 8, 8)), torch.arange(4)).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in built.parameters())


@every_model
def test_model_refuses_an_unknown_parameter(model):
    with pytest.raises(InputError, match=f"The model '{model}' has no parameter 'unheard_of'; it accepts"):
        build_model(Component(model, {"unheard_of": 1}), (1, 8, 8), 4)
