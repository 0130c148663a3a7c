"""The command line's modes, each as a real study on real data."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tests.end_to_end.conftest import Launched, command, launch
from tests.needs import need_fashion_mnist

OWN_PARTS = '''
import numpy as np
import torch
from torch import nn


def poly(logits, labels, *, epsilon=1.0):
    """Cross-entropy plus epsilon (1 - p)."""
    p = logits.softmax(1).gather(1, labels[:, None]).squeeze(1)
    return -p.log() + epsilon * (1 - p)


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


def build(input_shape, num_classes, *, width=16):
    size = input_shape[0] * input_shape[1] * input_shape[2]
    hidden = (nn.Linear(size, width), nn.ReLU(), nn.Dropout(0.1))
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, num_classes))


def load():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 600)
    images = generator.integers(0, 80, (600, 6, 6)).astype(np.uint8)
    images[np.arange(600), labels, :] += 120
    return {"images": images, "labels": labels}
'''

OWN_SPACE = """
from search_spaces.arms import Arm, Categorical, Integer, Parameter, Study

NUISANCE = (
    Parameter("optimizer.learning_rate", Categorical((0.001, 0.01))),
    Parameter("hidden_layers", Integer(1, 2)),
)
FIXED = {"model": "mlp", "width": 32, "activation": "relu", "batch_size": 64, "epochs": 4, "loss": "cross_entropy"}
STUDY = Study(
    name="optimizers",
    question="Does Adam beat RMSprop here?",
    factor="optimizer",
    arms=tuple(Arm(name, {**FIXED, "optimizer": name}, NUISANCE) for name in ("adam", "rmsprop")),
    baseline="adam",
    trials=4,
    seeds=2,
)
"""


def reasons(study: Launched, **tags: str) -> Counter:
    return Counter(run.data.tags["stop_reason"] for run in study.runs(**tags))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "own_parts.py").write_text(OWN_PARTS)
    (tmp_path / "own_space.py").write_text(OWN_SPACE)
    return tmp_path


def test_full_on_the_real_fashion_mnist(folder):
    need_fashion_mnist()
    study = launch(
        folder, "--space", "full", "--dataset", "fashion-mnist", "--train-size", "3000", "--trials", "2",
        "--seeds", "2", "--arms", "cross_entropy,focal,l1_logits", "--precision", "bf16", "--schedule", "cosine",
    )  # fmt: skip
    assert study.code == 0, study.stderr
    protocol = json.loads(study.artifact(study.parent.info.run_id, "study.json").read_text())
    assert protocol["dataset"]["num_test"] == 10_000
    assert protocol["dataset"]["num_train"] + protocol["dataset"]["num_val"] == 3000
    assert protocol["delta"] == 0.5
    assert protocol["time_attribute"] == "schedule_percent"
    assert all(run.data.params["precision"] == "bf16" for run in study.runs())
    assert len(study.runs(phase="search")) == 6
    confirmed = study.runs(phase="confirm", arm="cross_entropy")
    assert all(run.data.metrics["test_accuracy"] > 0.6 for run in confirmed)
    assert study.parent.data.tags["dataset"] == "fashion-mnist train-size=3000"


def test_a_users_own_loss_model_and_dataset(folder):
    study = launch(
        folder, "--space", "smoke", "--arms", "cross_entropy,own_parts:poly", "--model", "own_parts:build",
        "--dataset", "own_parts:load", "--trials", "2", "--seeds", "2", "--baseline", "poly", "--stopping", "none",
    )  # fmt: skip
    assert study.code == 0, study.stderr
    assert Counter(run.data.tags["arm"] for run in study.runs(phase="confirm")) == {"cross_entropy": 2, "poly": 2}
    assert {run.data.params["loss"] for run in study.runs(arm="poly")} == {"own_parts:poly"}
    assert {run.data.params["model"] for run in study.runs()} == {"own_parts:build"}
    assert all(run.data.metrics["test_accuracy"] > 0.9 for run in study.runs(phase="confirm"))
    assert reasons(study, phase="search") == {"completed": 4}


def test_a_trial_that_raises_or_diverges_does_not_stop_the_study(folder):
    study = launch(
        folder, "--space", "smoke", "--arms", "cross_entropy,own_parts:raises_now_and_then,own_parts:explodes",
        "--trials", "4", "--seeds", "2", "--stopping", "none",
    )  # fmt: skip
    assert study.code == 0, study.stderr
    assert "Traceback" not in study.stderr
    assert reasons(study, arm="cross_entropy", phase="search") == {"completed": 4}
    failing = reasons(study, arm="raises_now_and_then", phase="search")
    assert failing["failed"] >= 1
    assert sum(failing.values()) == 4
    failed = study.runs(arm="raises_now_and_then", stop_reason="failed")
    assert all(run.info.status == "FAILED" and "this loss <breaks>" in run.data.tags["error"] for run in failed)
    assert reasons(study, arm="explodes", phase="search") == {"diverged": 4}
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
    study = launch(folder, "--space", "smoke", "--arms", "own_parts:always_raises", "--trials", "2", "--seeds", "1")
    assert study.code == 1
    (line,) = [line for line in study.stderr.splitlines() if "first error" in line]
    assert "RuntimeError: no gradient today" in line
    assert study.parent.info.status == "FAILED"
    assert "Traceback" in (study.folder / "runs" / "s" / "study.log").read_text()
    assert "Traceback" not in study.stderr


def test_a_grid_over_a_space_from_a_file_visits_every_point_once(folder):
    study = launch(folder, "--space", "own_space.py", "--search", "grid", "--classes", "0,6", "--stopping", "none")
    assert study.code == 0, study.stderr
    for arm in ("adam", "rmsprop"):
        points = [
            (run.data.params["optimizer.learning_rate"], run.data.params["hidden_layers"])
            for run in study.runs(phase="search", arm=arm)
        ]
        assert sorted(points) == [("0.001", "1"), ("0.001", "2"), ("0.01", "1"), ("0.01", "2")]
    assert study.parent.data.tags["dataset"] == "digits classes=0,6"


def test_joint_mode_searches_once_over_all_arms_and_confirms_each_arm_it_met(folder):
    study = launch(folder, "--space", "smoke", "--mode", "joint", "--search", "random", "--seeds", "2", "--trials", "3")
    assert study.code == 0, study.stderr
    search = study.runs(phase="search")
    assert len(search) == 9
    assert all(run.data.tags["arm"] == run.data.params["loss"] for run in search)
    completed = {run.data.tags["arm"] for run in search if run.data.tags["stop_reason"] == "completed"}
    assert {run.data.tags["arm"] for run in study.runs(phase="confirm")} == completed
    storage = JournalStorage(JournalFileBackend(str(study.folder / "runs" / "s" / "optuna.journal")))
    assert len(optuna.load_study(study_name="s/joint", storage=storage).trials) == 9


def test_an_npz_a_convnet_and_augmentation(folder):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 300)
    images = generator.integers(0, 90, (300, 10, 10, 3)).astype(np.uint8)
    images[labels == 1, 2:8, 2:8, :] += 120
    np.savez(folder / "own.npz", images=images, labels=labels)
    study = launch(
        folder, "--space", "full", "--model", "convnet", "--dataset", "npz:own.npz", "--augment", "--trials", "2",
        "--seeds", "1", "--arms", "cross_entropy,hinge",
    )  # fmt: skip
    assert study.code == 0, study.stderr
    for run in study.runs():
        assert run.data.params["augment"] == "True"
        assert "hidden_layers" not in run.data.params
        assert run.data.params["width"] in ("16", "32", "64")


def test_a_time_budget_ends_the_search_on_a_whole_round_and_still_confirms(folder):
    started = time.monotonic()
    study = launch(folder, "--space", "full", "--trials", "500", "--seeds", "3", "--time-budget", "60s",
                   "--arms", "cross_entropy,hinge")  # fmt: skip
    seconds = time.monotonic() - started
    assert study.code == 0, study.stderr
    counts = Counter(run.data.tags["arm"] for run in study.runs(phase="search"))
    assert max(counts.values()) - min(counts.values()) == 0
    assert 1 <= counts["hinge"] < 500
    confirmed = Counter(run.data.tags["arm"] for run in study.runs(phase="confirm"))
    assert confirmed.keys() == counts.keys()
    assert len(set(confirmed.values())) == 1
    notes = " ".join(json.loads(study.artifact(study.parent.info.run_id, "study.json").read_text())["notes"])
    assert f"{counts['hinge']} of 500 trials" in notes
    # On a busy machine the reserve may not do for all seeds; then the study says so.
    assert confirmed["hinge"] == 3 or f"{confirmed['hinge']} of 3 seeds" in notes
    assert seconds < 200  # not a speed test: without a budget this study would take many minutes


def test_ctrl_c_ends_every_run_and_says_so(folder):
    process = subprocess.Popen(
        **command(folder, "--space", "full", "--name", "s"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    study = Launched(folder, "s", 0, "", "")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not _some_epoch_recorded(study):
        time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert study.parent.info.status == "KILLED"
    assert study.parent.data.tags["state"] == "interrupted"
    runs = study.runs()
    assert runs
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}
    assert any(run.data.tags["stop_reason"] == "interrupted" for run in runs)


def _some_epoch_recorded(study: Launched) -> bool:
    # Read beside MLflow: its own client would join in making the database while the study makes it.
    try:
        with closing(sqlite3.connect(f"file:{study.folder}/mlflow.db?mode=ro", uri=True)) as database:
            return database.execute("SELECT 1 FROM metrics LIMIT 1").fetchone() is not None
    except sqlite3.OperationalError:  # no file or no table yet
        return False


@pytest.fixture
def cluster():
    """A Ray head of its own, as somebody else would have started it; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="head-", ignore_cleanup_errors=True) as folder:
        head = subprocess.Popen(
            [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--num-cpus=2", f"--port={port}",
             "--include-dashboard=false", f"--temp-dir={folder}", "--node-ip-address=127.0.0.1"],
            env={**os.environ, "RAY_AUTH_MODE": "disabled"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and socket.socket().connect_ex(("127.0.0.1", port)) != 0:
            time.sleep(0.5)
        yield f"127.0.0.1:{port}"
        head.terminate()
        head.wait(timeout=60)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the probing sockets
def test_a_running_cluster_is_joined_by_its_address_and_left_running(folder, cluster):
    arguments = ("--space", "smoke", "--trials", "2", "--seeds", "1")
    first = launch(folder, *arguments, "--address", cluster, RAY_AUTH_MODE="disabled")
    assert first.code == 0, first.stderr
    second = launch(folder, *arguments, name="t", RAY_ADDRESS=cluster, RAY_AUTH_MODE="disabled")
    assert second.code == 0, second.stderr
    for study in (first, second):
        assert len(study.runs(phase="search")) == 6
        assert len(study.runs(phase="confirm")) == 3


def test_a_dry_run_prints_the_plan_and_leaves_nothing(folder):
    before = sorted(path.name for path in folder.iterdir())
    done = subprocess.run(
        **command(folder, "--space", "full", "--dry-run"), capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    for part in (
        "loss = hinge",
        "loss.gamma",
        "[only focal]",
        "rungs at 5, 15 epochs",
        "160 trials",
        "110 trials",
        "hours",
        "disk      at most",
    ):
        assert part in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == before
