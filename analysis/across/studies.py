"""Records → studies that may be compared: one factor, one regime, the arms that all of them confirmed."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from analysis.compare import twins_of
from analysis.findings import Findings, find
from analysis.load import StudyRecord, load_study
from analysis.looks import named
from analysis.verdict import delta_of
from search_spaces.reported import FAIR, STATED
from trainables.config import InputError

#: What ``study.launch`` adds to a dataset's name where it takes a part of it: the images are still the same ones.
PARTS = re.compile(r"( (classes=[\d,]+|train-size=\d+|imbalance=[\d.e+]+))+$")
MIN_STUDIES = 2
UNKNOWN_DATASET = "unknown dataset"


@dataclass(frozen=True, eq=False)
class Compared:
    """One of the studies compared.

    Args:
        findings: Of the study, in the regime compared.
        dataset: The data it draws on; studies that share it, in whole or in part, are not independent.
        setting: The dataset as the record names it, with what was cut from it.
    """

    findings: Findings
    dataset: str
    setting: str

    @property
    def name(self) -> str:
        """The study's name."""
        return self.findings.record.name

    @property
    def protocol(self) -> Mapping[str, Any]:
        """Its ``study.json``."""
        return self.findings.record.protocol

    @property
    def delta(self) -> float:
        """The largest difference that does not matter, in accuracy points."""
        return delta_of(self.protocol)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The studies and what of them can be compared.

    Args:
        studies: In the order they were named.
        factor: What all of them vary; empty if no record says.
        regime: ``fair`` or ``stated`` where a reported study is among them, else empty.
        baseline: The arm that others are compared with.
        arms: Confirmed in every study, in the first study's order.
        twins: Those of them that are the baseline under another name.
        left_out: Every other arm with the reason.
        remarks: What to know before reading on.
    """

    studies: tuple[Compared, ...]
    factor: str
    regime: str
    baseline: str
    arms: tuple[str, ...]
    twins: tuple[str, ...]
    left_out: Mapping[str, str]
    remarks: tuple[str, ...]

    @property
    def datasets(self) -> list[str]:
        """The datasets, each once."""
        return list(dict.fromkeys(study.dataset for study in self.studies))


def load_comparison(names: Sequence[str], *, tracking_uri: str | None = None, regime: str | None = None) -> Comparison:
    """Read studies and put together what can be compared.

    Args:
        names: The studies' names; one named twice counts once.
        tracking_uri: As in :func:`analysis.load.load_study`.
        regime: As in :func:`put_together`.

    Raises:
        InputError: As :func:`put_together`, or if a study cannot be read.
    """
    distinct = list(dict.fromkeys(names))
    if len(distinct) < MIN_STUDIES:
        raise InputError(f"`--study`: a comparison needs two studies or more; got {', '.join(map(repr, distinct))}.")
    records = [
        load_study(name, tracking_uri=tracking_uri, metrics=("val_accuracy",), finals=False) for name in distinct
    ]
    return put_together(records, regime=regime)


def put_together(records: Sequence[StudyRecord], *, regime: str | None = None) -> Comparison:
    """The arms that all studies confirmed, in one regime.

    Args:
        records: Two or more.
        regime: Of reported studies, ``stated`` or ``fair``; default: fair if all have it, else stated.

    Raises:
        InputError: If the factors differ, a study confirmed nothing, no regime or no arm is common.
    """
    factor = _common_factor(records)
    for record in records:
        if not (record.trials["phase"] == "confirm").any():
            raise InputError(f"Study {record.name!r} has no confirm run, and the scores of a search are not results.")
    regime = _common_regime(records, regime)
    kept = [_in_regime(record, regime) for record in records]
    settings = [setting_of(record) for record in kept]
    datasets = group_datasets(
        settings, [str((record.protocol.get("dataset") or {}).get("sha256", "")) for record in kept]
    )
    studies = tuple(map(Compared, map(find, kept), datasets, settings))
    arms, left_out = _common_arms(studies)
    baseline, remarks = _common_baseline(studies, arms)
    twins = {twin for study in studies for twin in twins_of(baseline, study.protocol)}
    return Comparison(
        studies=studies,
        factor=factor,
        regime=regime,
        baseline=baseline,
        arms=tuple(arms),
        twins=tuple(arm for arm in arms if arm in twins),
        left_out=left_out,
        remarks=(*remarks, *_remarks(studies, regime)),
    )


def setting_of(record: StudyRecord) -> str:
    """The dataset as the record names it."""
    return str((record.protocol.get("dataset") or {}).get("name") or record.tags.get("dataset") or UNKNOWN_DATASET)


def group_datasets(settings: Sequence[str], digests: Sequence[str]) -> list[str]:
    """The dataset behind each setting: parts of one dataset and equal data under two names are one.

    Args:
        settings: Such as ``fashion-mnist train-size=2000``.
        digests: Of the data; empty where unknown.
    """
    first_of: dict[str, str] = {}
    groups = []
    for setting, digest in zip(settings, digests, strict=True):
        name = PARTS.sub("", setting)
        group = first_of.get(f"name {name}") or (digest and first_of.get(f"digest {digest}")) or name
        first_of[f"name {name}"] = group
        if digest:
            first_of.setdefault(f"digest {digest}", group)
        groups.append(group)
    return groups


def _common_factor(records: Sequence[StudyRecord]) -> str:
    factors = {record.name: str(record.protocol.get("factor") or "") for record in records}
    known = {name: factor for name, factor in factors.items() if factor}
    first = next(iter(known.items()), ("", ""))
    for name, factor in known.items():
        if factor != first[1]:
            raise InputError(
                f"Studies of different factors: {first[0]!r} asks about {first[1]!r}, {name!r} about {factor!r}; "
                "their arms are not comparable."
            )
    return first[1]


def _regimes_of(record: StudyRecord) -> set[str]:
    """What a study's confirm runs can stand for: those of a tuned space are tuned, as the fair ones of a reported."""
    if "report" not in record.protocol:
        return {FAIR}
    confirmed = record.trials.loc[record.trials["phase"] == "confirm", "regime"]
    return set(confirmed) & {FAIR, STATED}


def _common_regime(records: Sequence[StudyRecord], wanted: str | None) -> str:
    """The regime compared; empty where no study is a reported one and so none has two."""
    regimes = {record.name: _regimes_of(record) for record in records}
    common = set.intersection(*regimes.values())
    if wanted is not None:
        for name, own in regimes.items():
            if wanted not in own:
                raise InputError(f"`--regime {wanted}`: study {name!r} confirmed {_named(own)} only.")
    elif not common:
        said = "; ".join(f"{name!r} confirmed {_named(own)}" for name, own in regimes.items())
        raise InputError(f"No regime is common to the studies: {said}.")
    if not any("report" in record.protocol for record in records):
        return ""
    return wanted or (FAIR if FAIR in common else STATED)


def _named(regimes: Collection[str]) -> str:
    return " and ".join(sorted(regimes)) or "nothing"


def _in_regime(record: StudyRecord, regime: str) -> StudyRecord:
    if not regime or "report" not in record.protocol:
        return record
    return replace(record, trials=record.trials[record.trials["regime"] == regime].reset_index(drop=True))


def _common_arms(studies: Sequence[Compared]) -> tuple[list[str], dict[str, str]]:
    """The arms with a confirm score in every study, and the others with what they lack."""
    confirmed = {
        study.name: set(study.findings.table.loc[study.findings.table["num_seeds"] > 0, "arm"]) for study in studies
    }
    every = list(dict.fromkeys(arm for study in studies for arm in study.findings.arms))
    left_out = {}
    for arm in every:
        absent = [study.name for study in studies if arm not in study.findings.arms]
        silent = [study.name for study in studies if arm in study.findings.arms and arm not in confirmed[study.name]]
        reasons = [f"no arm of {', '.join(absent)}"] if absent else []
        reasons += [f"no confirm score in {', '.join(silent)}"] if silent else []
        if reasons:
            left_out[arm] = "; ".join(reasons)
    arms = [arm for arm in every if arm not in left_out]
    if not arms:
        said = "; ".join(f"{name!r} confirmed {', '.join(sorted(own)) or 'none'}" for name, own in confirmed.items())
        raise InputError(f"No arm is common to the studies: {said}.")
    return arms, left_out


def _common_baseline(studies: Sequence[Compared], arms: Sequence[str]) -> tuple[str, list[str]]:
    """The first study's baseline where all have it, else the first declared that is shared, else the first arm."""
    declared = list(dict.fromkeys(study.findings.baseline for study in studies))
    shared = [arm for arm in declared if arm in arms]
    baseline = shared[0] if shared else arms[0]
    if declared == [baseline]:
        return baseline, []
    said = ", ".join(f"{study.name}: {study.findings.baseline or 'none'}" for study in studies)
    return baseline, [
        f"The studies name different baselines or one that is not shared ({said}); here it is {baseline}."
    ]


def _remarks(studies: Sequence[Compared], regime: str) -> list[str]:
    remarks = []
    if regime:
        words = {FAIR: "each arm at its tuned learning rate", STATED: "each arm as its report states it, untuned"}
        remarks.append(f"Compared in the {regime} regime: {words[regime]}.")
    for dataset in dict.fromkeys(study.dataset for study in studies):
        names = [study.name for study in studies if study.dataset == dataset]
        if len(names) > 1:
            remarks.append(f"{', '.join(names)} draw on {dataset}: they are not independent and count as one dataset.")
    for study in studies:
        state = study.findings.record.tags.get("state", "finished")
        if state != "finished":
            remarks.append(f"{study.name} is {state}: it counts with what it has recorded so far.")
        looks = study.findings.looks
        if not looks.empty:
            last = named(int(looks["look"].max()))
            remarks.append(f"{study.name} was extended: it counts with {last} alone, not corrected for earlier looks.")
        if not study.protocol:
            remarks.append(f"study.json of {study.name} is not on record: its protocol is unknown.")
    return remarks
