"""MLflow's own server, as a process on a free port of this machine."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

PATIENCE = 240


@contextlib.contextmanager
def serving(folder, *arguments):
    """``mlflow`` with these arguments (``server`` or ``ui`` first) while the block runs; yields its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", *arguments, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # As `cluster.yaml` has it: four more processes, for jobs that no study asks for.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment, start_new_session=True)
    try:
        _wait_for_answer(f"http://127.0.0.1:{port}/health", process)
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # told politely, it waits for connections that are kept open
        process.wait(60)


def _wait_for_answer(url, process):
    for _ in range(PATIENCE):
        assert process.poll() is None, "mlflow ended"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.5)
    pytest.fail(f"{url} does not answer")
