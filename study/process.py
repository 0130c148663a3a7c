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


def is_alive(process: str) -> bool:
    """Whether a process of this machine runs still; of another machine's nothing is known from here, so it does not."""
    host, pid, started = (*process.split(" "), "", "", "")[:3]
    return host == socket.gethostname() and pid.isdigit() and started != "" and _started(int(pid)) == started


def _started(pid: int) -> str:
    """Empty if there is no such process, or the system does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # After the name, which may hold anything, the 20th value.
    return stat.rpartition(")")[2].split()[19]
