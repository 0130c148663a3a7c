"""Frame to frame: what each look of a study that was extended found, and what several looks do to certainty.

A look is a confirmation. Its seeds are fresh, so its tests hold their level whatever earlier looks showed; that one of
several looks finds a difference that is none is likelier than that one of one does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.compare import arm_table, compare_to_baseline, mark_luck, twins_of
from analysis.earlier import Look, at_each_look, looks_of
from analysis.inference import ALPHA
from analysis.verdict import MAX_NAMED, count, delta_of

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
BETTER, WORSE, LUCK, EQUIVALENT, INCONCLUSIVE = "better", "worse", "within luck", "equivalent", "inconclusive"
#: What a look may find of an arm, in the words of a sentence.
FINDINGS = {
    BETTER: "better",
    WORSE: "worse",
    LUCK: "no more than the luck of a search",
    EQUIVALENT: "no difference larger than δ",
    INCONCLUSIVE: "no difference shown",
}
ARM_COLUMNS = ("arm", "baseline", "num_seeds", "num_diverged", "accuracy", "accuracy_low", "accuracy_high")
COMPARISON_COLUMNS = ("difference_points", "low_points", "high_points", "p", "p_holm")
LOOK_COLUMNS = (
    "look", "trials_per_arm", *ARM_COLUMNS, *COMPARISON_COLUMNS, "twin", "finding", "winner", "winner_changed",
)  # fmt: skip
#: A trial's seed stands in its configuration and is no choice.
SEED = "seed"


def measure_looks(trials: pd.DataFrame, protocol: Mapping[str, Any]) -> pd.DataFrame:
    """Every arm at every look, each look by itself and by the same tests as a study of one.

    Args:
        trials: A study's ``trials``, marked by :func:`analysis.earlier.mark_earlier`.
        protocol: Its ``study.json`` with its ``baseline``.

    Returns:
        One row per arm and look, best arm of the last look first: ``look`` from 1, ``trials_per_arm`` searched before
        it, the columns of ``arm_table`` and of ``compare_to_baseline`` (corrected over that look's arms), ``twin``,
        ``finding`` (a key of :data:`FINDINGS`, empty for the baseline and where nothing was compared), ``winner`` (its
        number), ``winner_changed`` (whether its configuration is another than at the look before; None where one of the
        two is not on record). Empty for a study of one look.
    """
    looks = looks_of(protocol)
    if len(looks) < 2:  # noqa: PLR2004 - what it found is the report
        return no_looks()
    baseline, delta = str(protocol["baseline"]), delta_of(protocol)
    twins = twins_of(baseline, protocol)
    frames = []
    for place, (look, own) in enumerate(at_each_look(trials, protocol)):
        compared = mark_luck(compare_to_baseline(own, baseline, delta), twins)
        compared["finding"] = pd.Series([_finding(row) for _, row in compared.iterrows()], dtype=object)
        frame = arm_table(own, protocol)[[*ARM_COLUMNS]].merge(
            compared[["arm", *COMPARISON_COLUMNS, "finding"]], on="arm", how="left"
        )
        before = looks[place - 1] if place else None
        frames.append(
            frame.assign(
                look=place + 1,
                trials_per_arm=look.trials_per_arm,
                twin=frame["arm"].isin(twins),
                finding=frame["finding"].fillna(""),
                winner=pd.array([(look.winners.get(arm) or {}).get("number") for arm in frame["arm"]], dtype="Int64"),
                winner_changed=pd.Series([_has_changed(before, look, arm) for arm in frame["arm"]], dtype=object),
            )
        )
    every = pd.concat(frames, ignore_index=True)[[*LOOK_COLUMNS]]
    order = {arm: place for place, arm in enumerate(dict.fromkeys([*frames[-1]["arm"], *every["arm"]]))}
    return every.sort_values(["arm", "look"], key=lambda own: own.map(order) if own.name == "arm" else own).reset_index(
        drop=True
    )


def no_looks() -> pd.DataFrame:
    """What :func:`measure_looks` returns of a study of one look."""
    return pd.DataFrame(columns=[*LOOK_COLUMNS])


def _finding(row: pd.Series[Any]) -> str:
    """One of :data:`FINDINGS`, by the rules of the verdict."""
    if row["p_holm"] < ALPHA:
        return LUCK if row["within_luck"] else BETTER if row["difference_points"] > 0 else WORSE
    return EQUIVALENT if row["equivalent"] else INCONCLUSIVE


def _has_changed(before: Look | None, look: Look, arm: str) -> bool | None:
    winners = [known.winners.get(arm) for known in (before, look) if known is not None]
    configs = [winner.get("config") for winner in winners if winner]
    if len(configs) < 2 or not all(configs):  # noqa: PLR2004 - two to tell apart
        return None
    first, second = ({key: value for key, value in config.items() if key != SEED} for config in configs if config)
    return first != second


def named(look: int) -> str:
    """``the second look``."""
    return f"the {ORDINALS[look - 1]} look" if look <= len(ORDINALS) else f"look {look}"


def title_of(looks: pd.DataFrame) -> str:
    """``Second look``: the last one."""
    return named(int(looks["look"].max())).removeprefix("the ").capitalize()


def disagreements(looks: pd.DataFrame) -> dict[str, str]:
    """The arms that one look finds better or worse and another does not, each with what the looks say.

    An arm that a look did not confirm was not judged by it; a twin of the baseline has nothing to be found.

    Args:
        looks: From :func:`measure_looks`.

    Returns:
        arm → ``better at the first look, no difference shown at the second look``.
    """
    judged = looks[(looks["finding"] != "") & ~looks["twin"].astype(bool)]
    found = {}
    for arm, own in judged.groupby("arm", sort=False):
        says = set(own["finding"])
        if len(says) > 1 and says & {BETTER, WORSE}:
            parts = [f"{FINDINGS[row['finding']]} at {named(row['look'])}" for row in own.to_dict("records")]
            found[str(arm)] = ", ".join(parts)
    return found


def say_look(looks: pd.DataFrame) -> str:
    """What a reader of the verdict alone must know of the looks: sentences with a blank in front, or nothing."""
    if looks.empty:
        return ""
    searched = looks.groupby("look")["trials_per_arm"].first()
    last = int(looks["look"].max())
    said = (
        f" This is {named(last)}: after {named(last - 1)} the search went on from {searched[last - 1]} to"
        f" {searched[last]} trials per arm."
    )
    if not looks.loc[looks["look"] == last, "num_seeds"].any():
        return f"{said} What earlier confirmations found is listed by look."
    arms = list(disagreements(looks))
    apart = count(len(arms), "arm") if len(arms) > MAX_NAMED else " and ".join(arms)
    return (
        f"{said} The answer is from its fresh seeds alone and not corrected for earlier looks."
        f"{f' The looks disagree on {apart}.' if arms else ''}"
    )


def look_remark(looks: pd.DataFrame) -> list[str]:
    """What to distrust since there was more than one look; nothing where there was not."""
    if looks.empty:
        return []
    number = int(looks["look"].max())
    remark = (
        f"{title_of(looks)}: intervals and p values are of its seeds alone and not corrected for earlier looks; with "
        f"{number} looks the chance that at least one is a false positive is up to {_chance(number)}."
    )
    return [remark]


def _chance(looks: int) -> str:
    """Bonferroni's bound on a false positive at any look, in percent."""
    return f"{min(1.0, looks * ALPHA):.0%}"


def look_remarks(looks: pd.DataFrame) -> list[str]:
    """What stands below the table of looks."""
    apart = [f"The looks disagree on {arm}: {said}." for arm, said in disagreements(looks).items()]
    tested = (
        "What one look shows and another does not may be chance or the doing of a new winner: nothing here tests the "
        "looks against each other."
    )
    number = int(looks["look"].max())
    extended = (
        f"Whether to extend the study could be decided after an earlier result was seen. Each look is tested at "
        f"{ALPHA:.0%}, so with {number} looks the chance that at least one of them is a false positive is up to "
        f"{_chance(number)}; all other intervals and p values are of the last look alone and not corrected for that."
    )
    return [
        extended,
        "Seeds are fresh at every look and never pooled; the test images are the same.",
        *apart,
        *([tested] if apart else []),
    ]


def look_facts(protocol: Mapping[str, Any]) -> str:
    """``first look: 30 trials per arm, 10 seeds (1 to 10); …``; empty for a study of one look."""
    looks = looks_of(protocol)
    facts = [
        f"{named(place).removeprefix('the ')}: {look.trials_per_arm} trials per arm, {count(len(look.seeds), 'seed')}"
        f"{f' ({min(look.seeds)} to {max(look.seeds)})' if look.seeds else ''}"
        for place, look in enumerate(looks, start=1)
    ]
    return "; ".join(facts) if len(facts) > 1 else ""
