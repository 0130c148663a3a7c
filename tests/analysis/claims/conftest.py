import json
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

SEEDS = tuple(range(1, 11))


def spread(center, *, sd=0.1, stream=0, n=10):
    """Values about ``center`` whose mean and SD are exactly as given, in a random order of their own."""
    raw = np.random.default_rng(stream).normal(size=n)
    return center + sd * (raw - raw.mean()) / raw.std(ddof=1)


def protocol(*, report, dataset, stand_in, scale, num_train, regimes, arms, own="mnist", delta=0.2):
    return {
        "report": report,
        "space": "a-space",
        "regimes": list(regimes),
        "epochs_scale": scale,
        "report_dataset": own,
        "stand_in": stand_in,
        "delta": delta,
        "baseline": "a",
        "arms": [{"name": name, "in_fair": in_fair, "rate_of": ""} for name, in_fair in arms.items()],
        "dataset": {"name": dataset, "num_classes": 10, "num_test": 1000, "num_val": 500, "num_train": num_train},
    }


def build_measured(
    values,
    *,
    name="study",
    report="003",
    dataset="mnist",
    stand_in=False,
    scale=1.0,
    num_train=50_000,
    regimes=("stated", "fair"),
    arms=None,
    state="finished",
    identities=None,
    events=None,
    end="2026-01-01",
):
    """A study whose values are given: (place, arm) → measure → one value per seed (a mapping gives the seeds)."""
    from analysis.claims.evidence import Measured, Scope
    from analysis.load import StudyRecord

    tables = {}
    for key, columns in values.items():
        series = {
            measure: pd.Series(dict(own) if isinstance(own, Mapping) else dict(enumerate(own, start=1)), dtype=float)
            for measure, own in columns.items()
        }
        tables[key] = pd.DataFrame(series)
    known = dict.fromkeys((arm for _, arm in values), True) | (arms or {})
    record = StudyRecord(
        name=name,
        run_id="0",
        experiment_id="0",
        tracking_uri="",
        tags={"state": state},
        protocol=protocol(
            report=report,
            dataset=dataset,
            stand_in=stand_in,
            scale=scale,
            num_train=num_train,
            regimes=regimes,
            arms=known,
        ),
        trials=pd.DataFrame({"end": pd.to_datetime([end], utc=True)}),
        epochs=pd.DataFrame(),
        finals={},
        identities=identities or {},
    )
    return Measured(record, Scope(report, dataset, scale, num_train), tables, events or {})


@pytest.fixture(scope="session")
def measured():
    return build_measured


@pytest.fixture(scope="session")
def around():
    return spread


@pytest.fixture
def ask():
    """``ask(test, *studies)``: the outcome of a test in a regime on studies of one scope, others elsewhere."""
    from analysis.claims.evaluate import evaluate
    from analysis.claims.evidence import bodies
    from analysis.claims.model import claim

    def outcome(test, *studies, regime="stated", fair=None):
        first, *rest = bodies(studies)
        return evaluate(claim("003-99", "A claim.", test, fair=fair), regime, first, rest)

    return outcome


def write_reported_study(
    uri, folder, accuracies, *, name, space, report, regime="stated", state="finished", identities=None, study_json=True
):
    """Put a reported study on record: arm → test accuracy (a fraction) of each seed."""
    client = MlflowClient(uri)
    known = client.get_experiment_by_name(space)
    experiment = known.experiment_id if known else client.create_experiment(space, (folder / space).as_uri())
    tags = {"study": name, "space": space, "phase": "study", "state": state}
    parent = client.create_run(experiment, tags=tags, run_name=name).info.run_id
    content = protocol(
        report=report,
        dataset="fashion-mnist",
        stand_in=True,
        scale=1.0,
        num_train=50_000,
        regimes=[regime],
        arms=dict.fromkeys(accuracies, True),
        delta=0.5,
    )
    if study_json:
        client.log_dict(parent, content, "study.json")
    if identities:
        client.log_dict(parent, identities, "identities.json")
    for arm, scores in accuracies.items():
        for seed, score in enumerate(scores, start=1):
            write_trial(client, experiment, parent, arm=arm, seed=seed, regime=regime, score=float(score))
    if state != "running":
        client.set_terminated(parent)


def write_trial(client, experiment, parent, *, arm, seed, regime, score):
    tags = {"mlflow.parentRunId": parent, "phase": "confirm", "regime": regime, "arm": arm, "seed": str(seed)}
    tags |= {"trial_id": f"{arm}/{regime}-confirm/{seed}", "stop_reason": "completed"}
    run = client.create_run(experiment, tags=tags).info.run_id
    metrics = [
        Metric(key, value, 1_700_000_000_000 + epoch, epoch)
        for epoch in (1, 2, 3, 4)
        for key, value in {
            "val_accuracy": score * epoch / 4,
            "val_loss": 1 - score * epoch / 4,
            "train_accuracy": score * epoch / 4,
            "train_loss": 1 - score * epoch / 4,
            "test_accuracy": score if epoch == 4 else score * epoch / 4,
            "test_loss": 1 - score * epoch / 4,
            "epoch_seconds": 0.5,
            "diverged": 0.0,
        }.items()
    ]
    client.log_batch(run, metrics=metrics, params=[Param("epochs", "4")])
    client.log_text(run, json.dumps({"confusion": np.diag(np.full(10, 100)).tolist()}), "final.json")
    client.set_terminated(run)


@pytest.fixture(scope="session")
def write_study():
    return write_reported_study
