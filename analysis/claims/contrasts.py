"""What every test of paired differences needs: one contrast's numbers, its p values and the words for them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from analysis.claims.model import INCONCLUSIVE, NOT_RUN
from analysis.claims.results import Result
from analysis.inference import (
    ALPHA,
    ROUNDING,
    Array,
    equivalence_p,
    holm,
    mean_below_p,
    sign_flip_p,
    smallest_p,
    t_interval,
)

#: Label → one value a seed.
Samples = Mapping[str, npt.NDArray[np.float64]]

ONE_SEED = "one seed has no uncertainty"
NO_RUNS = "no runs"


def estimate(label: str, values: Array, p: float | None = None) -> Result:
    """Mean and 95% interval before judgement; *not run* without values, and one value decides nothing."""
    if values.size == 0:
        return Result(NOT_RUN, label=label, reason=NO_RUNS)
    if values.size == 1:
        return Result(INCONCLUSIVE, float(values[0]), n=1, label=label, reason=ONE_SEED)
    mean, low, high = (float(number) for number in t_interval(values))
    return Result(INCONCLUSIVE, mean, low, high, values.size, p, label)


def judged(part: Result, verdict: str, reason: str, p: float | None = None) -> Result:
    shown = part.p if p is None else p
    return Result(verdict, part.effect, part.low, part.high, part.n, shown, part.label, reason)


def without_rounding(values: npt.ArrayLike) -> Array:
    """Set to zero what only the order of additions made: a thousand equal signs would else be a significant test."""
    sample = np.asarray(values, dtype=np.float64)
    return np.where(np.abs(sample) < ROUNDING, 0.0, sample)


def flip_p(values: Array) -> float:
    return float(sign_flip_p(values)) if values.size else 1.0


def inside_p(values: Array, delta: float) -> float:
    """Show that the mean lies within ±delta; exact zeros do whatever delta is."""
    if values.size < 2:  # noqa: PLR2004 - one value has no spread
        return 1.0
    return float(equivalence_p(values, delta)) if values.any() else 0.0


def outside_p(values: Array, delta: float) -> float:
    """Show, two-sided, that the mean lies outside ±delta: below .05 exactly where the 95% interval does."""
    if values.size < 2:  # noqa: PLR2004 - one value has no spread
        return 1.0
    sign = 1.0 if values.mean() > 0 else -1.0
    return min(1.0, 2 * float(mean_below_p(-sign * values, -delta)))


def over_family(p_values: list[float], tests: int) -> list[float]:
    """Holm over a family that may have more tests than are here: the others count as having found nothing."""
    others = [1.0] * max(0, tests - len(p_values))
    return [float(p) for p in holm([*p_values, *others])[: len(p_values)]]


def why_not_significant(p: float, n: int, tests: int) -> str:
    """Name the cause where the interval would decide and only the sign-flip test does not."""
    if smallest_p(n) >= ALPHA:
        return f"the CI would do, but no sign-flip p of {n} seeds can be below {ALPHA:g}: it takes 6"
    if smallest_p(n, tests) >= ALPHA:
        most = math.ceil(ALPHA * 2 ** (n - 1)) - 1
        return f"the CI would do, but with {n} seeds at most {most} tests can survive Holm, and this family has {tests}"
    return f"the CI would do, but the Holm-corrected p is {p:.3f}"
