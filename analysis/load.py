"""From MLflow to tidy frames: the only module of the report that does input.

The record is read as ``docs/mlflow.md`` describes it: one parent run per study, one child run per trial, metrics with
step = epoch. Looking never writes: a store that is not there stays away, an empty one stays empty.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run

from analysis.address import is_server, redact, resolve_tracking_uri
from analysis.artifacts import read_artifact, read_json, read_json_of_each
from analysis.earlier import CONFIRMATIONS, mark_earlier
from analysis.epochs_file import FILE_NAME, read_histories
from analysis.histories import load_histories
from analysis.plain import plain
from analysis.store import check_store, one_line
from trainables.config import InputError, Scalar

RUNS_PER_PAGE = 500
#: What a run's status says where the tag ``stop_reason`` is missing, as after a kill.
STOP_REASONS = {"FINISHED": "completed", "KILLED": "interrupted", "FAILED": "failed", "RUNNING": "running"}
TRIAL_COLUMNS = (
    "run_id",
    "arm",
    "phase",
    "regime",
    "seed",
    "number",
    "trial_id",
    "stop_reason",
    "status",
    "node",
    "nodes",
    "node_seconds",
    "start",
    "end",
)
EPOCH_COLUMNS = ("run_id", "arm", "phase", "seed", "trial_id", "epoch", "logged_at")


@dataclass(frozen=True, eq=False)
class StudyRecord:
    """One study as MLflow holds it.

    Args:
        name: The study's name.
        run_id: The parent run.
        experiment_id: The experiment of the parent and of its children.
        tracking_uri: Where it was read from.
        tags: The parent's tags, MLflow's own included.
        protocol: ``study.json``; empty if it is not on record.
        trials: One row per child run: ``run_id, arm, phase, regime, seed, number, trial_id, stop_reason, status, node,
            nodes, node_seconds, start, end``, every parameter under its flat key, every metric as it stood at the last
            epoch, ``epochs_done``. The regime is empty where none is on record; the confirm runs of a look that is not
            the study's last have the phase ``earlier confirm``, its controls ``earlier control``. ``nodes`` and
            ``node_seconds`` are text as in the tags.
        epochs: One row per run and epoch: ``run_id, arm, phase, seed, trial_id, epoch, logged_at`` and the metrics.
        finals: ``final.json`` of the last look's runs that have one, by run id.
        identities: ``identities.json``, the exact tests recorded with the study; empty if there are none.
        diagnostics: ``diagnostics.json``, the short measurements beside its training; empty if there are none.
        runs_of: For each metric on record, read or not, the runs that logged it.
    """

    name: str
    run_id: str
    experiment_id: str
    tracking_uri: str
    tags: Mapping[str, str]
    protocol: Mapping[str, Any]
    trials: pd.DataFrame
    epochs: pd.DataFrame
    finals: Mapping[str, Mapping[str, Any]]
    identities: Mapping[str, Any] = field(default_factory=dict)
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    runs_of: Mapping[str, Sequence[str]] = field(default_factory=dict)


def load_study(
    name: str, *, tracking_uri: str | None = None, metrics: Collection[str] | None = None, finals: bool = True
) -> StudyRecord:
    """Read a study from MLflow.

    Args:
        name: The study's name; of several parents of one name the newest is taken.
        tracking_uri: Default: ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` in the working directory.
        metrics: Metrics whose history is read into ``epochs``; all by default.
        finals: Whether ``final.json`` is read.

    Raises:
        InputError: If there is no such study or no such store, or the store does not answer.
    """
    uri = resolve_tracking_uri(tracking_uri)
    check_store(uri)
    with one_line(uri):
        client = MlflowClient(uri)
        parent = _find_parent(client, name, uri)
        children = find_children(client, parent.info.experiment_id, parent.info.run_id)
        protocol = read_json(uri, parent, "study.json") or {}
        trials = mark_earlier(build_trials(children), protocol)
        epochs = _load_epochs(uri, parent, children, trials, metrics)
        return StudyRecord(
            name=name,
            run_id=parent.info.run_id,
            experiment_id=parent.info.experiment_id,
            tracking_uri=uri,
            tags=dict(parent.data.tags),
            protocol=protocol,
            trials=add_last_epoch(trials, epochs),
            epochs=epochs,
            finals=read_json_of_each(uri, _confirmed(children, trials), "final.json") if finals else {},
            identities=read_json(uri, parent, "identities.json") or {},
            diagnostics=read_json(uri, parent, "diagnostics.json") or {},
            runs_of=_runs_of(children),
        )


def load_epochs(record: StudyRecord) -> pd.DataFrame:
    """Every metric of every epoch of a study that was read with a few, as its ``epochs`` would be with all.

    Raises:
        InputError: If the store does not answer any more.
    """
    uri, keys = record.tracking_uri, ["run_id", "epoch"]
    others = {metric: runs for metric, runs in record.runs_of.items() if metric not in record.epochs}
    if not others:
        return record.epochs
    with one_line(uri):
        client = MlflowClient(uri)
        held = _read_file(
            uri, client.get_run(record.run_id), lambda: find_children(client, record.experiment_id, record.run_id)
        )
        if held is not None:
            return add_trial_keys(held, record.trials)
        rest = build_epochs(load_histories(uri, others), record.trials)
    both = record.epochs.set_index(keys).combine_first(rest.set_index(keys))
    logged_at = pd.concat([record.epochs, rest]).groupby(keys)["logged_at"].max()
    values = both[[*record.runs_of]].assign(logged_at=logged_at).reset_index()
    return add_trial_keys(values, record.trials)


def load_protocol(name: str, *, tracking_uri: str | None = None) -> dict[str, Any]:
    """A study's ``study.json`` alone; empty if it is not on record.

    Raises:
        InputError: As :func:`load_study`.
    """
    uri = resolve_tracking_uri(tracking_uri)
    check_store(uri)
    with one_line(uri):
        return read_json(uri, _find_parent(MlflowClient(uri), name, uri), "study.json") or {}


def find_children(client: MlflowClient, experiment_id: str, parent: str) -> list[Run]:
    """The runs of a study's trials."""
    return list(_search(client, [experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'"))


def _search(client: MlflowClient, experiment_ids: Sequence[str], condition: str) -> Iterator[Run]:
    token = None
    while True:
        page = client.search_runs(list(experiment_ids), condition, max_results=RUNS_PER_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def list_studies(*, tracking_uri: str | None = None) -> list[dict[str, str]]:
    """The tags of every study on record, newest first: ``study`` is its name, ``space`` what it asked.

    Args:
        tracking_uri: As in :func:`load_study`.

    Raises:
        InputError: If there is no such store, or it does not answer.
    """
    uri = resolve_tracking_uri(tracking_uri)
    check_store(uri)
    with one_line(uri):
        return [dict(run.data.tags) for run in find_studies(MlflowClient(uri))]


def find_studies(client: MlflowClient) -> list[Run]:
    """The studies' own runs, newest first."""
    experiment_ids: list[str] = []
    token = None
    while True:
        page = client.search_experiments(page_token=token)
        experiment_ids += [experiment.experiment_id for experiment in page]
        token = page.token
        if not token:
            break
    return sorted(_search(client, experiment_ids, "tags.phase = 'study'"), key=lambda run: -run.info.start_time)


def _find_parent(client: MlflowClient, name: str, uri: str) -> Run:
    # The name is compared here and not in the condition, where a quote in it would be syntax.
    parents = find_studies(client)
    for run in parents:
        if run.data.tags.get("study") == name:
            return run
    known = list(dict.fromkeys(plain(run.data.tags.get("study", run.info.run_name)) for run in parents))
    choices = f"on record, newest first: {', '.join(known[:10])}" if known else "no study is on record"
    more = f" and {len(known) - 10} more" if len(known) > 10 else ""  # noqa: PLR2004 - a line, not a page
    raise InputError(f"Unknown study {name!r} in {redact(uri)}; {choices}{more}.")


def convert(text: str) -> Scalar:
    """A parameter as it was before :func:`as_text` or ``str`` made it text.

    Text that reads as a number but is not how Python writes one, as ``007`` or ``1_000``, was never a number.
    """
    if text in {"True", "False"}:
        return text == "True"
    if text.startswith('"'):
        with contextlib.suppress(ValueError):
            return str(json.loads(text))
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            value: int | float = kind(text)
            if str(value) == text:
                return value
    return text


def as_text(value: Scalar) -> str:
    """A parameter as MLflow stores it: text that :func:`convert` would take for something else is quoted."""
    ambiguous = isinstance(value, str) and (value.startswith('"') or not isinstance(convert(value), str))
    return json.dumps(value) if ambiguous else str(value)


def build_trials(children: Sequence[Run]) -> pd.DataFrame:
    """One row per child run, without the metrics of its last epoch."""
    rows = []
    for run in children:
        tags = run.data.tags
        number = tags.get("trial_id", "").rpartition("/")[2]
        seed = tags.get("seed", run.data.params.get("seed", ""))
        rows.append(
            {key: convert(value) for key, value in run.data.params.items()}
            | run.data.metrics
            | {
                "run_id": run.info.run_id,
                "arm": tags.get("arm", ""),
                "phase": tags.get("phase", ""),
                "regime": tags.get("regime", ""),
                "seed": int(seed) if seed.isdigit() else None,
                "number": int(number) if number.isdigit() else None,
                "trial_id": tags.get("trial_id", ""),
                "stop_reason": tags.get("stop_reason") or STOP_REASONS.get(run.info.status, "failed"),
                "status": run.info.status,
                "node": tags.get("node", ""),
                "nodes": tags.get("nodes", tags.get("node", "")),
                "node_seconds": tags.get("node_seconds", ""),
                "start": run.info.start_time,
                "end": run.info.end_time,
            }
        )
    frame = pd.DataFrame(rows, columns=None if rows else list(TRIAL_COLUMNS))
    for column in ("seed", "number"):
        frame[column] = frame[column].astype("Int64")
    for column in ("start", "end"):
        frame[column] = pd.to_datetime(frame[column], unit="ms", utc=True)
    others = [column for column in frame.columns if column not in TRIAL_COLUMNS]
    return frame[[*TRIAL_COLUMNS, *others]].sort_values(["phase", "arm", "number", "start"], ignore_index=True)


def _load_epochs(
    uri: str, parent: Run, children: Sequence[Run], trials: pd.DataFrame, metrics: Collection[str] | None
) -> pd.DataFrame:
    """From the file that the study's run carries where a server agrees with it; else value by value."""
    held = _read_file(uri, parent, lambda: children, metrics)
    if held is not None:
        return add_trial_keys(held, trials)
    wanted = {metric: runs for metric, runs in _runs_of(children).items() if metrics is None or metric in metrics}
    return build_epochs(load_histories(uri, wanted), trials)


def _read_file(
    uri: str, parent: Run, children: Callable[[], Sequence[Run]], metrics: Collection[str] | None = None
) -> pd.DataFrame | None:
    """What the file on the study's run holds; None where there is none to believe, or a database is as fast."""
    content = read_artifact(uri, parent, FILE_NAME) if is_server(uri) else None
    return None if content is None else read_histories(content, children(), metrics)


def _runs_of(children: Sequence[Run]) -> dict[str, list[str]]:
    runs_of: dict[str, list[str]] = {}
    for run in children:
        for metric in run.data.metrics:
            runs_of.setdefault(metric, []).append(run.info.run_id)
    return runs_of


def build_epochs(histories: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """One row per run and epoch, from one row per value."""
    keys = ["run_id", "epoch"]
    wide = histories.pivot(index=keys, columns="metric", values="value")  # noqa: PD010 - one value per cell, none to pool
    logged_at = pd.to_datetime(histories.groupby(keys)["logged_at"].max(), unit="ms", utc=True)
    return add_trial_keys(wide.assign(logged_at=logged_at).reset_index().rename_axis(columns=None), trials)


def add_trial_keys(wide: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """The epochs of known trials with what names the trial, in order."""
    frame = wide.merge(trials[["run_id", "arm", "phase", "seed", "trial_id"]], on="run_id")
    others = sorted(column for column in frame.columns if column not in EPOCH_COLUMNS)
    return frame[[*EPOCH_COLUMNS, *others]].sort_values(["run_id", "epoch"], ignore_index=True)


def add_last_epoch(trials: pd.DataFrame, epochs: pd.DataFrame) -> pd.DataFrame:
    """The trials with ``epochs_done`` and, for the metrics in ``epochs``, what the last epoch says.

    MLflow's latest value of a metric that was not logged at the end, since it was not finite, is an earlier epoch's.
    """
    last = epochs.drop_duplicates("run_id", keep="last").set_index("run_id")
    metrics = [column for column in epochs.columns if column not in EPOCH_COLUMNS]
    frame = trials.drop(columns=[column for column in metrics if column in trials])
    frame = frame.merge(last[metrics], left_on="run_id", right_index=True, how="left")
    return frame.assign(epochs_done=frame["run_id"].map(last["epoch"]).fillna(0).astype(int))


def numbers(frame: pd.DataFrame, column: str) -> pd.Series[float]:
    """A column as numbers, NaN throughout where the record lacks it."""
    if column not in frame:
        return pd.Series(np.nan, index=frame.index, dtype=float)
    return pd.to_numeric(frame[column], errors="coerce").astype(float)


def _confirmed(children: Sequence[Run], trials: pd.DataFrame) -> list[Run]:
    confirmed = set(trials.loc[trials["phase"].isin(CONFIRMATIONS), "run_id"])
    return [run for run in children if run.info.run_id in confirmed]
