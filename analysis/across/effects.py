"""Each arm against the baseline, study by study, and over the datasets where there are enough of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import special
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.oneway import anova_oneway

from analysis.across.studies import Compared, Comparison
from analysis.compare import POINTS, compare_to_baseline, mark_luck, paired_differences
from analysis.family import page_p
from analysis.inference import ALPHA, ROUNDING, Array, holm

BETTER, WORSE, EQUAL, UNCLEAR = "better", "worse", "within δ", "inconclusive"
#: Below three datasets a variance between datasets is a guess.
MIN_DATASETS = 3
SCORE_COLUMNS = (
    "study", "dataset", "setting", "arm", "baseline", "twin", "num_seeds", "accuracy", "accuracy_low", "accuracy_high",
    "rank", "num_diverged",
)  # fmt: skip
EFFECT_COLUMNS = (
    "difference_points", "low_points", "high_points", "sd_points", "num_pairs", "p", "p_page", "equivalent", "delta",
    "outcome",
)  # fmt: skip


def score_table(comparison: Comparison) -> pd.DataFrame:
    """What each arm scored in each study, one row each, in the order of studies and arms.

    Returns:
        The columns of ``SCORE_COLUMNS``: accuracies are fractions with a 95% t interval, the rank is among the arms
        shared, 1 for the highest mean; then those of ``EFFECT_COLUMNS``, NaN or empty for the baseline: the paired
        difference to it in points, ``p`` of the sign-flip test, ``p_page`` corrected for every comparison of the page,
        and the outcome.
    """
    frames = []
    for study in comparison.studies:
        table = study.findings.table.set_index("arm").loc[list(comparison.arms)].reset_index()
        frame = table.assign(
            study=study.name,
            dataset=study.dataset,
            setting=study.setting,
            baseline=table["arm"] == comparison.baseline,
            twin=table["arm"].isin(comparison.twins),
            # Rounded, since equal shares of images reached over different sums differ in their last bit.
            rank=table["accuracy"].round(12).rank(ascending=False, method="average"),
        )
        frames.append(frame[list(SCORE_COLUMNS)])
    scores = pd.concat(frames, ignore_index=True)
    return scores.merge(_effects(comparison), on=["study", "arm"], how="left")[[*SCORE_COLUMNS, *EFFECT_COLUMNS]]


def _effects(comparison: Comparison) -> pd.DataFrame:
    frames = []
    for study in comparison.studies:
        trials = study.findings.record.trials
        own = trials[trials["arm"].isin(comparison.arms)]
        frame = mark_luck(compare_to_baseline(own, comparison.baseline, study.delta), comparison.twins)
        frames.append(frame.assign(study=study.name, delta=study.delta, num_pairs=frame["num_seeds"]))
    effects = pd.concat(frames, ignore_index=True)
    effects = effects.merge(_page_p(comparison), on=["study", "arm"], how="left")
    effects["equivalent"] = effects["equivalent"].astype(bool)
    effects["outcome"] = [
        outcome(row["difference_points"], row["p_page"], equivalent=row["equivalent"], lucky=row["within_luck"])
        for row in effects.to_dict("records")
    ]
    return effects[["study", "arm", *EFFECT_COLUMNS]]


def outcome(difference: float, p: float, *, equivalent: bool, lucky: bool = False) -> str:
    """Better or worse where the corrected p is below 0.05, else within δ where that is shown, else inconclusive.

    A difference that luck of the study's own search may explain is inconclusive, whatever its p.
    """
    if p < ALPHA:
        if lucky:
            return UNCLEAR
        return BETTER if difference > 0 else WORSE
    return EQUAL if equivalent else UNCLEAR


def _page_p(comparison: Comparison) -> pd.DataFrame:
    """Corrected p of every comparison that asks something: a twin of the baseline asks nothing."""
    samples = []
    for study in comparison.studies:
        wide = differences(study, comparison)
        samples.append(wide.loc[[arm for arm in wide.index if arm not in comparison.twins]])
    corrected = page_p([sample.to_numpy(dtype=float) for sample in samples])
    frames = [
        pd.DataFrame({"study": study.name, "arm": sample.index, "p_page": p})
        for study, sample, p in zip(comparison.studies, samples, corrected, strict=True)
    ]
    return pd.concat(frames, ignore_index=True)


def differences(study: Compared, comparison: Comparison) -> pd.DataFrame:
    """Paired differences to the baseline in points: a row per arm shared, a column per seed, NaN without a pair."""
    trials = study.findings.record.trials
    pairs = paired_differences(trials[trials["arm"].isin(comparison.arms)], comparison.baseline)
    pairs = pairs.dropna(subset=["difference"])
    points = (pairs["difference"].astype(float) * POINTS).round(9)
    wide = pairs.assign(points=points).pivot_table(index="arm", columns="seed", values="points")
    return wide.reindex([arm for arm in comparison.arms if arm in wide.index])


def effect_changes(comparison: Comparison) -> pd.DataFrame:
    """Whether an arm's difference to the baseline is the same in every study.

    Welch's analysis of variance over the studies' paired differences; with two studies it is Welch's t test. Studies
    that share data and seeds vary together, which makes it find less, not more.

    Returns:
        ``arm, smallest, largest`` (points), ``p``, ``p_holm`` over the arms; p is NaN where a study has fewer than two
        pairs or no spread.

    References:
        Welch, Biometrika, 1951.
    """
    tables = [differences(study, comparison) for study in comparison.studies]
    rows = []
    for arm in comparison.arms:
        if arm == comparison.baseline or arm in comparison.twins or any(arm not in table.index for table in tables):
            continue
        samples = [table.loc[arm].dropna().to_numpy(dtype=float) for table in tables]
        means = [float(sample.mean()) for sample in samples]
        rows.append({"arm": arm, "smallest": min(means), "largest": max(means), "p": welch_p(samples)})
    frame = pd.DataFrame(rows, columns=["arm", "smallest", "largest", "p"])
    known = frame["p"].notna()
    frame["p_holm"] = np.nan
    frame.loc[known, "p_holm"] = holm(frame.loc[known, "p"].to_numpy(dtype=float))
    return frame


def welch_p(samples: Sequence[Array]) -> float:
    """Test that all means are equal, variances free: p, NaN where a sample has fewer than two values or no spread."""
    if any(len(sample) < 2 or np.std(sample) <= ROUNDING for sample in samples):  # noqa: PLR2004 - one has no spread
        return float("nan")
    return float(anova_oneway(list(samples), use_var="unequal").pvalue)


def pooled_effects(scores: pd.DataFrame) -> pd.DataFrame:
    """A random-effects mean per arm over datasets, where there are at least three.

    Args:
        scores: From :func:`score_table`.

    Returns:
        One row per arm and as in :func:`random_effects`; ``arm`` first. Studies of one dataset make one effect, the
        mean of theirs, with the standard error as if they were one sample. An arm with an effect that has no spread
        is left out: its weight would be infinite.
    """
    rows = []
    compared = scores[~scores["baseline"] & ~scores["twin"] & scores["difference_points"].notna()]
    for arm, own in compared.groupby("arm", sort=False):
        errors = own["sd_points"] / np.sqrt(own["num_pairs"])
        by_dataset = own.assign(error=errors).groupby("dataset", sort=False)[["difference_points", "error"]]
        means = by_dataset.mean().to_numpy(dtype=float)
        if own["dataset"].nunique() < max(MIN_DATASETS, scores["dataset"].nunique()):
            continue
        if np.isfinite(errors).all() and (means[:, 1] > ROUNDING).all():
            rows.append({"arm": arm, **random_effects(means[:, 0], means[:, 1] ** 2)})
    columns = ["arm", "num_datasets", "mean", "low", "high", "tau2", "i2", "next_low", "next_high"]
    return pd.DataFrame(rows, columns=columns)


def random_effects(effects: Array, variances: Array) -> dict[str, Any]:
    """The mean effect over datasets of which these are a sample, after Paule and Mandel.

    The interval takes t with k - 1 degrees of freedom in place of the normal quantile, whose interval covers far too
    seldom with so few datasets (IntHout, Ioannidis & Borm, 2014); it never gets narrower where the effects happen to
    agree, as Hartung and Knapp's does.

    Args:
        effects: One a dataset, three or more.
        variances: Of these effects, above zero.

    Returns:
        ``num_datasets, mean``, the 95% interval ``low, high`` of the mean, ``tau2`` (variance between datasets),
        ``i2`` (share of the variance that is between datasets, in [0, 1]) and ``next_low, next_high``, between which
        the effect on one further dataset lies (Higgins, Thompson & Spiegelhalter, 2009). All in the unit of the
        effects, squared for ``tau2``.
    """
    k = len(effects)
    result = combine_effects(np.asarray(effects), np.asarray(variances), method_re="iterated", use_t=True)
    mean, tau2 = float(result.mean_effect_re), float(result.tau2)
    _, (low, high), *_ = result.conf_int(alpha=ALPHA)
    q = float(result.q)
    reach = float(special.stdtrit(k - 2, 1 - ALPHA / 2)) * np.sqrt(tau2 + float(result.sd_eff_w_re) ** 2)
    return {
        "num_datasets": k,
        "mean": mean,
        "low": float(low),
        "high": float(high),
        "tau2": tau2,
        "i2": max(0.0, 1 - (k - 1) / q) if q > ROUNDING else 0.0,
        "next_low": mean - reach,
        "next_high": mean + reach,
    }
