"""Optimizers of a stacked model: one for each run of its models that have one learning rate."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainables.config import Component
from trainables.optimizers import build_optimizer


@dataclass(frozen=True)
class MembersOptimizer:
    """The optimizer of the models from ``first`` on, up to ``last`` without it; the stream that it runs in, if any."""

    first: int
    last: int
    optimizer: torch.optim.Optimizer
    stream: torch.cuda.Stream | None


def build_optimizers(components: Sequence[Component], parameters: Sequence[nn.Parameter]) -> list[MembersOptimizer]:
    """Fresh optimizers of stacked parameters.

    Args:
        components: One for each model, in their order.
        parameters: Of all of them, each with a first dimension of as many.

    Raises:
        InputError: If one cannot be built.
    """
    optimizers: list[MembersOptimizer] = []
    device = parameters[0].device
    for component, run in itertools.groupby(components):
        first = optimizers[-1].last if optimizers else 0
        last = first + len(list(run))
        # A view is a parameter of its own to an optimizer, and the same memory.
        views: list[Any] = [parameter.detach()[first:last] for parameter in parameters]
        stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        optimizers.append(MembersOptimizer(first, last, build_optimizer(component, views), stream))
    return optimizers


def put_on_device(optimizers: Sequence[MembersOptimizer], device: torch.device) -> None:
    """Keep in the GPU's memory whatever changes from step to step: a graph would repeat a number of the host's.

    To be called once they have their schedules.
    """
    for own in optimizers:
        for group in own.optimizer.param_groups:
            group["lr"] = torch.tensor(float(group["lr"]), device=device)
            if "capturable" in group:
                group["capturable"] = True


def step_optimizers(optimizers: Sequence[MembersOptimizer], gradients: Sequence[Tensor]) -> None:
    """Step all of them, side by side on a GPU, as branches of a graph too: each alone fills a small part of it.

    Args:
        optimizers: What :func:`build_optimizers` returned.
        gradients: Of the stacked parameters, laid out as they are.
    """
    for own in optimizers:
        for view, gradient in zip(own.optimizer.param_groups[0]["params"], gradients, strict=True):
            view.grad = gradient[own.first : own.last]
        if own.stream is None:
            own.optimizer.step()
            continue
        own.stream.wait_stream(torch.cuda.current_stream(own.stream.device))
        with torch.cuda.stream(own.stream):
            own.optimizer.step()
    for own in optimizers:
        if own.stream is not None:
            torch.cuda.current_stream(own.stream.device).wait_stream(own.stream)
