"""Metrics of a classifier: plain functions from tensors to numbers.

Counting happens where the tensors live; what follows is arithmetic on a handful of numbers, done in numpy, because a
tensor operation on ten numbers costs ten times as much. This runs twice per epoch of every trial.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

#: Temperatures searched; a value at a bound says that the best lies at or beyond it.
TEMPERATURE_BOUNDS = (1e-2, 1e4)

#: Float32 numbers in the widest vector register of a CPU.
_VECTOR = 16


@dataclass(frozen=True)
class Calibration:
    """How far confidence and accuracy agree.

    Args:
        ece: Expected calibration error, in [0, 1].
        brier: Brier score, summed over the classes, in [0, 2].
        edges: Bounds of the bins over the confidence, one more than there are bins.
        counts: Examples per bin.
        confidence: Mean confidence per bin; 0 where the bin is empty.
        accuracy: Accuracy per bin; 0 where the bin is empty.
    """

    ece: float
    brier: float
    edges: list[float]
    counts: list[int]
    confidence: list[float]
    accuracy: list[float]


def confusion_matrix(predictions: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Counts of true class against predicted class.

    Args:
        predictions: Predicted classes, shape ``(N,)``, int64.
        labels: True classes, shape ``(N,)``, int64.
        num_classes: Number of classes C.

    Returns:
        Shape ``(C, C)``, int64; rows are true classes, columns predicted ones.
    """
    return torch.bincount(labels * num_classes + predictions, minlength=num_classes**2).view(num_classes, num_classes)


def classification_metrics(confusion: Tensor) -> dict[str, float]:
    """Accuracy, and precision, recall and F1 averaged over the classes.

    A ratio 0/0 counts as 0, and a class that is neither true nor predicted anywhere counts as 0 in a macro average,
    which is over all C classes; a weighted average weighs a class by its true examples.

    Args:
        confusion: What ``confusion_matrix`` returns, shape ``(C, C)``.

    Returns:
        ``accuracy``, and ``precision``, ``recall`` and ``f1`` each with ``_macro`` and ``_weighted``.

    Raises:
        ValueError: If the matrix counts no example.
    """
    return _from_counts(confusion.cpu().numpy().astype(np.float64))


def split_metrics(logits: Tensor, labels: Tensor, per_example_loss: Tensor) -> dict[str, float]:
    """All metrics of a split; where the tensors are on a GPU the host waits for it once.

    Args:
        logits: Shape ``(N, C)``.
        labels: Shape ``(N,)``, int64.
        per_example_loss: The trial's own loss, shape ``(N,)``.

    Returns:
        ``loss`` and ``nll`` (cross-entropy), both means over the examples, and ``classification_metrics``.

    Raises:
        ValueError: If there is no example.
    """
    return metrics_of_sums(split_sums(logits, labels, per_example_loss).cpu().numpy())


def split_sums(logits: Tensor, labels: Tensor, per_example_loss: Tensor) -> Tensor:
    """What ``split_metrics`` needs of a split, counted where the tensors live; nothing waits for the device.

    Args:
        logits: Shape ``(N, C)``.
        labels: Shape ``(N,)``, int64.
        per_example_loss: The trial's own loss, shape ``(N,)``.

    Returns:
        Shape ``(C² + 2,)``, float64: the confusion matrix row by row, the sum of the losses, that of the NLLs.
    """
    num_classes = logits.shape[1]
    nll = _negative_log_likelihood(logits.float(), labels)
    codes = labels * num_classes + logits.argmax(dim=1)
    # Unlike bincount, scatter_add_ knows its output's size and need not wait for the device; float64 counts exactly.
    numbers = torch.zeros(num_classes**2 + 2, dtype=torch.float64, device=logits.device)
    numbers.scatter_add_(0, codes, numbers.new_ones(1).expand(len(codes)))
    numbers[-2] = per_example_loss.sum(dtype=torch.float64)
    numbers[-1] = nll.sum(dtype=torch.float64)
    return numbers


def metrics_of_sums(sums: NDArray[np.float64]) -> dict[str, float]:
    """The metrics of a split, as ``split_metrics`` returns them, from what ``split_sums`` counted.

    Raises:
        ValueError: If there is no example.
    """
    *_, loss_sum, nll_sum = sums
    num_classes = math.isqrt(len(sums) - 2)
    confusion = sums[:-2].reshape(num_classes, num_classes)
    metrics, count = _from_counts(confusion), float(confusion.sum())
    return {"loss": float(loss_sum) / count, "nll": float(nll_sum) / count, **metrics}


def calibration(logits: Tensor, labels: Tensor, num_bins: int = 15) -> Calibration:
    """Calibration error, Brier score and the reliability diagram's bins.

    Bins are of equal width over the highest softmax probability and closed on the right.

    Args:
        logits: Shape ``(N, C)``; one that is not finite makes both scores NaN.
        labels: Shape ``(N,)``, int64.
        num_bins: Number of bins.

    References:
        Guo et al., ICML 2017, arXiv:1706.04599 (ECE); Brier, Monthly Weather Review 78(1), 1950.
    """
    probabilities = torch.softmax(logits.double(), dim=1).cpu().numpy()
    truth = labels.cpu().numpy()
    confidences = probabilities.max(axis=1)
    correct = (probabilities.argmax(axis=1) == truth).astype(np.float64)
    edges = np.linspace(0, 1, num_bins + 1)
    # A NaN lies beyond every edge; counted in the last bin it makes the results NaN instead of raising.
    bins = np.minimum(np.digitize(confidences, edges, right=True), num_bins) - 1
    counts = np.bincount(bins, minlength=num_bins)
    divisors = np.maximum(counts, 1)
    confidence = np.bincount(bins, weights=confidences, minlength=num_bins) / divisors
    accuracy = np.bincount(bins, weights=correct, minlength=num_bins) / divisors
    errors = probabilities.copy()
    errors[np.arange(len(truth)), truth] -= 1
    return Calibration(
        ece=float(counts @ np.abs(accuracy - confidence)) / len(truth),
        brier=float(np.square(errors).sum(axis=1).mean()),
        edges=edges.tolist(),
        counts=counts.tolist(),
        confidence=confidence.tolist(),
        accuracy=accuracy.tolist(),
    )


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature T that minimises the cross-entropy of ``logits / T``; 1 is calibrated, above is overconfident.

    Fit it on validation logits: on those of the test split it would be a tuned value.

    Args:
        logits: Shape ``(N, C)``.
        labels: Shape ``(N,)``, int64.

    Returns:
        T within ``TEMPERATURE_BOUNDS``; NaN if a logit is not finite.

    References:
        Guo et al., ICML 2017, arXiv:1706.04599.
    """
    from scipy.optimize import minimize_scalar  # noqa: PLC0415  # slow to import, and needed by a trial's end only

    scores = logits.double().cpu()
    truth = labels.cpu()
    if not bool(torch.isfinite(scores).all()):
        return math.nan

    def cross_entropy(log_temperature: float) -> float:
        return F.cross_entropy(scores * math.exp(-log_temperature), truth).item()

    bounds = (math.log(TEMPERATURE_BOUNDS[0]), math.log(TEMPERATURE_BOUNDS[1]))
    found = minimize_scalar(cross_entropy, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return math.exp(float(found.x))


def _negative_log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy per example, shape ``(N,)``."""
    if logits.shape[1] >= _VECTOR:
        return F.cross_entropy(logits, labels, reduction="none")
    # Rows shorter than a vector register leave torch's softmax a slow path: over columns it takes an eighth.
    return -F.log_softmax(logits.t().contiguous(), dim=0).gather(0, labels[None]).squeeze(0)


def _from_counts(confusion: NDArray[np.float64]) -> dict[str, float]:
    hits = confusion.diagonal()
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    total = float(support.sum())
    if total == 0:
        raise ValueError("Metrics need at least one example; got none.")
    precision, recall = hits / np.maximum(predicted, 1), hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    weights = support / total
    metrics = {"accuracy": float(hits.sum()) / total}
    for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
        metrics[f"{name}_macro"] = float(values.sum()) / len(values)
        metrics[f"{name}_weighted"] = float(values @ weights)
    return metrics
