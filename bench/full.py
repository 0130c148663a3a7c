"""The main job: ``--space full`` on the embedded digits, from the command to its end, once."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.measure import Figure, Measurement, Result
from bench.studies import launch

MAX_SECONDS = 240.0


def measure() -> Result:
    """Ten arms, 160 search trials, 110 confirm and control trials, the report."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = launch(Path(folder), "--space", "full").seconds
    name = "full, digits"
    return Result(
        [Figure(name=name, ours=seconds, unit="s", at_most=MAX_SECONDS)], [Measurement(name, 1, seconds, "s")]
    )
