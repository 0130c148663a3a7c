"""Real Ray actors: one that trains trial after trial gives to the bit what a fresh process gives each of them."""

import itertools
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from study.cluster import ENVIRONMENT
from tests.end_to_end.reused_actors import CONFIGS, DIVERGES, STOPS

SCRIPT = Path(__file__).with_name("reused_actors.py")
ROOT = Path(__file__).parents[2]
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

pytestmark = pytest.mark.studies


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the script left."""
    folder = tmp_path_factory.mktemp("actors")
    (folder / "users_parts.py").write_text(textwrap.dedent(USERS_MODULE))
    path = f"{ROOT}{os.pathsep}{folder}"  # the actors' processes inherit it
    command = [sys.executable, str(SCRIPT), str(folder)]
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def runs(folder):
    """The results and the folder of weights, of fresh actors and of a reused one."""
    return {
        reuse_actors: (pickle.loads((folder / f"{name}.pickle").read_bytes()), folder / name)
        for reuse_actors, name in ((False, "fresh"), (True, "reused"))
    }


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


def test_the_data_are_on_a_machine_once_however_many_workers_train_on_them(folder):
    # What a worker trains on is the machine's own copy, which none of them may write to.
    assert pickle.loads((folder / "data.pickle").read_bytes()) == [(False, False, True)] * 2
