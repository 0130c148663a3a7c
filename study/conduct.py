"""How the trials of a tuned space are dealt and stopped, and what they end in: search, then confirm."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from search_spaces.arms import Study
from search_spaces.reported import Reported
from study.budget import TimeBudget
from study.confirm import checkpoint_path, confirm_seeds, find_winners, plan_confirmation, weights_path
from study.dealing import Dealer
from study.ledger import CONFIRM, SEARCH, Ledger, Request, TrialRecord
from study.options import Options
from study.progress import Progress
from study.schedule import REDUCTION_FACTOR, ArmScheduler, RungPlan, plan_rungs, schedule_of
from study.search import JOINT, StudySearcher, build_searches

#: The Optuna studies of all arms, in the study's folder; optuna-dashboard opens it.
JOURNAL_FILE = "optuna.journal"
#: Optuna's name for the journal's lock.
LOCK_SUFFIX = ".lock"

#: What is on record of trials that have ended, by key.
Results = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Conduct:
    """What one Tune run needs to know of a study's protocol.

    Args:
        dealer: Deals the trials.
        scheduler: Stops them.
        progress: Shows them.
        out_of_time: Whether the study ended by its own clock, which is no interruption.
        winners: The arms' winners as plain data for ``study.json``, None for an arm without one; asked at the end.
        notes: What a reader must know that the trials alone do not say; asked at the end.
    """

    dealer: Dealer
    scheduler: ArmScheduler
    progress: Progress
    out_of_time: Callable[[], bool]
    winners: Callable[[], dict[str, dict[str, Any] | None]]
    notes: Callable[[], list[str]]


def conduct_search(
    study: Study, options: Options, ledger: Ledger, *, slots: int, started: float, recalled: Results
) -> Conduct:
    """Search each arm with Optuna under ASHA, then confirm the winners on fresh seeds.

    Args:
        study: The question, flags applied.
        options: The flags.
        ledger: Where requests and results are kept.
        slots: Trials that can run at once.
        started: When the command was typed, on ``time.monotonic``.
        recalled: Results on record, if the study is resumed; the trials of the search are in Optuna's journal too.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    plan = stopping_rule(study, options)
    budget = TimeBudget(options.time_budget, study, ledger, seeds=study.seeds, slots=slots, started=started)
    storage = open_journal(options.folder / JOURNAL_FILE)
    searches = build_searches(
        study, storage, options.name, mode=options.mode, sampler=options.search, trials=study.trials, seed=options.seed
    )
    arms = {arm.fixed.get(study.factor): arm.name for arm in study.arms}

    def confirmation() -> Iterator[Request]:
        winners = find_winners(study, ledger)
        for line in winner_lines(winners):
            progress.say(line)
        seeds = confirm_seeds(options.seed, study.seeds)
        return plan_confirmation(study, winners, seeds, budget.confirm_round_fits)

    searcher = StudySearcher(
        searches,
        ledger,
        recalled=recalled,
        arm_of=lambda label, config: label if options.mode == "arms" else arms[config[study.factor]],
        plan_confirmation=confirmation,
        may_start_round=budget.search_round_fits,
        max_concurrent=options.max_concurrent,
        max_failures=options.max_failures,
        to_config=lambda request: _ray_config(request, plan, options, searcher.untold.get(request.key)),
    )
    scheduler = ArmScheduler(ledger, plan, budget.expired, searcher.untold)
    for request, asked in sorted(searcher.recorded(), key=lambda known: known[1].stop_reason is None):
        scheduler.recall(request, asked.reports, ended=asked.stop_reason is not None)
    progress = Progress(
        study,
        ledger,
        seconds_left=lambda: budget.seconds_left(sum(search.trials for search in searches)),
        budgets={search.label: search.trials for search in searches},
        quiet=options.quiet,
    )

    def notes() -> list[str]:
        searched = {search.label: (search.asked, search.trials) for search in searches}
        return search_notes(study, ledger, searched)

    return Conduct(
        dealer=searcher,
        scheduler=scheduler,
        progress=progress,
        out_of_time=lambda: options.time_budget is not None and budget.left <= 0,
        winners=lambda: {arm: _winner(winner) for arm, winner in find_winners(study, ledger).items()},
        notes=notes,
    )


def open_journal(path: Path) -> JournalStorage:
    """Optuna's journal, mended where the process that wrote it died at it.

    A lock left behind would hold every write for half a minute, and a line that was cut off would be an error for good.
    Only the process that holds the study's folder may call this.
    """
    path.with_name(path.name + LOCK_SUFFIX).unlink(missing_ok=True)
    if path.exists():
        with path.open("rb+") as file:
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
    return JournalStorage(JournalFileBackend(str(path)))


def stopping_rule(study: Study, options: Options) -> RungPlan | None:
    """When a study's search trials are compared; None where none is stopped, as in a reported study."""
    if isinstance(study, Reported):
        return None
    return plan_rungs(study, stopping=options.stopping, schedule=schedule_of(study))


def describe_rungs(plan: RungPlan | None) -> dict[str, Any]:
    """The stopping rule as plain data."""
    if plan is None:
        return {"time_attribute": None, "grace_period": None, "reduction_factor": None, "rungs": []}
    return {
        "time_attribute": plan.time_attribute,
        "grace_period": plan.grace_period,
        "reduction_factor": REDUCTION_FACTOR,
        "rungs": plan.rungs,
    }


def rung_epochs(plan: RungPlan | None, epochs: int) -> list[int]:
    """The epochs of a trial at which its arm's ASHA looks."""
    if plan is None:
        return []
    whole = 100 if plan.time_attribute == "schedule_percent" else epochs
    return [math.ceil(rung * epochs / whole) for rung in plan.rungs if rung < whole]


def _ray_config(
    request: Request, plan: RungPlan | None, options: Options, end: tuple[int, str] | None
) -> dict[str, Any]:
    path = None
    if request.phase == CONFIRM:
        path = str(weights_path(options.folder, request.arm, request.number))
    rungs = rung_epochs(plan, int(request.config["epochs"])) if request.phase == SEARCH else []
    return {
        "config": dict(request.config),
        "arm": request.arm,
        "phase": request.phase,
        "number": request.number,
        "rungs": rungs if end is None else [*rungs, end[0]],
        "model_path": path,
        "checkpoint": str(checkpoint_path(options.folder, request.key)),
    }


def winner_lines(winners: Mapping[str, TrialRecord | None]) -> list[str]:
    """One line per arm: its winner, or that it has none."""
    lines = ["Winners of the search (validation accuracy chose them; it is not a result):"]
    width = max(map(len, winners))
    for arm, winner in winners.items():
        if winner is None:
            lines.append(f"  {arm:<{width}}  none: no trial completed")
            continue
        config = winner.request.config
        rate = config["optimizer.learning_rate"]
        lines.append(
            f"  {arm:<{width}}  {100 * winner.val_accuracy:6.2f}%  {config['optimizer']:<8}"
            f" learning rate {rate:<9.3g} batch {config['batch_size']:<4} epochs {config['epochs']}"
        )
    return lines


def search_notes(study: Study, ledger: Ledger, searched: Mapping[str, tuple[int, int]]) -> list[str]:
    """What a reader must know that the trials alone do not say.

    Args:
        study: The question.
        ledger: All trials.
        searched: Each search's trials begun and planned.
    """
    winners = find_winners(study, ledger)
    notes = [f"Arm {arm} has no winner: none of its trials completed." for arm, w in winners.items() if w is None]
    begun, planned = min(searched.values(), key=lambda trials: trials[0] / trials[1])
    if begun < planned:
        unit = "" if JOINT in searched else " per arm"
        notes.append(f"The search ended after {begun} of {planned} trials{unit}.")
    confirmed = {record.request.number for record in ledger.of_phase(CONFIRM)}
    if len(confirmed) < study.seeds:
        notes.append(f"The confirmation ended after {len(confirmed)} of {study.seeds} seeds.")
    return notes


def _winner(record: TrialRecord | None) -> dict[str, Any] | None:
    if record is None:
        return None
    request = record.request
    return {"number": request.number, "val_accuracy": record.val_accuracy, "config": dict(request.config)}
