import dataclasses
import os

import mlflow
import numpy as np
import pytest
import torch
from mlflow.models import Model

from study.models import log_best_models
from study.registry import load_stored_model

UNEXPORTABLE = {
    "branches_on_values": "return logits if x.sum() > 0 else -logits",
    "fixes_the_batch_size": "return logits * 2 if len(x) == 3 else logits",
}


def folder_of(store, model_id):
    return store.client.get_logged_model(model_id).artifact_location.removeprefix("file://")


def test_each_arm_logs_the_model_with_its_highest_validation_accuracy_and_of_equals_the_lowest_seed(
    logged_study, linked_models
):
    assert [len(linked_models(candidate)) for candidate in logged_study.candidates] == [1, 0, 0, 1]


def test_the_best_of_all_arms_is_registered_under_the_name_of_the_study(logged_study, linked_models):
    store, registered = logged_study.store, logged_study.registered
    best = logged_study.candidates[3]
    version = store.client.get_model_version_by_alias("digits-study", "best")
    assert (registered.name, registered.version, int(version.version)) == ("digits-study", 1, 1)
    assert (registered.arm, registered.seed, registered.run_id) == ("focal", 2, best.run_id)
    assert linked_models(best) == [registered.model_id]
    assert version.run_id == best.run_id
    assert version.tags == {
        "study": "digits-study",
        "arm": "focal",
        "seed": "2",
        "dataset": "digits",
        "val_accuracy": "0.95",
    }


def test_the_logged_model_carries_the_configuration_and_the_class_names(logged_study):
    logged = logged_study.store.client.get_logged_model(logged_study.registered.model_id)
    assert logged.params == {key: str(value) for key, value in logged_study.candidates[3].config.items()}
    description = Model.load(folder_of(logged_study.store, logged.model_id))
    assert description.metadata["class_names"] == [str(digit) for digit in range(10)]
    assert (description.model_id, description.run_id) == (logged.model_id, logged.source_run_id)


def test_whoever_loads_the_model_with_mlflow_alone_gets_the_logits_of_training_from_raw_pixels(
    logged_study, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", logged_study.store.uri)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    model = mlflow.pytorch.load_model("models:/digits-study@best")
    pixels = torch.from_numpy(logged_study.store.dataset.test_images.astype(np.float32))
    with torch.inference_mode():
        torch.testing.assert_close(model(pixels), logged_study.best_logits, rtol=1e-5, atol=1e-5)


def test_signature_and_input_example_are_raw_test_images(logged_study):
    folder = folder_of(logged_study.store, logged_study.registered.model_id)
    description = Model.load(folder)
    assert description.signature.inputs.inputs[0].shape == (-1, 1, 8, 8)
    assert description.signature.outputs.inputs[0].shape == (-1, 10)
    example = description.load_input_example(folder)
    np.testing.assert_array_equal(example, logged_study.store.dataset.test_images[: len(example)])


def test_logging_again_changes_nothing(logged_study, linked_models):
    store = logged_study.store

    def record():
        runs = {run.info.run_id: run.to_dictionary() for run in store.client.search_runs([store.experiment_id])}
        models = {model.model_id for model in store.client.search_logged_models([store.experiment_id])}
        versions = [version.version for version in store.client.search_model_versions("name = 'digits-study'")]
        return runs, models, versions

    before = record()
    again = log_best_models(
        logged_study.candidates, dataset=store.dataset, study="digits-study", tracking_uri=store.uri
    )
    assert again == logged_study.registered
    assert record() == before


def test_runs_that_had_ended_stay_as_they_ended_and_no_run_is_added(store):
    candidate, _ = store.candidate("mse", 1, 0.9, loss="mse")
    before = store.client.get_run(candidate.run_id)
    num_runs = len(store.client.search_runs([store.experiment_id]))
    assert log_best_models([candidate], dataset=store.dataset, study="ended", tracking_uri=store.uri)
    after = store.client.get_run(candidate.run_id)
    assert before.info.status == "FINISHED"
    assert dict(after.info) == dict(before.info)
    assert after.data.to_dictionary() == before.data.to_dictionary()
    assert len(store.client.search_runs([store.experiment_id])) == num_runs


def test_nothing_reaches_the_terminal_and_the_process_stays_as_it_was(store, capfd, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    monkeypatch.delenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", raising=False)
    candidate, _ = store.candidate("mse", 1, 0.9, loss="mse")
    capfd.readouterr()
    log_best_models([candidate], dataset=store.dataset, study="quiet", tracking_uri=store.uri)
    assert capfd.readouterr() == ("", "")
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "true"
    assert "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR" not in os.environ


def test_a_better_seed_of_an_extended_study_becomes_a_second_version(store, linked_models):
    first, _ = store.candidate("mse", 1, 0.9, loss="mse")
    second, _ = store.candidate("mse", 2, 0.92, loss="mse")

    def log(*candidates):
        return log_best_models(candidates, dataset=store.dataset, study="extended", tracking_uri=store.uri)

    assert log(first).version == 1
    assert log(first, second).version == 2
    assert load_stored_model("extended", tracking_uri=store.uri).seed == 2
    assert load_stored_model("extended", arm="mse", tracking_uri=store.uri).seed == 2
    assert len(linked_models(first)) == len(linked_models(second)) == 1


@pytest.mark.parametrize("model", ["convnet", "resnet18"])
def test_colour_images_of_any_number_pass_through_the_stored_graph(store, model):
    images = store.dataset
    colours = dataclasses.replace(
        images,
        # Three different channels, so that a mixed-up mean or deviation shows.
        train_images=np.concatenate([images.train_images, 255 - images.train_images, images.train_images // 4], axis=1),
        test_images=np.concatenate([images.test_images, 255 - images.test_images, images.test_images // 4], axis=1)[:9],
        test_labels=images.test_labels[:9],
        mean=(*images.mean, 1 - images.mean[0], images.mean[0] / 4),
        std=(*images.std, images.std[0], images.std[0] / 4),
    )
    flat = {"model": model, "epochs": 1, "batch_size": 256} | ({"width": 4} if model == "convnet" else {"width": None})
    candidate, logits = store.candidate("mse", 1, 0.9, dataset=colours, **flat)
    assert log_best_models([candidate], dataset=colours, study=f"colour-{model}", tracking_uri=store.uri)
    stored = load_stored_model(f"colour-{model}", tracking_uri=store.uri)
    assert stored.input_shape == (3, 8, 8)
    pixels = torch.from_numpy(colours.test_images.astype(np.float32))
    with torch.inference_mode():
        for count in (1, 2, 9):
            torch.testing.assert_close(stored.module(pixels[:count]), logits[:count], rtol=1e-4, atol=1e-4)


def test_weights_that_are_not_finite_are_never_logged(store, linked_models):
    broken, _ = store.candidate("l1", 1, 0.99, break_weights=True)
    whole, _ = store.candidate("l1", 2, 0.5)
    lost, _ = store.candidate("mse", 1, 0.98, break_weights=True)

    def log(*candidates):
        return log_best_models(candidates, dataset=store.dataset, study="broken", tracking_uri=store.uri)

    assert log(broken, lost) is None
    registered = log(broken, whole, lost)
    assert (registered.arm, registered.seed) == ("l1", 2)
    assert [len(linked_models(candidate)) for candidate in (broken, whole, lost)] == [0, 1, 0]


def test_no_candidates_register_nothing(store):
    assert log_best_models([], dataset=store.dataset, study="empty", tracking_uri=store.uri) is None


@pytest.mark.parametrize("behaviour", UNEXPORTABLE)
def test_a_model_of_the_users_own_that_cannot_be_exported_keeps_its_weights_with_its_run(  # noqa: PLR0917 - fixtures
    store, linked_models, tmp_path, monkeypatch, caplog, capfd, behaviour
):
    (tmp_path / f"own_{behaviour}.py").write_text(
        "from torch import nn\n"
        "class Own(nn.Module):\n"
        "    def __init__(self, features, num_classes):\n"
        "        super().__init__()\n"
        "        self.linear = nn.Linear(features, num_classes)\n"
        "    def forward(self, x):\n"
        "        logits = self.linear(x.flatten(1))\n"
        f"        {UNEXPORTABLE[behaviour]}\n"
        "def build(input_shape, num_classes):\n"
        "    return Own(input_shape[1] * input_shape[2], num_classes)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    candidate, _ = store.candidate("mse", 1, 0.9, model=f"own_{behaviour}:build", width=None)
    for _ in range(2):
        result = log_best_models([candidate], dataset=store.dataset, study=behaviour, tracking_uri=store.uri)
        assert result is None
    assert linked_models(candidate) == []
    assert [file.path for file in store.client.list_artifacts(candidate.run_id)] == ["weights.pt"]
    messages = [record.getMessage() for record in caplog.records if record.name == "study.models"]
    assert len(messages) == 2
    assert messages[0].startswith("The model of the arm mse cannot be stored as a graph and is kept as weights.pt: ")
    assert "\n" not in messages[0]
    assert capfd.readouterr() == ("", "")
