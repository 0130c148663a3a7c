import copy
import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from pyarrow import parquet

from analysis import load as load_module
from analysis.artifacts import read_artifact, read_json
from analysis.epochs_file import read_histories, to_parquet
from analysis.load import add_trial_keys, load_study


@pytest.fixture(scope="module")
def runs(store, load):
    """The trials of a study as MLflow describes them."""
    record = load("truth")
    condition = f"tags.`mlflow.parentRunId` = '{record.run_id}'"
    return list(MlflowClient(store).search_runs([record.experiment_id], condition, max_results=1000))


@pytest.fixture(scope="module")
def content(load):
    record = load("truth")
    return to_parquet(record.epochs, record.trials)


def changed(runs, place, **attributes):
    """The runs, one of them with other attributes of its info."""
    other = copy.deepcopy(runs)
    for name, value in attributes.items():
        setattr(other[place].info, f"_{name}", value)
    return other


def test_the_file_holds_every_value_of_every_metric_in_documented_types(load, content):
    record = load("truth")
    table = parquet.read_table(pa.BufferReader(content))
    kinds = {field.name: field.type for field in table.schema}
    dictionary = pa.dictionary(pa.int32(), pa.string())
    assert [kinds[name] for name in ("run_id", "arm", "phase", "regime", "trial_id")] == [dictionary] * 5
    assert (kinds["seed"], kinds["epoch"], kinds["logged_at"]) == (pa.int64(), pa.int32(), pa.timestamp("ms", tz="UTC"))
    metrics = list(kinds)[8:]
    assert {kinds[name] for name in metrics} == {pa.float64()}
    assert set(metrics) == set(record.epochs.columns[7:])
    frame = table.to_pandas()
    for name in (*metrics, "epoch", "logged_at"):
        np.testing.assert_array_equal(frame[name], record.epochs[name])
    assert frame["regime"].astype(str).unique().tolist() == ["search"]
    assert table.schema.metadata[b"schema"] == b"1"


def test_a_whole_file_gives_the_epochs_that_the_record_gives(load, content, runs):
    record = load("truth")
    held = add_trial_keys(read_histories(content, runs, None), record.trials)
    pd.testing.assert_frame_equal(held, record.epochs, check_dtype=False)
    few = read_histories(content, runs, ["test_accuracy"])
    assert few.columns.tolist() == ["run_id", "epoch", "logged_at", "test_accuracy"]
    assert len(few) == record.epochs["test_accuracy"].notna().sum()


def without_gap(frame):
    return frame.drop(index=frame.index[(frame["epoch"] == 3)][0])


def without_end(frame):
    return frame.drop(index=frame.groupby("run_id").tail(1).index[0])


def with_other_end(frame):
    place = frame.groupby("run_id").tail(1).index[0]
    return frame.assign(val_accuracy=frame["val_accuracy"].where(frame.index != place, 0.123))


def without_run(frame):
    return frame[frame["run_id"] != frame["run_id"].iloc[0]]


def without_metric(frame):
    return frame.drop(columns="val_nll")


def with_strange_run(frame):
    return pd.concat([frame, frame[frame["run_id"] == frame["run_id"].iloc[0]].assign(run_id="strange")])


@pytest.mark.parametrize(
    "damage", [without_gap, without_end, with_other_end, without_run, without_metric, with_strange_run]
)
def test_a_file_that_disagrees_with_the_server_is_not_believed(load, runs, damage):
    record = load("truth")
    assert read_histories(to_parquet(record.epochs, record.trials), runs, None) is not None
    damaged = damage(record.epochs)
    assert read_histories(to_parquet(damaged, record.trials), runs, None) is None


def test_a_file_is_not_believed_while_a_trial_runs_or_when_one_came_later(content, runs):
    assert read_histories(content, changed(runs, 0, status="RUNNING"), None) is None
    assert read_histories(content, changed(runs, 0, run_id="another"), None) is None
    assert read_histories(content, runs[1:], None) is None


@pytest.mark.parametrize("broken", [b"", b"PAR1 and no more", b"<html>"])
def test_what_is_no_such_file_is_not_believed(runs, broken):
    assert read_histories(broken, runs, None) is None


def test_a_file_of_another_version_is_not_believed(content, runs):
    table = parquet.read_table(pa.BufferReader(content))
    sink = pa.BufferOutputStream()
    parquet.write_table(table.replace_schema_metadata({"schema": "2"}), sink)
    assert read_histories(sink.getvalue().to_pybytes(), runs, None) is None


def test_a_study_without_epochs_has_a_file_too(load, runs):
    record = load("truth")
    empty = to_parquet(record.epochs.iloc[:0], record.trials.iloc[:0])
    assert len(pd.read_parquet(pa.BufferReader(empty))) == 0
    assert read_histories(empty, runs, None) is None
    assert read_histories(empty, [], None) is None


def test_a_server_is_asked_for_values_only_where_the_file_is_not_whole(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("e", artifact_location=(tmp_path / "artifacts").as_uri())
    parent = client.create_run(experiment, tags={"study": "s", "phase": "study"}).info.run_id
    tags = {"mlflow.parentRunId": parent, "arm": "a", "phase": "search", "trial_id": "a/search/0"}
    child = client.create_run(experiment, tags=tags).info.run_id
    client.log_batch(child, [Metric("val_accuracy", epoch / 10, epoch, epoch) for epoch in (1, 2)])
    client.set_terminated(child)
    asked = []
    from_record = load_module.load_histories
    monkeypatch.setattr(load_module, "is_server", lambda _uri: True)  # the file lies as it would behind one
    monkeypatch.setattr(load_module, "load_histories", lambda *args: asked.append(args) or from_record(*args))
    first = load_study("s", tracking_uri=uri)
    assert len(asked) == 1
    (tmp_path / "epochs.parquet").write_bytes(to_parquet(first.epochs, first.trials))
    client.log_artifact(parent, str(tmp_path / "epochs.parquet"))
    second = load_study("s", tracking_uri=uri)
    assert len(asked) == 1
    pd.testing.assert_frame_equal(first.epochs, second.epochs, check_dtype=False)
    pd.testing.assert_frame_equal(first.trials, second.trials, check_dtype=False)
    client.log_metric(child, "val_accuracy", 0.3, step=3)
    assert load_study("s", tracking_uri=uri).epochs["val_accuracy"].tolist() == [0.1, 0.2, 0.3]
    assert len(asked) == 2


@pytest.fixture
def served(tmp_path):
    """A folder of artifacts behind HTTP: its run, and the requests made."""
    requests = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            super().do_GET()

        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        info = type("Info", (), {"artifact_uri": f"http://127.0.0.1:{server.server_port}", "run_id": "r"})
        yield type("Run", (), {"info": info}), requests
        server.shutdown()


def test_an_artifact_behind_http_is_one_request_without_a_bar_of_progress(served, tmp_path, capfd):
    run, requests = served
    (tmp_path / "final.json").write_text('{"a": 1}')
    assert read_json("http://unused", run, "final.json") == {"a": 1}
    assert requests == ["/final.json"]
    assert read_artifact("http://unused", run, "none.json") is None
    (tmp_path / "list.json").write_text("[1]")
    assert read_json("http://unused", run, "list.json") is None
    assert capfd.readouterr().err == ""
