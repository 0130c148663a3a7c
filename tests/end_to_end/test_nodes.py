"""The real command line on a cluster of several raylets: a node is lost, a GPU is too small, trials share one."""

import os
import sqlite3
import subprocess
import time
from contextlib import closing, contextmanager

import pytest

from tests.end_to_end.conftest import Launched, command, launch
from tests.raylets import a_cluster

pytestmark = pytest.mark.raylets

PARTS = """
import time
from pathlib import Path

import ray
import torch
from torch import nn
from torch.nn import functional

from trainables import memory

HERE = Path(__file__).parent


def share():
    # Of a GPU, that this trial has; None in the study's own process, which tries all parts before it begins.
    if ray.get_runtime_context().worker.mode != ray.WORKER_MODE:
        return None
    return ray.get_runtime_context().get_assigned_resources().get("GPU", 0.0)


class Slow(nn.Sequential):
    def forward(self, images):
        time.sleep(0.05)
        return super().forward(images)


def slow(input_shape, num_classes):
    return Slow(nn.Flatten(), nn.Linear(64, num_classes))


def measured(input_shape, num_classes):
    if (held := share()) is not None:
        with (HERE / "shares.txt").open("a") as file:
            file.write(f"{held:.3f}\\n")
    memory.gpu_memory = lambda device: {"gpu_peak_bytes": 5_000_000_000, "gpu_total_bytes": 16_000_000_000}
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))


def beside(logits, labels):
    if share() not in (None, 1.0):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GB, says the test.")
    return functional.cross_entropy(logits, labels, reduction="none")


def always(logits, labels):
    if share() is not None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 99 GB, says the test.")
    return logits.sum(1)
"""
#: As of the cluster's own processes: one machine, its loopback interface.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
SMALL = ("--space", "smoke", "--trials", "2", "--seeds", "1")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "users_parts.py").write_text(PARTS)
    return tmp_path


def tags(study, name):
    return {run.data.tags["trial_id"]: run.data.tags.get(name) for run in study.runs()}


@contextmanager
def begun(folder, cluster, *flags):
    """A study of slow trials that has begun on every worker of the cluster; what it says is in the file ``said``."""
    flags = (*SMALL, "--model", "users_parts:slow", "--address", cluster.address, "--max-failures", "0", *flags)
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(**command(folder, *flags, "--name", "s", **LOOPBACK), stdout=said, stderr=said)
    try:
        deadline = time.monotonic() + 240
        while at_epochs(folder, 2) < len(cluster.worker_nodes):
            assert process.poll() is None, (folder / "said").read_text()
            assert time.monotonic() < deadline, (folder / "said").read_text()
            time.sleep(0.2)
        yield Launched(folder, "s", 0, "", "")
        assert process.wait(timeout=300) == 0, (folder / "said").read_text()
    finally:
        process.kill()
        process.wait()


def assert_every_epoch_is_there_once(study):
    for run in study.runs():
        assert run.data.tags["stop_reason"] in ("completed", "pruned"), run.data.tags.get("error")
        steps = study.steps(run, "val_accuracy")
        assert steps == list(range(1, len(steps) + 1))


def test_a_lost_node_costs_the_epochs_since_the_last_checkpoint_and_no_failure_of_the_trial(folder):
    with a_cluster({"num_cpus": 1}, {"num_cpus": 1}) as cluster, begun(folder, cluster) as study:
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    assert_every_epoch_is_there_once(study)
    (lost,) = [run for run in study.runs() if "failures" in run.data.tags]
    assert lost.data.tags["failures"] == "1"
    assert "went on from its checkpoint, after epoch" in lost.data.tags["notice"]


def test_a_node_that_comes_with_other_versions_runs_no_trial_and_costs_none(folder):
    installed = folder / "installed" / "optuna-0.1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: optuna\nVersion: 0.1\n")
    path = os.pathsep.join([str(installed.parent), os.environ.get("PYTHONPATH", "")])
    with a_cluster({"num_cpus": 1}) as cluster, begun(folder, cluster, "--train-size", "600") as study:
        other = cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": path})
    assert_every_epoch_is_there_once(study)
    (told,) = [line for line in (folder / "said").read_text().splitlines() if "cannot run this study's trials" in line]
    assert f"({other.node_id}) cannot run this study's trials: its optuna is 0.1 and not " in told
    assert told.endswith(" Trials run elsewhere.")
    failures = tags(study, "failures")
    assert set(failures.values()) == {None, "1"}  # once for each trial that was on its way there, not again
    assert list(failures.values()).count("1") < len(failures) / 2


def at_epochs(folder, epochs):
    """How many trials run and have so many epochs on record; without MLflow's client, which would make the tables."""
    if not (folder / "mlflow.db").exists():
        return 0
    with closing(sqlite3.connect(f"file:{folder}/mlflow.db?mode=ro", uri=True)) as database:
        try:
            found = database.execute(
                "SELECT run_uuid FROM metrics JOIN runs USING (run_uuid) WHERE status = 'RUNNING'"
                " AND key = 'val_accuracy' GROUP BY run_uuid HAVING max(step) >= ?",
                (epochs,),
            )
            return len(found.fetchall())
        except sqlite3.OperationalError:  # its tables are being made
            return 0


def test_a_crowded_gpu_is_warned_of_and_a_trial_that_found_no_memory_has_one_to_itself_next(folder):
    arms = "cross_entropy,users_parts:beside,users_parts:always"
    with a_cluster({"num_cpus": 4, "num_gpus": 1}) as cluster:
        study = launch(
            folder, *SMALL, "--arms", arms, "--model", "users_parts:measured", "--address", cluster.address,
            "--gpus-per-trial", "0.25", "--device", "cpu", **LOOPBACK,
        )  # fmt: skip
    assert study.code == 0, study.stderr
    (warning,) = [line for line in study.stderr.splitlines() if "of its GPU's" in line]
    assert warning.endswith(
        " took 5.0 GB of its GPU's 16.0; `--gpus-per-trial 0.25` leaves each 4.0."
        " The largest number of trials that fit: `--gpus-per-trial 0.333`."
    )
    reasons, failures, errors = (tags(study, name) for name in ("stop_reason", "failures", "error"))
    for trial, reason in reasons.items():
        arm = trial.partition("/")[0]
        expected = {"cross_entropy": None, "beside": "1", "always": "2"}[arm]
        assert (failures[trial], reason == "failed") == (expected, arm == "always"), trial
        assert ("GpuMemoryError: " in (errors[trial] or "")) == (arm == "always")


def test_with_auto_the_first_trials_have_a_whole_gpu_and_later_ones_the_share_that_fits(folder):
    with a_cluster({"num_cpus": 4, "num_gpus": 1}) as cluster:
        study = launch(
            folder, *SMALL, "--model", "users_parts:measured", "--address", cluster.address,
            "--gpus-per-trial", "auto", "--device", "cpu", **LOOPBACK,
        )  # fmt: skip
    assert study.code == 0, study.stderr
    assert "of its GPU's" not in study.stderr
    shares = (folder / "shares.txt").read_text().split()
    assert shares[0] == "1.000"
    assert shares[-3:] == ["0.500"] * 3  # 5 GB and a fifth fit twice into 16
    assert set(shares) == {"1.000", "0.500"}
