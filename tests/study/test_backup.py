"""A copy of a database is the database at one moment, and comes back where the original is gone."""

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from study import backup, launch, start
from study.backup import Backup, copy_database, restore
from tests.buckets import serving_bucket
from trainables.bucket import read_object, write_object

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bucket():
    with serving_bucket() as address:
        yield address


@pytest.fixture
def database(tmp_path):
    file = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE pairs (number INTEGER, again INTEGER)")
        connection.commit()
    return file


def pairs(file):
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("SELECT number, again FROM pairs ORDER BY number").fetchall()


def insert(connection, number):
    connection.execute("INSERT INTO pairs VALUES (?, NULL)", (number,))
    connection.execute("UPDATE pairs SET again = number WHERE number = ?", (number,))
    connection.commit()


def test_a_copy_made_while_others_write_is_one_moment_of_the_database(database, tmp_path):
    stop = threading.Event()

    def write():
        with closing(sqlite3.connect(database, timeout=60)) as connection:
            for number in range(100_000):
                insert(connection, number)
                if stop.is_set():
                    return

    writer = threading.Thread(target=write)
    writer.start()
    counts = []
    try:
        for number in range(5):
            copy = tmp_path / f"{number}.db"
            copy.write_bytes(copy_database(database))
            found = pairs(copy)
            assert found == [(n, n) for n in range(len(found))]  # no transaction is half there
            counts.append(len(found))
            time.sleep(0.05)
    finally:
        stop.set()
        writer.join()
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]


def test_it_is_copied_when_it_has_changed_and_only_then(database, bucket, tmp_path):
    address = f"{bucket}/changed/mlflow.db"
    kept = Backup(database, address)
    with closing(sqlite3.connect(database)) as connection:  # open, so that what is new stays in the file beside it
        insert(connection, 1)
        assert kept.run()
        assert not kept.run()
        insert(connection, 2)
        assert kept.run()
    (tmp_path / "copy.db").write_bytes(read_object(address))
    assert pairs(tmp_path / "copy.db") == [(1, 1), (2, 2)]


def test_a_database_that_is_not_there_yet_is_waited_for(tmp_path, bucket):
    assert not Backup(tmp_path / "none.db", f"{bucket}/none.db").run()


def test_it_comes_back_where_it_is_missing_and_only_there(database, bucket, tmp_path):
    address = f"{bucket}/restored/mlflow.db"
    new = tmp_path / "elsewhere" / "mlflow.db"
    assert not restore(new, address)
    assert not new.exists()
    Backup(database, address).run()
    assert restore(new, address)
    assert pairs(new) == []
    write_object(address, b"other")
    assert not restore(new, address)
    assert pairs(new) == []


def test_the_command_copies_until_it_is_ended_and_once_more_then(database, bucket, tmp_path):
    address = f"{bucket}/command/mlflow.db"
    command = [sys.executable, "-m", "study.backup", str(database), address, "--every"]
    with subprocess.Popen([*command, "1s"], cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not _is_there(address):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    with subprocess.Popen([*command, "1h"], cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(2)  # a second of it is its imports
        with closing(sqlite3.connect(database)) as connection:
            insert(connection, 7)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    database.unlink()
    assert backup.main([str(database), address, "--restore"]) == 0
    assert pairs(database) == [(7, 7)]


def _is_there(address):
    try:
        return bool(read_object(address))
    except FileNotFoundError:
        return False


def test_what_cannot_be_copied_is_said_and_the_exit_code_knows(database):
    command = [sys.executable, "-m", "study.backup", str(database), "s3://bucket-nowhere/x.db", "--every", "1s"]
    with serving_bucket(), subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline().startswith("study.backup: not copied: ")
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        assert process.wait(60) == 1


def test_a_study_that_ends_leaves_its_copy_before_the_command_returns(database, bucket, tmp_path, monkeypatch):
    address = f"{bucket}/ended/mlflow.db"
    monkeypatch.setenv(backup.VARIABLE, f"{database} {address}")
    with closing(sqlite3.connect(database)) as connection:
        insert(connection, 3)
    ran = []
    monkeypatch.setattr(start, "run_study", lambda *_, **__: ran.append(_is_there(address)) or 130)
    assert launch.main(["--space", "smoke", "--name", "s", "--storage-path", str(tmp_path / "runs")]) == 130
    assert ran == [False]
    (tmp_path / "copy.db").write_bytes(read_object(address))
    assert pairs(tmp_path / "copy.db") == [(3, 3)]


def test_a_copy_waits_for_one_that_was_begun_before(database, bucket, monkeypatch):
    address = f"{bucket}/order/mlflow.db"
    begun, go_on = threading.Event(), threading.Event()
    real = backup.write_object

    def slow(where, content):
        if not begun.is_set():
            begun.set()
            assert go_on.wait(60)
        real(where, content)

    monkeypatch.setattr(backup, "write_object", slow)
    first = threading.Thread(target=Backup(database, address).run)
    first.start()
    assert begun.wait(60)
    with closing(sqlite3.connect(database)) as connection:
        insert(connection, 5)
    second = threading.Thread(target=Backup(database, address).run)
    second.start()
    second.join(0.5)
    go_on.set()
    first.join()
    second.join()
    database.unlink()
    assert restore(database, address)
    assert pairs(database) == [(5, 5)]


def test_a_bucket_that_takes_no_copy_changes_nothing_about_the_study(database, monkeypatch, capsys):
    monkeypatch.setenv(backup.VARIABLE, f"{database} s3://bucket-nowhere/mlflow.db")
    with serving_bucket():
        backup.copy_at_the_end()()
    assert capsys.readouterr().err.startswith(f"{database} is not copied to s3://bucket-nowhere/mlflow.db: ")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("s3://bucket/key", "STUDY_BACKUP must be FILE ADDRESS; got 's3://bucket/key'."),
        ("mlflow.db bucket", "ADDRESS must be s3://BUCKET/KEY or gs://BUCKET/KEY; got 'bucket'."),
        ("none/mlflow.db s3://bucket/key", "FILE must lie in a folder that exists; got 'none/mlflow.db'."),
    ],
)
def test_a_place_of_the_copy_that_cannot_be_is_refused_before_the_study(value, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(backup.VARIABLE, value)
    assert launch.main(["--space", "smoke", "--name", "s"]) == 2
    assert capsys.readouterr().err == f"study.launch: {reason}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["mlflow.db", "/tmp/copy.db"], "ADDRESS must be s3://BUCKET/KEY or gs://BUCKET/KEY; got '/tmp/copy.db'."),
        (["mlflow.db", "s3://bucket"], "ADDRESS must be s3://BUCKET/KEY or gs://BUCKET/KEY; got 's3://bucket'."),
        (["none/mlflow.db", "s3://bucket/key"], "FILE must lie in a folder that exists; got 'none/mlflow.db'."),
        (
            ["mlflow.db", "s3://bucket/key", "--every", "never"],
            "`--every` must be a time such as 90s, 30m or 1h30m; got 'never'.",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(arguments, reason, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert backup.main(arguments) == 2
    assert capsys.readouterr().err == f"study.backup: {reason}\n"


def test_a_bucket_that_is_not_there_cannot_be_fetched_from(tmp_path, capsys):
    with serving_bucket():
        assert backup.main([str(tmp_path / "mlflow.db"), "s3://bucket-nowhere/mlflow.db", "--restore"]) == 2
    assert capsys.readouterr().err.startswith("study.backup: s3://bucket-nowhere/mlflow.db cannot be fetched: ")
    assert list(tmp_path.iterdir()) == []
