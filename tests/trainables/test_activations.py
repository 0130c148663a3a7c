import math
import sys
import types

import pytest
import torch

from trainables.activations import ACTIVATIONS, build_activation
from trainables.config import InputError


def selu(x):
    return 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * math.expm1(x))


REFERENCES = {
    "relu": lambda x: max(x, 0.0),
    "tanh": math.tanh,
    "selu": selu,
    "hardswish": lambda x: x * min(max(x + 3, 0.0), 6.0) / 6,
    "silu": lambda x: x / (1 + math.exp(-x)),
    "gelu": lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
}


def test_every_activation_has_a_reference():
    assert set(REFERENCES) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", REFERENCES)
def test_activation_equals_its_definition(name):
    points = [-6.0, -3.0, -1.3, -0.2, 0.0, 0.4, 1.0, 2.9, 3.1, 7.0]
    expected = torch.tensor([REFERENCES[name](point) for point in points])
    torch.testing.assert_close(build_activation(name)(torch.tensor(points)), expected)


def test_an_unknown_activation_is_refused_with_the_choices():
    with pytest.raises(InputError, match="Unknown activation 'swish'; choose from gelu, hardswish, relu, selu, silu"):
        build_activation("swish")


def test_a_users_own_activation_is_built():
    assert isinstance(build_activation("torch.nn:Mish"), torch.nn.Mish)


def test_a_function_is_refused_as_an_activation(monkeypatch):
    own = types.ModuleType("own")
    own.square = lambda x: x * x
    own.number = lambda: 3
    monkeypatch.setitem(sys.modules, "own", own)
    with pytest.raises(InputError, match="The activation 'own:square' cannot be built without arguments: TypeError"):
        build_activation("own:square")
    with pytest.raises(InputError, match=r"The activation 'own:number' must build a torch\.nn\.Module; got int\."):
        build_activation("own:number")
