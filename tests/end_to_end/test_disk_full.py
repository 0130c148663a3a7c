"""A disk that fills up costs a study its time and no epoch: it says which, ends, and goes on when there is room."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from mlflow import MlflowClient

from study.conduct import JOURNAL_FILE
from tests.end_to_end import whole_record
from tests.end_to_end.chaos import CONFIRM, SEARCH, phase_of
from tests.end_to_end.conftest import command

STUDY = ("--space", "smoke", "--trials", "4", "--seeds", "2")
MANY_SEEDS = (*STUDY[:-1], "8")
KIB = 1024
ROOM = 32 * KIB * KIB
MOST = ROOM - 4 * KIB
#: Set where this file's tests run in a user namespace, in which anybody may mount.
MAY_MOUNT = "TESTS_MAY_MOUNT"

pytestmark = pytest.mark.studies


class Disk:
    """A small file system in memory; a file takes what is not to be had of it."""

    def __init__(self, folder, size):
        self.folder = folder
        self.leave(size)

    def leave(self, size):
        """Let there be so many bytes for everything else, what is there already included."""
        with (self.folder / "ballast").open("ab") as ballast:
            ballast.truncate(0)
            os.posix_fallocate(ballast.fileno(), 0, ROOM - size)

    def used(self):
        """Bytes, without those that are not to be had."""
        status = os.statvfs(self.folder)
        ballast = (self.folder / "ballast").stat().st_size
        return (status.f_blocks - status.f_bfree) * status.f_frsize - ballast


@pytest.fixture
def mount():
    """Mounts a disk of so many bytes at a folder that it makes; a test that needs one says so by its name."""
    mounted = []

    def mount(folder, size):
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", folder], check=True)
        mounted.append(folder)
        return Disk(folder, size)

    yield mount
    for folder in mounted:  # lazily: MLflow's client keeps its database open
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(autouse=True)
def as_root(request, tmp_path):
    """Where this user may not mount, the test runs again as the root of a user namespace, and this is its result."""
    if os.geteuid() == 0 or MAY_MOUNT in os.environ:
        return
    again = [sys.executable, "-m", "pytest", "-q", f"--basetemp={tmp_path / 'again'}", request.node.nodeid]
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", *again],
        cwd=request.config.rootpath, env=os.environ | {MAY_MOUNT: "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"A small disk needs root or user namespaces.\n{done.stdout}{done.stderr}"
    request.node.obj = lambda **_: None


def live(folder, *arguments):
    """One life of the study ``s``: the exit code and the lines on the error stream."""
    done = subprocess.run(**command(folder, *arguments), capture_output=True, timeout=400, check=False)
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stderr.splitlines()


def is_full(line, folder):
    return re.fullmatch(
        rf"(study\.launch: )?The disk of {re.escape(str(folder))} is full \(0\.\d MB left\); make room\.", line
    )


def test_a_study_whose_folder_fills_up_stops_at_once_and_goes_on_when_there_is_room(tmp_path, mount):
    folder = tmp_path / "runs"
    # A part of the journal of the search fits.
    disk = mount(folder, 28 * KIB)
    code, lines = live(tmp_path, *MANY_SEEDS, "--name", "s")
    assert (code, phase_of(tmp_path)) == (1, SEARCH)
    assert is_full(lines[-2], folder / "s")
    assert lines[-1] == "Go on with: python -m study.launch --resume s"
    before = (folder / "s" / JOURNAL_FILE).stat().st_size
    # The rest does, with the checkpoints of two slow trials, 72 KiB twice each while they are replaced; of 24 confirmed
    # trials' weights, 24 KiB each, only the first. That others cannot leave theirs is not their fault.
    disk.leave(400 * KIB)
    code, lines = live(tmp_path, "--resume", "s")
    assert (code, phase_of(tmp_path)) == (1, CONFIRM)
    assert is_full(lines[-2], folder / "s")
    assert lines[-1] == "Go on with: python -m study.launch --resume s"
    reasons = Counter(trial["tags"].get("stop_reason") for trial in whole_record.read(tmp_path)[1])
    assert reasons["failed"] == 0
    assert reasons["completed"] >= 1
    disk.leave(MOST)
    assert live(tmp_path, "--resume", "s")[0] == 0
    assert whole_record.check(tmp_path)[0] == 44
    assert 0 < before < (folder / "s" / JOURNAL_FILE).stat().st_size
    assert sorted(path.name for path in (folder / "s").iterdir() if path.is_dir()) == []


def test_a_study_whose_record_fills_up_trains_to_its_end_and_delivers_when_there_is_room(tmp_path, mount):
    # What a name may hold, SQLite, SQLAlchemy and MLflow take too.
    folder = tmp_path / "a b\né '1"
    disk = mount(folder, MOST)
    runs = tmp_path / "runs"
    (folder / "runs").symlink_to(runs)
    runs.mkdir()
    MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()  # makes its tables
    disk.leave(disk.used() + 300 * KIB)
    code, lines = live(folder, *STUDY, "--name", "s")
    assert code == 1
    seen = str(folder).replace("\n", "\\n")
    full, undelivered, how = lines[-3:]
    assert is_full(full, seen)
    assert re.fullmatch(
        rf"MLflow did not take \d+ writes; they are in {re.escape(str(runs))}/s/spool\.jsonl\.", undelivered
    )
    assert how == "Deliver them with: python -m study.launch --resume s"
    assert 0 < len(whole_record.read(folder)[1]) < 20
    # Still full: nothing is lost, and nobody waits.
    kept = (runs / "s" / "spool.jsonl").read_bytes()
    code, (line,) = live(folder, "--resume", "s")
    assert code == 2
    assert "spool.jsonl; they stay there (" in line
    assert "disk is full" in line
    assert (runs / "s" / "spool.jsonl").read_bytes() == kept
    disk.leave(MOST)
    assert live(folder, "--resume", "s")[0] == 0
    assert whole_record.check(folder)[0] == 20
    assert not (runs / "s" / "spool.jsonl").exists()
    assert not list(Path(runs).rglob("*.pt*"))
