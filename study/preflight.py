"""What is checked before anything is spent: a mistake costs one line, not an hour."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO
from urllib.parse import unquote

from search_spaces.arms import Study, corners, joint
from search_spaces.reported import Reported
from search_spaces.table import SPACES
from study.cluster import LOG_FILE
from study.options import Options
from trainables.config import InputError, Scalar, TrialConfig

LOCK_FILE = "lock"
#: How a SQLite file begins.
SQLITE_HEADER = b"SQLite format 3\0"


@contextlib.contextmanager
def claimed_folder(options: Options) -> Iterator[None]:
    """The study's folder, made for this study alone; if the block refuses the study, nothing made here stays.

    Raises:
        InputError: If the name is in use or the folder cannot be made.
    """
    made: list[Path] = []
    try:
        if is_begun(options.folder) and not options.resume:
            raise InputError(
                f"The study {options.name!r} exists already in {options.storage_path}; give another `--name`"
                f" or go on with `--resume {options.name}`."
            )
        made = [folder for folder in (options.folder, *options.folder.parents) if not folder.exists()]
        options.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _remove(made)
        raise InputError(
            f"`--storage-path` must be a folder that can be written; got {options.storage_path} ({error.strerror})."
        ) from error
    try:
        with _locked(options):
            yield
    except InputError:
        _remove(made)
        raise
    except BaseException:
        if made and not any(options.folder.iterdir()):  # interrupted before anything was done
            _remove(made)
        raise


def is_begun(folder: Path) -> bool:
    """Whether a study's folder is in use: it holds more than the lock or the log of a start that came to nothing."""
    if not folder.is_dir():
        return folder.exists()
    names = {path.name for path in folder.iterdir()}
    return not names or not names <= {LOCK_FILE, LOG_FILE}


@contextlib.contextmanager
def _locked(options: Options) -> Iterator[None]:
    """The folder is this process's; a lock of a process that died is none.

    Raises:
        InputError: If another process runs the study.
    """
    path = options.folder / LOCK_FILE
    with path.open("w") as file:
        if not _lock(file, path):
            raise InputError(f"The study {options.name!r} is running already in {options.storage_path}.")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _lock(file: IO[str], path: Path) -> bool:
    """Whether the lock is ours; its last holder may take the file away between our opening it and locking it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def check_store(options: Options) -> None:
    """A local MLflow database is one, or can be made in its folder; MLflow itself would try for minutes.

    Raises:
        InputError: If not.
    """
    if not options.tracking_uri.startswith("sqlite:///"):
        return
    path = Path(options.tracking_uri.removeprefix("sqlite:///"))
    if "?" in str(path) or unquote(str(path)) != str(path):
        raise InputError(
            "`--tracking-uri` must lead to its database without '?' or codes such as '%20', which SQLAlchemy would read"
            f" as something else; got {options.tracking_uri}."
        )
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(
            f"`--tracking-uri` must lie in a folder that can be written; got {options.tracking_uri} ({error.strerror})."
        ) from error
    try:
        is_database = not path.exists() or _is_database(path)
    except OSError:
        is_database = False
    if not is_database:
        raise InputError(
            f"`--tracking-uri` must name a SQLite database or a file yet to be made; got {options.tracking_uri}."
        )
    if path.exists() and not _may_hold_record(path):
        raise InputError(f"`--tracking-uri` names a database that is damaged or not MLflow's: {options.tracking_uri}.")


def check_resources(options: Options) -> None:
    """One trial fits on this machine, where it is the one that runs them.

    Raises:
        InputError: If not.
    """
    cores = os.cpu_count() or 1
    if options.address is None and options.cpus_per_trial > cores:
        raise InputError(f"`--cpus-per-trial` must be at most this machine's {cores}; got {options.cpus_per_trial:g}.")


def check_search(study: Study, options: Options) -> None:
    """The mode and the sampler can work on this space.

    Raises:
        InputError: If not.
    """
    if isinstance(study, Reported):
        return
    arms = [joint(study)] if options.mode == "joint" else study.arms
    if options.search == "grid":
        for arm in arms:
            next(arm.grid())


def parts_to_try(study: Study, options: Options) -> list[tuple[str, dict[str, Scalar]]]:
    """Configurations that show the parts of the space, each with its arm, for ``apart.try_parts``.

    The project's own parts in the project's own spaces have tests for that; where the user brings one, every arm is
    built once.

    Raises:
        InputError: If an arm gives no configuration.
    """
    if options.space in SPACES and options.model is None and not any(":" in arm for arm in options.arms or ()):
        return []
    found = []
    for arm in study.arms:
        known = set()
        for values in corners(arm):
            config = TrialConfig.from_flat(values)
            parts = config.loss, config.optimizer, config.second_optimizer, config.model
            if parts not in known:
                found.append((arm.name, dict(values)))
            known.add(parts)
    return found


def check_device(options: Options) -> None:
    """A GPU is there when one is asked for on this machine.

    Raises:
        InputError: If not.
    """
    if options.address is not None or (options.device != "cuda" and options.gpus_per_trial == 0):
        return
    import torch  # noqa: PLC0415 - only needed to ask for a GPU

    if options.device == "cuda" and not torch.cuda.is_available():
        raise InputError("`--device cuda` needs a CUDA device; torch sees none on this machine.")
    found = torch.cuda.device_count()
    if options.gpus_per_trial > found:
        raise InputError(
            f"`--gpus-per-trial {options.gpus_per_trial:g}` needs GPUs that this machine does not have; torch sees"
            f" {found}."
        )


def _is_database(path: Path) -> bool:
    """Whether SQLite would open it; an empty file is an empty database."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(SQLITE_HEADER)) in (SQLITE_HEADER, b"")


def _may_hold_record(path: Path) -> bool:
    """Whether a database is empty or MLflow's, which would retry a damaged one and fill any other with its tables."""
    try:
        # Read-write, so that SQLite may undo the unfinished write of a process that was killed.
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as connection:
            found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.OperationalError:  # locked: whoever holds it may let it go
        return True
    except sqlite3.DatabaseError:
        return False
    return not found or "experiments" in found


def _remove(made: Sequence[Path]) -> None:
    """Remove the study's folder, and its parents unless another study uses them by now."""
    for folder in made[:1]:
        shutil.rmtree(folder, ignore_errors=True)
    for parent in made[1:]:
        with contextlib.suppress(OSError):
            parent.rmdir()
