"""Kills a study's processes, each found as a descendant of the command that the test itself started."""

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from bench.studies import WORKER as WORKER_NAME
from tests.end_to_end import whole_record
from tests.end_to_end.conftest import command

DRIVER, WORKER, NODE = "driver", "worker", "node"
SEARCH, CONFIRM, REPORT = "search", "confirm", "report"
#: Seconds after a phase is first seen, within which it is hit.
REACH = {SEARCH: 1.5, CONFIRM: 1.0, REPORT: 1.5}
POLL_SECONDS = 0.05
LONGEST_LIFE = 300
GONE_SECONDS = 10


@dataclass(frozen=True)
class Kill:
    """What is to be killed, in which phase, how long after it is first seen."""

    victim: str
    phase: str
    wait: float


@dataclass
class Chaos:
    """A study in a folder, its lives, and the kills that landed, by victim and phase."""

    folder: Path
    arguments: tuple[str, ...]
    landed: Counter = field(default_factory=Counter)
    lives: int = 0

    def begin(self, arguments=()):
        """The command: if none is given, to begin with, and once the study is on record, to go on."""
        self.lives += 1
        if not arguments:
            # A folder without a record is of a start that was killed before anything was recorded.
            begun = phase_of(self.folder) is not None
            arguments = ("--resume", "s") if begun else (*self.arguments, "--name", "s")
        with (self.folder / f"life-{self.lives}.log").open("w") as log:
            return subprocess.Popen(**command(self.folder, *arguments), stdout=log, stderr=log, start_new_session=True)

    def live(self, kills=(), arguments=()):
        """One life, ended by the first kill of its driver; the exit code. Kills that are not reached are left out."""
        process, kills = self.begin(arguments), list(kills)
        end = time.monotonic() + LONGEST_LIFE
        try:
            while process.poll() is None:
                assert time.monotonic() < end, f"life {self.lives} in {self.folder} does not end"
                if kills and phase_of(self.folder) == kills[0].phase and self._strike(process, kills[0]):
                    del kills[0]
                time.sleep(POLL_SECONDS)
        finally:
            end_all(process)
        return process.returncode

    def _strike(self, process, kill):
        target = find(process.pid, kill.victim)
        if target is None:
            return False
        time.sleep(kill.wait)
        phase = phase_of(self.folder)
        if process.poll() is not None or find(process.pid, kill.victim) != target:
            return False
        os.kill(target, signal.SIGKILL)
        self.landed[kill.victim, phase] += 1
        return True

    def said(self):
        """What the last life wrote."""
        return (self.folder / f"life-{self.lives}.log").read_text()


def random_kill(generator: random.Random, victim: str, phase: str) -> Kill:
    """A kill somewhere in a phase."""
    return Kill(victim, phase, generator.uniform(0.0, REACH[phase]))


def phase_of(folder):
    """Where a study is by its record, None before there is one."""
    if not (folder / "mlflow.db").is_file():
        return None
    try:
        parent, trials = whole_record.read(folder)
    except sqlite3.OperationalError:  # its tables are being made
        return None
    if parent is None:
        return None
    if parent["tags"].get("state") == "finished":
        return REPORT
    return CONFIRM if any(trial["tags"].get("phase") != SEARCH for trial in trials) else SEARCH


def descendants(pid):
    """Processes below a process."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        values = status_of(stat.parent.name)
        if values:
            children.setdefault(int(values[1]), []).append(int(stat.parent.name))
    found, left = [], [pid]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


def status_of(pid):
    """State, parent and what follows of a process; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def find(driver, victim):
    """The process of a kind, None while there is none."""
    if victim == DRIVER:
        return driver
    for pid in descendants(driver):
        try:
            name = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
        except OSError:
            continue
        if WORKER_NAME.match(name) if victim == WORKER else name.endswith(b"/raylet"):
            return pid
    return None


def end_all(process):
    """End what is left of a life; Ray's processes end with their driver, some a little later."""
    below = descendants(process.pid)
    if process.poll() is None:
        process.kill()
    process.wait(60)
    end = time.monotonic() + GONE_SECONDS
    while left := [pid for pid in below if status_of(pid)[:1] not in ([], ["Z"])]:
        if time.monotonic() > end:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_SECONDS)
