"""All that a study's record says, computed once: what figures, pages and tables are made from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pandas as pd

from analysis.audit import search_audit
from analysis.compare import (
    arm_names,
    arm_table,
    baseline_of,
    compare_to_baseline,
    control_difference,
    mark_luck,
    twins_of,
)
from analysis.load import StudyRecord
from analysis.looks import measure_looks, no_looks, say_look
from analysis.places import no_nodes, node_audit
from analysis.trainability import measure_trainability
from analysis.verdict import count, delta_of, verdict
from search_spaces.reported import FAIR, STATED


@dataclass(frozen=True, eq=False)
class Findings:
    """A study's record and what follows from it.

    Args:
        record: As read from MLflow.
        arms: Names in the order of the protocol.
        baseline: The arm that others are compared with; empty if there is no arm.
        delta: The largest difference that does not matter, in accuracy points.
        table: From ``arm_table``, and beside it the columns of ``measure_trainability``.
        comparisons: From ``compare_to_baseline``, marked by ``mark_luck``.
        control: From ``control_difference``.
        audit: From ``search_audit``.
        verdict: One sentence or a few.
        looks: From ``measure_looks``; empty for a study that was never extended.
        nodes: From ``node_audit``: of all trials, those of a regime that this does not speak of too.
    """

    record: StudyRecord
    arms: tuple[str, ...]
    baseline: str
    delta: float
    table: pd.DataFrame
    comparisons: pd.DataFrame
    control: pd.DataFrame
    audit: pd.DataFrame
    verdict: str
    looks: pd.DataFrame = field(default_factory=no_looks)
    nodes: pd.DataFrame = field(default_factory=no_nodes)


def find(record: StudyRecord) -> Findings:
    """Compute everything a report states; of a reported study's regimes, what the fair one says if it was run."""
    nodes = node_audit(record.trials)
    record = _one_regime(record)
    trials = record.trials
    protocol = {**record.protocol, "baseline": baseline_of(trials, record.protocol)}
    baseline, delta = protocol["baseline"], delta_of(protocol)
    trainability = measure_trainability(record, {**protocol, "delta": delta})
    table = arm_table(trials, protocol, record.epochs).join(trainability, on="arm")
    comparisons = mark_luck(compare_to_baseline(trials, baseline, delta), twins_of(baseline, protocol))
    looks = measure_looks(trials, protocol)
    return Findings(
        record=record,
        arms=tuple(arm_names(trials, protocol)),
        baseline=baseline,
        delta=delta,
        table=table,
        comparisons=comparisons,
        control=control_difference(trials, baseline),
        audit=search_audit(trials, protocol),
        verdict=f"{verdict(comparisons, table, protocol)}{say_look(looks)}",
        looks=looks,
        nodes=nodes,
    )


def _one_regime(record: StudyRecord) -> StudyRecord:
    if "report" not in record.protocol:
        return record
    confirmed = set(record.trials.loc[record.trials["phase"] == "confirm", "regime"])
    regime = FAIR if FAIR in confirmed else STATED
    trials = record.trials[record.trials["regime"] == regime]
    epochs = record.epochs[record.epochs["run_id"].isin(trials["run_id"])]
    arms = [arm for arm in record.protocol["arms"] if regime == STATED or arm["in_fair"]]
    return replace(
        record,
        protocol={**record.protocol, "arms": arms, "regime": regime},
        trials=trials.reset_index(drop=True),
        epochs=epochs.reset_index(drop=True),
    )


def describe(findings: Findings) -> list[str]:
    """What was studied, in a few words each: data set, number of arms, baseline, when it ended."""
    dataset = str((findings.record.protocol.get("dataset") or {}).get("name") or "")
    last = findings.record.trials["end"].max()
    facts = [
        dataset,
        count(len(findings.arms), "arm"),
        f"baseline {findings.baseline}" if findings.baseline else "",
        "" if pd.isna(last) else f"{last:%Y-%m-%d %H:%M} UTC",
    ]
    return [fact for fact in facts if fact]
