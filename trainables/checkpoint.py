"""A trial's checkpoint: one file that goes on after a crash, and is believed only if it is whole and the trial's own.

It lies in the study's folder or in a bucket (:mod:`trainables.bucket`).

A file is a line of ASCII, ``training-choice-study checkpoint VERSION SHA256``, and then what ``torch.save`` makes of
the content. The SHA-256 is that of everything after the line. It finds damage, not a forger; against him the content is
loaded with ``weights_only=True``, which runs nothing. The driver removes checkpoints, so importing this needs no torch.
"""

from __future__ import annotations

import glob
import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables.bucket import Place, is_address, read_object, remove_object, write_object

MAGIC = "training-choice-study checkpoint"
#: Of the content; a file of another one is not read.
VERSION = 1


def write_checkpoint(place: Place, content: Mapping[str, Any]) -> None:
    """Put a checkpoint in place of the last one, which is kept as ``<name>.previous``, but not in a bucket.

    Args:
        place: Where to; a folder is made.
        content: What ``torch.load`` accepts with ``weights_only=True``; its ``trial`` says whose it is.

    Raises:
        OSError: If it cannot be written; then the last one is still there, and nothing of this one.
    """
    import torch  # noqa: PLC0415

    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    payload = buffer.getbuffer()
    header = f"{MAGIC} {VERSION} {hashlib.sha256(payload).hexdigest()}\n"
    previous = None if is_address(place) else _previous(Path(place))
    replace_file(place, header.encode(), payload, previous=previous)


def read_checkpoint(place: Place, trial: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The content of a trial's checkpoint, or of the one before it where that is not good.

    A file that is refused is removed, or the next one written would put it in the place of a good one.

    Args:
        place: As given to ``write_checkpoint``.
        trial: What the content's ``trial`` must equal.

    Returns:
        The content, its tensors on the CPU, or None if there is no good file; and what was wrong with a file that was
        refused and what is done instead, in a sentence, or nothing.
    """
    refused = []
    content = None
    for file in (place,) if is_address(place) else (Path(place), _previous(Path(place))):
        name = Path(file).name
        try:
            content = _load(file, trial)
            break
        except FileNotFoundError:
            continue
        except OSError as error:
            refused.append(f"{name} cannot be read ({error.strerror or type(error).__name__})")
        except ValueError as error:
            refused.append(f"{name} {error}")
            _remove_refused(file)
    if not refused:
        return content, ""
    instead = "the trial starts from scratch" if content is None else "the one before it is used instead"
    return content, f"The checkpoint {' and '.join(refused)}; {instead}."


def remove_checkpoint(place: Place) -> None:
    """Remove a trial's checkpoint, the one before it, and what a killed process left half-written; any may be missing.

    Raises:
        OSError: If a file that is there cannot be removed.
    """
    if is_address(place):
        remove_object(str(place))
        return
    path = Path(place)
    for file in (path, _previous(path), *path.parent.glob(f"{glob.escape(path.name)}.*.partial")):
        file.unlink(missing_ok=True)


def replace_file(place: Place, *parts: bytes | memoryview, previous: Path | None = None) -> None:
    """Write a file or an object whole or not at all; a file on the disk and not only on its way there.

    Args:
        place: Where to; a folder is made.
        parts: The file's bytes, one after another.
        previous: Where to move the file that is at ``place``; it is overwritten by default.

    Raises:
        OSError: If it cannot be written; no half of it is left.
    """
    if is_address(place):
        write_object(str(place), *parts)
        return
    path = Path(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.is_file():
            path.replace(previous)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _previous(path: Path) -> Path:
    return path.with_name(f"{path.name}.previous")


def _load(file: Place, trial: Mapping[str, Any]) -> dict[str, Any]:
    """The content, or a ValueError that says what the file is instead of a checkpoint of the trial."""
    import torch  # noqa: PLC0415

    header, _, payload = _read(file).partition(b"\n")
    magic, _, rest = header.decode("ascii", errors="replace").rpartition(" ")[0].rpartition(" ")
    if magic != MAGIC:
        raise ValueError("is empty or no checkpoint")
    if rest != str(VERSION):
        raise ValueError(f"has the format {rest!r} and not {str(VERSION)!r}")
    if header.rpartition(b" ")[2].decode("ascii", errors="replace") != hashlib.sha256(payload).hexdigest():
        raise ValueError("is damaged: its digest is another")
    try:
        content = dict(torch.load(io.BytesIO(payload), weights_only=True, map_location="cpu"))
        other = [key for key, value in trial.items() if content["trial"].get(key) != value]
    except Exception as error:  # a strange content may make the loader raise anything
        raise ValueError("holds what no checkpoint holds") from error
    if other:
        raise ValueError(f"is of another trial (by its {', '.join(other)})")
    return content


def _read(file: Place) -> bytes:
    if is_address(file):
        return read_object(str(file))
    path = Path(file)
    if path.exists() and not path.is_file():
        raise ValueError("is no regular file")  # opening a pipe would wait for ever
    return path.read_bytes()


def _remove_refused(file: Place) -> None:
    if is_address(file):  # the next one takes its place, and nothing before it is kept
        return
    try:
        Path(file).unlink()
    except OSError:  # a folder, say: then no checkpoint can be written here either, which is noticed there
        return
