"""What differs between the studies' protocols, and what that did to arms tried twice on the same dataset."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.across.studies import Compared, Comparison
from analysis.compare import POINTS, confirm_scores
from analysis.inference import ROUNDING, holm, sign_flip_p, t_interval
from search_spaces.reported import STATED

#: In ``study.json``: what a row says and where it stands.
FACTS = {
    "Space": "space",
    "Mode": "mode",
    "Trials per arm": "trials_per_arm",
    "Search": "search",
    "Stopping": "stopping",
    "Rungs": "rungs",
    "Counted in": "time_attribute",
    "Epochs scale": "epochs_scale",
    "Seed": "seed",
    "Confirm seeds": "confirm_seeds",
    "Baseline": "baseline",
    "δ, points": "delta",
    "Commit": "git_commit",
    "Uncommitted changes": "git_dirty",
}
SIZES = {
    "Training images": "num_train",
    "Validation images": "num_val",
    "Test images": "num_test",
    "Classes": "num_classes",
}
NONE = ""
#: What a digest or a commit is shown by.
SHORT = 12
#: Where a trial's seed stands in its configuration: it is no choice.
NO_CHOICE = ("seed",)


def protocol_table(comparison: Comparison) -> pd.DataFrame:
    """What fixes the studies, one row a fact and one column a study.

    Returns:
        ``fact``, ``differs`` and a column per study by its place from 0, with text, empty where nothing is on record.
        What is the same for every arm shared makes one row, else one per arm.
    """
    facts = [_facts(study, comparison) for study in comparison.studies]
    names = dict.fromkeys(name for own in facts for name in own)
    rows = []
    for name in names:
        values = [own.get(name, NONE) for own in facts]
        if any(values):
            rows.append([name, len(set(values)) > 1, *values])
    return pd.DataFrame(rows, columns=["fact", "differs", *range(len(facts))])


def _facts(study: Compared, comparison: Comparison) -> dict[str, str]:
    protocol = study.protocol
    dataset = protocol.get("dataset") or {}
    facts = {"Dataset": study.setting}
    facts |= {name: shown(dataset.get(key)) for name, key in SIZES.items()}
    facts["Data sha256"] = str(dataset.get("sha256") or NONE)[:SHORT]
    facts |= {name: shown(protocol.get(key)) for name, key in FACTS.items()}
    facts["Commit"] = facts["Commit"][:SHORT]
    facts |= {f"Version of {name}": str(version) for name, version in (protocol.get("versions") or {}).items()}
    return facts | _arm_facts(protocol, comparison)


def _arm_facts(protocol: Mapping[str, Any], comparison: Comparison) -> dict[str, str]:
    """Fixed values and ranges of the arms shared; what all of them have in common once, the rest by arm."""
    declared = {str(arm.get("name")): arm for arm in protocol.get("arms") or []}
    by_key: dict[str, dict[str, str]] = {}
    for arm in comparison.arms:
        for key, value in _described(declared.get(arm, {})).items():
            by_key.setdefault(key, {})[arm] = value
    facts = {}
    for key, values in by_key.items():
        if len(values) == len(comparison.arms) and len(set(values.values())) == 1:
            facts[key] = next(iter(values.values()))
        elif key != comparison.factor:  # that each arm has its own value of the factor is the question
            facts |= {f"{key} of {arm}": value for arm, value in values.items()}
    return facts


def _described(arm: Mapping[str, Any]) -> dict[str, str]:
    described = {str(key): shown(value) for key, value in (arm.get("fixed") or {}).items()}
    for parameter in arm.get("parameters") or []:
        when = " and ".join(
            f"{key} = {shown(list(values))}" for key, values in (parameter.get("when") or {}).items() if values
        )
        key = f"{parameter.get('key')}{f' ({when})' if when else ''}"
        if "choices" in parameter:
            described[key] = f"one of {shown(list(parameter['choices']))}"
        else:
            scale = ", log" if parameter.get("log") else ""
            described[key] = f"{shown(parameter.get('low'))} to {shown(parameter.get('high'))}{scale}"
    return described


def shown(value: object) -> str:
    """A value of ``study.json`` as text; empty where there is none."""
    if value is None or value in ([], {}):
        return NONE
    if isinstance(value, list | tuple):
        return _run_of(value) or ", ".join(map(shown, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}: {shown(own)}" for key, own in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _run_of(values: list[Any] | tuple[Any, ...]) -> str:
    """``1 to 10`` for whole numbers in a row; empty for anything else."""
    whole = len(values) > 2 and all(type(value) is int for value in values)  # noqa: PLR2004 - two are soon named
    return f"{values[0]} to {values[-1]}" if whole and list(values) == list(range(values[0], values[-1] + 1)) else NONE


def version_changes(comparison: Comparison) -> pd.DataFrame:
    """How each arm's accuracy changed between studies of one dataset: each against the first named of that dataset.

    Paired by seed where both used the same data and the same seeds, since seed i then fixes the split and the
    initialisation in both; else Welch's interval for two independent samples.

    Returns:
        ``dataset, before, after`` (the studies), ``arm, change, low, high`` (points, 95% interval), ``p`` and
        ``p_holm`` over the rows, ``paired``, ``num_before, num_after``, ``winner``: how the winner's configuration
        changed.
    """
    rows = []
    for dataset in comparison.datasets:
        first, *others = [study for study in comparison.studies if study.dataset == dataset]
        for other in others:
            for arm in comparison.arms:
                row = {"dataset": dataset, "before": first.name, "after": other.name, "arm": arm}
                winner = describe_change(config_of(first, arm), config_of(other, arm))
                rows.append(row | change(first, other, arm) | {"winner": winner})
    columns = ["dataset", "before", "after", "arm", "change", "low", "high", "p", "paired", "num_before", "num_after"]
    frame = pd.DataFrame(rows, columns=[*columns, "winner"])
    known = frame["p"].notna()
    frame["p_holm"] = np.nan
    if known.any():
        frame.loc[known, "p_holm"] = holm(frame.loc[known, "p"].to_numpy(dtype=float))
    return frame


def change(first: Compared, other: Compared, arm: str) -> dict[str, Any]:
    """The second study's accuracy of an arm minus the first's, in points."""
    before, after = (_scores(study, arm) for study in (first, other))
    common = before.index.intersection(after.index)
    paired = _same_data(first, other) and len(common) == len(before) == len(after)
    row = {"paired": paired, "num_before": len(before), "num_after": len(after)}
    if paired:
        sample = np.round((after[common] - before[common]).to_numpy(dtype=float) * POINTS, 9)
        mean, low, high = (float(number) for number in t_interval(sample))
        p = float(sign_flip_p(sample)) if len(sample) > 1 else math.nan
        return row | {"change": mean, "low": low, "high": high, "p": p}
    mean = float(after.mean() - before.mean()) * POINTS
    if min(len(before), len(after)) < 2 or max(before.std(), after.std()) <= ROUNDING:  # noqa: PLR2004 - no spread
        return row | {"change": mean, "low": math.nan, "high": math.nan, "p": math.nan}
    test = stats.ttest_ind(after.to_numpy(dtype=float) * POINTS, before.to_numpy(dtype=float) * POINTS, equal_var=False)
    interval = test.confidence_interval(0.95)
    return row | {"change": mean, "low": float(interval.low), "high": float(interval.high), "p": float(test.pvalue)}


def _scores(study: Compared, arm: str) -> pd.Series[float]:
    scores = confirm_scores(study.findings.record.trials)
    own = scores[(scores["arm"] == arm) & scores["score"].notna()]
    return own.set_index("seed")["score"].astype(float)


def _same_data(first: Compared, other: Compared) -> bool:
    digests = [(study.protocol.get("dataset") or {}).get("sha256") for study in (first, other)]
    return bool(digests[0]) and digests[0] == digests[1] and first.setting == other.setting


def config_of(study: Compared, arm: str) -> dict[str, Any]:
    """The configuration that was confirmed: the winner's, or an untuned arm's own; empty if not on record."""
    winner = (study.protocol.get("winners") or {}).get(arm)
    declared = {str(own.get("name")): own for own in study.protocol.get("arms") or []}.get(arm, {})
    stated = study.protocol.get("regime") == STATED
    config = declared.get("fixed") if stated else (winner or {}).get("config")
    return {key: value for key, value in (config or {}).items() if key not in NO_CHOICE}


def describe_change(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """``optimizer sgd → adam, batch_size 32 → 64``; a dash for a key that one of them lacks."""
    if not before or not after:
        return "not on record"
    keys = [key for key in dict.fromkeys([*before, *after]) if before.get(key) != after.get(key)]
    changes = [f"{key} {shown(before.get(key)) or '–'} → {shown(after.get(key)) or '–'}" for key in keys]
    return ", ".join(changes) or "the same"
