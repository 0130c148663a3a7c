"""The record against a real SQLite store: one that works, one that sometimes does not, and one that is gone."""

import contextlib
import logging
import random
import sqlite3
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND

from study import record as record_module
from study.ledger import COMPLETED, FAILED, INTERRUPTED, PRUNED
from study.record import KnownRun, MlflowRecord, deliver_spool
from study.spool import SPOOL_FILE, read_spool
from tests.study.told_trials import (
    EPOCHS,
    FINAL,
    KEY,
    TAGS,
    Calls,
    Mortal,
    Unreliable,
    a_request,
    a_row,
    assert_complete,
    children,
    history,
    new_study_run,
    write,
)
from trainables.config import InputError

AWAY = MlflowException("API request to http://me:secret@host failed\nsecond line")


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """A SQLite store, made once: its tables take a second."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture
def study_run(uri):
    return new_study_run(uri, Path(uri.removeprefix("sqlite:///")).parent)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(record_module, "COLLECT_SECONDS", 0.05)
    monkeypatch.setattr(record_module, "RETRY_SECONDS", (0.001,))


@pytest.fixture
def heard(caplog, monkeypatch):
    """What the log is told; other tests may have sent it to a file."""
    monkeypatch.setattr(record_module.logger, "propagate", True)
    monkeypatch.setattr(logging.getLogger("study"), "propagate", True)
    caplog.set_level(logging.WARNING, "study.record")
    return caplog


@pytest.fixture
def open_record(study_run):
    """``open_record(client, folder=...)``: a record of the study; the client is the store's if none is given."""

    def build(client=None, **options):
        store, experiment_id, parent = study_run
        return MlflowRecord(client or store, experiment_id, parent, TAGS, **options)

    return build


def known_runs(study_run):
    """What a driver that resumes the study finds on record."""
    return {
        key: KnownRun(run.info.run_id, max((metric.step for metric in run.data._metric_objs), default=0))
        for key, run in children(*study_run)[0].items()
    }


def only_run(study_run):
    found, count = children(*study_run)
    assert count == 1
    return next(iter(found.values()))


def test_every_epoch_of_trials_that_run_side_by_side_arrives_exactly_once(study_run, open_record):
    record = open_record()
    requests = [a_request(arm, number=number) for arm in ("focal", "mse") for number in range(3)]
    for request in requests:
        record.start(request)
    for epoch in (1, 2, 3):
        for request in requests:
            record.row(request.key, epoch, a_row(epoch))
        time.sleep(0.07)  # longer than the record collects, so that batches of several epochs and of one occur
    for request in requests:
        record.end(request.key, COMPLETED, {})
    assert record.close() == 0
    assert_complete(study_run, requests)
    assert record.refused == 0


def test_rows_that_wait_travel_together_and_whole(study_run, open_record):
    calls = Calls(study_run[0])
    record = open_record(calls)
    request = a_request()
    row = {f"metric_{number}": float(number) for number in range(30)}
    record.start(request)
    for epoch in range(1, 101):
        record.row(KEY, epoch, row)
    record.end(KEY, COMPLETED, {})
    record.close()
    assert [len(batch) for batch in calls.batches] == [990, 990, 990, 30]
    for batch in calls.batches:
        steps = [metric.step for metric in batch]
        assert all(steps.count(step) == 30 for step in set(steps))
    assert [step for step, _ in history(study_run[0], only_run(study_run), "metric_29")] == list(range(1, 101))


def test_trial_and_its_epochs_are_recorded_once_however_often_they_are_told(study_run, open_record):
    record = open_record()
    for epochs in ((1,), (1, 2), (2, 3), (1, 2, 3)):
        record.start(a_request())
        for epoch in epochs:
            record.row(KEY, epoch, a_row(epoch))
    record.end(KEY, COMPLETED, {})
    record.close()
    assert_complete(study_run, [a_request()])


def test_trial_that_goes_on_after_its_end_has_its_run_again(study_run, open_record):
    record = open_record(known={})
    write(record, a_request(), epochs=1, stop_reason=INTERRUPTED)
    record.drain()
    assert only_run(study_run).info.status == "KILLED"
    record.start(a_request())
    record.drain()
    assert only_run(study_run).info.status == "RUNNING"
    write(record, a_request())
    record.close()
    assert_complete(study_run, [a_request()])


@pytest.mark.parametrize("on_record", range(EPOCHS + 1))
def test_resumed_study_adds_to_a_known_run_what_it_lacks(study_run, open_record, on_record):
    died = open_record()
    died.start(a_request())
    for epoch in range(1, on_record + 1):
        died.row(KEY, epoch, a_row(epoch))
    died.drain()
    known = known_runs(study_run)
    assert known[KEY].epoch == on_record
    record = open_record(known=known)
    assert record.run_ids == {KEY: known[KEY].run_id}
    write(record, a_request())
    write(record, a_request(number=8))
    record.close()
    assert_complete(study_run, [a_request(), a_request(number=8)])


def test_resumed_study_makes_no_second_run_where_the_first_ones_answer_was_lost_to_a_dead_process(
    study_run, open_record
):
    died = open_record(Mortal(study_run[0], after=True))
    died.start(a_request())
    while not children(*study_run)[1]:
        time.sleep(0.01)
    record = open_record(known={})
    write(record, a_request())
    record.close()
    assert_complete(study_run, [a_request()])


def test_end_of_a_trial_is_told_when_it_is_on_record_and_by_the_writer(study_run, open_record):
    told = []

    def ended(key):
        told.append((key, children(*study_run)[0][key].info.status, threading.current_thread().name))

    record = open_record(on_ended=ended)
    reasons = {0: COMPLETED, 1: PRUNED, 2: FAILED, 3: INTERRUPTED}
    for number, reason in reasons.items():
        write(record, a_request(number=number), stop_reason=reason)
    record.close()
    assert told == [
        ("focal/search/0", "FINISHED", "mlflow-writer"),
        ("focal/search/1", "KILLED", "mlflow-writer"),
        ("focal/search/2", "FAILED", "mlflow-writer"),
    ]


def test_end_that_the_store_does_not_take_is_not_told(study_run, open_record, tmp_path):
    told = []
    record = open_record(Unreliable(study_run[0], AWAY, failing=["set_terminated"], times=10**9), on_ended=told.append)
    record._folder = tmp_path
    write(record, a_request())
    assert record.close(patience_seconds=0.2) == 1
    assert told == []


def test_what_follows_an_end_may_fail(study_run, open_record, heard):
    def ended(key):
        raise OSError("the checkpoint cannot be removed")

    record = open_record(on_ended=ended)
    requests = [a_request(number=number) for number in (1, 2)]
    for request in requests:
        write(record, request)
    record.close()
    assert_complete(study_run, requests)
    assert record.refused == 0
    assert heard.messages == [
        "What follows the end of focal/search/1 failed",
        "What follows the end of focal/search/2 failed",
    ]


def test_training_never_waits_for_a_store_that_is_gone(study_run, open_record):
    mortal = Mortal(study_run[0])
    record = open_record(mortal)
    requests = [a_request(number=number) for number in range(5)]
    for request in requests:
        write(record, request)
    # All was told, and nothing was taken.
    assert children(*study_run)[1] == 0
    mortal.heal()
    record.close()
    assert_complete(study_run, requests)


def test_training_never_waits_for_a_database_that_is_locked(study_run, open_record, uri):
    database = sqlite3.connect(uri.removeprefix("sqlite:///"), isolation_level=None)
    record = open_record()
    requests = [a_request(number=number) for number in range(3)]
    database.execute("BEGIN EXCLUSIVE")
    for request in requests:
        write(record, request)
    record.drain(patience_seconds=0.3)
    database.execute("ROLLBACK")
    database.close()
    assert children(*study_run)[1] < 3, "the lock held nothing up"
    record.close()
    assert_complete(study_run, requests)


OUTAGES = [
    MlflowException("the database is locked\nsecond line", error_code=503),
    MlflowException("internal"),
    ConnectionError("refused"),
    TimeoutError("no answer within 20 s"),
    OSError(),
]


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
@pytest.mark.parametrize("error", OUTAGES, ids=lambda error: type(error).__name__)
def test_what_an_outage_held_up_arrives_once_and_in_full_when_the_store_recovers(study_run, open_record, error, after):
    failing = ("create_run", "search_runs", "log_batch", "log_dict", "set_terminated")
    unreliable = Unreliable(study_run[0], error, failing=failing, after=after)
    record = open_record(unreliable)
    requests = [a_request(number=number) for number in range(2)]
    for request in requests:
        write(record, request, final=FINAL)
    record.close()
    assert unreliable.failures == 2 * len(failing)
    assert_complete(study_run, requests)


def test_long_outage_is_waited_out(study_run, open_record):
    unreliable = Unreliable(study_run[0], ConnectionError("refused"), failing=("create_run", "log_batch"), times=50)
    record = open_record(unreliable)
    write(record, a_request())
    record.close()
    assert_complete(study_run, [a_request()])


class Moody:
    """A client whose every call may fail before or after the store took it, by a seeded draw; it notes the batches."""

    def __init__(self, client, seed):
        self._client, self._random = client, random.Random(seed)
        self.failures = 0
        self.steps = {}

    def __getattr__(self, name):
        def call(*arguments, **keywords):
            draw = self._random.random()
            if draw < 0.3:
                self.failures += 1
                raise MlflowException("the database is locked", error_code=503)
            answer = getattr(self._client, name)(*arguments, **keywords)
            for metric in keywords.get("metrics", ()):
                self.steps.setdefault((arguments[0], metric.key), []).append(metric.step)
            if draw < 0.6:
                self.failures += 1
                raise ConnectionError("the answer was lost")
            return answer

        return call


@pytest.mark.parametrize("seed", range(4))
def test_whatever_fails_each_epoch_of_trials_told_by_several_threads_arrives_once_and_in_order(
    study_run, open_record, seed
):
    moody = Moody(study_run[0], seed)
    record = open_record(moody)
    requests = [a_request(number=number) for number in range(6)]

    def train(request):
        pause = random.Random(request.number)
        record.start(request)
        for epoch in range(1, 13):
            record.row(request.key, epoch, a_row(epoch))
            time.sleep(0.02 * pause.random())
        record.end(request.key, COMPLETED, {})

    threads = [threading.Thread(target=train, args=(request,)) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record.close()
    assert moody.failures > 20
    assert_complete(study_run, requests, epochs=12)
    assert record.refused == 0
    for steps in moody.steps.values():
        # A batch whose answer was lost comes again as it was; nothing overtakes.
        assert sorted(set(steps)) == list(dict.fromkeys(steps)) == list(range(1, 13))


def test_outage_is_told_to_the_log_when_it_begins_and_when_it_is_over_and_without_the_password(
    study_run, open_record, heard
):
    record = open_record(Unreliable(study_run[0], AWAY, failing=("create_run",), times=30))
    write(record, a_request())
    record.close()
    assert heard.messages == [
        "MLflow did not take a write (API request to http://me:***@host failed); trying again",
        "MLflow took it at attempt 31",
    ]


def test_write_that_the_store_refuses_for_good_is_counted_and_does_not_hold_up_the_others(
    study_run, open_record, heard
):
    record = open_record()
    gone, kept = a_request(number=1), a_request(number=2)
    record.start(gone)
    record.drain()
    study_run[0].delete_run(record.run_ids[gone.key])
    record.row(gone.key, 1, a_row(1))
    record.end(gone.key, COMPLETED, {})
    write(record, kept)
    record.close()
    assert_complete(study_run, [kept])
    assert record.refused == 2
    assert heard.text.count("MLflow refused a write, which is left out") == 2


def test_server_too_old_to_keep_data_keeps_everything_else(study_run, open_record):
    refusal = MlflowException("no such call", error_code=ENDPOINT_NOT_FOUND)
    dataset = {"name": "d", "num_train": 1, "num_val": 1, "num_test": 1, "num_classes": 2, "class_names": ["a", "b"]}
    dataset |= {"input_shape": [1, 2, 2], "sha256": "0" * 64}
    record = open_record(Unreliable(study_run[0], refusal, failing=("log_inputs",)), dataset=dataset)
    write(record, a_request())
    record.close()
    assert_complete(study_run, [a_request()])
    assert record.refused == 1


def test_trial_that_was_never_started_does_not_stop_the_writer(study_run, open_record):
    record = open_record()
    record.row("nobody/search/0", 1, a_row(1))
    record.end("nobody/search/0", COMPLETED, {})  # it has no run to end, so this is no write that was refused
    write(record, a_request())
    record.close()
    assert_complete(study_run, [a_request()])
    assert record.refused == 1


def test_refusals_secrets_stay_out_of_the_log(study_run, open_record, heard):
    refusal = MlflowException("http://me:secret@host has no such call", error_code=ENDPOINT_NOT_FOUND)
    record = open_record(Unreliable(study_run[0], refusal, failing=("create_run",), times=1))
    write(record, a_request())
    record.close()
    assert "http://me:***@host" in heard.text
    assert "secret" not in heard.text


def test_close_waits_for_a_slow_store_as_long_as_it_takes_something(study_run, open_record, tmp_path, monkeypatch):
    clock = [0.0]

    class Slow(Mortal):
        def __getattr__(self, name):
            clock[0] += 15.0  # what is one to the record takes a few calls
            return getattr(study_run[0], name)

    monkeypatch.setattr(record_module, "time", SimpleNamespace(monotonic=lambda: clock[0], time=time.time))
    record = open_record(Slow(study_run[0]), folder=tmp_path)
    requests = [a_request(number=number) for number in range(3)]
    for request in requests:
        write(record, request)
    assert record.close(patience_seconds=60) == 0
    assert clock[0] > 3 * 60
    assert_complete(study_run, requests)
    assert list(tmp_path.iterdir()) == []


def test_close_leaves_in_the_folder_what_a_dead_store_did_not_take_and_writes_no_more(study_run, open_record, tmp_path):
    mortal = Mortal(study_run[0], answers=3)
    record = open_record(mortal, folder=tmp_path)
    record.start(a_request())
    record.drain()
    write(record, a_request(number=8))
    write(record, a_request())
    # All of the second trial, whose run was made without its parameters, and the first one's epochs and end.
    assert record.close(patience_seconds=0.1) == (1 + EPOCHS + 1) + (EPOCHS + 1)
    record._thread.join()
    calls = mortal.calls
    mortal.heal()
    assert record.close() == 9
    assert mortal.calls == calls
    spool = read_spool(tmp_path)
    assert spool.study_run == study_run[2]
    assert len(spool.items) == 9


def test_close_does_not_wait_for_a_store_that_hangs(study_run, open_record, tmp_path):
    healed = threading.Event()

    class Hangs:
        def __getattr__(self, name):
            healed.wait()
            return getattr(study_run[0], name)

    record = open_record(Hangs(), folder=tmp_path)
    write(record, a_request())
    assert record.close(patience_seconds=0.2) == 1 + EPOCHS + 1
    healed.set()
    record._thread.join()
    # The call that hung may be taken after all; delivering finds what it made.
    assert deliver_spool(tmp_path, open_record(known={})) == 1 + EPOCHS + 1
    assert_complete(study_run, [a_request()])


def test_spool_that_cannot_be_written_is_no_silence(open_record, study_run, tmp_path):
    record = open_record(Mortal(study_run[0]), folder=tmp_path / "gone")
    write(record, a_request())
    with pytest.raises(FileNotFoundError):
        record.close(patience_seconds=0)


@pytest.fixture
def spooled(study_run, open_record, tmp_path):
    """Three trials told to a store that died early; what is left, in ``tmp_path``."""
    record = open_record(Mortal(study_run[0], answers=4), folder=tmp_path)
    for number in range(3):
        write(record, a_request(number=number), final=FINAL)
    assert record.close(patience_seconds=0.1) > 10
    return [a_request(number=number) for number in range(3)]


def test_delivering_completes_the_record_and_takes_the_spool_away(study_run, open_record, tmp_path, spooled):
    told = []
    left = len(read_spool(tmp_path).items)
    record = open_record(folder=tmp_path, known=known_runs(study_run), on_ended=told.append)
    assert deliver_spool(tmp_path, record) == left
    assert list(tmp_path.iterdir()) == []
    assert told == [request.key for request in spooled]
    assert deliver_spool(tmp_path, record) == 0
    assert record.close() == 0
    assert_complete(study_run, spooled)


def test_spool_of_an_interrupted_study_is_delivered_before_its_trials_go_on(study_run, open_record, tmp_path):
    record = open_record(Mortal(study_run[0], answers=3), folder=tmp_path)
    write(record, a_request(), epochs=2, stop_reason=INTERRUPTED)
    record.close(patience_seconds=0.1)
    resumed = open_record(folder=tmp_path, known=known_runs(study_run))
    deliver_spool(tmp_path, resumed)
    write(resumed, a_request())
    assert resumed.close() == 0
    assert_complete(study_run, [a_request()])


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
def test_delivering_may_be_killed_at_any_call(study_run, open_record, tmp_path, spooled, after):
    whole = (tmp_path / SPOOL_FILE).read_bytes()
    kills = 0
    while (tmp_path / SPOOL_FILE).exists():
        dying = open_record(Mortal(study_run[0], answers=kills, after=after), known=known_runs(study_run))
        with contextlib.suppress(InputError):
            deliver_spool(tmp_path, dying, patience_seconds=0.02)
            continue
        # Killed: nobody closes the record, nothing of it is written any more, the file is as it was.
        dying._gave_up.set()
        dying._thread.join()
        assert (tmp_path / SPOOL_FILE).read_bytes() == whole
        kills += 1
    assert kills > 10
    assert_complete(study_run, spooled)


def test_store_that_is_still_away_is_one_line_and_the_spool_stays(study_run, open_record, tmp_path, spooled):
    away = open_record(Mortal(study_run[0]), folder=tmp_path, known=known_runs(study_run))
    with pytest.raises(InputError, match=r"MLflow did not take \d+ of \d+ items of .*spool.jsonl; they stay there"):
        deliver_spool(tmp_path, away, patience_seconds=0.05)
    assert away.close(patience_seconds=0) > 10
    assert deliver_spool(tmp_path, open_record(known=known_runs(study_run))) > 10
    assert_complete(study_run, spooled)


def test_spool_of_another_study_is_refused(study_run, open_record, tmp_path, spooled):
    store, experiment_id, _ = study_run
    record = MlflowRecord(store, experiment_id, "another", TAGS, folder=tmp_path, known={})
    with pytest.raises(InputError, match=r"spool.jsonl belongs to another study \(run "):
        deliver_spool(tmp_path, record)
    assert (tmp_path / SPOOL_FILE).exists()
    assert record.close() == 0


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("no answer\nmore of it", "no answer"),
        ("", ""),
        (
            "(raised as a result of autoflush)\n(sqlite3.OperationalError) database or disk is full\n[SQL]",
            "(sqlite3.OperationalError) database or disk is full",
        ),
    ],
)
def test_of_an_error_the_line_is_kept_that_says_why(text, line):
    assert record_module._telling_line(OSError(text)) == line
