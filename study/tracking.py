"""What Tune reports, told to the record; and where in MLflow the record is."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE
from ray.tune import Callback

from analysis.address import is_sqlite, redact, short_reason
from study.experiment import describe_experiment
from study.inputs import study_inputs
from study.ledger import INTERRUPTED, Ledger
from study.packs import keys_of, results_of
from study.record import MlflowRecord
from study.runs import MAX_TAG
from trainables.config import InputError, Scalar


@dataclass(frozen=True)
class _Stay:
    """A trial on a machine: since when and until when it was heard of there."""

    since: float
    until: float
    node: str = ""
    left: bool = False


class MlflowCallback(Callback):  # type: ignore[misc]
    """Hands what Tune reports to the record; nothing here raises into Tune or waits."""

    def __init__(self, record: MlflowRecord, ledger: Ledger, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._record = record
        self._ledger = ledger
        self._clock = clock
        self._stays: dict[str, list[_Stay]] = {}
        self._notices: dict[str, list[str]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune pickles its callbacks; the record outlives the process, so the pickle holds nothing."""
        return (dict, ())

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Open the trial's run, once however often it is tried."""
        now = self._clock()
        for key in keys_of(trial.config):
            self._stays.setdefault(key, []).append(_Stay(now, now))
            self._record.start(self._ledger.records[key].request)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Record the epochs."""
        for key in keys_of(trial.config):
            if stays := self._stays.get(key):
                stays[-1] = replace(stays[-1], node=result["node"], until=self._clock())
            if result.get("notice"):
                self._notices.setdefault(key, []).append(result["notice"])
        for key, own in results_of(trial.config, result):
            for epoch, metrics in own["rows"]:
                self._record.row(key, epoch, metrics)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Close the run with the reason the ledger knows."""
        told = dict(results_of(trial.config, trial.last_result))
        keys = keys_of(trial.config)
        for key in keys:
            self._end(key, told.get(key, {}).get("final"), num_replicas=len(keys))
        if len(keys) > 1:  # Tune keeps the last result: here every row of every trial, megabytes that nobody asks for
            trial.last_result.pop("members", None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Close the run with the error's traceback, unless the trial is tried again."""
        for key in keys_of(trial.config):
            self._leave(key)
            if self._ledger.records[key].stop_reason is None:
                continue
            # One whose worker died before it began has no run yet.
            self._record.start(self._ledger.records[key].request)
            error = ""
            with contextlib.suppress(OSError, TypeError):
                error = redact(Path(trial.error_file).read_text(encoding="utf-8", errors="replace"))
            self._end(key, None, {"error": error[-MAX_TAG:]} if error else {})

    def _end(
        self,
        key: str,
        final: Mapping[str, Any] | None,
        tags: Mapping[str, str] | None = None,
        *,
        num_replicas: int = 1,
    ) -> None:
        self._leave(key)
        told = describe_stays(self._stays.pop(key, []), num_replicas)
        if num_replicas > 1:
            told["replicas"] = str(num_replicas)
        if failures := len(self._ledger.records[key].failures):
            told["failures"] = str(failures)
        if notices := self._notices.pop(key, []):
            told["notice"] = " ".join(notices)
        self._record.end(key, self._ledger.records[key].stop_reason or INTERRUPTED, {**told, **(tags or {})}, final)

    def _leave(self, key: str) -> None:
        """A trial that fails or ends is where it was until now, and no longer when that is told twice."""
        if (stays := self._stays.get(key)) and not stays[-1].left:
            stays[-1] = replace(stays[-1], until=self._clock(), left=True)


def describe_stays(stays: Sequence[_Stay], num_replicas: int = 1) -> dict[str, str]:
    """The tags that say where a trial was: ``node``, the last one, ``node_seconds`` and, if it moved, all ``nodes``.

    Of a trial that moved both name its nodes in order, the one as names and the other as seconds, a space between. Of
    trials that were trained as one model each counts for an equal share of the seconds.
    """
    seconds: list[tuple[str, float]] = []
    for stay in stays:
        if not stay.node:  # it was lost before it was heard of
            continue
        if seconds and seconds[-1][0] == stay.node:
            seconds[-1] = (stay.node, seconds[-1][1] + stay.until - stay.since)
        else:
            seconds.append((stay.node, stay.until - stay.since))
    if not seconds:
        return {"node": ""}
    told = {"node": seconds[-1][0], "node_seconds": " ".join(f"{spent / num_replicas:.1f}" for _, spent in seconds)}
    return told | ({"nodes": " ".join(node for node, _ in seconds)} if len(seconds) > 1 else {})


def connect(
    tracking_uri: str, experiment: str, artifacts: str | None, *, name: str | None = None
) -> tuple[MlflowClient, str]:
    """A client and the experiment's id, the experiment made if it is new.

    Args:
        tracking_uri: Of the store.
        experiment: Its name.
        artifacts: Where artifacts of a new experiment go, or None to leave that to the server.
        name: Of a study that must not be on record yet; seen before an experiment is made for it.

    Raises:
        InputError: If the store does not answer.
    """
    try:
        if is_sqlite(tracking_uri):
            make_database(Path(tracking_uri.removeprefix("sqlite:///")))
        client = MlflowClient(tracking_uri)
        found = client.get_experiment_by_name(experiment)
        if name is not None:
            check_name_is_free(client, name)
        if found is None:
            experiment_id = client.create_experiment(experiment, artifacts)
            describe_experiment(client, experiment_id, {})
            return client, experiment_id
    except InputError:
        raise
    except Exception as error:  # each store raises its own
        raise InputError(f"MLflow does not answer at {redact(tracking_uri)}: {short_reason(error)}") from error
    if found.lifecycle_stage != "active":
        raise InputError(f"The MLflow experiment {experiment!r} is deleted; restore it or give another name.")
    describe_experiment(client, found.experiment_id, found.tags)
    return client, found.experiment_id


def make_database(path: Path) -> None:
    """Make MLflow's tables in memory and put the whole database there at once, if there is none.

    MLflow itself would wait for the disk after each of some three hundred statements: seconds before the first trial.
    What fails here is left to it.

    Args:
        path: Of the database; its folder exists.
    """
    if path.exists():
        return
    engine = create_sqlalchemy_engine("sqlite:///:memory:")
    part = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        _initialize_tables(engine)  # MLflow's version is pinned
        with (
            contextlib.closing(engine.raw_connection()) as connection,
            contextlib.closing(sqlite3.connect(part)) as file,
        ):
            connection.driver_connection.backup(file)
        os.link(part, path)  # raises if another study was faster; its database is not written over
    except (OSError, sqlite3.Error):
        pass
    finally:
        part.unlink(missing_ok=True)
        engine.dispose()


def check_name_is_free(client: MlflowClient, name: str) -> None:
    """No study on record has this name, wherever its folder is: reports find a study by it.

    Raises:
        InputError: If one has.
    """
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments, f"tags.study = '{name}' and tags.phase = 'study'", max_results=1)
    if found:
        raise InputError(f"A study called {name!r} is on record in MLflow already; give another `--name`.")


def start_study_run(
    client: MlflowClient, experiment_id: str, name: str, tags: Mapping[str, Scalar], protocol: Mapping[str, Any]
) -> str:
    """The study's own run, holding ``study.json`` and naming its data."""
    # Fills the page's own columns Source and Version.
    source = {MLFLOW_SOURCE_NAME: "study.launch", MLFLOW_SOURCE_TYPE: "LOCAL"}
    if "git_commit" in tags:
        source[MLFLOW_GIT_COMMIT] = str(tags["git_commit"])
    shown = source | {key: str(value) for key, value in tags.items()}
    run = client.create_run(experiment_id, tags=shown, run_name=name)
    run_id: str = run.info.run_id
    client.log_dict(run_id, dict(protocol), "study.json")
    if "dataset" in protocol:
        with contextlib.suppress(MlflowException):  # the page has less then; a study needs no more than the record
            client.log_inputs(run_id, study_inputs(protocol["dataset"]))
    return run_id
