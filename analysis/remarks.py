"""Findings to plain sentences: what fixes the study, and what to distrust."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.address import redact
from analysis.audit import describe_rungs
from analysis.compare import POINTS, paired_differences
from analysis.findings import Findings
from analysis.inference import ALPHA, smallest_p
from analysis.looks import look_facts, look_remark
from analysis.places import describe_nodes
from analysis.verdict import count, difference

WORDS = {"True": "yes", "False": "no"}
#: A difference so many (normal-scaled) median deviations from the median stands apart.
OUTLIER_SPREADS = 5

#: What the search is, in the words of the protocol, and where ``study.json`` says it.
PROTOCOL_FACTS = {
    "Question": "question",
    "Factor": "factor",
    "Mode": "mode",
    "Search": "search",
    "Stopping": "stopping",
    "Trials per arm": "trials_per_arm",
    "δ (points)": "delta",
    "Seed": "seed",
    "Search seeds": "search_seeds",
    "Confirm seeds": "confirm_seeds",
    "Commit": "git_commit",
    "Uncommitted changes": "git_dirty",
}


def protocol_facts(findings: Findings) -> dict[str, str]:
    """What fixes the study, in reading order."""
    protocol = findings.record.protocol
    facts = {name: protocol.get(key) for name, key in PROTOCOL_FACTS.items()}
    facts["Looks"] = look_facts(protocol)
    facts["Rungs"] = describe_rungs(protocol)
    twins = (protocol.get("controls") or {}).items()
    facts["Control arms"] = [f"{arm}, which is {like} under another name" for arm, like in twins]
    dataset = protocol.get("dataset") or {}
    sizes = [
        f"{dataset[key]:,} {key.removeprefix('num_')}" for key in ("num_train", "num_val", "num_test") if key in dataset
    ]
    facts["Dataset"] = ", ".join([str(dataset.get("name", "")), *sizes]) if dataset else None
    facts["Dataset sha256"] = dataset.get("sha256")
    facts["Versions"] = ", ".join(f"{name} {version}" for name, version in (protocol.get("versions") or {}).items())
    facts["Pins sha256"] = findings.record.tags.get("constraints_sha256")
    facts["Nodes"] = describe_nodes(findings.nodes)
    facts["MLflow run"] = f"{findings.record.run_id} in {redact(findings.record.tracking_uri)}"
    return {
        name: ", ".join(map(str, value)) if isinstance(value, list) else WORDS.get(str(value), str(value))
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
    remarks += look_remark(findings.looks)
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
    if len(set(budgets)) > 1:
        remarks.append(f"Tuning budgets differ: {budgets.min()} to {budgets.max()} trials per arm.")
    diverged = int(findings.table["num_diverged"].sum())
    if diverged:
        remarks.append(f"{count(diverged, 'confirm seed')} diverged and counted with chance accuracy.")
    unpaired = int(findings.comparisons["num_unpaired"].sum())
    if unpaired:
        remarks.append(f"{count(unpaired, 'seed')} had a score in one of two arms only and entered no comparison.")
    remarks += describe_disagreements(findings)
    remarks.append(describe_control(findings))
    remarks += describe_power(findings)
    remarks += describe_luck(findings)
    remarks.append(describe_conditions(findings))
    return remarks


def describe_disagreements(findings: Findings) -> list[str]:
    """Where an interval and its corrected p say different things, and why."""
    frame = findings.comparisons
    apart = (frame["low_points"] > 0) | (frame["high_points"] < 0)
    found = frame["p_holm"] < ALPHA
    pairs = paired_differences(findings.record.trials, findings.baseline)
    remarks = [
        f"{row['arm']}: Holm p = {row['p_holm']:.2g} says that it differs from {findings.baseline}, though its t "
        f"interval {interval_text(row)} includes 0: {_why_wide(pairs[pairs['arm'] == row['arm']])} The sign-flip test, "
        f"which p is from, leaves {interval_text(row, 'flip_')} (not corrected for the family)."
        for _, row in frame[found & ~apart].iterrows()
    ]
    corrected = frame[apart & ~found & (frame["p"] < ALPHA)]
    if len(corrected):
        arms = [str(arm) for arm in corrected["arm"]]
        one = len(arms) == 1
        named = (
            f"interval of {arms[0]} excludes" if one else f"intervals of {', '.join(arms[:-1])} and {arms[-1]} exclude"
        )
        remarks.append(
            f"The t {named} 0, though Holm p is no smaller than {ALPHA}: p is corrected for "
            f"{count(len(frame), 'comparison')}, an interval stands for its arm alone."
        )
    for _, row in frame[apart & ~found & (frame["p"] >= ALPHA)].iterrows():
        least = smallest_p(int(row["num_seeds"]))
        reason = (
            f"no sign-flip p of {count(int(row['num_seeds']), 'seed')} can be smaller than {least:.2g}."
            if least >= ALPHA
            else "the t interval takes the differences for normal, the test does not and finds so many signs by chance."
        )
        remarks.append(
            f"{row['arm']}: its t interval {interval_text(row)} excludes 0, though p = {row['p']:.2g} even before the "
            f"correction: {reason}"
        )
    return remarks


def interval_text(row: pd.Series[Any], kind: str = "") -> str:
    """``[-0.31, +1.20]``, of the t interval or the sign-flip one (``flip_``)."""
    return f"[{row[f'{kind}low_points']:+.2f}, {row[f'{kind}high_points']:+.2f}]"


def _why_wide(pairs: pd.DataFrame) -> str:
    """The seeds that stand apart from an arm's other differences, or that there is none."""
    known = pairs.dropna(subset="difference")
    points = POINTS * known["difference"].astype(float)
    middle = float(points.median())
    spread = float(stats.median_abs_deviation(points, scale="normal"))
    outside = known[((points - middle).abs() > OUTLIER_SPREADS * spread) | (known["diverged"] > 0)]
    if outside.empty:
        return "no seed stands apart, both are close to their bounds."
    named = [
        f"seed {row['seed']} ({POINTS * row['difference']:+.2f} points{', diverged' if row['diverged'] else ''})"
        for _, row in outside.iterrows()
    ]
    verb = "stands" if len(named) == 1 else "stand"
    return f"{' and '.join(named)} {verb} apart from the others (median {middle:+.2f}) and widens it."


def describe_luck(findings: Findings) -> list[str]:
    """How far a twin's own search took it from the baseline: what intervals leave out; nothing without comparisons."""
    record = findings.record
    if findings.comparisons.empty or "report" in record.protocol or not (record.trials["phase"] == "search").any():
        return []
    twins = findings.comparisons[findings.comparisons["twin"].astype(bool)]
    if twins.empty:
        return ["Intervals leave the luck of the search out, and no arm of this study measures it."]
    return [
        f"Intervals leave the luck of the search out. It is measured by {row['arm']}, which is {findings.baseline} "
        f"under another name: searched on its own, it came out {difference(row)} points apart; a difference of "
        f"{abs(row['difference_points']):.2f} points or less may be no more than that."
        for _, row in twins.iterrows()
    ]


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
        "standard deviation). The table of errors has both beside each other, for accuracies and for differences."
    )
