"""Training step by step: a trial's own batches and steps, and the parts of a step that can be timed apart."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from trainables.activations import build_activation
from trainables.config import TrialConfig
from trainables.loop import (
    ResidentData,
    TrainingState,
    batches,
    forward,
    reduce_losses,
    start_training,
    train_step,
)

#: How often the parts of a step are timed.
REPETITIONS = 60


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """On a single thread: small tensors gain nothing from more, and lose much where others want the processor."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def training_batches(state: TrainingState) -> Iterator[Tensor]:
    """Indices of one minibatch after another, in the trial's own order, over as many epochs as are asked for."""
    while True:
        indices = state.train_indices[torch.randperm(len(state.train_indices), generator=state.order)]
        yield from (indices[batch] for batch in batches(len(indices), state.config.batch_size))
        state.schedule.step()


def train_on(state: TrainingState, data: ResidentData, indices: Tensor, factor: float = 1.0) -> None:
    """The loop's training step on the loss times a factor, whatever was done with the model in between."""
    state.model.train()
    scaled = replace(state, loss=lambda logits, labels: state.loss(logits, labels) * factor)
    train_step(scaled, data, indices, data.labels[indices])


@dataclass(frozen=True)
class ActivationCall:
    """An activation of a model, a leaf of what it was given and a derivative of its output."""

    module: nn.Module
    inputs: Tensor
    cotangent: Tensor


@dataclass(frozen=True)
class Parts:
    """A training step, and those of its parts that can run apart from it."""

    state: TrainingState
    data: ResidentData
    indices: Tensor
    logits: Tensor
    activations: list[ActivationCall]

    def step(self) -> None:
        train_on(self.state, self.data, self.indices)

    def run_activations(self) -> None:
        with _autocast(self.state.config.precision):
            for call in self.activations:
                torch.autograd.grad(call.module(call.inputs), call.inputs, call.cotangent)

    def run_loss(self) -> None:
        losses = self.state.loss(self.logits, self.data.labels[self.indices])
        torch.autograd.grad(reduce_losses(losses, self.state.config.reduction), self.logits)


def parts_of_a_step(config: TrialConfig, data: ResidentData, seed: int) -> Parts:
    state = start_training(replace(config, seed=seed), data)
    state.model.train()
    indices = next(training_batches(state))
    kind = type(build_activation(str(config.model.params.get("activation", "relu"))))
    calls: list[ActivationCall] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append(ActivationCall(module, inputs[0].detach().clone().requires_grad_(), torch.ones_like(output)))

    handles = [module.register_forward_hook(keep) for module in state.model.modules() if type(module) is kind]
    logits = forward(state.model, data.to_input(data.images.index_select(0, indices)), config.precision)
    for handle in handles:
        handle.remove()
    return Parts(state, data, indices, logits.detach().requires_grad_(), calls)


def median_seconds(parts: Sequence[Callable[[], object]], repetitions: int = REPETITIONS) -> list[float]:
    """Median time of each part, timed in turn after a tenth of the repetitions as warm-up."""
    seconds: list[list[float]] = [[] for _ in parts]
    for repetition in range(-(repetitions // 10), repetitions):
        for times, part in zip(seconds, parts, strict=True):
            started = time.perf_counter()
            part()
            if repetition >= 0:
                times.append(time.perf_counter() - started)
    return [float(np.median(times)) for times in seconds]


def _autocast(precision: str) -> contextlib.AbstractContextManager[object]:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision != "fp32")
