"""Activation functions by name; each entry builds a fresh module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from trainables.checks import one_line
from trainables.config import InputError, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

#: SiLU is also known as Swish with beta = 1 (Ramachandran et al., 2017, arXiv:1710.05941); one name is enough.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "selu": nn.SELU,
    "hardswish": nn.Hardswish,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


def build_activation(name: str) -> nn.Module:
    """A new activation module.

    Args:
        name: A line of `ACTIVATIONS`, or ``package.module:name`` of something that builds a module without arguments.

    Raises:
        InputError: If the name is unknown or does not build a module.
    """
    builder = resolve("activation", name, ACTIVATIONS)
    try:
        activation = builder()
    except (Exception, SystemExit) as error:
        raise InputError(f"The activation {name!r} cannot be built without arguments: {one_line(error)}") from error
    if not isinstance(activation, nn.Module):
        raise InputError(f"The activation {name!r} must build a torch.nn.Module; got {type(activation).__name__}.")
    return activation
