"""What the exact statements of `identities` compute with: textbook forms of losses, and inputs to try losses on."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.losses import LOSSES
from trainables.metrics import classification_metrics, confusion_matrix

#: Scores at which exp overflows in float32 and float64.
LARGE = 1e4
NUM_CLASSES = 10
_EXPONENTS = tuple(step / 4 for step in range(21))  # γ from 0 to 5

# Formulas that fail where the project's losses must not, and the one that cures them.


def naive_softmax(logits: Tensor) -> Tensor:
    """exp(z) / Σ exp(z), shape ``(batch, num_classes)``."""
    exponentials = logits.exp()
    return exponentials / exponentials.sum(1, keepdim=True)


def naive_kl(target: Tensor, probabilities: Tensor) -> Tensor:
    """Σ t log(t / p) per row, shape ``(batch,)``."""
    return (target * (target / probabilities).log()).sum(1)


def shifted_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy as log Σ exp(z − max z) − (z_y − max z), shape ``(batch,)``."""
    shifted = logits.float() - logits.float().amax(1, keepdim=True)
    return shifted.exp().sum(1).log() - shifted.gather(1, labels[:, None]).squeeze(1)


def written_focal(logits: Tensor, labels: Tensor, *, gamma: float) -> Tensor:
    """(1 − exp(−ce))^γ · ce, shape ``(batch,)``."""
    entropy = F.cross_entropy(logits, labels, reduction="none")
    return (1 - torch.exp(-entropy)) ** gamma * entropy


# Inputs, and what a loss makes of them.


def focal_by_exponent() -> Tensor:
    """Focal loss per exponent (rows) and probability of the right class (columns), float64."""
    odds = torch.linspace(-30, 30, 1201, dtype=torch.float64)
    logits = torch.stack([odds, torch.zeros_like(odds)], dim=1)
    labels = torch.zeros(len(odds), dtype=torch.int64)
    return torch.stack([LOSSES["focal"](logits, labels, gamma=gamma) for gamma in _EXPONENTS])


def recall_against_accuracy(recall: str, *, balanced: bool) -> float:
    generator = torch.Generator().manual_seed(0)
    differences = []
    for num_classes in (2, 3, NUM_CLASSES, 50):
        for _ in range(50):
            sizes = torch.randint(1, 400, (num_classes,), generator=generator)
            labels = torch.arange(num_classes).repeat_interleave(sizes[:1].expand(num_classes) if balanced else sizes)
            guesses = torch.randint(num_classes, labels.shape, generator=generator)
            known = torch.rand(num_classes, generator=generator)[labels] > torch.rand(labels.shape, generator=generator)
            predictions = torch.where(known, labels, guesses)
            metrics = classification_metrics(confusion_matrix(predictions, labels, num_classes))
            differences.append(abs(metrics[recall] - metrics["accuracy"]))
    return float(torch.tensor(differences, dtype=torch.float64).max())  # unlike Python's, it does not pass over a NaN


def small_errors() -> Tensor:
    return _both_signs(torch.linspace(1e-3, 0.9, 300, dtype=torch.float64))


def large_errors() -> Tensor:
    return _both_signs(torch.logspace(math.log10(1.1), 3, 300, dtype=torch.float64))


def errors_around(bound: float) -> Tensor:
    """Errors of both signs from a thousandth of a bound to a thousand times it, the bound itself left out."""
    return _both_signs(bound * torch.logspace(-3, 3, 600, dtype=torch.float64))


def _both_signs(errors: Tensor) -> Tensor:
    return torch.cat([errors, -errors])


def on_error(name: str, errors: Tensor) -> tuple[Tensor, Tensor]:
    """Value and derivative of a loss on raw outputs of which a single wrong one is off, times the number of classes."""
    labels = torch.zeros(len(errors), dtype=torch.int64)
    outputs = torch.stack([torch.ones_like(errors), errors], dim=1)
    values, gradient = value_and_gradient(LOSSES[name], outputs, labels, torch.sum)
    return 2 * values, 2 * gradient[:, 1]


def unlike(name: str, other: str, errors: Tensor) -> float:
    """How far the two losses' pulls on an error are from proportional, 0 to 2; infinite where one does not pull."""
    ratio = on_error(name, errors)[1] / on_error(other, errors)[1]
    spread = ((ratio.max() - ratio.min()) / ratio.abs().max()).item()
    return math.inf if math.isnan(spread) else spread  # max() of the caller would pass over a NaN


def random_batch(batch: int, num_classes: int, *, seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, num_classes, generator=generator, dtype=torch.float64)
    return logits.to(dtype), torch.randint(num_classes, (batch,), generator=generator)


def batches_of_every_scale() -> Iterator[tuple[Tensor, Tensor]]:
    """Logits of every scale up to ±1e4 in both precisions, right, wrong and tied, with labels."""
    for dtype in (torch.float32, torch.bfloat16):
        for batch, num_classes in ((1, 2), (7, NUM_CLASSES), (100, NUM_CLASSES), (64, 100)):
            for scale in (0.01, 1.0, 30.0, LARGE):
                logits, labels = random_batch(batch, num_classes, seed=batch, dtype=torch.float64)
                yield (logits * scale).clamp(-LARGE, LARGE).to(dtype), labels
        certain = LARGE * (2 * torch.eye(NUM_CLASSES) - 1)
        for logits in (certain, -certain, torch.full_like(certain, LARGE), torch.zeros_like(certain)):
            yield logits.to(dtype), torch.arange(NUM_CLASSES)


def value_and_gradient(
    loss: Callable[..., Tensor], logits: Tensor, labels: Tensor, reduce: Callable[[Tensor], Tensor], **params: float
) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    values = loss(leaf, labels, **params)
    (gradient,) = torch.autograd.grad(reduce(values), leaf)
    return values.detach(), gradient


def finite_gradients(loss: Callable[..., Tensor], exponents: Sequence[float]) -> Tensor:
    """Per exponent and example of probability 1, whether value and gradient are finite."""
    labels = torch.arange(NUM_CLASSES)
    results = []
    for gamma in exponents:
        for lead in (100.0, 1e3, LARGE):
            numbers = value_and_gradient(loss, lead * torch.eye(NUM_CLASSES), labels, torch.sum, gamma=gamma)
            results.append(numbers[0].isfinite() & numbers[1].isfinite().all(1))
    return torch.cat(results)


def gives(compute: Callable[[], Tensor], expected: Tensor) -> bool:
    """Whether a loss computes what it should, without an error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using a target size")  # PyTorch's word on a wrong broadcast
        try:
            result = compute()
        except (RuntimeError, ValueError, TypeError, IndexError):
            return False
    return result.shape == expected.shape and torch.allclose(result, expected)
