"""How long a person waits: from typing the command to the first epoch on record, and to the answer.

Each run has a folder and a database of its own, so nothing is warm but the file system's cache.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from bench.measure import Figure, Measurement, Result
from bench.studies import launch

RUNS = 3
MAX_SECONDS_TO_FIRST_RESULT = 12.0
MAX_SECONDS_OF_SMOKE = 40.0


def measure() -> Result:
    """The smoke study, run to its end several times."""
    measurements = []
    for number in range(1, RUNS + 1):
        with tempfile.TemporaryDirectory() as folder:
            launched = launch(Path(folder), "--space", "smoke")
            first = launched.record(["val_accuracy"]).epochs["logged_at"].min().timestamp() - launched.started
        measurements.append(Measurement("first result", number, first, "s"))
        measurements.append(Measurement("whole study", number, launched.seconds, "s"))
    return Result(
        [
            _figure(measurements, "first result", MAX_SECONDS_TO_FIRST_RESULT),
            _figure(measurements, "whole study", MAX_SECONDS_OF_SMOKE),
        ],
        measurements,
    )


def _figure(measurements: list[Measurement], contender: str, bound: float) -> Figure:
    values = [measurement.value for measurement in measurements if measurement.contender == contender]
    return Figure(name=f"smoke, {contender}", ours=statistics.median(values), unit="s", at_most=bound)
