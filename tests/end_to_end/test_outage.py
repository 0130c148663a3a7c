"""A real MLflow server that fails in every way a network knows, while trials are told to it and after."""

import contextlib
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import load_dict
from mlflow.entities import ViewType

from study import record as record_module
from study.ledger import COMPLETED
from study.record import MlflowRecord, deliver_spool
from study.runs import TrialRuns
from study.spool import SPOOL_FILE, Row, Start, read_spool
from tests.end_to_end.deliver import deliver, known_runs
from tests.end_to_end.faulty_proxy import DROP, ERROR, LOSE, PASS, SLOW, FaultyProxy
from tests.study.told_trials import FINAL, KEY, TAGS, a_request, children, new_study_run
from trainables.config import InputError

ROOT = Path(__file__).parents[2]
PATIENCE = 240
REQUEST_SECONDS = 2
THREADS = 2
# As the study has it, but that nobody waits between two tries: MLflow's client asks three times by itself.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(REQUEST_SECONDS),
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

pytestmark = pytest.mark.studies


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    for key, value in ENVIRONMENT.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(record_module, "COLLECT_SECONDS", 0.05)
    monkeypatch.setattr(record_module, "RETRY_SECONDS", (0.1,))


@pytest.fixture
def study_run(server):
    """A fresh experiment with a study's run in it, artifacts behind the server: client, experiment id, run id."""
    return new_study_run(server.uri)


def a_row(epoch):
    """Values as training has them, those of a trial that diverges too."""
    return {"train_loss": 1.0 / epoch, "val_nll": float("inf") if epoch % 2 else float("nan"), "third": epoch / 3}


def write_trial(record, request, epochs):
    record.start(request)
    for epoch in epochs:
        record.row(request.key, epoch, a_row(epoch))
    record.end(request.key, COMPLETED, {}, FINAL)


def steps_as_written(server, run_id, metric):
    """The steps of a metric in the order in which the database took them."""
    with contextlib.closing(sqlite3.connect(server.database)) as database:
        found = database.execute(
            "SELECT step FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY rowid", (run_id, metric)
        )
        return [step for (step,) in found]


def assert_all_there(server, study_run, epochs_of):
    """Each trial's run is there once, closed, its epochs once and in order, its parameters and final record."""
    runs, count = children(*study_run)
    assert count == len(epochs_of)
    assert runs.keys() == epochs_of.keys()
    for key, run in runs.items():
        for metric in a_row(1):
            assert steps_as_written(server, run.info.run_id, metric) == list(range(1, epochs_of[key] + 1)), key
        assert (run.info.status, run.data.params["loss"]) == ("FINISHED", "focal")
    # One is enough: they took the same way.
    assert load_dict(f"{run.info.artifact_uri}/final.json") == FINAL


def tell_in_threads(record, part, *, last):
    """Each thread tells a trial from start to end, and three more epochs of one that runs all the time."""

    def tell(thread):
        long = a_request(number=1000 + thread)
        write_trial(record, a_request(number=100 * part + thread), range(1, 7))
        record.start(long)
        for epoch in range(3 * part + 1, 3 * part + 4):
            record.row(long.key, epoch, a_row(epoch))
        if last:
            record.end(long.key, COMPLETED, {}, FINAL)

    threads = [threading.Thread(target=tell, args=(thread,)) for thread in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_whatever_a_server_does_nobody_waits_and_each_epoch_arrives_once_and_in_order(server, study_run, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    client, experiment_id, parent = study_run
    modes = (PASS, LOSE, ERROR, SLOW, DROP)
    with FaultyProxy(server.port, patience=REQUEST_SECONDS) as proxy:
        record = MlflowRecord(MlflowClient(proxy.uri), experiment_id, parent, TAGS)
        for part, mode in enumerate(modes):
            proxy.mode = mode
            # Returns although the server takes nothing until the last mode is over: no call waits for it.
            tell_in_threads(record, part, last=mode == DROP)
            if mode == PASS:
                assert record.drain() == 0
            proxy.wait_until_treated(mode, 4)
        assert children(*study_run)[1] < (len(modes) + 1) * THREADS
        proxy.mode = PASS
        assert record.close() == 0
    assert record.refused == 0
    epochs_of = {f"focal/search/{100 * part + thread}": 6 for part in range(len(modes)) for thread in range(THREADS)}
    epochs_of |= {f"focal/search/{1000 + thread}": 3 * len(modes) for thread in range(THREADS)}
    assert_all_there(server, study_run, epochs_of)
    # Where answers were lost, MLflow's client made runs again by itself; they are gone.
    twins = client.search_runs([experiment_id], run_view_type=ViewType.DELETED_ONLY)
    assert len(twins) >= 1
    assert all(not run.data.metrics for run in twins)


def test_server_keeps_values_once_that_are_written_twice(server, study_run):
    client, experiment_id, parent = study_run
    runs = TrialRuns(client, experiment_id, parent, TAGS, dataset=None, known={})
    for write_it in runs.start(Start(a_request(), 1000)):
        write_it()
    rows = [Row(KEY, epoch, a_row(epoch), 1500) for epoch in range(1, 9)]
    for batch in (rows[:3], rows[:3], rows, rows):
        runs.rows(KEY, batch)
    for metric in a_row(1):
        assert steps_as_written(server, runs.ids[KEY], metric) == list(range(1, 9))


def test_what_a_server_that_is_gone_did_not_take_is_delivered_later_though_killed_twice(
    server, study_run, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    _, experiment_id, parent = study_run
    requests = [a_request(number=number) for number in range(8)]
    with FaultyProxy(server.port, patience=REQUEST_SECONDS) as proxy:
        port = proxy.port
        record = MlflowRecord(MlflowClient(proxy.uri), experiment_id, parent, TAGS, folder=tmp_path)
        write_trial(record, requests[0], range(1, 7))
        record.drain()
    # Nobody listens there now.
    for request in requests[1:]:
        write_trial(record, request, range(1, 7))
    left = record.close(patience_seconds=0.5)
    assert left == 8 * (len(requests) - 1)
    assert len(read_spool(tmp_path).items) == left
    whole = (tmp_path / SPOOL_FILE).read_bytes()
    with pytest.raises(InputError, match=r"MLflow did not take 56 of 56 items of .*spool.jsonl; they stay there"):
        deliver_spool(
            tmp_path,
            MlflowRecord(MlflowClient(proxy.uri), experiment_id, parent, TAGS, known=known_runs(*study_run)),
            patience_seconds=0.5,
        )
    with FaultyProxy(server.port, patience=REQUEST_SECONDS, own_port=port) as proxy:
        proxy.pause = 0.02
        for requests_before_the_kill in (8, 24):
            before = children(*study_run)[1]
            deliverer = deliver_elsewhere(proxy.uri, experiment_id, parent, tmp_path)
            proxy.wait_until_treated(PASS, proxy.treated[PASS] + requests_before_the_kill)
            deliverer.kill()
            assert deliverer.wait() == -signal.SIGKILL
            assert before <= children(*study_run)[1] <= len(requests)
            assert (tmp_path / SPOOL_FILE).read_bytes() == whole
        assert deliver(proxy.uri, experiment_id, parent, tmp_path) == left
    assert list(tmp_path.iterdir()) == []
    assert_all_there(server, study_run, {request.key: 6 for request in requests})


def deliver_elsewhere(uri, experiment_id, parent, folder):
    command = [sys.executable, "-m", "tests.end_to_end.deliver", uri, experiment_id, parent, str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
