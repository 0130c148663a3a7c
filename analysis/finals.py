"""``final.json`` of the confirm runs to tidy frames: corruption curves and reliability bins.

A diverged run counts with chance accuracy where accuracies are compared. It has no confidence and no accuracy
to lose: there it is left out, and whoever shows the rest says how many are missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis import inference
from analysis.compare import POINTS
from analysis.end_measures import NOISE, chance_of, clean_accuracy, ended, has_diverged
from analysis.load import StudyRecord, numbers

Array = npt.NDArray[np.float64]

#: Digits kept of a difference: fractions that are equal may differ in the last bit, and would break ties at random.
DIGITS = 9


def final_runs(record: StudyRecord) -> pd.DataFrame:
    """The confirm run of each arm and seed that ended by itself; of two, as a resume may leave, the later with a score.

    Returns:
        ``arm, seed, run_id, diverged, accuracy, chance, area``: test accuracy, accuracy of guessing, and the area of
        the Gaussian noise curve, fractions, NaN where not on record.
    """
    runs = ended(record.trials, "confirm")
    diverged = has_diverged(runs)
    runs = runs[["arm", "run_id", "start"]].assign(
        seed=runs["seed"].astype(int),
        diverged=diverged,
        accuracy=numbers(runs, "test_accuracy"),
        # A diverged run ends with the accuracy of guessing.
        chance=numbers(runs, "val_accuracy").where(diverged).fillna(chance_of(record.protocol)),
        area=numbers(runs, "test_corruption_area"),
        counted=diverged | runs["run_id"].isin([run_id for run_id, final in record.finals.items() if final]),
    )
    last = runs.sort_values(["counted", "start"], kind="stable").drop_duplicates(["arm", "seed"], keep="last")
    last = last.sort_values(["arm", "seed"], ignore_index=True)
    return last[["arm", "seed", "run_id", "diverged", "accuracy", "chance", "area"]]


def corruption_points(record: StudyRecord) -> pd.DataFrame:
    """Accuracy under every corruption and severity, clean images included.

    Returns:
        ``arm, seed, corruption, severity, accuracy, diverged``: severity 0 is clean, on the images of the curves where
        the record tells; a diverged run stays at chance. A point that is not finite is left out.
    """
    columns = ["arm", "seed", "corruption", "severity", "accuracy", "diverged"]
    runs = final_runs(record)
    rows: list[tuple[str, int, str, float, float]] = []
    for run in runs[~runs["diverged"]].to_dict("records"):
        curves = _curves(record.finals.get(run["run_id"], {}))
        clean = run["accuracy"]
        if NOISE in curves and np.isfinite(run["area"]):
            clean = clean_accuracy(run["area"], curves[NOISE][0].tolist(), curves[NOISE][1])
        for name, (severities, accuracies) in curves.items():
            curve = zip([0.0, *severities.tolist()], [clean, *accuracies.tolist()], strict=True)
            rows += [(run["arm"], run["seed"], name, severity, accuracy) for severity, accuracy in curve]
    points = pd.DataFrame(rows, columns=columns[:-1])
    points = points[np.isfinite(points["accuracy"].astype(float))].assign(diverged=False)
    guessing = runs.loc[runs["diverged"], ["arm", "seed", "chance"]].rename(columns={"chance": "accuracy"})
    grid = points[["corruption", "severity"]].drop_duplicates()
    guessing = guessing.dropna().merge(grid, how="cross").assign(diverged=True)
    return pd.concat([points, guessing], ignore_index=True)[columns] if len(guessing) else points[columns]


def pool_curves(points: pd.DataFrame) -> pd.DataFrame:
    """Corruption curves, mean over seeds.

    Args:
        points: From :func:`corruption_points`.

    Returns:
        ``arm, corruption, severity, mean, low, high, num_seeds, num_diverged``: fractions with a 95% t interval, cut
        at [0, 1] as accuracies are.
    """
    rows = []
    for key, own in points.groupby(["arm", "corruption", "severity"], sort=False):
        mean, low, high = inference.t_interval(own["accuracy"].to_numpy(dtype=float))
        rows.append((*key, float(mean), *np.clip([low, high], 0, 1), len(own), int(own["diverged"].sum())))
    columns = ["arm", "corruption", "severity", "mean", "low", "high", "num_seeds", "num_diverged"]
    return pd.DataFrame(rows, columns=columns).sort_values(["arm", "corruption", "severity"], ignore_index=True)


def corruption_drops(points: pd.DataFrame) -> pd.DataFrame:
    """Accuracy lost under each corruption, averaged over its severities from 0 to the highest.

    As ``test_corruption_area``: the area between the clean accuracy and the curve, by the trapezoidal rule. A diverged
    run has nothing to lose and is left out: counted, it would lose least.

    Args:
        points: From :func:`corruption_points`.

    Returns:
        ``arm, seed, corruption, value`` in points.
    """
    keys = ["arm", "seed", "corruption"]
    curve = points[~points["diverged"].astype(bool)].sort_values([*keys, "severity"], ignore_index=True)
    groups = curve.groupby(keys)
    whole = groups["severity"].transform("first") == 0  # without clean images there is nothing to lose from
    drop = groups["accuracy"].transform("first") - curve["accuracy"]
    before = drop.groupby([curve[key] for key in keys]).shift()
    slices = (drop + before) / 2 * groups["severity"].diff()
    areas = curve[keys].assign(value=POINTS * slices, highest=curve["severity"])[whole]
    areas = areas.groupby(keys, as_index=False).agg(value=("value", "sum"), highest=("highest", "max"))
    areas = areas[areas["highest"] > 0]
    return areas.assign(value=areas["value"] / areas["highest"])[[*keys, "value"]].reset_index(drop=True)


def compare_values(values: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Each arm minus the baseline, seed by seed, in the unit of the values.

    Args:
        values: ``arm, seed, value``.
        baseline: The arm to subtract.

    Returns:
        ``arm, difference, low, high, p_holm, num_pairs`` for each other arm that shares a seed with it: mean, 95% t
        interval, sign-flip p under Holm's correction over these arms.
    """
    table = values.pivot_table(index="seed", columns="arm", values="value")
    others = [arm for arm in table.columns if arm != baseline and baseline in table]
    samples = {arm: (table[arm] - table[baseline]).dropna().to_numpy(dtype=float).round(DIGITS) for arm in others}
    samples = {arm: sample for arm, sample in samples.items() if len(sample)}
    corrected = inference.holm([float(inference.sign_flip_p(sample)) for sample in samples.values()])
    rows = [
        (arm, *(float(number) for number in inference.t_interval(sample)), p, len(sample))
        for (arm, sample), p in zip(samples.items(), corrected, strict=True)
    ]
    return pd.DataFrame(rows, columns=["arm", "difference", "low", "high", "p_holm", "num_pairs"])


def reliability_bins(record: StudyRecord) -> pd.DataFrame:
    """The reliability bins of each arm and seed, as recorded; empty bins are left out.

    A run whose bins are not all finite is left out whole: an overflow lands in the last bin with any confidence.

    Returns:
        ``arm, seed, low, high, count, confidence, accuracy``: the bin's bounds and its means, fractions.
    """
    columns = ["arm", "seed", "low", "high", "count", "confidence", "accuracy"]
    runs = final_runs(record)
    frames = []
    for arm, seed, run_id in runs.loc[~runs["diverged"], ["arm", "seed", "run_id"]].itertuples(index=False):
        bins = record.finals.get(run_id, {}).get("reliability")
        bins = bins if isinstance(bins, Mapping) else {}
        edges, counts, *means = (floats(bins.get(key)) for key in ("edges", "counts", "confidence", "accuracy"))
        if len(edges) != len(counts) + 1 or any(len(mean) != len(counts) for mean in means):
            continue
        if not np.isfinite([*counts, *means[0], *means[1]]).all() or counts.sum() <= 0:
            continue
        values = dict(zip(columns[2:], (edges[:-1], edges[1:], counts, *means), strict=True))
        frames.append(pd.DataFrame({"arm": arm, "seed": seed, **values})[counts > 0])
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def pool_bins(bins: pd.DataFrame) -> pd.DataFrame:
    """The bins of an arm's seeds as if they were one.

    Args:
        bins: From :func:`reliability_bins`.

    Returns:
        ``arm, low, high, count, confidence, accuracy``: means over all images of all seeds.
    """
    means = ["confidence", "accuracy"]
    sums = bins.assign(**{mean: bins[mean] * bins["count"] for mean in means})
    pooled = sums.groupby(["arm", "low", "high"], as_index=False)[["count", *means]].sum()
    return pooled.assign(**{mean: pooled[mean] / pooled["count"] for mean in means})


def calibration_scores(bins: pd.DataFrame) -> pd.DataFrame:
    """How far confidence and accuracy of each run lie apart.

    Args:
        bins: From :func:`reliability_bins`.

    Returns:
        ``arm, seed, ece, gap`` in points: the expected calibration error, and mean confidence minus accuracy, which is
        positive for a classifier that is too sure.

    References:
        Guo et al., ICML 2017, arXiv:1706.04599 (ECE).
    """
    share = POINTS * bins["count"] / bins.groupby(["arm", "seed"])["count"].transform("sum")
    apart = bins["confidence"] - bins["accuracy"]
    scores = bins[["arm", "seed"]].assign(ece=share * apart.abs(), gap=share * apart)
    return scores.groupby(["arm", "seed"], as_index=False)[["ece", "gap"]].sum()


def floats(values: object) -> Array:
    """What a record holds as an array of numbers; an empty one where it holds none."""
    try:
        return np.asarray(values if isinstance(values, list) else [], dtype=np.float64)
    except (TypeError, ValueError):  # rows of unequal lengths, or no numbers
        return np.empty(0)


def _curves(final: Mapping[str, Any]) -> dict[str, tuple[Array, Array]]:
    """Severities and accuracies of each corruption that has as many of the one as of the other."""
    recorded = final.get("corruptions")
    curves = {}
    for name, curve in recorded.items() if isinstance(recorded, Mapping) else ():
        own = curve if isinstance(curve, Mapping) else {}
        severities, accuracies = floats(own.get("severities")), floats(own.get("accuracy"))
        if severities.ndim == 1 and 0 < len(severities) == len(accuracies) and (severities > 0).all():
            curves[str(name)] = (severities, accuracies)
    return curves
