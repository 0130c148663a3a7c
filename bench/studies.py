"""Runs the real command line in an empty folder and watches it from outside."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.load import StudyRecord, load_study

ROOT = Path(__file__).resolve().parents[1]
NAME = "bench"
POLL_SECONDS = 0.05
#: How Ray calls a process that runs trials, while it trains (Tune wraps the class) and while it waits; its own agents
#: begin alike.
WORKER = re.compile(rb"ray::(_Inner\b|\w*Trainable)")
#: Line of ``smaps_rollup`` -> what it is part of.
_KINDS = {"Rss": "resident", "Pss": "share", "Anonymous": "own"}


@dataclass(frozen=True)
class WorkerMemory:
    """The most memory a worker was seen with, in bytes, each kind at its own time.

    Args:
        own: Of no file and no shared segment; unlike the kernel's private bytes it does not grow when the last other
            process that has a library loaded ends.
        share: A page that n processes have counts as an nth.
        resident: Every page in full.
    """

    own: int
    share: int
    resident: int


@dataclass(frozen=True)
class Launched:
    """A study that has ended.

    Args:
        folder: Where it ran.
        started: When the command was typed, seconds since 1970.
        seconds: From the command to its end.
        peak_bytes: Most memory the driver, the process of the command, had resident at once; 0 where the system does
            not tell (only Linux does).
        workers: One for each process that trained, if they were watched.
    """

    folder: Path
    started: float
    seconds: float
    peak_bytes: int
    workers: Sequence[WorkerMemory] = ()

    def record(self, metrics: Collection[str]) -> StudyRecord:
        """What it left in MLflow, with the histories of these metrics."""
        uri = f"sqlite:///{self.folder / 'mlflow.db'}"
        return load_study(NAME, tracking_uri=uri, metrics=metrics, finals=False)


def launch(folder: Path, *arguments: str, module: str = "study.launch", watch_workers: bool = False) -> Launched:
    """Run ``python -m study.launch`` with these arguments to its end.

    Args:
        folder: Empty: runs, database and artifacts go there.
        arguments: Flags; the study is called ``bench``.
        module: What takes the same flags and runs a study.
        watch_workers: Whether to look at the memory of its workers, which costs them some time.

    Raises:
        RuntimeError: If it does not end with exit code 0.
    """
    ours = ("MLFLOW_", "RAY_", "TUNE_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    # The folder it runs in is empty, and what is measured is this checkout.
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", module, "--name", NAME, *arguments]
    output = folder / "output.txt"
    peak = 0
    workers: dict[int, WorkerMemory] = {}
    with output.open("w", encoding="utf-8") as stream:
        started, clock = time.time(), time.perf_counter()
        with subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT
        ) as process:
            try:
                while process.poll() is None:
                    peak = max(peak, peak_resident_bytes(process.pid))
                    for pid in find_workers(process.pid) if watch_workers else ():
                        workers[pid] = _larger(workers.get(pid), worker_memory(pid))
                    time.sleep(POLL_SECONDS)
                seconds = time.perf_counter() - clock
            finally:
                process.terminate()  # nothing to do unless we were interrupted
    if process.returncode != 0:
        last = "\n".join(output.read_text(encoding="utf-8").splitlines()[-20:])
        raise RuntimeError(f"{' '.join(command)} ended with exit code {process.returncode}:\n{last}")
    return Launched(folder, started, seconds, peak, tuple(workers.values()))


def peak_resident_bytes(pid: int) -> int:
    """The high-water mark of a process's resident memory, ``VmHWM``; 0 if it is gone or the system does not tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024  # the kernel counts in units of 1024 bytes and calls them kB
    return 0


def find_workers(pid: int) -> list[int]:
    """The processes below one that run trials; none where the system does not tell."""
    parents, workers = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name before it, in parentheses, may hold anything.
            parents[int(folder.name)] = int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            if WORKER.match((folder / "cmdline").read_bytes()):
                workers.append(int(folder.name))
        except OSError:  # it has ended
            continue
    return [worker for worker in workers if pid in _ancestors(worker, parents)]


def worker_memory(pid: int) -> WorkerMemory:
    """What a process has in memory now; nothing if it is gone or the system does not tell."""
    sums = dict.fromkeys(("own", "share", "resident"), 0)
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name in _KINDS:
                sums[_KINDS[name]] += int(value.split()[0]) * 1024  # the kernel's kB is 1024 bytes
    return WorkerMemory(**sums)


def _larger(one: WorkerMemory | None, other: WorkerMemory) -> WorkerMemory:
    if one is None:
        return other
    return WorkerMemory(max(one.own, other.own), max(one.share, other.share), max(one.resident, other.resident))


def _ancestors(pid: int, parents: Mapping[int, int]) -> Iterator[int]:
    while pid in parents:
        pid = parents[pid]
        yield pid
