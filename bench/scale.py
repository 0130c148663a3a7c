"""How far one driver goes: ten thousand trials, a simulated cluster, and the driver's own code without Ray."""

from __future__ import annotations

from bench import driver, many_trials, simulated_cluster
from bench.measure import Result


def measure() -> Result:
    """The three, one after another; half an hour, most of it the ten thousand trials."""
    parts = [module.measure() for module in (driver, simulated_cluster, many_trials)]
    return Result(
        [figure for part in parts for figure in part.figures],
        [measurement for part in parts for measurement in part.measurements],
    )
