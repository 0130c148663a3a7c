"""What every peer trains: an MLP on torchvision's Fashion-MNIST, or on scikit-learn's digits, through a ``DataLoader``.

Written as PyTorch's own tutorials train a classifier ("Training a Classifier", "Optimizing Model Parameters"): a
``Dataset`` with transforms, a loader that shuffles, a loop over batches that sums up loss and accuracy, an evaluation
under ``no_grad``; precision, recall and F1 by scikit-learn, as its users would. No peer is handicapped: one thread per
trial, no worker processes of the loader (on two cores they cost more than they bring), evaluation in large batches,
nothing written to disk but the record.

Losses on probabilities are PyTorch's own, averaged over classes too: a tenth of the study's, which sums over classes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.metrics import precision_recall_fscore_support
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split
from torchvision import datasets, transforms

BATCH_SIZE = 128
EVALUATION_BATCH = 2048
HIDDEN = 128
NUM_CLASSES = 10
#: Of ``bench/spaces/grid.py`` too.
LOSSES = ("cross_entropy", "focal", "mse", "smooth_l1")
OPTIMIZERS = ("sgd", "adam")
GAMMA = 2.0
LEARNING_RATES = {"sgd": 0.1, "adam": 0.001}
#: A sixth of Fashion-MNIST's training images, a fifth of all digits' after the test split.
VALIDATION_SHARE = 1 / 6

Loader = DataLoader[Any]
Split = tuple[Dataset[Any], Dataset[Any], Dataset[Any]]


def build_parser() -> argparse.ArgumentParser:
    """What every peer's command is told."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--data", default="data")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--random-trials", type=int, help="so many learning rates at random instead of the grid")
    return parser


def load_data(name: str, folder: Path) -> Split:
    """Training, validation and test data."""
    if name == "digits":
        images, labels = load_digits(return_X_y=True)
        whole = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))
        rest, test = random_split(whole, [0.8, 0.2], torch.Generator().manual_seed(0))
    else:
        transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.2860,), (0.3530,))])
        rest = datasets.FashionMNIST(str(folder), train=True, transform=transform)
        test = datasets.FashionMNIST(str(folder), train=False, transform=transform)
    shares = [1 - VALIDATION_SHARE, VALIDATION_SHARE]
    train, val = random_split(rest, shares, torch.Generator().manual_seed(0))
    return train, val, test


def build_model(name: str) -> nn.Module:
    """One hidden layer."""
    inputs = 64 if name == "digits" else 784
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, NUM_CLASSES))


def compute_loss(name: str, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The mean loss of a batch."""
    if name == "cross_entropy":
        return functional.cross_entropy(logits, labels)
    if name == "focal":
        losses = functional.cross_entropy(logits, labels, reduction="none")
        return ((1 - (-losses).exp()) ** GAMMA * losses).mean()
    probabilities, targets = logits.softmax(1), functional.one_hot(labels, NUM_CLASSES).float()
    kind = functional.mse_loss if name == "mse" else functional.smooth_l1_loss
    return kind(probabilities, targets)


def build_optimizer(name: str, model: nn.Module, learning_rate: float | None = None) -> torch.optim.Optimizer:
    """SGD with momentum, or Adam."""
    rate = LEARNING_RATES[name] if learning_rate is None else learning_rate
    if name == "sgd":
        return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    return torch.optim.Adam(model.parameters(), lr=rate)


def train_epoch(model: nn.Module, loader: Loader, loss: str, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """One pass over the training data."""
    model.train()
    total, count, logits_of, labels_of = 0.0, 0, [], []
    for images, labels in loader:
        optimizer.zero_grad()
        logits = model(images)
        value = compute_loss(loss, logits, labels)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += value.item() * len(labels)
        count += len(labels)
        logits_of.append(logits.detach())
        labels_of.append(labels)
    seen = quantities("train", torch.cat(logits_of), torch.cat(labels_of))
    return {"train_loss": total / count, **seen}


@torch.no_grad()
def evaluate(model: nn.Module, loader: Loader, loss: str, split: str) -> dict[str, float]:
    """One pass over other data."""
    model.eval()
    batches = [(model(images), labels) for images, labels in loader]
    logits, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return {f"{split}_loss": compute_loss(loss, logits, labels).item(), **quantities(split, logits, labels)}


def quantities(split: str, logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """What the study records of a split, too."""
    predicted = logits.argmax(1)
    found = {
        "nll": functional.cross_entropy(logits, labels).item(),
        "accuracy": (predicted == labels).float().mean().item(),
    }
    for average in ("macro", "weighted"):
        values = precision_recall_fscore_support(labels, predicted, average=average, zero_division=0)
        found |= {f"{key}_{average}": value for key, value in zip(("precision", "recall", "f1"), values, strict=False)}
    return {f"{split}_{key}": float(value) for key, value in found.items()}


def loaders(split: Split) -> tuple[Loader, Loader, Loader]:
    """A loader for each part."""
    train, val, test = split
    return (
        DataLoader(train, batch_size=BATCH_SIZE, shuffle=True),
        DataLoader(val, batch_size=EVALUATION_BATCH),
        DataLoader(test, batch_size=EVALUATION_BATCH),
    )
