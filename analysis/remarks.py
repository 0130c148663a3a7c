"""Findings to plain sentences: what fixes the study, and what to distrust."""

from __future__ import annotations

import math

import numpy as np

from analysis.address import redact
from analysis.compare import POINTS
from analysis.findings import Findings
from analysis.verdict import count

#: What the search is, in the words of the protocol, and where ``study.json`` says it.
PROTOCOL_FACTS = {
    "Question": "question",
    "Factor": "factor",
    "Mode": "mode",
    "Search": "search",
    "Stopping": "stopping",
    "Rungs (epochs)": "rungs",
    "Trials per arm": "trials_per_arm",
    "δ (points)": "delta",
    "Seed": "seed",
    "Confirm seeds": "confirm_seeds",
    "Commit": "git_commit",
    "Uncommitted changes": "git_dirty",
}


def protocol_facts(findings: Findings) -> dict[str, str]:
    """What fixes the study, in reading order."""
    protocol = findings.record.protocol
    facts = {name: protocol.get(key) for name, key in PROTOCOL_FACTS.items()}
    dataset = protocol.get("dataset") or {}
    sizes = [
        f"{dataset[key]:,} {key.removeprefix('num_')}" for key in ("num_train", "num_val", "num_test") if key in dataset
    ]
    facts["Dataset"] = ", ".join([str(dataset.get("name", "")), *sizes]) if dataset else None
    facts["Dataset sha256"] = dataset.get("sha256")
    facts["Versions"] = ", ".join(f"{name} {version}" for name, version in (protocol.get("versions") or {}).items())
    facts["MLflow run"] = f"{findings.record.run_id} in {redact(findings.record.tracking_uri)}"
    return {
        name: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in facts.items()
        if value not in (None, "", [])
    }


def audit_remarks(findings: Findings) -> list[str]:
    """What to distrust, in plain sentences."""
    record, audit = findings.record, findings.audit
    remarks = []
    if not record.protocol:
        remarks.append("study.json is not on record: arms, ranges and the protocol are read off the trials.")
    state = record.tags.get("state", "finished")
    if state != "finished":
        remarks.append(f"The study is {state}: what follows is what it has recorded so far.")
    remarks += [str(note) for note in record.protocol.get("notes") or []]
    edges = audit[audit["edge"] != ""]
    remarks += [
        f"{row['arm']}: the winner's learning rate {row['learning_rate']:.3g} lies at the {row['edge']} end of "
        f"[{row['low']:.2g}, {row['high']:.2g}]; the best may lie outside."
        for _, row in edges.iterrows()
    ]
    without = [str(arm) for arm in audit.loc[audit["winner"].isna() & (audit["trials"] > 0), "arm"]]
    if without:
        remarks.append(f"No winner on record for {', '.join(without)}.")
    budgets = audit.loc[audit["trials"] > 0, "trials"]
    if budgets.nunique() > 1:
        remarks.append(f"Tuning budgets differ: {budgets.min()} to {budgets.max()} trials per arm.")
    diverged = int(findings.table["num_diverged"].sum())
    if diverged:
        remarks.append(f"{count(diverged, 'confirm seed')} diverged and counted with chance accuracy.")
    unpaired = int(findings.comparisons["num_unpaired"].sum())
    if unpaired:
        remarks.append(f"{count(unpaired, 'seed')} had a score in one of two arms only and entered no comparison.")
    remarks.append(describe_control(findings))
    remarks += describe_power(findings)
    remarks.append(describe_conditions(findings))
    return remarks


def describe_power(findings: Findings) -> list[str]:
    """The smallest effects that the comparisons could have found; nothing if there are none."""
    if findings.comparisons.empty:
        return []
    ordered = findings.comparisons.sort_values("detectable_points")
    if not np.isfinite(ordered["detectable_points"].iloc[-1]):
        return [
            "So few seeds cannot find an effect of any size in every comparison: no p could survive the correction."
        ]
    ends = [f"{row['detectable_points']:.2f} points ({row['arm']})" for _, row in ordered.iloc[[0, -1]].iterrows()]
    reach = " to ".join(dict.fromkeys(ends))
    return [f"Smallest effect that the study finds four times in five, given its seeds and their spread: {reach}."]


def describe_control(findings: Findings) -> str:
    """What the negative control shows."""
    control = findings.control.dropna(subset=["difference"])
    if control.empty:
        return "No negative control on record."
    arm, seeds = str(control["arm"].iloc[0]), count(int(control["seed"].nunique()), "seed")
    largest = float(control["difference"].abs().max())
    if largest == 0:
        same = f"Negative control: {arm} with the winner of {findings.baseline} gives exactly the same numbers"
        return f"{same} on {seeds}."
    return (
        f"The negative control fails: {arm} with the winner of {findings.baseline} differs by up to {largest:.3g} over "
        f"{seeds}; the difference must be 0, so some of what is shown above is not the factor's doing."
    )


def describe_conditions(findings: Findings) -> str:
    """What the intervals do not cover, with its size where it is known."""
    base = "Intervals are over seeds: they are conditional on this test split and on the winners chosen"
    images = int((findings.record.protocol.get("dataset") or {}).get("num_test") or 0)
    best = findings.table["accuracy"].max()
    if not images or not np.isfinite(best):
        return f"{base}."
    error = POINTS * math.sqrt(best * (1 - best) / images)
    return (
        f"{base}; another test split of {images:,} images would move one accuracy by about ±{error:.2f} points (one "
        "standard deviation)."
    )
