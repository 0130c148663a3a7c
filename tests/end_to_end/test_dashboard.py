"""A study's search in optuna-dashboard: started as a person would, read through its API, held against MLflow."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

PATIENCE = 120
#: What Optuna is told of each way a trial can end.
STATE = {"completed": "Complete", "diverged": "Complete", "pruned": "Pruned", "interrupted": "Pruned", "failed": "Fail"}


@pytest.fixture(scope="module")
def command(smoke):
    """What the launch printed, word by word."""
    (line,) = [line for line in smoke.stdout.splitlines() if line.startswith("Search: ")]
    return line.removeprefix("Search: ").split()


@pytest.fixture(scope="module")
def api(command, tmp_path_factory):
    """``api("studies")`` asks the dashboard, started on a free port of this machine."""
    folder = tmp_path_factory.mktemp("dashboard")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # As a shell of the environment would find it, also where it is not activated.
    program = shutil.which(command[0], path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert program
    with (folder / "dashboard.log").open("w") as log:
        process = subprocess.Popen(
            [program, *command[1:], "--host", "127.0.0.1", "--port", str(port)],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def ask(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/{path}", timeout=60) as answer:
            return json.load(answer)

    try:
        for _ in range(PATIENCE):
            assert process.poll() is None, (folder / "dashboard.log").read_text()
            with contextlib.suppress(OSError):
                ask("meta")
                break
            time.sleep(1)
        yield ask
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def studies_of(api):
    return {study["study_name"]: study["study_id"] for study in api("studies")["study_summaries"]}


def trials_of(api, name):
    return api(f"studies/{studies_of(api)[name]}?after=0")["trials"]


def test_the_printed_command_names_the_journal_of_the_study(command, smoke):
    assert command == ["optuna-dashboard", str(smoke.folder / "runs" / smoke.name / "optuna.journal")]
    assert Path(command[1]).is_file()


def test_every_arm_is_a_study_of_its_own(api, smoke):
    arms = {run.data.tags["arm"] for run in smoke.runs(phase="search")}
    assert len(arms) == 3
    assert set(studies_of(api)) == {f"{smoke.name}/{arm}" for arm in arms}
    assert all(study["directions"] == ["maximize"] for study in api("studies")["study_summaries"])


def test_trials_and_their_states_are_those_on_record_in_mlflow(api, smoke):
    for name in studies_of(api):
        recorded = smoke.runs(phase="search", arm=name.partition("/")[2])
        expected = Counter(STATE[run.data.tags["stop_reason"]] for run in recorded)
        assert Counter(trial["state"] for trial in trials_of(api, name)) == expected
        assert sum(expected.values()) == 4


def test_values_and_parameters_are_those_on_record_in_mlflow(api, smoke):
    (name,) = [name for name in studies_of(api) if name.endswith("/focal")]
    recorded = {run.data.tags["trial_id"]: run for run in smoke.runs(phase="search", arm="focal")}
    for trial in trials_of(api, name):
        run = recorded[f"focal/search/{trial['number']}"]
        if trial["state"] == "Complete":
            assert trial["values"][0] == pytest.approx(run.data.metrics["val_accuracy"])
        reported = {point["step"]: point["value"] for point in trial["intermediate_values"]}
        last = max(reported)
        assert reported[last] == pytest.approx(
            smoke.values(run, "val_accuracy")[smoke.steps(run, "val_accuracy").index(last)]
        )
        shown = {parameter["name"]: parameter["param_external_value"] for parameter in trial["params"]}
        assert shown
        for key, value in shown.items():
            own = run.data.params[key]
            assert value == own or float(value) == pytest.approx(float(own))
