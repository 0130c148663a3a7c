"""What Tune says reaches the record, and MLflow is reached before a study begins."""

import json
import pickle
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException

from study import tracking
from study.ledger import COMPLETED, DIVERGED, FAILED, INTERRUPTED, PRUNED, Ledger
from study.record import MlflowRecord
from study.tracking import MlflowCallback, check_name_is_free, connect, make_database, start_study_run
from tests.study.test_runs import DATASET, contexts
from tests.study.told_trials import FINAL, KEY, TAGS, Unreliable, a_request, a_row, children, history, new_study_run
from trainables.config import InputError


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """A SQLite store, made once: its tables take a second."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture
def study_run(uri):
    return new_study_run(uri, Path(uri.removeprefix("sqlite:///")).parent)


class Notes:
    """Stands in for the record and notes what it is told."""

    def __init__(self):
        self.started, self.rows, self.ends = [], [], []

    def start(self, request):
        self.started.append(request.key)

    def row(self, key, epoch, metrics):
        self.rows.append((key, epoch, metrics["val_accuracy"]))

    def end(self, *arguments):
        self.ends.append(arguments)


@pytest.fixture
def stage():
    ledger, notes = Ledger(), Notes()
    request = a_request()
    ledger.open(request)
    trial = SimpleNamespace(config={"key": request.key}, last_result={}, error_file=None)
    return SimpleNamespace(
        ledger=ledger, notes=notes, trial=trial, callback=MlflowCallback(notes, ledger, clock=iter(range(100)).__next__)
    )


def a_result(*epochs, **others):
    return {"rows": [(epoch, a_row(epoch)) for epoch in epochs], "node": "worker-1", **others}


def test_callback_tells_the_epochs_of_every_result(stage):
    stage.callback.on_trial_start(1, [], stage.trial)
    for result in (a_result(1), a_result(2, 3)):
        stage.callback.on_trial_result(1, [], stage.trial, result)
    assert stage.notes.started == [KEY]
    assert stage.notes.rows == [(KEY, epoch, a_row(epoch)["val_accuracy"]) for epoch in (1, 2, 3)]


@pytest.mark.parametrize("stop_reason", [COMPLETED, PRUNED, DIVERGED, INTERRUPTED])
def test_callback_ends_a_run_with_the_ledgers_reason_the_node_and_the_final_record(stage, stop_reason):
    stage.callback.on_trial_start(1, [], stage.trial)
    stage.callback.on_trial_result(1, [], stage.trial, a_result(1))
    stage.ledger.records[KEY].stop_reason = stop_reason
    stage.trial.last_result = {"final": FINAL}
    stage.callback.on_trial_complete(1, [], stage.trial)
    assert stage.notes.ends == [(KEY, stop_reason, {"node": "worker-1", "node_seconds": "2.0"}, FINAL)]


def test_callback_ends_a_failed_run_with_the_end_of_its_traceback_and_without_passwords(stage, tmp_path):
    stage.ledger.close(KEY, failed=True)
    stage.trial.error_file = tmp_path / "error.txt"
    stage.trial.error_file.write_text("x" * 9000 + "ValueError: the reason at http://me:secret@host")
    stage.callback.on_trial_error(1, [], stage.trial)
    ((key, stop_reason, tags, final),) = stage.notes.ends
    assert (key, stop_reason, final) == (KEY, FAILED, None)
    assert tags["error"].endswith("ValueError: the reason at http://me:***@host")
    assert len(tags["error"]) == 5000


@pytest.mark.parametrize("error_file", [None, "/nowhere/error.txt"])
def test_callback_ends_a_failed_run_whose_traceback_is_lost(stage, error_file):
    stage.ledger.close(KEY, failed=True)
    stage.trial.error_file = error_file
    stage.callback.on_trial_error(1, [], stage.trial)
    assert stage.notes.ends == [(KEY, FAILED, {"node": ""}, None)]


def test_what_a_reader_must_know_of_a_trials_checkpoints_is_a_tag_of_its_run(stage):
    stage.callback.on_trial_start(1, [], stage.trial)
    said = ("Its checkpoint was damaged.", None, "It went on from epoch 3.")
    for epoch, notice in enumerate(said, 1):
        stage.callback.on_trial_result(1, [], stage.trial, a_result(epoch, notice=notice))
    stage.ledger.records[KEY].stop_reason = COMPLETED
    stage.callback.on_trial_complete(1, [], stage.trial)
    ((_, _, tags, _),) = stage.notes.ends
    where = {"node": "worker-1", "node_seconds": "4.0"}
    assert tags == {**where, "notice": "Its checkpoint was damaged. It went on from epoch 3."}


def test_a_trial_that_moved_has_all_its_nodes_in_order_and_the_time_it_was_on_each():
    now = iter(range(0, 1000, 10))
    ledger, notes = Ledger(), Notes()
    ledger.open(a_request())
    callback = MlflowCallback(notes, ledger, clock=lambda: float(next(now)))
    trial = SimpleNamespace(config={"key": KEY}, last_result={}, error_file=None)

    def run_on(*nodes):
        callback.on_trial_start(1, [], trial)
        for node in nodes:
            callback.on_trial_result(1, [], trial, {"rows": [(1, a_row(1))], "node": node})

    for nodes in (("a", "a"), ("b",), (), ("b",)):  # the third was lost before it was heard of
        run_on(*nodes)
        if nodes != ("b",) or len(notes.rows) < 4:
            callback.on_trial_error(1, [], trial)
    ledger.records[KEY].stop_reason = COMPLETED
    callback.on_trial_complete(1, [], trial)
    ((_, _, tags, _),) = notes.ends
    assert tags == {"node": "b", "nodes": "a b", "node_seconds": "30.0 40.0"}


def test_trial_that_failed_and_is_tried_again_keeps_its_run_and_each_epoch_once(study_run):
    client, experiment_id, parent = study_run
    ledger = Ledger()
    ledger.open(a_request())
    record = MlflowRecord(client, experiment_id, parent, TAGS)
    callback = MlflowCallback(record, ledger)
    trial = SimpleNamespace(config={"key": KEY}, last_result={}, error_file=None)
    # As Tune says it: a trial that is retried starts again; only its last failure would be an error.
    for told in ((1, 2), (1, 2, 3), (1, 2, 3, 4)):
        callback.on_trial_start(1, [trial], trial)
        callback.on_trial_result(1, [trial], trial, a_result(*told))
        callback.on_trial_recover(1, [trial], trial)
    ledger.records[KEY].stop_reason = COMPLETED
    callback.on_trial_complete(1, [trial], trial)
    record.close()
    found, count = children(*study_run)
    assert count == 1
    assert [step for step, _ in history(client, found[KEY], "val_accuracy")] == [1, 2, 3, 4]
    assert found[KEY].info.status == "FINISHED"


def test_tune_pickles_nothing_of_it(stage):
    assert pickle.loads(pickle.dumps(stage.callback)) == {}


def test_studys_run_names_its_data_and_where_it_comes_from(study_run):
    client, experiment_id, _ = study_run
    tags = {"study": "named", "git_commit": "c0ffee"}
    run = client.get_run(start_study_run(client, experiment_id, "named", tags, {"dataset": DATASET}))
    assert contexts(run) == {"train and validation", "test"}
    assert run.data.tags["mlflow.source.git.commit"] == "c0ffee"
    assert run.data.tags["mlflow.source.name"] == "study.launch"


def test_study_starts_although_the_store_keeps_no_data(study_run):
    client, experiment_id, _ = study_run
    unreliable = Unreliable(client, MlflowException("no such call"), failing=("log_inputs",))
    run_id = start_study_run(unreliable, experiment_id, "bare", {"study": "bare"}, {"dataset": DATASET})
    assert unreliable.failures == 1
    assert client.get_run(run_id).info.run_name == "bare"


def test_study_has_a_run_of_its_own_that_holds_its_description(study_run, uri):
    client, experiment_id, parent = study_run
    protocol = {"schema": 1, "arms": [{"name": "focal"}]}
    tags = {"study": "mine", "phase": "study", "git_dirty": True, "delta": 0.5}
    run = client.get_run(start_study_run(client, experiment_id, "mine", tags, protocol))
    assert run.info.run_name == "mine"
    assert run.info.status == "RUNNING"
    assert {key: run.data.tags[key] for key in tags} == {key: str(value) for key, value in tags.items()}
    path = download_artifacts(run_id=run.info.run_id, artifact_path="study.json", tracking_uri=uri)
    assert json.loads(Path(path).read_text()) == protocol
    assert run.info.run_id != parent


def test_experiment_has_its_description_new_or_not(uri):
    client = MlflowClient(uri)
    old = client.create_experiment("made by hand")
    for name in ("made by hand", "made by the study"):
        _, experiment_id = connect(uri, name, None)
        assert "is a *study*" in client.get_experiment(experiment_id).tags["mlflow.note.content"]
    assert connect(uri, "made by hand", None)[1] == old


def tables(path):
    """What SQLite knows of each table and index, whatever order they and their constraints were made in."""
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
        version = database.execute("SELECT version_num FROM alembic_version").fetchall()
    return sorted((*names, sorted(re.split(r",?\s*\n", sql or ""))) for *names, sql in rows), version


def test_database_made_at_once_is_the_one_that_mlflow_makes(tmp_path):
    make_database(tmp_path / "mlflow.db")
    theirs = tmp_path / "theirs.db"
    MlflowClient(f"sqlite:///{theirs}").search_experiments()
    assert tables(tmp_path / "mlflow.db") == tables(theirs)
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "theirs.db"}


def test_database_that_is_there_or_that_another_study_makes_meanwhile_stays_as_it_is(tmp_path, monkeypatch):
    path = tmp_path / "mlflow.db"
    make = tracking._initialize_tables

    def make_as_another_does(engine):
        make(engine)
        path.write_text("theirs")

    monkeypatch.setattr(tracking, "_initialize_tables", make_as_another_does)
    for _ in range(2):
        make_database(path)
        assert path.read_text() == "theirs"
        assert list(tmp_path.iterdir()) == [path]


def test_database_that_cannot_be_put_there_is_left_to_mlflow(tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("os.link", refuse)
    make_database(tmp_path / "mlflow.db")
    assert list(tmp_path.iterdir()) == []
    connect(f"sqlite:///{tmp_path / 'mlflow.db'}", "e", None)
    assert (tmp_path / "mlflow.db").exists()


def test_experiment_is_made_once_with_its_artifacts_where_they_belong(uri, tmp_path):
    client, experiment_id = connect(uri, "made once", tmp_path.as_uri())
    assert client.get_experiment(experiment_id).artifact_location == tmp_path.as_uri()
    assert connect(uri, "made once", "file:///elsewhere")[1] == experiment_id


def test_deleted_experiment_is_refused_with_the_way_out(uri):
    client, experiment_id = connect(uri, "deleted", None)
    client.delete_experiment(experiment_id)
    with pytest.raises(InputError, match="The MLflow experiment 'deleted' is deleted; restore it or give another name"):
        connect(uri, "deleted", None)


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "gopher://nowhere"])
def test_store_that_does_not_answer_is_refused_on_one_line(address, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(InputError, match=re.escape(f"MLflow does not answer at {address}: ")) as caught:
        connect(address, "any", None)
    assert "\n" not in str(caught.value)


def test_name_on_record_is_refused_and_another_is_free(uri, study_run):
    client, experiment_id, _ = study_run
    name = "taken-name_1.0"
    check_name_is_free(client, name)
    start_study_run(client, experiment_id, name, {"study": name, "phase": "study"}, {})
    with pytest.raises(InputError, match=r"A study called 'taken-name_1.0' is on record in MLflow already; give anoth"):
        check_name_is_free(client, name)
    check_name_is_free(client, "taken-name_1.1")
    other = MlflowClient(uri)
    other.create_run(experiment_id, tags={"study": "only-a-trial", "phase": "search"})
    check_name_is_free(other, "only-a-trial")


def test_callback_tells_of_every_trial_of_a_pack_and_shares_its_seconds():
    ledger, notes = Ledger(), Notes()
    requests = [a_request(number=seed) for seed in (1, 2)]
    keys = [request.key for request in requests]
    for request in requests:
        ledger.open(request)
    config = {"key": keys[0], "members": [{"key": key} for key in keys]}
    trial = SimpleNamespace(config=config, last_result={}, error_file=None)
    callback = MlflowCallback(notes, ledger, clock=iter([0, 0, *([10] * 9)]).__next__)
    callback.on_trial_start(1, [], trial)
    assert notes.started == keys
    callback.on_trial_result(1, [], trial, {"members": [], "node": "worker-1"})
    assert notes.rows == []
    told = [
        {"key": keys[0], "rows": [(1, a_row(1)), (2, a_row(2))], "final": FINAL},
        {"key": keys[1], "rows": [(1, a_row(1))]},
    ]
    trial.last_result = {"members": told, "node": "worker-1"}
    callback.on_trial_result(1, [], trial, trial.last_result)
    for key in keys:
        ledger.records[key].stop_reason = COMPLETED
    callback.on_trial_complete(1, [], trial)
    assert [(key, epoch) for key, epoch, _ in notes.rows] == [(keys[0], 1), (keys[0], 2), (keys[1], 1)]
    tags = {"node": "worker-1", "node_seconds": "5.0", "replicas": "2"}
    assert notes.ends == [(keys[0], COMPLETED, tags, FINAL), (keys[1], COMPLETED, tags, None)]
    assert "members" not in trial.last_result


def test_callback_ends_every_trial_of_a_pack_that_failed_unless_it_is_tried_again():
    ledger, notes = Ledger(), Notes()
    requests = [a_request(number=seed) for seed in (1, 2)]
    for request in requests:
        ledger.open(request)
    config = {"key": requests[0].key, "members": [{"key": request.key} for request in requests]}
    trial = SimpleNamespace(config=config, last_result=None, error_file=None)
    callback = MlflowCallback(notes, ledger)
    callback.on_trial_start(1, [], trial)
    ledger.close(requests[1].key, failed=True)
    callback.on_trial_error(1, [], trial)
    assert [(key, reason) for key, reason, *_ in notes.ends] == [(requests[1].key, FAILED)]
