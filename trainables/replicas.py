"""Trials of one configuration trained as one batched model: what separate trials compute, in a fraction of the kernels.

A small model leaves a GPU idle between two kernels. Replicas that differ in their seed, and possibly in their learning
rate, take the same steps on tensors R times as large: parameters are stacked along a first dimension, losses stay per
example, and what is differentiated is the sum over the replicas of each one's own reduced loss, so that no replica's
gradient holds anything of another's. Split, first weights and batch order are those that
:func:`trainables.loop.start_training` gives each seed alone. The results are equal within float tolerance and not to
the bit: a batched product adds in another order.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from trainables.batched import check_batched
from trainables.config import Component, TrialConfig
from trainables.graphed import GraphedStep, Step
from trainables.loop import (
    CPU_EVALUATION_BATCH,
    EVALUATION_BATCH,
    ResidentData,
    TrainingState,
    batches,
    denormal_is_zero,
    finish_row,
    forward,
    join_splits,
    look_at_test,
    reduce_losses,
    start_training,
)
from trainables.metrics import metrics_of_sums, split_sums
from trainables.optimizers import build_schedule
from trainables.stacked import StackedModel
from trainables.stacked_optimizers import MembersOptimizer, build_optimizers, put_on_device, step_optimizers


@dataclass
class Replicas:
    """Trials in progress as one.

    Args:
        members: Each as it starts alone; its order moves on, its weights and its epoch only when it is brought up to
            date.
        model: Of all of them.
        state: The trial of that model, with indices of shape ``(R, N)``; its own optimizer has no say.
        graph: Whether steps are replayed from a CUDA graph.
        optimizers: One for each run of members with one learning rate, of what is theirs of the stacked parameters.
        schedules: Of each.
        step: One minibatch.
    """

    members: list[TrainingState]
    model: StackedModel
    state: TrainingState
    graph: bool
    optimizers: Sequence[MembersOptimizer] = ()
    schedules: Sequence[LRScheduler] = ()
    step: Step | None = None

    def update_member(self, position: int) -> TrainingState:
        """A member as it is now."""
        member = self.members[position]
        self.model.copy_to(member.model, position)
        member.epoch = self.state.epoch
        return member


def start_replicas(
    configs: Sequence[TrialConfig],
    data: ResidentData,
    splits: Sequence[tuple[Tensor, Tensor]] | None = None,
    *,
    graph: bool = False,
) -> Replicas:
    """Fresh trials, see :class:`trainables.replica_trials.ReplicaTrials`.

    Raises:
        InputError: If they cannot be batched or there is none.
    """
    check_batched([config.to_flat() for config in configs])
    members = [start_training(config, data, split) for config, split in itertools.zip_longest(configs, splits or ())]
    model = StackedModel([member.model for member in members])
    config = members[0].config
    state = dataclasses.replace(
        members[0],
        model=model,
        # Of one length: how many examples of a class a split takes does not depend on the seed.
        train_indices=torch.stack([member.train_indices for member in members]),
        val_indices=torch.stack([member.val_indices for member in members]),
    )
    replicas = Replicas(members, model, state, graph and data.device.type == "cuda")
    _take_optimizers(replicas, data, [one.optimizer for one in configs], config.switch_epoch or config.epochs)
    return replicas


def run_replicas_epoch(
    replicas: Replicas, data: ResidentData, *, watch: Collection[str] = ()
) -> list[dict[str, float]]:
    """Train one epoch, then evaluate on the validation splits.

    Returns:
        For each replica what :func:`trainables.loop.run_epoch` returns, its ``epoch_seconds`` an equal share of all.
        One that has diverged goes on without disturbing the others, and what it still says means nothing.
    """
    started = time.perf_counter()
    state = replicas.state
    config = state.config
    if 0 < config.switch_epoch == state.epoch:
        assert config.second_optimizer is not None
        second = [config.second_optimizer] * len(replicas.members)
        _take_optimizers(replicas, data, second, config.epochs - config.switch_epoch)
    learning_rates = [
        float(own.optimizer.param_groups[0]["lr"]) for own in replicas.optimizers for _ in range(own.first, own.last)
    ]
    train = _train_epoch(replicas, data)
    val = _evaluate(state, data, data.images, data.labels, state.val_indices)
    state.epoch += 1
    joined = [join_splits(*of_splits, data.num_classes) for of_splits in zip(train, val, strict=True)]
    seconds = (time.perf_counter() - started) / len(joined)
    looks = _look_at_test(replicas, data, watch, [diverged for _, diverged in joined])
    return [
        finish_row(row | look, learning_rate=rate, seconds=seconds, diverged=diverged)
        for (row, diverged), look, rate in zip(joined, looks, learning_rates, strict=True)
    ]


def _take_optimizers(replicas: Replicas, data: ResidentData, components: Sequence[Component], epochs: int) -> None:
    """Fresh optimizers, one component for each replica; no momentum or moment of another survives, the weights do."""
    config = replicas.state.config
    replicas.optimizers = build_optimizers(components, list(replicas.model.parameters()))
    replicas.schedules = [build_schedule(own.optimizer, config.schedule, epochs) for own in replicas.optimizers]
    step: Step = functools.partial(train_step, replicas, data)
    if replicas.graph:
        put_on_device(replicas.optimizers, data.device)
        step = GraphedStep(step, (len(replicas.members), config.batch_size), data.device)
    replicas.step = step


def train_step(replicas: Replicas, data: ResidentData, indices: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """One optimizer step of all replicas on a minibatch each; see :data:`Step`."""
    state = replicas.state
    logits = forward(state.model, _gather(data, data.images, indices), state.config.precision)
    losses = _losses(state, logits, labels)
    total = reduce_losses(losses, state.config.reduction).sum()
    parameters = list(state.model.parameters())
    gradients = list(map(_laid_out_like, torch.autograd.grad(total, parameters), parameters))
    step_optimizers(replicas.optimizers, gradients)
    return logits.detach(), losses.detach()


def _train_epoch(replicas: Replicas, data: ResidentData) -> list[dict[str, float]]:
    state, step = replicas.state, replicas.step
    assert step is not None
    state.model.train()
    num_examples = state.train_indices.shape[1]
    orders = [torch.randperm(num_examples, generator=member.order) for member in replicas.members]
    indices = state.train_indices.gather(1, torch.stack(orders).to(data.device))
    labels = data.labels[indices]
    all_logits = torch.empty(*indices.shape, data.num_classes, device=data.device)
    all_losses = torch.empty(indices.shape, device=data.device)
    size = state.config.batch_size
    parts = batches(num_examples, size)
    whole = [part for part in parts if part.stop - part.start == size]
    # A step's own numbers lie side by side, so that each is copied in one run of memory.
    ours = [_by_step(values, len(whole), size) for values in (indices, labels)]
    shape = len(whole), len(indices), size
    theirs = [all_logits.new_empty(*shape, data.num_classes), all_losses.new_empty(shape)]
    with denormal_is_zero():
        for own_indices, own_labels, *places in zip(*ours, *theirs, strict=True):
            for place, values in zip(places, step(own_indices, own_labels), strict=True):
                place.copy_(values)
        for part in parts[len(whole) :]:
            all_logits[:, part], all_losses[:, part] = step(indices[:, part], labels[:, part])
    for values, own in zip((all_logits, all_losses), theirs, strict=True):
        values[:, : len(whole) * size] = own.transpose(0, 1).flatten(1, 2)
    for schedule in replicas.schedules:
        schedule.step()
    return _metrics(all_logits, labels, all_losses)


def _by_step(values: Tensor, num_steps: int, size: int) -> Tensor:
    """From ``(R, N)`` the first ``num_steps * size`` of N as ``(num_steps, R, size)``."""
    return values[:, : num_steps * size].view(len(values), num_steps, size).transpose(0, 1).contiguous()


@torch.no_grad()
def _evaluate(
    state: TrainingState, data: ResidentData, images: Tensor, all_labels: Tensor, selected: Tensor
) -> list[dict[str, float]]:
    """Metrics of each replica on images of its own, in evaluation mode; ``selected`` has shape ``(R, N)``."""
    state.model.eval()
    num_replicas = len(selected)
    # All replicas together evaluate as many images at once as a trial alone; but few of each would not fill a GPU.
    size = CPU_EVALUATION_BATCH // num_replicas
    if data.device.type != "cpu":
        size = max(CPU_EVALUATION_BATCH, EVALUATION_BATCH // num_replicas)
    parts = torch.split(selected, max(1, size), dim=1)
    logits = torch.cat(
        [forward(state.model, _gather(data, images, part), state.config.precision) for part in parts], dim=1
    )
    labels = all_labels[selected]
    return _metrics(logits, labels, _losses(state, logits, labels))


def _look_at_test(
    replicas: Replicas, data: ResidentData, watch: Collection[str], diverged: Sequence[bool]
) -> list[dict[str, float]]:
    """What :func:`trainables.loop.look_at_test` sees of each replica."""
    if not watch:
        return [{} for _ in diverged]
    # Noise is each seed's own, so each looks at its own images; the test split is one for all.
    apart = [look for look in watch if look != "test"]
    looks: list[dict[str, float]] = [
        look_at_test(replicas.update_member(position), data, apart if not gone else watch, diverged=gone)
        if apart or gone
        else {}
        for position, gone in enumerate(diverged)
    ]
    if "test" in watch:
        everything = torch.arange(len(data.test_labels), device=data.device).expand(len(diverged), -1)
        seen = _evaluate(replicas.state, data, data.test_images, data.test_labels, everything)
        for look, metrics, gone in zip(looks, seen, diverged, strict=True):
            look.update({} if gone else {f"test_{key}": value for key, value in metrics.items()})
    return looks


def _laid_out_like(gradient: Tensor, parameter: Tensor) -> Tensor:
    """The gradient of a batched product may be transposed; a fused optimizer takes both for laid out alike."""
    return gradient if gradient.stride() == parameter.stride() else torch.empty_like(parameter).copy_(gradient)


def _gather(data: ResidentData, images: Tensor, indices: Tensor) -> Tensor:
    """Input of the stacked model, shape ``(R, batch, C, H, W)``."""
    return data.to_input(images.index_select(0, indices.flatten())).view(*indices.shape, *data.input_shape)


def _losses(state: TrainingState, logits: Tensor, labels: Tensor) -> Tensor:
    return state.loss(logits.flatten(0, 1), labels.flatten()).view(labels.shape)


def _metrics(logits: Tensor, labels: Tensor, losses: Tensor) -> list[dict[str, float]]:
    """``split_metrics`` of each replica; the host waits for the device once."""
    sums = torch.stack([split_sums(*of_one) for of_one in zip(logits, labels, losses, strict=True)])
    return [metrics_of_sums(of_one) for of_one in sums.cpu().numpy()]
