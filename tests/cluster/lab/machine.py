"""One machine: a set of namespaces, and how to run commands in it."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.lab.timeline import SLACK

#: Root's, on every machine.
HOME = pwd.getpwuid(0).pw_dir
BOOT = Path(__file__).with_name("boot.sh")
NAMESPACES = ("--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc")
BOOT_SECONDS = 100


def refusal() -> str | None:
    """Why this computer does not let us make machines; None if it does."""
    try:
        command = ["unshare", *NAMESPACES, "ip", "link", "add", "probe", "type", "bridge"]
        probe = subprocess.run(command, capture_output=True, text=True, timeout=BOOT_SECONDS, check=False)
    except OSError as error:
        return str(error)
    return probe.stderr.strip() or f"exit code {probe.returncode}" if probe.returncode else None


@dataclass(frozen=True)
class Machine:
    """A machine that runs; ``unshare`` outside is its power supply, ``sshd`` inside its process 1."""

    name: str
    address: str
    folder: Path
    environment: Mapping[str, str]
    power: subprocess.Popen
    pid: int
    started: list[subprocess.Popen] = field(default_factory=list)

    def start(self, command: Sequence[str], *, environment=None, folder: str = HOME, **options) -> subprocess.Popen:
        """A command in the background; to kill what is returned kills the command too.

        Args:
            command: The command and its arguments.
            environment: Added to the machine's; nothing else is handed down.
            folder: Where on the machine it runs.
            options: Of :class:`subprocess.Popen`.
        """
        process = subprocess.Popen(self._inside(command, environment, folder), **{"text": True, **options})
        self.started.append(process)
        return process

    def run(
        self, command: Sequence[str], *, timeout: float, environment=None, folder: str = HOME, **options
    ) -> subprocess.CompletedProcess:
        """A command until its end; what it printed is in the result, standard error among the output.

        Raises:
            subprocess.TimeoutExpired: If it takes ``SLACK`` times ``timeout`` seconds; the command is killed.
        """
        ours = {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        inside = self._inside(command, environment, folder)
        return subprocess.run(inside, timeout=SLACK * timeout, check=False, **{**ours, **options})

    def write(self, path: str, text: str) -> None:
        """A file on the machine."""
        put = self.run(["sh", "-c", 'mkdir -p "${0%/*}" && cat >"$0"', path], timeout=10, input=text, stdin=None)
        if put.returncode:
            raise RuntimeError(put.stdout)

    @property
    def alive(self) -> bool:
        return self.power.poll() is None

    def kill(self) -> None:
        """The power fails: every process of the machine is gone when this returns. A second time does nothing."""
        if self.alive:
            # Process 1 takes all others with it, and unshare ends with process 1.
            os.kill(self.pid, signal.SIGKILL)
        for process in (self.power, *self.started):
            process.wait(BOOT_SECONDS)
        self.power.stdin.close()

    def _inside(self, command: Sequence[str], environment: Mapping[str, str] | None, folder: str) -> list[str]:
        values = {**self.environment, **(environment or {})}
        return [
            *("nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--uts", "--ipc"),
            *("setpriv", "--pdeathsig", "KILL"),  # whoever kills nsenter means the command
            *("env", "--ignore-environment", f"--chdir={folder}"),
            *(f"{key}={value}" for key, value in values.items()),
            *command,
        ]


def boot(
    name: str, address: str, *, folder: Path, keys: Path, given: Sequence[str], environment: Mapping[str, str]
) -> Machine:
    """Switch a machine on; it has no network yet.

    Raises:
        RuntimeError: If it does not come up; its log says why.
    """
    log = folder / "boot.log"
    with log.open("wb") as output:
        power = subprocess.Popen(
            ["unshare", *NAMESPACES, "bash", str(BOOT), str(folder), str(keys), *given],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the tests, which then take the machines down
        )
    end = time.monotonic() + BOOT_SECONDS
    while power.poll() is None and time.monotonic() < end:
        pid = _first_process(power.pid)
        # It listens: all that comes before has been done.
        if pid and b"Server listening" in log.read_bytes():
            return Machine(name, address, folder, environment, power, pid)
        time.sleep(0.02)
    power.kill()
    power.wait()
    power.stdin.close()
    raise RuntimeError(f"The machine {name} did not come up: {log.read_text(errors='replace')}")


def _first_process(power: int) -> int:
    """The process 1 of a machine, as it is numbered outside."""
    children = Path(f"/proc/{power}/task/{power}/children").read_text(encoding="ascii").split()
    return int(children[0]) if children else 0
