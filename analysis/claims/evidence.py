"""What studies measured, ready to be tested: a value per regime, arm, measure and seed.

Studies of one space on the same data and at the same epochs are one body of evidence, since seed i is the same split,
start and order in each: a study run as stated and another run fair answer together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from analysis.load import StudyRecord
from analysis.measures import (
    DIAGNOSTIC_MEASURES,
    MEASURES,
    TUNING_MEASURES,
    measure_diagnostics,
    measure_trials,
)
from analysis.tuning import EVENTS, count_events, measure_tuning
from analysis.verdict import delta_of
from search_spaces.reported import FAIR, REGIMES
from trainables.config import InputError

#: Where the tuning grid's and the diagnostics' values stand, beside the regimes.
GRID, BESIDE = "grid", "beside"
PLACE_OF = dict.fromkeys(TUNING_MEASURES, GRID) | dict.fromkeys(DIAGNOSTIC_MEASURES, BESIDE)
#: What needs ``epoch_seconds``.
TIMES = ("epoch_seconds", "log_epoch_seconds", "log_total_seconds", "seconds_to_target")
FINISHED = "finished"
DISPLAYED = {
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
    "kmnist": "KMNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "svhn": "SVHN",
}


class NotMeasuredError(Exception):
    """The record lacks what a test reads; the message says what, and what would run it."""


@dataclass(frozen=True)
class Scope:
    """What studies share whose values may be compared seed by seed.

    Args:
        report: The report's number.
        dataset: What was trained on.
        epochs_scale: The share of the report's epochs that was run.
        num_train: Training images.
    """

    report: str
    dataset: str
    epochs_scale: float
    num_train: int


@dataclass(frozen=True, eq=False)
class Measured:
    """One study's values.

    Args:
        record: The study.
        scope: What it may be compared with.
        tables: (regime, arm) → one row per seed, one column per measure. Regime is ``stated``, ``fair``, ``GRID`` (one
            row per search seed) or ``BESIDE`` (one per repetition).
        events: Event → arm → (how many of its grid's trials ended so, how many there are).
    """

    record: StudyRecord
    scope: Scope
    tables: Mapping[tuple[str, str], pd.DataFrame]
    events: Mapping[str, Mapping[str, tuple[int, int]]]

    @property
    def num_seeds(self) -> int:
        """Seeds of the arm that has most."""
        return max((len(table) for (regime, _), table in self.tables.items() if regime in REGIMES), default=0)

    @cached_property
    def newest(self) -> float:
        """When its last trial ended, in seconds since 1970; 0 if none did."""
        end = self.record.trials["end"].max()
        return 0.0 if pd.isna(end) else float(end.timestamp())


def measure(record: StudyRecord) -> Measured:
    """Work out every measure of a reported study.

    Raises:
        InputError: If the study is not a reported one.
    """
    protocol = record.protocol
    if "report" not in protocol:
        space = protocol.get("space") or record.tags.get("space") or "unknown"
        raise InputError(f"Study {record.name!r} is of the space {space!r}, which is no report's: it has no claims.")
    dataset = protocol.get("dataset") or {}
    scope = Scope(
        str(protocol["report"]),
        str(dataset.get("name", "unknown")),
        float(protocol.get("epochs_scale", 1.0)),
        int(dataset.get("num_train", 0)),
    )
    tables = {
        **_by_arm(measure_trials(record)),
        **_by_arm(measure_tuning(record).assign(regime=GRID)),
        **_by_arm(measure_diagnostics(record).assign(regime=BESIDE)),
    }
    return Measured(record, scope, tables, {event: count_events(record, event) for event in EVENTS})


def _by_arm(frame: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    return {
        (str(regime), str(arm)): rows.set_index("seed").drop(columns=["regime", "arm"])
        for (regime, arm), rows in frame.groupby(["regime", "arm"], sort=False)
    }


@dataclass(frozen=True, eq=False)
class Evidence:
    """Studies of one scope as one body; of an arm that several ran in a regime, the first one's runs count.

    Args:
        scope: What the studies share.
        studies: At least one, in the order of preference.
    """

    scope: Scope
    studies: tuple[Measured, ...]

    @property
    def delta(self) -> float:
        """The smallest difference of accuracy that matters, in points."""
        return delta_of(self.studies[0].record.protocol)

    @property
    def rank(self) -> tuple[float, float, int, float]:
        """How much it says: examples seen in training, then epochs, then seeds, then how new it is.

        Epochs first would put all epochs on a few hundred tiny images above a quarter of them on all of a report's.
        """
        return (
            self.scope.epochs_scale * self.scope.num_train,
            self.scope.epochs_scale,
            max(study.num_seeds for study in self.studies),
            max(study.newest for study in self.studies),
        )

    @property
    def stand_in(self) -> str:
        """Why a reported number does not belong to these data; empty if it does."""
        protocol = self.studies[0].record.protocol
        if not protocol.get("stand_in"):
            scale = self.scope.epochs_scale
            return "" if scale == 1 else f"only {scale:g} of the report's epochs were run"
        dataset, own = self.scope.dataset, str(protocol.get("report_dataset", ""))
        stood_for = displayed(own) if own and own != dataset else "the report's data"
        return f"{displayed(dataset)} stands in for {stood_for}"

    @property
    def setting(self) -> str:
        """Data, images and epochs, for a reader."""
        images = f", {self.scope.num_train:,} training images" if self.scope.num_train else ""
        scale = self.scope.epochs_scale
        epochs = "the report's epochs" if scale == 1 else f"{scale:g} of the report's epochs"
        return f"{displayed(self.scope.dataset)}{images}, {epochs}"

    def series(self, arm: str, measure_name: str, regime: str) -> tuple[pd.Series[float], str]:
        """A measure of an arm by seed, and the study it is from.

        Args:
            arm: Its name.
            measure_name: A line of ``MEASURES``.
            regime: ``stated`` or ``fair``; what is measured on the tuning grid or beside the training is the same in
                both.

        Raises:
            NotMeasuredError: If it is not on record.
        """
        if measure_name not in MEASURES:
            raise ValueError(f"{measure_name!r} is no measure.")
        place = PLACE_OF.get(measure_name, regime)
        for study in self.studies:
            table = study.tables.get((place, arm))
            if table is not None and measure_name in table and table[measure_name].notna().any():
                return table[measure_name], study.record.name
        raise NotMeasuredError(self._why_missing(arm, place, measure_name))

    def events(self, arm: str, event: str) -> tuple[tuple[int, int], str]:
        """How many of an arm's trials on the tuning grid ended in the event, of how many; and the study.

        Raises:
            NotMeasuredError: If the grid is not on record.
        """
        for study in self.studies:
            if arm in study.events.get(event, {}):
                return study.events[event][arm], study.record.name
        raise NotMeasuredError(self._why_missing(arm, GRID, event))

    def identity(self, name: str) -> tuple[Mapping[str, Any], str]:
        """An exact test's record, and the study it is from.

        Raises:
            NotMeasuredError: If no study recorded it.
        """
        for study in self.studies:
            identity = study.record.identities.get(name)
            if isinstance(identity, Mapping) and "holds" in identity:
                return identity, study.record.name
        raise NotMeasuredError(f"the exact test {name} is not on record; every whole study records it")

    @property
    def states(self) -> dict[str, str]:
        """Study → its state, ``FINISHED`` if it ran to its end."""
        return {study.record.name: study.record.tags.get("state", FINISHED) for study in self.studies}

    def _why_missing(self, arm: str, place: str, measure_name: str) -> str:
        if place == BESIDE:
            return f"{measure_name} of {arm} is not on record; a whole study measures it beside its training"
        regime = FAIR if place == GRID else place
        protocols = [study.record.protocol for study in self.studies]
        if not any(regime in protocol.get("regimes", REGIMES) for protocol in protocols):
            return f"the {regime} regime was not run; --regime {regime} runs it"
        arms = {str(own["name"]): own for protocol in protocols for own in protocol.get("arms", ())}
        if arm not in arms:
            return f"arm {arm} was not run; --arms {arm} runs it"
        if regime == FAIR and not arms[arm].get("in_fair", True):
            return f"arm {arm} is not in the fair regime: it differs from another in its learning rate alone"
        if not any((place, arm) in study.tables for study in self.studies):
            trials = "of the search" if place == GRID else "with fresh seeds"
            return f"no trial {trials} of arm {arm} has ended in the {regime} regime"
        untimed = measure_name in TIMES and any("shared_seconds" in study.record.runs_of for study in self.studies)
        why = "; trials trained as one model have no time of their own (--replicas 1)" if untimed else ""
        return f"{measure_name} of arm {arm} is not on record in the {regime} regime{why}"


def bodies(studies: Sequence[Measured]) -> list[Evidence]:
    """Studies put together by scope: within one, those with more seeds come first, then the newer."""
    groups: dict[Scope, list[Measured]] = {}
    for study in sorted(studies, key=lambda study: (study.num_seeds, study.newest), reverse=True):
        groups.setdefault(study.scope, []).append(study)
    return [Evidence(scope, tuple(group)) for scope, group in groups.items()]


def displayed(dataset: str) -> str:
    """A data set's name as it is written."""
    return DISPLAYED.get(dataset, dataset)
