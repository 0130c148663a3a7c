"""Peak resident memory of the driver, the process of the command, in GB (1e9 bytes).

The peak is the kernel's own high-water mark (``VmHWM``), so nothing between two looks is missed; it includes the
shared pages that the driver has touched, such as the dataset in Ray's object store.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.measure import Figure, Measurement, Result
from bench.studies import launch

MAX_GIGABYTES = 1.0
STUDIES = {
    "smoke, digits": ("--space", "smoke"),
    "full, 2 arms, 6,000 of fashion-mnist": (
        *("--space", "full", "--arms", "cross_entropy,focal", "--trials", "2", "--seeds", "1"),
        *("--dataset", "fashion-mnist", "--train-size", "6000"),
    ),
}


def measure() -> Result:
    """One run each: a peak varies by some percent between runs, a time by far more."""
    measurements = []
    for name, arguments in STUDIES.items():
        with tempfile.TemporaryDirectory() as folder:
            peak = launch(Path(folder), *arguments).peak_bytes
        if peak == 0:
            raise RuntimeError("The peak memory of a process is only known on Linux, from /proc.")
        measurements.append(Measurement(name, 1, peak / 1e9, "GB"))
    figures = [
        Figure(name=f"driver, {item.contender}", ours=item.value, unit=item.unit, at_most=MAX_GIGABYTES)
        for item in measurements
    ]
    return Result(figures, measurements)
