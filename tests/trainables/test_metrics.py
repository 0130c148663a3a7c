"""Metrics against scikit-learn, SciPy and sums written out by hand."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn import metrics as sklearn_metrics
from torch.nn import functional as F

from trainables.metrics import (
    TEMPERATURE_BOUNDS,
    calibration,
    classification_metrics,
    confusion_matrix,
    fit_temperature,
    split_metrics,
)


def draw(num_examples=500, num_classes=7, *, scale=1.0, seed=0):
    """Logits that lean towards the labels, and the labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(num_classes, (num_examples,), generator=generator)
    logits = torch.randn(num_examples, num_classes, generator=generator) + 2 * F.one_hot(labels, num_classes)
    return logits * scale, labels


def by_sklearn(labels, predictions, num_classes):
    options = {"labels": range(num_classes), "zero_division": 0}
    expected = {"accuracy": sklearn_metrics.accuracy_score(labels, predictions)}
    for average in ("macro", "weighted"):
        for name in ("precision", "recall", "f1"):
            score = getattr(sklearn_metrics, f"{name}_score")
            expected[f"{name}_{average}"] = score(labels, predictions, average=average, **options)
    return expected


def test_confusion_counts_true_classes_in_rows():
    confusion = confusion_matrix(torch.tensor([1, 1, 2, 0]), torch.tensor([0, 0, 2, 2]), 4)
    assert confusion.tolist() == [[0, 2, 0, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    assert confusion.dtype == torch.int64


def test_confusion_equals_scikit_learns():
    logits, labels = draw()
    expected = sklearn_metrics.confusion_matrix(labels, logits.argmax(1))
    np.testing.assert_array_equal(confusion_matrix(logits.argmax(1), labels, 7), expected)


@pytest.mark.parametrize(
    ("predictions", "labels", "num_classes"),
    [
        ([0, 1, 2, 2, 1, 0], [0, 1, 2, 1, 1, 2], 3),
        ([0, 0, 0, 0], [0, 1, 2, 1], 3),  # two classes never predicted
        ([0, 1, 2, 2], [0, 1, 1, 1], 3),  # a class never true
        ([0, 1, 1], [0, 1, 0], 5),  # three classes neither true nor predicted
        ([1], [0], 2),
    ],
)
def test_classification_metrics_equal_scikit_learns_over_all_classes(predictions, labels, num_classes):
    confusion = confusion_matrix(torch.tensor(predictions), torch.tensor(labels), num_classes)
    assert classification_metrics(confusion) == pytest.approx(by_sklearn(labels, predictions, num_classes))


def test_an_absent_class_counts_as_zero_in_a_macro_average():
    perfect = classification_metrics(torch.diag(torch.tensor([4, 4, 0, 0])))
    assert (perfect["f1_macro"], perfect["f1_weighted"], perfect["accuracy"]) == (0.5, 1.0, 1.0)


def test_metrics_are_python_floats():
    assert {type(value) for value in classification_metrics(torch.eye(3)).values()} == {float}
    logits, labels = draw()
    assert {type(value) for value in split_metrics(logits, labels, torch.ones(500)).values()} == {float}


def test_metrics_of_no_examples_are_refused():
    with pytest.raises(ValueError, match="Metrics need at least one example; got none"):
        classification_metrics(torch.zeros(3, 3))


def test_classification_metrics_take_under_a_fifth_of_a_millisecond():
    confusion = torch.randint(100, (10, 10))
    durations = []
    for _ in range(50):
        start = time.perf_counter()
        classification_metrics(confusion)
        durations.append(time.perf_counter() - start)
    assert min(durations) < 2e-4


@pytest.mark.parametrize("num_classes", [2, 7, 15, 16, 100])
def test_split_metrics_equal_references_on_both_sides_of_the_vector_width(num_classes):
    logits, labels = draw(num_classes=num_classes)
    losses = torch.rand(500, generator=torch.Generator().manual_seed(1))
    found = split_metrics(logits, labels, losses)
    nll = -log_softmax(logits.double().numpy(), axis=1)[np.arange(500), labels.numpy()].mean()
    expected = by_sklearn(labels, logits.argmax(1), num_classes)
    assert found == pytest.approx(expected | {"loss": losses.double().mean().item(), "nll": nll}, rel=1e-6)


def test_split_metrics_take_bfloat16_and_leave_their_inputs_alone():
    logits, labels = draw()
    half = logits.bfloat16()
    copies = half.clone(), labels.clone()
    found = split_metrics(half, labels, torch.zeros(500))
    assert found["nll"] == pytest.approx(F.cross_entropy(half.float(), labels).item(), rel=1e-6)
    assert torch.equal(half, copies[0])
    assert torch.equal(labels, copies[1])


def test_split_metrics_tell_a_loss_that_is_not_finite():
    logits, labels = draw()
    losses = torch.ones(500)
    losses[3] = math.nan
    assert math.isnan(split_metrics(logits, labels, losses)["loss"])
    logits[3] = math.inf
    assert math.isnan(split_metrics(logits, labels, torch.ones(500))["nll"])


def test_split_metrics_sum_large_splits_without_rounding():
    count = 200_000
    found = split_metrics(torch.zeros(count, 2), torch.zeros(count, dtype=torch.int64), torch.full((count,), 0.1))
    assert found["loss"] == pytest.approx(0.1, rel=1e-7)
    assert found["nll"] == pytest.approx(math.log(2), rel=1e-7)
    assert found["accuracy"] == 1.0


def test_ece_equals_a_loop_over_fifteen_bins():
    logits, labels = draw(2000, scale=2)
    probabilities = torch.softmax(logits.double(), 1)
    confidences, predictions = probabilities.max(1)
    found = calibration(logits, labels)
    expected = 0.0
    for index in range(15):
        inside = [i for i in range(2000) if found.edges[index] < confidences[i] <= found.edges[index + 1]]
        assert found.counts[index] == len(inside)
        if inside:
            accuracy = sum(bool(predictions[i] == labels[i]) for i in inside) / len(inside)
            confidence = sum(confidences[i].item() for i in inside) / len(inside)
            assert found.accuracy[index] == pytest.approx(accuracy)
            assert found.confidence[index] == pytest.approx(confidence)
            expected += len(inside) / 2000 * abs(accuracy - confidence)
    assert found.ece == pytest.approx(expected)
    assert expected > 0.01
    np.testing.assert_allclose(found.edges, np.arange(16) / 15)


def test_brier_is_the_sum_over_classes():
    logits, labels = draw()
    probabilities = torch.softmax(logits.double(), 1).numpy()
    expected = sklearn_metrics.brier_score_loss(labels, probabilities, labels=range(7), scale_by_half=False)
    assert calibration(logits, labels).brier == pytest.approx(expected)


def test_calibration_of_certain_answers():
    logits = torch.tensor([[1e4, -1e4], [1e4, -1e4], [-1e4, 1e4], [1e4, -1e4]])
    found = calibration(logits, torch.tensor([0, 0, 1, 1]))
    assert found.ece == pytest.approx(0.25)
    assert found.brier == pytest.approx(0.5)  # one answer in four is wrong by (1, 1)
    assert found.counts == [0] * 14 + [4]
    assert (found.confidence[-1], found.accuracy[-1]) == (1.0, 0.75)
    assert found.confidence[:-1] == [0.0] * 14


def test_bins_are_closed_on_the_right():
    # Equal logits of two classes give a confidence of exactly 0.5, the edge between two of four bins.
    assert calibration(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), num_bins=4).counts == [0, 3, 0, 0]


def test_calibration_of_logits_that_are_not_finite_is_nan():
    logits, labels = draw()
    logits[3, 0] = math.inf
    found = calibration(logits, labels)
    assert math.isnan(found.ece)
    assert math.isnan(found.brier)
    assert sum(found.counts) == 500


def test_calibration_is_plain_python():
    found = calibration(*draw(), num_bins=4)
    assert {type(value) for value in (found.ece, found.brier, *found.edges, *found.confidence, *found.accuracy)} == {
        float
    }
    assert {type(value) for value in found.counts} == {int}
    assert (len(found.edges), len(found.counts)) == (5, 4)


@pytest.mark.parametrize("factor", [0.1, 1.0, 4.0, 300.0])
def test_the_temperature_undoes_a_known_scaling(factor):
    # Labels drawn from the softmax of the logits make those logits calibrated: their temperature is 1.
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 5, generator=generator)
    labels = torch.multinomial(torch.softmax(logits, 1), 1, generator=generator).squeeze(1)
    assert fit_temperature(logits * factor, labels) == pytest.approx(factor, rel=0.03)
    assert fit_temperature(logits * factor, labels) == pytest.approx(factor * fit_temperature(logits, labels), rel=1e-3)


def test_the_temperature_lowers_the_cross_entropy():
    logits, labels = draw(scale=5)
    temperature = fit_temperature(logits, labels)
    best = F.cross_entropy(logits / temperature, labels)
    for factor in (0.95, 1.05):
        assert F.cross_entropy(logits / (temperature * factor), labels) > best


def test_a_temperature_without_an_optimum_stays_within_its_bounds():
    separable = torch.eye(3).repeat(5, 1) * 2
    labels = torch.arange(3).repeat(5)
    assert TEMPERATURE_BOUNDS[0] <= fit_temperature(separable, labels) < 0.2
    assert fit_temperature(separable, labels.roll(1)) > 1000


def test_the_temperature_of_logits_that_are_not_finite_is_nan():
    logits, labels = draw()
    logits[0, 0] = math.inf
    assert math.isnan(fit_temperature(logits, labels))
