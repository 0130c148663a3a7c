"""A whole study against its training alone: from the command to the printed answer, beside a bare loop's epochs.

The bare loop is plain PyTorch on resident tensors without validation, run by as many processes at once as the study
has slots, since two on two cores take longer than one. It is timed before and after each study, and their mean is what
the study is compared with: a study takes minutes, in which the speed of a shared machine drifts by more than the
difference.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from bench.epoch import MLP, build_bare
from bench.measure import Figure, Measurement, Result
from bench.spaces.long_trials import EPOCHS, STUDY
from bench.studies import launch
from trainables.config import TrialConfig
from trainables.data import load_dataset
from trainables.loop import load_resident

ROUNDS = 3
SLOTS = min(2, os.cpu_count() or 1)
BARE_EPOCHS = 20
MAX_RATIO = 1.15
DATASET = "fashion-mnist"
SPACE = Path(__file__).parent / "spaces" / "long_trials.py"
OURS, BARE = "study of 101 trials of 20 epochs", "its epochs in the bare loop, over the slots"


def measure(rounds: int = ROUNDS) -> Result:
    """The study's seconds and its training's."""
    measurements = [Measurement(BARE, 0, training_seconds(), "s")]
    for number in range(1, rounds + 1):
        measurements.append(Measurement(OURS, number, study_seconds(), "s"))
        measurements.append(Measurement(BARE, number, training_seconds(), "s"))
    return Result([judge(measurements)], measurements)


def judge(measurements: list[Measurement]) -> Figure:
    """The median of the rounds' ratios."""
    ours, bare = (
        [found.value for found in sorted(measurements, key=lambda found: found.round) if found.contender == name]
        for name in (OURS, BARE)
    )
    around = [statistics.mean(pair) for pair in itertools.pairwise(bare)]
    return Figure(
        name=f"{OURS} vs training alone",
        ours=statistics.median(ours),
        reference=statistics.median(around),
        unit="s",
        ratio=statistics.median(a / b for a, b in zip(ours, around, strict=True)),
        at_most=MAX_RATIO,
    )


def study_seconds() -> float:
    """From the command to its end: start, search, confirmation, report, models."""
    with tempfile.TemporaryDirectory() as folder:
        flags = ("--space", str(SPACE), "--dataset", DATASET, "--search", "random", "--stopping", "none", "--quiet")
        return launch(Path(folder), *flags, "--max-concurrent", str(SLOTS)).seconds


def training_seconds(dataset: str = DATASET, epochs: int = BARE_EPOCHS) -> float:
    """What the study's epochs take as many bare loops at once as there are slots."""
    with multiprocessing.get_context("spawn").Pool(SLOTS) as pool:
        found = pool.starmap(bare_epoch_seconds, [(dataset, epochs)] * SLOTS, chunksize=1)
    return statistics.mean(found) * (STUDY.trials + STUDY.seeds) * EPOCHS / SLOTS


def bare_epoch_seconds(dataset: str, epochs: int) -> float:
    """Seconds of an epoch, after one that does not count."""
    torch.set_num_threads(1)
    config = TrialConfig.from_flat(MLP)
    loop = build_bare(config, load_resident(load_dataset(dataset), torch.device("cpu")), fused=True)
    loop.run()
    started = time.perf_counter()
    for _ in range(epochs):
        loop.run()
    return (time.perf_counter() - started) / epochs
