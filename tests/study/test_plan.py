"""What a plan promises of the disk holds for what trials really leave there."""

from pathlib import Path

import pytest

import trainables.trainer
from search_spaces.arms import corners, with_fixed
from search_spaces.smoke import STUDY as SMOKE
from study.options import Options
from study.plan import CHECKPOINT_BYTES, CHECKPOINT_FILES, disk_bytes
from study.protocol import resolve_study
from trainables.config import TrialConfig
from trainables.data import load_dataset
from trainables.optimizers import OPTIMIZERS
from trainables.trainer import Trainer

DATASET = load_dataset("digits", train_size=600)
SLOTS = 3


def an_options(**changes):
    values = {"command": "", "name": "s", "space": "smoke", "tracking_uri": "", "experiment_name": "s"}
    return Options(storage_path=Path(), max_concurrent=SLOTS, **(values | changes))


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
