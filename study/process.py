"""Processes by a name that no other process has, now or later on the same machine. Standard library only."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def this_process() -> str:
    """This process: host, id, and when it was started in ticks since the machine was."""
    pid = os.getpid()
    return f"{socket.gethostname()} {pid} {_started(pid)}"


def host_of(process: str) -> str:
    """The machine of a process; empty if it has no name."""
    return process.partition(" ")[0]


def is_dead(process: str) -> bool:
    """Whether a process is known to be no more: it ran on this machine, and its id is nobody's or another's."""
    host, pid, started = (*process.split(" "), "", "", "")[:3]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    now = _started(int(pid))
    return not _exists(int(pid)) or (started != "" and now not in ("", started))


def is_alive(process: str) -> bool:
    """Whether a process runs here; of another machine's nothing is known, so it does not."""
    return host_of(process) == socket.gethostname() and not is_dead(process)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _started(pid: int) -> str:
    """Empty if there is no such process, or the system does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # After the name, which may hold anything, the 20th value.
    return stat.rpartition(")")[2].split()[19]
