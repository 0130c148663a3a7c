"""How the trials of a tuned space are dealt and stopped, and what they end in: search, then confirm."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from analysis.earlier import Look
from search_spaces.arms import Study
from search_spaces.reported import Reported
from study.budget import TimeBudget
from study.confirm import checkpoint_path, find_winners, plan_confirmation, weights_path
from study.dealing import Dealer
from study.ledger import CONFIRM, SEARCH, Ledger, Request, TrialRecord
from study.looks import describe_looks
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
        conclusion: What the study came to, as plain data for ``study.json``, asked at the end: the arms' ``winners``,
            None for an arm without one, and ``notes``, what a reader must know that the trials alone do not say.
    """

    dealer: Dealer
    scheduler: ArmScheduler
    progress: Progress
    out_of_time: Callable[[], bool]
    conclusion: Callable[[], dict[str, Any]]


def conduct_search(
    study: Study,
    options: Options,
    ledger: Ledger,
    *,
    looks: Sequence[Look],
    slots: int,
    started: float,
    recalled: Results,
    under_way: Collection[str] = (),
) -> Conduct:
    """Search each arm with Optuna under ASHA, then confirm the winners on fresh seeds; so again for every further look.

    Args:
        study: The question, flags applied.
        options: The flags.
        ledger: Where requests and results are kept.
        looks: The confirmations, from :func:`study.looks.plan_looks`.
        slots: Trials that can run at once.
        started: When the command was typed, on ``time.monotonic``.
        recalled: Results on record, if the study is resumed; the trials of the search are in Optuna's journal too.
        under_way: Keys of trials of which some epochs are on record, likewise.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    plan = stopping_rule(study, options)
    num_seeds = sum(len(look.seeds) for look in looks)
    budget = TimeBudget(options.time_budget, study, ledger, seeds=num_seeds, slots=slots, started=started)
    storage = open_journal(options.folder / JOURNAL_FILE)
    searches = build_searches(
        study,
        storage,
        options.name,
        mode=options.mode,
        sampler=options.search,
        trials=looks[0].trials_per_arm,
        seed=options.seed,
    )
    per_search = len(study.arms) if options.mode == JOINT else 1
    added = [per_search * (later.trials_per_arm - look.trials_per_arm) for look, later in pairwise(looks)]
    planned = {search.label: search.trials + sum(added) for search in searches}
    arms = {arm.fixed.get(study.factor): arm.name for arm in study.arms}
    confirmed: list[Look] = []

    def confirmation(look: Look) -> Iterator[Request]:
        winners = find_winners(study, ledger)
        confirmed.append(replace(look, winners=_describe_winners(winners)))
        for line in winner_lines(winners) if look is looks[-1] else ():  # those of earlier looks have been told
            progress.say(line)
        return plan_confirmation(study, winners, look.seeds, budget.confirm_round_fits)

    searcher = StudySearcher(
        searches,
        ledger,
        recalled=recalled,
        arm_of=lambda label, config: label if options.mode == "arms" else arms[config[study.factor]],
        plan_confirmation=partial(confirmation, looks[0]),
        extensions=[(more, partial(confirmation, look)) for more, look in zip(added, looks[1:], strict=True)],
        may_start_round=budget.search_round_fits,
        max_concurrent=dealt_at_once(options, slots),
        max_failures=options.max_failures,
        replicas=options.replicas,
        under_way=under_way,
        to_config=lambda request: _ray_config(request, plan, options, searcher.untold.get(request.key)),
    )
    scheduler = ArmScheduler(ledger, plan, budget.expired, searcher.untold)
    for request, asked in sorted(searcher.recorded(), key=lambda known: known[1].stop_reason is None):
        scheduler.recall(request, asked.reports, ended=asked.stop_reason is not None)
    progress = Progress(
        study,
        ledger,
        seconds_left=lambda: budget.seconds_left(sum(planned.values())),
        budgets=planned,
        num_seeds=num_seeds,
        quiet=options.quiet,
    )

    def conclusion() -> dict[str, Any]:
        searched = {search.label: (search.asked, planned[search.label]) for search in searches}
        return {
            **describe_looks([*confirmed, *looks[len(confirmed) :]]),
            "winners": _describe_winners(find_winners(study, ledger)),
            "notes": search_notes(study, ledger, searched, num_seeds),
        }

    return Conduct(
        dealer=searcher,
        scheduler=scheduler,
        progress=progress,
        out_of_time=lambda: options.time_budget is not None and budget.left <= 0,
        conclusion=conclusion,
    )


def dealt_at_once(options: Options, slots: int) -> int | None:
    """How many trials may be dealt and not have ended: a proposal should know what has ended before it.

    On this machine one more than can run, which waits for the next worker; a cluster may grow, so there it is not said.
    """
    if options.max_concurrent is not None:
        return options.max_concurrent
    return slots + 1 if options.address is None else None


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
    if request.phase == CONFIRM and not options.no_models:
        path = weights_path(options.shared, request.arm, request.number)
    rungs = rung_epochs(plan, int(request.config["epochs"])) if request.phase == SEARCH else []
    return {
        "config": dict(request.config),
        "arm": request.arm,
        "phase": request.phase,
        "number": request.number,
        "rungs": rungs if end is None else [*rungs, end[0]],
        "model_path": path,
        "checkpoint": checkpoint_path(options.shared, request.key),
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


def search_notes(study: Study, ledger: Ledger, searched: Mapping[str, tuple[int, int]], num_seeds: int) -> list[str]:
    """What a reader must know that the trials alone do not say.

    Args:
        study: The question.
        ledger: All trials.
        searched: Each search's trials begun and planned.
        num_seeds: Seeds of all confirmations.
    """
    winners = find_winners(study, ledger)
    notes = [f"Arm {arm} has no winner: none of its trials completed." for arm, w in winners.items() if w is None]
    begun, planned = min(searched.values(), key=lambda trials: trials[0] / trials[1])
    if begun < planned:
        unit = "" if JOINT in searched else " per arm"
        notes.append(f"The search ended after {begun} of {planned} trials{unit}.")
    confirmed = {record.request.number for record in ledger.of_phase(CONFIRM)}
    if len(confirmed) < num_seeds:
        notes.append(f"The confirmation ended after {len(confirmed)} of {num_seeds} seeds.")
    return notes


def _describe_winners(winners: Mapping[str, TrialRecord | None]) -> dict[str, dict[str, Any] | None]:
    return {arm: None if winner is None else _winner(winner) for arm, winner in winners.items()}


def _winner(record: TrialRecord) -> dict[str, Any]:
    request = record.request
    return {"number": request.number, "val_accuracy": record.val_accuracy, "config": dict(request.config)}
