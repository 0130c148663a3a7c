"""One ASHA per arm: weak trials are stopped by better trials of their own arm, never by another arm's."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

from search_spaces.arms import Study
from study.disk import says_full
from study.ledger import INTERRUPTED, PRUNED, SEARCH, Ledger, Request
from study.packs import keys_of
from study.placement import Placement

REDUCTION_FACTOR = 3
MIN_GRACE_EPOCHS = 3
#: Of 16 configurations it stops the best in 6 to 9%; an eighth, in 13 to 15% (docs/performance.md).
GRACE_SHARE = 1 / 5
#: Rungs at a share of a schedule are whole millionths of a percent.
PARTS = 1_000_000


@dataclass(frozen=True)
class RungPlan:
    """When trials of an arm are compared.

    Args:
        time_attribute: ``epoch``, or ``schedule_percent`` where a schedule runs over the trial's own epochs:
            then trials meet at equal fractions of it.
        grace_period: The first rung.
        max_time: The most any trial can reach.
    """

    time_attribute: str
    grace_period: float
    max_time: float

    @property
    def rungs(self) -> list[float]:
        """The times at which a trial may be stopped, ascending."""
        rungs, time = [], self.grace_period
        while time < self.max_time - 10 / PARTS:  # a third of a schedule, tripled, is its end
            rungs.append(time)
            time *= REDUCTION_FACTOR
        return rungs


def schedule_of(study: Study) -> str:
    """``cosine`` if any arm's learning rate follows it: then all arms' trials meet at fractions of their epochs."""
    return "cosine" if any(arm.fixed.get("schedule") == "cosine" for arm in study.arms) else "constant"


def plan_rungs(study: Study, *, stopping: str, schedule: str) -> RungPlan | None:
    """The rungs of a study, or None where nothing is stopped.

    The grace period is at least three epochs and a fifth of the longest trial: losses that bloom late (focal
    with a large gamma, deep networks) must have bloomed. Where epochs are the question, stopping would answer it.
    """
    if stopping == "none" or study.searches_epochs_as_factor:
        return None
    if schedule == "cosine":
        # Cut, not rounded: a trial that is a rounding error short of its rung would be looked at an epoch late.
        grace = max(math.floor(100 * PARTS * MIN_GRACE_EPOCHS / study.min_epochs) / PARTS, 100 * GRACE_SHARE)
        return RungPlan("schedule_percent", grace, 100) if grace < 100 else None  # noqa: PLR2004 - percent
    grace = max(MIN_GRACE_EPOCHS, -(-study.max_epochs // round(1 / GRACE_SHARE)))
    return RungPlan("epoch", grace, study.max_epochs) if grace < study.max_epochs else None


@dataclass(frozen=True)
class _Named:
    """A trial as ASHA's rungs know it: by its key, which outlives the process, and not by Ray's id."""

    trial_id: str


class _Unsaved(set[Any]):
    """The trials whose state Tune is to save: none. Saved at the end, it stays in memory too, 20 KB a trial."""

    def add(self, trial: Any) -> None:
        """Leave it out."""


class ArmScheduler(FIFOScheduler):  # type: ignore[misc]
    """Hands each search trial to its own arm's ASHA and lets every other trial run.

    Args:
        ledger: Where a trial that the study ends is noted as interrupted.
        plan: The rungs; None stops nothing.
        expired: Whether a phase is out of time (``--time-budget``).
        ends: Of trials that were stopped before the study was resumed, and that MLflow still has to hear of: the epoch
            and the reason. They stop there again.

    ``placement`` decides on the resources of each trial; without it they are those of the Tune run. ``kept_workers`` is
    how many workers stay between two phases, when nothing waits for them for a moment; Tune would keep one.
    With ``unsaved`` Tune saves no trial's state, which nobody would read.
    """

    def __init__(
        self,
        ledger: Ledger,
        plan: RungPlan | None,
        expired: Callable[[str], bool],
        ends: Mapping[str, tuple[int, str]] | None = None,
    ) -> None:
        super().__init__()
        self._ledger = ledger
        self._plan = plan
        self._expired = expired
        self._ends = dict(ends or {})
        self._arms: dict[str, ASHAScheduler] = {}
        self.placement: Placement | None = None
        self.kept_workers = 0
        self.unsaved = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune pickles its scheduler; ours is rebuilt from the ledger, so the pickle holds nothing."""
        return (dict, ())

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Give a trial its resources, and enter a search trial at its arm's ASHA."""
        if self.placement is not None:
            trial.update_resources(self.placement.request(trial.config["key"]))
        if self.unsaved:
            tune_controller._tune_controller._trials_to_cache = _Unsaved()  # noqa: SLF001 - Ray's version is pinned
        if self.kept_workers:
            workers = tune_controller._tune_controller._actor_cache  # noqa: SLF001 - Ray's version is pinned
            workers.increase_max(trial.placement_group_factory, self.kept_workers)
            self.kept_workers = 0
        asha = self._asha(trial.config["arm"], trial.config["phase"])
        if asha is not None:
            asha.on_trial_add(tune_controller, _Named(trial.config["key"]))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Continue, or stop by the arm's ASHA or by the clock."""
        key = trial.config["key"]
        if self.placement is not None:
            self.placement.reported(trial.config["arm"], result)
        if key in self._ends and result["epoch"] >= self._ends[key][0]:
            self._ledger.note_end(key, self._ends[key][1])
            return str(self.STOP)
        if self._expired(trial.config["phase"]):
            self._ledger.note_end(key, INTERRUPTED)
            return str(self.STOP)
        asha = self._asha(trial.config["arm"], trial.config["phase"])
        return str(self.CONTINUE if asha is None else asha.on_trial_result(tune_controller, _Named(key), result))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Tell the arm's ASHA the last result, and let go of what Tune keeps of the trial's metrics."""
        # 30 KB of running means, which nobody asks Tune for: of ten thousand trials a third of a gigabyte.
        trial.run_metadata.metric_analysis.clear()
        trial.run_metadata.metric_n_steps.clear()
        asha = self._asha(trial.config["arm"], trial.config["phase"])
        if asha is not None:
            asha.on_trial_complete(tune_controller, _Named(trial.config["key"]), result)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Note why it failed; blame no trial for a full disk, on which the next would fail too: the study ends.

        Raises:
            OSError: If the trial failed for that.
        """
        trial.run_metadata.pickled_error_filename = None  # Tune would unpickle it at the end of the run
        text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace") if trial.error_file else ""
        if says_full(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.placement is not None:
            for key in keys_of(trial.config):
                self.placement.failed(key, text, str((trial.last_result or {}).get("node_id", "")))

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Forget a trial."""
        asha = self._asha(trial.config["arm"], trial.config["phase"])
        if asha is not None:
            asha.on_trial_remove(tune_controller, _Named(trial.config["key"]))

    def recall(self, request: Request, reports: Mapping[int, float], *, ended: bool) -> None:
        """Put what a search trial reported before the study was resumed on its arm's rungs.

        One that has not ended may have been killed between its last report and its stop: the same rungs say so again.

        Args:
            request: The trial.
            reports: Validation accuracy by epoch, in order.
            ended: Whether it has; those that have are recalled first, since they were there before.
        """
        asha = self._asha(request.arm, request.phase)
        if asha is None:
            return
        trial, decision = _Named(request.key), self.CONTINUE
        asha.on_trial_add(None, trial)
        for epoch, val_accuracy in reports.items():
            percent = 100.0 * epoch / int(request.config["epochs"])
            result = {"epoch": epoch, "schedule_percent": percent, "val_accuracy": val_accuracy}
            decision = asha.on_trial_result(None, trial, result)
        if decision == self.STOP and not ended and epoch < int(request.config["epochs"]):
            self._ends[request.key] = (epoch, PRUNED)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The trial that waits; only live ones are looked at, so that ten thousand ended ones cost nothing.

        One whose own worker is starting does not wait: a worker that is free would take it, and Tune end the other,
        which would then start for the next, and, while trials are shorter than a start, never train any.
        """
        controller = tune_controller._tune_controller  # noqa: SLF001 - Ray's version is pinned
        alive = set(controller._actor_manager.live_actors)  # noqa: SLF001 - likewise
        workers = controller._trial_to_actor  # noqa: SLF001 - likewise
        waiting = [
            trial
            for trial in tune_controller.get_live_trials()
            if trial.status == "PENDING" and workers.get(trial) not in alive
        ]
        return min(waiting, key=lambda trial: trial.config["index"], default=None)

    def _asha(self, arm: str, phase: str) -> ASHAScheduler | None:
        if self._plan is None or phase != SEARCH:
            return None
        if arm not in self._arms:
            self._arms[arm] = ASHAScheduler(
                time_attr=self._plan.time_attribute,
                metric="val_accuracy",
                mode="max",
                grace_period=self._plan.grace_period,
                max_t=self._plan.max_time,
                reduction_factor=REDUCTION_FACTOR,
            )
        return self._arms[arm]
