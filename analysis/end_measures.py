"""What a trial's end says: scores, gaps, noise, collapse, and the classes that are confused.

Frames in, frames out: the trials of any regimes as :mod:`analysis.load` reads them, one row each. Accuracies and what
is made of them come out in points, 0 to 100.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.load import numbers

POINTS = 100.0
#: Trials that ended by themselves; a failed or interrupted one says nothing about its arm.
ENDED = ("completed", "diverged")
#: How many pairs of classes count as the confused ones.
CONFUSED_PAIRS = 3
#: Standard errors above chance up to which a classifier counts as collapsed.
COLLAPSE_ERRORS = 3.0
SCORES = (
    "accuracy", "precision_macro", "precision_weighted", "recall_macro", "recall_weighted", "f1_macro", "f1_weighted",
)  # fmt: skip
#: Measures that are a recorded metric as it stands.
PLAIN = {
    "nll": "test_nll",
    "loss": "test_loss",
    "ece": "test_ece",
    "brier": "test_brier",
    "train_nll": "train_eval_nll",
    "train_loss": "train_eval_loss",
}
NOISE, NOISE_SEVERITY = "gaussian_noise", 1.0


def ended(trials: pd.DataFrame, phase: str) -> pd.DataFrame:
    """The trials of a phase that ended by themselves and have a seed."""
    return trials[(trials["phase"] == phase) & trials["stop_reason"].isin(ENDED) & trials["seed"].notna()]


def has_diverged(trials: pd.DataFrame) -> pd.Series[bool]:
    """Whether each trial ended on a loss that is not finite."""
    return (trials["stop_reason"] == "diverged") | (numbers(trials, "diverged") == 1)


def chance_of(protocol: Mapping[str, Any]) -> float:
    """The accuracy of guessing, a fraction; NaN if the number of classes is not on record."""
    return 1 / float(protocol.get("dataset", {}).get("num_classes") or np.nan)


def collapse_bound(protocol: Mapping[str, Any], split: str) -> float:
    """The accuracy, a fraction, up to which a classifier on a split (``test``, ``val``) counts as guessing.

    Chance plus three standard errors of a binomial share.
    """
    chance = chance_of(protocol)
    count = float(protocol.get("dataset", {}).get(f"num_{split}") or np.nan)
    return chance + COLLAPSE_ERRORS * float(np.sqrt(chance * (1 - chance) / count))


def chance_scores(chance: float) -> dict[str, float]:
    """The scores, fractions, of a classifier that names one of equally common classes for everything.

    A diverged trial is scored so: leaving it out would favour the arm that diverges.
    """
    f1 = 2 * chance * chance / (1 + chance)  # one class of precision ``chance`` and recall 1, the others zero
    scores = dict.fromkeys(SCORES, chance)
    scores |= dict.fromkeys(("precision_macro", "precision_weighted"), chance * chance)
    return scores | dict.fromkeys(("f1_macro", "f1_weighted"), f1)


def measure_ends(
    trials: pd.DataFrame, finals: Mapping[str, Mapping[str, Any]], protocol: Mapping[str, Any]
) -> pd.DataFrame:
    """The measures taken from the last epoch of confirm trials.

    A diverged trial has the scores of guessing and no losses, gaps or drops; MLflow's latest value of a metric is an
    earlier epoch's there.

    Args:
        trials: Confirm trials that ended, one row each.
        finals: ``final.json`` by run id.
        protocol: ``study.json``.

    Returns:
        One row per trial, on the index of ``trials``, one column per measure.
    """
    diverged = has_diverged(trials)
    chance = chance_of(protocol)
    guessed = chance_scores(chance)
    frame = pd.DataFrame(index=trials.index)
    for score in SCORES:
        frame[score] = POINTS * numbers(trials, f"test_{score}").mask(diverged, guessed[score])
    for measure, metric in PLAIN.items():
        frame[measure] = numbers(trials, metric).mask(diverged)
    frame["train_accuracy"] = POINTS * numbers(trials, "train_eval_accuracy").mask(diverged)
    frame["val_accuracy"] = POINTS * numbers(trials, "val_accuracy")  # a diverged trial's is on record as chance
    frame["corruption_area"] = POINTS * numbers(trials, "test_corruption_area").mask(diverged)
    frame["gap_accuracy"] = frame["train_accuracy"] - frame["accuracy"]
    frame["gap_nll"] = frame["nll"] - frame["train_nll"]
    frame["gap_loss"] = frame["loss"] - frame["train_loss"]
    frame["noise_drop"] = noise_drops(trials, finals, frame["accuracy"], frame["corruption_area"]).mask(diverged)
    frame["noisy_accuracy"] = POINTS * numbers(trials, "noisy_test_accuracy").mask(diverged, chance)
    frame["noisy_drop"] = (frame["accuracy"] - frame["noisy_accuracy"]).mask(diverged)
    drop = frame["noisy_drop"].fillna(frame["noise_drop"])
    known = drop.notna() | diverged  # noise changes nothing for a classifier that guesses
    frame["noise_lowers"] = (drop > 0).astype(float).where(known)
    frame["noise_raises"] = (drop < 0).astype(float).where(known)
    frame["diverged"] = diverged.astype(float)
    bound = POINTS * collapse_bound(protocol, "test")
    frame["collapsed"] = (diverged | (frame["accuracy"] <= bound)).astype(float).where(diverged | _known(frame, bound))
    frame["no_convergence"] = frame["collapsed"]  # a diverged trial has collapsed by definition
    confused = pd.concat(
        [measure_confused(own, finals) for _, own in trials.groupby("regime", sort=False)] or [frame[[]]]
    ).reindex(frame.index, columns=["confused_share", "confused_recall"])
    confused["confused_recall"] = confused["confused_recall"].mask(diverged, POINTS * chance)
    return frame.join(confused)


def noise_drops(
    trials: pd.DataFrame,
    finals: Mapping[str, Mapping[str, Any]],
    accuracy: pd.Series[float],
    area: pd.Series[float],
) -> pd.Series[float]:
    """Points lost under clipped Gaussian noise of the highest severity, against the same images without it.

    Args:
        trials: One row each.
        finals: ``final.json`` by run id.
        accuracy: Test accuracy in points, which stands in where the area is not on record.
        area: The area of the drop curve in points; it tells the accuracy on the images of the curve.
    """
    drops = []
    for run_id, of_all, own_area in zip(trials["run_id"], accuracy, area, strict=True):
        curve = finals.get(run_id, {}).get("corruptions", {}).get(NOISE)
        noisy = None if curve is None else dict(zip(curve["severities"], curve["accuracy"], strict=True))
        if noisy is None or NOISE_SEVERITY not in noisy:
            drops.append(np.nan)
            continue
        levels, accuracies = curve["severities"], POINTS * np.array(curve["accuracy"], dtype=float)
        clean = of_all if np.isnan(own_area) else clean_accuracy(own_area, levels, accuracies)
        drops.append(clean - POINTS * noisy[NOISE_SEVERITY])
    return pd.Series(drops, index=trials.index, dtype=float)


def clean_accuracy(area: float, severities: list[float], accuracies: NDArray[np.float64]) -> float:
    """The accuracy at severity 0 of a drop curve, from the curve's area.

    The area is the trapezoidal integral of ``clean - accuracy`` from severity 0, where it is zero, to the highest,
    divided by the highest: linear in what is asked.
    """
    places = np.array([0.0, *severities])
    steps = np.diff(places)
    weights = (steps + np.append(steps[1:], 0.0)) / 2
    return float((area * places[-1] + weights @ accuracies) / weights.sum())


def measure_confused(trials: pd.DataFrame, finals: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The share of errors in the three most confused pairs of classes, and the recall of those classes, in points.

    The pairs are those of the trials together, the same for every arm: pairs of each arm's own would be picked to fit.

    Args:
        trials: The trials of one regime.
        finals: ``final.json`` by run id; ``confusion`` has true classes in rows.

    Returns:
        ``confused_share, confused_recall`` on the index of ``trials``; NaN without confusion counts or without errors.
    """
    counts = {run_id: finals.get(run_id, {}).get("confusion") for run_id in trials["run_id"]}
    matrices = {run_id: np.array(rows, dtype=float) for run_id, rows in counts.items() if rows}
    frame = pd.DataFrame(np.nan, index=trials.index, columns=["confused_share", "confused_recall"])
    if not matrices:
        return frame
    pairs = confused_pairs(np.sum(list(matrices.values()), axis=0))
    classes = sorted({label for pair in pairs for label in pair})
    for place, run_id in zip(trials.index, trials["run_id"], strict=True):
        if run_id not in matrices:
            continue
        matrix = matrices[run_id]
        errors = matrix.sum() - np.trace(matrix)
        inside = sum(matrix[a, b] + matrix[b, a] for a, b in pairs)
        frame.loc[place, "confused_share"] = POINTS * inside / errors if errors else np.nan
        totals = matrix.sum(axis=1)[classes]
        frame.loc[place, "confused_recall"] = POINTS * np.mean(matrix[classes, classes] / np.maximum(totals, 1))
    return frame


def confused_pairs(confusion: NDArray[np.float64]) -> list[tuple[int, int]]:
    """The three most confused unordered pairs of classes, the most confused first.

    Args:
        confusion: Shape ``(classes, classes)``.
    """
    both = confusion + confusion.T
    rows, columns = np.triu_indices(len(both), k=1)
    order = np.argsort(-both[rows, columns], kind="stable")[:CONFUSED_PAIRS]
    return [(int(rows[place]), int(columns[place])) for place in order]


def _known(frame: pd.DataFrame, bound: float) -> pd.Series[bool]:
    return frame["accuracy"].notna() & (not np.isnan(bound))
