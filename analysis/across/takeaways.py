"""What the parts of a comparison show, in a line each, and how to read its diagram."""

from __future__ import annotations

import math

import pandas as pd

from analysis.across.effects import MIN_DATASETS
from analysis.across.ranks import Ranking
from analysis.across.result import Result
from analysis.across.sentence import named, places
from analysis.inference import ALPHA

#: A p below this is the same to every reader.
LEAST_SHOWN = 1e-4


def say_forest(result: Result) -> str:
    """How many of the page's comparisons find a difference, and what the means over datasets are good for."""
    judged = result.scores[result.scores["outcome"].notna() & ~result.scores["twin"]]
    if judged.empty:
        return "No two of the arms shared can be compared."
    found = int((judged["p_page"] < ALPHA).sum())
    equal = int(judged["equivalent"].astype(bool).sum())
    said = (
        f"{found} of {len(judged)} comparisons find a difference after one correction for all of them (filled), "
        f"{equal} show that it lies within their study's ±δ."
    )
    if len(result.pooled):
        return f"{said} {pooled_sentence(result.pooled)}{_no_one_effect(result)}"
    return f"{said} No mean over datasets is shown: {_why_no_mean(result)}."


def _no_one_effect(result: Result) -> str:
    """The arms whose mean is of effects that are shown to differ."""
    differ = result.effect_changes.loc[result.effect_changes["p_holm"] < ALPHA, "arm"]
    arms = [str(arm) for arm in differ if arm in set(result.pooled["arm"])]
    return f" Effects that differ have no mean worth quoting: read {named(arms)} study by study." if arms else ""


def _why_no_mean(result: Result) -> str:
    number = len(result.comparison.datasets)
    if number < MIN_DATASETS:
        return f"that takes {MIN_DATASETS} datasets, and these studies have {number}"
    return "in each arm a study lacks the spread to weigh it by"


def pooled_sentence(pooled: pd.DataFrame) -> str:
    """What the means over datasets are, and how far the datasets differ."""
    most = pooled.iloc[int(pooled["i2"].argmax())]
    return (
        f"Diamonds: random-effects mean over {int(pooled['num_datasets'].max())} datasets; up to {most['i2']:.0%} of "
        f"the variance is between datasets ({most['arm']}, τ = {math.sqrt(most['tau2']):.2f} points)."
    )


def say_ranking(result: Result) -> str:
    """What the ranks show, and what so few datasets could have shown."""
    ranking = result.ranking
    if ranking is None:
        return "One arm has no rank."
    n, k = ranking.num_datasets, len(ranking.ranks)
    if n == 1:
        return (
            f"All studies draw on {result.comparison.datasets[0]}: one dataset gives one order and no test, since its "
            "studies and seeds repeat what it says."
        )
    test = f"Friedman test over {n} datasets: p = {ranking.p:.2g}, Kendall's W = {ranking.agreement:.2f}."
    if ranking.smallest_p >= ALPHA:
        return (
            f"{test} It could not have been otherwise: even one and the same order of {k} arms on all {n} datasets "
            f"gives p = {ranking.smallest_p:.2g}; it takes {ranking.num_for_any} datasets."
        )
    smallest = f"{ranking.smallest_p:.2g}" if ranking.smallest_p >= LEAST_SHOWN else f"below {LEAST_SHOWN:g}"
    floor = f" The smallest p that {n} datasets can give is {smallest}."
    return f"{test}{floor} {_ends(ranking, k)}"


def _ends(ranking: Ranking, k: int) -> str:
    """Whether the first arm can be told from the last, and what it would take."""
    n = ranking.num_datasets
    first, last = ranking.ranks["arm"].iloc[0], ranking.ranks["arm"].iloc[-1]
    if (0, k - 1) not in ranking.bars:
        return f"{first} and {last} are told apart (Nemenyi, critical difference {ranking.critical_difference:.2f})."
    if not ranking.num_for_ends:
        return "All mean ranks are equal."
    if ranking.num_for_ends <= n:
        return "No pair is looked at where the ranks as a whole are not shown to agree."
    return (
        f"No two arms are told apart: Nemenyi's critical difference is {ranking.critical_difference:.2f} ranks; with "
        f"these mean ranks it would take {ranking.num_for_ends} datasets to tell {first} from {last}."
    )


def caption_ranking(result: Result) -> str:
    """How to read the diagram."""
    twins = result.comparison.twins
    left = f" Not ranked: {', '.join(twins)}, the baseline under another name." if twins else ""
    return (
        f"Mean rank over datasets, 1 is best, from {places(result.comparison)}; a bar joins arms that Nemenyi's test "
        "at 5% does not tell apart (Demšar 2006), all of them where the Friedman test, by permutation, finds nothing. "
        f"A pair's place depends on the other arms: the forest compares each arm by itself.{left}"
    )
