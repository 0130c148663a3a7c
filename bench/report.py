"""The report of 1,000 trials × 40 epochs × 20 metrics: loaded and built, from SQLite and from a server on loopback.

A server of MLflow is started with what it has by default, on the same machine: it shares the cores with what it serves.
*Cold*: the study's run carries no ``epochs.parquet``, so that every value is asked for; *warm*: it does, as after a
launch. Beside each time stands processor time, of the command and of the server: on a busy machine that is comparable.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.large_study import NAME, write_large_study
from bench.measure import Figure, Measurement, Result
from bench.server import group_seconds, serve
from bench.studies import ROOT

MAX_SECONDS = {"load": 15.0, "report": 30.0}
MAX_PAGE_MEGABYTES = 15.0
SCRIPTS = {
    "load": "from analysis.load import load_study; load_study({name!r}, tracking_uri={uri!r})",
    "report": "from analysis.report import build_report; build_report({name!r}, tracking_uri={uri!r}, output={out!r})",
}


def measure(share: float = 1.0) -> Result:
    """Each command once, in a process of its own, its start included; ``share`` of the trials."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        out = folder / "out"
        uri = f"sqlite:///{folder}/mlflow.db"
        write_large_study(uri, folder / "artifacts", share=share)
        figures += time_commands("SQLite", uri, out)
        megabytes = (out / "report.html").stat().st_size / 1e6
        figures.append(Figure(name="page", ours=megabytes, unit="MB", at_most=MAX_PAGE_MEGABYTES))
        with serve_large_study(folder, share) as (uri, group):
            figures += time_commands("server, cold", uri, out, group)
            attach(uri, out / "epochs.parquet")
            figures += time_commands("server, warm", uri, out, group)
    return Result(figures, [Measurement(figure.name, 1, figure.ours, figure.unit) for figure in figures])


def time_commands(place: str, uri: str, out: Path, group: int | None = None) -> list[Figure]:
    """Seconds of loading and of the report, with the processor time of the command and of the server's processes."""
    figures = []
    for what, script in SCRIPTS.items():
        before = group_seconds(group)
        seconds, processor = run(script.format(name=NAME, uri=uri, out=str(out)))
        name = f"{what}, {place}"
        figures.append(Figure(name=name, ours=seconds, unit="s", at_most=MAX_SECONDS[what]))
        figures.append(Figure(name=f"{name}: processor", ours=processor, unit="s"))
        if group is not None:
            figures.append(Figure(name=f"{name}: server's processor", ours=group_seconds(group) - before, unit="s"))
    return figures


def run(script: str) -> tuple[float, float]:
    """Seconds on the clock and of the processor that a Python script takes in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    before, started = os.times(), time.perf_counter()
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - started, processor


def attach(uri: str, file: Path) -> None:
    """Put a file on the study's run, as the launcher does."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(NAME)
    assert experiment is not None
    parents = client.search_runs([experiment.experiment_id], "tags.phase = 'study'")
    client.log_artifact(parents[0].info.run_id, str(file))


@contextlib.contextmanager
def serve_large_study(folder: Path, share: float = 1.0) -> Iterator[tuple[str, int]]:
    """A tracking server with a large study of its own, artifacts behind it: its address and process group."""
    database = f"sqlite:///{folder}/served.db"
    write_large_study(database, folder / "served" / NAME, location=f"mlflow-artifacts:/{NAME}", share=share)
    with serve(folder, database, folder / "served") as served:
        yield served
