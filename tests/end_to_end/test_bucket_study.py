"""A study whose storage is a bucket: its machine may vanish with its disk, another one goes on."""

import random
import shutil
import signal
import sqlite3
import time
from contextlib import closing

import pytest

from study.backup import copy_database
from tests.buckets import serving_bucket
from tests.end_to_end import whole_record
from tests.end_to_end.chaos import CONFIRM, Chaos, end_all, phase_of
from trainables.bucket import list_objects

STUDY = ("--space", "smoke", "--max-concurrent", "1", "--trials", "4", "--seeds", "2", "--no-models", "--storage-path")

pytestmark = pytest.mark.studies


@pytest.fixture(scope="module")
def bucket():
    with serving_bucket() as address:
        yield f"{address}/studies"


def test_another_machine_goes_on_from_the_bucket_and_an_older_copy_of_the_database(tmp_path, bucket):
    first = Chaos(tmp_path / "first", (*STUDY, bucket))
    first.folder.mkdir()
    process = first.begin()
    copy = b""
    try:
        while phase_of(first.folder) != CONFIRM:
            assert process.poll() is None, first.said()
            # As the backup does each minute: it may be older than all that the next seconds bring.
            if phase_of(first.folder) and len(whole_record.read(first.folder)[1]) < 8:
                copy = copy_database(first.folder / "mlflow.db")
            time.sleep(0.1)
        time.sleep(random.Random(0).uniform(0, 1))
        process.send_signal(signal.SIGKILL)
    finally:
        end_all(process)
    with closing(sqlite3.connect(first.folder / "mlflow.db")) as database:  # undoes what was being written
        database.execute("SELECT count(*) FROM runs").fetchall()
    known = {trial["tags"]["trial_id"] for trial in whole_record.read(first.folder)[1]}
    shutil.rmtree(first.folder / "runs")

    second = Chaos(tmp_path / "second", (*STUDY, bucket))
    second.folder.mkdir()
    (second.folder / "mlflow.db").write_bytes(copy)
    forgotten = known - {trial["tags"]["trial_id"] for trial in whole_record.read(second.folder)[1]}
    assert len(forgotten) >= 3
    assert second.live(arguments=("--resume", "s")) == 0, second.said()
    whole_record.check(second.folder)
    assert {trial["tags"]["trial_id"] for trial in whole_record.read(second.folder)[1]} >= known

    undisturbed = Chaos(tmp_path / "third", (*STUDY, f"{bucket}-too"))
    undisturbed.folder.mkdir()
    assert undisturbed.live() == 0, undisturbed.said()
    assert whole_record.outcomes(second.folder) == whole_record.outcomes(undisturbed.folder)
    # Checkpoints and weights are gone; the driver's own files stay, and the report is there.
    left = ["arms.csv", "comparisons.csv", "epochs.parquet", "optuna.journal", "report.html"]
    assert sorted(list_objects(f"{bucket}/s")) == sorted(list_objects(f"{bucket}-too/s")) == left
    assert f"Report: {bucket}/s/report.html" in second.said()


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("s3://no-such-bucket/x", "must be a bucket that can be read and written; got s3://no-such-bucket/x"),
        ("ftp://host/x", "must be a folder or s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"),
        ("s3://key:secret@bucket/x", "its credentials in the environment; got 's3://key:***@bucket/x'"),
    ],
)
def test_a_place_that_cannot_hold_a_study_is_refused_and_nothing_is_left(place, reason, tmp_path, bucket):
    refused = Chaos(tmp_path, (*STUDY, place))
    assert refused.live() == 2
    assert refused.said().startswith("study.launch: `--storage-path`")
    assert reason in refused.said()
    assert refused.said().count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["life-1.log"]
