"""How long a person waits: from typing the command to help, to a refusal, to the first epoch on record, to the answer.

Each study has a folder and a database of its own, so nothing is warm but the file system's cache.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.measure import Figure, Measurement, Result
from bench.studies import ROOT, launch

RUNS = 3
MAX_SECONDS_TO_FIRST_RESULT = 8.0
MAX_SECONDS_OF_SMOKE = 40.0
#: What is said without a study → its flags and its exit code; nothing heavy is imported for it.
WORDS = {"help": (("--help",), 0), "a bad flag": (("--space", "full", "--trials", "0"), 2)}
MAX_SECONDS_OF_WORDS = 1.0


def measure() -> Result:
    """Help and a refusal, then the smoke study, run to its end; each several times."""
    measurements = []
    for number in range(1, RUNS + 1):
        measurements += [Measurement(what, number, seconds_of_words(*said), "s") for what, said in WORDS.items()]
        with tempfile.TemporaryDirectory() as folder:
            launched = launch(Path(folder), "--space", "smoke")
            first = launched.record(["val_accuracy"]).epochs["logged_at"].min().timestamp() - launched.started
        measurements.append(Measurement("first result", number, first, "s"))
        measurements.append(Measurement("whole study", number, launched.seconds, "s"))
    return Result(
        [
            *(_figure(measurements, what, what, MAX_SECONDS_OF_WORDS) for what in WORDS),
            _figure(measurements, "smoke, first result", "first result", MAX_SECONDS_TO_FIRST_RESULT),
            _figure(measurements, "smoke, whole study", "whole study", MAX_SECONDS_OF_SMOKE),
        ],
        measurements,
    )


def seconds_of_words(flags: tuple[str, ...], code: int) -> float:
    """Seconds of a command that runs no study.

    Raises:
        RuntimeError: If it ends with another exit code.
    """
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "study.launch", *flags], cwd=ROOT, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if done.returncode != code:
        raise RuntimeError(f"study.launch {' '.join(flags)} ended with {done.returncode}: {done.stderr}")
    return seconds


def _figure(measurements: list[Measurement], name: str, contender: str, bound: float) -> Figure:
    values = [measurement.value for measurement in measurements if measurement.contender == contender]
    return Figure(name=name, ours=statistics.median(values), unit="s", at_most=bound)
