import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, recall_score

from analysis.end_measures import (
    SCORES,
    chance_scores,
    clean_accuracy,
    collapse_bound,
    confused_pairs,
    ended,
    measure_confused,
    measure_ends,
)
from trainables.corruptions import drop_area

PROTOCOL = {"dataset": {"num_classes": 10, "num_test": 900, "num_val": 400}}


def trials_of(*rows, **shared):
    """Confirm trials that completed, one per row of metrics."""
    base = {"phase": "confirm", "regime": "stated", "arm": "a", "stop_reason": "completed", "diverged": 0.0}
    return pd.DataFrame(
        [{"run_id": f"run{index}", "seed": index} | base | shared | row for index, row in enumerate(rows)]
    )


def measure(*rows, finals=None, **shared):
    return measure_ends(trials_of(*rows, **shared), finals or {}, PROTOCOL)


def test_scores_come_out_in_points_and_losses_as_they_are():
    metrics = {f"test_{name}": 0.5 + place / 100 for place, name in enumerate(SCORES)}
    metrics |= {"test_nll": 0.4, "test_loss": 2.5, "test_ece": 0.02, "test_brier": 0.3, "val_accuracy": 0.61}
    metrics |= {"train_eval_accuracy": 0.75, "train_eval_nll": 0.1, "train_eval_loss": 2.0, "test_corruption_area": 0.2}
    row = measure(metrics).iloc[0]
    for place, name in enumerate(SCORES):
        assert row[name] == pytest.approx(50 + place)
    expected = {"nll": 0.4, "loss": 2.5, "ece": 0.02, "brier": 0.3, "val_accuracy": 61, "train_accuracy": 75}
    expected |= {"train_nll": 0.1, "train_loss": 2, "gap_accuracy": 25, "gap_nll": 0.3, "gap_loss": 0.5}
    expected |= {"corruption_area": 20, "diverged": 0, "collapsed": 0, "no_convergence": 0}
    assert row[list(expected)].to_dict() == pytest.approx(expected)


def test_what_is_not_on_record_is_missing_and_no_trial_is_dropped():
    frame = measure({"test_accuracy": 0.5}, {"val_accuracy": 0.5})
    assert frame["accuracy"].tolist() == pytest.approx([50, math.nan], nan_ok=True)
    assert frame["collapsed"].tolist() == pytest.approx([0, math.nan], nan_ok=True)
    assert frame[["nll", "gap_accuracy", "noise_drop", "noise_lowers", "confused_share"]].isna().all(axis=None)


@pytest.mark.parametrize("num_classes", [2, 10])
def test_chance_scores_are_those_of_naming_one_class_for_everything(num_classes):
    truth = np.repeat(np.arange(num_classes), 30)
    scores = chance_scores(1 / num_classes)
    for average in ("macro", "weighted"):
        named = precision_recall_fscore_support(truth, np.zeros_like(truth), average=average, zero_division=0)
        for name, expected in zip(("precision", "recall", "f1"), named[:3], strict=True):
            assert scores[f"{name}_{average}"] == pytest.approx(expected)
    assert scores["accuracy"] == pytest.approx(np.mean(truth == 0))


def test_a_diverged_trial_scores_as_guessing_and_an_earlier_epochs_loss_is_not_taken_for_its_own():
    earlier = {"test_nll": 0.4, "test_f1_macro": 0.8, "noisy_test_accuracy": 0.7, "train_eval_accuracy": 0.9}
    row = measure({"test_accuracy": 0.1, "val_accuracy": 0.1, **earlier}, stop_reason="diverged").iloc[0]
    assert row["accuracy"] == row["val_accuracy"] == row["noisy_accuracy"] == row["confused_recall"] == 10
    assert row["f1_macro"] == pytest.approx(100 * chance_scores(0.1)["f1_macro"])
    assert row[["diverged", "collapsed", "no_convergence"]].tolist() == [1, 1, 1]
    assert row[["nll", "gap_accuracy", "noisy_drop", "train_accuracy"]].isna().all()
    assert row[["noise_lowers", "noise_raises"]].tolist() == [0, 0]


def test_a_trial_flagged_as_diverged_counts_as_diverged_whatever_it_stopped_for():
    assert measure({"test_accuracy": 0.8, "diverged": 1.0})["accuracy"].item() == 10


def test_collapse_is_three_standard_errors_above_chance():
    bound = 0.1 + 3 * math.sqrt(0.1 * 0.9 / 900)  # 0.13
    assert collapse_bound(PROTOCOL, "test") == pytest.approx(bound)
    assert collapse_bound(PROTOCOL, "val") == pytest.approx(0.1 + 3 * math.sqrt(0.09 / 400))
    frame = measure({"test_accuracy": 0.1299}, {"test_accuracy": 0.1301}, {"test_accuracy": 0.05})
    assert frame["collapsed"].tolist() == frame["no_convergence"].tolist() == [1, 0, 1]
    assert frame["diverged"].tolist() == [0, 0, 0]


def test_only_trials_that_ended_by_themselves_count():
    frame = pd.concat(
        [trials_of({}, stop_reason=reason) for reason in ("completed", "diverged", "failed", "interrupted", "running")]
    )
    assert ended(frame, "confirm")["stop_reason"].tolist() == ["completed", "diverged"]
    assert ended(frame, "search").empty
    assert ended(trials_of({"seed": None}), "confirm").empty


# Noise


SEVERITIES = [0.04, 0.1, 0.5, 1.0]


def noise_final(*accuracies):
    return {"corruptions": {"gaussian_noise": {"severities": SEVERITIES, "accuracy": list(accuracies)}}}


def test_the_clean_accuracy_of_a_drop_curve_is_recovered_from_its_area():
    generator = np.random.default_rng(0)
    for _ in range(20):
        clean, accuracies = generator.uniform(), generator.uniform(size=4)
        area = drop_area(clean, SEVERITIES, accuracies.tolist())
        assert clean_accuracy(area, SEVERITIES, accuracies) == pytest.approx(clean)


def test_the_noise_drop_is_taken_on_the_images_of_the_curve():
    accuracies = (0.8, 0.7, 0.5, 0.3)
    area = drop_area(0.85, SEVERITIES, accuracies)  # 85% on these images, 82% on all
    finals = {"run0": noise_final(*accuracies), "run1": noise_final(*accuracies)}
    frame = measure(
        {"test_accuracy": 0.82, "test_corruption_area": area}, {"test_accuracy": 0.82}, {"test_accuracy": 0.82},
        finals=finals,
    )  # fmt: skip
    assert frame["noise_drop"].tolist() == pytest.approx([55, 52, math.nan], nan_ok=True)
    assert frame["noise_lowers"].tolist() == pytest.approx([1, 1, math.nan], nan_ok=True)


def test_watched_noise_decides_the_sign_before_the_clipped_noise_does():
    watched = [{"test_accuracy": 0.5, "noisy_test_accuracy": value} for value in (0.4, 0.5, 0.6)]
    frame = measure(*watched, finals={f"run{index}": noise_final(0.5, 0.5, 0.5, 0.2) for index in range(3)})
    assert frame["noisy_drop"].tolist() == pytest.approx([10, 0, -10])
    assert frame["noise_lowers"].tolist() == [1, 0, 0]
    assert frame["noise_raises"].tolist() == [0, 0, 1]
    assert frame["noise_drop"].tolist() == pytest.approx([30, 30, 30])


# Confusion


def test_confused_pairs_add_both_directions():
    counts = np.diag([90.0, 80, 70, 60])
    counts[0, 1], counts[1, 0] = 3, 4  # 7
    counts[2, 3] = 6
    counts[1, 2], counts[2, 1] = 4, 4  # 8
    counts[0, 3] = 5
    assert confused_pairs(counts) == [(1, 2), (0, 1), (2, 3)]
    assert confused_pairs(np.array([[5.0, 1], [2, 5]])) == [(0, 1)]


def draw_confusions(num_trials, *, seed=0):
    generator = np.random.default_rng(seed)
    truth = np.repeat(np.arange(6), 40)
    wrong = generator.permutation(6)
    predictions = [
        np.where(
            generator.random(len(truth)) < 0.3,
            wrong[truth] if trial % 2 else generator.integers(0, 6, len(truth)),
            truth,
        )
        for trial in range(num_trials)
    ]
    return truth, predictions


def test_share_and_recall_of_the_confused_classes_are_those_counted_one_by_one():
    truth, predictions = draw_confusions(4)
    finals = {f"run{i}": {"confusion": confusion_matrix(truth, named).tolist()} for i, named in enumerate(predictions)}
    counts = {}
    for named in predictions:
        for own, other in zip(truth, named, strict=True):
            if own != other:
                pair = tuple(sorted((int(own), int(other))))
                counts[pair] = counts.get(pair, 0) + 1
    pairs = sorted(counts, key=lambda pair: (-counts[pair], pair))[:3]
    classes = sorted({label for pair in pairs for label in pair})
    frame = measure_confused(trials_of({}, {}, {}, {}), finals)
    for row, named in zip(frame.itertuples(), predictions, strict=True):
        errors = [
            tuple(sorted(pair)) for pair in zip(truth.tolist(), named.tolist(), strict=True) if len(set(pair)) > 1
        ]
        assert row.confused_share == pytest.approx(100 * sum(pair in pairs for pair in errors) / len(errors))
        recalls = recall_score(truth, named, labels=classes, average="macro")
        assert row.confused_recall == pytest.approx(100 * recalls)


def test_the_pairs_are_those_of_all_arms_of_a_regime_and_of_no_other():
    ab, cd = np.diag([10.0] * 8), np.diag([10.0] * 8)
    for place, (first, second) in enumerate([(0, 1), (2, 3), (4, 5), (6, 7)]):
        ab[first, second] = (9, 8, 7, 0)[place]
        cd[first, second] = (0, 8, 7, 6)[place]
    finals = {"run0": {"confusion": ab.tolist()}, "run1": {"confusion": cd.tolist()}}
    together = measure({}, {}, finals=finals)  # (2, 3) 16, (4, 5) 14, (0, 1) 9, (6, 7) 6
    assert together["confused_share"].tolist() == pytest.approx([100, 100 * 15 / 21])
    apart = measure({"regime": "stated"}, {"regime": "fair"}, finals=finals)
    assert apart["confused_share"].tolist() == pytest.approx([100, 100])


def test_a_trial_without_errors_has_no_share_of_them():
    frame = measure({}, finals={"run0": {"confusion": [[5, 0], [0, 5]]}})
    assert math.isnan(frame["confused_share"].item())
    assert frame["confused_recall"].item() == 100
