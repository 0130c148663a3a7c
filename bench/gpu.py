"""Trials per hour on one CUDA card: packed processes against seeds trained as one batched model, whole Fashion-MNIST.

*Processes*: the project's own trainer, one trial at a time in each of 1, 2, 4, 8 processes at once on the card, as
``--gpus-per-trial`` packs them. *Replicas*: ``trainables.replicas`` with 1, 4, 10, 32 seeds, eager and from a CUDA
graph. A trial is one of a confirmation, its look at the test split included. The peak of memory is what PyTorch took
and half a gigabyte for each process's context, all processes together. Without a card nothing is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from bench.measure import Figure, Measurement, Result, compare, fastest
from bench.replicas import MODELS, ROUNDS, contenders, measure_contenders, rate
from trainables.config import TrialConfig

BATCH_SIZES = (32, 128)
EPOCHS = 5
#: That each number of processes trains in a round: one each at least.
TRIALS = 8
PROCESSES = (1, 2, 4, 8)
REPLICAS = (1, 4, 10, 32)
MIN_TIMES_PROCESSES = 10.0
FASHION: Mapping[str, Any] = {"name": "fashion-mnist"}


def measure() -> Result:
    """Both models at both batch sizes, if there is a card."""
    if not torch.cuda.is_available():
        print("gpu: no CUDA device on this machine, so nothing was measured")
        return Result([], [])
    torch.set_num_threads(1)
    figures: list[Figure] = []
    measurements: list[Measurement] = []
    for name, model in MODELS.items():
        for batch_size in BATCH_SIZES:
            config = TrialConfig.from_flat({**model, "batch_size": batch_size, "epochs": EPOCHS})
            result = measure_setting(f"{name}, batch {batch_size}", config)
            figures += result.figures
            measurements += result.measurements
    return Result(figures, measurements)


def measure_setting(
    name: str,
    config: TrialConfig,
    data: Mapping[str, Any] = FASHION,
    *,
    device: str = "cuda",
    processes: Sequence[int] = PROCESSES,
    replicas: Sequence[int] = REPLICAS,
    trials: int = TRIALS,
    rounds: int = ROUNDS,
) -> Result:
    """One configuration: the fastest way as one model against the fastest in processes, then each way's own figures.

    Raises:
        RuntimeError: If the contenders did not do the same work.
    """
    with contenders(
        config, data, processes=processes, replicas=replicas, trials=trials, device=device, graphs=True
    ) as compared:
        measured = measure_contenders(name, compared, rounds=rounds)
    names = [f"{name}: {contender}" for contender in compared]
    alone, together = names[: len(processes)], names[len(processes) :]
    peaks = [
        Measurement(f"{name}: {contender}, peak", 1, one.peak_bytes / 1e9, "GB") for contender, one in compared.items()
    ]
    figures = [
        compare(measured, fastest(measured, together), alone, at_least=MIN_TIMES_PROCESSES),
        *(rate(contender, measured) for contender in names),
        *(Figure(name=peak.contender, ours=peak.value, unit=peak.unit) for peak in peaks),
    ]
    return Result(figures, [*measured, *peaks])
