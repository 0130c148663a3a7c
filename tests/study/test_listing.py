"""The studies on record as one table, their names shown as text."""

import socket
from types import SimpleNamespace

import pytest

from study.launch import main
from study.listing import describe, state_of
from study.process import this_process


def a_run(status="FINISHED", start_time=0, **tags):
    return SimpleNamespace(info=SimpleNamespace(status=status, start_time=start_time), data=SimpleNamespace(tags=tags))


@pytest.mark.parametrize(
    ("state", "driver", "shown"),
    [
        ("finished", "gone 1 2", "finished"),
        ("interrupted", "gone 1 2", "interrupted"),
        pytest.param("running", this_process(), "running", id="by this process"),
        ("running", f"{socket.gethostname()} 1 never", "killed"),
        ("running", "", "killed"),
        ("running", "elsewhere 1 2", "on elsewhere"),
    ],
)
def test_a_study_that_says_it_runs_is_looked_for(state, driver, shown):
    assert state_of({"state": state, "driver": driver}) == shown


def test_a_row_counts_the_trials_that_ended_by_themselves():
    parent = a_run(study="a\x1b[31m", space="full", dataset="digits", state="failed", start_time=1_700_000_000_000)
    children = [
        a_run(phase="search"),
        a_run("KILLED", phase="search", stop_reason="pruned"),
        a_run("KILLED", phase="search", stop_reason="interrupted"),
        a_run("RUNNING", phase="search"),
        a_run("FAILED", phase="confirm", stop_reason="failed"),
        a_run("RUNNING", phase="control"),
    ]
    row = describe(parent, children)
    assert row[1:] == ("full", "digits", "failed", "2/4", "1/2", "2023-11-14 22:13 UTC")
    assert "\x1b" not in row[0]


def test_the_command_prints_the_studies_newest_first(logged_study, store, capsys):
    client = store.client
    for name, start in (("older", 1_000), ("newer", 2_000)):
        tags = {"study": name, "phase": "study", "space": "smoke", "dataset": "digits", "state": "finished"}
        client.create_run(store.experiment_id, start_time=start, tags=tags)
    assert main(["--list", "--tracking-uri", store.uri]) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.split() == ["study", "space", "dataset", "state", "search", "confirm", "begun"]
    assert second.split()[:6] == ["newer", "smoke", "digits", "finished", "-", "-"]
    assert third.startswith("older")


def test_no_store_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--list"]) == 2
    assert capsys.readouterr().err.startswith("study.launch: ")
    assert list(tmp_path.iterdir()) == []
