"""The MLflow record against a real SQLite store, one that works and one that sometimes does not."""

import itertools
import json
import logging
import pickle
import re
import time
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND

from study import tracking
from study.ledger import (
    COMPLETED,
    CONFIRM,
    CONTROL,
    DIVERGED,
    FAILED,
    INTERRUPTED,
    PRUNED,
    SEARCH,
    Ledger,
    Request,
)
from study.tracking import MlflowCallback, MlflowRecord, check_name_is_free, connect, start_study_run
from trainables.config import InputError, TrialConfig

TAGS = {"study": "s", "space": "smoke", "dataset": "digits", "regime": "search"}
FINAL = {"confusion": [[5, 0], [1, 4]], "class_names": ["a", "b"]}
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """A SQLite store, made once: its tables take a second."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture
def study_run(uri):
    """A fresh experiment with a study's run in it: client, experiment id, run id."""
    folder = Path(uri.removeprefix("sqlite:///")).parent
    client, experiment_id = connect(uri, f"experiment-{next(NUMBERS)}", (folder / "artifacts").as_uri())
    return client, experiment_id, start_study_run(client, experiment_id, "s", {"study": "s"}, {"schema": 1})


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(tracking, "COLLECT_SECONDS", 0.05)
    monkeypatch.setattr(tracking, "RETRY_SECONDS", (0.001,))


@pytest.fixture
def artifact_of(uri):
    def read(run, name):
        path = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=name, tracking_uri=uri)
        return json.loads(Path(path).read_text())

    return read


def a_request(arm="focal", phase=SEARCH, number=7, seed=0):
    flat = {
        "loss": arm,
        "optimizer": "sgd",
        "optimizer.learning_rate": 0.0123456789,
        "optimizer.momentum": 0.5,
        "model": "mlp",
        "width": 64,
        "batch_size": 32,
        "epochs": 3,
        "seed": seed,
    }
    if arm == "focal":
        flat["loss.gamma"] = 1.5
    return Request(arm, phase, number, TrialConfig.from_flat(flat).to_flat())


def a_row(epoch):
    return {"train_loss": 1.0 / epoch, "val_accuracy": 0.1 * epoch, "diverged": 0.0}


def write(record, request, *, epochs=3, stop_reason=COMPLETED, tags=None, final=None):
    record.start(request)
    for epoch in range(1, epochs + 1):
        record.row(request.key, epoch, a_row(epoch))
    record.end(request.key, stop_reason, tags or {"node": "here"}, final)


def children(client, experiment_id, parent):
    found = client.search_runs([experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'", order_by=["start_time ASC"])
    return {run.data.tags["trial_id"]: run for run in found}, len(found)


def history(client, run, metric):
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric)]


def assert_complete(client, study_run, requests):
    """Each request's run is there once, with every epoch once, all parameters and its end."""
    _, experiment_id, parent = study_run
    runs, count = children(client, experiment_id, parent)
    assert count == len(requests)
    assert runs.keys() == {request.key for request in requests}
    for request in requests:
        run = runs[request.key]
        assert run.data.params == {key: str(value) for key, value in request.config.items()}
        for metric in a_row(1):
            assert history(client, run, metric) == [(epoch, a_row(epoch)[metric]) for epoch in (1, 2, 3)]
        assert run.info.status == "FINISHED"
        assert run.data.tags["stop_reason"] == COMPLETED


class Unreliable:
    """A client whose calls fail now and then, before the store has taken them or after."""

    def __init__(self, client, error, *, failing, times=2, after=False):
        self._client, self._error, self._failing, self._after = client, error, failing, after
        self._left = dict.fromkeys(failing, times)
        self.failures = 0

    def __getattr__(self, name):
        call = getattr(self._client, name)
        if name not in self._failing:
            return call

        def sometimes(*arguments, **keywords):
            if not self._left[name]:
                return call(*arguments, **keywords)
            self._left[name] -= 1
            self.failures += 1
            if self._after:
                call(*arguments, **keywords)
            raise self._error

        return sometimes


def test_trial_is_a_run_under_the_studys_with_its_name_tags_and_parameters(study_run):
    client, experiment_id, parent = study_run
    record = MlflowRecord(client, experiment_id, parent, TAGS)
    request = a_request(seed=5)
    write(record, request)
    record.close()
    runs, _ = children(client, experiment_id, parent)
    run = runs["focal/search/7"]
    assert run.info.run_id == record.run_ids["focal/search/7"]
    assert run.info.run_name == "focal-007"
    own = {"phase": "search", "arm": "focal", "seed": "5", "node": "here", "stop_reason": "completed"}
    assert {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")} == {
        **TAGS,
        **own,
        "trial_id": "focal/search/7",
    }
    assert run.data.params == {key: str(value) for key, value in request.config.items()}
    assert float(run.data.params["optimizer.learning_rate"]) == 0.0123456789


@pytest.mark.parametrize(
    ("phase", "name"), [(SEARCH, "focal-007"), (CONFIRM, "focal-seed-7"), (CONTROL, "focal-control-seed-7")]
)
def test_run_is_named_by_arm_and_number_or_seed(study_run, phase, name):
    client, experiment_id, parent = study_run
    record = MlflowRecord(client, experiment_id, parent, TAGS)
    write(record, a_request(phase=phase))
    record.close()
    runs, _ = children(client, experiment_id, parent)
    assert [(run.info.run_name, run.data.tags["phase"]) for run in runs.values()] == [(name, phase)]


@pytest.mark.parametrize(
    ("stop_reason", "status"),
    [
        (COMPLETED, "FINISHED"),
        (DIVERGED, "FINISHED"),
        (PRUNED, "KILLED"),
        (INTERRUPTED, "KILLED"),
        (FAILED, "FAILED"),
    ],
)
def test_status_follows_from_the_reason_a_trial_ended_for(study_run, stop_reason, status):
    client, experiment_id, parent = study_run
    record = MlflowRecord(client, experiment_id, parent, TAGS)
    write(record, a_request(), epochs=1, stop_reason=stop_reason)
    record.close()
    (run,) = children(client, experiment_id, parent)[0].values()
    assert (run.info.status, run.data.tags["stop_reason"]) == (status, stop_reason)
    assert run.info.end_time >= run.info.start_time


def test_every_epoch_of_trials_that_run_side_by_side_arrives_exactly_once(study_run):
    client, experiment_id, parent = study_run
    record = MlflowRecord(client, experiment_id, parent, TAGS)
    requests = [a_request(arm, number=number) for arm in ("focal", "mse") for number in range(3)]
    for request in requests:
        record.start(request)
    for epoch in (1, 2, 3):
        for request in requests:
            record.row(request.key, epoch, a_row(epoch))
        time.sleep(0.07)  # longer than the record collects, so that batches of several epochs and of one occur
    for request in requests:
        record.end(request.key, COMPLETED, {})
    record.close()
    assert_complete(client, study_run, requests)


def test_long_trial_is_written_in_batches_the_store_takes(study_run):
    client, experiment_id, parent = study_run
    record = MlflowRecord(client, experiment_id, parent, TAGS)
    request = a_request()
    record.start(request)
    for epoch in range(1, 1201):
        record.row(request.key, epoch, {"val_accuracy": epoch / 1200})
    record.end(request.key, COMPLETED, {})
    record.close()
    (run,) = children(client, experiment_id, parent)[0].values()
    steps = [step for step, _ in history(client, run, "val_accuracy")]
    assert steps == list(range(1, 1201))


def test_final_record_is_an_artifact_of_the_trials_that_have_one(study_run, artifact_of):
    client, experiment_id, parent = study_run
    record = MlflowRecord(client, experiment_id, parent, TAGS)
    write(record, a_request(phase=CONFIRM), final=FINAL)
    write(record, a_request(), final=None)
    record.close()
    runs, _ = children(client, experiment_id, parent)
    assert artifact_of(runs["focal/confirm/7"], "final.json") == FINAL
    assert client.list_artifacts(runs["focal/search/7"].info.run_id) == []


DATASET = {
    "name": "digits",
    "num_train": 1197,
    "num_val": 240,
    "num_test": 360,
    "num_classes": 10,
    "class_names": list("0123456789"),
    "input_shape": [1, 8, 8],
    "sha256": "c0ffee" * 10 + "feed",
}


def contexts(run):
    return {found.tags[0].value for found in run.inputs.dataset_inputs}


def test_trial_names_its_data_and_the_test_split_only_where_it_was_scored_on_it(study_run):
    client, experiment_id, parent = study_run
    record = MlflowRecord(client, experiment_id, parent, TAGS, DATASET)
    write(record, a_request())
    write(record, a_request(phase=CONFIRM, number=1, seed=1))
    record.close()
    runs, _ = children(client, experiment_id, parent)
    assert contexts(runs["focal/search/7"]) == {"train", "validation"}
    assert contexts(runs["focal/confirm/1"]) == {"train", "validation", "test"}


def test_data_are_named_once_although_the_store_lost_its_answer(study_run):
    client, experiment_id, parent = study_run
    unreliable = Unreliable(client, OSError("no answer"), failing=("log_inputs",), after=True)
    record = MlflowRecord(unreliable, experiment_id, parent, TAGS, DATASET)
    write(record, a_request())
    record.close()
    assert unreliable.failures == 2
    (run,) = children(client, experiment_id, parent)[0].values()
    assert len(run.inputs.dataset_inputs) == 2
    assert run.info.status == "FINISHED"


def test_server_too_old_to_keep_data_keeps_everything_else(study_run, caplog):
    client, experiment_id, parent = study_run
    refusal = MlflowException("no such call", error_code=ENDPOINT_NOT_FOUND)
    record = MlflowRecord(Unreliable(client, refusal, failing=("log_inputs",)), experiment_id, parent, TAGS, DATASET)
    request = a_request()
    write(record, request)
    record.close()
    assert_complete(client, study_run, [request])
    assert "refused a write" in caplog.text


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


def test_tag_longer_than_the_store_takes_is_cut(study_run):
    client, experiment_id, parent = study_run
    record = MlflowRecord(client, experiment_id, parent, TAGS)
    write(record, a_request(), stop_reason=FAILED, tags={"error": "x" * 20_000})
    record.close()
    (run,) = children(client, experiment_id, parent)[0].values()
    assert set(run.data.tags["error"]) == {"x"}
    assert run.info.status == "FAILED"


def test_training_never_waits_for_a_slow_store(study_run):
    client, experiment_id, parent = study_run

    class Slow(Unreliable):
        def __getattr__(self, name):
            time.sleep(0.03)
            return getattr(client, name)

    record = MlflowRecord(Slow(client, None, failing=()), experiment_id, parent, TAGS)
    requests = [a_request(number=number) for number in range(5)]
    started = time.monotonic()
    for request in requests:
        write(record, request)
    assert time.monotonic() - started < 0.3, "the store alone takes three times as long"
    assert len(record.run_ids) < 5
    record.close()
    assert_complete(client, study_run, requests)


def test_writes_of_a_trial_reach_the_store_in_order(study_run):
    client, experiment_id, parent = study_run
    calls = []

    class Recorder:
        def __getattr__(self, name):
            def call(*arguments, **keywords):
                calls.append(f"{name} {','.join(keywords)}".strip())
                return getattr(client, name)(*arguments, **keywords)

            return call

    record = MlflowRecord(Recorder(), experiment_id, parent, TAGS, DATASET)
    write(record, a_request(), final=FINAL)
    record.close()
    assert calls == [
        "create_run",
        "log_batch params",
        "log_inputs",
        "log_batch metrics",
        "log_batch tags",
        "log_dict",
        "set_terminated",
    ]


OUTAGES = [
    MlflowException("the database is locked\nsecond line", error_code=503),
    MlflowException("internal"),
    ConnectionError("refused"),
    OSError(),
]


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
@pytest.mark.parametrize("error", OUTAGES, ids=lambda error: type(error).__name__)
def test_what_an_outage_held_up_arrives_once_and_in_full_when_the_store_recovers(study_run, error, after):
    client, experiment_id, parent = study_run
    failing = ("create_run", "log_batch", "log_dict", "set_terminated")
    unreliable = Unreliable(client, error, failing=failing, after=after)
    record = MlflowRecord(unreliable, experiment_id, parent, TAGS)
    requests = [a_request(number=number) for number in range(2)]
    for request in requests:
        write(record, request, final=FINAL)
    record.close()
    assert unreliable.failures == 2 * len(failing)
    assert_complete(client, study_run, requests)


def test_long_outage_is_waited_out(study_run):
    client, experiment_id, parent = study_run
    unreliable = Unreliable(client, ConnectionError("refused"), failing=("create_run", "log_batch"), times=50)
    record = MlflowRecord(unreliable, experiment_id, parent, TAGS)
    write(record, a_request())
    record.close()
    assert_complete(client, study_run, [a_request()])


def test_outage_is_told_to_the_log_on_one_line(study_run, caplog, monkeypatch):
    client, experiment_id, parent = study_run
    monkeypatch.setattr(tracking.logger, "propagate", True)
    monkeypatch.setattr(logging.getLogger("study"), "propagate", True)
    unreliable = Unreliable(client, OUTAGES[0], failing=("create_run",), times=1)
    record = MlflowRecord(unreliable, experiment_id, parent, TAGS)
    with caplog.at_level(logging.WARNING, "study.tracking"):
        write(record, a_request())
        record.close()
    assert caplog.messages == ["MLflow did not take a write (the database is locked); trying again"]


def test_write_that_the_store_refuses_for_good_does_not_hold_up_the_others(study_run):
    client, experiment_id, parent = study_run
    record = MlflowRecord(client, experiment_id, parent, TAGS)
    gone, kept = a_request(number=1), a_request(number=2)
    record.start(gone)
    while gone.key not in record.run_ids:
        time.sleep(0.01)
    client.delete_run(record.run_ids[gone.key])
    record.row(gone.key, 1, a_row(1))
    record.end(gone.key, COMPLETED, {})
    write(record, kept)
    record.close()
    assert_complete(client, study_run, [kept])


def test_trial_that_was_never_started_does_not_stop_the_writer(study_run):
    client, experiment_id, parent = study_run
    record = MlflowRecord(client, experiment_id, parent, TAGS)
    record.row("nobody/search/0", 1, a_row(1))
    record.end("nobody/search/0", COMPLETED, {})
    write(record, a_request())
    record.close()
    assert_complete(client, study_run, [a_request()])


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
    return SimpleNamespace(ledger=ledger, notes=notes, trial=trial, callback=MlflowCallback(notes, ledger))


KEY = "focal/search/7"


def a_result(*epochs):
    return {"rows": [(epoch, a_row(epoch)) for epoch in epochs], "node": "worker-1"}


def test_callback_starts_a_run_once_however_often_the_trial_starts(stage):
    for _ in range(2):
        stage.callback.on_trial_start(1, [], stage.trial)
    assert stage.notes.started == [KEY]


def test_callback_records_each_epoch_once_however_often_it_is_told(stage):
    for result in (a_result(1), a_result(2, 3), a_result(1, 2, 3), a_result(3, 4)):
        stage.callback.on_trial_result(1, [], stage.trial, result)
    assert stage.notes.rows == [(KEY, epoch, a_row(epoch)["val_accuracy"]) for epoch in (1, 2, 3, 4)]


@pytest.mark.parametrize("stop_reason", [COMPLETED, PRUNED, DIVERGED, INTERRUPTED])
def test_callback_ends_a_run_with_the_ledgers_reason_the_node_and_the_final_record(stage, stop_reason):
    stage.callback.on_trial_result(1, [], stage.trial, a_result(1))
    stage.ledger.records[KEY].stop_reason = stop_reason
    stage.trial.last_result = {"final": FINAL}
    stage.callback.on_trial_complete(1, [], stage.trial)
    assert stage.notes.ends == [(KEY, stop_reason, {"node": "worker-1"}, FINAL)]


def test_callback_ends_a_failed_run_with_the_end_of_its_traceback(stage, tmp_path):
    stage.ledger.close(KEY, failed=True)
    stage.trial.error_file = tmp_path / "error.txt"
    stage.trial.error_file.write_text("x" * 9000 + "ValueError: the reason")
    stage.callback.on_trial_error(1, [], stage.trial)
    ((key, stop_reason, tags, final),) = stage.notes.ends
    assert (key, stop_reason, final) == (KEY, FAILED, None)
    assert tags["error"].endswith("ValueError: the reason")
    assert len(tags["error"]) == 5000


@pytest.mark.parametrize("error_file", [None, "/nowhere/error.txt"])
def test_callback_ends_a_failed_run_whose_traceback_is_lost(stage, error_file):
    stage.ledger.close(KEY, failed=True)
    stage.trial.error_file = error_file
    stage.callback.on_trial_error(1, [], stage.trial)
    assert stage.notes.ends == [(KEY, FAILED, {"node": ""}, None)]


def test_tune_pickles_nothing_of_it(stage):
    assert pickle.loads(pickle.dumps(stage.callback)) == {}


def test_study_has_a_run_of_its_own_that_holds_its_description(study_run, artifact_of):
    client, experiment_id, parent = study_run
    protocol = {"schema": 1, "arms": [{"name": "focal"}]}
    tags = {"study": "mine", "phase": "study", "git_dirty": True, "delta": 0.5}
    run = client.get_run(start_study_run(client, experiment_id, "mine", tags, protocol))
    assert run.info.run_name == "mine"
    assert run.info.status == "RUNNING"
    assert {key: run.data.tags[key] for key in tags} == {key: str(value) for key, value in tags.items()}
    assert artifact_of(run, "study.json") == protocol
    assert run.info.run_id != parent


def test_experiment_has_its_description_new_or_not(uri):
    client = MlflowClient(uri)
    old = client.create_experiment("made by hand")
    for name in ("made by hand", "made by the study"):
        _, experiment_id = connect(uri, name, None)
        assert "is a *study*" in client.get_experiment(experiment_id).tags["mlflow.note.content"]
    assert connect(uri, "made by hand", None)[1] == old


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
