"""A bad input, and a place where it does no harm: what an entry function does with it, and what it leaves."""

import contextlib
import importlib
import io
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: In memory where the system has such a folder: thousands of small folders are made and removed.
MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Link:
    """A symbolic link to make."""

    target: str


@dataclass(frozen=True)
class Case:
    """A command line, and what lies about when it is typed.

    Args:
        arguments: Of the command.
        files: Path below the working directory → content, ``None`` for a folder, or a link.
        command: The module whose ``main`` is called.
    """

    arguments: tuple[str, ...]
    files: Mapping[str, bytes | Link | None] = field(default_factory=dict)
    command: str = "study.launch"


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """Of the error stream."""
        return self.err.splitlines()


@contextlib.contextmanager
def workplace(case: Case) -> Iterator[tuple[Path, dict[str, str]]]:
    """A fresh working directory with the case's files, and the environment: home and temporary files beside it."""
    place = Path(tempfile.mkdtemp(prefix="bad-input-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
    try:
        for name in ("work", "home", "temporary"):
            (place / name).mkdir()
        for name, content in case.files.items():
            path = place / "work" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.mkdir(exist_ok=True)
            elif isinstance(content, Link):
                path.symlink_to(content.target)
            else:
                path.write_bytes(content)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "RAY_", "XDG_"))}
        own = {"HOME": str(place / "home"), "TMPDIR": str(place / "temporary"), "PYTHONDONTWRITEBYTECODE": "1"}
        yield place, {**kept, **own}
    finally:
        shutil.rmtree(place)


def contents(place: Path) -> dict[str, bytes | str | None]:
    """Everything below a folder."""
    listing: dict[str, bytes | str | None] = {}
    for folder, folders, files in os.walk(place):
        for name in [*folders, *files]:
            path = Path(folder, name)
            key = str(path.relative_to(place))
            if path.is_symlink():
                listing[key] = str(path.readlink())
            else:
                listing[key] = path.read_bytes() if name in files else None
    return listing


def call(case: Case, place: Path, environment: Mapping[str, str]) -> Outcome:
    """Call the entry function in this process, everything as it was afterwards."""
    out, err = io.StringIO(), io.StringIO()
    before = os.environ.copy(), list(sys.path), set(sys.modules), Path.cwd(), tempfile.tempdir
    try:
        os.chdir(place / "work")
        os.environ.clear()
        os.environ.update(environment)
        tempfile.tempdir = None
        sys.path.insert(0, "")
        importlib.invalidate_caches()
        module = importlib.import_module(case.command)
        main = importlib.import_module(f"{case.command}.__main__" if hasattr(module, "__path__") else case.command).main
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(record=True) as w,
        ):
            warnings.simplefilter("default")
            try:
                code = main(list(case.arguments))
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        for warning in w:
            err.write(warnings.formatwarning(warning.message, warning.category, warning.filename, warning.lineno))
    finally:
        os.chdir(before[3])
        os.environ.clear()
        os.environ.update(before[0])
        sys.path[:] = before[1]
        tempfile.tempdir = before[4]
        # A user's own module of the next example bears the same name.
        for name in set(sys.modules) - before[2]:
            if name.startswith(("space_", "own")):
                del sys.modules[name]
    return Outcome(code, out.getvalue(), err.getvalue())
