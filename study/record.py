"""The record of a study's trials: what is told comes to MLflow in order and once, and nobody waits for the store."""

from __future__ import annotations

import itertools
import logging
import math
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from analysis.address import redact
from study.disk import says_full
from study.ledger import INTERRUPTED, Request
from study.runs import TrialRuns, batches
from study.spool import SPOOL_FILE, End, Item, Row, Start, read_spool, write_spool
from trainables.config import InputError

logger = logging.getLogger(__name__)

# Rows of one run that arrive within this time travel in one batch.
COLLECT_SECONDS = 1.0
RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0)
#: At the end of a study, a store that takes nothing for so long is left alone.
PATIENCE_SECONDS = 60.0
#: What MLflow will say again however often it is asked, as of a run that somebody deleted.
REFUSALS = {
    *("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"),
    "ENDPOINT_NOT_FOUND",  # a server older than the call
}


@dataclass(frozen=True)
class KnownRun:
    """A run that is on record already, of a study that is resumed.

    Args:
        run_id: MLflow's name for it.
        epoch: The greatest step of its metrics, 0 if it has none.
    """

    run_id: str
    epoch: int


class _GaveUpError(Exception):
    """The writer is to stop."""


class MlflowRecord:
    """The study's run and, under it, one run per trial; the driver is its only writer.

    Everything goes to one thread, in order, so that training never waits for the store. What the store does not take
    waits in memory, some 2 KB an epoch.

    Args:
        client: Client of the tracking store.
        experiment_id: Where the runs go.
        parent_run_id: The study's run.
        tags: Tags that every trial's run carries.
        dataset: ``dataset`` of ``study.json``, from which every run's inputs follow; without it they have none.
        folder: The study's, where what could not be written is left; without it :meth:`close` waits for ever.
        known: Runs on record by trial key, if the study is resumed: they are used again, and epochs up to theirs are
            skipped.
        on_ended: Told from the writer's thread the key of each trial whose end is on record; not of an interrupted
            one, which goes on when the study does.
        before: Called from the writer's thread before it writes: puts in safety what must never be older than MLflow's
            record. It is called again while it raises OSError.
        answers_get_lost: False for SQLite: what it was asked for is there, or the call has failed.
    """

    def __init__(
        self,
        client: MlflowClient,
        experiment_id: str,
        parent_run_id: str,
        tags: Mapping[str, str],
        dataset: Mapping[str, Any] | None = None,
        *,
        folder: Path | None = None,
        known: Mapping[str, KnownRun] | None = None,
        on_ended: Callable[[str], None] | None = None,
        before: Callable[[], None] | None = None,
        answers_get_lost: bool = True,
    ) -> None:
        self._runs = TrialRuns(
            client,
            experiment_id,
            parent_run_id,
            tags,
            dataset=dataset,
            known={key: run.run_id for key, run in (known or {}).items()},
            answers_get_lost=answers_get_lost,
        )
        self.parent_run_id = parent_run_id
        #: Writes that MLflow will never take, as of a run that somebody deleted; the log has each.
        self.refused = 0
        #: Why the store did not take the last write it was given; nothing if it did.
        self.trouble = ""
        self._folder = folder
        self._on_ended = on_ended
        self._before = before
        self._marks = {key: run.epoch for key, run in (known or {}).items()}
        self._open: set[str] = set()
        self._numbers = itertools.count()
        self._unwritten: dict[int, Item] = {}
        self._lock = threading.Lock()
        self._written = threading.Condition(self._lock)
        self._last_written = -math.inf
        self._told, self._hurry, self._gave_up = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._write, name="mlflow-writer", daemon=True)
        self._thread.start()

    @property
    def run_ids(self) -> Mapping[str, str]:
        """The run of each trial that has one, by key."""
        return self._runs.ids

    def start(self, request: Request) -> None:
        """Open a trial's run, once however often it is told: a trial that is tried again stays open."""
        self.tell(Start(request, _now()))

    def row(self, key: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record one epoch, once however often it is told: a trial that goes on tells all its epochs again."""
        # Names are held once, however many rows wait.
        self.tell(Row(key, epoch, {sys.intern(name): value for name, value in metrics.items()}, _now()))

    def end(self, key: str, stop_reason: str, tags: Mapping[str, str], final: Mapping[str, Any] | None = None) -> None:
        """Close a trial's run; one that was never opened, as of a trial that waited for its turn, needs no end."""
        if key in self._open:
            self.tell(End(key, stop_reason, dict(tags), final, _now()))

    def tell(self, item: Item) -> None:
        """Leave to the writer what is new of a trial; one trial's items come from one thread."""
        if isinstance(item, Row):
            if item.epoch <= self._marks.get(item.key, 0):
                return
            self._marks[item.key] = item.epoch
        elif isinstance(item, Start):
            if item.key in self._open:
                return
            self._open.add(item.key)
        else:
            self._open.discard(item.key)
        with self._lock:
            self._unwritten[next(self._numbers)] = item
            self._told.set()

    def drain(self, patience_seconds: float = PATIENCE_SECONDS) -> int:
        """Wait until everything told is written, as long as the store takes something now and then.

        Args:
            patience_seconds: How long it may take nothing; a store whose disk is full is not waited for.

        Returns:
            The number of items that are not written.
        """
        begun = time.monotonic()
        self._hurry.set()
        try:
            with self._written:
                while self._unwritten:
                    left = max(begun, self._last_written) + patience_seconds - time.monotonic()
                    if left <= 0 or (says_full(self.trouble) and math.isfinite(patience_seconds)):
                        break
                    self._written.wait(min(left, threading.TIMEOUT_MAX))
                return len(self._unwritten)
        finally:
            self._hurry.clear()

    def close(self, patience_seconds: float = PATIENCE_SECONDS) -> int:
        """Wait as :meth:`drain` does, then leave what is not written in the study's folder and write no more.

        Returns:
            The number of items left there; :func:`deliver_spool` writes them when the store is back.

        Raises:
            OSError: If the folder does not take them.
        """
        if not self._gave_up.is_set():
            self.drain(math.inf if self._folder is None else patience_seconds)
        self._gave_up.set()
        with self._lock:
            items = list(self._unwritten.values())
            self._told.set()
        if items and self._folder is not None:
            write_spool(self._folder, self.parent_run_id, items)
        else:
            self._hurry.set()
            self._thread.join()
        return len(items)

    def _write(self) -> None:
        while not self._gave_up.is_set():
            self._told.wait()
            self._hurry.wait(COLLECT_SECONDS)
            with self._lock:
                self._told.clear()
                items = dict(self._unwritten)
            try:
                self._write_items(items)
            except _GaveUpError:
                return

    def _write_items(self, items: Mapping[int, Item]) -> None:
        rows: dict[str, dict[int, Row]] = {}
        if self._before is not None:
            self._insist(self._before)
        for number, item in items.items():
            if isinstance(item, Row):
                rows.setdefault(item.key, {})[number] = item
                continue
            if isinstance(item, Start):
                for write in self._runs.start(item):
                    self._insist(write)
            else:
                self._write_rows(item.key, rows.pop(item.key, {}))
                self._write_end(item)
            self._strike_off([number])
        for key, left in rows.items():
            self._write_rows(key, left)

    def _write_rows(self, key: str, rows: Mapping[int, Row]) -> None:
        # Rows are never cut: a step on record is a whole row, or a resumed study would miss the rest of it.
        for batch in batches(rows):
            self._insist(partial(self._runs.rows, key, batch.values()))
            self._strike_off(batch)

    def _write_end(self, item: End) -> None:
        if self._insist(partial(self._runs.end, item)) and self._on_ended and item.stop_reason != INTERRUPTED:
            try:
                self._on_ended(item.key)
            except Exception:
                logger.exception("What follows the end of %s failed", item.key)

    def _strike_off(self, numbers: Iterable[int]) -> None:
        with self._written:
            for number in numbers:
                del self._unwritten[number]
            self._written.notify_all()

    def _insist(self, write: Callable[[], None]) -> bool:
        """Write; where the store does not answer, wait and write again, the order kept. Whether it was taken."""
        attempt = 0
        while not self._gave_up.is_set():
            try:
                write()
            except (MlflowException, OSError) as error:
                if getattr(error, "error_code", None) in REFUSALS:
                    return self._leave_out("MLflow refused a write, which is left out")
                with self._written:  # who waits may not want to any longer
                    self.trouble = _telling_line(error)
                    self._written.notify_all()
                if attempt == 0:
                    logger.warning("MLflow did not take a write (%s); trying again", self.trouble)
                self._gave_up.wait(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                attempt += 1
            except Exception:  # noqa: BLE001 - whatever it is, the next write may go well
                return self._leave_out("A write to MLflow failed and is left out")
            else:
                if attempt > 0:
                    logger.warning("MLflow took it at attempt %d", attempt + 1)
                self.trouble = ""
                self._last_written = time.monotonic()
                return True
        raise _GaveUpError

    def _leave_out(self, what: str) -> bool:
        logger.error("%s\n%s", what, redact(traceback.format_exc()))
        self.refused += 1
        self._last_written = time.monotonic()
        return False


def deliver_spool(folder: Path, record: MlflowRecord, patience_seconds: float = PATIENCE_SECONDS) -> int:
    """Write what a study's end left unwritten, and take the file away; before anything else is told to the record.

    It can be killed and done again: an epoch has the time at which it was first told, and MLflow keeps a value of one
    time once.

    Args:
        folder: The study's.
        record: The study's, which knows every run that is on record.
        patience_seconds: As for :meth:`MlflowRecord.drain`.

    Returns:
        The number of items written; 0 if nothing was left.

    Raises:
        InputError: If the file is not this study's spool, or MLflow does not take all of it.
    """
    spool = read_spool(folder)
    if spool is None:
        return 0
    path = folder / SPOOL_FILE
    if spool.study_run != record.parent_run_id:
        raise InputError(f"{path} belongs to another study (run {spool.study_run}).")
    for item in spool.items:
        record.tell(item)
    left = record.drain(patience_seconds)
    if left:
        why = f" ({record.trouble})" if record.trouble else ""
        raise InputError(f"MLflow did not take {left} of {len(spool.items)} items of {path}; they stay there{why}.")
    path.unlink()
    return len(spool.items)


def _telling_line(error: Exception) -> str:
    """The line of an error that says why: SQLAlchemy may begin with what it was about to do."""
    lines = str(error).splitlines() or [""]
    return redact(next((line for line in lines if says_full(line)), lines[0]))


def _now() -> int:
    return int(time.time() * 1000)
