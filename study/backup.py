"""``python -m study.backup mlflow.db s3://BUCKET/mlflow.db``: MLflow's database, copied to a bucket as it grows.

For a machine that may vanish with its disk, as a cluster's head. What is copied is the SQLite database as it was at one
moment, whoever writes to it meanwhile. A study goes on from a copy that is older than its journal: what the copy has
not heard of is told again. A study that ends does not leave its last minute to chance: where ``STUDY_BACKUP`` names the
database and the address of its copy, the copy is made before the command returns.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from analysis.address import redact, short_reason
from analysis.command import OneLineParser, check_text, leave, refusal
from analysis.plain import plain
from study.options import parse_duration
from trainables.bucket import is_address, read_object, write_object
from trainables.checkpoint import replace_file
from trainables.config import InputError

EPILOG = """\
examples:
  python -m study.backup mlflow.db s3://my-bucket/mlflow.db --restore    before the MLflow server starts
  python -m study.backup mlflow.db s3://my-bucket/mlflow.db &            while it runs

environment, read by study.launch: STUDY_BACKUP="FILE ADDRESS" makes the copy once more when a study ends
"""
VARIABLE = "STUDY_BACKUP"


def copy_database(file: Path) -> bytes:
    """A SQLite database as it is at one moment, whoever writes to it.

    Args:
        file: The database.

    Raises:
        sqlite3.Error: If it cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / file.name
        original = f"{file.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(original, uri=True)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        return copy.read_bytes()


def restore(file: Path, address: str) -> bool:
    """Fetch the copy, unless the database is there; whether it was fetched.

    Raises:
        OSError: If the bucket does not answer or the file cannot be written.
    """
    if file.exists():
        return False
    try:
        replace_file(file, read_object(address))
    except FileNotFoundError:
        return False
    return True


class Backup:
    """Copies a database when it has changed.

    Args:
        file: The database; it may not be there yet.
        address: Where its copy goes.
    """

    def __init__(self, file: Path, address: str) -> None:
        self._file, self._address = file, address
        self._copied: object = None

    def run(self) -> bool:
        """Copy it, if it has changed; whether it had.

        Raises:
            OSError: If the bucket does not take it.
            sqlite3.Error: If it cannot be read.
        """
        if not self._file.exists():
            return False
        with Path(f"{self._file}.copying").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another process's copy, begun before, must not arrive after this one
            # What has not reached the database itself is in the file beside it.
            files = [path for path in (self._file, Path(f"{self._file}-wal")) if path.exists()]
            state = [(path.stat().st_size, path.stat().st_mtime_ns) for path in files]
            if state == self._copied:
                return False
            write_object(self._address, copy_database(self._file))
            self._copied = state
            return True


def copy_at_the_end() -> Callable[[], None]:
    """What makes the copy that ``STUDY_BACKUP`` asks for, and says so in one line if the copy cannot be made.

    Raises:
        InputError: If the variable breaks a rule.
    """
    value = os.environ.get(VARIABLE, "").strip()
    if not value:
        return lambda: None
    file, _, address = value.rpartition(" ")
    if not file:
        raise InputError(f"{VARIABLE} must be FILE ADDRESS; got {redact(value)!r}.")
    _check(Path(file), address)

    def copy() -> None:
        try:
            Backup(Path(file), address).run()
        except (OSError, sqlite3.Error) as error:
            print(plain(f"{file} is not copied to {address}: {short_reason(error)}"), file=sys.stderr)  # noqa: T201

    return copy


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="python -m study.backup",
        description="Copies MLflow's SQLite database to a bucket whenever it has changed, until it is ended.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("database", metavar="FILE", help="the database, which may not be there yet")
    parser.add_argument("address", metavar="ADDRESS", help="of its copy: s3://BUCKET/KEY or gs://BUCKET/KEY")
    parser.add_argument("--every", default="1m", metavar="TIME", help="how often it is looked at (default: 1m)")
    parser.add_argument("--restore", action="store_true", help="fetch the copy if the file is missing, and end")
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code: 0, 2 for bad input, 1 if the last copy did not arrive."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        check_text(argv)
        arguments = build_parser().parse_args(argv)
        file, address = Path(arguments.database), str(arguments.address)
        _check(file, address)
        seconds = parse_duration(arguments.every, "--every")
        if arguments.restore:
            return _restore(file, address)
    except InputError as error:
        print(f"study.backup: {refusal(error)}", file=sys.stderr)  # noqa: T201 - the message
        return 2
    return _keep(Backup(file, address), seconds)


def _check(file: Path, address: str) -> None:
    if not is_address(address) or not address.partition("://")[2].partition("/")[2]:
        raise InputError(f"ADDRESS must be s3://BUCKET/KEY or gs://BUCKET/KEY; got {address!r}.")
    if not file.absolute().parent.is_dir():
        raise InputError(f"FILE must lie in a folder that exists; got {str(file)!r}.")


def _restore(file: Path, address: str) -> int:
    try:
        fetched = restore(file, address)
    except OSError as error:
        raise InputError(f"{address} cannot be fetched: {short_reason(error)}") from error
    there = "is there, and stays as it is" if file.exists() else f"is not there, and neither is {address}"
    print(plain(f"{file}: fetched from {address}" if fetched else f"{file} {there}"))  # noqa: T201
    return 0


def _keep(backup: Backup, seconds: float) -> int:
    """Copy now and then, and once more when this process is told to end."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    failed = False
    while True:
        last = ended.wait(seconds)
        try:
            backup.run()
            failed = False
        except (OSError, sqlite3.Error) as error:
            failed = True
            print(plain(f"study.backup: not copied: {short_reason(error)}"), file=sys.stderr, flush=True)  # noqa: T201
        if last:
            return int(failed)


if __name__ == "__main__":
    leave(main())
