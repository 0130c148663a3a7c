"""The one look at the test split, against scikit-learn and plain numpy."""

import json
import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

import trainables.evaluation
from trainables.config import TrialConfig
from trainables.corruptions import CORRUPTIONS, SEVERITIES, corrupted_images
from trainables.data import load_dataset
from trainables.evaluation import CORRUPTION_SEED, corrupt_test_images, final_evaluation
from trainables.loop import load_resident, look_at_test, run_epoch, start_training

FLAT = {
    "loss": "mse",
    "optimizer": "adam",
    "optimizer.learning_rate": 0.01,
    "batch_size": 32,
    "epochs": 3,
    "model": "mlp",
    "seed": 1,
}
AVERAGED = [f"{name}_{average}" for name in ("precision", "recall", "f1") for average in ("macro", "weighted")]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data():
    return load_resident(load_dataset("digits", train_size=240), torch.device("cpu"))


@pytest.fixture(scope="module")
def trained(data):
    state = start_training(TrialConfig.from_flat(FLAT), data)
    for _ in range(3):
        run_epoch(state, data)
    return state


@pytest.fixture(scope="module")
def corrupted(data):
    return corrupt_test_images(data)


@pytest.fixture(scope="module")
def final(trained, data, corrupted):
    return final_evaluation(trained, data, corrupted, diverged=False)


@torch.no_grad()
def plain_logits(state, data, images):
    """Logits in double precision from the model's weights alone."""
    mean = -data.shift.double() / data.scale.double() / 255
    deviation = 1 / (255 * data.scale.double())
    activations = ((images.double() / 255 - mean) / deviation).flatten(1)
    first, second = (module for module in state.model if isinstance(module, torch.nn.Linear))
    hidden = (activations @ first.weight.double().T + first.bias.double()).clamp(min=0)
    return hidden @ second.weight.double().T + second.bias.double()


@pytest.fixture(scope="module")
def probabilities(trained, data):
    return torch.softmax(plain_logits(trained, data, data.test_images), dim=1).numpy()


def test_the_metrics_are_exactly_those_of_the_record(final):
    assert set(final.metrics) == {
        "test_accuracy",
        "test_loss",
        "test_nll",
        *(f"test_{key}" for key in AVERAGED),
        "test_ece",
        "test_brier",
        "test_temperature",
        "test_corruption_area",
        "train_eval_accuracy",
        "train_eval_nll",
        "train_eval_loss",
    }
    assert all(isinstance(value, float) and math.isfinite(value) for value in final.metrics.values())


def test_the_model_is_neither_perfect_nor_at_chance_so_that_these_tests_can_fail(final):
    assert 0.5 < final.metrics["test_accuracy"] < 0.99


def test_classification_metrics_are_scikit_learns(final, data, probabilities):
    labels, predictions = data.test_labels.numpy(), probabilities.argmax(axis=1)
    assert final.metrics["test_accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, predictions))
    for average in ("macro", "weighted"):
        expected = sklearn_metrics.precision_recall_fscore_support(
            labels, predictions, average=average, zero_division=0
        )
        for name, value in zip(("precision", "recall", "f1"), expected[:3], strict=True):
            assert final.metrics[f"test_{name}_{average}"] == pytest.approx(value)
    assert final.record["confusion"] == sklearn_metrics.confusion_matrix(labels, predictions).tolist()


def test_losses_of_the_test_split_are_the_trials_own_and_cross_entropy(final, data, probabilities):
    labels = data.test_labels.numpy()
    assert final.metrics["test_nll"] == pytest.approx(sklearn_metrics.log_loss(labels, probabilities), rel=1e-4)
    squared = (probabilities - np.eye(10)[labels]) ** 2
    assert final.metrics["test_loss"] == pytest.approx(squared.mean(), rel=1e-4)
    assert final.metrics["test_brier"] == pytest.approx(squared.sum(axis=1).mean(), rel=1e-4)


def test_calibration_is_that_of_fifteen_plain_bins(final, data, probabilities):
    confidences = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == data.test_labels.numpy()
    error = 0.0
    reliability = final.record["reliability"]
    for index in range(15):
        inside = (confidences > index / 15) & (confidences <= (index + 1) / 15)
        assert reliability["counts"][index] == inside.sum()
        if inside.any():
            error += inside.mean() * abs(correct[inside].mean() - confidences[inside].mean())
            assert reliability["accuracy"][index] == pytest.approx(correct[inside].mean())
            assert reliability["confidence"][index] == pytest.approx(confidences[inside].mean(), rel=1e-4)
    assert final.metrics["test_ece"] == pytest.approx(error, rel=1e-3)
    assert reliability["edges"] == pytest.approx([index / 15 for index in range(16)])


def test_the_temperature_is_the_best_on_the_validation_split(final, trained, data):
    logits = plain_logits(trained, data, data.images[trained.val_indices])
    labels = data.labels[trained.val_indices]

    def nll(temperature):
        return torch.nn.functional.cross_entropy(logits / temperature, labels).item()

    best = final.metrics["test_temperature"]
    assert best > 0
    assert nll(best) <= min(nll(temperature) for temperature in np.geomspace(0.05, 20, 400)) + 1e-6


def test_the_training_split_is_measured_without_the_validation_examples(final, trained, data):
    logits, labels = plain_logits(trained, data, data.images), data.labels
    train = torch.ones(len(labels), dtype=bool)
    train[trained.val_indices] = False
    accuracy = (logits.argmax(dim=1) == labels)[train].double().mean().item()
    nll = torch.nn.functional.cross_entropy(logits[train], labels[train]).item()
    assert final.metrics["train_eval_accuracy"] == pytest.approx(accuracy)
    assert final.metrics["train_eval_nll"] == pytest.approx(nll, rel=1e-4)
    errors = torch.softmax(logits[train], dim=1) - torch.nn.functional.one_hot(labels[train], 10)
    assert final.metrics["train_eval_loss"] == pytest.approx(errors.square().mean().item(), rel=1e-4)


def test_the_test_metrics_are_those_that_watching_would_have_seen(final, trained, data):
    seen = look_at_test(trained, data, ["test"], diverged=False)
    assert seen.items() <= final.metrics.items()
    assert set(seen) == {"test_loss", "test_nll", "test_accuracy", *(f"test_{key}" for key in AVERAGED)}


def test_corruption_curves_are_the_accuracies_on_the_corrupted_test_images(final, trained, data):
    expected = corrupted_images(data.test_images, seed=CORRUPTION_SEED)
    assert set(final.record["corruptions"]) == set(CORRUPTIONS)
    for name, curve in final.record["corruptions"].items():
        assert curve["severities"] == list(SEVERITIES[name])
        accuracies = [
            (plain_logits(trained, data, images).argmax(dim=1) == data.test_labels).double().mean().item()
            for images in expected[name]
        ]
        assert curve["accuracy"] == pytest.approx(accuracies, abs=1.5 / len(data.test_labels))  # a near tie may tip


def test_the_corruption_area_lies_between_the_clean_accuracy_and_the_curve_of_gaussian_noise(final):
    curve = final.record["corruptions"]["gaussian_noise"]
    severities = [0.0, *curve["severities"]]
    drops = [final.metrics["test_accuracy"] - accuracy for accuracy in curve["accuracy"]]
    drops.insert(0, 0.0)
    area = sum((severities[i + 1] - severities[i]) * (drops[i] + drops[i + 1]) / 2 for i in range(len(severities) - 1))
    assert final.metrics["test_corruption_area"] == pytest.approx(area / severities[-1], rel=1e-5)
    assert area > 0.05


def test_corruption_curves_of_a_large_test_part_use_an_even_sample(trained, data, monkeypatch):
    monkeypatch.setattr(trainables.evaluation, "MAX_CORRUPTED", 60)
    corrupted = corrupt_test_images(data)
    assert all(len(level) == 60 for levels in corrupted.values() for level in levels)
    every_sixth = torch.arange(0, 360, 6)
    assert torch.equal(
        corrupted["contrast"][0], corrupted_images(data.test_images[every_sixth], seed=CORRUPTION_SEED)["contrast"][0]
    )
    final = final_evaluation(trained, data, corrupted, diverged=False)
    logits = plain_logits(trained, data, corrupted["gaussian_noise"][0])
    accuracy = (logits.argmax(dim=1) == data.test_labels[every_sixth]).double().mean().item()
    assert final.record["corruptions"]["gaussian_noise"]["accuracy"][0] == pytest.approx(accuracy, abs=1.5 / 60)
    assert sum(map(sum, final.record["confusion"])) == 360


def test_the_corrupted_images_are_the_same_for_every_trial(data, corrupted):
    torch.manual_seed(7)
    again = corrupt_test_images(data)
    assert all(torch.equal(a, b) for name in corrupted for a, b in zip(corrupted[name], again[name], strict=True))


def test_the_record_is_json_of_finite_values(final):
    assert json.loads(json.dumps(final.record, allow_nan=False)) == final.record


def test_looking_changes_nothing_of_the_trial(trained, data, corrupted, final):
    before = {key: value.clone() for key, value in trained.model.state_dict().items()}
    generators = [torch.get_rng_state(), trained.order.get_state(), trained.augmentation.get_state()]
    again = final_evaluation(trained, data, corrupted, diverged=False)
    assert again == final
    assert all(torch.equal(before[key], value) for key, value in trained.model.state_dict().items())
    for old, new in zip(
        generators, [torch.get_rng_state(), trained.order.get_state(), trained.augmentation.get_state()], strict=True
    ):
        assert torch.equal(old, new)


def test_a_diverged_trial_counts_as_chance_and_leaves_the_rest_out(data, corrupted):
    state = start_training(TrialConfig.from_flat({**FLAT, "optimizer.learning_rate": 1e38}), data)
    assert run_epoch(state, data)["diverged"] == 1
    final = final_evaluation(state, data, corrupted, diverged=True)
    assert final.metrics == {"test_accuracy": 0.1}
    assert json.loads(json.dumps(final.record, allow_nan=False)) == {}


def test_chance_depends_on_the_number_of_classes(corrupted):
    two = load_resident(load_dataset("digits", classes=[3, 8], train_size=60), torch.device("cpu"))
    state = start_training(TrialConfig.from_flat(FLAT), two)
    assert final_evaluation(state, two, corrupted, diverged=True).metrics == {"test_accuracy": 0.5}
