"""What a plan promises of the disk holds for what trials really leave there."""

from pathlib import Path

import pytest

import trainables.trainer
from search_spaces.arms import corners, with_fixed
from search_spaces.smoke import STUDY as SMOKE
from search_spaces.table import load_space
from study import plan
from study.options import Options
from study.plan import CHECKPOINT_BYTES, CHECKPOINT_FILES, disk_bytes
from study.protocol import resolve_study
from trainables.config import TrialConfig
from trainables.data import load_dataset
from trainables.optimizers import OPTIMIZERS
from trainables.replica_trials import ReplicaTrials
from trainables.trainer import Trainer

DATASET = load_dataset("digits", train_size=600)
SLOTS = 3


def an_options(**changes):
    values = {"command": "", "name": "s", "space": "smoke", "tracking_uri": "", "experiment_name": "s"}
    return Options(storage_path=Path(), **({"max_concurrent": SLOTS} | values | changes))


def resolved(options, **fixed):
    return resolve_study(with_fixed(SMOKE, **fixed), options)


@pytest.mark.parametrize("model", ["mlp", "convnet"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_checkpoint_is_larger_than_planned(tmp_path, monkeypatch, model, optimizer):
    monkeypatch.setattr(trainables.trainer, "TRAINING_PER_SAVING", 0)
    options = an_options(model=model)
    rate = {"optimizer.learning_rate": 1e-3}
    study = resolved(options, optimizer=optimizer, epochs=2, batch_size=512, width=64, **rate)
    planned, _ = disk_bytes(study, options, DATASET)
    config = next(corners(study.arm("focal")))
    config = TrialConfig.from_flat({**config, "seed": 1}).to_flat()
    file, weights = tmp_path / "it.pt", tmp_path / "weights.pt"
    trainer = Trainer(DATASET, device="cpu")
    paths = {"model_path": str(weights), "checkpoint": str(file)}
    trainer.begin({"config": config, "phase": "confirm", "rungs": [], "key": "k", **paths})
    while not trainer.advance()["done"]:
        pass
    assert planned / 4 < file.stat().st_size <= planned
    assert weights.stat().st_size <= (planned - CHECKPOINT_BYTES) / 3 + CHECKPOINT_BYTES


def test_the_bound_counts_what_is_under_way_and_the_weights_that_wait_for_the_end():
    waiting = {}
    for seeds in (1, 6):
        options = an_options(seeds=seeds)
        checkpoint, most = disk_bytes(resolved(options), options, DATASET)
        waiting[seeds] = most - SLOTS * CHECKPOINT_FILES * checkpoint
    assert waiting[6] == 6 * waiting[1] > 0
    options = an_options(no_models=True)
    checkpoint, most = disk_bytes(resolved(options), options, DATASET)
    assert most == SLOTS * CHECKPOINT_FILES * checkpoint


@pytest.mark.parametrize(
    ("gpus", "share", "slots"), [(0, 0.0, 16), (1, 0.2, 5), (1, 1.0, 1), (4, 0.5, 8), (8, 0.25, 16)]
)
def test_gpus_bound_the_trials_at_once_as_cores_do(monkeypatch, gpus, share, slots):
    monkeypatch.setattr(plan.os, "cpu_count", lambda: 16)
    monkeypatch.setattr(plan.torch.cuda, "device_count", lambda: gpus)
    options = an_options(max_concurrent=None, device="cuda" if share else "cpu", gpus_per_trial=share)
    assert plan._slots(options) == slots


def test_of_trials_as_one_model_an_equal_share_of_an_epoch_is_measured_after_the_first(monkeypatch):
    epochs = []
    run = ReplicaTrials.run_epoch
    monkeypatch.setattr(ReplicaTrials, "run_epoch", lambda self, **how: epochs.append(self.epoch) or run(self, **how))
    options = an_options(space="loss_by_depth", regime="stated", epochs_scale=0.01, arms=("gelu-mse-one",), replicas=4)
    study = resolve_study(load_space("loss_by_depth"), options)
    lines = list(plan.plan_lines(study, options, DATASET))
    (estimate,) = (line for line in lines if line.startswith("estimate"))
    assert estimate.endswith(f"{SLOTS} models of up to 4 trials:")
    assert epochs == [0, 1] * plan.MEASURED_TRIALS
