"""The answer in a few sentences that say no more than the studies show."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.across.effects import BETTER, EQUAL, UNCLEAR, WORSE
from analysis.across.ranks import Ranking
from analysis.across.studies import Comparison
from analysis.inference import ALPHA, smallest_p
from analysis.verdict import MAX_NAMED, count, difference

MAX_PLACES = 4


def verdict(comparison: Comparison, scores: pd.DataFrame, changes: pd.DataFrame, ranking: Ranking | None) -> str:
    """What the arms do in how many of the studies, whether that is the same in all, and what it says of others.

    Args:
        comparison: The studies.
        scores: From ``score_table``.
        changes: From ``effect_changes``.
        ranking: From ``rank_arms``.
    """
    judged = scores[scores["outcome"].notna() & ~scores["twin"]]
    if judged.empty:
        return _nothing_to_compare(comparison, scores)
    pairs = int(judged["num_pairs"].max())
    if smallest_p(pairs) >= ALPHA:
        return (
            f"Inconclusive: with {count(pairs, 'seed')} a study no test can reach p < {ALPHA:g}; it takes 6. "
            f"{order_sentence(comparison, scores)}"
        )
    parts = [
        *_outcomes(judged, comparison),
        _luck(scores, comparison),
        _change_sentence(changes, comparison),
        order_sentence(comparison, scores),
        _reach(comparison, ranking),
    ]
    return " ".join(part for part in parts if part)


def places(comparison: Comparison, number: int | None = None) -> str:
    """``3 datasets``; ``3 studies`` where some share a dataset."""
    total = len(comparison.studies) if number is None else number
    return count(total, "dataset") if _each_its_own(comparison) else f"{total} {'study' if total == 1 else 'studies'}"


def _each_its_own(comparison: Comparison) -> bool:
    return len(comparison.datasets) == len(comparison.studies)


def _nothing_to_compare(comparison: Comparison, scores: pd.DataFrame) -> str:
    others = [arm for arm in comparison.arms if arm != comparison.baseline]
    if not others:
        return f"No comparison of arms: {comparison.baseline} is the only one that all studies confirmed."
    if set(others) <= set(comparison.twins):
        return f"No comparison: {', '.join(others)} is {comparison.baseline} under another name."
    return f"No comparison: no arm shares a seed with {comparison.baseline}. {order_sentence(comparison, scores)}"


def _outcomes(judged: pd.DataFrame, comparison: Comparison) -> list[str]:
    """One sentence for the arms that win somewhere, one for those that only lose, one each for the rest."""
    total, base = len(comparison.studies), comparison.baseline
    by_arm = {str(arm): own for arm, own in judged.groupby("arm", sort=False)}
    wins = {arm: int((own["outcome"] == BETTER).sum()) for arm, own in by_arm.items()}
    losses = {arm: int((own["outcome"] == WORSE).sum()) for arm, own in by_arm.items()}
    winners = sorted(
        (arm for arm in by_arm if wins[arm]), key=lambda arm: (losses[arm] - wins[arm], -_mean(by_arm[arm]))
    )
    losers = sorted((arm for arm in by_arm if losses[arm] and not wins[arm]), key=lambda arm: (-losses[arm], arm))
    rest = [arm for arm in by_arm if not wins[arm] and not losses[arm]]
    equal = [arm for arm in rest if len(by_arm[arm]) == total and (by_arm[arm]["outcome"] == EQUAL).all()]
    unclear = [arm for arm in rest if arm not in equal]
    parts = [_winner(by_arm[arm], base, comparison) for arm in winners[:MAX_NAMED]]
    if len(winners) > MAX_NAMED:
        parts.append(f"{len(winners) - MAX_NAMED} more beat it somewhere.")
    if not winners:
        parts.append(f"No arm is shown to beat {base} on any of {places(comparison)}.")
    if losers:
        said = [f"{arm} on {losses[arm]} of {total}" for arm in losers[:MAX_NAMED]]
        more = f" and {len(losers) - MAX_NAMED} more arms on at least one" if len(losers) > MAX_NAMED else ""
        parts.append(f"Worse: {', '.join(said)}{more}.")
    if equal:
        parts.append(f"{named(equal)}: no difference larger than δ on any of {total}.")
    if unclear:
        parts.append(f"{named(unclear)}: inconclusive on at least one, no difference shown on any.")
    return parts


def _mean(own: pd.DataFrame) -> float:
    return float(own["difference_points"].mean())


def _winner(own: pd.DataFrame, baseline: str, comparison: Comparison) -> str:
    """Say where an arm wins, by how much, and what it does elsewhere."""
    name_of = dict(zip((study.name for study in comparison.studies), place_names(comparison), strict=True))
    better = own[own["outcome"] == BETTER]
    # Equivalent as well: surely better, and surely by less than what matters.
    small = {True: ", though by less than δ", False: ""}
    won = [
        f"{name_of[row['study']]} by {difference(pd.Series(row), sign=False)} points{small[bool(row['equivalent'])]}"
        for row in better.to_dict("records")
    ]
    more = f", and {len(won) - MAX_PLACES} more" if len(won) > MAX_PLACES else ""
    others = []
    for kind, word in ((WORSE, "worse"), (EQUAL, "no difference larger than δ"), (UNCLEAR, "inconclusive")):
        where = [name_of[study] for study in own.loc[own["outcome"] == kind, "study"]]
        if where:
            others.append(f"on {named(where)}: {word}")
    tail = f"; {'; '.join(others)}" if others else ""
    head = f"{own['arm'].iloc[0]} beats {baseline} on {len(better)} of {places(comparison)}"
    return f"{head} ({'; '.join(won[:MAX_PLACES])}{more}){tail}."


def place_names(comparison: Comparison) -> list[str]:
    """What each study is called in a sentence: its dataset where that is its own, else its name."""
    return [study.setting if _each_its_own(comparison) else study.name for study in comparison.studies]


def _luck(scores: pd.DataFrame, comparison: Comparison) -> str:
    """What a twin's own search made of the same function: the part of any difference that the intervals leave out."""
    name_of = dict(zip((study.name for study in comparison.studies), place_names(comparison), strict=True))
    twins = scores[scores["twin"] & scores["difference_points"].notna()]
    if twins.empty:
        return ""
    row = twins.iloc[int(twins["difference_points"].abs().to_numpy().argmax())]
    return (
        f"{row['arm']} is {comparison.baseline} under another name; searched on its own, it came out up to "
        f"{difference(row)} points apart ({name_of[row['study']]}): so much can be luck of the search."
    )


def _change_sentence(changes: pd.DataFrame, comparison: Comparison) -> str:
    tested = changes[changes["p_holm"].notna()]
    if tested.empty:
        return ""
    where = "datasets" if _each_its_own(comparison) else "studies"
    found = tested[tested["p_holm"] < ALPHA]
    if found.empty:
        return f"No arm's effect is shown to differ between {where}."
    return f"The effect is not the same in all {where} for {named(list(found['arm']))} (Welch, Holm)."


def order_sentence(comparison: Comparison, scores: pd.DataFrame) -> str:
    """Whether the means stand in one order, and where another arm leads."""
    if len(comparison.arms) - len(comparison.twins) < 2:  # noqa: PLR2004 - one arm has no order
        return ""
    ranked = scores[~scores["twin"]]
    orders = {
        study: tuple(own.sort_values(["rank", "arm"])["arm"]) for study, own in ranked.groupby("study", sort=False)
    }
    ordered = [orders[study.name] for study in comparison.studies]
    if len(set(ordered)) == 1:
        return f"By their means the arms stand in the same order on all {places(comparison)}, {ordered[0][0]} first."
    leaders: dict[str, list[str]] = {}
    for place, order in zip(place_names(comparison), ordered, strict=True):
        leaders.setdefault(order[0], []).append(place)
    if len(leaders) == 1:
        return f"By the means {ordered[0][0]} is first on all {places(comparison)}; behind it the order differs."
    said = [f"{arm} on {named(where)}" for arm, where in leaders.items()]
    return f"The highest mean is not always the same arm's: {'; '.join(said)}."


def _reach(comparison: Comparison, ranking: Ranking | None) -> str:
    if ranking is None:
        return ""
    n = ranking.num_datasets
    if n == 1:
        return f"All studies draw on {comparison.datasets[0]}: nothing is known of other datasets."
    if ranking.p < ALPHA:
        return f"The ranks agree over {n} datasets more than chance would have it (Friedman p = {ranking.p:.2g})."
    if ranking.smallest_p >= ALPHA:
        return (
            f"{n} datasets are too few for any ranking of {len(ranking.ranks)} arms to stand out (Friedman p = "
            f"{ranking.p:.2g}; it takes {ranking.num_for_any})."
        )
    return f"The ranks over {n} datasets are not shown to agree more than by chance (Friedman p = {ranking.p:.2g})."


def named(names: Sequence[str]) -> str:
    """``a, b and c``; from the fourth name on only how many more."""
    if len(names) > MAX_NAMED:
        return f"{', '.join(names[:MAX_NAMED])} and {len(names) - MAX_NAMED} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
