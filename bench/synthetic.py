"""Trials that never ran: curves of twenty metrics and what a confirm trial leaves, drawn by their arm, rate and seed.

It imports little, so that a worker of a simulated cluster starts fast and stays small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

EPOCHS = 40
CLASSES = 10
#: The arm under another name in a control.
BASELINE = "loss_0"
#: Twenty histories per trial, named as the launcher names them.
METRICS = (
    *(f"{split}_{quantity}" for split in ("train", "val") for quantity in ("loss", "accuracy", "nll")),
    *(
        f"{split}_{quantity}_{mean}"
        for split in ("train", "val")
        for quantity in ("precision", "recall", "f1")
        for mean in ("macro", "weighted")
    ),
    "learning_rate",
    "epoch_seconds",
)
#: What a confirm trial logs once, beside these.
LAST = ("test_accuracy", "test_nll", "test_loss", "test_f1_macro", "test_ece", "test_brier", "test_corruption_area")
CORRUPTIONS = {"gaussian_noise": (0.1, 0.2, 0.3, 0.5, 1.0), "blur": (0.5, 1.0, 2.0), "contrast": (0.2, 0.4, 0.8)}


@dataclass(frozen=True)
class Trial:
    """One trial to write."""

    arm: str
    phase: str
    number: int
    seed: int
    rate: float

    @property
    def key(self) -> str:
        return f"{self.arm}/{self.phase}/{self.number}"


def draw_histories(trial: Trial) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Curves that rise to an accuracy of arm, rate and seed; a control's are the baseline's."""
    arm, phase = (BASELINE, "confirm") if trial.phase == "control" else (trial.arm, trial.phase)
    generator = np.random.default_rng([trial.seed, trial.number, *arm.encode(), len(phase)])
    shared = np.random.default_rng(trial.seed).normal(0, 0.005)  # what pairing by seeds removes
    best = 0.9 + shared - 0.02 * np.log10(trial.rate / 0.03) ** 2 - 0.002 * len(set(arm) & set("456789"))
    rise = 1 - np.exp(-np.arange(1, EPOCHS + 1) / 6)
    accuracy = np.clip(0.1 + (best - 0.1) * rise + generator.normal(0, 0.003, EPOCHS), 0.0, 1.0)
    histories = {}
    for metric in METRICS:
        noise = generator.normal(0, 0.001, EPOCHS)
        falls = metric.endswith(("loss", "nll"))
        histories[metric] = 1.2 - accuracy + noise if falls else np.clip(accuracy + noise, 0.0, 1.0)
    histories["val_accuracy"] = accuracy
    histories["learning_rate"] = np.full(EPOCHS, trial.rate)
    histories["epoch_seconds"] = generator.uniform(0.4, 0.5, EPOCHS)
    return histories


def final_record(accuracy: float) -> dict[str, Any]:
    """What a confirm trial reports of its end, beside numbers."""
    right = round(1000 * accuracy)
    wrong, rest = divmod(1000 - right, CLASSES - 1)
    confusion = np.full((CLASSES, CLASSES), wrong) + np.diag([right - wrong] * CLASSES)
    confusion[:, 0] += rest
    edges = np.linspace(0, 1, 16)
    middles = ((edges[:-1] + edges[1:]) / 2).tolist()
    return {
        "confusion": confusion.tolist(),
        "reliability": {
            "edges": edges.tolist(),
            "counts": [10_000 // 15] * 15,
            "confidence": middles,
            "accuracy": [accuracy * middle for middle in middles],
        },
        "corruptions": {
            name: {"severities": list(levels), "accuracy": [accuracy * (1 - level / 2) for level in levels]}
            for name, levels in CORRUPTIONS.items()
        },
        "class_names": [str(number) for number in range(CLASSES)],
    }
