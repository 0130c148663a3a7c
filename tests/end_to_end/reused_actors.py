"""Trials of two ways to use actors, in a process of its own: ``python reused_actors.py FOLDER``.

What a way of using them reported is in ``FOLDER/fresh.pickle`` or ``FOLDER/reused.pickle``, its weights in the folder
``fresh`` or ``reused``; how two workers see the data that both were given is in ``FOLDER/data.pickle``. A process of
its own, since Ray keeps something of what another test of the process did.
"""

import logging
import pickle
import sys
from pathlib import Path

import ray
import torch
from ray import tune
from ray.tune.search import Searcher

from trainables.data import load_dataset
from trainables.loop import load_resident
from trainables.trainable import ClassifierTrainable

#: Each trial differs from the one before it in every field. The first diverges, the third is stopped after an epoch.
CONFIGS = [
    {"loss": "cross_entropy", "optimizer": "rmsprop", "optimizer.learning_rate": 1e38, "model": "mlp", "width": 64,
     "batch_size": 16, "epochs": 4, "seed": 1,
     "precision": "bf16", "schedule": "cosine", "reduction": "sum", "augment": True},
    {"loss": "focal", "optimizer": "sgd", "optimizer.learning_rate": 0.1, "model": "users_parts:build",
     "batch_size": 32, "epochs": 5, "seed": 2,
     "precision": "fp32", "schedule": "constant", "reduction": "mean", "augment": False},
    {"loss": "hinge", "optimizer": "adam", "optimizer.learning_rate": 0.01, "model": "convnet", "width": 8,
     "batch_size": 64, "epochs": 6, "seed": 3,
     "precision": "bf16", "schedule": "cosine", "reduction": "sum", "augment": True},
    {"loss": "mse", "optimizer": "adamw", "optimizer.learning_rate": 0.003, "model": "mlp", "width": 32,
     "batch_size": 25, "epochs": 4, "seed": 4,
     "precision": "fp32", "schedule": "constant", "reduction": "mean", "augment": False},
]  # fmt: skip
DIVERGES, STOPS = 1, 3  # seeds


class InOrder(Searcher):
    """Deals the configurations in their order, some at a time."""

    def __init__(self, folder, max_running):
        super().__init__(metric="val_accuracy", mode="max")
        self._folder = folder
        self._left = list(CONFIGS)
        self._running = 0
        self._max_running = max_running

    def suggest(self, trial_id):
        if self._running == self._max_running:
            return None
        if not self._left:
            return Searcher.FINISHED
        self._running += 1
        config = self._left.pop(0)
        path = str(self._folder / f"{config['seed']}.pt")
        return {"config": config, "phase": "confirm", "rungs": [1, 3], "model_path": path}

    def on_trial_complete(self, trial_id, result=None, error=False):
        self._running -= 1

    def save(self, checkpoint_path):
        """Nothing to go on from."""

    def restore(self, checkpoint_path):
        """Nothing to go on from."""


class Listener(tune.Callback):
    """Keeps every result, by the trial's seed."""

    def __init__(self):
        self.results = {config["seed"]: [] for config in CONFIGS}

    def on_trial_result(self, iteration, trials, trial, result, **info):
        self.results[trial.config["config"]["seed"]].append(result)


def run_all(folder, *, reuse_actors):
    listener = Listener()
    trainable = tune.with_parameters(ClassifierTrainable, dataset=load_dataset("digits", train_size=240))
    search = InOrder(folder, max_running=1 if reuse_actors else 2)
    results = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        tune_config=tune.TuneConfig(search_alg=search, num_samples=-1, reuse_actors=reuse_actors),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(folder),
            callbacks=[listener],
            stop=lambda _trial_id, result: result["config"]["config"]["seed"] == STOPS,
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()
    assert results.num_errors == 0
    return listener.results


@ray.remote
def look(dataset):
    """Whether this process owns the images or may write to them, and whether it trains on them where they are."""
    images = dataset.train_images
    resident = load_resident(dataset, torch.device("cpu")).images
    return images.flags.owndata, images.flags.writeable, resident.data_ptr() == images.ctypes.data


def main(folder):
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    for name in ("fresh", "reused"):
        weights = folder / name
        weights.mkdir()
        results = run_all(weights, reuse_actors=name == "reused")
        (folder / f"{name}.pickle").write_bytes(pickle.dumps(results))
    dataset = ray.put(load_dataset("digits"))
    seen = ray.get([look.remote(dataset) for _ in range(2)])
    (folder / "data.pickle").write_bytes(pickle.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
