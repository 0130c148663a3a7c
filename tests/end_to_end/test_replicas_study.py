"""Studies whose seeds and rates are trained as one model have the record of those that train them one by one."""

from collections import Counter

import pytest

from tests.end_to_end import whole_record
from tests.end_to_end.conftest import REPORTED, launch

ARMS = ("--arms", "tanh-cross_entropy,tanh-kl_div,tanh-focal-rate_1e-2")
PACKED = ("--replicas", "20")

pytestmark = pytest.mark.studies


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    study = launch(tmp_path_factory.mktemp("packed"), *REPORTED, *ARMS, *PACKED)
    assert study.code == 0, study.stderr
    return study


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    study = launch(tmp_path_factory.mktemp("alone"), *REPORTED, *ARMS)
    assert study.code == 0, study.stderr
    return study


def by_key(study):
    return {trial["tags"]["trial_id"]: trial for trial in whole_record.read(study.folder)[1]}


def test_every_trial_has_one_run_with_every_epoch_once(packed, alone):
    together, expected = by_key(packed), by_key(alone)
    assert len(packed.runs()) == len(together) == len(expected) == 9 + 2 * 36 + 6
    for key, trial in together.items():
        other = expected[key]
        assert trial["params"] == other["params"]
        assert trial["status"] == other["status"] == "FINISHED"
        for metric in ("val_accuracy", "train_nll", "test_accuracy"):
            steps = [[step for step, _ in one["values"].get(metric, [])] for one in (trial, other)]
            assert steps[0] == steps[1]


def test_each_trained_as_it_does_alone(packed, alone):
    expected = by_key(alone)
    for key, trial in by_key(packed).items():
        for metric in ("train_nll", "val_accuracy", "test_accuracy", "test_f1_macro"):
            values, others = (dict(one["values"].get(metric, [])) for one in (trial, expected[key]))
            assert values == pytest.approx(others, rel=0.01, abs=0.01)


def test_a_share_of_the_seconds_is_no_time_of_its_own(packed):
    trials = by_key(packed).values()
    assert Counter(trial["tags"].get("replicas") for trial in trials) == {"3": 9 + 6, "18": 2 * 36}
    assert all(set(trial["values"]) & {"epoch_seconds", "shared_seconds"} == {"shared_seconds"} for trial in trials)


@pytest.mark.parametrize("regime", ["stated", "fair"])
def test_a_negative_control_differs_by_nothing_in_packs_too(packed, regime):
    scores = [
        {
            run.data.tags["seed"]: run.data.metrics["test_accuracy"]
            for run in packed.runs(regime=regime, phase="confirm", arm=arm)
        }
        for arm in ("tanh-cross_entropy", "tanh-kl_div")
    ]
    assert len(scores[0]) == 3
    assert scores[0] == scores[1]


def test_a_tuned_space_searches_one_by_one_and_confirms_together(tmp_path):
    flags = ("--space", "smoke", "--trials", "2", "--seeds", "3", "--replicas", "3")
    study = launch(tmp_path, *flags, models=True)
    assert study.code == 0, study.stderr
    search, confirm = study.runs(phase="search"), study.runs(phase="confirm")
    assert not any("replicas" in run.data.tags for run in search)
    assert {run.data.tags["replicas"] for run in confirm} == {"3"}
    assert Counter(run.data.tags["arm"] for run in confirm) == dict.fromkeys(
        {run.data.tags["arm"] for run in search}, 3
    )
    assert len(study.client.search_registered_models()) > 0
