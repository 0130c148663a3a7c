"""One epoch on the real Fashion-MNIST, one thread: ours against plain PyTorch and against a DataLoader.

Ours is a whole epoch of a trial: training, validation pass and all metrics. The others only train, on the same 50,000
images, with the same model and the same optimizer:

- *bare loop*: float32 tensors, normalised once, resident in memory; a permutation, an index, a step. Written with the
  default optimizer and with the fused one, for convnets in both memory formats; ours is compared with the fastest.
- *DataLoader*: ``torchvision.datasets.FashionMNIST`` with ``ToTensor`` and ``Normalize`` in a shuffling ``DataLoader``
  that works in the process itself, as torchvision's and PyTorch's tutorials write it.
"""

from __future__ import annotations

import contextlib
import functools
import struct
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from bench.measure import Figure, Measurement, Result, alternate, compare
from trainables.config import Scalar, TrialConfig
from trainables.data import Dataset, load_dataset
from trainables.loop import ResidentData, draw_split, load_resident, run_epoch, start_training, train_epoch
from trainables.models import build_model

CPU = torch.device("cpu")
ROUNDS = 9
# An epoch of a convnet takes seconds.
CONVNET_ROUNDS = 5
CONVNET_IMAGES = 12_000
MAX_RATIO_TO_BARE = 1.15
MIN_TIMES_DATALOADER = 5.0

MLP: Mapping[str, Scalar] = {
    "loss": "cross_entropy",
    "optimizer": "sgd",
    "optimizer.learning_rate": 0.05,
    "optimizer.momentum": 0.9,
    "batch_size": 128,
    "epochs": 1000,  # never reached: the schedule is constant
    "model": "mlp",
    "hidden_layers": 1,
    "width": 128,
}
CONVNET: Mapping[str, Scalar] = {key: value for key, value in MLP.items() if key != "hidden_layers"} | {
    "model": "convnet",
    "width": 32,
}


@dataclass(frozen=True)
class Contender:
    """A model and what trains it for one epoch."""

    model: nn.Module
    run: Callable[[], object]


def measure() -> Result:
    """The MLP, then the convnet."""
    torch.set_num_threads(1)
    mlp_figures, mlp_measurements = _measure_mlp(load_dataset("fashion-mnist"))
    convnet_figures, convnet_measurements = _measure_convnet(load_dataset("fashion-mnist", train_size=CONVNET_IMAGES))
    return Result([*mlp_figures, *convnet_figures], [*mlp_measurements, *convnet_measurements])


def build_ours(config: TrialConfig, data: ResidentData, *, whole: bool = True) -> Contender:
    """An epoch as a trial runs it; with ``whole`` false its training alone."""
    state = start_training(config, data)
    return Contender(state.model, functools.partial(run_epoch if whole else train_epoch, state, data))


def build_bare(
    config: TrialConfig, data: ResidentData, *, fused: bool = False, channels_last: bool = False
) -> Contender:
    """The loop that a user writes who knows that the data fit into memory."""
    train_indices, _ = draw_split(data.labels, config.seed)
    inputs, labels = data.to_input(data.images[train_indices]), data.labels[train_indices]
    model = _build_model(config, data)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    optimizer = _build_optimizer(config, model, fused=fused)
    precision: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    if config.precision == "bf16":
        precision = functools.partial(torch.autocast, "cpu", torch.bfloat16)

    def run() -> None:
        model.train()
        for batch in torch.split(torch.randperm(len(inputs)), config.batch_size):
            with precision():
                loss = F.cross_entropy(model(inputs[batch]), labels[batch])
            _step(optimizer, loss)

    return Contender(model, run)


def build_dataloader(config: TrialConfig, dataset: Dataset, data: ResidentData, *, fused: bool = False) -> Contender:
    """The loop of torchvision's and PyTorch's tutorials."""
    train_indices, _ = draw_split(data.labels, config.seed)
    images = open_fashion_mnist(dataset, train_indices.numpy())
    loader = DataLoader(images, batch_size=config.batch_size, shuffle=True, num_workers=0)
    model = _build_model(config, data)
    optimizer = _build_optimizer(config, model, fused=fused)

    def run() -> None:
        model.train()
        for inputs, labels in loader:
            _step(optimizer, F.cross_entropy(model(inputs), labels))

    return Contender(model, run)


def open_fashion_mnist(dataset: Dataset, train_indices: NDArray[np.int64]) -> datasets.FashionMNIST:
    """torchvision's own Fashion-MNIST, holding these training images of a dataset with one channel."""
    normalise = transforms.Compose([transforms.ToTensor(), transforms.Normalize(dataset.mean, dataset.std)])
    with tempfile.TemporaryDirectory() as folder:  # torchvision reads the files once
        write_fashion_mnist(Path(folder), dataset, train_indices)
        return datasets.FashionMNIST(folder, train=True, transform=normalise)


def write_fashion_mnist(folder: Path, dataset: Dataset, train_indices: NDArray[np.int64]) -> None:
    """Lay a dataset out as ``torchvision.datasets.FashionMNIST`` downloads and unpacks it.

    Args:
        folder: torchvision's ``root``.
        dataset: Images of one channel.
        train_indices: The training images to write; nothing else is measured.
    """
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    arrays = {
        "train-images-idx3-ubyte": dataset.train_images[train_indices, 0],
        "train-labels-idx1-ubyte": dataset.train_labels[train_indices],
        "t10k-images-idx3-ubyte": dataset.test_images[:, 0],
        "t10k-labels-idx1-ubyte": dataset.test_labels,
    }
    for name, array in arrays.items():
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (raw / name).write_bytes(header + array.astype(np.uint8).tobytes())


def _measure_mlp(dataset: Dataset) -> tuple[list[Figure], list[Measurement]]:
    data, config = load_resident(dataset, CPU), TrialConfig.from_flat(MLP)
    contenders = {
        "MLP": build_ours(config, data),
        "MLP training alone": build_ours(config, data, whole=False),
        "bare loop": build_bare(config, data),
        "bare loop, fused": build_bare(config, data, fused=True),
        "DataLoader": build_dataloader(config, dataset, data),
        "DataLoader, fused": build_dataloader(config, dataset, data, fused=True),
    }
    measurements = _time(contenders, ROUNDS)
    bare, dataloader = ("bare loop", "bare loop, fused"), ("DataLoader", "DataLoader, fused")
    figures = [
        compare(measurements, "MLP", bare, at_most=MAX_RATIO_TO_BARE),
        compare(measurements, "MLP", dataloader, at_least=MIN_TIMES_DATALOADER),
        compare(measurements, "MLP training alone", bare),
    ]
    return figures, measurements


def _measure_convnet(dataset: Dataset) -> tuple[list[Figure], list[Measurement]]:
    data = load_resident(dataset, CPU)
    contenders: dict[str, Contender] = {}
    for precision in ("fp32", "bf16"):
        config = TrialConfig.from_flat({**CONVNET, "precision": precision})
        contenders[f"convnet {precision}"] = build_ours(config, data)
        contenders[f"bare loop {precision}"] = build_bare(config, data, fused=True)
        contenders[f"bare loop {precision}, channels-last"] = build_bare(config, data, fused=True, channels_last=True)
    measurements = _time(contenders, CONVNET_ROUNDS)
    figures = [
        compare(
            measurements,
            f"convnet {precision}",
            [name for name in contenders if f"loop {precision}" in name],
            at_most=MAX_RATIO_TO_BARE,
        )
        for precision in ("fp32", "bf16")
    ]
    return [*figures, compare(measurements, "convnet bf16", ["convnet fp32"])], measurements


def _time(contenders: Mapping[str, Contender], rounds: int) -> list[Measurement]:
    return alternate({name: contender.run for name, contender in contenders.items()}, rounds=rounds)


def _build_model(config: TrialConfig, data: ResidentData) -> nn.Module:
    """The trial's own layers: what differs between contenders is the loop."""
    torch.manual_seed(config.seed)
    return build_model(config.model, data.input_shape, data.num_classes)


def _build_optimizer(config: TrialConfig, model: nn.Module, *, fused: bool) -> torch.optim.Optimizer:
    rate, momentum = (float(config.optimizer.params[key]) for key in ("learning_rate", "momentum"))
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum, fused=fused)


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
