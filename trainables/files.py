"""Whether something is there, asked of a name that may be anything."""

from __future__ import annotations

import contextlib
from pathlib import Path


def is_file(path: Path) -> bool:
    """Whether a file is there; at a name that the system refuses, as one too long, there is none."""
    with contextlib.suppress(OSError):
        return path.is_file()
    return False


def is_dir(path: Path) -> bool:
    """Whether a folder is there, likewise."""
    with contextlib.suppress(OSError):
        return path.is_dir()
    return False
