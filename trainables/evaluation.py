"""The one look at the test split, after a confirm trial's last epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from trainables.corruptions import corrupted_images, corruption_curves, drop_area, sample_indices
from trainables.loop import ResidentData, TrainingState, evaluate, predict_logits
from trainables.metrics import calibration, confusion_matrix, fit_temperature, split_metrics

# One seed for all: the noise must be the same for every arm and every seed.
CORRUPTION_SEED = 0
#: Test images that the corruption curves use at most; 2,000 put the standard error of an accuracy near one point.
MAX_CORRUPTED = 2000


@dataclass(frozen=True)
class FinalEvaluation:
    """What a confirm trial adds to its last row (``metrics``) and leaves beside it (``record``)."""

    metrics: dict[str, float]
    record: dict[str, Any]


def corrupt_test_images(data: ResidentData) -> dict[str, list[Tensor]]:
    """The corrupted test images, computed once per actor since they do not depend on the trial."""
    return corrupted_images(data.test_images[_sample(data)], seed=CORRUPTION_SEED)


def final_evaluation(
    state: TrainingState, data: ResidentData, corrupted: dict[str, list[Tensor]], *, diverged: bool
) -> FinalEvaluation:
    """Test metrics, calibration, corruption curves, and the training split in evaluation mode.

    The test metrics are those that ``look_at_test`` would see after the same epoch.

    Args:
        state: The trial after its last epoch.
        data: The data it was trained on.
        corrupted: What :func:`corrupt_test_images` returned.
        diverged: Whether the trial ended on a non-finite loss; then it counts as a chance-level classifier.
    """
    if diverged:
        return FinalEvaluation({"test_accuracy": 1 / data.num_classes}, {})
    logits = predict_logits(state, data, data.test_images)
    test = split_metrics(logits, data.test_labels, state.loss(logits, data.test_labels))
    train = evaluate(state, data, data.images, data.labels, state.train_indices)
    val_logits = predict_logits(state, data, data.images, state.val_indices)
    calibrated = calibration(logits, data.test_labels)
    sample = _sample(data)
    labels = data.test_labels[sample]
    clean_accuracy = (logits[sample].argmax(dim=1) == labels).float().mean().item()
    curves = corruption_curves(
        lambda images: predict_logits(state, data, images * 255).argmax(dim=1), corrupted, labels
    )
    gaussian = curves["gaussian_noise"]
    metrics = {f"test_{key}": value for key, value in test.items()} | {
        "test_ece": calibrated.ece,
        "test_brier": calibrated.brier,
        "test_temperature": fit_temperature(val_logits, data.labels[state.val_indices]),
        "test_corruption_area": drop_area(clean_accuracy, gaussian["severities"], gaussian["accuracy"]),
        "train_eval_accuracy": train["accuracy"],
        "train_eval_nll": train["nll"],
        "train_eval_loss": train["loss"],
    }
    confusion = confusion_matrix(logits.argmax(dim=1), data.test_labels, data.num_classes)
    reliability = {
        "edges": calibrated.edges,
        "counts": calibrated.counts,
        "confidence": calibrated.confidence,
        "accuracy": calibrated.accuracy,
    }
    record = {"confusion": confusion.tolist(), "reliability": reliability, "corruptions": curves}
    return FinalEvaluation({key: value for key, value in metrics.items() if np.isfinite(value)}, record)


def _sample(data: ResidentData) -> Tensor:
    return sample_indices(len(data.test_labels), MAX_CORRUPTED).to(data.device)
