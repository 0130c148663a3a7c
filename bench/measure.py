"""What a benchmark returns, and how contenders are timed: in one process, in alternating order, all numbers kept."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """One raw number.

    Args:
        contender: What was measured.
        round: From 1.
        value: In ``unit``.
        unit: Such as ``s``.
    """

    contender: str
    round: int
    value: float
    unit: str


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table.

    Args:
        name: What it says.
        ours: Median of ours, in ``unit``.
        unit: Such as ``s``.
        reference: Median of what ours is compared with; None where the bound is on ``ours`` itself.
        ratio: Ours over the reference; the reference over ours where ``at_least`` bounds it ("times faster").
        at_most: Upper bound of the ratio, or of ``ours`` where there is no reference.
        at_least: Lower bound of the ratio.
    """

    name: str
    ours: float
    unit: str
    reference: float | None = None
    ratio: float | None = None
    at_most: float | None = None
    at_least: float | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the bound holds; None for a figure without one."""
        judged = self.ours if self.ratio is None else self.ratio
        if self.at_most is not None:
            return judged <= self.at_most
        return None if self.at_least is None else judged >= self.at_least


@dataclass(frozen=True)
class Result:
    """What a benchmark found out."""

    figures: Sequence[Figure]
    measurements: Sequence[Measurement]


def alternate(contenders: Mapping[str, Callable[[], object]], *, rounds: int) -> list[Measurement]:
    """Time every contender once a round, after one round that does not count.

    Every other round runs backwards, so that a machine that slows down or speeds up favours nobody.

    Args:
        contenders: name -> what to time.
        rounds: How many count.

    Returns:
        Seconds, one per contender and round.
    """
    for run in contenders.values():
        run()
    measurements = []
    for number in range(1, rounds + 1):
        names = list(contenders)
        for name in names if number % 2 else reversed(names):
            started = time.perf_counter()
            contenders[name]()
            measurements.append(Measurement(name, number, time.perf_counter() - started, "s"))
    return measurements


def values_of(measurements: Sequence[Measurement], contender: str) -> list[float]:
    """A contender's values by round."""
    own = [measurement for measurement in measurements if measurement.contender == contender]
    return [measurement.value for measurement in sorted(own, key=lambda measurement: measurement.round)]


def fastest(measurements: Sequence[Measurement], contenders: Sequence[str]) -> str:
    """The contender with the lowest median."""
    return min(contenders, key=lambda name: statistics.median(values_of(measurements, name)))


def compare(
    measurements: Sequence[Measurement],
    ours: str,
    references: Sequence[str],
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Figure:
    """Ours against the fastest of the references.

    The ratio is the median of the rounds' own ratios: what slows the machine for a while slows both of a round.

    Args:
        measurements: Of one unit.
        ours: The contender to judge.
        references: Ways to write the same thing.
        at_most: Upper bound of ours / reference.
        at_least: Lower bound of reference / ours.
    """
    reference = fastest(measurements, references)
    own, other = values_of(measurements, ours), values_of(measurements, reference)
    pairs = zip(own, other, strict=True)
    ratios = [b / a if at_least is not None else a / b for a, b in pairs]
    return Figure(
        name=f"{ours} vs {reference}",
        ours=statistics.median(own),
        reference=statistics.median(other),
        unit=measurements[0].unit,
        ratio=statistics.median(ratios),
        at_most=at_most,
        at_least=at_least,
    )
