"""What is on record of a reported study, so that it goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlflow.tracking import MlflowClient

from analysis.load import StudyRecord, load_protocol, load_study
from study.ledger import COMPLETED, DIVERGED
from trainables.config import InputError
from trainables.data import Dataset

#: Ends of a trial that stand; any other trial is run again from its start.
FINAL = (COMPLETED, DIVERGED)


@dataclass(frozen=True)
class Recalled:
    """A study as MLflow holds it.

    Args:
        name: The study's name.
        run_id: Its run.
        experiment_id: Where it and its trials' runs are.
        protocol: Its ``study.json``.
        results: What each ended trial came to, by key.
        unfinished: Runs of trials that have not ended by themselves.
    """

    name: str
    run_id: str
    experiment_id: str
    protocol: Mapping[str, Any]
    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unfinished: tuple[str, ...] = ()

    def check(self, dataset: Dataset) -> None:
        """The data are those it began with.

        Raises:
            InputError: If not.
        """
        known = (self.protocol.get("dataset") or {}).get("sha256")
        if known != dataset.sha256:
            raise InputError(
                f"The study {self.name!r} was begun on other data (sha256 {str(known)[:12]}...,"
                f" now {dataset.sha256[:12]}...); it cannot be resumed."
            )

    def reopen(self, client: MlflowClient) -> str:
        """Make the study's run active again and take away the runs of trials that will be run again; its id."""
        for run_id in self.unfinished:
            client.delete_run(run_id)
        client.update_run(self.run_id, status="RUNNING")
        client.set_tag(self.run_id, "state", "running")
        return self.run_id


def recorded_arguments(name: str, *, tracking_uri: str) -> list[str]:
    """The command line that began a study.

    Raises:
        InputError: If there is no such study, or it is of a kind that cannot be resumed.
    """
    protocol = load_protocol(name, tracking_uri=tracking_uri)
    if "report" not in protocol:
        raise InputError(f"The study {name!r} cannot be resumed: only the reported studies can be, so far.")
    return [str(argument) for argument in protocol["arguments"]]


def recall(name: str, *, tracking_uri: str) -> Recalled:
    """Read what a reported study has come to.

    Raises:
        InputError: If there is no such study.
    """
    record = load_study(name, tracking_uri=tracking_uri, metrics=("val_accuracy", "epoch_seconds"), finals=False)
    # A run says its reason before it is terminated; one killed in between lacks what comes last.
    ended = record.trials["stop_reason"].isin(FINAL) & (record.trials["status"] == "FINISHED")
    return Recalled(
        name=name,
        run_id=record.run_id,
        experiment_id=record.experiment_id,
        protocol=record.protocol,
        results=_results(record, ended),
        unfinished=tuple(record.trials.loc[~ended, "run_id"]),
    )


def _results(record: StudyRecord, ended: Any) -> dict[str, dict[str, Any]]:
    seconds: dict[Any, float] = record.epochs.groupby("run_id")["epoch_seconds"].sum().to_dict()
    results = {}
    for row in record.trials[ended].to_dict("records"):
        results[str(row["trial_id"])] = {
            "epoch": int(row["epochs_done"]),
            "val_accuracy": float(row["val_accuracy"]),
            "val_nll": float(row.get("val_nll", float("inf"))),
            "trial_seconds": float(seconds.get(row["run_id"], 0.0)),
            "diverged": row["stop_reason"] == DIVERGED,
            "stop_reason": row["stop_reason"],
        }
    return results
