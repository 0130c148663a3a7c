"""Which classes the arms take for which: confusion counts of ``final.json`` to a tidy frame."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.compare import POINTS
from analysis.finals import final_runs, floats
from analysis.inference import MAX_EXACT, ROUNDING, t_interval
from analysis.load import StudyRecord

Array = npt.NDArray[np.float64]

#: Arm → seed → counts, shape ``(classes, classes)``; rows are true classes.
Confusions = Mapping[str, Mapping[int, Array]]
#: The sign flips of more seeds than :data:`analysis.inference.MAX_EXACT` are drawn: so many beside what was observed.
NUM_JOINT_FLIPS = 999
COLUMNS = ("arm", "true", "predicted", "percent", "num_seeds", "difference", "low", "high", "p", "num_pairs")


def confusion_counts(record: StudyRecord) -> Confusions:
    """The confusion counts of each arm and seed that has any; matrices of another size than most are left out."""
    runs = final_runs(record)
    found: list[tuple[str, int, Array]] = []
    for arm, seed, run_id in runs.loc[~runs["diverged"], ["arm", "seed", "run_id"]].itertuples(index=False):
        counts = floats(record.finals.get(run_id, {}).get("confusion"))
        if counts.size and counts.shape == (len(counts), len(counts)) and np.isfinite(counts).all():
            found.append((str(arm), int(seed), counts))
    sizes = [len(counts) for _, _, counts in found]
    usual = max(sorted(set(sizes)), key=sizes.count, default=0)
    matrices: dict[str, dict[int, Array]] = {}
    for arm, seed, counts in found:
        if len(counts) == usual:
            matrices.setdefault(arm, {})[seed] = counts
    return matrices


def confusion_cells(counts: Confusions, baseline: str) -> pd.DataFrame:
    """What share of each class an arm takes for each other, and how that differs from the baseline.

    Args:
        counts: From :func:`confusion_counts`.
        baseline: The arm to subtract.

    Returns:
        ``arm, true, predicted, percent, num_seeds, difference, low, high, p, num_pairs``. ``percent`` is of all images
        of the true class over the arm's seeds, NaN if it has none. ``difference`` is the mean over the seeds shared
        with the baseline, in points of the true class, with its 95% t interval. ``p`` is corrected for all confusions
        of all arms (:func:`joint_p`, times the arms compared); it is NaN on the diagonal, which holds no confusion. All
        of these are NaN where an arm is the baseline or shares no seed with it.
    """
    base = {seed: row_percent(matrix) for seed, matrix in counts.get(baseline, {}).items()}
    pairs = {
        arm: {seed: row_percent(matrix) - base[seed] for seed, matrix in own.items() if seed in base}
        for arm, own in counts.items()
        if arm != baseline
    }
    pairs = {arm: own for arm, own in pairs.items() if own}
    frames = []
    for arm, own in counts.items():
        total = np.sum(list(own.values()), axis=0)
        blank = np.full_like(total, np.nan)
        mean, low, high, p = blank, blank, blank, blank
        if arm in pairs:
            differences = np.stack(list(pairs[arm].values()))
            mean, low, high = t_interval(np.moveaxis(differences, 0, -1))
            diagonal = np.eye(len(total), dtype=bool)
            p = np.minimum(1, len(pairs) * joint_p(np.where(diagonal, np.nan, differences)))
        true, predicted = np.indices(total.shape)
        grids = {"true": true, "predicted": predicted, "percent": row_percent(total)}
        grids |= {"difference": mean, "low": low, "high": high, "p": p}
        columns = {name: grid.ravel() for name, grid in grids.items()}
        frames.append(
            pd.DataFrame({"arm": arm, **columns, "num_seeds": len(own), "num_pairs": len(pairs.get(arm, ()))})
        )
    return pd.concat(frames, ignore_index=True)[list(COLUMNS)] if frames else pd.DataFrame(columns=list(COLUMNS))


def joint_p(differences: Array) -> Array:
    """For each mean difference, how often chance makes the largest of all of them as large.

    The signs of whole seeds are flipped for all entries at once, and the largest mean is taken each time: the p are
    corrected for however many entries there are, and keep what the entries have in common.

    Args:
        differences: Paired differences, shape ``(seeds, ...)``; NaN is no entry.

    Returns:
        Two-sided p without the first axis: at least 2 / 2**seeds, NaN where an entry is none.

    References:
        Westfall & Young, Resampling-Based Multiple Testing, 1993, section 2.3 (single step).
    """
    missing = np.isnan(differences).any(axis=0)
    entries = np.where(missing, 0.0, differences)
    sums = np.abs(_signs(len(entries)) @ entries.reshape(len(entries), -1))
    largest = np.sort(sums.max(axis=1))
    smaller = np.searchsorted(largest, sums[0] * (1 - ROUNDING))
    return np.where(missing, np.nan, (1 - smaller / len(largest)).reshape(missing.shape))


def row_percent(counts: Array) -> Array:
    """Counts as percent of their true class; NaN in the row of a class without images."""
    totals = counts.sum(axis=1, keepdims=True)
    return np.where(totals > 0, POINTS * counts / np.where(totals > 0, totals, 1), np.nan)


def _signs(num_seeds: int) -> Array:
    """Sign flips of the seeds, shape ``(flips, seeds)``; the first flips none, the mirrored half is left out."""
    if num_seeds > MAX_EXACT:
        drawn = np.random.default_rng(0).choice((-1.0, 1.0), size=(NUM_JOINT_FLIPS, num_seeds))
        return np.vstack([np.ones(num_seeds), drawn])
    return np.array([(1.0, *rest) for rest in itertools.product((1.0, -1.0), repeat=num_seeds - 1)])
