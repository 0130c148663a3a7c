"""The command line's modes, each as a real study on real data."""

import json
import os
import subprocess
from collections import Counter

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tests.end_to_end.conftest import ONE_WORKER, command, launch
from tests.needs import need_fashion_mnist

OWN_PARTS = '''
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

if "default_worker" in sys.argv[0]:
    with Path(__file__).with_name("workers").open("a") as file:
        file.write(f"{os.getpid()}\\n")


def poly(logits, labels, *, epsilon=1.0):
    """Cross-entropy plus epsilon (1 - p)."""
    p = logits.softmax(1).gather(1, labels[:, None]).squeeze(1)
    return -p.log() + epsilon * (1 - p)


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

pytestmark = pytest.mark.studies


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
    assert study.reasons(phase="search") == {"completed": 4}
    # The workers that searched also confirmed; none was started beside them.
    workers = (folder / "workers").read_text().split()
    assert len(workers) == len(set(workers)) <= os.cpu_count()


def test_a_worker_that_starts_late_is_waited_for_though_the_other_could_take_its_trial(folder):
    late = (
        "\nimport time\n\nif 'default_worker' in sys.argv[0]:\n"
        "    with Path(__file__).with_name('workers').open() as file:\n"
        "        time.sleep(3 * (len(file.readlines()) > 1))\n"
    )
    (folder / "own_parts.py").write_text(OWN_PARTS + late)
    study = launch(
        folder, "--space", "smoke", "--arms", "cross_entropy", "--model", "own_parts:build", "--trials", "12",
        "--seeds", "2", "--stopping", "none", "--max-concurrent", "2",
    )  # fmt: skip
    assert study.code == 0, study.stderr
    assert len((folder / "workers").read_text().split()) == 2


def test_a_grid_over_a_space_from_a_file_visits_every_point_once(folder):
    study = launch(
        folder, "--space", "own_space.py", "--search", "grid", "--classes", "0,6", "--stopping", "none", *ONE_WORKER
    )
    assert study.code == 0, study.stderr
    for arm in ("adam", "rmsprop"):
        points = [
            (run.data.params["optimizer.learning_rate"], run.data.params["hidden_layers"])
            for run in study.runs(phase="search", arm=arm)
        ]
        assert sorted(points) == [("0.001", "1"), ("0.001", "2"), ("0.01", "1"), ("0.01", "2")]
    assert study.parent.data.tags["dataset"] == "digits classes=0,6"


def test_joint_mode_searches_once_over_all_arms_and_confirms_each_arm_it_met(folder):
    study = launch(
        folder,
        "--space",
        "smoke",
        "--mode",
        "joint",
        "--search",
        "random",
        "--seeds",
        "2",
        "--trials",
        "3",
        *ONE_WORKER,
    )
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
        "--seeds", "1", "--arms", "cross_entropy,hinge", *ONE_WORKER,
    )  # fmt: skip
    assert study.code == 0, study.stderr
    for run in study.runs():
        assert run.data.params["augment"] == "True"
        assert "hidden_layers" not in run.data.params
        assert run.data.params["width"] in ("16", "32", "64")
    # It was asked to keep no models.
    assert study.client.search_logged_models([study.parent.info.experiment_id]) == []
    assert not list((folder / "runs").rglob("*.pt"))


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
        "rungs at 8, 24 epochs",
        "160 trials",
        "110 trials",
        "hours",
        "disk      at most",
    ):
        assert part in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == before
