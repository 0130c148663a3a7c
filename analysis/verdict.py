"""One sentence that says no more than the record shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.compare import luck_of_the_search
from analysis.inference import ALPHA, smallest_p
from search_spaces.reported import FAIR

#: Up to this many arms are named in a sentence.
MAX_NAMED = 3


def verdict(comparisons: pd.DataFrame, table: pd.DataFrame, protocol: Mapping[str, Any]) -> str:
    """The answer to the study's question, or why there is none.

    Args:
        comparisons: From ``compare_to_baseline``, marked by ``mark_luck``.
        table: From ``arm_table``.
        protocol: ``study.json``.
    """
    confirmed = table[table["num_seeds"] > 0]
    baseline = str(protocol.get("baseline") or "")
    missing = _why_nothing_to_compare(confirmed, comparisons, baseline)
    if missing:
        return missing
    pairs = int(comparisons["num_seeds"].max())
    if comparisons["smallest_p"].min() >= ALPHA:
        return _too_few_seeds(comparisons, baseline, pairs)
    twins = comparisons[comparisons["twin"].astype(bool)]
    judged = comparisons.drop(index=twins.index)
    luck = luck_of_the_search(comparisons)
    answer = (
        _answer(judged, baseline, protocol, luck)
        if len(judged)
        else f"No other function than {baseline} was confirmed."
    )
    caution = _luck(twins, judged, baseline, delta_of(protocol))
    return f"{answer}{caution}{_diverged(comparisons)}{_beside(comparisons, protocol)}"


def differs_beside(protocol: Mapping[str, Any]) -> dict[str, list[str]]:
    """What a reported study's arms differ in from the baseline beside the factor: arm → keys, only where there are any.

    A report sets each arm's values as its own contrast needs them, so that one baseline is no fair rival of all. The
    learning rate counts where it was not tuned. Empty for a tuned space.
    """
    if "report" not in protocol:
        return {}
    fixed = {str(arm["name"]): dict(arm.get("fixed") or {}) for arm in protocol.get("arms", [])}
    base = fixed.get(str(protocol.get("baseline")), {})
    factor = str(protocol.get("factor"))
    if factor not in base:
        return {}
    tuned = {"optimizer.learning_rate"} if protocol.get("regime") == FAIR else set()
    found = {}
    for arm, own in fixed.items():
        keys = [key for key in own.keys() | base.keys() if own.get(key) != base.get(key)]
        found[arm] = sorted(key for key in keys if key.partition(".")[0] != factor and key not in tuned)
    return {arm: keys for arm, keys in found.items() if keys}


def _beside(comparisons: pd.DataFrame, protocol: Mapping[str, Any]) -> str:
    beside = {arm: keys for arm, keys in differs_beside(protocol).items() if arm in set(comparisons["arm"])}
    if not beside:
        return ""
    keys = sorted({key for keys in beside.values() for key in keys})
    return (
        f" {len(beside)} of {count(len(comparisons), 'arm')} {verb(len(beside), 'differ')} from"
        f" {protocol.get('baseline')} in more than the {protocol.get('factor')} ({', '.join(keys)}), so what is said"
        " here is not the report's own contrast: that stands in the table of claims."
    )


def _answer(comparisons: pd.DataFrame, baseline: str, protocol: Mapping[str, Any], luck: float) -> str:
    significant = comparisons[comparisons["p_holm"] < ALPHA]
    within = significant[significant["within_luck"].astype(bool)]
    beyond = significant.drop(index=within.index)
    better = beyond[beyond["difference_points"] > 0]
    worse = beyond[beyond["difference_points"] < 0]
    rest = comparisons.drop(index=significant.index)
    others = f"{_others(worse, rest, protocol)}{_within_luck(within, luck)}"
    if len(better):
        return f"{_winner(better, baseline, protocol)}{others}"
    if len(worse):
        return f"No arm beats {baseline}.{others}"
    if len(within):
        return f"No arm differs from {baseline} by more than the luck of a search can do.{others}"
    return _no_difference(comparisons, baseline, protocol)


def _within_luck(rows: pd.DataFrame, luck: float) -> str:
    if rows.empty:
        return ""
    sizes = " and ".join(dict.fromkeys(f"{value:+.2f}" for value in rows["difference_points"].iloc[[0, -1]]))
    return (
        f" {_names(rows)} {verb(len(rows), 'differ')} over seeds ({sizes}), but by no more than the {luck:.2f} points"
        " that luck of the search set one function apart."
    )


def _why_nothing_to_compare(confirmed: pd.DataFrame, comparisons: pd.DataFrame, baseline: str) -> str:
    if confirmed.empty:
        return "No verdict yet: no confirm run is on record, and the scores of a search are not results."
    best = confirmed.iloc[0]
    score = f"{best['arm']}, test accuracy {best['accuracy']:.2%}"
    if not np.isnan(best["accuracy_low"]):
        score += f" [{best['accuracy_low']:.2%}, {best['accuracy_high']:.2%}]"
    if len(confirmed) == 1:
        return f"No comparison: only one arm was confirmed ({score}, {seeds(best['num_seeds'])})."
    if baseline not in set(confirmed["arm"]):
        name = f"the baseline {baseline}" if baseline else "a baseline"
        return f"No comparison: {name} has no confirm run on record; highest mean: {score}, {seeds(best['num_seeds'])}."
    if comparisons.empty:
        return f"No comparison: no arm shares a seed with the baseline {baseline}; highest mean: {score}."
    return ""


def _too_few_seeds(comparisons: pd.DataFrame, baseline: str, pairs: int) -> str:
    others = comparisons[~comparisons["twin"].astype(bool)]
    shown = comparisons if others.empty else others  # a twin differs by luck alone
    largest = shown.iloc[int(shown["difference_points"].abs().argmax())]
    floor = float(comparisons["smallest_p"].min())
    needed = next(n for n in range(2, 64) if smallest_p(n, len(comparisons)) < ALPHA)
    return (
        f"Inconclusive: with {seeds(pairs)} and {count(len(comparisons), 'comparison')} no test can reach p < {ALPHA} "
        f"(the smallest possible is {floor:.2g}; {seeds(needed)} would do); the largest difference seen is "
        f"{largest['arm']}, {difference(largest)} points against {baseline}."
    )


def _winner(better: pd.DataFrame, baseline: str, protocol: Mapping[str, Any]) -> str:
    best = better.iloc[0]
    delta = delta_of(protocol)
    small = f", though surely by less than δ = {delta:g}" if best["equivalent"] else ""
    also = f" {_names(better.iloc[1:])} also {verb(len(better) - 1, 'beat')} it." if len(better) > 1 else ""
    return (
        f"{best['arm']} beats {baseline} by {difference(best, sign=False)} points of test accuracy "
        f"(Holm p = {best['p_holm']:.2g}, {seeds(best['num_seeds'])}){small}.{also}"
    )


def _others(worse: pd.DataFrame, rest: pd.DataFrame, protocol: Mapping[str, Any]) -> str:
    parts = []
    if len(worse):
        last = worse.iloc[-1]
        by = "by" if len(worse) == 1 else f"{last['arm']} most, by"
        parts.append(f"{_names(worse)} {verb(len(worse), 'is')} worse, {by} {difference(last, flip=True)} points.")
    equivalent = rest[rest["equivalent"].astype(bool)]
    unclear = rest[~rest["equivalent"].astype(bool)]
    if len(equivalent):
        parts.append(f"{_names(equivalent)}: no difference larger than δ = {delta_of(protocol):g} points.")
    if len(unclear):
        parts.append(f"{_names(unclear)}: inconclusive, the study could have seen {detectable(unclear)}.")
    return " " + " ".join(parts) if parts else ""


def _luck(twins: pd.DataFrame, judged: pd.DataFrame, baseline: str, delta: float) -> str:
    """What a twin's own search made of the same function: the part of any difference that the intervals leave out."""
    equal = bool(judged["equivalent"].astype(bool).any())
    only = ", and what lies within δ does so for these winners only"
    return "".join(
        f" {row['arm']} is {baseline} under another name; searched on its own, it came out {difference(row)} points"
        " apart: so much can be luck of the search"
        f"{only if equal and abs(row['difference_points']) > delta else ''}."
        for _, row in twins.iterrows()
    )


def _diverged(comparisons: pd.DataFrame) -> str:
    rows = comparisons[comparisons["num_diverged"] > 0]
    return f" Seeds that diverged count with chance accuracy ({_names(rows)})." if len(rows) else ""


def _no_difference(comparisons: pd.DataFrame, baseline: str, protocol: Mapping[str, Any]) -> str:
    delta = delta_of(protocol)
    equivalent = comparisons["equivalent"].astype(bool)
    total = len(comparisons)
    pairs = seeds(comparisons["num_seeds"].max())
    if equivalent.all():
        arms = f"all {total} arms lie" if total > 1 else f"{comparisons.iloc[0]['arm']} lies"
        return f"No difference larger than δ = {delta:g} points was found: {arms} within it of {baseline} ({pairs})."
    unclear = comparisons[~equivalent]
    shown = (
        f" {_names(comparisons[equivalent])} {verb(int(equivalent.sum()), 'is')} within δ = {delta:g}."
        if equivalent.any()
        else ""
    )
    return (
        f"Inconclusive: no arm differs from {baseline} beyond chance ({pairs}), but the study could have seen "
        f"{detectable(unclear)}.{shown}"
    )


def detectable(comparisons: pd.DataFrame) -> str:
    """The smallest effect that every one of these comparisons would have found with 80% probability."""
    effect = float(comparisons["detectable_points"].max())
    return f"only effects of at least {effect:.2f} points" if np.isfinite(effect) else "no effect of any size"


def difference(row: pd.Series[Any], *, sign: bool = True, flip: bool = False) -> str:
    """``+0.62 [+0.30, +0.94]``: a difference in points with its 95% interval; ``flip`` states a loss as positive."""
    mean, low, high = (float(row[key]) for key in ("difference_points", "low_points", "high_points"))
    if flip:
        mean, low, high = -mean, -high, -low
    form = "+.2f" if sign and not flip else ".2f"
    interval = f" [{low:{form}}, {high:{form}}]" if np.isfinite(low) else ""
    return f"{mean:{form}}{interval}"


def delta_of(protocol: Mapping[str, Any]) -> float:
    """The largest difference that does not matter, in points; 1 where the protocol is silent."""
    return float(protocol.get("delta") or 1.0)


def seeds(number: float) -> str:
    """``1 seed``, ``10 seeds``."""
    return count(int(number), "seed")


def count(number: int, noun: str) -> str:
    """A number with its noun, in the plural where it must be."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def verb(number: int, word: str) -> str:
    """A verb, as of many, in the form that goes with a number: ``is`` is given as that."""
    if word == "is":
        return "is" if number == 1 else "are"
    return f"{word}s" if number == 1 else word


def _names(rows: pd.DataFrame) -> str:
    names = [str(name) for name in rows["arm"]]
    if len(names) > MAX_NAMED:
        return f"{len(names)} arms"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
