"""Seeds of one configuration trained as one batched model: what separate trials compute, in a fraction of the kernels.

A small model leaves a GPU idle between two kernels. Replicas that differ in their seed alone take the same steps on
tensors R times as large: parameters are stacked along a first dimension, losses stay per example, and what is
differentiated is the sum over the replicas of each one's own reduced loss, so that no replica's gradient holds anything
of another's. Split, first weights and batch order are those that :func:`trainables.loop.start_training` gives each seed
alone. The results are equal within float tolerance and not to the bit: a batched product adds in another order.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.activations import ACTIVATIONS
from trainables.config import InputError, TrialConfig
from trainables.evaluation import FinalEvaluation, final_evaluation
from trainables.loop import (
    CPU_EVALUATION_BATCH,
    EVALUATION_BATCH,
    ResidentData,
    TrainingState,
    batches,
    finish_row,
    forward,
    join_splits,
    reduce_losses,
    start_training,
    switch_optimizer,
)
from trainables.losses import LOSSES
from trainables.metrics import metrics_of_sums, split_sums
from trainables.optimizers import OPTIMIZERS, build_optimizer, build_schedule
from trainables.stacked import StackedModel

#: What replicas can have, by key of the flat form. Losses must treat examples apart and optimizers numbers, of which
#: only the project's own are known; a model must neither couple the examples of a batch nor draw random numbers, and
#: augmentation draws some for each replica.
BATCHED = {
    "loss": tuple(LOSSES),
    "optimizer": tuple(OPTIMIZERS),
    "second_optimizer": tuple(OPTIMIZERS),
    "model": ("mlp", "convnet"),
    "activation": tuple(ACTIVATIONS),
    "augment": (False,),
}
#: Steps before a CUDA graph is captured, in which libraries choose their kernels.
_WARM_UP_STEPS = 3

#: From indices and labels, each ``(R, batch)``, to logits ``(R, batch, num_classes)``, losses ``(R, batch)`` and one
#: gradient for each stacked parameter.
Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, tuple[Tensor, ...]]]


@dataclass(frozen=True)
class Replicas:
    """Trials in progress as one.

    Args:
        members: Each as it starts alone; its order moves on, its weights and its epoch only when it is brought up to
            date.
        model: Of all of them.
        state: The trial of that model, with indices of shape ``(R, N)``.
        step: Logits, losses and gradients of a minibatch, eager or from a CUDA graph.
    """

    members: list[TrainingState]
    model: StackedModel
    state: TrainingState
    step: Step

    def update_member(self, position: int) -> TrainingState:
        """A member as it is now."""
        member = self.members[position]
        self.model.copy_to(member.model, position)
        member.epoch = self.state.epoch
        return member


@dataclass(frozen=True)
class TrainedReplica:
    """A trial that has ended.

    Args:
        state: After its last epoch.
        rows: As :func:`trainables.loop.run_epoch` gives them, up to the last epoch or the one in which it diverged.
        final: Of the test split, its metrics in the last row too; None if it was not looked at.
    """

    state: TrainingState
    rows: list[dict[str, float]]
    final: FinalEvaluation | None


def check_batched(config: TrialConfig) -> None:
    """Refuse a configuration whose seeds cannot be trained as one batched model.

    Raises:
        InputError: With the value and the rule.
    """
    flat = config.to_flat()
    for key, known in BATCHED.items():
        if key in flat and flat[key] not in known:
            rule = f"one of {', '.join(map(str, known))}" if len(known) > 1 else str(known[0])
            raise InputError(f"`{key}` must be {rule} where seeds are trained as one model; got {flat[key]!r}.")


def train_replicas(
    config: TrialConfig,
    seeds: Sequence[int],
    data: ResidentData,
    corrupted: dict[str, list[Tensor]] | None = None,
    *,
    graph: bool = False,
) -> list[TrainedReplica]:
    """Train a configuration with each of the seeds to its end.

    Args:
        config: The trial; its own seed has no say.
        seeds: One for each replica.
        data: The data, on the device that trains.
        corrupted: What :func:`trainables.evaluation.corrupt_test_images` gives, for the look at the test split that a
            confirm trial ends with; None for none.
        graph: Replay steps from a CUDA graph; without effect on a CPU.

    Returns:
        One for each seed, in their order.

    Raises:
        InputError: If the configuration cannot be batched or there is no seed.
    """
    replicas = start_replicas(config, seeds, data, graph=graph)
    rows: list[list[dict[str, float]]] = [[] for _ in seeds]
    running = set(range(len(seeds)))
    while running:
        for position, row in enumerate(run_replicas_epoch(replicas, data)):
            if position not in running:
                continue
            rows[position].append(row)
            if row["diverged"] or replicas.state.epoch == config.epochs:
                replicas.update_member(position)
                running.remove(position)
    return [_finish(*one, data, corrupted) for one in zip(replicas.members, rows, strict=True)]


def start_replicas(config: TrialConfig, seeds: Sequence[int], data: ResidentData, *, graph: bool = False) -> Replicas:
    """Fresh trials of a configuration, one for each seed, see :func:`train_replicas`.

    Raises:
        InputError: If the configuration cannot be batched or there is no seed.
    """
    check_batched(config)
    if not seeds:
        raise InputError("`seeds` must be one or more; got none.")
    members = [start_training(dataclasses.replace(config, seed=seed), data) for seed in seeds]
    model = StackedModel([member.model for member in members])
    optimizer = build_optimizer(config.optimizer, model.parameters())
    state = dataclasses.replace(
        members[0],
        model=model,
        optimizer=optimizer,
        schedule=build_schedule(optimizer, config.schedule, config.switch_epoch or config.epochs),
        # Of one length: how many examples of a class a split takes does not depend on the seed.
        train_indices=torch.stack([member.train_indices for member in members]),
        val_indices=torch.stack([member.val_indices for member in members]),
    )
    step: Step = functools.partial(differentiate, state, data)
    if graph and data.device.type == "cuda":
        indices = state.train_indices[:, : config.batch_size]
        step = capture(step, indices, data.labels[indices])
    return Replicas(members, model, state, step)


def run_replicas_epoch(replicas: Replicas, data: ResidentData) -> list[dict[str, float]]:
    """Train one epoch, then evaluate on the validation splits.

    Returns:
        For each replica what :func:`trainables.loop.run_epoch` returns, its ``epoch_seconds`` an equal share of all.
        One that has diverged goes on without disturbing the others, and what it still says means nothing.
    """
    started = time.perf_counter()
    state = replicas.state
    if 0 < state.config.switch_epoch == state.epoch:
        switch_optimizer(state)
    learning_rate = state.optimizer.param_groups[0]["lr"]
    train = _train_epoch(replicas, data)
    val = _evaluate(state, data)
    state.epoch += 1
    rows = [join_splits(*of_splits, data.num_classes) for of_splits in zip(train, val, strict=True)]
    seconds = (time.perf_counter() - started) / len(rows)
    return [finish_row(row, learning_rate=learning_rate, seconds=seconds, diverged=diverged) for row, diverged in rows]


def differentiate(
    state: TrainingState, data: ResidentData, indices: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Forward and backward of one step, which change nothing: they can be repeated, and captured."""
    logits = forward(state.model, _gather(data, indices), state.config.precision)
    losses = _losses(state, logits, labels)
    total = reduce_losses(losses, state.config.reduction).sum()
    parameters = list(state.model.parameters())
    gradients = torch.autograd.grad(total, parameters)
    return logits.detach(), losses.detach(), tuple(map(_laid_out_like, gradients, parameters))


def capture(step: Step, indices: Tensor, labels: Tensor) -> Step:
    """A step that replays a CUDA graph on minibatches of this shape, and runs as it is on any other.

    The optimizer stays outside: its learning rate is a number on the host, and it is a few kernels for all replicas.

    Args:
        step: Its outputs depend on its arguments and on the parameters' present values alone.
        indices: An example of its first argument, on a CUDA device.
        labels: Likewise of its second.
    """
    buffers = indices.clone(), labels.clone()
    # As PyTorch has it: warm up on another stream, so that nothing of that is part of the graph.
    stream = torch.cuda.Stream(indices.device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(indices.device))
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP_STEPS):
            step(*buffers)
    torch.cuda.current_stream(indices.device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = step(*buffers)

    def replay(indices: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        if indices.shape != buffers[0].shape:
            return step(indices, labels)
        for buffer, values in zip(buffers, (indices, labels), strict=True):
            buffer.copy_(values)
        graph.replay()
        return outputs

    return replay


def _train_epoch(replicas: Replicas, data: ResidentData) -> list[dict[str, float]]:
    state = replicas.state
    state.model.train()
    num_examples = state.train_indices.shape[1]
    orders = [torch.randperm(num_examples, generator=member.order) for member in replicas.members]
    indices = state.train_indices.gather(1, torch.stack(orders).to(data.device))
    labels = data.labels[indices]
    all_logits = torch.empty(*indices.shape, data.num_classes, device=data.device)
    all_losses = torch.empty(indices.shape, device=data.device)
    parameters = list(state.model.parameters())
    for batch in batches(num_examples, state.config.batch_size):
        logits, losses, gradients = replicas.step(indices[:, batch], labels[:, batch])
        all_logits[:, batch], all_losses[:, batch] = logits, losses
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        state.optimizer.step()
    state.schedule.step()
    return _metrics(all_logits, labels, all_losses)


@torch.no_grad()
def _evaluate(state: TrainingState, data: ResidentData) -> list[dict[str, float]]:
    """Metrics of each replica's validation split in evaluation mode."""
    state.model.eval()
    num_replicas = len(state.val_indices)
    # All replicas together evaluate as many images at once as a trial alone; but few of each would not fill a GPU.
    size = CPU_EVALUATION_BATCH // num_replicas
    if data.device.type != "cpu":
        size = max(CPU_EVALUATION_BATCH, EVALUATION_BATCH // num_replicas)
    parts = torch.split(state.val_indices, max(1, size), dim=1)
    logits = torch.cat([forward(state.model, _gather(data, part), state.config.precision) for part in parts], dim=1)
    labels = data.labels[state.val_indices]
    return _metrics(logits, labels, _losses(state, logits, labels))


def _laid_out_like(gradient: Tensor, parameter: Tensor) -> Tensor:
    """The gradient of a batched product may be transposed; a fused optimizer takes both for laid out alike."""
    return gradient if gradient.stride() == parameter.stride() else torch.empty_like(parameter).copy_(gradient)


def _gather(data: ResidentData, indices: Tensor) -> Tensor:
    """Input of the stacked model, of training images, shape ``(R, batch, C, H, W)``."""
    return data.to_input(data.images.index_select(0, indices.flatten())).view(*indices.shape, *data.input_shape)


def _losses(state: TrainingState, logits: Tensor, labels: Tensor) -> Tensor:
    return state.loss(logits.flatten(0, 1), labels.flatten()).view(labels.shape)


def _metrics(logits: Tensor, labels: Tensor, losses: Tensor) -> list[dict[str, float]]:
    """``split_metrics`` of each replica; the host waits for the device once."""
    sums = torch.stack([split_sums(*of_one) for of_one in zip(logits, labels, losses, strict=True)])
    return [metrics_of_sums(of_one) for of_one in sums.cpu().numpy()]


def _finish(
    member: TrainingState,
    rows: list[dict[str, float]],
    data: ResidentData,
    corrupted: dict[str, list[Tensor]] | None,
) -> TrainedReplica:
    """The one look at the test split: its metrics join the last row."""
    if corrupted is None:
        return TrainedReplica(member, rows, None)
    final = final_evaluation(member, data, corrupted, diverged=bool(rows[-1]["diverged"]))
    rows[-1].update(final.metrics)
    return TrainedReplica(member, rows, final)
