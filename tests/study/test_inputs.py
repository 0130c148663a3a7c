"""What MLflow is told of a run's data."""

import json

import mlflow.data
import pytest
from mlflow import MlflowClient
from mlflow.utils.validation import _validate_dataset_inputs

from study.inputs import POOL, TEST, TRAIN, VALIDATION, study_inputs, trial_inputs
from study.ledger import CONFIRM, CONTROL, SEARCH, Request

DATASET = {
    "name": "digits",
    "num_train": 1197,
    "num_val": 240,
    "num_test": 360,
    "num_classes": 10,
    "class_names": list("0123456789"),
    "input_shape": [1, 8, 8],
    "sha256": "c0ffee" * 10 + "feed",
    "source": {"name": "digits"},
}


def a_request(phase=CONFIRM, seed=3, arm="focal", **config):
    return Request(arm, phase, seed, {"seed": seed, "epochs": 1, **config})


def contexts(inputs):
    return {found.tags[0].value: found.dataset for found in inputs}


def digests(inputs):
    return {context: dataset.digest for context, dataset in contexts(inputs).items()}


def test_a_study_works_on_the_images_that_every_seed_splits_anew_and_on_the_test_split():
    found = contexts(study_inputs(DATASET))
    assert {context: json.loads(dataset.profile)["num_images"] for context, dataset in found.items()} == {
        POOL: 1437,
        TEST: 360,
    }
    assert found[POOL].digest == DATASET["sha256"][:12]


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        (SEARCH, {TRAIN: 1197, VALIDATION: 240}),
        (CONFIRM, {TRAIN: 1197, VALIDATION: 240, TEST: 360}),
        (CONTROL, {TRAIN: 1197, VALIDATION: 240, TEST: 360}),
    ],
)
def test_only_a_trial_that_is_scored_on_the_test_split_names_it(phase, expected):
    found = contexts(trial_inputs(DATASET, a_request(phase)))
    assert {context: json.loads(dataset.profile)["num_images"] for context, dataset in found.items()} == expected


def test_trials_of_one_seed_share_their_splits_whatever_their_arm_and_other_seeds_do_not():
    focal, other_arm = (digests(trial_inputs(DATASET, a_request(arm=arm))) for arm in ("focal", "l1"))
    assert focal == other_arm
    other_seed = digests(trial_inputs(DATASET, a_request(seed=4)))
    assert {context for context in focal if focal[context] == other_seed[context]} == {TEST}
    assert len(set(focal.values())) == 3


def test_other_data_have_other_digests_throughout():
    other = DATASET | {"sha256": "beef" * 16}
    mine, theirs = (digests(trial_inputs(data, a_request())) for data in (DATASET, other))
    assert not set(mine.values()) & set(theirs.values())


def test_a_thinned_training_split_is_another_one_and_claims_no_count():
    whole, thinned = (contexts(trial_inputs(DATASET, a_request(**config))) for config in ({}, {"imbalance": 10.0}))
    assert whole[TRAIN].digest != thinned[TRAIN].digest
    assert whole[VALIDATION].digest == thinned[VALIDATION].digest
    profile = json.loads(thinned[TRAIN].profile)
    assert profile["imbalance"] == 10.0
    assert "num_images" not in profile


def test_the_profile_holds_what_a_reader_asks_first():
    profile = json.loads(contexts(trial_inputs(DATASET, a_request()))[TRAIN].profile)
    assert profile == {
        "split_seed": 3,
        "num_images": 1197,
        "input_shape": [1, 8, 8],
        "num_classes": 10,
        "class_names": list("0123456789"),
        "dataset_sha256": DATASET["sha256"],
    }


def test_the_schema_is_that_of_the_stored_images():
    schema = json.loads(contexts(study_inputs(DATASET))[POOL].schema)["mlflow_tensorspec"]
    features, targets = (json.loads(schema[key])[0]["tensor-spec"] for key in ("features", "targets"))
    assert features == {"dtype": "uint8", "shape": [-1, 1, 8, 8]}
    assert targets == {"dtype": "int64", "shape": [-1]}


@pytest.mark.parametrize(
    ("origin", "kind", "shown"),
    [
        ({"name": "digits"}, "code", "trainables.data.load_dataset('digits')"),
        (
            {"name": "mnist", "classes": [0, 6], "train_size": 600},
            "code",
            "trainables.data.load_dataset('mnist', classes=[0, 6], train_size=600)",
        ),
        ({"name": "npz:/data/new.npz"}, "local", "/data/new.npz"),
        ({"name": "folder:/data/photos"}, "local", "/data/photos"),
    ],
)
def test_mlflow_can_say_where_the_data_come_from(origin, kind, shown):
    (pool, _) = study_inputs(DATASET | {"source": origin})
    assert pool.dataset.source_type == kind
    source = mlflow.data.get_source(pool).to_dict()
    assert shown in (source.get("uri"), source.get("tags", {}).get("mlflow.source.name"))


def test_a_record_without_a_source_names_the_dataset():
    without = {key: value for key, value in DATASET.items() if key != "source"}
    assert "'digits'" in study_inputs(without)[0].dataset.source


def test_names_of_any_length_and_kind_are_within_what_mlflow_takes():
    name = "npz:/" + "<script>'\"ü" * 9000
    hostile = DATASET | {"name": name, "class_names": ["<b>"] * 10, "source": {"name": name}}
    for inputs in (study_inputs(hostile), trial_inputs(hostile, a_request())):
        _validate_dataset_inputs(inputs)
        assert all(len(found.dataset.source) < 65_535 for found in inputs)


def test_a_store_keeps_them_and_takes_them_again_as_the_same(tmp_path):
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run_ids = [client.create_run("0").info.run_id for _ in range(2)]
    inputs = trial_inputs(DATASET, a_request())
    for run_id in (*run_ids, *run_ids):
        client.log_inputs(run_id, inputs)
    kept = [client.get_run(run_id).inputs.dataset_inputs for run_id in run_ids]
    assert [digests(found) for found in kept] == [digests(inputs)] * 2
