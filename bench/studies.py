"""Runs the real command line in an empty folder and watches it from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from analysis.load import StudyRecord, load_study

ROOT = Path(__file__).resolve().parents[1]
NAME = "bench"
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Launched:
    """A study that has ended.

    Args:
        folder: Where it ran.
        started: When the command was typed, seconds since 1970.
        seconds: From the command to its end.
        peak_bytes: Most memory the driver, the process of the command, had resident at once; 0 where the system does
            not tell (only Linux does).
    """

    folder: Path
    started: float
    seconds: float
    peak_bytes: int

    def record(self, metrics: Collection[str]) -> StudyRecord:
        """What it left in MLflow, with the histories of these metrics."""
        uri = f"sqlite:///{self.folder / 'mlflow.db'}"
        return load_study(NAME, tracking_uri=uri, metrics=metrics, finals=False)


def launch(folder: Path, *arguments: str) -> Launched:
    """Run ``python -m study.launch`` with these arguments to its end.

    Args:
        folder: Empty: runs, database and artifacts go there.
        arguments: Flags; the study is called ``bench``.

    Raises:
        RuntimeError: If it does not end with exit code 0.
    """
    ours = ("MLFLOW_", "RAY_", "TUNE_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    # The folder it runs in is empty, and what is measured is this checkout.
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "study.launch", "--name", NAME, *arguments]
    output = folder / "output.txt"
    peak = 0
    with output.open("w", encoding="utf-8") as stream:
        started, clock = time.time(), time.perf_counter()
        with subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT
        ) as process:
            try:
                while process.poll() is None:
                    peak = max(peak, peak_resident_bytes(process.pid))
                    time.sleep(POLL_SECONDS)
                seconds = time.perf_counter() - clock
            finally:
                process.terminate()  # nothing to do unless we were interrupted
    if process.returncode != 0:
        last = "\n".join(output.read_text(encoding="utf-8").splitlines()[-20:])
        raise RuntimeError(f"{' '.join(command)} ended with exit code {process.returncode}:\n{last}")
    return Launched(folder, started, seconds, peak)


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
