"""Claims and studies → a verdict per claim and regime, each from the study on record that says most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from analysis.claims.decide import count_tests, decide
from analysis.claims.evidence import Evidence, Measured, bodies
from analysis.claims.model import NOT_RUN, Claim
from analysis.claims.reader import Reader
from analysis.claims.results import Result
from analysis.claims.table import CLAIMS_OF, SPACE_OF
from search_spaces.reported import REGIMES, STATED


@dataclass(frozen=True)
class Outcome:
    """What the record says of one claim in one regime.

    Args:
        verdict: One of ``VERDICTS``.
        effect: Of the comparison that decides, in ``unit``; None where there is none.
        ci_low: Its 95% interval, or None.
        ci_high: Likewise.
        n: Seeds (or trials of the tuning grid) behind it.
        reason: What a reader must know beside the numbers; empty if nothing.
        unit: Of the effect.
        label: The comparison that decides.
        studies: Each study that it was read from, with its data, images and epochs.
        parts: The outcomes of the test's parts.
        p: Holm-corrected, where the verdict rests on a test.
    """

    verdict: str
    effect: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int = 0
    reason: str = ""
    unit: str = ""
    label: str = ""
    studies: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[Outcome, ...] = ()
    p: float | None = None


@dataclass(frozen=True)
class ClaimResult:
    """A claim with its outcome per regime, ``stated`` and ``fair``."""

    id: str
    statement: str
    reported: str
    note: str
    regimes: Mapping[str, Outcome]


def evaluate_claims(report: str, studies: Sequence[Measured]) -> list[ClaimResult]:
    """What studies say of every claim of a report, each claim and regime from the study that says most.

    A verdict goes before *not run*, then more training (the share of the report's epochs times the training images),
    then the larger share of its epochs, then more seeds, then the newer study. Studies on the same data at the same
    epochs answer together; those on other data count for claims about several data sets.

    Args:
        report: The report's number.
        studies: Of any reports; those of others are passed over.
    """
    found = bodies([study for study in studies if study.scope.report == report])
    return [
        _result(claim, {regime: _best_outcome(claim, regime, found) for regime in REGIMES})
        for claim in claims_of(report)
    ]


def claims_of(report: str) -> tuple[Claim, ...]:
    """A report's claims; none of a report that is not among the five."""
    return CLAIMS_OF.get(report, ())


def evaluate(claim: Claim, regime: str, evidence: Evidence, elsewhere: Sequence[Evidence] = ()) -> Outcome:
    """One claim in one regime on one body of evidence.

    Args:
        claim: The claim.
        regime: ``stated`` or ``fair``.
        evidence: The studies.
        elsewhere: The report's other bodies of evidence.
    """
    test = claim.stated if regime == STATED else claim.fair
    reader = Reader(evidence, regime, elsewhere, family=count_tests(test))
    return _outcome(decide(test, reader), reader)


def _best_outcome(claim: Claim, regime: str, found: Sequence[Evidence]) -> Outcome:
    if not found:
        report = claim.id.partition("-")[0]
        command = f"python -m study.launch --space {SPACE_OF[report]}"
        return Outcome(NOT_RUN, reason=f"no study of report {report} is on record; {command}")
    outcomes = [
        evaluate(claim, regime, evidence, [other for other in found if other is not evidence]) for evidence in found
    ]
    best = max(range(len(found)), key=lambda index: (outcomes[index].verdict != NOT_RUN, found[index].rank))
    return outcomes[best]


def _result(claim: Claim, regimes: Mapping[str, Outcome]) -> ClaimResult:
    return ClaimResult(claim.id, claim.statement, claim.reported, claim.note, regimes)


def _outcome(result: Result, reader: Reader) -> Outcome:
    searched = {study.record.name: reader.evidence.setting for study in reader.evidence.studies}
    reasons = [result.reason, *reader.notes, *reader.unfinished()]
    whole = _plain(result, reader)
    return replace(
        whole,
        reason="; ".join(dict.fromkeys(reason for reason in reasons if reason)),
        studies=reader.studies or searched,
    )


def _plain(result: Result, reader: Reader) -> Outcome:
    return Outcome(
        verdict=result.verdict,
        effect=_finite(result.effect),
        ci_low=_finite(result.low),
        ci_high=_finite(result.high),
        n=result.n,
        reason=result.reason,
        unit=reader.units.get(result.label, ""),
        label=result.label,
        parts=tuple(_plain(part, reader) for part in result.parts),
        p=_finite(result.p),
    )


def _finite(number: float | None) -> float | None:
    return float(number) if number is not None and math.isfinite(number) else None
