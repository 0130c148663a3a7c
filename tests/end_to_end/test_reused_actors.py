"""Real Ray actors: one that trains trial after trial gives to the bit what a fresh process gives each of them."""

import itertools
import logging
import textwrap

import pytest
import ray
import torch
from ray import tune
from ray.tune.search import Searcher

from study.cluster import ENVIRONMENT
from trainables.data import load_dataset
from trainables.trainable import ClassifierTrainable

USERS_MODULE = """
    import random

    import numpy as np
    from torch import nn


    class Dropping(nn.Module):
        def __init__(self, num_classes):
            super().__init__()
            self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.3))
            self.head = nn.Linear(32, num_classes)

        def forward(self, images):
            noise = random.random() + np.random.normal() if self.training else 0.0
            return self.head(self.layers(images)) * (1 + noise / 10)


    def build(input_shape, num_classes):
        return Dropping(num_classes)
"""

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


@pytest.fixture(scope="module")
def _ray(tmp_path_factory):
    folder = tmp_path_factory.mktemp("users")
    (folder / "users_parts.py").write_text(textwrap.dedent(USERS_MODULE))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))  # the actors' processes inherit it
        for key, value in ENVIRONMENT.items():
            patch.setenv(key, value)
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        yield
        ray.shutdown()


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


@pytest.fixture(scope="module")
def runs(_ray, tmp_path_factory):
    """The results and the folder of weights, of fresh actors and of a reused one."""
    found = {}
    for reuse_actors in (False, True):
        folder = tmp_path_factory.mktemp("reused" if reuse_actors else "fresh")
        found[reuse_actors] = (run_all(folder, reuse_actors=reuse_actors), folder)
    return found


def process_ids(results):
    return {result["pid"] for of_trial in results.values() for result in of_trial}


def rows(results):
    return [
        (epoch, {key: value for key, value in row.items() if key != "epoch_seconds"})
        for result in results
        for epoch, row in result["rows"]
    ]


def test_neighbours_differ_in_every_field():
    for one, other in itertools.pairwise(CONFIGS):
        assert [key for key in one.keys() & other.keys() if one[key] == other[key]] == []


def test_fresh_actors_were_four_processes_and_the_reused_one_a_single_one(runs):
    assert len(process_ids(runs[False][0])) == 4
    assert len(process_ids(runs[True][0])) == 1


def test_one_trial_diverged_one_was_stopped_and_the_rest_ran_to_their_end(runs):
    for results, folder in runs.values():
        last = {seed: of_trial[-1] for seed, of_trial in results.items()}
        assert [seed for seed in last if last[seed]["diverged"]] == [DIVERGES]
        assert [last[seed]["epoch"] for seed in (2, STOPS, 4)] == [5, 1, 4]
        assert sorted(path.name for path in folder.glob("*.pt")) == ["1.pt", "2.pt", "4.pt"]


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_every_epoch_and_the_final_record_are_the_same(runs, seed):
    fresh, reused = (runs[reuse_actors][0][seed] for reuse_actors in (False, True))
    assert rows(fresh) == rows(reused)
    assert [epoch for epoch, _ in rows(reused)] == list(range(1, reused[-1]["epoch"] + 1))
    assert fresh[-1].get("final") == reused[-1].get("final")


@pytest.mark.parametrize("seed", [2, 4])
def test_the_weights_are_the_same_to_the_bit(runs, seed):
    fresh, reused = (torch.load(runs[reuse_actors][1] / f"{seed}.pt", weights_only=True) for reuse_actors in (0, 1))
    assert fresh.keys() == reused.keys()
    assert all(torch.equal(fresh[key], reused[key]) for key in fresh)
