"""The trials of a study, whatever its protocol: one Tune run on reused actors, everything on record."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlflow.tracking import MlflowClient
from ray import tune

from analysis.address import is_sqlite, short_reason
from analysis.plain import plain
from search_spaces.arms import Study
from search_spaces.reported import Reported
from study.cluster import LOG_FILE
from study.conduct import JOURNAL_FILE, Conduct, conduct_search, describe_rungs, stopping_rule
from study.confirm import checkpoint_path
from study.disk import full_disk
from study.ledger import FAILED, INTERRUPTED, Ledger
from study.looks import FINISHED, describe_looks, plan_looks
from study.options import Options
from study.placement import Placement
from study.process import this_process
from study.protocol import constraints_sha256, describe_study
from study.record import MlflowRecord, deliver_spool
from study.regimes import conduct_regimes
from study.resume import DRIVER, RUNNING, Recalled, recall
from study.spool import SPOOL_FILE
from study.storage import Mirror, remove_checkpoints
from study.tracking import MlflowCallback, connect, start_study_run
from trainables.checkpoint import remove_checkpoint
from trainables.config import Scalar
from trainables.data import Dataset
from trainables.environment import describe_environment
from trainables.trainable import ClassifierTrainable

#: The driver's files without which another machine could not go on; the log, for whoever asks why it had to.
MIRRORED = (JOURNAL_FILE, SPOOL_FILE, LOG_FILE)
#: Trials that wait for a worker of a cluster, at least.
WAITING_ON_A_CLUSTER = 16
#: Of ``study.json``: what says how and with what a study was begun.
BEGUN = ("command", "arguments", "git_commit", "git_dirty", "versions", "code_sha256")


@dataclass(frozen=True)
class Store:
    """Where the record goes: a client and an experiment of the tracking store."""

    client: MlflowClient
    experiment_id: str


@dataclass
class Outcome:
    """How the trials of a study ended; ``conclusion`` is what ``study.json`` says of it.

    ``undelivered`` writes are not in MLflow yet. Nothing is ``new`` where every trial was on record already.
    """

    ledger: Ledger
    interrupted: bool
    first_error: str
    record: MlflowRecord
    conclusion: Mapping[str, Any] = field(default_factory=dict)
    undelivered: int = 0
    new: bool = True

    @property
    def all_failed(self) -> bool:
        """Whether trials ran and every one of them raised."""
        reasons = [record.stop_reason for record in self.ledger.records.values()]
        return bool(reasons) and all(reason == FAILED for reason in reasons)


def open_store(options: Options, recalled: Recalled | None) -> Store:
    """Connect to MLflow; a study that is resumed goes on in its own experiment.

    Raises:
        InputError: If it does not answer, or has a study of this name that is not to be resumed.
    """
    if recalled is not None:
        return Store(MlflowClient(options.tracking_uri), recalled.experiment_id)
    artifacts = _artifact_location(options)
    return Store(*connect(options.tracking_uri, options.experiment_name, artifacts, name=options.name))


def run_trials(
    study: Study,
    options: Options,
    dataset: Dataset,
    store: Store,
    *,
    slots: int,
    started: float,
    recalled: Recalled | None = None,
    ended: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run what the study's protocol asks for, everything on record.

    Args:
        study: The question, flags applied.
        options: The flags.
        dataset: The data.
        store: Where the record goes.
        slots: Trials that can run at once.
        started: When the command was typed, on ``time.monotonic``.
        recalled: What is on record of the study, if it is resumed.
        ended: Called when the trials have ended by themselves, before the record's rest is waited for.
    """
    client = store.client
    looks = plan_looks(study, options, recalled.protocol if recalled else {})
    rungs = describe_rungs(stopping_rule(study, options))
    protocol = describe_study(study, options, dataset, describe_looks(looks), rungs)
    # The study's run comes before its journal: killed in between, it can be resumed; the other way round it could not.
    if recalled is None:
        parent = start_study_run(client, store.experiment_id, options.name, _study_tags(options, protocol), protocol)
    else:
        # What was true when it began stays so: a resumed study is the one that was begun.
        protocol |= {key: recalled.protocol[key] for key in BEGUN if key in recalled.protocol}
        if options.extend is not None:  # once on record, a study that is killed goes on with its extension
            client.log_dict(recalled.run_id, {**recalled.protocol, **describe_looks(looks)}, "study.json")
        parent = recalled.reopen(client)
    ledger = Ledger()
    results = recalled.results if recalled else {}
    runs = recalled.runs if recalled else {}
    under_way = {key for key, run in runs.items() if run.epoch > 0 and key not in results}
    if isinstance(study, Reported):
        conduct = conduct_regimes(study, options, ledger, slots=slots, recalled=results, under_way=under_way)
    else:
        # What it has used of its time before counts.
        begun = started - (recalled.seconds / slots if recalled else 0.0)
        conduct = conduct_search(
            study,
            options,
            ledger,
            looks=looks,
            slots=slots,
            started=begun,
            recalled=results,
            under_way=under_way,
        )
    _clear_away(options, conduct)
    mirror = Mirror(options, MIRRORED)
    record = MlflowRecord(
        client,
        store.experiment_id,
        parent,
        _trial_tags(options, study),
        protocol["dataset"],
        folder=options.folder,
        known=recalled.runs if recalled else None,
        on_ended=lambda key: remove_checkpoint(checkpoint_path(options.shared, key)),
        before=mirror.push,
        answers_get_lost=not is_sqlite(options.tracking_uri),
    )
    state = FAILED
    try:
        _plan_workers(conduct, options, slots)
        outcome = _tune(conduct, options, dataset, record, ledger)
        if not outcome.interrupted:
            ended()
        state = _state(outcome)
        forced = [f"Resumed by force: {objection}" for objection in (recalled.forced if recalled else ())]
        protocol |= {**outcome.conclusion, "notes": [*outcome.conclusion["notes"], *forced]}
    except KeyboardInterrupt:
        state = INTERRUPTED
        raise
    finally:
        undelivered = _close(record, mirror, options)
        if not undelivered:  # else it is as if the process had been killed here, and the resumed study does this
            client.log_dict(parent, protocol, "study.json")
            client.set_tag(parent, "state", state)
            client.set_terminated(parent, {FINISHED: "FINISHED", INTERRUPTED: "KILLED"}.get(state, "FAILED"))
    if state == FINISHED and not undelivered:
        remove_checkpoints(options)
    return replace(outcome, undelivered=undelivered)


def _close(record: MlflowRecord, mirror: Mirror, options: Options) -> int:
    """Wait for the record; says what of it is not in MLflow, and returns how much of that can be delivered later."""
    undelivered = record.close()
    lines = []
    try:
        mirror.push()  # what was told last, and the spool
    except OSError as error:
        lines.append(f"{options.bucket} did not take the study's files ({short_reason(error)}); it goes on here only.")
    if undelivered:
        if full := full_disk(record.trouble, options):
            lines.append(full)
        lines.append(f"MLflow did not take {undelivered} writes; they are in {options.folder / SPOOL_FILE}.")
        lines.append(f"Deliver them with: {options.resume_command}")
    if record.refused:
        log = options.folder / LOG_FILE
        lines.append(f"MLflow refused {record.refused} writes, which are left out; each is in {log}.")
    for line in lines:
        print(plain(line), file=sys.stderr)  # noqa: T201
    return undelivered


def _state(outcome: Outcome) -> str:
    if outcome.interrupted:
        return INTERRUPTED
    return FAILED if outcome.all_failed else FINISHED


def deliver(study: Study, options: Options, recalled: Recalled) -> Recalled:
    """Write to MLflow what a life of the study could not, before anything is told again; the study as it is then.

    Raises:
        InputError: If the store does not take it, or the file is not the study's.
    """
    if not (options.folder / SPOOL_FILE).exists():
        return recalled
    record = MlflowRecord(
        MlflowClient(options.tracking_uri),
        recalled.experiment_id,
        recalled.run_id,
        _trial_tags(options, study),
        recalled.protocol.get("dataset"),
        folder=options.folder,
        known=recalled.runs,
        before=Mirror(options, MIRRORED).push,
        answers_get_lost=not is_sqlite(options.tracking_uri),
    )
    try:
        deliver_spool(options.folder, record)
    finally:
        record.close(patience_seconds=0)  # it has been waited for
    return replace(recall(options.name, tracking_uri=options.tracking_uri), forced=recalled.forced)


def _plan_workers(conduct: Conduct, options: Options, slots: int) -> None:
    """Let workers start at once, where Tune would start one after another, and stay between phases."""
    # A cluster that grows by what is asked of it must be asked for more than it has.
    waiting = slots + 1 if options.address is None else options.max_concurrent or max(slots + 1, WAITING_ON_A_CLUSTER)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(waiting)
    if options.address is None and options.gpus_per_trial == 0:  # all trials ask for the same
        conduct.scheduler.kept_workers = slots


def _tune(conduct: Conduct, options: Options, dataset: Dataset, record: MlflowRecord, ledger: Ledger) -> Outcome:
    trainable = tune.with_parameters(
        ClassifierTrainable,
        dataset=dataset,
        device=options.device,
        num_threads=max(1, int(options.cpus_per_trial)),
        hang_seconds=options.hang_timeout,
        environment=None if options.address is None else describe_environment(),
    )
    conduct.scheduler.unsaved = True
    conduct.scheduler.placement = Placement(options, ledger, conduct.progress.say)
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=conduct.dealer,
            scheduler=conduct.scheduler,
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.config["key"].replace("/", "-"),
            trial_dirname_creator=lambda trial: trial.config["key"].replace("/", "-"),
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(options.folder),
            callbacks=[MlflowCallback(record, ledger), conduct.progress],
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    with conduct.progress:
        results = tuner.fit()
        new = conduct.dealer.dealt > 0
        if not new:
            conduct.progress.say("Every trial is on record already; its report is written again.")
    shutil.rmtree(options.folder / "tune", ignore_errors=True)
    for left in conduct.dealer.finish():
        record.end(left.request.key, INTERRUPTED, {})
    errors = [str(error).strip().splitlines()[-1] for error in results.errors]
    return Outcome(
        ledger,
        interrupted=not conduct.dealer.exhausted and not conduct.out_of_time(),
        first_error=errors[0] if errors else "",
        record=record,
        conclusion=conduct.conclusion(),
        new=new,
    )


def _clear_away(options: Options, conduct: Conduct) -> None:
    """What a process that was killed left in the study's folder and nobody needs; nothing of a new study."""
    shutil.rmtree(options.folder / "tune", ignore_errors=True)
    remove_checkpoints(options, conduct.dealer.recalled)


def _artifact_location(options: Options) -> str | None:
    """Beside the database for a local store; a server knows its own place."""
    if not is_sqlite(options.tracking_uri):
        return None
    folder = Path(options.tracking_uri.removeprefix("sqlite:///")).parent / "mlartifacts" / options.experiment_name
    return folder.as_uri()


def _study_tags(options: Options, protocol: Mapping[str, Any]) -> dict[str, Scalar]:
    return {
        "study": options.name,
        "space": str(protocol["space"]),
        "dataset": options.dataset_label,
        "regime": options.regime,
        "phase": "study",
        "state": RUNNING,
        DRIVER: this_process(),
        "git_commit": str(protocol["git_commit"]),
        "git_dirty": str(protocol["git_dirty"]).lower(),
        "constraints_sha256": constraints_sha256(),
        "command": options.command,
    }


def _trial_tags(options: Options, study: Study) -> dict[str, str]:
    return {"study": options.name, "space": study.name, "dataset": options.dataset_label}
