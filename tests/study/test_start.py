"""A study on record goes on here and now, or it is said on one line why it does not; and what is said of an error."""

import contextlib
import logging
import threading

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from study import cluster, phases, protocol
from study.conduct import JOURNAL_FILE
from study.launch import main
from trainables.data import load_dataset

CODE = "c0de" * 16


class ReachedError(BaseException):
    """What would run trials was called; nothing catches it."""


@pytest.fixture
def record(tmp_path, monkeypatch):
    """Puts a study on record that a process which is gone has begun, as far as is said; its trials are not run."""
    monkeypatch.chdir(tmp_path)
    for key in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "RAY_ADDRESS"):
        monkeypatch.delenv(key, raising=False)
    reached = []

    @contextlib.contextmanager
    def connected(options):
        yield 2

    def run_trials(*_, recalled, **__):
        reached.append(recalled)
        raise ReachedError

    monkeypatch.setattr(cluster, "prepare_environment", lambda **_: None)
    monkeypatch.setattr(cluster, "connected", connected)
    monkeypatch.setattr(phases, "run_trials", run_trials)
    monkeypatch.setattr(protocol, "code_sha256", lambda _: CODE)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.create_experiment("smoke", (tmp_path / "artifacts").as_uri())

    def put(content, *, trials=0, **tags):
        parent = client.create_run(experiment, tags={"study": "s", "phase": "study", **tags}).info.run_id
        client.log_dict(parent, content, "study.json")
        for number in range(trials):
            own = {"mlflow.parentRunId": parent, "trial_id": f"focal/search/{number}", "arm": "focal"}
            client.create_run(experiment, tags=own | {"phase": "search", "seed": "1"})
        return reached

    return put


def begun(**changes):
    """``study.json`` of a study of this code and these data."""
    arguments = ["--space", "smoke", "--name", "s"]
    return {
        "arguments": arguments,
        "code_sha256": CODE,
        "dataset": {"sha256": load_dataset("digits").sha256},
        **changes,
    }


def said(capsys):
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_ray_ends_when_the_trials_have_and_by_the_thread_that_used_it(record, monkeypatch):
    record(begun())
    ended_by = []
    monkeypatch.setattr(cluster, "disconnect", lambda: ended_by.append(threading.current_thread()))

    def run_trials(*_, ended, **__):
        assert ended_by == []
        ended()
        assert ended_by == [threading.main_thread()]
        raise ReachedError

    monkeypatch.setattr(phases, "run_trials", run_trials)
    with pytest.raises(ReachedError):
        main(["--resume", "s"])


def test_a_study_of_a_version_that_kept_no_flags_cannot_be_resumed(record, capsys):
    record({"space": "smoke"})
    assert main(["--resume", "s"]) == 2
    assert said(capsys) == "study.launch: The study 's' cannot be resumed: its record does not hold its flags."


def test_a_study_whose_folder_is_elsewhere_is_not_begun_anew_here(record, tmp_path, capsys):
    reached = record(begun(), trials=1)
    assert main(["--resume", "s", "--storage-path", "elsewhere"]) == 2
    where = tmp_path / "elsewhere"
    assert said(capsys) == f"study.launch: The search of the study 's' is not in {where}; give its `--storage-path`."
    assert not where.exists()
    journal = where / "s" / JOURNAL_FILE
    journal.parent.mkdir(parents=True)
    journal.touch()
    with pytest.raises(ReachedError):
        main(["--resume", "s", "--storage-path", "elsewhere"])
    assert list(reached[0].runs) == ["focal/search/0"]


def test_a_study_killed_before_its_first_trial_needs_no_journal(record):
    reached = record(begun())
    with pytest.raises(ReachedError):
        main(["--resume", "s"])
    assert reached[0].forced == ()


@pytest.mark.parametrize(
    ("changes", "tags", "why"),
    [
        ({"code_sha256": "0" * 64}, {}, f"It was begun with other code (sha256 {'0' * 12}, now {CODE[:12]})."),
        ({"dataset": {"sha256": "1" * 64}}, {}, f"It was begun with other data (sha256 {'1' * 12}, now "),
        ({}, {"state": "running", "driver": "other-machine 1 2"}, "It is running on other-machine, or was when"),
    ],
)
def test_a_study_that_is_no_longer_what_it_was_goes_on_only_by_force(record, capsys, changes, tags, why):
    reached = record(begun(**changes), **tags)
    assert main(["--resume", "s"]) == 2
    line = said(capsys)
    assert line.startswith(f"study.launch: The study 's' cannot simply go on. {why}")
    assert line.endswith("To go on all the same, add `--force`.")
    assert reached == []
    with pytest.raises(ReachedError):
        main(["--resume", "s", "--force"])
    (forced,) = reached[0].forced
    assert forced.startswith(why)


def test_what_was_forced_before_stays_on_record(record):
    reached = record(begun(code_sha256="0" * 64), forced="It was begun with other data.")
    with pytest.raises(ReachedError):
        main(["--resume", "s", "--force"])
    before, now = reached[0].forced
    assert before == "It was begun with other data."
    assert now.startswith("It was begun with other code")


def fail(monkeypatch, error):
    """Let what would run trials fail, and nothing on record be in the way."""

    def run_trials(*_, **__):
        raise error

    monkeypatch.setattr(phases, "run_trials", run_trials)


@pytest.mark.parametrize("name", ["what?.db", "100%25.db"])
def test_a_database_that_would_be_another_file_is_refused(record, tmp_path, capsys, name):
    assert main(["--space", "smoke", "--name", "s", "--tracking-uri", f"sqlite:///{name}"]) == 2
    assert said(capsys).endswith(f"read as something else; got sqlite:///{tmp_path}/{name}.")
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db"}


def test_no_password_reaches_the_terminal_or_the_log_with_an_error(record, tmp_path, monkeypatch, capsys):
    record(begun())
    fail(monkeypatch, MlflowException("API request to http://me:a-s3cret@host:5000/api failed"))
    log = tmp_path / "runs" / "s" / cluster.LOG_FILE
    log.parent.mkdir(parents=True)
    log.with_name(JOURNAL_FILE).touch()
    assert main(["--resume", "s", "--quiet"]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("study.launch: MlflowException: API request to http://me:***@host:5000/api failed (all of")
    assert second == "Go on with: python -m study.launch --resume s"
    assert "Traceback" in log.read_text()
    assert "s3cret" not in log.read_text()


def test_a_full_disk_is_one_line_where_no_log_can_be_written(record, tmp_path, monkeypatch, capsys):
    record(begun())
    fail(monkeypatch, OSError(28, "No space left on device"))
    (tmp_path / "runs" / "s" / cluster.LOG_FILE).mkdir(parents=True)  # so it cannot be written
    assert main(["--resume", "s", "--quiet"]) == 1
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("study.launch: The disk of ")
    assert first.endswith("MB left); make room.")


def test_no_password_is_in_a_message_that_another_library_logs(tmp_path):
    handler = logging.StreamHandler((tmp_path / "log").open("w"))
    handler.setFormatter(cluster.Redacting("%(message)s"))
    handler.handle(logging.makeLogRecord({"msg": "retrying %s", "args": ("http://me:a-s3cret@host",)}))
    handler.stream.close()
    assert (tmp_path / "log").read_text() == "retrying http://me:***@host\n"
