"""Reads what a test names from what studies measured: paired values, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.claims.evidence import FINISHED, Evidence, NotMeasuredError
from analysis.claims.model import Contrast
from analysis.inference import Array
from analysis.measures import MEASURES
from analysis.verdict import count

Found = TypeVar("Found")

#: Measures that count up to an event → whether it never came; such a value is only the least that it can be.
MISSED = {
    "epochs_to_target": "target_missed",
    "seconds_to_target": "target_missed",
    "convergence_epoch": "convergence_missed",
}


class Reader:
    """Reads what a test names, in one regime; remembers units, studies, what is missing and what must be known.

    Args:
        evidence: The studies.
        regime: Where a term names none.
        elsewhere: Bodies of evidence of the same report on other data or at other epochs.
        family: Comparisons that the whole claim makes in this regime, over which Holm corrects.
    """

    def __init__(self, evidence: Evidence, regime: str, elsewhere: Sequence[Evidence] = (), *, family: int = 0) -> None:
        self.evidence = evidence
        self.regime = regime
        self.elsewhere = elsewhere
        self.family = family
        self.units: dict[str, str] = {}
        self.missing: dict[str, str] = {}
        self.undecided: dict[str, str] = {}
        self.studies: dict[str, str] = {}
        self.notes: dict[str, None] = {}

    def sample(self, contrast: Contrast) -> Array:
        """The contrast of each seed that has all its terms, shape ``(seeds,)``.

        Where no seed has them the array is empty, and ``missing`` says why. Seeds on which none of several arms came
        to the event they are compared by say nothing of their difference and are left out; where that is all of them,
        ``undecided`` says so.
        """
        try:
            terms = [self.series(term.arm, term.measure, term.regime) * term.weight for term in contrast.terms]
            paired = self._paired(terms, contrast.label)
            reached = paired[~self._all_missed(contrast, paired.index)]
        except NotMeasuredError as missing:
            self.missing[contrast.label] = str(missing)
            return np.empty(0)
        self.units[contrast.label] = MEASURES[contrast.terms[0].measure].unit
        if lost := len(paired) - len(reached):
            text = f"on {count(lost, 'seed')} of {len(paired)} no arm of {contrast.label} got there"
            self.notes[text] = None
            if not len(reached):
                self.undecided[contrast.label] = text
        return np.asarray(reached.sum(axis=1), dtype=np.float64)

    def _all_missed(self, contrast: Contrast, seeds: pd.Index[int]) -> npt.NDArray[np.bool_]:
        """On which seeds every value of a comparison is censored, shape ``(seeds,)``."""
        flags = [MISSED.get(term.measure) for term in contrast.terms]
        if len(flags) == 1 or None in flags:
            return np.zeros(len(seeds), dtype=bool)
        missed = [
            self.series(term.arm, flag, term.regime).reindex(seeds) == 1
            for term, flag in zip(contrast.terms, flags, strict=True)
            if flag is not None
        ]
        return np.asarray(pd.concat(missed, axis=1).all(axis=1), dtype=bool)

    def cells(self, arms: Sequence[Sequence[str]], measure_name: str, label: str) -> Array:
        """A measure over a cross of arms, shape ``(seeds, rows, columns)``, of the seeds that all arms have.

        Raises:
            NotMeasuredError: If no seed has them.
        """
        flat = [self.series(arm, measure_name) for row in arms for arm in row]
        paired = self._paired(flat, label)
        return np.asarray(paired, dtype=np.float64).reshape(len(paired), len(arms), len(arms[0]))

    def series(self, arm: str, measure_name: str, regime: str = "") -> pd.Series[float]:
        """A measure of an arm by seed."""
        return self._read(*self.evidence.series(arm, measure_name, regime or self.regime))

    def events(self, arm: str, event: str) -> tuple[int, int]:
        """How many of the arm's trials on the common grid of learning rates ended so, and how many there are."""
        return self._read(*self.evidence.events(arm, event))

    def identity(self, name: str) -> Mapping[str, Any]:
        """An exact test's record."""
        return self._read(*self.evidence.identity(name))

    def _read(self, found: Found, study: str) -> Found:
        """What was found, having noted where."""
        self.studies[study] = self.evidence.setting
        return found

    def delta(self, measure_name: str, given: float | None) -> float | None:
        """The smallest difference of a measure that matters: the test's own, else the measure's, else the study's."""
        own = MEASURES[measure_name].delta if given is None else given
        return self.evidence.delta if isinstance(own, str) else own

    def _paired(self, columns: Sequence[pd.Series[float]], label: str) -> pd.DataFrame:
        frame = pd.concat(columns, axis=1, join="outer")
        paired = frame.dropna()
        missing = len(frame) - len(paired)
        if not len(paired):
            raise NotMeasuredError(f"no seed has every value of {label}")
        if missing:
            self.notes[f"{count(missing, 'seed')} of {len(frame)} left out of {label}: a value is missing"] = None
        return paired

    def unfinished(self) -> list[str]:
        """What must be known of studies that were read and did not end."""
        states = {name: state for body in (self.evidence, *self.elsewhere) for name, state in body.states.items()}
        return [
            f"{study} is {states[study]}; its completed trials count"
            for study in self.studies
            if states[study] != FINISHED
        ]
