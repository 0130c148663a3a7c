"""What a trial is in MLflow: a run under the study's, each call such that it may be made again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from analysis.load import as_text
from study.inputs import trial_inputs
from study.ledger import COMPLETED, DIVERGED, FAILED, INTERRUPTED, PRUNED
from study.spool import End, Row, Start

STATUS = {
    COMPLETED: "FINISHED",
    DIVERGED: "FINISHED",
    PRUNED: "KILLED",
    INTERRUPTED: "KILLED",
    FAILED: "FAILED",
}
MAX_TAG = 5000
#: MLflow takes this many metrics in one batch.
MAX_BATCH = 1000


class TrialRuns:
    """Writes trials to their runs, without patience: what the store does not take raises.

    Args:
        client: Client of the tracking store.
        experiment_id: Where the runs go.
        parent_run_id: The study's run.
        tags: Tags that every trial's run carries.
        dataset: ``dataset`` of ``study.json``, from which every run's inputs follow; without it they have none.
        known: Runs on record already, by trial key.
        answers_get_lost: Whether a run may be made although its answer never came, and come late, as behind a network:
            then each end looks for such twins, which takes the longer the more runs the store has.
    """

    def __init__(
        self,
        client: MlflowClient,
        experiment_id: str,
        parent_run_id: str,
        tags: Mapping[str, str],
        *,
        dataset: Mapping[str, Any] | None,
        known: Mapping[str, str],
        answers_get_lost: bool = True,
    ) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._parent_run_id = parent_run_id
        self._tags = dict(tags)
        self._dataset = dataset
        self._answers_get_lost = answers_get_lost
        self.ids = dict(known)
        self._asked: set[str] = set()

    def start(self, item: Start) -> Iterator[Callable[[], None]]:
        """The writes that open a trial's run, made or used again, one by one."""
        # Apart: writing parameters again must not make a second run.
        yield partial(self._reopen if item.key in self.ids else self._create, item)
        yield partial(self._write_params, item)
        if self._dataset is not None:
            yield partial(self._write_inputs, item, self._dataset)

    def rows(self, key: str, rows: Iterable[Row]) -> None:
        """Write epochs in one batch, which SQL stores take whole or not at all."""
        metrics = [Metric(name, value, row.time, row.epoch) for row in rows for name, value in row.metrics.items()]
        self._client.log_batch(self.ids[key], metrics=metrics)

    def end(self, item: End) -> None:
        """Close a trial's run."""
        run_id = self.ids[item.key]
        # MLflow's client asks again by itself when an answer is lost, and what a process that died had asked for may
        # arrive late: so a run may be made twice.
        for twin in self._find(item.key) if self._answers_get_lost else ():
            if twin != run_id:
                self._client.delete_run(twin)
        tags = [RunTag(key, value[:MAX_TAG]) for key, value in {**item.tags, "stop_reason": item.stop_reason}.items()]
        self._client.log_batch(run_id, tags=tags)
        if item.final:
            self._client.log_dict(run_id, dict(item.final), "final.json")
        self._client.set_terminated(run_id, STATUS[item.stop_reason], item.time)

    def _reopen(self, item: Start) -> None:
        self._client.update_run(self.ids[item.key], status="RUNNING")

    def _create(self, item: Start) -> None:
        request = item.request
        tags = self._tags | {
            "mlflow.parentRunId": self._parent_run_id,
            "regime": request.regime,
            "phase": request.phase,
            "arm": request.arm,
            "seed": str(request.config["seed"]),
            "trial_id": request.key,
        }
        # Asked before, the store may have made it although its answer was lost.
        made = self._find(item.key) if item.key in self._asked else []
        self._asked.add(item.key)
        run_id = made[0] if made else None
        if run_id is None:
            run_id = self._client.create_run(self._experiment_id, item.time, tags, request.run_name).info.run_id
        self.ids[item.key] = run_id

    def _find(self, key: str) -> list[str]:
        """A trial's runs on record, the first made first."""
        # The rarer tag first: SQLite looks at as many runs of this store as have the second one's value.
        where = f"tags.trial_id = '{key}' and tags.`mlflow.parentRunId` = '{self._parent_run_id}'"
        found = self._client.search_runs([self._experiment_id], where, order_by=["start_time ASC"])
        return [str(run.info.run_id) for run in found]

    def _write_params(self, item: Start) -> None:
        params = [Param(name, as_text(value)) for name, value in item.request.config.items()]
        self._client.log_batch(self.ids[item.key], params=params)

    def _write_inputs(self, item: Start, dataset: Mapping[str, Any]) -> None:
        self._client.log_inputs(self.ids[item.key], trial_inputs(dataset, item.request))


def batches(rows: Mapping[int, Row]) -> Iterator[dict[int, Row]]:
    """Rows, whole, as many at a time as MLflow takes."""
    batch: dict[int, Row] = {}
    size = 0
    for number, row in rows.items():
        if batch and size + len(row.metrics) > MAX_BATCH:
            yield batch
            batch, size = {}, 0
        batch[number] = row
        size += len(row.metrics)
    if batch:
        yield batch
