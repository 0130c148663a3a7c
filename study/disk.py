"""A disk that is full: that it is why something failed, and which folder lies on it."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from study.options import Options

#: How the system and SQLite say it; quotas too.
FULL = (f"[Errno {errno.ENOSPC}]", f"[Errno {errno.EDQUOT}]", "database or disk is full")


def says_full(text: str) -> bool:
    """Whether an error's text says that a disk is full."""
    return any(words in text for words in FULL)


def full_disk(error: BaseException | str, options: Options) -> str:
    """What to say of an error, or of its text, that comes from a full disk; nothing of any other.

    An error does not always know its file, so the study's folder or its database is named, whichever has less room.
    """
    texts = [error] if isinstance(error, str) else [str(cause) for cause in _causes(error)]
    if not any(map(says_full, texts)):
        return ""
    places = [options.folder]
    if options.tracking_uri.startswith("sqlite:///"):
        places.append(Path(options.tracking_uri.removeprefix("sqlite:///")).parent)
    free = {place: shutil.disk_usage(_existing(place)).free for place in places}
    fullest = min(places, key=free.__getitem__)
    return f"The disk of {fullest} is full ({free[fullest] / 1e6:.1f} MB left); make room."


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.is_dir())
