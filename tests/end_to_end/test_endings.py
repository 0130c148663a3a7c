"""How a study ends that does not go well, or not alone: trials that fail, too little time, somebody else's cluster."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from study.cluster import LOOPBACK
from tests.end_to_end.conftest import ONE_WORKER, launch

#: A trial that raises would raise again, each time in a new process.
ONCE = (*ONE_WORKER, "--max-failures", "0")

FAILING_PARTS = """
import os

import torch
from torch import nn


def raises_now_and_then(logits, labels):
    if logits.requires_grad and float(logits.detach().sum()) > 0 and len(logits) == 64:
        raise RuntimeError("this loss <breaks> at batch size 64")
    return nn.functional.cross_entropy(logits, labels, reduction="none")


def always_raises(logits, labels):
    if len(logits) > 2:  # fits the check before the study, fails in it
        raise RuntimeError("no gradient today")
    return nn.functional.cross_entropy(logits, labels, reduction="none")


def explodes(logits, labels):
    return nn.functional.cross_entropy(logits, labels, reduction="none") / torch.zeros(())


def ends_its_process(input_shape, num_classes):
    os._exit(3)
"""

pytestmark = pytest.mark.studies


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "own_parts.py").write_text(FAILING_PARTS)
    return tmp_path


def test_a_trial_that_raises_or_diverges_does_not_stop_the_study(folder):
    study = launch(
        folder, "--space", "smoke", "--arms", "cross_entropy,own_parts:raises_now_and_then,own_parts:explodes",
        "--trials", "4", "--seeds", "2", "--stopping", "none", *ONCE,
    )  # fmt: skip
    assert study.code == 0, study.stderr
    assert "Traceback" not in study.stderr
    assert study.reasons(arm="cross_entropy", phase="search") == {"completed": 4}
    failing = study.reasons(arm="raises_now_and_then", phase="search")
    assert failing["failed"] >= 1
    assert sum(failing.values()) == 4
    failed = study.runs(arm="raises_now_and_then", stop_reason="failed")
    assert all(run.info.status == "FAILED" and "this loss <breaks>" in run.data.tags["error"] for run in failed)
    assert study.reasons(arm="explodes", phase="search") == {"diverged": 4}
    for run in study.runs(arm="explodes"):
        assert run.info.status == "FINISHED"
        assert run.data.metrics["diverged"] == 1
        assert run.data.metrics["val_accuracy"] == 0.1
    assert study.runs(arm="explodes", phase="confirm") == []
    assert "explodes" in study.stdout
    storage = JournalStorage(JournalFileBackend(str(study.folder / "runs" / "s" / "optuna.journal")))
    states = Counter(
        trial.state.name for trial in optuna.load_study(study_name="s/raises_now_and_then", storage=storage).trials
    )
    assert states["FAIL"] == failing["failed"]


def test_a_study_in_which_every_trial_fails_ends_with_code_1_and_the_first_error(folder):
    study = launch(
        folder, "--space", "smoke", "--arms", "own_parts:always_raises", "--trials", "2", "--seeds", "1", *ONCE
    )
    assert study.code == 1
    (line,) = [line for line in study.stderr.splitlines() if "first error" in line]
    assert "RuntimeError: no gradient today" in line
    assert study.parent.info.status == "FAILED"
    assert "Traceback" in (study.folder / "runs" / "s" / "study.log").read_text()
    assert "Traceback" not in study.stderr


def test_a_part_that_ends_the_process_in_which_it_is_tried_is_refused_and_leaves_nothing(folder):
    study = launch(folder, "--space", "smoke", "--model", "own_parts:ends_its_process", *ONCE)
    assert (study.code, study.stdout) == (2, "")
    assert study.stderr == ("study.launch: The space's own parts cannot be tried: the process that did so ended.\n")
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == {"own_parts.py"}


def test_a_time_budget_ends_the_search_on_a_whole_round_and_still_confirms(folder):
    started = time.monotonic()
    study = launch(folder, "--space", "smoke", "--trials", "500", "--seeds", "3", "--time-budget", "45s",
                   "--arms", "cross_entropy,focal", *ONE_WORKER)  # fmt: skip
    seconds = time.monotonic() - started
    assert study.code == 0, study.stderr
    counts = Counter(run.data.tags["arm"] for run in study.runs(phase="search"))
    assert max(counts.values()) - min(counts.values()) == 0
    assert 1 <= counts["focal"] < 500
    confirmed = Counter(run.data.tags["arm"] for run in study.runs(phase="confirm"))
    assert confirmed.keys() == counts.keys()
    assert len(set(confirmed.values())) == 1
    notes = " ".join(json.loads(study.artifact(study.parent.info.run_id, "study.json").read_text())["notes"])
    assert f"{counts['focal']} of 500 trials" in notes
    # On a busy machine the reserve may not do for all seeds; then the study says so.
    assert confirmed["focal"] == 3 or f"{confirmed['focal']} of 3 seeds" in notes
    assert seconds < 300  # not a speed test: without a budget this study would take many minutes


@pytest.fixture
def cluster():
    """A Ray head of its own, as somebody else would have started it; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="head-", ignore_cleanup_errors=True) as folder:
        theirs = {key: value for key, value in os.environ.items() if key != LOOPBACK[0]}
        head = subprocess.Popen(
            [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--num-cpus=2", f"--port={port}",
             "--include-dashboard=false", f"--temp-dir={folder}", "--node-ip-address=127.0.0.1"],
            env={**theirs, "RAY_AUTH_MODE": "disabled"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and socket.socket().connect_ex(("127.0.0.1", port)) != 0:
            time.sleep(0.5)
        yield f"127.0.0.1:{port}"
        head.terminate()
        head.wait(timeout=60)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the probing sockets
def test_a_running_cluster_is_joined_by_its_address_and_left_running(folder, cluster):
    arguments = ("--space", "smoke", "--trials", "2", "--seeds", "1", *ONE_WORKER)
    first = launch(folder, *arguments, "--address", cluster, RAY_AUTH_MODE="disabled")
    assert first.code == 0, first.stderr
    second = launch(folder, *arguments, name="t", RAY_ADDRESS=cluster, RAY_AUTH_MODE="disabled")
    assert second.code == 0, second.stderr
    for study in (first, second):
        assert len(study.runs(phase="search")) == 6
        assert len(study.runs(phase="confirm")) == 3
