"""What a process runs: the versions and the code that decide a trial's numbers, compared between machines."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path

#: What decides a trial's numbers.
PACKAGES = ("search_spaces", "study", "trainables")
VERSIONED = ("ray", "torch", "torchvision", "optuna", "numpy")
ROOT = Path(__file__).resolve().parent.parent
#: Names the code in :func:`describe_environment`.
CODE = "this project's code"
NOT_INSTALLED = "not installed"


class OtherEnvironmentError(Exception):
    """A node runs other versions or other code than the study's."""


def describe_environment() -> dict[str, str]:
    """Versions of Python and of the packages, and a digest of this project's code, as this process would import them.

    What a build adds to a version, as in ``2.1.0+cpu``, is left out: a machine without a GPU may well have another
    build of torch than one with it.
    """
    found = {"python": platform.python_version()} | {name: _version(name) for name in VERSIONED}
    return found | {CODE: digest_code()[:12]}


def digest_code(names: Iterable[str] = ()) -> str:
    """A digest of the code that decides a trial's numbers.

    Args:
        names: The user's own parts, ``package.module:name`` or ``file.py``; any other name is passed over.
    """
    files = [file for package in PACKAGES for file in sorted((ROOT / package).glob("*.py"))]
    files += [found for name in names if (found := _file_of(name))]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> str:
    """What differs, as ``its torch is 2.1.0 and not 2.2.0``; empty if nothing does."""
    others = [f"{name} is {found.get(name, NOT_INSTALLED)} and not {value}" for name, value in expected.items()
              if found.get(name) != value]  # fmt: skip
    return f"its {', '.join(others)}" if others else ""


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return NOT_INSTALLED


def _file_of(name: str) -> Path | None:
    """The file that a user's own part stands in; None if it is not one."""
    if name.endswith(".py"):
        return Path(name)
    module, colon, _ = name.partition(":")
    spec = importlib.util.find_spec(module) if colon else None
    return Path(spec.origin) if spec and spec.origin else None
