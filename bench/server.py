"""A tracking server of MLflow on this machine, as it starts by default, and what its processes take."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

START_SECONDS = 180
#: A server has started when it needs less than so much of the processor in so many seconds.
IDLE_SECONDS = 0.2
SETTLE_SECONDS = 4


@contextlib.contextmanager
def serve(folder: Path, database: str, artifacts: Path) -> Iterator[tuple[str, int]]:
    """A tracking server: its address and process group.

    Args:
        folder: Where its log goes.
        database: Address of its store.
        artifacts: A folder, which it serves as ``mlflow-artifacts:``.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", database, "--artifacts-destination", str(artifacts)]
    with (
        (folder / "server.log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True) as process,
    ):
        try:
            uri = f"http://127.0.0.1:{port}"
            wait_for(lambda: urlopen(f"{uri}/health", timeout=5).status)
            settle(process.pid)
            yield uri, process.pid
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # its workers too


def group_seconds(group: int | None) -> float:
    """Processor time of a process group's living processes; 0 where the system does not tell."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat") if group is not None else ():
        with contextlib.suppress(OSError):
            # After the name, which may hold anything: state, parent, group, …, user and system time 9 places on.
            values = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            ticks += int(values[11]) + int(values[12]) if int(values[2]) == group else 0
    return ticks / os.sysconf("SC_CLK_TCK")


def settle(group: int) -> None:
    """Until a server that answers has started its other workers too: that work is not the request's."""
    end, before = time.monotonic() + START_SECONDS, -1.0
    while time.monotonic() < end and (now := group_seconds(group)) - before > IDLE_SECONDS:
        before = now
        time.sleep(SETTLE_SECONDS)


def wait_for(answers: Callable[[], object]) -> None:
    """Until a server answers.

    Raises:
        TimeoutError: If it does not.
    """
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            answers()
        except (URLError, OSError):
            time.sleep(0.5)
        else:
            return
    raise TimeoutError(f"No answer within {START_SECONDS} s.")
