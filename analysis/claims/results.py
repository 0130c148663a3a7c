"""What a test answered, and how the answers of several tests make one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from analysis.claims.model import HOLDS, INCONCLUSIVE, NOT_RUN, NOT_TESTABLE, REFUTED

OPPOSITE = {HOLDS: REFUTED, REFUTED: HOLDS}


@dataclass(frozen=True)
class Result:
    """A verdict with the numbers behind it.

    Args:
        verdict: One of ``VERDICTS``.
        effect: The deciding part's estimate, in the measure's unit; None without values.
        low: Lower end of its 95% interval.
        high: Upper end of it.
        n: Values behind it: seeds, or trials of a grid.
        p: Corrected for the family where the verdict rests on a test; None where an interval alone decides.
        label: Which contrast, arm or rival decided.
        reason: Why, in a few words.
        parts: The family's or the combination's own results; empty for one contrast by itself.
    """

    verdict: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    p: float | None = None
    label: str = ""
    reason: str = ""
    parts: tuple[Result, ...] = ()


def family(verdict: str, deciding: Result, parts: Sequence[Result]) -> Result:
    """A family's result: its verdict, the numbers of the part that decided, and the parts where there are several."""
    return replace(deciding, verdict=verdict, parts=tuple(parts) if len(parts) > 1 else ())


def jointly(parts: Sequence[Result], closeness: Sequence[float] | None = None) -> Result:
    """Every part must hold; one refuted part refutes.

    Args:
        parts: One result a contrast; none gives *not run*.
        closeness: How far each part is from its bound, smaller = closer; decides which part's numbers are shown.
    """
    if not parts:
        return Result(NOT_RUN, reason="nothing to compare")
    distances = closeness if closeness is not None else range(len(parts))
    by_closeness = [part for _, part in sorted(zip(distances, parts, strict=True), key=lambda pair: pair[0])]
    orders = {REFUTED: parts, NOT_RUN: parts, INCONCLUSIVE: by_closeness, HOLDS: by_closeness}
    for verdict, candidates in orders.items():
        for part in candidates:
            if part.verdict == verdict:
                return family(verdict, part, parts)
    raise ValueError(f"{parts[0].verdict}: not a verdict of a contrast")


def all_of(results: Sequence[Result]) -> Result:
    """Every testable part holds; refuted when one is refuted, whatever the others did not run."""
    return _combined(results, _all)


def any_of(results: Sequence[Result]) -> Result:
    """At least one testable part holds; refuted when all are refuted."""
    return _combined(results, _any)


def most_of(results: Sequence[Result]) -> Result:
    """More than half of the testable parts hold; refuted when at least half are refuted."""
    return _combined(results, _most)


def opposite(result: Result) -> Result:
    """Swap holds and refuted; every other verdict stays, and so do the numbers."""
    return replace(result, verdict=OPPOSITE.get(result.verdict, result.verdict))


def _all(verdicts: Sequence[str]) -> str:
    for verdict in (REFUTED, NOT_RUN, INCONCLUSIVE):
        if verdict in verdicts:
            return verdict
    return HOLDS


def _any(verdicts: Sequence[str]) -> str:
    for verdict in (HOLDS, NOT_RUN, INCONCLUSIVE):
        if verdict in verdicts:
            return verdict
    return REFUTED


def _most(verdicts: Sequence[str]) -> str:
    if 2 * verdicts.count(HOLDS) > len(verdicts):
        return HOLDS
    if 2 * verdicts.count(REFUTED) >= len(verdicts):
        return REFUTED
    return NOT_RUN if NOT_RUN in verdicts else INCONCLUSIVE


def _combined(results: Sequence[Result], rule: Callable[[Sequence[str]], str]) -> Result:
    if not results:
        return Result(NOT_RUN, reason="nothing to combine")
    testable = [result for result in results if result.verdict != NOT_TESTABLE]
    left_out = [result for result in results if result.verdict == NOT_TESTABLE]
    reasons = list(dict.fromkeys(result.reason for result in left_out))
    if not testable:
        return replace(_telling(results), verdict=NOT_TESTABLE, reason="; ".join(reasons), parts=tuple(results))
    verdict = rule([result.verdict for result in testable])
    # Where no part has the combination's verdict (most of a mixture), the others speak.
    deciding = _telling([result for result in testable if result.verdict == verdict] or testable)
    notes = [deciding.reason] if deciding.reason else []
    if left_out:
        notes.append(f"left out as not testable: {len(left_out)} of {len(results)} parts ({'; '.join(reasons)})")
    return replace(deciding, verdict=verdict, reason="; ".join(notes), parts=tuple(results))


def _telling(results: Sequence[Result]) -> Result:
    """The first result that has numbers to show, as an exact test has none; else the first."""
    return next((result for result in results if result.effect is not None), results[0])
