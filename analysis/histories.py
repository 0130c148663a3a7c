"""Every logged value of many runs at once, from whichever store MLflow keeps them in.

MLflow's public client reads one metric of one run per call: 20,000 calls for a thousand trials with twenty metrics.
Three paths, fastest first: one column query against a database, the bulk route of a tracking server, the client.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.tracking._tracking_service.utils import _get_store
from mlflow.utils.rest_utils import http_request

#: run_id, metric, epoch, value, logged_at (milliseconds since 1970).
Row = tuple[str, str, int, float, int]
COLUMNS = ("run_id", "metric", "epoch", "value", "logged_at")

#: A database takes a bounded number of bound values in one statement; the smallest bound in use is SQLite's old 999.
RUNS_PER_QUERY = 500
#: What one request to a tracking server may ask for and what it answers at most (mlflow/server/handlers.py).
RUNS_PER_REQUEST = 100
VALUES_PER_REQUEST = 25_000
BULK_ROUTE = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
NUM_CONNECTIONS = 4


def load_histories(tracking_uri: str, runs_of: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """All values of the metrics named, one row per run, metric and epoch.

    Args:
        tracking_uri: Where MLflow keeps its record.
        runs_of: For each metric, the runs that logged it.

    Returns:
        ``run_id, metric, epoch, value, logged_at``; of a value logged twice for one epoch the later stays.
    """
    store = _get_store(store_uri=tracking_uri)
    if hasattr(store, "ManagedSessionMaker"):
        rows = _from_database(store, runs_of)
    elif hasattr(store, "get_host_creds"):
        rows = _from_server(store, MlflowClient(tracking_uri), runs_of)
    else:
        rows = _one_by_one(MlflowClient(tracking_uri), _pairs(runs_of))
    frame = pd.DataFrame.from_records(list(rows), columns=list(COLUMNS))
    return frame.sort_values("logged_at", kind="stable").drop_duplicates(["run_id", "metric", "epoch"], keep="last")


def _pairs(runs_of: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    return [(metric, run_id) for metric, run_ids in runs_of.items() for run_id in run_ids]


def _slices(items: Sequence[str], size: int) -> list[Sequence[str]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _from_database(store: Any, runs_of: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    """Plain columns: MLflow's own bulk call builds three objects per value and takes seven times as long."""
    from mlflow.store.tracking.dbmodels.models import SqlMetric as Table  # noqa: PLC0415 - needs SQLAlchemy
    from sqlalchemy import select  # noqa: PLC0415

    run_ids = sorted({run_id for runs in runs_of.values() for run_id in runs})
    columns = (Table.run_uuid, Table.key, Table.step, Table.value, Table.timestamp, Table.is_nan)
    with store.ManagedSessionMaker() as session:
        for some in _slices(run_ids, RUNS_PER_QUERY):
            for run_id, metric, epoch, value, logged_at, is_nan in session.execute(
                select(*columns).where(Table.run_uuid.in_(some))
            ):
                if metric in runs_of:
                    yield run_id, metric, epoch, float("nan") if is_nan else value, logged_at


def _from_server(store: Any, client: MlflowClient, runs_of: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    jobs = [(metric, some) for metric, run_ids in runs_of.items() for some in _slices(run_ids, RUNS_PER_REQUEST)]
    with ThreadPoolExecutor(NUM_CONNECTIONS) as pool:
        for rows in pool.map(lambda job: _request(store, client, *job), jobs):
            yield from rows


def _request(store: Any, client: MlflowClient, metric: str, run_ids: Sequence[str]) -> list[Row]:
    """One page; a full answer may have been cut short, so it is asked again in halves."""
    parameters = {"run_id": list(run_ids), "metric_key": metric, "max_results": VALUES_PER_REQUEST}
    response = http_request(store.get_host_creds(), BULK_ROUTE, "GET", params=parameters, raise_on_status=False)
    if response.status_code != 200:  # noqa: PLR2004 - a server of another make may lack the route
        return list(_one_by_one(client, [(metric, run_id) for run_id in run_ids]))
    values = response.json()["metrics"]
    if len(values) < VALUES_PER_REQUEST:
        return [(v["run_id"], v["key"], int(v["step"]), float(v["value"]), int(v["timestamp"])) for v in values]
    if len(run_ids) == 1:
        return list(_one_by_one(client, [(metric, run_ids[0])]))
    middle = len(run_ids) // 2
    return [row for half in (run_ids[:middle], run_ids[middle:]) for row in _request(store, client, metric, half)]


def _one_by_one(client: MlflowClient, pairs: Sequence[tuple[str, str]]) -> Iterator[Row]:
    with ThreadPoolExecutor(NUM_CONNECTIONS) as pool:
        histories = pool.map(lambda pair: client.get_metric_history(pair[1], pair[0]), pairs)
        for (metric, run_id), history in zip(pairs, histories, strict=True):
            for value in history:
                yield run_id, metric, value.step, value.value, value.timestamp
