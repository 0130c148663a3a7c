"""Optimizers and learning-rate schedules by name."""

from __future__ import annotations

import functools
import inspect
import math
from types import MethodType
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from trainables.checks import check_number, check_parameters, one_line
from trainables.config import SCHEDULES, Component, InputError, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Methods of an optimizer that PyTorch keeps from its compiler, besides the step.
_KEPT_FROM_COMPILER = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
#: Where PyTorch updates all parameters in one kernel.
_FUSED_DEVICES = ("cpu", "cuda")


def sgd(
    parameters: Iterable[nn.Parameter], *, learning_rate: float, momentum: float = 0.0, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """Stochastic gradient descent, with heavy-ball momentum in [0, 1) and L2 weight decay >= 0.

    Raises:
        InputError: If a value breaks its rule.

    References:
        Polyak, Some Methods of Speeding up the Convergence of Iteration Methods, 1964.
    """
    check_number("learning_rate", learning_rate, above=0)
    check_number("momentum", momentum, at_least=0, below=1)
    check_number("weight_decay", weight_decay, at_least=0)
    parameters = list(parameters)
    return torch.optim.SGD(
        parameters, lr=learning_rate, momentum=momentum, weight_decay=weight_decay, fused=_fusable(parameters)
    )


def adam(
    parameters: Iterable[nn.Parameter], *, learning_rate: float, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """Adam with PyTorch's betas (.9, .999); weight decay >= 0 is added to the gradient.

    Raises:
        InputError: If a value breaks its rule.

    References:
        Kingma & Ba, Adam: A Method for Stochastic Optimization, ICLR 2015, arXiv:1412.6980.
    """
    check_number("learning_rate", learning_rate, above=0)
    check_number("weight_decay", weight_decay, at_least=0)
    parameters = list(parameters)
    return torch.optim.Adam(parameters, lr=learning_rate, weight_decay=weight_decay, fused=_fusable(parameters))


def adamw(
    parameters: Iterable[nn.Parameter], *, learning_rate: float, weight_decay: float = 0.01
) -> torch.optim.Optimizer:
    """Adam whose weight decay >= 0 shrinks the weights directly, by learning_rate × weight_decay a step.

    Raises:
        InputError: If a value breaks its rule.

    References:
        Loshchilov & Hutter, Decoupled Weight Decay Regularization, ICLR 2019, arXiv:1711.05101.
    """
    check_number("learning_rate", learning_rate, above=0)
    check_number("weight_decay", weight_decay, at_least=0)
    parameters = list(parameters)
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=_fusable(parameters))


def rmsprop(
    parameters: Iterable[nn.Parameter], *, learning_rate: float, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """RMSprop with PyTorch's smoothing constant .99; weight decay >= 0 is added to the gradient.

    Raises:
        InputError: If a value breaks its rule.

    References:
        Tieleman & Hinton, Lecture 6.5 of Neural Networks for Machine Learning, 2012.
    """
    check_number("learning_rate", learning_rate, above=0)
    check_number("weight_decay", weight_decay, at_least=0)
    # PyTorch has no fused RMSprop; foreach is the next best.
    return torch.optim.RMSprop(list(parameters), lr=learning_rate, weight_decay=weight_decay, foreach=True)


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
    "rmsprop": rmsprop,
}


def build_optimizer(component: Component, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer behind a name, for these parameters.

    Args:
        component: A line of `OPTIMIZERS`, or ``package.module:name`` for
            ``f(parameters, *, learning_rate, **params)`` of the user's own.
        parameters: What to optimise, already on its device.

    Raises:
        InputError: If the name or a parameter is unknown, a parameter breaks its rule, or no optimizer comes out.
    """
    _leave_compiler_out()
    builder = resolve("optimizer", component.name, OPTIMIZERS)
    check_parameters("optimizer", component.name, builder, component.params, num_positional=1)
    try:
        optimizer = builder(parameters, **component.params)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"The optimizer {component.name!r} cannot be built: {one_line(error)}") from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(
            f"The optimizer {component.name!r} must build a torch.optim.Optimizer; got {type(optimizer).__name__}."
        )
    if component.name in OPTIMIZERS:
        # Without what PyTorch puts around them for its compiler and its profiler, which a small model feels in its step
        # (docs/performance.md). A step that is differentiated through would need it; none of these is.
        step = torch.no_grad()(inspect.unwrap(type(optimizer).step))
        setattr(optimizer, "step", MethodType(step, optimizer))  # noqa: B010 - a method of this one alone
        setattr(optimizer, "zero_grad", MethodType(_forget_gradients, optimizer))  # noqa: B010 - likewise
    return optimizer


def build_schedule(optimizer: torch.optim.Optimizer, schedule: str, epochs: int) -> LRScheduler:
    """The learning-rate schedule of a trial, to be stepped once after each epoch.

    Args:
        optimizer: Its learning rate at this point is the rate of the first epoch.
        schedule: ``constant``, or ``cosine`` for a half-wave that is down to 0 once ``epochs`` epochs are over.
        epochs: Epochs of the whole trial, >= 1.

    Raises:
        InputError: If the schedule is unknown.

    References:
        Loshchilov & Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, ICLR 2017, arXiv:1608.03983.
    """
    if schedule not in SCHEDULES:
        raise InputError(f"`schedule` must be one of {', '.join(SCHEDULES)}; got {schedule!r}.")
    # A rate worked out afresh from the epoch, not from the rate before, is the same after a restart.
    share = functools.partial(_cosine_share, epochs=epochs) if schedule == "cosine" else _constant_share
    return LambdaLR(optimizer, share)


def _constant_share(epochs_done: int) -> float:  # noqa: ARG001  # LambdaLR passes it
    return 1.0


def _cosine_share(epochs_done: int, *, epochs: int) -> float:
    return (1 + math.cos(math.pi * min(epochs_done, epochs) / epochs)) / 2


def _forget_gradients(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def _fusable(parameters: list[nn.Parameter]) -> bool:
    return all(parameter.device.type in _FUSED_DEVICES for parameter in parameters)


def _leave_compiler_out() -> None:
    """Let an optimizer's methods be called without importing torch._dynamo: a second and 150 MB of every worker.

    PyTorch wraps them, so that a step that is compiled as a whole leaves them alone, and for that imports the compiler
    at their first call. Here no step is compiled; a model of the user's own may be. The wrapper looks for this
    attribute before it imports; in a version that does not, the import is back and nothing else changes.
    """
    for name in _KEPT_FROM_COMPILER:
        method = getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None)
        if method is not None:
            method.__dict__.setdefault("__dynamo_disable", method)
