"""How far trials trained as one batched model lie from the same trials alone; reads no clock.

On a CUDA card where there is one, steps replayed from a graph, else on the CPU. Each line is the largest relative
difference of the training NLL of the last epoch that any seed or learning rate shows: by then weights have drifted by
what rounding in another order does, and by nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from bench.measure import Figure, Measurement, Result
from trainables.activations import ACTIVATIONS
from trainables.config import Scalar, TrialConfig
from trainables.data import load_dataset
from trainables.loop import load_resident, run_epoch, start_training
from trainables.losses import LOSSES
from trainables.optimizers import OPTIMIZERS
from trainables.replica_trials import train_replicas

BASE: Mapping[str, Scalar] = {
    "loss": "cross_entropy", "optimizer": "sgd", "optimizer.learning_rate": 0.02, "optimizer.momentum": 0.9,
    "batch_size": 32, "epochs": 2, "model": "mlp", "width": 32,
}  # fmt: skip
#: Seed and learning rate, as a multiple of the case's.
TRIALS = ((1, 1.0), (2, 1.0), (1, 0.3), (2, 0.3), (3, 0.1))
#: A card convolves single trials in TF32 by default; bf16 has eight bits.
FINE, COARSE = 1e-3, 0.02
SLOW = {"optimizer.learning_rate": 0.003}
CASES: Mapping[str, tuple[Mapping[str, Scalar], float]] = {
    **{f"loss {name}": ({"loss": name, **SLOW}, FINE) for name in LOSSES},
    **{f"activation {name}": ({"activation": name}, FINE) for name in ACTIVATIONS},
    **{f"optimizer {name}": ({"optimizer": name, **SLOW}, FINE) for name in OPTIMIZERS},
    "SGD, cosine": ({"schedule": "cosine"}, FINE),
    "Adam, cosine": ({"optimizer": "adam", "schedule": "cosine", **SLOW}, FINE),
    "SGD, then Adam": (
        {"second_optimizer": "adam", "second_optimizer.learning_rate": 0.003, "switch_epoch": 1},
        FINE,
    ),
    "summed gradients": ({"reduction": "sum", "optimizer.learning_rate": 0.02 / 32}, FINE),
    "ConvNet": ({"model": "convnet", "width": 4}, COARSE),
    "ConvNet, bf16": ({"model": "convnet", "width": 4, "precision": "bf16"}, COARSE),
}


def measure() -> Result:
    """Every loss, activation and optimizer, both models."""
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    figures, measurements = [], []
    for name, (changes, bound) in CASES.items():
        difference = largest_difference(changes, device)
        figures.append(Figure(name=f"{device}: {name}", ours=difference, unit="", at_most=bound))
        measurements.append(Measurement(f"{device}: {name}", 1, difference, ""))
    return Result(figures, measurements)


def largest_difference(changes: Mapping[str, Scalar], device: str) -> float:
    """Of a configuration's trials; infinite where one has other epochs than alone."""
    flat = {**BASE, **changes}
    if flat["optimizer"] != "sgd":
        del flat["optimizer.momentum"]
    data = load_resident(load_dataset("digits"), torch.device(device))
    base = TrialConfig.from_flat(flat)
    rate = float(flat["optimizer.learning_rate"])
    configs = [
        TrialConfig.from_flat({**base.to_flat(), "seed": seed, "optimizer.learning_rate": scale * rate})
        for seed, scale in TRIALS
    ]
    differences = []
    for config, replica in zip(configs, train_replicas(configs, data, graph=True), strict=True):
        state = start_training(config, data)
        rows = [run_epoch(state, data) for _ in range(config.epochs)]
        same = len(rows) == len(replica.rows)
        alone, together = rows[-1]["train_nll"], replica.rows[-1]["train_nll"]
        differences.append(abs(together / alone - 1) if same else float("inf"))
    return max(differences)
