"""What the report on a reported study has beside what every study's has: its claims, and both regimes."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analysis import regimes
from analysis.claims import render
from analysis.claims.evaluate import ClaimResult, evaluate_claims
from analysis.claims.evidence import measure
from analysis.load import StudyRecord
from search_spaces.reported import REGIMES


@dataclass(frozen=True, eq=False)
class ReportedPart:
    """A reported study's claims and arms.

    Args:
        claims: Every claim of its report, with what the study says of it.
        arms: From :func:`analysis.regimes.regime_table`.
        seeds: From :func:`analysis.regimes.seed_table`.
    """

    claims: list[ClaimResult]
    arms: pd.DataFrame
    seeds: pd.DataFrame

    @classmethod
    def of(cls, record: StudyRecord) -> ReportedPart:
        """Work it out from a record with the histories of :data:`analysis.measures.METRICS`.

        Raises:
            InputError: If the study is not a reported one.
        """
        study = measure(record)
        claims = evaluate_claims(study.scope.report, [study])
        return cls(claims, regimes.regime_table(study), regimes.seed_table(study))

    @property
    def answer(self) -> str:
        """What became of the claims, in one sentence; empty where there are none, or no arm was run."""
        run = [regime for regime in REGIMES if (self.arms[f"{regime}_seeds"] > 0).any()]
        return render.as_sentence(self.claims, run)

    @property
    def sections(self) -> list[str]:
        """Of the page."""
        return [render.claims_section(self.claims), regimes.regimes_section(self.arms)]

    @property
    def files(self) -> dict[str, str]:
        """Beside the page, by name."""
        return {
            "claims.json": render.as_json(self.claims),
            "claims.md": render.as_markdown(self.claims),
            "regimes.md": regimes.as_markdown(self.arms),
            "seeds.csv": self.seeds.to_csv(index=False),
        }

    @property
    def text(self) -> str:
        """For the terminal."""
        return render.as_text(self.claims)
