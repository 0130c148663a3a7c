"""Reported studies whose driver dies or is told to stop on the way."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.end_to_end import whole_record
from tests.end_to_end.conftest import REPORTED, Launched, command, launch

pytestmark = pytest.mark.studies

TWO_ARMS = ("--arms", "tanh-cross_entropy,tanh-focal")


def wait_for_trials(study, count, process):
    """Until so many of a study's trials have ended, while its process runs."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.5)
        if (study.folder / "mlflow.db").exists() and ended(study) >= count:
            return
    pytest.fail(f"{count} trials did not end in time (exit code {process.poll()})", pytrace=False)


def ended(study):
    """Counted by a process of its own: MLflow must not make the database before the study does."""
    query = (
        "import sqlite3, sys; print(sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True)"
        ".execute(\"select count(*) from runs where status = 'FINISHED'\").fetchone()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", query, str(study.folder / "mlflow.db")], capture_output=True, text=True, check=False
    )
    return int(done.stdout) if done.returncode == 0 else 0


def killed_and_resumed(folder, *arguments, after):
    """A study that ran to its end though it was killed, each time when so many trials had ended."""
    killed = Launched(folder, "s", 0, "", "")
    start = command(folder, *arguments, "--name", "s")
    for trials in after:
        process = subprocess.Popen(
            **start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            wait_for_trials(killed, trials, process)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        start = command(folder, "--resume", "s")
    done = subprocess.run(**start, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return killed


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The same study twice: once without a break, once with its driver killed twice."""
    arguments = (*REPORTED, *TWO_ARMS, "--seeds", "4")
    killed = killed_and_resumed(tmp_path_factory.mktemp("killed"), *arguments, after=(6, 40))
    return launch(tmp_path_factory.mktemp("whole"), *arguments), killed


def check_runs(study, count):
    """That every trial has one run with each epoch once, and none is left running."""
    assert {run.info.status for run in study.runs()} == {"FINISHED"}
    assert len(study.runs()) == count
    for trial in whole_record.read(study.folder)[1]:
        steps = [step for step, _ in trial["values"]["val_accuracy"]]
        assert steps == list(range(1, len(steps) + 1))


def test_a_study_killed_twice_ends_as_one_that_never_was(pair):
    whole, killed = pair
    assert whole_record.outcomes(killed.folder) == whole_record.outcomes(whole.folder)


def test_after_kills_every_trial_has_one_run_and_none_is_left_running(pair):
    whole, killed = pair
    check_runs(killed, len(whole.runs()))


def test_trials_that_are_trained_as_one_model_are_on_record_once_though_killed_between_or_in_them(tmp_path):
    packs = (*REPORTED, *TWO_ARMS, "--replicas", "20")
    study = killed_and_resumed(tmp_path, *packs, after=(4,))
    check_runs(study, 2 * (3 + 36 + 3))
    assert sum("replicas" in run.data.tags for run in study.runs()) > len(study.runs()) / 2


def test_ctrl_c_while_the_rates_are_searched_ends_well_with_nobody_confirmed(tmp_path):
    started = command(tmp_path, *REPORTED, *TWO_ARMS, "--regime", "fair", "--name", "s")
    with (
        (tmp_path / "said").open("w+") as said,
        subprocess.Popen(**started, stdout=said, stderr=said, start_new_session=True) as process,
    ):
        try:
            wait_for_trials(Launched(tmp_path, "s", 0, "", ""), 3, process)
            process.send_signal(signal.SIGINT)
            assert process.wait(120) == 130
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    text = (tmp_path / "said").read_text()
    assert text.rstrip().endswith("Go on with: python -m study.launch --resume s")
    assert "Traceback" not in text
    assert len((tmp_path / "runs" / "s" / "seeds.csv").read_text().splitlines()) == 1
