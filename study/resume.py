"""What is on record of a study, so that it goes on where it was stopped, whatever stopped it."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from mlflow.tracking import MlflowClient

from analysis.load import StudyRecord, load_protocol, load_study, numbers
from study.ledger import COMPLETED, DIVERGED, SEARCH
from study.process import host_of, is_alive, this_process
from study.record import KnownRun
from trainables.config import InputError
from trainables.data import Dataset

#: Ends that stand for a trial that nobody but its seed asked for; any other is run again.
FINAL = (COMPLETED, DIVERGED)
#: Tag of a study's run: the process that runs it.
DRIVER = "driver"
RUNNING = "running"
#: What an epoch took, or its share of one that several trials had together.
SECONDS = ("epoch_seconds", "shared_seconds")


@dataclass(frozen=True)
class Recalled:
    """A study as MLflow holds it.

    Args:
        name: The study's name.
        run_id: Its run.
        experiment_id: Where it and its trials' runs are.
        tags: Of its run.
        protocol: Its ``study.json``.
        results: What each ended trial came to, by key.
        runs: Every trial's run, by key.
        seconds: What its trials have taken so far.
        forced: Every objection that ``--force`` has overridden, this time and before.
    """

    name: str
    run_id: str
    experiment_id: str
    tags: Mapping[str, str]
    protocol: Mapping[str, Any]
    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    runs: Mapping[str, KnownRun] = field(default_factory=dict)
    seconds: float = 0.0
    forced: tuple[str, ...] = ()

    def reopen(self, client: MlflowClient) -> str:
        """Make the study's run active again, in this process's name; its id."""
        client.update_run(self.run_id, status="RUNNING")
        client.set_tag(self.run_id, "state", RUNNING)
        client.set_tag(self.run_id, DRIVER, this_process())
        if self.forced:
            client.set_tag(self.run_id, "forced", " ".join(self.forced))
        return self.run_id


def recorded_arguments(name: str, *, tracking_uri: str) -> list[str]:
    """The command line that began a study.

    Raises:
        InputError: If there is no such study, or it is older than this.
    """
    arguments = load_protocol(name, tracking_uri=tracking_uri).get("arguments")
    if arguments is None:
        raise InputError(f"The study {name!r} cannot be resumed: its record does not hold its flags.")
    return [str(argument) for argument in arguments]


def recall(name: str, *, tracking_uri: str) -> Recalled:
    """Read what a study has come to.

    Raises:
        InputError: If there is no such study.
    """
    record = load_study(name, tracking_uri=tracking_uri, metrics=("val_accuracy", *SECONDS), finals=False)
    results = _results(record)
    return Recalled(
        name=name,
        run_id=record.run_id,
        experiment_id=record.experiment_id,
        tags=record.tags,
        protocol=record.protocol,
        results=results,
        runs={
            str(key): KnownRun(str(run_id), int(epochs))
            for key, run_id, epochs in record.trials.sort_values("epochs_done")[
                ["trial_id", "run_id", "epochs_done"]
            ].itertuples(index=False)
        },
        seconds=sum(float(result["trial_seconds"]) for result in results.values()),
    )


def _results(record: StudyRecord) -> dict[str, dict[str, Any]]:
    # A run says its reason before it is terminated; one killed in between lacks what comes last.
    ended = record.trials["status"].isin(["FINISHED", "KILLED", "FAILED"])
    stands = (record.trials["phase"] == SEARCH) & (record.trials["regime"] == SEARCH)
    stands |= record.trials["stop_reason"].isin(FINAL)
    # Killed before its first epoch was on record, a study has no metric at all.
    spent = sum(numbers(record.epochs, metric).fillna(0.0) for metric in SECONDS)
    seconds: dict[Any, float] = pd.Series(spent).groupby(record.epochs["run_id"]).sum().to_dict()
    results = {}
    for row in record.trials[ended & stands].to_dict("records"):
        results[str(row["trial_id"])] = {
            "epoch": int(row["epochs_done"]),
            "val_accuracy": _or(row.get("val_accuracy"), float("nan")),
            "val_nll": _or(row.get("val_nll"), float("inf")),
            "trial_seconds": float(seconds.get(row["run_id"], 0.0)),
            "diverged": row["stop_reason"] == DIVERGED,
            "stop_reason": row["stop_reason"],
        }
    return results


def _or(value: Any, otherwise: float) -> float:
    return otherwise if value is None or pd.isna(value) else float(value)


def objections(recalled: Recalled, dataset: Dataset, code: str) -> list[str]:
    """Why a study should not simply go on here and now, a sentence each; ``--force`` overrides them.

    Args:
        recalled: The study.
        dataset: The data as they are now.
        code: A digest of the code as it is now.

    Raises:
        InputError: If a process of this machine runs the study, which nothing overrides.
    """
    found = []
    driver = recalled.tags.get(DRIVER, "")
    if recalled.tags.get("state") == RUNNING and driver:
        if is_alive(driver):
            raise InputError(f"The study {recalled.name!r} is running already, as process {driver.split()[1]}.")
        if host_of(driver) != socket.gethostname():
            found.append(f"It is running on {host_of(driver)}, or was when that machine died.")
    for what, known, now in (
        ("data", (recalled.protocol.get("dataset") or {}).get("sha256"), dataset.sha256),
        ("code", recalled.protocol.get("code_sha256"), code),
    ):
        # A record of an older version does not hold every digest.
        if known is not None and known != now:
            found.append(f"It was begun with other {what} (sha256 {str(known)[:12]}, now {now[:12]}).")
    return found
