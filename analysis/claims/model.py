"""What a claim is: a statement and its test, as data.

A test is a value: it names arms and measures and holds no code. Evaluating it is the work of
:mod:`analysis.claims.evaluate`, the statistics that of :mod:`analysis.claims.verdicts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HOLDS, REFUTED, INCONCLUSIVE = "holds", "refuted", "inconclusive"
NOT_TESTABLE, NOT_RUN = "not testable", "not run"
VERDICTS = (HOLDS, REFUTED, INCONCLUSIVE, NOT_TESTABLE, NOT_RUN)


@dataclass(frozen=True)
class Term:
    """One measure of one arm, with a weight; ``regime`` only where a contrast spans both."""

    arm: str
    measure: str
    weight: float = 1.0
    regime: str = ""


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of measures, worked out seed by seed: seed i is the same data, start and order in every arm.

    Args:
        label: How the table shows it ("adam-focal_2 - sgd-focal_2").
        terms: What is added up.
    """

    label: str
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Superior:
    """Every contrast lies above (``lower``: below) a bound: SUP, TREND and bounds on a value.

    Args:
        contrasts: The family; Holm corrects over all of them.
        lower: Whether smaller is better, so that the contrast must lie below the bound.
        bound: What must be exceeded, in the measure's unit.
        delta: The smallest difference that matters, in the measure's unit: a 90% CI within ``bound`` ± delta refutes.
            None takes the measure's own (see ``MEASURES``), which may be none at all.
        absolute: Whether the bound is a number that belongs to the report's own data: not testable on a stand-in.
        interval_only: Whether the interval alone decides, without a test: for measures of few search seeds.
        at_least_delta: Whether the difference must be at least twice delta ("greatly").
    """

    contrasts: tuple[Contrast, ...]
    lower: bool = False
    bound: float = 0.0
    delta: float | None = None
    absolute: bool = False
    interval_only: bool = False
    at_least_twice_delta: bool = False


@dataclass(frozen=True)
class Best:
    """BEST: the arm is superior to every rival; refuted when one is superior or equal to it."""

    arm: str
    rivals: tuple[str, ...]
    measure: str
    lower: bool = False


@dataclass(frozen=True)
class Ordered:
    """ORD: every arm is superior to the next; refuted when a neighbouring pair is reversed or equal."""

    arms: tuple[str, ...]
    measure: str
    lower: bool = False


@dataclass(frozen=True)
class Equal:
    """EQ: every contrast lies within ± delta by two one-sided tests; refuted when a CI lies outside."""

    contrasts: tuple[Contrast, ...]
    delta: float | None = None


@dataclass(frozen=True)
class Different:
    """At least one contrast differs from zero (an interaction exists); refuted when all are zero within delta."""

    contrasts: tuple[Contrast, ...]
    delta: float | None = None


@dataclass(frozen=True)
class Number:
    """NUM: the reported number lies in our 95% prediction interval for one more run; only on the report's own data.

    Args:
        value: The reported number, in the measure's unit.
        absolute: False where the number does not depend on the data (chance level, a ratio of times).
        contrast: What is predicted instead of the arm's measure by itself, such as the logarithm of a ratio of times.
    """

    arm: str
    measure: str
    value: float
    absolute: bool = True
    contrast: Contrast | None = None


@dataclass(frozen=True)
class Share:
    """An event (a measure that is 0 or 1) happens in more than ``above`` of the seeds of every arm.

    ``at_least`` asks instead that the share itself is at least that; refuted when its Wilson interval lies below.
    ``absent`` counts the seeds in which the event does not happen (the measure is 0): absent in at least all of them
    is "never", which one occurrence refutes.
    """

    arms: tuple[str, ...]
    measure: str
    above: float | None = None
    at_least: float | None = None
    absent: bool = False


@dataclass(frozen=True)
class RarerThan:
    """An event is rarer in an arm than in each rival over the same grid of trials: Fisher's exact test with Holm."""

    arm: str
    rivals: tuple[str, ...]
    event: str


@dataclass(frozen=True)
class EffectSize:
    """Two factors' shares of the variance (omega squared) over the full cross of the arms.

    Args:
        levels: Factor → its levels; arms are named by ``pattern`` ("{activation}-{loss}").
        pattern: How an arm's name is made of the levels.
        measure: What varies.
        factor: The factor that the claim is about.
        below: Its omega squared is claimed to lie below this; or None
        than: the factor whose omega squared it is claimed to exceed.
    """

    levels: tuple[tuple[str, tuple[str, ...]], ...]
    pattern: str
    measure: str
    factor: str
    below: float | None = None
    than: str | None = None


@dataclass(frozen=True)
class Identity:
    """ID: decided by an exact test recorded with the study; it holds if the identity's statement is ``expected``."""

    name: str
    expected: bool = True


@dataclass(frozen=True)
class All:
    """Every part holds; refuted when one is. Parts that are not testable are left out and named."""

    parts: tuple[Test, ...]


@dataclass(frozen=True)
class AnyOf:
    """One part holds; refuted when all are."""

    parts: tuple[Test, ...]


@dataclass(frozen=True)
class Most:
    """More than half of the parts hold; refuted when at least half are refuted."""

    parts: tuple[Test, ...]


@dataclass(frozen=True)
class Not:
    """The opposite of the test."""

    part: Test


@dataclass(frozen=True)
class OnDatasets:
    """The test holds on at least so many data sets; refuted when one refutes it."""

    part: Test
    at_least: int = 2


@dataclass(frozen=True)
class AtScaleOne:
    """The test counts only where the report's full epochs were run; else the claim is not run."""

    part: Test


@dataclass(frozen=True)
class NotTestable:
    """No run can decide it, and why."""

    reason: str


Test = (
    Superior | Best | Ordered | Equal | Different | Number | Share | RarerThan | EffectSize | Identity
    | All | AnyOf | Most | Not | OnDatasets | AtScaleOne | NotTestable
)  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """One claim of a report.

    Args:
        id: Report and number ("003-07").
        statement: What the report says, in one sentence.
        stated: Its test as the report ran.
        fair: Its test with tuned learning rates; the same as ``stated`` unless the regime changes the question.
        reported: The reported number or numbers, as text; empty if there is none.
        note: What a reader must know beside the verdict, such as that a test decides only part of the claim.
    """

    id: str
    statement: str
    stated: Test
    fair: Test
    reported: str = ""
    note: str = ""


def claim(
    id_: str, statement: str, test: Test, *, fair: Test | None = None, reported: str = "", note: str = ""
) -> Claim:
    """A claim whose test is the same in both regimes unless ``fair`` is given."""
    return Claim(id_, statement, test, test if fair is None else fair, reported, note)


def value(arm: str, measure: str) -> Contrast:
    """One arm's measure by itself."""
    return Contrast(f"{arm}: {measure}", (Term(arm, measure),))


def difference(arm: str, other: str, measure: str) -> Contrast:
    """One arm minus another."""
    return Contrast(f"{arm} - {other}: {measure}", (Term(arm, measure), Term(other, measure, -1.0)))


def interaction(pair: tuple[str, str], other: tuple[str, str], measure: str) -> Contrast:
    """The difference within one pair minus the difference within another."""
    (a, b), (c, d) = pair, other
    terms = (Term(a, measure), Term(b, measure, -1.0), Term(c, measure, -1.0), Term(d, measure))
    return Contrast(f"({a} - {b}) - ({c} - {d}): {measure}", terms)


def slope(points: Sequence[tuple[float, str]], measure: str) -> Contrast:
    """The least-squares slope of a measure over the given places, one arm at each."""
    mean = sum(place for place, _ in points) / len(points)
    spread = sum((place - mean) ** 2 for place, _ in points)
    terms = tuple(Term(arm, measure, (place - mean) / spread) for place, arm in points)
    return Contrast(f"slope of {measure} over {len(points)} arms", terms)


def superior(
    pairs: Sequence[tuple[str, str]], measure: str, *, lower: bool = False, **options: float | bool
) -> Superior:
    """SUP for each pair ``(better, worse)``."""
    return Superior(tuple(difference(a, b, measure) for a, b in pairs), lower=lower, **options)  # type: ignore[arg-type]


def equal(pairs: Sequence[tuple[str, str]], measure: str, *, delta: float | None = None) -> Equal:
    """EQ for each pair."""
    return Equal(tuple(difference(a, b, measure) for a, b in pairs), delta)


def values(arms: Sequence[str], measure: str) -> tuple[Contrast, ...]:
    """Each arm's measure by itself."""
    return tuple(value(arm, measure) for arm in arms)
