import json
import time

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from analysis import histories
from analysis import load as load_module
from analysis.load import convert, load_study
from trainables.config import InputError


def test_every_child_run_is_one_row(load):
    trials = load("truth").trials
    counts = trials.groupby(["phase", "arm"]).size()
    assert counts["search"].to_dict() == {"cross_entropy": 6, "focal": 6, "hinge": 6, "l1": 6}
    assert counts["confirm"].to_dict() == {"cross_entropy": 10, "focal": 10, "hinge": 10, "l1": 10}
    assert counts["control"].to_dict() == {"kl_div": 10}
    assert trials["run_id"].is_unique


def test_parameters_come_back_as_the_values_they_were(load):
    row = load("truth").trials.query("arm == 'focal' and phase == 'search' and number == 1").iloc[0]
    assert row["optimizer"] == "adam"
    assert row["optimizer.learning_rate"] == pytest.approx(1e-5 * 1e4 ** (2.5 / 8))
    assert row["loss.gamma"] == 1.5
    assert row["batch_size"] == 64
    assert not row["augment"]
    assert np.isnan(row["optimizer.momentum"])
    assert row["trial_id"] == "focal/search/1"
    assert row["node"] == "host-a"
    assert row["start"] < row["end"]


@pytest.mark.parametrize(
    ("text", "value"), [("True", True), ("64", 64), ("0.5", 0.5), ("1e-05", 1e-5), ("adam", "adam"), ("", "")]
)
def test_parameter_text_is_converted(text, value):
    assert convert(text) == value
    assert type(convert(text)) is type(value)


def test_every_logged_value_is_in_the_epochs(load, truth_class):
    record = load("truth")
    confirm = record.trials.query("arm == 'hinge' and phase == 'confirm' and seed == 4").iloc[0]
    rows = record.epochs[record.epochs["run_id"] == confirm["run_id"]]
    assert rows["epoch"].tolist() == list(range(1, 9))
    assert rows["epoch_seconds"].tolist() == [2.0] + [0.5] * 7
    assert rows["val_accuracy"].iloc[-1] == pytest.approx(truth_class(diverged=(("l1", 3),)).score("hinge", 4))
    assert rows["test_accuracy"].notna().tolist() == [False] * 7 + [True]
    assert confirm["test_nll"] == pytest.approx(1.2 - confirm["test_accuracy"])
    assert rows["logged_at"].is_monotonic_increasing


def test_epochs_done_counts_what_a_stopped_trial_reported(load):
    search = load("truth").trials.query("phase == 'search' and arm == 'l1'").set_index("number")
    assert search.loc[2, "stop_reason"] == "pruned"
    assert search["epochs_done"].to_dict() == {0: 8, 1: 8, 2: 2, 3: 6, 4: 8, 5: 8}


def test_a_metric_missing_at_the_last_epoch_is_missing_and_not_an_earlier_one(load):
    row = load("truth").trials.query("stop_reason == 'diverged'").iloc[0]
    assert (row["arm"], row["seed"], row["epochs_done"]) == ("l1", 3, 3)
    assert row["val_accuracy"] == pytest.approx(0.1)
    assert np.isnan(row["val_loss"])


def test_protocol_tags_and_finals_are_read(load):
    record = load("truth")
    assert record.protocol["winners"]["focal"]["number"] == 1
    assert record.tags["space"] == "full"
    assert len(record.finals) == 50  # ten seeds of four arms and the control
    confusions = [final["confusion"] for final in record.finals.values() if "confusion" in final]
    assert len(confusions) == 49  # one diverged, and counted nothing
    assert {int(np.sum(counts)) for counts in confusions} == {360}


def test_a_study_without_protocol_or_confirm_runs_loads(load):
    assert load("bare").protocol == {}
    assert set(load("searching").trials["phase"]) == {"search"}


def test_the_regime_of_a_trial_is_its_tag(load):
    trials = load("truth").trials
    assert trials["regime"].unique().tolist() == ["search"]
    assert trials.columns[:4].tolist() == ["run_id", "arm", "phase", "regime"]


def test_what_is_recorded_beside_the_trials_is_read_or_empty(tmp_path, load):
    assert load("truth").identities == load("truth").diagnostics == {}
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("e", artifact_location=(tmp_path / "artifacts").as_uri())
    parent = client.create_run(experiment, tags={"study": "reported", "phase": "study"}).info.run_id
    client.create_run(experiment, tags={"mlflow.parentRunId": parent, "phase": "confirm", "seed": "1"})
    client.log_dict(parent, {"our_focal_is_finite": {"holds": True}}, "identities.json")
    client.log_dict(parent, {"seeds": [1], "arms": {"focal": {"loss_share": [0.1]}}}, "diagnostics.json")
    record = load_study("reported", tracking_uri=uri)
    assert record.identities == {"our_focal_is_finite": {"holds": True}}
    assert record.diagnostics["arms"]["focal"] == {"loss_share": [0.1]}
    assert record.trials["regime"].tolist() == [""]


def test_metrics_named_are_the_only_histories_read(store):
    record = load_study("truth", tracking_uri=store, metrics=["val_accuracy"], finals=False)
    assert "train_loss" not in record.epochs
    assert "val_accuracy" in record.epochs
    assert record.finals == {}
    assert record.trials.query("phase == 'confirm' and stop_reason == 'completed'")["test_f1_macro"].notna().all()


def test_the_newest_of_two_studies_of_one_name_is_read(tmp_path, write_study, truth_class):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for num_trials in (1, 3):
        small = truth_class(effects={"cross_entropy": 0.0}, num_trials=num_trials, seeds=(), name="twice")
        write_study(uri, tmp_path / "artifacts", small)
        time.sleep(0.005)  # MLflow's clock has milliseconds
    assert len(load_study("twice", tracking_uri=uri).trials) == 3


def test_a_study_without_children_loads_as_empty_frames(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    MlflowClient(uri).create_run("0", tags={"study": "empty", "phase": "study"})
    record = load_study("empty", tracking_uri=uri)
    assert record.trials.empty
    assert record.epochs.empty
    assert {"arm", "phase", "seed", "epochs_done"} <= set(record.trials)


def test_a_value_logged_twice_counts_once_and_the_later_stays(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(uri)
    parent = client.create_run("0", tags={"study": "again", "phase": "study"}).info.run_id
    child = client.create_run("0", tags={"mlflow.parentRunId": parent, "arm": "a", "phase": "search"}).info.run_id
    client.log_batch(child, [Metric("val_accuracy", 0.5, 1000, 1), Metric("val_accuracy", 0.6, 2000, 1)])
    client.log_metric(child, "val_loss", float("nan"), step=1)
    epochs = load_study("again", tracking_uri=uri).epochs
    assert epochs["val_accuracy"].tolist() == [0.6]
    assert epochs["val_loss"].isna().all()


def test_an_unknown_study_is_refused_with_those_on_record(store):
    with pytest.raises(InputError, match=r"Unknown study 'nope'.*newest first: drifting, joint.*truth"):
        load_study("nope", tracking_uri=store)
    with pytest.raises(InputError, match="Unknown study"):
        load_study("x' or tags.phase = 'study", tracking_uri=store)


class FakeServer:
    """Answers the bulk route as MLflow's server does: sorted by run, cut after ``limit`` values."""

    def __init__(self, values, limit):
        self.values, self.limit, self.num_requests = values, limit, 0

    def get_host_creds(self):
        return None

    def __call__(self, _credentials, _route, _method, *, params, **_):
        self.num_requests += 1
        assert len(params["run_id"]) <= 100
        rows = [
            {"run_id": run, "key": params["metric_key"], "step": step, "value": value, "timestamp": step}
            for run in sorted(params["run_id"])
            for step, value in self.values[run]
        ]
        answer = json.dumps({"metrics": rows[: min(params["max_results"], self.limit)]})
        return type("Response", (), {"status_code": 200, "json": staticmethod(lambda: json.loads(answer))})

    def get_metric_history(self, run_id, key):
        return [Metric(key, value, step, step) for step, value in self.values[run_id]]


def test_no_value_is_lost_where_a_server_cuts_its_answer_short(monkeypatch):
    lengths = {f"run{number:03d}": 3 + number % 5 for number in range(120)} | {"run-long": 90}
    values = {run: [(step, step / 100) for step in range(1, length + 1)] for run, length in lengths.items()}
    server = FakeServer(values, limit=40)
    monkeypatch.setattr(histories, "http_request", server)
    monkeypatch.setattr(histories, "VALUES_PER_REQUEST", 40)
    monkeypatch.setattr(histories, "_get_store", lambda store_uri: server)
    monkeypatch.setattr(histories, "MlflowClient", lambda _uri: server)
    frame = histories.load_histories("http://server", {"val_accuracy": list(lengths)})
    assert frame.groupby("run_id").size().to_dict() == lengths
    assert server.num_requests > 2  # the answers were cut and asked again


def test_a_server_without_the_bulk_route_is_read_run_by_run(monkeypatch):
    server = FakeServer({"a": [(1, 0.5)], "b": [(1, 0.25), (2, 0.75)]}, limit=40)
    missing = type("Response", (), {"status_code": 404})
    monkeypatch.setattr(histories, "http_request", lambda *_, **__: missing)
    monkeypatch.setattr(histories, "_get_store", lambda store_uri: server)
    monkeypatch.setattr(histories, "MlflowClient", lambda _uri: server)
    frame = histories.load_histories("http://server", {"val_accuracy": ["a", "b"]})
    assert sorted(zip(frame["run_id"], frame["value"], strict=True)) == [("a", 0.5), ("b", 0.25), ("b", 0.75)]


def test_more_runs_than_one_query_takes_are_all_read(store, monkeypatch):
    whole = load_study("truth", tracking_uri=store, finals=False)
    monkeypatch.setattr(histories, "RUNS_PER_QUERY", 7)
    monkeypatch.setattr("analysis.load.RUNS_PER_PAGE", 9)
    paged = load_study("truth", tracking_uri=store, finals=False)
    pd.testing.assert_frame_equal(whole.epochs, paged.epochs)
    pd.testing.assert_frame_equal(whole.trials, paged.trials)


@pytest.mark.parametrize("metrics", [("val_accuracy", "epoch_seconds"), ("val_accuracy",), (), None])
@pytest.mark.parametrize("study", ["truth", "searching"])
def test_epochs_read_in_two_parts_are_those_read_at_once(store, monkeypatch, study, metrics):
    whole = load_study(study, tracking_uri=store).epochs
    part = load_study(study, tracking_uri=store, metrics=metrics)
    asked = []
    read = load_module.load_histories
    monkeypatch.setattr(load_module, "load_histories", lambda uri, runs_of: asked.extend(runs_of) or read(uri, runs_of))
    pd.testing.assert_frame_equal(load_module.load_epochs(part)[whole.columns], whole, check_dtype=False)
    assert not set(asked) & set(part.epochs.columns)  # no value is asked for twice
