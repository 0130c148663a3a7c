"""Frame to frame: what each arm scored, and how it differs from the baseline seed by seed.

Only the confirm phase speaks here; a search score is the best of many and is never a result. Seed i fixes split,
initialisation and batch order for every arm, so arms are compared by paired differences.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis import inference
from analysis.earlier import CONTROLS
from analysis.load import numbers

#: One accuracy point is one percent of the test images.
POINTS = 100
TABLE_METRICS = {"f1_macro": "test_f1_macro", "nll": "test_nll", "ece": "test_ece"}
CONTROL_METRICS = ("test_accuracy", "test_nll")
COMPARISON_COLUMNS = (
    "arm", "num_seeds", "difference_points", "low_points", "high_points", "flip_low_points", "flip_high_points",
    "sd_points", "p", "p_holm", "probability_better", "equivalence_low_points", "equivalence_high_points",
    "equivalence_p", "equivalent", "smallest_p", "detectable_points", "num_diverged", "num_unpaired",
)  # fmt: skip


def confirm_scores(trials: pd.DataFrame, metric: str = "test_accuracy") -> pd.DataFrame:
    """One score per arm and seed of the confirm phase.

    A diverged seed counts: its accuracy is the chance level it reported as ``val_accuracy``. Of two runs of one arm
    and seed, as a resumed study may leave, the later with a score stays.

    Args:
        trials: A study's ``trials``.
        metric: A metric of the confirm runs.

    Returns:
        ``arm, seed, score, diverged``; ``score`` is NaN where the run has none, as after a failure.
    """
    confirm = trials[(trials["phase"] == "confirm") & trials["seed"].notna()]
    diverged = (confirm["stop_reason"] == "diverged") | (numbers(confirm, "diverged") == 1)
    score = numbers(confirm, metric)
    if metric == "test_accuracy":
        score = score.mask(diverged, numbers(confirm, "val_accuracy").fillna(score))
    frame = confirm[["arm", "seed", "start"]].assign(score=score, diverged=diverged, scored=score.notna())
    frame = frame.sort_values(["scored", "start"]).drop_duplicates(["arm", "seed"], keep="last")
    return frame.sort_values(["arm", "seed"], ignore_index=True)[["arm", "seed", "score", "diverged"]]


def arm_names(trials: pd.DataFrame, protocol: Mapping[str, Any]) -> list[str]:
    """The study's arms in the order of its protocol, then any others on record; the control is no arm."""
    declared = [str(arm["name"]) for arm in protocol.get("arms", [])]
    recorded = sorted(set(trials.loc[~trials["phase"].isin(CONTROLS), "arm"]))
    if protocol.get("mode") == "joint":  # one search over all values; its arms are the values that were confirmed
        confirmed = set(trials.loc[trials["phase"] == "confirm", "arm"])
        declared = [name for name in declared if name in confirmed] if confirmed else declared
        recorded = [name for name in recorded if name in confirmed or not confirmed]
    return list(dict.fromkeys([*declared, *recorded]))


def baseline_of(trials: pd.DataFrame, protocol: Mapping[str, Any]) -> str:
    """The declared baseline, else the first arm, else nothing."""
    return str(protocol.get("baseline") or next(iter(arm_names(trials, protocol)), ""))


def arm_table(trials: pd.DataFrame, protocol: Mapping[str, Any], epochs: pd.DataFrame | None = None) -> pd.DataFrame:
    """What each arm scored on the test split, best first.

    Args:
        trials: A study's ``trials``.
        protocol: Its ``study.json``.
        epochs: Its ``epochs``; adds ``epoch_seconds``, the median over confirm runs without their first epoch.

    Returns:
        ``arm, baseline, num_seeds, accuracy, accuracy_low, accuracy_high, accuracy_sd, f1_macro, nll, ece,
        epoch_seconds, num_diverged``: means over seeds, a 95% t interval cut at [0, 1], fractions, nats, seconds.
        An arm without confirm runs has ``num_seeds = 0``.
    """
    scores = confirm_scores(trials)
    others = {column: confirm_scores(trials, metric) for column, metric in TABLE_METRICS.items()}
    seconds = _epoch_seconds(epochs)
    rows = []
    for arm in arm_names(trials, protocol):
        own = scores[scores["arm"] == arm]
        values = own["score"].dropna().to_numpy(dtype=float)
        row: dict[str, Any] = {"arm": arm, "baseline": arm == protocol.get("baseline"), "num_seeds": len(values)}
        if len(values):
            mean, low, high = (float(number) for number in inference.t_interval(values))
            row |= {"accuracy": mean, "accuracy_low": np.clip(low, 0, 1), "accuracy_high": np.clip(high, 0, 1)}
            row["accuracy_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else np.nan
        for column, frame in others.items():
            row[column] = frame.loc[frame["arm"] == arm, "score"].mean()
        rows.append(row | {"epoch_seconds": seconds.get(arm, np.nan), "num_diverged": int(own["diverged"].sum())})
    columns = ["arm", "baseline", "num_seeds", "accuracy", "accuracy_low", "accuracy_high", "accuracy_sd"]
    columns += [*TABLE_METRICS, "epoch_seconds", "num_diverged"]
    return pd.DataFrame(rows, columns=columns).sort_values(
        "accuracy", ascending=False, ignore_index=True, kind="stable"
    )


def _epoch_seconds(epochs: pd.DataFrame | None) -> dict[str, float]:
    if epochs is None or "epoch_seconds" not in epochs:
        return {}
    confirm = epochs[epochs["phase"] == "confirm"]
    steady = confirm[confirm["epoch"] > 1]  # the first epoch warms caches up
    medians = (steady if len(steady) else confirm).groupby("arm")["epoch_seconds"].median()
    return {str(arm): float(value) for arm, value in medians.items()}


def paired_differences(trials: pd.DataFrame, baseline: str, metric: str = "test_accuracy") -> pd.DataFrame:
    """Each arm minus the baseline, seed by seed.

    Args:
        trials: A study's ``trials``.
        baseline: The arm to subtract.
        metric: A metric of the confirm runs.

    Returns:
        ``arm, seed, score, baseline, difference, diverged`` in the metric's unit: one row per arm (the baseline left
        out) and seed of either; ``difference`` is NaN where one of the two has no score, ``diverged`` counts 0 to 2.
    """
    scores = confirm_scores(trials, metric)
    base = scores[scores["arm"] == baseline].set_index("seed")
    frames = []
    for arm, own in scores[scores["arm"] != baseline].groupby("arm"):
        pair = pd.concat([own.set_index("seed"), base.add_suffix("_base")], axis="columns")
        diverged = pair["diverged"].eq(other=True).astype(int) + pair["diverged_base"].eq(other=True).astype(int)
        pair = pair.assign(arm=arm, baseline=pair["score_base"], diverged=diverged)
        frames.append(pair.assign(difference=pair["score"] - pair["baseline"]).rename_axis("seed").reset_index())
    columns = ["arm", "seed", "score", "baseline", "difference", "diverged"]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def compare_to_baseline(
    trials: pd.DataFrame, baseline: str, delta_points: float, *, metric: str = "test_accuracy"
) -> pd.DataFrame:
    """Each arm against the baseline, with everything needed to believe or doubt the difference.

    Args:
        trials: A study's ``trials``.
        baseline: The arm to subtract.
        delta_points: The largest difference that does not matter, in points.
        metric: A metric of the confirm runs that is a fraction.

    Returns:
        One row per arm with at least one pair, best first, all differences in points: the mean paired difference with
        its 95% t interval ``low_points`` to ``high_points`` (the one shown), the values that the sign-flip test does
        not reject at 5% ``flip_low_points`` to ``flip_high_points`` (infinite below six pairs; they exclude 0 exactly
        where ``p`` < 0.05), the SD, sign-flip ``p`` and ``p_holm`` over these rows, ``probability_better`` over paired
        seeds, the 90% interval and p of the two one-sided tests and whether they show equivalence, the ``smallest_p``
        that so many pairs can reach under Holm, ``detectable_points`` at 80% power, how many seeds of the arm or the
        baseline diverged, how many have no pair.
    """
    pairs = paired_differences(trials, baseline, metric)
    samples = {
        # Rounded, since (a - b) of equal fractions may differ in the last bit and would break ties at random.
        str(arm): np.round(own["difference"].dropna().to_numpy(dtype=float) * POINTS, 9)
        for arm, own in pairs.groupby("arm")
    }
    samples = {arm: sample for arm, sample in samples.items() if len(sample)}
    corrected = inference.holm([float(inference.sign_flip_p(sample)) for sample in samples.values()])
    rows = []
    for (arm, sample), p_holm in zip(samples.items(), corrected, strict=True):
        own = pairs[pairs["arm"] == arm]
        row = {"arm": arm, "p_holm": p_holm, **describe_differences(sample, delta_points, len(samples))}
        row["num_diverged"] = int(own.loc[own["difference"].notna(), "diverged"].sum())
        rows.append(row | {"num_unpaired": int(own["difference"].isna().sum())})
    frame = pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))
    return frame.sort_values("difference_points", ascending=False, ignore_index=True, kind="stable")


def twins_of(baseline: str, protocol: Mapping[str, Any]) -> list[str]:
    """Arms that are the baseline under another name, as the study's controls declare."""
    return [str(arm) for arm, like in (protocol.get("controls") or {}).items() if like == baseline]


def mark_luck(comparisons: pd.DataFrame, twins: Collection[str]) -> pd.DataFrame:
    """The comparisons with what the search's luck may explain.

    Args:
        comparisons: From :func:`compare_to_baseline`.
        twins: Arms that are the baseline under another name.

    Returns:
        The same with ``twin`` and, for the other arms, ``within_luck``: whether the difference is no larger than a
        twin's. Seeds cannot tell: both winners, retrained often enough, differ for sure. A larger difference is not
        proven by that either, since a twin is one draw of luck.
    """
    marked = comparisons.assign(twin=comparisons["arm"].isin(twins).astype(bool))
    small = (marked["difference_points"].abs() <= luck_of_the_search(marked)).astype(bool)
    measured = bool(marked["twin"].any())
    return marked.assign(within_luck=small & ~marked["twin"] if measured else False)


def luck_of_the_search(comparisons: pd.DataFrame) -> float:
    """How many points apart a search of its own took the same function at most; 0 where no arm measures it."""
    twins = comparisons[comparisons["twin"].astype(bool)]
    return float(twins["difference_points"].abs().max()) if len(twins) else 0.0


def describe_differences(sample: np.ndarray[Any, np.dtype[np.float64]], delta: float, num_tests: int) -> dict[str, Any]:
    """The statistics of one arm's paired differences, all in the unit of ``sample``; keys as in the comparisons."""
    n = len(sample)
    mean, low, high = (float(number) for number in inference.t_interval(sample))
    _, flip_low, flip_high = (float(number) for number in inference.sign_flip_interval(sample))
    # The interval that fits inside ±delta exactly when both one-sided tests reject at 5%.
    _, inner_low, inner_high = (
        float(number) for number in inference.t_interval(sample, confidence=1 - 2 * inference.ALPHA)
    )
    equivalence = float(inference.equivalence_p(sample, delta))
    deviation = float(np.std(sample, ddof=1)) if n > 1 else float("nan")
    return {
        "num_seeds": n,
        "difference_points": mean,
        "low_points": low,
        "high_points": high,
        "flip_low_points": flip_low,
        "flip_high_points": flip_high,
        "sd_points": deviation,
        "p": float(inference.sign_flip_p(sample)),
        "probability_better": float(inference.probability_superior(sample)),
        "equivalence_low_points": inner_low,
        "equivalence_high_points": inner_high,
        "equivalence_p": equivalence,
        "equivalent": equivalence < inference.ALPHA,
        "smallest_p": inference.smallest_p(n, num_tests),
        "detectable_points": inference.detectable_effect(deviation, n, num_tests) if n > 1 else float("inf"),
    }


def control_difference(trials: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """The negative control minus the baseline: the same loss under another name, seed by seed.

    On one-hot labels the KL divergence is cross-entropy, so retraining it with the baseline's winner must give the same
    numbers; any other difference is noise that the study did not mean to measure.

    Returns:
        ``arm, seed, metric, control, baseline, difference`` for each seed of the control; ``difference`` must be 0.
    """
    columns = ["arm", "seed", "metric", "control", "baseline", "difference"]
    control = trials[trials["phase"] == "control"].assign(phase="confirm")
    base = trials[(trials["phase"] == "confirm") & (trials["arm"] == baseline)]
    frames = []
    for metric in CONTROL_METRICS:
        expected = confirm_scores(base, metric).set_index("seed")["score"]
        frame = confirm_scores(control, metric).rename(columns={"score": "control"})
        frame = frame.assign(metric=metric, baseline=frame["seed"].map(expected).astype(float))
        frames.append(frame.assign(difference=frame["control"] - frame["baseline"])[columns])
    return pd.concat(frames, ignore_index=True)
