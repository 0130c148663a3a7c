"""One epoch of training and one evaluation: the page to read to know what a trial does.

Images stay uint8 and resident on the device; a batch is gathered by index and scaled as it is used, which
costs no more than gathering float32 (a quarter of the bytes) and lets every trial of a node share one copy.
Nothing in a step waits for the device: losses and logits go into buffers that are read once per epoch.
"""

from __future__ import annotations

import contextlib
import functools
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from trainables.augmentation import crop_and_flip
from trainables.config import TrialConfig
from trainables.data import Dataset, split_indices
from trainables.losses import build_loss
from trainables.metrics import split_metrics
from trainables.models import build_model, redraw_weights
from trainables.optimizers import build_optimizer, build_schedule
from trainables.subsets import thin_split

#: Images evaluated at once. On a CPU a convolution's activations stay in the cache only if they are few, and at 2048
#: it takes twice as long; a GPU wants to be filled.
CPU_EVALUATION_BATCH, EVALUATION_BATCH = 256, 2048
_NOISY_QUANTITIES = ("loss", "nll", "accuracy")
# Offsets keep the streams of one seed apart.
_ORDER_STREAM, _AUGMENTATION_STREAM, _NOISE_STREAM = 1, 2, 3


@dataclass(frozen=True)
class ResidentData:
    """A dataset as tensors on one device.

    Args:
        images: Training images, uint8, shape ``(N, C, H, W)``.
        labels: Training labels, int64, shape ``(N,)``.
        test_images: Test images, like ``images``.
        test_labels: Test labels, like ``labels``.
        scale: Per channel, shape ``(1, C, 1, 1)``; multiplies a raw pixel.
        shift: Per channel, shape ``(1, C, 1, 1)``; is added after ``scale``.
        num_classes: Number of classes.
    """

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    scale: Tensor
    shift: Tensor
    num_classes: int

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return self.images.device

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @functools.cached_property
    def _channels(self) -> list[tuple[float, Tensor]]:
        return list(zip(self.scale.flatten().tolist(), self.shift.flatten(), strict=True))

    def to_input(self, pixels: Tensor, out: Tensor | None = None) -> Tensor:
        """Raw pixels in [0, 255], any dtype, as normalised float32 model input of the same shape.

        Args:
            pixels: Shape ``(batch, C, H, W)``.
            out: Where to put it, float32, of that shape; new memory by default.
        """
        inputs = torch.empty_like(pixels, dtype=torch.float32) if out is None else out
        inputs.copy_(pixels)
        # To the bit what ``addcmul`` gives on a CPU, in a third of the time: that goes value by value.
        for channel, (scale, shift) in enumerate(self._channels):
            torch.add(shift, inputs[:, channel], alpha=scale, out=inputs[:, channel])
        return inputs


@dataclass
class TrainingState:
    """A trial in progress; everything that a checkpoint must hold."""

    config: TrialConfig
    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    order: torch.Generator
    augmentation: torch.Generator
    train_indices: Tensor
    val_indices: Tensor
    epoch: int = 0


def load_resident(dataset: Dataset, device: torch.device) -> ResidentData:
    """Put a dataset on a device; on the CPU the arrays are shared, not copied."""
    with warnings.catch_warnings():
        # Arrays from Ray's object store are read-only, and so is our use of them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        arrays = (dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels)
        tensors = [torch.from_numpy(array).to(device) for array in arrays]
    mean = torch.tensor(dataset.mean, device=device).view(1, -1, 1, 1)
    deviation = torch.tensor(dataset.std, device=device).view(1, -1, 1, 1)
    images, labels, test_images, test_labels = tensors
    return ResidentData(
        images, labels, test_images, test_labels, 1 / (255 * deviation), -mean / deviation, dataset.num_classes
    )


def start_training(
    config: TrialConfig, data: ResidentData, split: tuple[Tensor, Tensor] | None = None
) -> TrainingState:
    """A fresh state: the seed alone decides split, initialisation, batch order and augmentation.

    Args:
        config: The trial.
        data: The data, on the device that trains.
        split: What :func:`draw_split` gives for the seed and the imbalance, if the caller has it already.
    """
    train_indices, val_indices = split or draw_split(data.labels, config.seed, config.imbalance)
    torch.manual_seed(config.seed)  # initialisation and dropout use torch's global generator
    model = build_model(config.model, data.input_shape, data.num_classes)
    if config.init_std > 0:
        redraw_weights(model, config.init_std)  # before the model moves: the weights do not depend on the device
    model = model.to(data.device)
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        model = model.to(memory_format=torch.channels_last)
    if config.second_optimizer is not None:
        # Built again when its time comes; a parameter that it does not take must not cost the epochs until then.
        build_optimizer(config.second_optimizer, model.parameters())
    optimizer = build_optimizer(config.optimizer, model.parameters())
    return TrainingState(
        config=config,
        model=model,
        loss=build_loss(config.loss, num_classes=data.num_classes),
        optimizer=optimizer,
        schedule=build_schedule(optimizer, config.schedule, config.switch_epoch or config.epochs),
        order=torch.Generator().manual_seed(config.seed * 16 + _ORDER_STREAM),
        augmentation=torch.Generator(data.device).manual_seed(config.seed * 16 + _AUGMENTATION_STREAM),
        train_indices=train_indices,
        val_indices=val_indices,
    )


def draw_split(labels: Tensor, seed: int, imbalance: float = 1.0) -> tuple[Tensor, Tensor]:
    """The train and validation indices of a seed, on the labels' device; ``imbalance`` thins the training ones."""
    array = labels.cpu().numpy()
    train, val = split_indices(array, seed=seed)
    train = thin_split(train, array, imbalance, seed)
    return torch.from_numpy(train).to(labels.device), torch.from_numpy(val).to(labels.device)


def switch_optimizer(state: TrainingState) -> None:
    """Let the second optimizer take over: no momentum or moment of the first survives, the weights do.

    Each optimizer's schedule spans its own epochs: the first part of such a trial is to the bit a trial of
    ``switch_epoch`` epochs, and a cosine starts anew at the second's learning rate.
    """
    config = state.config
    assert config.second_optimizer is not None
    state.optimizer = build_optimizer(config.second_optimizer, state.model.parameters())
    state.schedule = build_schedule(state.optimizer, config.schedule, config.epochs - config.switch_epoch)


def run_epoch(state: TrainingState, data: ResidentData, *, watch: Collection[str] = ()) -> dict[str, float]:
    """Train one epoch, then evaluate on the validation split: one row of the record.

    Args:
        state: The trial; moves on by an epoch.
        data: What it is trained on.
        watch: Which of ``config.LOOKS`` to take after the epoch. Looking changes nothing of the trial and is not part
            of ``epoch_seconds``.

    Returns:
        ``train_*`` (running, in training mode), ``val_*``, what :func:`look_at_test` saw, ``learning_rate``,
        ``epoch_seconds`` and ``diverged``; what is not finite is left out. After a non-finite loss ``val_accuracy``
        is at chance and ``diverged`` is 1, so that whoever ranks trials ranks it last instead of stumbling over a NaN.
    """
    started = time.perf_counter()
    if 0 < state.config.switch_epoch == state.epoch:
        switch_optimizer(state)
    learning_rate = state.optimizer.param_groups[0]["lr"]
    train = train_epoch(state, data)
    val = evaluate(state, data, data.images, data.labels, state.val_indices)
    state.epoch += 1
    row, diverged = join_splits(train, val, data.num_classes)
    seconds = time.perf_counter() - started
    row |= look_at_test(state, data, watch, diverged=diverged)
    return finish_row(row, learning_rate=learning_rate, seconds=seconds, diverged=diverged)


def join_splits(
    train: Mapping[str, float], val: Mapping[str, float], num_classes: int
) -> tuple[dict[str, float], bool]:
    """The metrics of both splits under their names in a row, and whether they say that the trial diverged."""
    row = {f"train_{key}": value for key, value in train.items()} | {f"val_{key}": value for key, value in val.items()}
    diverged = not all(map(_is_finite, (train["loss"], val["loss"], val["nll"])))
    if diverged:
        row["val_accuracy"] = 1 / num_classes
    return row, diverged


def finish_row(row: Mapping[str, float], *, learning_rate: float, seconds: float, diverged: bool) -> dict[str, float]:
    """A row of the record: what is finite of the metrics, and what else an epoch says."""
    # Training logits may overflow in one batch of an epoch that ends well, so every row is looked through.
    finite = {key: value for key, value in row.items() if _is_finite(value)}
    return finite | {"learning_rate": learning_rate, "epoch_seconds": seconds, "diverged": float(diverged)}


def look_at_test(
    state: TrainingState, data: ResidentData, watch: Collection[str], *, diverged: bool
) -> dict[str, float]:
    """The test split after the epoch that has just ended.

    Args:
        state: The trial.
        data: What it is trained on.
        watch: ``test`` for every metric of the test split as ``test_*``; ``noise`` for ``noisy_test_loss``, ``_nll``
            and ``_accuracy`` of its normalised images plus N(0, 1) in every value, not clipped. That noise depends on
            the seed and the epoch alone: every arm meets the same, and a restored trial meets it again.
        diverged: Then the classifier counts as one at chance, and only ``test_accuracy`` has a value.
    """
    if diverged:
        return {"test_accuracy": 1 / data.num_classes} if "test" in watch else {}
    row: dict[str, float] = {}
    if "test" in watch:
        seen = evaluate(state, data, data.test_images, data.test_labels)
        row |= {f"test_{key}": value for key, value in seen.items()}
    if "noise" in watch:
        noise = np.random.default_rng([state.config.seed, state.epoch, _NOISE_STREAM])
        logits = predict_logits(state, data, data.test_images, noise=noise)
        seen = split_metrics(logits, data.test_labels, state.loss(logits, data.test_labels))
        row |= {f"noisy_test_{key}": seen[key] for key in _NOISY_QUANTITIES}
    return row


def train_epoch(state: TrainingState, data: ResidentData) -> dict[str, float]:
    """One pass over the training split; the metrics are those of the batches as they were trained on."""
    state.model.train()
    shuffled = torch.randperm(len(state.train_indices), generator=state.order).to(data.device)
    indices = state.train_indices[shuffled]
    labels = data.labels[indices]
    all_logits = torch.empty(len(indices), data.num_classes, device=data.device)
    all_losses = torch.empty(len(indices), device=data.device)
    parts = batches(len(indices), state.config.batch_size)
    # One place for every batch's inputs stays in the processor's cache; new memory each time does not.
    inputs = torch.empty(max(part.stop - part.start for part in parts), *data.input_shape, device=data.device)
    with denormal_is_zero():
        for part in parts:
            out = inputs[: part.stop - part.start]
            all_logits[part], all_losses[part] = train_step(state, data, indices[part], labels[part], out)
    state.schedule.step()
    return split_metrics(all_logits, labels, all_losses)


@contextlib.contextmanager
def denormal_is_zero() -> Iterator[None]:
    """Numbers below 1.2e-38 are 0 in this thread: a CPU is slow with them, and a unit that died leaves many.

    The momentum of a weight that gets no gradient shrinks step by step and would stay at the smallest of them.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def train_step(
    state: TrainingState, data: ResidentData, indices: Tensor, labels: Tensor, inputs: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One optimizer step on a minibatch, the model in training mode already.

    Args:
        state: The trial; its weights move.
        data: What it is trained on.
        indices: The examples, shape ``(batch,)``.
        labels: Theirs, shape ``(batch,)``.
        inputs: Where to put what the model gets, float32, shape ``(batch, C, H, W)``; new memory by default.

    Returns:
        Logits ``(batch, num_classes)`` and losses ``(batch,)`` that the step was made on, without a graph.
    """
    config = state.config
    pixels = data.images.index_select(0, indices)
    if config.augment:
        pixels = crop_and_flip(pixels, state.augmentation)
    logits = forward(state.model, data.to_input(pixels, inputs), config.precision)
    losses = state.loss(logits, labels)
    state.optimizer.zero_grad()
    reduce_losses(losses, config.reduction).backward()  # type: ignore[no-untyped-call]
    state.optimizer.step()
    return logits.detach(), losses.detach()


def reduce_losses(losses: Tensor, reduction: str) -> Tensor:
    """What is differentiated, from losses per example along the last dimension: a scalar where there is no other."""
    return losses.mean(-1) if reduction == "mean" else losses.sum(-1)


def batches(count: int, batch_size: int) -> list[slice]:
    """Consecutive slices of ``batch_size``; a single last example joins the slice before it.

    Batch normalisation cannot train on one example.
    """
    starts = list(range(0, count, batch_size))
    if count - starts[-1] == 1 and len(starts) > 1:
        del starts[-1]
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], count], strict=True)]


def evaluate(
    state: TrainingState, data: ResidentData, images: Tensor, labels: Tensor, indices: Tensor | None = None
) -> dict[str, float]:
    """Metrics of a split in evaluation mode; ``indices`` selects from ``images`` and ``labels``."""
    selected = labels if indices is None else labels[indices]
    logits = predict_logits(state, data, images, indices)
    return split_metrics(logits, selected, state.loss(logits, selected))


@torch.no_grad()
def predict_logits(
    state: TrainingState,
    data: ResidentData,
    pixels: Tensor,
    indices: Tensor | None = None,
    *,
    noise: np.random.Generator | None = None,
) -> Tensor:
    """Logits, float32, shape ``(batch, num_classes)``, of raw pixels in [0, 255], in evaluation mode.

    With ``noise`` every value of the normalised images gets a draw from N(0, 1) added. NumPy draws one after another,
    so the noise is the same however many images are predicted at once and on whatever device.
    """
    state.model.eval()
    count = len(pixels) if indices is None else len(indices)
    size = CPU_EVALUATION_BATCH if pixels.device.type == "cpu" else EVALUATION_BATCH
    parts = []
    for start in range(0, count, size):
        batch = slice(start, start + size)
        inputs = data.to_input(pixels[batch] if indices is None else pixels.index_select(0, indices[batch]))
        if noise is not None:
            inputs += torch.from_numpy(noise.standard_normal(inputs.shape, dtype=np.float32)).to(inputs.device)
        parts.append(forward(state.model, inputs, state.config.precision))
    return torch.cat(parts)


def forward(model: nn.Module, inputs: Tensor, precision: str) -> Tensor:
    """Logits in float32, whatever precision computed them."""
    if precision == "fp32":
        return model(inputs)  # type: ignore[no-any-return]
    with torch.autocast(inputs.device.type, dtype=torch.bfloat16):
        logits = model(inputs)
    return logits.float()  # type: ignore[no-any-return]


def _is_finite(value: float) -> bool:
    return value - value == 0.0
