"""Arrays to verdicts: the functions that decide a claim from paired differences.

Every function takes one value a seed and answers with a :class:`~analysis.claims.results.Result`. A verdict *holds* or
*refuted* is wrong in at most about 5 of 100 studies, checked by simulation at ten seeds, with one correction of the
rules as they are stated for a single difference: a family is refuted by any one of its contrasts, so **refutations are
Holm-corrected over the family as well**. Without that, six contrasts that are each exactly as large as matters are
refuted in up to 26 of 100 studies, ten in up to 41; with it, in 5. A single contrast is not touched by this.

The t rules assume about normal differences. Two equally skewed arms have symmetric differences and keep the bound;
where the differences themselves are as skewed as an exponential's, a true mean at the bound is wrongly confirmed or
refuted in 10 studies of 100, on the side away from the long tail.

Events and shares of variance are judged in :mod:`analysis.claims.shares`, combinations in
:mod:`analysis.claims.results`; both are found here too, so that one import serves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from analysis.claims.contrasts import (
    Samples,
    estimate,
    flip_p,
    inside_p,
    judged,
    over_family,
    why_not_significant,
    without_rounding,
)
from analysis.claims.equality import different, equal, number
from analysis.claims.model import HOLDS, INCONCLUSIVE, REFUTED
from analysis.claims.results import Result, all_of, any_of, jointly, most_of, opposite
from analysis.claims.shares import effect_size, rarer, share
from analysis.inference import ALPHA, Array, mean_below_p, t_interval

__all__ = [
    "Result",
    "all_of",
    "any_of",
    "best",
    "different",
    "effect_size",
    "equal",
    "most_of",
    "number",
    "opposite",
    "ordered",
    "rarer",
    "share",
    "superior",
]


@dataclass(frozen=True)
class _Question:
    """What is asked of every contrast of a family; see :func:`superior`."""

    lower: bool = False
    bound: float = 0.0
    delta: float | None = None
    interval_only: bool = False
    at_least_twice_delta: bool = False
    reversal_needs_flips: bool = False
    family: int = 0

    @property
    def required(self) -> float:
        """How far past the bound the interval must begin."""
        return 2 * (self.delta or 0.0) if self.at_least_twice_delta else 0.0


@dataclass(frozen=True)
class _Contrast:
    """One contrast's sample turned so that the claim says "above 0", and its p values before and after correction."""

    label: str
    values: Array
    turned: Array
    p: float
    refuting: float
    refuting_alone: float
    tests: int


def superior(
    samples: Samples,
    *,
    lower: bool = False,
    bound: float = 0.0,
    delta: float | None = None,
    interval_only: bool = False,
    at_least_twice_delta: bool = False,
    family: int = 0,
) -> Result:
    """Judge whether every contrast lies above a bound (``lower``: below).

    A contrast holds when its 95% t interval lies above the bound and the sign-flip p, Holm-corrected over the family,
    is below .05. Otherwise it is refuted when the 95% interval lies below the bound, or the 90% interval within
    ``bound ± delta``, Holm-corrected likewise. Otherwise it is inconclusive.

    Args:
        samples: Label → one value a seed, shape ``(seeds,)``, finite.
        lower: Whether the contrasts must lie below the bound.
        bound: In the unit of the samples.
        delta: The smallest difference that matters, in the unit of the samples; None: nothing is refuted as equal.
        interval_only: Whether the interval alone decides, without the sign-flip test.
        at_least_twice_delta: Whether the interval must begin at least two delta past the bound; refuted when it ends
            before that.
        family: How many contrasts the whole claim has, where that is more than are given here.
    """
    question = _Question(lower, bound, delta, interval_only, at_least_twice_delta, family=family)
    if at_least_twice_delta and delta is None:
        raise ValueError("at_least_twice_delta needs delta")
    return _above(samples, question)


def best(differences: Samples, *, lower: bool = False, delta: float | None = None, family: int = 0) -> Result:
    """Judge whether an arm is superior to every rival.

    Refuted when a rival is superior to it by the same two conditions, or equal to it within delta (two one-sided
    tests), Holm-corrected over the rivals.

    Args:
        differences: Rival → arm minus rival, shape ``(seeds,)``.
        lower: Whether smaller is better.
        delta: The smallest difference that matters.
        family: As in :func:`superior`.
    """
    return _above(differences, _Question(lower, delta=delta, reversal_needs_flips=True, family=family))


def ordered(differences: Samples, *, lower: bool = False, delta: float | None = None, family: int = 0) -> Result:
    """Judge whether every arm is superior to the next; refuted when a neighbouring pair is reversed or equal.

    Args:
        differences: Pair → arm minus next arm, shape ``(seeds,)``.
        lower: Whether smaller comes first.
        delta: The smallest difference that matters.
        family: As in :func:`superior`.
    """
    return _above(differences, _Question(lower, delta=delta, reversal_needs_flips=True, family=family))


def _above(samples: Samples, question: _Question) -> Result:
    contrasts = _contrasts(samples, question)
    parts = [_judge_above(contrast, question) for contrast in contrasts]
    closeness = [_distance(part, question) for part in parts]
    return jointly(parts, closeness)


def _contrasts(samples: Samples, question: _Question) -> list[_Contrast]:
    raw = {label: np.asarray(values, dtype=np.float64) for label, values in samples.items()}
    sign = -1.0 if question.lower else 1.0
    turned = {label: without_rounding(sign * (values - question.bound)) for label, values in raw.items()}
    flips = [flip_p(values) for values in turned.values()]
    refuting = [_refuting_p(values, p, question) for values, p in zip(turned.values(), flips, strict=True)]
    tests = max(question.family, len(raw))
    columns = zip(raw, over_family(flips, tests), over_family(refuting, tests), refuting, strict=True)
    return [_Contrast(label, raw[label], turned[label], p, r, alone, tests) for label, p, r, alone in columns]


def _refuting_p(turned: Array, flips: float, question: _Question) -> float:
    """The smaller of two p values: that the mean lies below the bound, and that it lies within delta of it.

    Where the true mean is exactly delta only one of the two can be small (an interval narrow enough to lie within delta
    of the bound does not reach below it), so the smaller is itself a p value of the claim "at least delta".
    """
    reversal = min(1.0, 2 * float(mean_below_p(turned, question.required)))
    if question.reversal_needs_flips:
        reversal = max(reversal, flips)
    if question.delta is None or question.at_least_twice_delta:
        return reversal
    return min(reversal, inside_p(turned, question.delta))


def _judge_above(contrast: _Contrast, question: _Question) -> Result:
    part = estimate(contrast.label, contrast.values, None if question.interval_only else contrast.p)
    if contrast.values.size < 2:  # noqa: PLR2004 - already judged: not run, or one seed
        return part
    _, low, high = (float(number) for number in t_interval(contrast.turned))
    if low > 0 and low >= question.required and (question.interval_only or contrast.p < ALPHA):
        below = question.delta is not None and high < question.delta
        return judged(part, HOLDS, f"below delta: the whole CI is under {question.delta:g}" if below else "")
    if contrast.refuting < ALPHA:
        return judged(part, REFUTED, _why_refuted(high, question))
    return judged(part, INCONCLUSIVE, _why_open(low, contrast, question))


def _why_refuted(high: float, question: _Question) -> str:
    side = "above" if question.lower else "below"
    if high < 0:
        return f"reversed: the 95% CI lies {side} {question.bound:g}"
    if question.at_least_twice_delta:
        return f"the 95% CI ends before twice delta ({question.required:g})"
    return f"equal: the 90% CI lies within {question.bound:g} ± {question.delta:g}"


def _why_open(low: float, contrast: _Contrast, question: _Question) -> str:
    if contrast.refuting_alone < ALPHA:
        return f"refuted only without Holm's correction over {contrast.tests} contrasts"
    if low > 0 and low >= question.required:
        return why_not_significant(contrast.p, contrast.values.size, contrast.tests)
    if low > 0:
        return f"the 95% CI does not clear twice delta ({question.required:g})"
    if not contrast.turned.any():
        return "every value is exactly at the bound, and no smallest difference is set"
    return f"the 95% CI includes {question.bound:g}"


def _distance(part: Result, question: _Question) -> float:
    """How far the interval's near end is past the bound; negative where it is not past it."""
    end = part.high if question.lower else part.low
    if end is None:
        return -math.inf
    return question.bound - end if question.lower else end - question.bound
