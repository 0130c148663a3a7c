import runpy
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

SYNTHETIC = runpy.run_path(str(Path(__file__).with_name("synthetic_study.py")))


@pytest.fixture(scope="session")
def truth_class():
    return SYNTHETIC["Truth"]


@pytest.fixture(scope="session")
def store_of(built_once):
    """``store_of(name, studies)`` is the URI of an MLflow store with studies of known truth."""

    def uri_of(name, studies):
        def build(folder):
            for study in studies:
                SYNTHETIC["write_study"](f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts", study)

        return f"sqlite:///{built_once(name, build) / 'mlflow.db'}"

    return uri_of


@pytest.fixture(scope="session")
def store(store_of):
    """An MLflow store with several studies of known truth: its URI."""
    truth = SYNTHETIC["Truth"]
    few = {"cross_entropy": 0.0, "focal": 1.0}
    quick = {"num_trials": 2, "effects": few}
    studies = [
        truth(diverged=(("l1", 3),), edge_arm="hinge"),
        truth(name="searching", state="running", confirm=False, no_winner=("focal",), **quick),
        truth(name="hostile", effects={"cross_entropy": 0.0, HOSTILE: 1.0}, num_trials=10, seeds=tuple(range(1, 8))),
        truth(name="one-seed", seeds=(1,), **quick),
        truth(name="bare", write_protocol=False, **quick),
        truth(name="alone", effects={"cross_entropy": 0.0}, num_trials=1),
        truth(name="joint", mode="joint", effects=few | {"hinge": 0.0}, no_winner=("hinge",), num_trials=2),
        truth(name="drifting", control=0.001, **quick),
    ]
    return store_of("several", studies)


HOSTILE = "<script>alert(1)</script>&quot;<b>"


@pytest.fixture(scope="session")
def write_study():
    return SYNTHETIC["write_study"]


@pytest.fixture(scope="session")
def load(store):
    """``load("truth")`` is the study of that name on record, read once."""
    from analysis.load import load_study

    return cache(lambda name: load_study(name, tracking_uri=store))


@pytest.fixture(scope="session")
def findings_of(load):
    from analysis.findings import find

    return cache(lambda name: find(load(name)))


@pytest.fixture(scope="session")
def extended_store(store_of, truth_class):
    """A study that was extended, and each of its looks as a study of its own: the URI of their store.

    At the first look focal is better than the baseline and hinge is not, at the second it is the other way round; l1 is
    worse at both.
    """
    first, second = tuple(range(1, 11)), tuple(range(11, 21))
    better = {"focal": first, "hinge": second}

    @dataclass
    class Extended(truth_class):
        extended: bool = False

        def score(self, arm, seed):
            return super().score(arm, seed) + (0.015 if seed in better.get(arm, ()) else 0.0)

        def protocol(self, winners):
            known = super().protocol(winners)
            if not self.extended:
                return known
            other = {"number": 0, "val_accuracy": 0.8, "config": winners["focal"]["config"] | {"batch_size": 32}}
            before = {"trials_per_arm": 3, "confirm_seeds": list(first)}
            last = {"trials_per_arm": 6, "confirm_seeds": list(second), "winners": winners}
            looks = [before | {"winners": winners | {"focal": other, "l1": None}}, last]
            return known | {"confirm_seeds": list(second), "looks": looks}

    common = {"effects": {"cross_entropy": 0.0, "focal": 0.0, "hinge": 0.0, "l1": -6.0}, "diverged": (("l1", 3),)}
    studies = [
        Extended(name="extended", seeds=(*first, *second), extended=True, **common),
        Extended(name="only-first", seeds=first, **common),
        Extended(name="only-second", seeds=second, **common),
    ]
    return store_of("extended", studies)


@pytest.fixture(scope="session")
def findings_of_extended(extended_store):
    from analysis.findings import find
    from analysis.load import load_study

    return cache(lambda name: find(load_study(name, tracking_uri=extended_store)))
