"""The measures that claims are about: one table that names them, and a study's record → one row per trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.curve_measures import Curves, Values, measure_curves
from analysis.end_measures import POINTS, ended, measure_ends
from analysis.load import StudyRecord, numbers
from search_spaces.reported import STATED

#: The metrics whose histories the measures need; of the others the value of the last epoch is enough.
METRICS = ("val_accuracy", "val_loss", "test_accuracy", "test_loss", "train_accuracy", "train_loss", "epoch_seconds")
KEYS = ("regime", "arm", "seed")


@dataclass(frozen=True)
class Measure:
    """What a measure is.

    Args:
        unit: Of its values.
        delta: The smallest difference that matters, in its unit; "accuracy" for the study's own, in points; None where
            nobody can say, so that no difference is called too small.
        doc: What it measures, for a reader of the table of claims.
    """

    unit: str
    delta: Literal["accuracy"] | float | None
    doc: str


#: At the end of a confirm trial; see :mod:`analysis.end_measures`.
END_MEASURES = {
    "accuracy": Measure("points", "accuracy", "test accuracy"),
    "precision_macro": Measure("points", "accuracy", "test precision, mean over classes"),
    "precision_weighted": Measure("points", "accuracy", "test precision, weighted by class size"),
    "recall_macro": Measure("points", "accuracy", "test recall, mean over classes"),
    "recall_weighted": Measure("points", "accuracy", "test recall, weighted by class size"),
    "f1_macro": Measure("points", "accuracy", "test F1, mean over classes"),
    "f1_weighted": Measure("points", "accuracy", "test F1, weighted by class size"),
    "nll": Measure("nats", None, "test negative log likelihood"),
    "loss": Measure("loss", None, "the arm's own loss on the test split"),
    "ece": Measure("fraction", None, "expected calibration error on the test split, 15 bins"),
    "brier": Measure("squared error", None, "Brier score on the test split"),
    "train_accuracy": Measure("points", "accuracy", "accuracy on the training split in evaluation mode"),
    "train_nll": Measure("nats", None, "negative log likelihood on the training split in evaluation mode"),
    "train_loss": Measure("loss", None, "the arm's own loss on the training split in evaluation mode"),
    "val_accuracy": Measure("points", "accuracy", "validation accuracy"),
    "gap_accuracy": Measure("points", "accuracy", "training minus test accuracy, both in evaluation mode"),
    "gap_nll": Measure("nats", None, "test minus training negative log likelihood"),
    "gap_loss": Measure("loss", None, "test minus training loss, the arm's own"),
    "corruption_area": Measure("points", "accuracy", "mean accuracy lost under clipped Gaussian noise of 0 to 1"),
    "noise_drop": Measure("points", "accuracy", "accuracy lost under clipped Gaussian noise of 1"),
    "noisy_accuracy": Measure("points", "accuracy", "test accuracy under unclipped N(0, 1) noise"),
    "noisy_drop": Measure("points", "accuracy", "accuracy lost under unclipped N(0, 1) noise"),
    "noise_lowers": Measure("0 or 1", None, "whether noise lowers the accuracy"),
    "noise_raises": Measure("0 or 1", None, "whether noise raises the accuracy"),
    "confused_share": Measure("points", None, "share of the test errors in the three most confused pairs of classes"),
    "confused_recall": Measure("points", "accuracy", "mean recall of the classes in these pairs"),
    "diverged": Measure("0 or 1", None, "whether the loss ceased to be finite"),
    "collapsed": Measure("0 or 1", None, "whether the end is no better than guessing, by three standard errors"),
    "no_convergence": Measure("0 or 1", None, "whether the trial diverged or collapsed"),
}
#: Over the epochs of a confirm trial; see :mod:`analysis.curve_measures`.
CURVE_MEASURES = {
    "area": Measure("points", "accuracy", "mean held-out accuracy over the epochs"),
    "early_area": Measure("points", "accuracy", "mean held-out accuracy over the first tenth of the epochs"),
    "fluctuation": Measure("points", None, "SD of the steps of validation accuracy in the second half"),
    "early_fluctuation": Measure("points", None, "SD of the steps of validation accuracy in the first fifth"),
    "train_fluctuation": Measure("points", None, "SD of the steps of training accuracy in the second half"),
    "held_out_fluctuation": Measure("points", None, "SD of the steps of held-out accuracy in the second half"),
    "epochs_to_target": Measure(
        "epochs", 1.0, "epochs to the common validation accuracy; a miss counts one past the end"
    ),
    "seconds_to_target": Measure("seconds", None, "training time to the common validation accuracy, misses likewise"),
    "target_missed": Measure("0 or 1", None, "whether the common validation accuracy was missed"),
    "convergence_epoch": Measure("epochs", 1.0, "first of three epochs whose held-out loss changes by less than 1%"),
    "convergence_missed": Measure("0 or 1", None, "whether there are no such three epochs"),
    "trend_accuracy": Measure("rank correlation", None, "Spearman correlation of held-out accuracy and epoch"),
    "trend_loss": Measure("rank correlation", None, "Spearman correlation of held-out loss and epoch"),
    "trend_train_loss": Measure("rank correlation", None, "Spearman correlation of training loss and epoch"),
    "trend_train_accuracy": Measure("rank correlation", None, "Spearman correlation of training accuracy and epoch"),
    "late_trend_val_loss": Measure("rank correlation", None, "as the trend, of validation loss in the second half"),
    "late_trend_train_loss": Measure("rank correlation", None, "as the trend, of training loss in the second half"),
    "val_loss_rise": Measure("ratio - 1", None, "validation loss at the end over its minimum, minus 1"),
    "slope_first_half": Measure("points per epoch", None, "least-squares slope of held-out accuracy, first half"),
    "slope_second_half": Measure("points per epoch", None, "least-squares slope of held-out accuracy, second half"),
    "slowdown": Measure("points per epoch", None, "slope in the first half minus slope in the second"),
    "best_minus_last": Measure("points", "accuracy", "best minus last held-out accuracy"),
    "best_loss_late": Measure("0 or 1", None, "whether the lowest held-out loss lies in the last tenth of the epochs"),
    "dip": Measure("0 or 1", None, "whether held-out accuracy fell by a point under a loss peak, and recovered"),
    "plateau_epochs": Measure("epochs", None, "epochs until training loss is 5% below that of the first epoch"),
    "epoch_seconds": Measure("seconds", None, "median training time of an epoch, without the first"),
    "log_epoch_seconds": Measure("ln seconds", 0.05, "its logarithm, so that differences are ratios"),
    "log_total_seconds": Measure("ln seconds", 0.05, "logarithm of the training time of all planned epochs"),
}
#: Of the fair search; see :mod:`analysis.tuning`.
TUNING_MEASURES = {
    "tuned_log10_rate": Measure("log10", None, "logarithm of the best learning rate, in mean reduction"),
    "rate_width": Measure("points", None, "share of the grid's learning rates within 2 points of the arm's best"),
    "divergence_rate": Measure("fraction", None, "share of the grid's trials that diverged or collapsed"),
}
#: Short measurements beside the training, which know no regime.
DIAGNOSTIC_MEASURES = {
    "gradient_variance_slope": Measure("slope", None, "slope of log gradient variance against log batch size"),
    "activation_share": Measure("fraction", None, "share of the activation in a training step's time"),
    "loss_share": Measure("fraction", None, "share of the loss in a training step's time"),
    "log_tanh_over_exact": Measure("ln ratio", 0.05, "log time of tanh-approximated GELU over exact GELU"),
    "exact_uses_tanh": Measure("0 or 1", None, "whether exact GELU computes a tanh"),
    "log_steps_to_fall": Measure("ln steps", None, "log of the steps until the loss has fallen by 5%"),
    "log_steps_to_fall_own_init": Measure("ln steps", None, "the same from PyTorch's own initialisation"),
    "log_steps_to_fall_alpha": Measure("ln steps", None, "the same with the loss times alpha"),
    "log_steps_to_fall_own_init_alpha": Measure("ln steps", None, "the same with both"),
    "steps_censored": Measure("0 or 1", None, "whether the loss never fell by 5% in the steps given"),
    "steps_censored_own_init": Measure("0 or 1", None, "the same from PyTorch's own initialisation"),
    "steps_censored_alpha": Measure("0 or 1", None, "the same with the loss times alpha"),
    "steps_censored_own_init_alpha": Measure("0 or 1", None, "the same with both"),
    "gradient_scale_start": Measure("ratio", None, "size of the loss's gradient over cross-entropy's, at the start"),
    "gradient_scale_late": Measure("ratio", None, "the same for examples that are classified well"),
}
TRIAL_MEASURES = END_MEASURES | CURVE_MEASURES
MEASURES = TRIAL_MEASURES | TUNING_MEASURES | DIAGNOSTIC_MEASURES


def measure_trials(record: StudyRecord) -> pd.DataFrame:
    """Every measure of every confirm trial that ended.

    Of two runs of one regime, arm and seed, as a resumed study may leave, the later counts.

    Args:
        record: A study, loaded with at least :data:`METRICS`.

    Returns:
        ``regime, arm, seed`` and one column per name in :data:`TRIAL_MEASURES`, float; NaN where not recorded.
    """
    trials = ended(record.trials, "confirm").sort_values("start", kind="stable")
    trials = trials.drop_duplicates(list(KEYS), keep="last").sort_values(list(KEYS), ignore_index=True)
    ends = measure_ends(trials, record.finals, record.protocol)
    curves = dict(build_curves(record.epochs, trials))
    targets = find_targets(trials, curves, record.protocol)
    rows = {
        place: measure_curves(curve, targets.get(str(trials.loc[place, "regime"]), np.nan))
        for place, curve in curves.items()
    }
    over_epochs = pd.DataFrame.from_dict(rows, orient="index", columns=list(CURVE_MEASURES), dtype=float)
    frame = trials[list(KEYS)].astype({"seed": int}).join(ends).join(over_epochs)
    return frame[[*KEYS, *TRIAL_MEASURES]]


def build_curves(epochs: pd.DataFrame, trials: pd.DataFrame) -> Iterator[tuple[int, Curves]]:
    """The curves of each trial that has any, by its place in ``trials``.

    Held out is the test split in the stated regime, where it was watched in every epoch, else the validation split.
    """
    epochs = epochs[epochs["run_id"].isin(trials["run_id"])].sort_values(["run_id", "epoch"], ignore_index=True)
    columns = {
        name: np.asarray(numbers(epochs, name) * (POINTS if name.endswith("accuracy") else 1.0), dtype=np.float64)
        for name in METRICS
    }
    rows_of = epochs.groupby("run_id").indices
    planned = numbers(trials, "epochs")
    for place, run_id, regime in zip(trials.index, trials["run_id"], trials["regime"], strict=True):
        if run_id not in rows_of:
            continue
        own: dict[str, Values] = {name: values[rows_of[run_id]] for name, values in columns.items()}
        watched = regime == STATED and bool(np.isfinite(own["test_accuracy"]).all())
        held_out = "test" if watched else "val"
        yield (
            int(place),
            Curves(
                epochs=len(own["val_accuracy"]) if np.isnan(planned[place]) else int(planned[place]),
                val_accuracy=own["val_accuracy"],
                val_loss=own["val_loss"],
                held_out_accuracy=own[f"{held_out}_accuracy"],
                held_out_loss=own[f"{held_out}_loss"],
                train_accuracy=own["train_accuracy"],
                train_loss=own["train_loss"],
                seconds=own["epoch_seconds"],
            ),
        )


def find_targets(trials: pd.DataFrame, curves: Mapping[int, Curves], protocol: Mapping[str, Any]) -> dict[str, float]:
    """The validation accuracy, in points, that each regime's trials are timed to.

    It is the median over seeds of the baseline's best, minus delta: what the baseline reaches, but for a difference
    that does not matter.
    """
    baseline = trials[trials["arm"] == protocol.get("baseline")]
    delta = float(protocol.get("delta", np.nan))
    targets = {}
    for regime, own in baseline.groupby("regime"):
        best = [curves[place].val_accuracy.max() for place in own.index if place in curves]
        targets[str(regime)] = float(np.median(best)) - delta if best else np.nan
    return targets


def measure_diagnostics(record: StudyRecord) -> pd.DataFrame:
    """The short measurements beside the training, as ``diagnostics.json`` holds them.

    Returns:
        ``arm, seed`` and one column per measure of :data:`DIAGNOSTIC_MEASURES` that is on record, float.
    """
    seeds = record.diagnostics.get("seeds", [])
    rows = [
        {"arm": arm, "seed": int(seed)} | dict(zip(measured, values, strict=True))
        for arm, measured in record.diagnostics.get("arms", {}).items()
        for seed, *values in zip(seeds, *measured.values(), strict=True)
    ]
    frame = pd.DataFrame(rows, columns=None if rows else ["arm", "seed"])
    known = [measure for measure in DIAGNOSTIC_MEASURES if measure in frame]
    return frame[["arm", "seed", *known]].astype(dict.fromkeys(known, float))
