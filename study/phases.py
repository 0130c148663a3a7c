"""The phases of a study, search and confirm, in one Tune run on the same actors."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from mlflow.tracking import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from ray import tune

from search_spaces.arms import Study
from study.budget import TimeBudget
from study.confirm import confirm_seeds, find_winners, plan_confirmation, weights_path
from study.ledger import CONFIRM, FAILED, INTERRUPTED, SEARCH, Ledger, Request, TrialRecord
from study.options import Options
from study.progress import Progress
from study.protocol import constraints_sha256, describe_study
from study.schedule import REDUCTION_FACTOR, ArmScheduler, RungPlan, plan_rungs, schedule_of
from study.search import JOINT, StudySearcher, build_searches
from study.tracking import MlflowCallback, MlflowRecord, check_name_is_free, connect, start_study_run
from trainables.config import Scalar
from trainables.data import Dataset
from trainables.trainable import ClassifierTrainable

REGIME = "search"


@dataclass(frozen=True)
class Store:
    """Where the record goes: a client and an experiment of the tracking store."""

    client: MlflowClient
    experiment_id: str


@dataclass
class Outcome:
    """How the trials of a study ended; ``searched`` holds each search's trials begun and planned."""

    ledger: Ledger
    winners: dict[str, TrialRecord | None]
    searched: dict[str, tuple[int, int]]
    interrupted: bool
    first_error: str
    record: MlflowRecord

    @property
    def all_failed(self) -> bool:
        """Whether trials ran and every one of them raised."""
        reasons = [record.stop_reason for record in self.ledger.records.values()]
        return bool(reasons) and all(reason == FAILED for reason in reasons)


def open_store(options: Options) -> Store:
    """Connect to MLflow.

    Raises:
        InputError: If it does not answer, or has a study of this name.
    """
    store = Store(*connect(options.tracking_uri, options.experiment_name, _artifact_location(options)))
    check_name_is_free(store.client, options.name)
    return store


def run_trials(
    study: Study, options: Options, dataset: Dataset, store: Store, *, slots: int, started: float
) -> Outcome:
    """Search and confirm, everything on record.

    Args:
        study: The question, flags applied.
        options: The flags.
        dataset: The data.
        store: Where the record goes.
        slots: Trials that can run at once.
        started: When the command was typed, on ``time.monotonic``.
    """
    plan = plan_rungs(study, stopping=options.stopping, schedule=schedule_of(study))
    protocol = describe_study(study, options, dataset, describe_rungs(plan))
    client = store.client
    parent = start_study_run(client, store.experiment_id, options.name, _study_tags(options, protocol), protocol)
    record = MlflowRecord(client, store.experiment_id, parent, _trial_tags(options, study))
    state = FAILED
    try:
        outcome = _tune(study, options, dataset, plan, record, slots=slots, started=started)
        state = "finished"
        if outcome.interrupted:
            state = INTERRUPTED
        elif outcome.all_failed:
            state = FAILED
        protocol["winners"] = {arm: _winner(winner) for arm, winner in outcome.winners.items()}
        protocol["notes"] = _notes(study, outcome)
        client.log_dict(parent, protocol, "study.json")
    finally:
        record.close()
        client.set_tag(parent, "state", state)
        client.set_terminated(parent, {"finished": "FINISHED", INTERRUPTED: "KILLED"}.get(state, "FAILED"))
    return outcome


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


def _tune(
    study: Study,
    options: Options,
    dataset: Dataset,
    plan: RungPlan | None,
    record: MlflowRecord,
    *,
    slots: int,
    started: float,
) -> Outcome:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ledger = Ledger()
    budget = TimeBudget(options.time_budget, study, ledger, seeds=study.seeds, slots=slots, started=started)
    storage = JournalStorage(JournalFileBackend(str(options.folder / "optuna.journal")))
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
        arm_of=lambda label, config: label if options.mode == "arms" else arms[config[study.factor]],
        plan_confirmation=confirmation,
        may_start_round=budget.search_round_fits,
        max_concurrent=options.max_concurrent,
        to_config=lambda request: _ray_config(request, plan, options),
    )
    progress = Progress(
        study,
        ledger,
        seconds_left=lambda: budget.seconds_left(sum(search.trials for search in searches)),
        budgets={search.label: search.trials for search in searches},
        quiet=options.quiet,
    )
    trainable = tune.with_parameters(
        ClassifierTrainable,
        dataset=dataset,
        device=options.device,
        num_threads=max(1, int(options.cpus_per_trial)),
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": options.cpus_per_trial, "gpu": options.gpus_per_trial}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=ArmScheduler(ledger, plan, budget.expired),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.config["key"].replace("/", "-"),
            trial_dirname_creator=lambda trial: trial.config["key"].replace("/", "-"),
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(options.folder),
            callbacks=[MlflowCallback(record, ledger), progress],
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    with progress:
        results = tuner.fit()
    shutil.rmtree(options.folder / "tune", ignore_errors=True)
    interrupted = searcher.finish()
    for left in interrupted:
        record.end(left.request.key, INTERRUPTED, {})
    errors = [str(error).strip().splitlines()[-1] for error in results.errors]
    out_of_time = options.time_budget is not None and budget.left <= 0
    stopped = bool(interrupted) and not out_of_time
    searched = {search.label: (search.asked, search.trials) for search in searches}
    return Outcome(ledger, find_winners(study, ledger), searched, stopped, errors[0] if errors else "", record)


def _ray_config(request: Request, plan: RungPlan | None, options: Options) -> dict[str, Any]:
    path = None
    if request.phase == CONFIRM:
        path = str(weights_path(options.folder, request.arm, request.number))
    return {
        "config": dict(request.config),
        "arm": request.arm,
        "phase": request.phase,
        "number": request.number,
        "rungs": rung_epochs(plan, int(request.config["epochs"])) if request.phase == SEARCH else [],
        "model_path": path,
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


def _artifact_location(options: Options) -> str | None:
    """Beside the database for a local store; a server knows its own place."""
    if not options.tracking_uri.startswith("sqlite:///"):
        return None
    folder = Path(options.tracking_uri.removeprefix("sqlite:///")).parent / "mlartifacts" / options.experiment_name
    return folder.as_uri()


def _study_tags(options: Options, protocol: Mapping[str, Any]) -> dict[str, Scalar]:
    return {
        "study": options.name,
        "space": str(protocol["space"]),
        "dataset": options.dataset_label,
        "regime": REGIME,
        "phase": "study",
        "state": "running",
        "git_commit": str(protocol["git_commit"]),
        "git_dirty": str(protocol["git_dirty"]).lower(),
        "constraints_sha256": constraints_sha256(),
        "command": options.command,
    }


def _trial_tags(options: Options, study: Study) -> dict[str, str]:
    return {"study": options.name, "space": study.name, "dataset": options.dataset_label, "regime": REGIME}


def _winner(record: TrialRecord | None) -> dict[str, Any] | None:
    if record is None:
        return None
    request = record.request
    return {"number": request.number, "val_accuracy": record.val_accuracy, "config": dict(request.config)}


def _notes(study: Study, outcome: Outcome) -> list[str]:
    """What a reader must know that the trials alone do not say."""
    notes = [
        f"Arm {arm} has no winner: none of its trials completed." for arm, w in outcome.winners.items() if w is None
    ]
    begun, planned = min(outcome.searched.values(), key=lambda trials: trials[0] / trials[1])
    if begun < planned:
        unit = "" if JOINT in outcome.searched else " per arm"
        notes.append(f"The search ended after {begun} of {planned} trials{unit}.")
    confirmed = {r.request.number for r in outcome.ledger.of_phase(CONFIRM)}
    if len(confirmed) < study.seeds:
        notes.append(f"The confirmation ended after {len(confirmed)} of {study.seeds} seeds.")
    return notes
