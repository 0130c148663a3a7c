"""The MLflow record: one run per trial under the study's run, written in batches beside the training."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE
from ray.tune import Callback

from analysis.address import redact
from study.experiment import describe_experiment
from study.inputs import study_inputs, trial_inputs
from study.ledger import COMPLETED, DIVERGED, FAILED, INTERRUPTED, PRUNED, Ledger, Request
from trainables.config import InputError, Scalar

logger = logging.getLogger(__name__)

STATUS = {
    COMPLETED: "FINISHED",
    DIVERGED: "FINISHED",
    PRUNED: "KILLED",
    INTERRUPTED: "KILLED",
    FAILED: "FAILED",
}
#: MLflow takes this many metrics in one batch.
MAX_BATCH = 1000
# Rows of one run that arrive within this time travel in one batch.
COLLECT_SECONDS = 1.0
RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0)
MAX_TAG = 5000
MAX_REASON = 300
#: What MLflow will say again however often it is asked, as of a run that somebody deleted.
REFUSALS = {
    *("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"),
    "ENDPOINT_NOT_FOUND",  # a server older than the call
}


@dataclass(frozen=True)
class _Start:
    request: Request
    time: int


@dataclass(frozen=True)
class _Row:
    key: str
    epoch: int
    metrics: Mapping[str, float]
    time: int


@dataclass(frozen=True)
class _End:
    key: str
    stop_reason: str
    tags: Mapping[str, str]
    final: Mapping[str, Any] | None
    time: int


class MlflowRecord:
    """The study's run and, under it, one run per trial; the driver is its only writer.

    Everything goes through one queue to one thread, in order, so that training never waits for the store.

    Args:
        client: Client of the tracking store.
        experiment_id: Where the runs go.
        parent_run_id: The study's run.
        tags: Tags that every trial's run carries.
        dataset: ``dataset`` of ``study.json``, from which every run's inputs follow; without it they have none.
    """

    def __init__(
        self,
        client: MlflowClient,
        experiment_id: str,
        parent_run_id: str,
        tags: Mapping[str, str],
        dataset: Mapping[str, Any] | None = None,
    ) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self.parent_run_id = parent_run_id
        self._tags = dict(tags)
        self._dataset = dataset
        self.run_ids: dict[str, str] = {}
        self._begun: set[str] = set()
        self._queue: queue.SimpleQueue[_Start | _Row | _End | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="mlflow-writer", daemon=True)
        self._thread.start()

    def start(self, request: Request) -> None:
        """Open a trial's run."""
        self._queue.put(_Start(request, _now()))

    def row(self, key: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record one epoch."""
        self._queue.put(_Row(key, epoch, dict(metrics), _now()))

    def end(self, key: str, stop_reason: str, tags: Mapping[str, str], final: Mapping[str, Any] | None = None) -> None:
        """Close a trial's run."""
        self._queue.put(_End(key, stop_reason, dict(tags), final, _now()))

    def close(self) -> None:
        """Wait until everything is written."""
        self._queue.put(None)
        self._thread.join()

    def _write(self) -> None:
        open_to_end = True
        while open_to_end:
            items = [self._queue.get()]
            deadline = time.monotonic() + COLLECT_SECONDS
            while items[-1] is not None and (wait := deadline - time.monotonic()) > 0:
                try:
                    items.append(self._queue.get(timeout=wait))
                except queue.Empty:
                    break
            open_to_end = items[-1] is not None
            self._write_items([item for item in items if item is not None])

    def _write_items(self, items: list[_Start | _Row | _End]) -> None:
        rows: dict[str, list[Metric]] = {}
        for item in items:
            if isinstance(item, _Start):
                # Writes insisted on apart: writing parameters again must not make a second run.
                self._insist(lambda item=item: self._create_run(item))
                self._insist(lambda item=item: self._write_params(item))
                if self._dataset is not None:
                    self._insist(lambda item=item: self._write_inputs(item))
            elif isinstance(item, _Row):
                batch = rows.setdefault(item.key, [])
                batch += [Metric(key, value, item.time, item.epoch) for key, value in item.metrics.items()]
            else:
                self._write_metrics(item.key, rows.pop(item.key, []))
                self._insist(lambda item=item: self._end_run(item))
        for key, metrics in rows.items():
            self._write_metrics(key, metrics)

    def _create_run(self, item: _Start) -> None:
        request = item.request
        tags = self._tags | {
            "mlflow.parentRunId": self.parent_run_id,
            "regime": request.regime,
            "phase": request.phase,
            "arm": request.arm,
            "seed": str(request.config["seed"]),
            "trial_id": request.key,
        }
        run_id = self._unanswered_run(request.key) if request.key in self._begun else None
        self._begun.add(request.key)
        if run_id is None:
            run_id = self._client.create_run(self._experiment_id, item.time, tags, request.run_name).info.run_id
        self.run_ids[request.key] = run_id

    def _unanswered_run(self, key: str) -> str | None:
        """The run that the store made although its answer was lost."""
        where = f"tags.`mlflow.parentRunId` = '{self.parent_run_id}' and tags.trial_id = '{key}'"
        found = self._client.search_runs([self._experiment_id], where, max_results=1)
        return str(found[0].info.run_id) if found else None

    def _write_params(self, item: _Start) -> None:
        params = [Param(key, str(value)) for key, value in item.request.config.items()]
        self._client.log_batch(self.run_ids[item.request.key], params=params)

    def _write_inputs(self, item: _Start) -> None:
        inputs = trial_inputs(self._dataset or {}, item.request)
        self._client.log_inputs(self.run_ids[item.request.key], inputs)

    def _write_metrics(self, key: str, metrics: list[Metric]) -> None:
        for start in range(0, len(metrics), MAX_BATCH):
            part = metrics[start : start + MAX_BATCH]
            self._insist(lambda part=part: self._client.log_batch(self.run_ids[key], metrics=part))

    def _end_run(self, item: _End) -> None:
        run_id = self.run_ids[item.key]
        tags = [RunTag(key, value[:MAX_TAG]) for key, value in {**item.tags, "stop_reason": item.stop_reason}.items()]
        self._client.log_batch(run_id, tags=tags)
        if item.final:
            self._client.log_dict(run_id, dict(item.final), "final.json")
        self._client.set_terminated(run_id, STATUS[item.stop_reason], item.time)

    def _insist(self, write: Any) -> None:
        """Write; where the store does not answer, wait and write again, the order kept."""
        for attempt in range(1000):
            try:
                write()
            except (MlflowException, OSError) as error:
                if getattr(error, "error_code", None) in REFUSALS:
                    logger.exception("MLflow refused a write, which is left out")
                    return
                logger.warning("MLflow did not take a write (%s); trying again", str(error).partition("\n")[0])
                time.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
            except Exception:
                logger.exception("A write to MLflow failed and is left out")
                return
            else:
                return


class MlflowCallback(Callback):  # type: ignore[misc]
    """Hands what Tune reports to the record; nothing here raises into Tune or waits."""

    def __init__(self, record: MlflowRecord, ledger: Ledger) -> None:
        super().__init__()
        self._record = record
        self._ledger = ledger
        self._started: set[str] = set()
        self._rows: dict[str, int] = {}
        self._nodes: dict[str, str] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune pickles its callbacks; the record outlives the process, so the pickle holds nothing."""
        return (dict, ())

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Open the trial's run, once."""
        key = trial.config["key"]
        if key not in self._started:
            self._started.add(key)
            self._record.start(self._ledger.records[key].request)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Record the epochs that are new."""
        key = trial.config["key"]
        self._nodes[key] = result.get("node", self._nodes.get(key, ""))
        for epoch, metrics in result["rows"]:
            if epoch > self._rows.get(key, 0):
                self._rows[key] = epoch
                self._record.row(key, epoch, metrics)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Close the run with the reason the ledger knows."""
        self._end(trial, (trial.last_result or {}).get("final"))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Close the run with the error's traceback."""
        error = ""
        with contextlib.suppress(OSError, TypeError):
            error = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
        self._end(trial, None, {"error": error[-MAX_TAG:]} if error else {})

    def _end(self, trial: Any, final: Mapping[str, Any] | None, tags: Mapping[str, str] | None = None) -> None:
        key = trial.config["key"]
        self._record.end(
            key,
            self._ledger.records[key].stop_reason or INTERRUPTED,
            {"node": self._nodes.pop(key, ""), **(tags or {})},
            final,
        )


def connect(tracking_uri: str, experiment: str, artifacts: str | None) -> tuple[MlflowClient, str]:
    """A client and the experiment's id, the experiment made if it is new.

    Args:
        tracking_uri: Of the store.
        experiment: Its name.
        artifacts: Where artifacts of a new experiment go, or None to leave that to the server.

    Raises:
        InputError: If the store does not answer.
    """
    try:
        client = MlflowClient(tracking_uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            experiment_id = client.create_experiment(experiment, artifacts)
            describe_experiment(client, experiment_id, {})
            return client, experiment_id
    except Exception as error:  # each store raises its own
        reason = " ".join(redact(str(error)).split())
        raise InputError(f"MLflow does not answer at {redact(tracking_uri)}: {reason[:MAX_REASON]}") from error
    if found.lifecycle_stage != "active":
        raise InputError(f"The MLflow experiment {experiment!r} is deleted; restore it or give another name.")
    describe_experiment(client, found.experiment_id, found.tags)
    return client, found.experiment_id


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


def _now() -> int:
    return int(time.time() * 1000)
