"""What the study has asked for and what came back, trial by trial, in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from study.failures import Failure
from trainables.config import Scalar

COMPLETED, PRUNED, DIVERGED, FAILED, INTERRUPTED = "completed", "pruned", "diverged", "failed", "interrupted"
SEARCH, CONFIRM, CONTROL = "search", "confirm", "control"


@dataclass(frozen=True)
class Request:
    """One trial to run.

    Args:
        arm: The arm it counts for.
        phase: ``search``, ``confirm`` or ``control``.
        number: Its number within arm (search) or its seed (confirm, control).
        config: The flat ``TrialConfig``.
        group: The Optuna study that asked for it; None outside the search.
        regime: ``search``, or ``stated`` or ``fair`` in a reported study.
    """

    arm: str
    phase: str
    number: int
    config: Mapping[str, Scalar]
    group: str | None = None
    regime: str = SEARCH

    @property
    def key(self) -> str:
        """Names the trial for good, across restarts."""
        phase = self.phase if self.regime == SEARCH else f"{self.regime}-{self.phase}"
        return f"{self.arm}/{phase}/{self.number}"

    @property
    def stage(self) -> str:
        """The part of the study it belongs to, as the terminal counts it."""
        phase = SEARCH if self.phase == SEARCH else CONFIRM
        return phase if self.regime == SEARCH else f"{self.regime} {phase}"

    @property
    def run_name(self) -> str:
        """How MLflow shows it."""
        kind = {SEARCH: f"{self.number:03d}", CONFIRM: f"seed-{self.number}", CONTROL: f"control-seed-{self.number}"}
        regime = "" if self.regime == SEARCH else f"{self.regime}-"
        return f"{self.arm}-{regime}{kind[self.phase]}"


@dataclass
class TrialRecord:
    """A request and its state so far.

    Args:
        epoch: The last that was told of.
        untold: The last that was trained, where nothing is told before the trial's end.
        seconds: What its epochs took, told or not.
    """

    request: Request
    epoch: int = 0
    untold: int = 0
    val_accuracy: float = float("nan")
    val_nll: float = float("inf")
    seconds: float = 0.0
    diverged: bool = False
    failures: list[Failure] = field(default_factory=list)
    stop_reason: str | None = None

    @property
    def trained(self) -> int:
        """Epochs done, told of or not."""
        return max(self.epoch, self.untold)


@dataclass
class Ledger:
    """All records of one study, in the order they were opened."""

    records: dict[str, TrialRecord] = field(default_factory=dict)
    _noted: dict[str, Failure] = field(default_factory=dict)

    def open(self, request: Request) -> TrialRecord:
        """Start a record."""
        record = self.records[request.key] = TrialRecord(request)
        return record

    def adopt(self, request: Request, result: Mapping[str, Any]) -> TrialRecord:
        """Take over a trial that ended before the study was resumed; ``result`` holds its stop reason too."""
        record = self.open(request)
        self.update(request.key, result)
        record.stop_reason = str(result["stop_reason"])
        return record

    def update(self, key: str, result: Mapping[str, Any]) -> TrialRecord:
        """Take over a result; a result told twice counts once."""
        record = self.records[key]
        if result["epoch"] > record.epoch:
            record.epoch, record.untold = int(result["epoch"]), 0
            record.val_accuracy = float(result["val_accuracy"])
            record.val_nll = float(result["val_nll"])
            record.seconds = float(result["trial_seconds"])
            record.diverged = bool(result["diverged"])
        return record

    def close(self, key: str, *, failed: bool) -> TrialRecord:
        """End a record; the reason follows from how far it came unless it was interrupted before."""
        record = self.records[key]
        if record.stop_reason is None:
            record.stop_reason = _stop_reason(record, failed=failed)
        return record

    def note_untold(self, key: str, epoch: int, seconds: float) -> None:
        """Note how far a trial has come of which nothing is told before its end, and what that took."""
        self.records[key].untold, self.records[key].seconds = epoch, seconds

    def note_failure(self, key: str, failure: Failure) -> None:
        """Note why a trial has just failed."""
        self._noted[key] = failure

    def fail(self, key: str) -> list[Failure]:
        """Count a failure, its own where no other reason was noted; returns all of the trial's."""
        record = self.records[key]
        record.failures.append(self._noted.pop(key, Failure()))
        if record.untold:  # as if it had not been trained
            record.untold, record.seconds = 0, 0.0
        return record.failures

    def note_end(self, key: str, stop_reason: str) -> None:
        """Note why a trial is ended, where that does not follow from how far it came."""
        self.records[key].stop_reason = stop_reason

    def of_phase(self, phase: str) -> list[TrialRecord]:
        """The records of one phase."""
        return [record for record in self.records.values() if record.request.phase == phase]

    def running(self) -> list[TrialRecord]:
        """The records without an end."""
        return [record for record in self.records.values() if record.stop_reason is None]


def choose_winner(records: Iterable[TrialRecord]) -> TrialRecord | None:
    """The completed trial with the highest validation accuracy at its last epoch.

    Ties go to fewer epochs, then to the lower NLL, then to the earlier trial. None if nothing completed.
    """
    completed = [record for record in records if record.stop_reason == COMPLETED]
    return min(
        completed,
        key=lambda record: (-record.val_accuracy, record.epoch, record.val_nll, record.request.number),
        default=None,
    )


def _stop_reason(record: TrialRecord, *, failed: bool) -> str:
    if failed:
        return FAILED
    if record.diverged:
        return DIVERGED
    return COMPLETED if record.epoch >= int(record.request.config["epochs"]) else PRUNED
