"""What every test may count on."""

import fcntl
import os
import sqlite3

import pytest
import sqlalchemy
from sqlalchemy import event

# Ray reads it when it is imported: what a test starts in its own process listens on the loopback interface only.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
# A cluster that a test makes after another has used Ray in this process would ask its studies for that one's token.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")


@event.listens_for(sqlalchemy.Engine, "connect")
def leave_writes_to_the_system(connection, _record):
    """Databases that a test writes by itself need not survive a power cut: half of the time they take is waiting."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture(scope="session")
def built_once(tmp_path_factory, worker_id):
    """``built_once(name, build)`` is a folder in which one of the processes that share the tests has run ``build``.

    What it holds is read by all of them, and so written to by none.
    """
    own = tmp_path_factory.getbasetemp()
    root = own if worker_id == "master" else own.parent

    def folder_of(name, build):
        folder, built = root / name, root / f"{name}.built"
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not built.exists():
                folder.mkdir()
                build(folder)
                built.touch()
        return folder

    return folder_of
