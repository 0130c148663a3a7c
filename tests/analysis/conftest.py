import runpy
from pathlib import Path

import pytest

SYNTHETIC = runpy.run_path(str(Path(__file__).with_name("synthetic_study.py")))


@pytest.fixture(scope="session")
def truth_class():
    return SYNTHETIC["Truth"]


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """An MLflow store with several studies of known truth: its URI."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
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
    for study in studies:
        SYNTHETIC["write_study"](uri, folder / "artifacts", study)
    return uri


HOSTILE = "<script>alert(1)</script>&quot;<b>"


@pytest.fixture(scope="session")
def write_study():
    return SYNTHETIC["write_study"]


@pytest.fixture(scope="session")
def load(store):
    """``load("truth")`` is the study of that name on record, read once."""
    from functools import cache

    from analysis.load import load_study

    return cache(lambda name: load_study(name, tracking_uri=store))


@pytest.fixture(scope="session")
def findings_of(load):
    from functools import cache

    from analysis.findings import find

    return cache(lambda name: find(load(name)))
