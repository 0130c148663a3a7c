"""Everything that a comparison of studies states, computed once: what its page, tables and text are made from."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analysis.across.changes import protocol_table, version_changes
from analysis.across.effects import effect_changes, pooled_effects, score_table
from analysis.across.ranks import Ranking, rank_arms
from analysis.across.sentence import verdict
from analysis.across.studies import Comparison


@dataclass(frozen=True, eq=False)
class Result:
    """A comparison and what follows from it.

    Args:
        comparison: The studies and the arms they share.
        scores: From ``score_table``.
        effect_changes: From ``effect_changes``.
        pooled: From ``pooled_effects``.
        ranking: From ``rank_arms``.
        protocols: From ``protocol_table``.
        versions: From ``version_changes``.
        verdict: A few sentences.
    """

    comparison: Comparison
    scores: pd.DataFrame
    effect_changes: pd.DataFrame
    pooled: pd.DataFrame
    ranking: Ranking | None
    protocols: pd.DataFrame
    versions: pd.DataFrame
    verdict: str


def conclude(comparison: Comparison) -> Result:
    """Compute everything that is stated of several studies."""
    scores = score_table(comparison)
    changes = effect_changes(comparison)
    ranking = rank_arms(scores, comparison)
    return Result(
        comparison=comparison,
        scores=scores,
        effect_changes=changes,
        pooled=pooled_effects(scores),
        ranking=ranking,
        protocols=protocol_table(comparison),
        versions=version_changes(comparison),
        verdict=verdict(comparison, scores, changes, ranking),
    )
