"""What the store has yet to take of a study, kept in a file when the study ends before it does.

One JSON object a line, as Python writes it (not a number is ``NaN``): first which study's it is, then what was told, in
order.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from study.ledger import Request
from trainables.config import InputError

logger = logging.getLogger(__name__)

SPOOL_FILE = "spool.jsonl"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Start:
    """A trial began; ``time`` is in milliseconds since 1970, here and below."""

    request: Request
    time: int

    @property
    def key(self) -> str:
        """Of the trial."""
        return self.request.key


@dataclass(frozen=True, slots=True)
class Row:
    """An epoch of a trial, complete."""

    key: str
    epoch: int
    metrics: Mapping[str, float]
    time: int


@dataclass(frozen=True, slots=True)
class End:
    """A trial ended."""

    key: str
    stop_reason: str
    tags: Mapping[str, str]
    final: Mapping[str, Any] | None
    time: int


Item = Start | Row | End
KINDS: Mapping[str, type[Item]] = {"start": Start, "row": Row, "end": End}


@dataclass(frozen=True)
class Spool:
    """What a spool holds.

    Args:
        study_run: The study's run.
        items: What was told, in order.
    """

    study_run: str
    items: list[Item]


def write_spool(folder: Path, study_run: str, items: Iterable[Item]) -> Path:
    """Write a study's spool, whole or not at all, in place of the one before; its path.

    Raises:
        OSError: If the folder does not take it.
    """
    path = folder / SPOOL_FILE
    unfinished = folder / f".{SPOOL_FILE}.{os.getpid()}"
    items = list(items)
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            head = {"spool": VERSION, "study_run": study_run, "items": len(items)}
            file.write(json.dumps(head) + "\n")
            file.writelines(f"{_to_line(item)}\n" for item in items)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def read_spool(folder: Path) -> Spool | None:
    """A study's spool, or None if there is none.

    A line torn off at the end is left out and logged: what it said is told again by its trial, which has not ended.

    Raises:
        InputError: If the file is no spool, or of another version.
    """
    path = folder / SPOOL_FILE
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}.") from error
    try:
        head = json.loads(lines[0])
        version, study_run, count = (head[key] for key in ("spool", "study_run", "items"))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no spool of a study.") from error
    if version != VERSION:
        raise InputError(f"{path} is a spool of version {version!r}; this code reads version {VERSION}.")
    told = [line for line in lines[1:] if line]
    items: list[Item] = []
    for number, line in enumerate(told, 1):
        try:
            items.append(_from_line(line))
        except (ValueError, KeyError, TypeError) as error:
            if number < len(told):
                raise InputError(f"{path} is damaged in line {number + 1}.") from error
    if len(items) < count:
        logger.warning("%s was torn off: %d of %d items are left", path, len(items), count)
    return Spool(study_run, items)


def _to_line(item: Item) -> str:
    kind = next(name for name, cls in KINDS.items() if isinstance(item, cls))
    values: dict[str, Any] = {field.name: getattr(item, field.name) for field in fields(item)}
    if isinstance(item, Start):
        values["request"] = asdict(item.request)
    elif isinstance(item, Row):
        values["metrics"] = {name: float(value) for name, value in item.metrics.items()}
    # What is no JSON becomes text, as in MLflow's own `log_dict`.
    return json.dumps({"kind": kind, **values}, default=str)


def _from_line(line: str) -> Item:
    read = json.loads(line)
    cls = KINDS[read["kind"]]
    values = {name: value for name, value in read.items() if name != "kind"}
    if cls is Start:
        values["request"] = Request(**values["request"])
    return cls(**values)
