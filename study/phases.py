"""The trials of a study, whatever its protocol: one Tune run on reused actors, everything on record."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow.tracking import MlflowClient
from ray import tune

from search_spaces.arms import Study
from search_spaces.reported import Reported
from study.conduct import Conduct, conduct_search
from study.ledger import FAILED, INTERRUPTED, Ledger
from study.options import Options
from study.protocol import constraints_sha256, describe_study
from study.regimes import conduct_regimes
from study.resume import Recalled
from study.tracking import MlflowCallback, MlflowRecord, check_name_is_free, connect, start_study_run
from trainables.config import Scalar
from trainables.data import Dataset
from trainables.trainable import ClassifierTrainable

FINISHED = "finished"


@dataclass(frozen=True)
class Store:
    """Where the record goes: a client and an experiment of the tracking store."""

    client: MlflowClient
    experiment_id: str


@dataclass
class Outcome:
    """How the trials of a study ended."""

    ledger: Ledger
    interrupted: bool
    first_error: str
    record: MlflowRecord
    winners: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

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
    store = Store(*connect(options.tracking_uri, options.experiment_name, _artifact_location(options)))
    check_name_is_free(store.client, options.name)
    return store


def run_trials(
    study: Study,
    options: Options,
    dataset: Dataset,
    store: Store,
    *,
    slots: int,
    started: float,
    recalled: Recalled | None = None,
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
    """
    ledger = Ledger()
    if isinstance(study, Reported):
        results = recalled.results if recalled else {}
        conduct = conduct_regimes(study, options, ledger, slots=slots, recalled=results)
    else:
        conduct = conduct_search(study, options, ledger, slots=slots, started=started)
    protocol = describe_study(study, options, dataset, conduct.rungs)
    client = store.client
    if recalled is None:
        parent = start_study_run(client, store.experiment_id, options.name, _study_tags(options, protocol), protocol)
    else:
        parent = recalled.reopen(client)
    record = MlflowRecord(client, store.experiment_id, parent, _trial_tags(options, study), protocol["dataset"])
    state = FAILED
    try:
        outcome = _tune(conduct, options, dataset, record, ledger)
        state = FINISHED
        if outcome.interrupted:
            state = INTERRUPTED
        elif outcome.all_failed:
            state = FAILED
        protocol |= {"winners": dict(outcome.winners), "notes": outcome.notes}
        client.log_dict(parent, protocol, "study.json")
    finally:
        record.close()
        client.set_tag(parent, "state", state)
        client.set_terminated(parent, {FINISHED: "FINISHED", INTERRUPTED: "KILLED"}.get(state, "FAILED"))
    return outcome


def _tune(conduct: Conduct, options: Options, dataset: Dataset, record: MlflowRecord, ledger: Ledger) -> Outcome:
    trainable = tune.with_parameters(
        ClassifierTrainable,
        dataset=dataset,
        device=options.device,
        num_threads=max(1, int(options.cpus_per_trial)),
    )
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": options.cpus_per_trial, "gpu": options.gpus_per_trial}),
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
        if conduct.dealer.dealt == 0:
            conduct.progress.say("Every trial is on record already; its report is written again.")
    shutil.rmtree(options.folder / "tune", ignore_errors=True)
    interrupted = conduct.dealer.finish()
    for left in interrupted:
        record.end(left.request.key, INTERRUPTED, {})
    errors = [str(error).strip().splitlines()[-1] for error in results.errors]
    return Outcome(
        ledger,
        interrupted=bool(interrupted) and not conduct.out_of_time(),
        first_error=errors[0] if errors else "",
        record=record,
        winners=conduct.winners(),
        notes=conduct.notes(),
    )


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
        "regime": options.regime,
        "phase": "study",
        "state": "running",
        "git_commit": str(protocol["git_commit"]),
        "git_dirty": str(protocol["git_dirty"]).lower(),
        "constraints_sha256": constraints_sha256(),
        "command": options.command,
    }


def _trial_tags(options: Options, study: Study) -> dict[str, str]:
    return {"study": options.name, "space": study.name, "dataset": options.dataset_label}
