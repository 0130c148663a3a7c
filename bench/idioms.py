"""The same grid by the study and as Ray's and Optuna's documentation would have a user write it (``bench/peers``).

Same data, model, losses, epochs and batch size; the same quantities of each epoch in MLflow; two trials at once. Each
contender is a command in an empty folder, timed from its start to its exit. The study's time includes what the others
do not do: the report with its uncertainty, corruption curves, exact tests, models in MLflow.
"""

from __future__ import annotations

import gzip
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from mlflow import MlflowClient

from bench.measure import Figure, Measurement, Result, values_of
from bench.studies import ROOT, launch

ROUNDS = 3
OURS, PEERS = "study", ("ray_idiom", "optuna_idiom")
SPACES = Path(__file__).parent / "spaces"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
TRIALS_TASK = "{} trials, digits"
#: What is run → flags of the peers, flags of the study, and how many times faster than each peer it must be.
TASKS: dict[str, tuple[tuple[str, ...], tuple[str, ...], float | None]] = {
    f"grid, {epochs} epochs": (
        ("--epochs", str(epochs)),
        ("--space", str(SPACES / "grid.py"), "--regime", "stated", "--epochs-scale", str(epochs / 20)),
        bound,
    )
    for epochs, bound in ((5, 4.0), (20, 6.0))
} | {
    TRIALS_TASK.format(trials): (
        ("--dataset", "digits", "--epochs", "5", "--random-trials", str(trials)),
        (
            "--space", str(SPACES / "hundred_trials.py"), "--trials", str(trials),
            "--search", "random", "--stopping", "none",
        ),
        bound,
    )
    for trials, bound in ((10, None), (30, None), (100, 20.0))
}  # fmt: skip


def measure(tasks: Iterable[str] = TASKS, rounds: int = ROUNDS) -> Result:
    """Every contender once a round, in turn; every other round backwards."""
    figures: list[Figure] = []
    measurements: list[Measurement] = []
    with tempfile.TemporaryDirectory() as name:
        data = lay_out(Path(name) / "data")
        for task in tasks:
            found = time_task(task, data, rounds)
            measurements += found
            figures += judge(task, found)
    return Result(figures, measurements)


def time_task(task: str, data: Path, rounds: int) -> list[Measurement]:
    """Seconds of each contender, and the validation accuracy of its best trial."""
    peer_flags, our_flags, _ = TASKS[task]
    contenders: dict[str, Callable[[Path], float]] = {OURS: partial(run_ours, our_flags)}
    contenders |= {peer: partial(run_peer, peer, data, peer_flags) for peer in PEERS}
    found = []
    for number in range(1, rounds + 1):
        for name in contenders if number % 2 else reversed(contenders):
            with tempfile.TemporaryDirectory() as folder:
                seconds = contenders[name](Path(folder))
                accuracy = best_accuracy(Path(folder))
            found.append(Measurement(f"{task}: {name}", number, seconds, "s"))
            found.append(Measurement(f"{task}: {name}, best accuracy", number, accuracy, ""))
            print(f"{task}: {name} {seconds:.1f} s, best accuracy {accuracy:.4f}", file=sys.stderr, flush=True)
    return found


def run_ours(flags: tuple[str, ...], folder: Path) -> float:
    """Seconds of the study in a folder."""
    return launch(folder, *flags, "--max-concurrent", "2", "--quiet").seconds


def run_peer(name: str, data: Path, flags: tuple[str, ...], folder: Path) -> float:
    """Seconds of a peer's command in a folder.

    Raises:
        RuntimeError: If it does not end with exit code 0.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "RAY_", "TUNE_"))}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-m", f"bench.peers.{name}", "--data", str(data), *flags]
    started = time.perf_counter()
    with (folder / "output.txt").open("w", encoding="utf-8") as output:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False
        )
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        raise RuntimeError(f"{name} failed:\n{(folder / 'output.txt').read_text(encoding='utf-8')[-3000:]}")
    return seconds


def best_accuracy(folder: Path) -> float:
    """The best validation accuracy on record at a trial's last epoch: that contenders trained the same is seen here."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=5000)
    return max(float(run.data.metrics["val_accuracy"]) for run in runs if "val_accuracy" in run.data.metrics)


def judge(task: str, found: list[Measurement]) -> list[Figure]:
    """The study against each peer; the ratio is the median of the rounds' own."""
    ours = values_of(found, f"{task}: {OURS}")
    figures = []
    for peer in PEERS:
        theirs = values_of(found, f"{task}: {peer}")
        figures.append(
            Figure(
                name=f"{task}: {OURS} vs {peer}",
                ours=statistics.median(ours),
                reference=statistics.median(theirs),
                unit="s",
                ratio=statistics.median(b / a for a, b in zip(ours, theirs, strict=True)),
                at_least=TASKS[task][2],
            )
        )
    return figures


def lay_out(folder: Path) -> Path:
    """Debian's Fashion-MNIST where torchvision looks for it.

    Raises:
        FileNotFoundError: If Debian's package dataset-fashion-mnist is not installed.
    """
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for packed in sorted(DEBIAN.glob("*.gz")) or [DEBIAN / "train-images-idx3-ubyte.gz"]:
        with gzip.open(packed) as source, (raw / packed.stem).open("wb") as target:
            shutil.copyfileobj(source, target)
    return folder
