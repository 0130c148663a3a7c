"""What of a study must outlive the driver's machine: in a bucket, copies of the driver's files, made as they grow.

Workers write checkpoints and weights into the bucket themselves. Without a bucket the study's folder is the storage,
and nothing is copied.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from analysis.address import short_reason
from study.confirm import CHECKPOINTS, MODELS, checkpoint_path
from study.options import Options
from trainables.bucket import is_address, list_objects, read_object, remove_object, remove_objects, write_object
from trainables.checkpoint import remove_checkpoint, replace_file
from trainables.config import InputError

#: An object that shows that the bucket takes objects; it does not stay.
PROBE = "probe"


class Mirror:
    """Keeps copies of some of the driver's files beside the study's checkpoints.

    Args:
        options: The flags.
        names: The files, in the study's folder.
    """

    def __init__(self, options: Options, names: Iterable[str]) -> None:
        self._folder, self._shared = options.folder, options.shared
        # Nothing is known of a file's copy before the first time.
        self._copied: dict[str, tuple[int, int] | None] = dict.fromkeys(names, (-1, -1))

    def push(self) -> None:
        """Copy what has changed since the last time; a file that is gone goes there too.

        Raises:
            OSError: If the bucket does not take it.
        """
        if not is_address(self._shared):
            return
        for name, copied in self._copied.items():
            file, address = self._folder / name, f"{self._shared}/{name}"
            state = _state(file)
            if state == copied:
                continue
            if state is None:
                remove_object(address)
            else:
                write_object(address, file.read_bytes())  # may hold more than `state` knew: then it is copied again
            self._copied[name] = state


def _state(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


def fetch_files(options: Options, journal: str, others: Iterable[str]) -> None:
    """Bring a study's files to this machine, whose own are kept if nobody has gone on from the bucket since.

    Args:
        options: The flags.
        journal: The file that only ever grows, by which that is seen.
        others: What belongs to it.

    Raises:
        InputError: If the bucket does not answer.
    """
    if not is_address(options.shared):
        return
    try:
        theirs = _read(f"{options.shared}/{journal}")
        ours = options.folder / journal
        if ours.is_file() and theirs is not None and ours.read_bytes().startswith(theirs):
            return
        for name, content in [(journal, theirs), *((name, _read(f"{options.shared}/{name}")) for name in others)]:
            if content is not None:
                replace_file(options.folder / name, content)
    except OSError as error:
        raise InputError(f"`--storage-path {options.bucket}` cannot be read: {short_reason(error)}") from error


def _read(address: str) -> bytes | None:
    with contextlib.suppress(FileNotFoundError):
        return read_object(address)
    return None


def check_bucket(options: Options) -> None:
    """A bucket takes objects and gives them back; a new study finds nothing under its name there.

    Raises:
        InputError: If not.
    """
    if not is_address(options.shared):
        return
    try:
        taken = next(list_objects(str(options.shared)), None) if not options.resume else None
        if taken is None:
            write_object(f"{options.shared}/{PROBE}", b"")
            remove_object(f"{options.shared}/{PROBE}")
    except OSError as error:
        raise InputError(
            f"`--storage-path` must be a bucket that can be read and written; got {options.bucket}"
            f" ({short_reason(error)})."
        ) from error
    if taken is not None:
        raise InputError(
            f"The study {options.name!r} exists already in {options.bucket}; give another `--name`"
            f" or go on with `--resume {options.name}`."
        )


def remove_checkpoints(options: Options, keys: Iterable[str] | None = None) -> None:
    """Remove the checkpoints of some trials, or all; what cannot be removed stays."""
    with contextlib.suppress(OSError):
        if keys is None:
            _remove_folder(options, CHECKPOINTS)
        elif is_address(options.shared):  # one question, however many trials there are
            folder = f"{options.shared}/{CHECKPOINTS}"
            left = {f"{folder}/{name}" for name in list_objects(folder)}
            for key in keys:
                if (place := checkpoint_path(options.shared, key)) in left:
                    remove_checkpoint(place)
        else:
            for key in keys:
                remove_checkpoint(checkpoint_path(options.shared, key))


def fetch_weights(options: Options) -> None:
    """Bring what confirm trials left in the bucket to the study's folder.

    Raises:
        OSError: If the bucket does not answer.
    """
    if not is_address(options.shared):
        return
    for name in list_objects(f"{options.shared}/{MODELS}"):
        replace_file(options.folder / MODELS / name, read_object(f"{options.shared}/{MODELS}/{name}"))


def share_report(options: Options, files: Sequence[Path]) -> str:
    """Put a study's page and tables where they outlive this machine; where the first of them, the page, is found."""
    if not is_address(options.shared):
        return str(files[0])
    try:
        for file in files:
            write_object(f"{options.shared}/{file.name}", file.read_bytes())
    except OSError as error:
        return f"{files[0]} ({options.bucket} did not take it: {short_reason(error)})"
    return f"{options.shared}/{files[0].name}"


def remove_weights(options: Options) -> None:
    """Remove the weights of all confirm trials; what cannot be removed stays."""
    shutil.rmtree(options.folder / MODELS, ignore_errors=True)
    with contextlib.suppress(OSError):
        _remove_folder(options, MODELS)


def _remove_folder(options: Options, name: str) -> None:
    if is_address(options.shared):
        remove_objects(f"{options.shared}/{name}")
    else:
        shutil.rmtree(options.folder / name, ignore_errors=True)
