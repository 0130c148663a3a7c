"""A study of 1,000 trials × 40 epochs × 20 metrics on record: what a report must be able to carry.

Written in bulk through MLflow's own tables, since its client takes minutes for 800,000 values; what is in them is what
the launcher would have left, one run per trial, ``study.json`` and the ``final.json`` of every confirm run included.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag
from mlflow.tracking._tracking_service.utils import _get_store
from sqlalchemy import insert

from bench.synthetic import EPOCHS, LAST, Trial, draw_histories, final_record

NAME = "large"
ARMS = tuple(f"loss_{number}" for number in range(10))
SEARCH_TRIALS = 50
SEEDS = 49
CONTROL_SEEDS = 10
LOW, HIGH = 1e-3, 1.0
STARTED = 1_700_000_000_000
EPOCH_MILLISECONDS = 500
ROWS_PER_INSERT = 50_000


def write_large_study(uri: str, artifacts: Path, *, location: str | None = None, share: float = 1.0) -> int:
    """Put the study on record.

    Args:
        uri: A database's address, as MLflow takes it.
        artifacts: A folder for the artifacts.
        location: What MLflow calls that folder; its address by default.
        share: Of the trials of each arm; 1 for all 1,000.

    Returns:
        How many values its histories hold.
    """
    client = MlflowClient(uri)
    root = location or artifacts.absolute().as_uri()
    experiment = client.create_experiment(NAME, artifact_location=root)
    trials = plan_trials(share)
    parent = client.create_run(experiment, run_name=NAME, tags=_study_tags()).info.run_id
    protocol = artifacts / parent / "artifacts" / "study.json"
    protocol.parent.mkdir(parents=True)
    protocol.write_text(json.dumps(describe_study(trials)), encoding="utf-8")
    rows: dict[type, list[dict[str, Any]]] = {SqlRun: [], SqlTag: [], SqlParam: [], SqlMetric: [], SqlLatestMetric: []}
    for position, trial in enumerate(trials):
        run_id = _add_trial(rows, trial, parent=parent, experiment=experiment, root=root, position=position)
        if trial.phase != "search":
            write_final(artifacts / run_id / "artifacts", rows[SqlMetric][-1]["value"])
    with _get_store(store_uri=uri).ManagedSessionMaker(read_only=False) as session:
        for table, own in rows.items():
            for start in range(0, len(own), ROWS_PER_INSERT):
                session.execute(insert(table.__table__), own[start : start + ROWS_PER_INSERT])  # type: ignore[attr-defined]
    client.set_terminated(parent)
    return len(rows[SqlMetric])


def plan_trials(share: float) -> list[Trial]:
    """Every trial in the order it would have run."""
    searched, seeds, controls = (max(2, round(share * number)) for number in (SEARCH_TRIALS, SEEDS, CONTROL_SEEDS))
    rates = np.geomspace(LOW, HIGH, searched + 2)[1:-1]
    winner = float(rates[searched // 2])
    search = [Trial(arm, "search", number, 0, float(rates[number])) for number in range(searched) for arm in ARMS]
    confirm = [Trial(arm, "confirm", seed - 1, seed, winner) for seed in range(1, seeds + 1) for arm in ARMS]
    control = [Trial("kl_div", "control", seed - 1, seed, winner) for seed in range(1, controls + 1)]
    return [*search, *confirm, *control]


def describe_study(trials: list[Trial]) -> dict[str, Any]:
    """``study.json``."""
    rate = {"key": "optimizer.learning_rate", "kind": "float", "low": LOW, "high": HIGH, "log": True, "when": None}
    confirm = [trial for trial in trials if trial.phase == "confirm"]
    searched = max(trial.number for trial in trials if trial.phase == "search") + 1
    winners = {
        arm: {"number": searched // 2, "val_accuracy": 0.9, "config": _parameters(confirm[0]) | {"loss": arm}}
        for arm in ARMS
    }
    return {
        "schema": 1,
        "study": NAME,
        "space": "full",
        "question": "How long does a report of a large study take?",
        "factor": "loss",
        "baseline": ARMS[0],
        "mode": "arms",
        "arms": [{"name": arm, "fixed": {"loss": arm}, "parameters": [rate]} for arm in ARMS],
        "delta": 0.5,
        "seed": 0,
        "confirm_seeds": sorted({trial.seed for trial in confirm}),
        "trials_per_arm": searched,
        "dataset": {"name": "fashion-mnist", "num_train": 50_000, "num_val": 10_000, "num_test": 10_000},
        "search": "tpe",
        "stopping": "none",
        "rungs": [],
        "winners": winners,
        "versions": {},
        "command": "python -m bench.run report",
        "notes": [],
    }


def _study_tags() -> dict[str, str]:
    return {"study": NAME, "space": "full", "dataset": "fashion-mnist", "phase": "study", "state": "finished"}


def _parameters(trial: Trial) -> dict[str, Any]:
    return {
        "loss": trial.arm,
        "optimizer": "sgd",
        "optimizer.learning_rate": trial.rate,
        "optimizer.momentum": 0.9,
        "batch_size": 128,
        "epochs": EPOCHS,
        "model": "mlp",
        "hidden_layers": 1,
        "width": 128,
        "activation": "relu",
        "seed": trial.seed,
    }


def _add_trial(
    rows: Mapping[type, list[dict[str, Any]]],
    trial: Trial,
    *,
    parent: str,
    experiment: str,
    root: str,
    position: int,
) -> str:
    run_id = uuid.UUID(int=position + 1).hex
    started = STARTED + position * 1000
    ended = started + EPOCHS * EPOCH_MILLISECONDS
    rows[SqlRun].append(
        {
            "run_uuid": run_id,
            "name": f"{trial.arm}-{trial.phase}-{trial.number}",
            "source_type": "UNKNOWN",
            "source_name": "",
            "entry_point_name": "",
            "user_id": "bench",
            "status": "FINISHED",
            "start_time": started,
            "end_time": ended,
            "source_version": "",
            "lifecycle_stage": "active",
            "artifact_uri": f"{root}/{run_id}/artifacts",
            "experiment_id": int(experiment),
        }
    )
    tags = {
        "mlflow.parentRunId": parent,
        "study": NAME,
        "phase": trial.phase,
        "arm": trial.arm,
        "seed": str(trial.seed),
        "regime": "search",
        "trial_id": trial.key,
        "stop_reason": "completed",
        "node": "bench",
    }
    rows[SqlTag] += [{"run_uuid": run_id, "key": key, "value": value} for key, value in tags.items()]
    rows[SqlParam] += [
        {"run_uuid": run_id, "key": key, "value": str(value)} for key, value in _parameters(trial).items()
    ]
    values = draw_histories(trial)
    last = {key: float(values["val_accuracy"][-1]) for key in LAST} if trial.phase != "search" else {}
    logged = [
        {
            "run_uuid": run_id,
            "key": key,
            "value": value,
            "step": epoch,
            "timestamp": started + epoch * EPOCH_MILLISECONDS,
            "is_nan": False,
        }
        for key, history in values.items()
        for epoch, value in enumerate(history.tolist(), start=1)
    ] + [
        {"run_uuid": run_id, "key": key, "value": value, "step": EPOCHS, "timestamp": ended, "is_nan": False}
        for key, value in last.items()
    ]
    rows[SqlMetric].extend(logged)
    rows[SqlLatestMetric] += [row for row in logged if row["step"] == EPOCHS]
    return run_id


def write_final(folder: Path, accuracy: float) -> None:
    """``final.json`` as a confirm trial leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "final.json").write_text(json.dumps(final_record(accuracy)), encoding="utf-8")
