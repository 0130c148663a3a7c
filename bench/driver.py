"""Results through the driver's own searcher, scheduler and tracker, called as Tune calls them, without Ray.

A result is an epoch of a trial of the space ``full``, with twenty metrics (``bench.reporting``). The searcher journals
to a file and the tracker writes to SQLite, as in a study on one machine. *Dealt with* is what the driver's thread
sustains while the record's writer runs beside it: the time that its calls took, without that of making results up. *On
record* is what holds to the end, the writer's rest waited for: where results come faster than that, they wait in
memory.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from ray.tune.trainable.metadata import _TrainingRunMetadata

from bench.measure import Figure, Measurement, Result
from bench.reporting import Reporter
from study.conduct import Conduct, conduct_search, describe_rungs, stopping_rule
from study.launch import parse_options
from study.ledger import Ledger
from study.looks import describe_looks, plan_looks
from study.protocol import describe_study, resolve_study
from study.record import MlflowRecord
from study.start import load_data
from study.tracking import MlflowCallback, connect, start_study_run

#: Of each of the space's ten arms.
TRIALS = 100
SLOTS = 16


@dataclass
class Driven:
    """What driving a study came to.

    Args:
        results: Reports dealt with.
        seconds: What its calls took.
        spent: Seconds that the driver's thread computed in the ``searcher``, the ``scheduler`` and the ``tracker``.
        ends: For each trial, what had been spent when it ended.
        recorded_seconds: From the first proposal until everything was on record.
        writer_processor_seconds: Processor time of the writer's thread.
        waiting: The most that waited to be written, in trials' starts, epochs and ends.
    """

    results: int = 0
    seconds: float = 0.0
    spent: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    ends: list[float] = field(default_factory=list)
    recorded_seconds: float = 0.0
    writer_processor_seconds: float = 0.0
    waiting: int = 0


def measure(trials: int = TRIALS) -> Result:
    """One study of so many search trials an arm, and its confirmation."""
    with tempfile.TemporaryDirectory() as folder:
        driven = drive(Path(folder), "--space", "full", "--trials", str(trials))
    rates = {"dealt with": driven.seconds, "on record": driven.recorded_seconds}
    figures = [
        Figure(name=f"results {what}, no Ray", ours=driven.results / seconds, unit="1/s")
        for what, seconds in rates.items()
    ]
    figures += [
        Figure(name=f"processor, a result, {part}", ours=1e3 * spent / driven.results, unit="ms")
        for part, spent in [*driven.spent.items(), ("writer", driven.writer_processor_seconds)]
    ]
    figures.append(Figure(name="starts, epochs and ends that waited for the writer", ours=driven.waiting, unit=""))
    return Result(
        figures, [Measurement("spent when a trial ended", i, end, "s") for i, end in enumerate(driven.ends, 1)]
    )


def drive(folder: Path, *flags: str, slots: int = SLOTS) -> Driven:
    """Deal out a study's trials, report for them and record it all.

    Args:
        folder: For the journal, the database and artifacts.
        flags: Of the command line; every trial of the space needs a learning rate.
        slots: Trials at once; each reports in turn.
    """
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    options, space = parse_options(
        [*flags, "--name", "driven", "--storage-path", str(folder), "--tracking-uri", uri, "--quiet"]
    )
    options.folder.mkdir()
    study, ledger = resolve_study(space, options), Ledger()
    looks = plan_looks(study, options, {})
    rungs = describe_rungs(stopping_rule(study, options))
    protocol = describe_study(study, options, load_data(options), describe_looks(looks), rungs)
    client, experiment_id = connect(uri, "driven", (folder / "artifacts").as_uri())
    parent = start_study_run(client, experiment_id, "driven", {"study": "driven", "phase": "study"}, protocol)
    conduct = conduct_search(study, options, ledger, looks=looks, slots=slots, started=time.monotonic(), recalled={})
    started, processor, thread = time.perf_counter(), time.process_time(), time.thread_time()
    record = MlflowRecord(
        client, experiment_id, parent, {"study": "driven"}, protocol["dataset"], folder=folder, answers_get_lost=False
    )
    tune = _Tune(conduct, MlflowCallback(record, ledger), slots)
    while tune.step():
        waiting = len(record._unwritten)  # noqa: SLF001 - nobody else asks
        tune.driven.waiting = max(tune.driven.waiting, waiting)
    record.close()
    tune.driven.recorded_seconds = time.perf_counter() - started
    # This process has no other thread at work.
    tune.driven.writer_processor_seconds = time.process_time() - processor - (time.thread_time() - thread)
    return tune.driven


@dataclass(eq=False)
class _Trial:
    """What of Tune's trial is asked for."""

    trial_id: str
    config: dict[str, Any]
    status: str = "PENDING"
    last_result: dict[str, Any] = field(default_factory=dict)
    error_file: str | None = None
    run_metadata: _TrainingRunMetadata = field(default_factory=_TrainingRunMetadata)


class _Tune:
    """Tune's part: its calls, in its order, one report of a trial a step."""

    def __init__(self, conduct: Conduct, callback: MlflowCallback, slots: int) -> None:
        self._dealer, self._scheduler, self._callback = conduct.dealer, conduct.scheduler, callback
        self._slots = slots
        self._running: deque[tuple[Any, Reporter]] = deque()
        self._ids = itertools.count()
        # Its trials wait for no worker: they run as soon as they are dealt out.
        nobody = SimpleNamespace(_actor_manager=SimpleNamespace(live_actors=[]), _trial_to_actor={})
        self._controller = SimpleNamespace(
            get_live_trials=lambda: [trial for trial, _ in self._running], _tune_controller=nobody
        )
        self.driven = Driven()

    def step(self) -> bool:
        """Begin trials while there is room, then one report; False after the last trial."""
        while len(self._running) < self._slots and self._begin():
            pass
        if not self._running:
            return False
        trial, reporter = self._running.popleft()
        if not self._report(trial, reporter.advance()):
            self._running.append((trial, reporter))
        return True

    def _begin(self) -> bool:
        trial_id = f"{next(self._ids):08d}"
        config = self._timed("searcher", self._dealer.suggest, trial_id)
        if config is None or config == Searcher.FINISHED:
            return False
        trial = _Trial(trial_id, config)
        reporter = Reporter()
        reporter.begin(config)
        self._running.append((trial, reporter))
        self._timed("scheduler", self._scheduler.on_trial_add, self._controller, trial)
        self._timed("scheduler", self._scheduler.choose_trial_to_run, self._controller)
        trial.status = "RUNNING"
        self._timed("tracker", self._callback.on_trial_start, 0, [], trial)
        return True

    def _report(self, trial: Any, result: dict[str, Any]) -> bool:
        """Deal with a report; whether it was the trial's last."""
        ended = result["done"]
        if not ended:
            decision = self._timed("scheduler", self._scheduler.on_trial_result, self._controller, trial, result)
            ended = decision == TrialScheduler.STOP
        if not ended:
            self._timed("searcher", self._dealer.on_trial_result, trial.trial_id, result)
        self._timed("tracker", self._callback.on_trial_result, 0, [], trial, result)
        trial.last_result = result
        self.driven.results += 1
        if ended:
            self._timed("scheduler", self._scheduler.on_trial_complete, self._controller, trial, result)
            self._timed("searcher", self._dealer.on_trial_complete, trial.trial_id, result)
            self._timed("tracker", self._callback.on_trial_complete, 0, [], trial)
            self.driven.ends.append(sum(self.driven.spent.values()))
        return bool(ended)

    def _timed(self, part: str, call: Callable[..., Any], *arguments: Any) -> Any:
        processor, begun = time.thread_time(), time.perf_counter()
        answer = call(*arguments)
        self.driven.spent[part] += time.thread_time() - processor
        self.driven.seconds += time.perf_counter() - begun
        return answer
