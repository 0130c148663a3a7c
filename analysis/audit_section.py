"""Findings to the page's audit: what to distrust, what the search spent, which errors there are, how to repeat it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.audit import STOP_REASONS, describe_rungs, sampling_errors
from analysis.findings import Findings
from analysis.places import nodes_part
from analysis.remarks import audit_remarks, protocol_facts
from analysis.tables import MISSING, Cell, number, render_table, text

#: Ends of a trial that earn a column only where there are any.
RARE = ("pruned", "diverged", "failed", "interrupted", "running")


def audit_section(findings: Findings) -> str:
    """The section that ends the page."""
    remarks = "".join(f"<li>{text(remark)}</li>" for remark in audit_remarks(findings))
    protocol = findings.record.protocol
    command = protocol.get("command") or findings.record.tags.get("command")
    shown = f"<h3>Command</h3><pre><code>{text(command)}</code></pre>" if command else ""
    facts = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in protocol_facts(findings).items())
    return (
        f'<section id="section-audit"><h2>Audit</h2><ul>{remarks}</ul>{_search_part(findings)}{_errors_part(findings)}'
        f"{nodes_part(findings.nodes, len(findings.record.trials))}"
        f"<h3>Protocol</h3><dl>{facts}</dl>{shown}</section>"
    )


def _search_part(findings: Findings) -> str:
    audit = findings.audit
    if not audit["trials"].any():
        return ""
    reasons = [reason for reason in STOP_REASONS if reason not in RARE or audit[reason].any()]
    stops = bool((audit["stopped"] != "").any())
    edges = bool(np.isfinite(audit["low"].astype(float)).any())
    headings = [
        ("Arm", "the value of the factor"),
        ("Trials", "search trials on record"),
        *((reason.capitalize(), f"search trials that ended so: {reason}") for reason in reasons),
        ("Epochs", "epochs spent in the search"),
        *(
            [("Stopped early", "how many trials were stopped at which rung, of how many that reached it")]
            if stops
            else []
        ),
        ("Winner", "number of the winning trial"),
        ("Learning rate", "of the winner; of a reported study for a mean over the batch"),
        *([("Range", "searched, for the winner's optimizer")] if edges else []),
        *([("Edge", "whether the winner lies in the outer tenth of the range")] if edges else []),
    ]
    rows = [_search_cells(row, reasons, stops=stops, edges=edges) for _, row in audit.iterrows()]
    rungs = describe_rungs(findings.record.protocol)
    caption = f'<p class="caption">{text(f"Rungs: {rungs}. A rung compares trials of one arm.")}</p>' if rungs else ""
    return f"<h3>Search</h3>{render_table('search', headings, rows)}{caption}"


def _search_cells(row: pd.Series[Any], reasons: Sequence[str], *, stops: bool, edges: bool) -> list[Cell]:
    bounds = f"{row['low']:.2g} to {row['high']:.2g}" if np.isfinite(row["low"]) else MISSING
    edge = f'<b class="warn">{text(row["edge"])}</b>' if row["edge"] else MISSING
    ends: list[Cell] = [(bounds, float(row["low"])), (edge, str(row["edge"]))]
    known = not pd.isna(row["winner"])
    return [
        (text(row["arm"]), str(row["arm"]).lower()),
        (str(row["trials"]), float(row["trials"])),
        *((str(row[reason]), float(row[reason])) for reason in reasons),
        (str(row["epochs"]), float(row["epochs"])),
        *([(text(row["stopped"] or MISSING), str(row["stopped"]))] if stops else []),
        (str(row["winner"]) if known else MISSING, float(row["winner"]) if known else math.nan),
        number(row["learning_rate"], ".3g"),
        *(ends if edges else []),
    ]


ERROR_COLUMNS = {
    "accuracy_seeds": ("Accuracy: seeds", "standard error of the mean accuracy over seeds, points"),
    "accuracy_split": ("Accuracy: test split", "standard error that another test split of this size brings, at most"),
    "difference_seeds": ("Δ: seeds", "standard error of the mean paired difference over seeds, points"),
    "difference_split": ("Δ: test split", "standard error that another test split brings to the difference, at most"),
    "detectable": ("Smallest Δ found", "difference that so many seeds of such spread find four times in five"),
}


def _errors_part(findings: Findings) -> str:
    num_test = int((findings.record.protocol.get("dataset") or {}).get("num_test") or 0)
    errors = sampling_errors(findings.table, findings.comparisons, num_test)
    kept = [column for column in ERROR_COLUMNS if errors[column].notna().any()]
    if not kept:
        return ""
    headings = [("Arm", "the value of the factor"), *(ERROR_COLUMNS[column] for column in kept)]
    rows: list[list[Cell]] = [
        [(text(row["arm"]), str(row["arm"]).lower()), *(_points(row[column]) for column in kept)]
        for _, row in errors.iterrows()
    ]
    caption = (
        "Points; standard errors. Intervals on this page are made of the errors over seeds alone. Those of the test "
        "split are upper bounds: all arms are scored on the same images, and mistakes they share cancel."
    )
    return f'<h3>Errors</h3>{render_table("errors", headings, rows)}<p class="caption">{text(caption)}</p>'


def _points(value: float) -> Cell:
    return ("none", math.inf) if value == math.inf else number(value, ".2f")
