"""Whether differences are zero, whether any is not, and whether a reported number could be one further run."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from analysis.claims.contrasts import (
    Samples,
    estimate,
    flip_p,
    inside_p,
    judged,
    outside_p,
    over_family,
    why_not_significant,
    without_rounding,
)
from analysis.claims.model import HOLDS, INCONCLUSIVE, REFUTED
from analysis.claims.results import Result, jointly
from analysis.claims.results import family as family_result
from analysis.inference import ALPHA, ROUNDING, Array, prediction_interval

#: Fewer values give no usable prediction interval.
MIN_FOR_PREDICTION = 3


def equal(samples: Samples, *, delta: float, family: int = 0) -> Result:
    """Judge whether every contrast lies within ±delta, by two one-sided t tests each.

    Refuted when a 95% interval lies outside ±delta, Holm-corrected over the family. That all must hold needs no
    correction (Berger, Technometrics, 1982); the p shown is the larger of the two tests'.

    Args:
        samples: Label → one value a seed, shape ``(seeds,)``.
        delta: The largest difference that does not matter; 0 asks for differences that are exactly zero.
        family: As in :func:`superior`.
    """
    cleaned = {label: without_rounding(values) for label, values in samples.items()}
    outside = [outside_p(values, delta) for values in cleaned.values()]
    corrected = over_family(outside, family)
    parts, closeness = [], []
    for (label, values), p in zip(cleaned.items(), corrected, strict=True):
        part = estimate(label, values)
        if part.verdict == INCONCLUSIVE and values.size > 1:
            part = _judge_equal(part, inside_p(values, delta), p, delta)
        parts.append(part)
        ends = [abs(end) for end in (part.low, part.high) if end is not None]
        closeness.append(-max(ends, default=np.inf))
    return jointly(parts, closeness)


def different(samples: Samples, *, delta: float | None = None, family: int = 0) -> Result:
    """Judge whether at least one contrast differs from zero.

    It does when its 95% interval excludes zero and its sign-flip p, Holm-corrected over the family, is below .05.
    Refuted when every contrast is equal to zero within delta; never without delta.

    Args:
        samples: Label → one value a seed, shape ``(seeds,)``.
        delta: The smallest difference that matters.
        family: As in :func:`superior`.
    """
    cleaned = {label: without_rounding(values) for label, values in samples.items()}
    p_values = over_family([flip_p(values) for values in cleaned.values()], family)
    parts = []
    for (label, values), p in zip(cleaned.items(), p_values, strict=True):
        part = estimate(label, values, p)
        if part.verdict == INCONCLUSIVE and values.size > 1:
            part = _judge_different(part, values, delta, max(family, len(cleaned)))
        parts.append(part)
    if any(part.verdict == HOLDS for part in parts):
        return _family_of(HOLDS, parts)
    undecided = [part for part in parts if part.verdict != REFUTED]
    return _family_of(jointly(undecided).verdict, parts) if undecided else jointly(parts)


def number(sample: npt.NDArray[np.float64], *, value: float, label: str = "") -> Result:
    """Judge whether a reported number could be one further run: inside the 95% prediction interval or outside.

    There is no inconclusive verdict from three values on: noise widens the interval until it holds any number.

    Args:
        sample: One value a seed, shape ``(seeds,)``.
        value: The reported number, in the sample's unit.
        label: Shown with the result.
    """
    values = np.asarray(sample, dtype=np.float64)
    if values.size < MIN_FOR_PREDICTION:
        part = estimate(label, values)
        return part if values.size < 2 else judged(part, INCONCLUSIVE, "two seeds predict no third")  # noqa: PLR2004
    mean, low, high = (float(bound) for bound in prediction_interval(values))
    tolerance = ROUNDING * max(1.0, abs(value))
    inside = low - tolerance <= value <= high + tolerance
    place = "inside" if inside else "outside"
    reason = f"{value:g} lies {place} the 95% prediction interval for one further run"
    return Result(HOLDS if inside else REFUTED, mean, low, high, values.size, label=label, reason=reason)


def _judge_equal(part: Result, inside: float, outside: float, delta: float) -> Result:
    if inside < ALPHA:
        return judged(part, HOLDS, f"the 90% CI lies within ± {delta:g}", inside)
    if outside < ALPHA:
        return judged(part, REFUTED, f"the 95% CI lies outside ± {delta:g}", inside)
    return judged(part, INCONCLUSIVE, f"the 90% CI reaches past ± {delta:g}", inside)


def _judge_different(part: Result, values: Array, delta: float | None, tests: int) -> Result:
    assert part.low is not None
    assert part.high is not None
    assert part.p is not None
    excludes_zero = part.low > 0 or part.high < 0
    if excludes_zero and part.p < ALPHA:
        below = delta is not None and max(abs(part.low), abs(part.high)) < delta
        return judged(part, HOLDS, f"below delta: the whole CI is within ± {delta:g}" if below else "")
    if delta is not None and inside_p(values, delta) < ALPHA:
        return judged(part, REFUTED, f"equal: the 90% CI lies within ± {delta:g}")
    if excludes_zero:
        return judged(part, INCONCLUSIVE, why_not_significant(part.p, part.n, tests))
    return judged(part, INCONCLUSIVE, "the 95% CI includes 0")


def _family_of(verdict: str, parts: list[Result]) -> Result:
    """The family with the numbers of the part that has its verdict and the smallest p."""
    having = [part for part in parts if part.verdict == verdict]
    return family_result(verdict, min(having, key=lambda part: 1.0 if part.p is None else part.p), parts)
