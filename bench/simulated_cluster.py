"""A study on a simulated cluster: four nodes of four CPUs, each a raylet on this machine, and trials that only report.

Everything but the training is real: the command line, Tune, its actors, the searcher, the scheduler, the record. The
sixteen workers, the raylets and the driver share this machine's cores, so this is a lower bound for a driver with a
machine of its own; the driver's own processor time per result is what it would need there.

    python -m bench.simulated_cluster --space full ...     # as study.launch, on a cluster that lasts as long
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from bench.measure import Figure, Measurement, Result
from bench.studies import launch

NODES, CPUS = 4, 4
#: Of each of the space's ten arms.
TRIALS = 40
#: Of the cluster's processes, which would ask for a token and listen on all interfaces.
ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
PROCESSOR_FILE = "processor.txt"


def measure(trials: int = TRIALS) -> Result:
    """One study of so many search trials an arm."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        flags = ("--space", "full", "--trials", str(trials), "--seeds", "2", "--quiet")
        record = launch(folder, *flags, module="bench.simulated_cluster").record(["val_accuracy"])
        processor = float((folder / PROCESSOR_FILE).read_text(encoding="utf-8"))
    counted = record.trials.assign(results=record.trials["run_id"].map(record.epochs.groupby("run_id").size()))
    search = counted[counted["phase"] == "search"]
    results_per_second, trials_per_second = late_rates(search)
    values = {
        "results, simulated cluster": (results_per_second, "1/s"),
        "trials, simulated cluster": (trials_per_second, "1/s"),
        "processor, a result, driver and writer, simulated cluster": (1e3 * processor / len(record.epochs), "ms"),
    }
    figures = [Figure(name=what, ours=value, unit=unit) for what, (value, unit) in values.items()]
    return Result(figures, [Measurement(figure.name, 1, figure.ours, figure.unit) for figure in figures])


def late_rates(trials: pd.DataFrame) -> tuple[float, float]:
    """Results and trials per second of the later half of the trials, when all workers have started.

    Args:
        trials: ``end`` (a time) and ``results`` of each trial.
    """
    ordered = trials.sort_values("end")
    late = ordered[len(ordered) // 2 :]
    seconds = (late["end"].max() - ordered["end"].iloc[len(ordered) // 2 - 1]).total_seconds()
    return float(late["results"].sum() / seconds), len(late) / seconds


def main() -> int:
    """``study.launch`` with trials that only report, on a cluster of its own."""
    os.environ.update(ENVIRONMENT)
    from study.cluster import prepare_environment

    prepare_environment(alone=False)
    from ray.cluster_utils import Cluster

    from bench.reporting import ReportingTrainable
    from study import launch, phases

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(NODES):
            cluster.add_node(num_cpus=CPUS)
        vars(phases).update(ClassifierTrainable=ReportingTrainable, run_trials=_measured(phases.run_trials))
        code = launch.main([*sys.argv[1:], "--address", cluster.address])
    finally:
        cluster.shutdown()
    return code


def _measured(run: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, which leaves in a file what processor time this process spent in it, all threads together."""

    def measured(*arguments: Any, **named: Any) -> Any:
        before = time.process_time()
        outcome = run(*arguments, **named)
        Path(PROCESSOR_FILE).write_text(str(time.process_time() - before), encoding="utf-8")
        return outcome

    return measured


if __name__ == "__main__":
    sys.exit(main())
