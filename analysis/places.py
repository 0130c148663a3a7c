"""Frame to frame: where a study's trials ran, and what that took in node-seconds."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.sections import Section
from analysis.tables import Cell, number, render_table, text
from analysis.verdict import count

COLUMNS = ("node", "trials", "busy_seconds", "span_seconds")
UNKNOWN = "unknown"
#: The row of sums.
ALL = "all"
NOTE = (
    "Busy: the times of its trials, summed, however many ran at once. Span: from the first trial's start to the last "
    "one's end, which is what a node costs at least; its boot and its idle time at the end come on top."
)


def no_nodes() -> pd.DataFrame:
    """What :func:`node_audit` gives where there are no trials."""
    return pd.DataFrame(columns=list(COLUMNS))


def node_audit(trials: pd.DataFrame) -> pd.DataFrame:
    """Where trials ran.

    Args:
        trials: A study's ``trials``.

    Returns:
        One row per node, the busiest first: ``node, trials`` (one that moved counts for each of its nodes),
        ``busy_seconds`` (of its trials, summed), ``span_seconds`` (from the first start to the last end there).
    """
    stays = pd.DataFrame(
        [stay for trial in trials.to_dict("records") for stay in _stays(trial)],
        columns=["node", "run_id", "since", "until"],
    )
    if stays.empty:
        return no_nodes()
    grouped = stays.assign(busy=(stays["until"] - stays["since"]).dt.total_seconds()).groupby("node")
    frame = pd.DataFrame(
        {
            "trials": grouped["run_id"].nunique(),
            "busy_seconds": grouped["busy"].sum(),
            "span_seconds": (grouped["until"].max() - grouped["since"].min()).dt.total_seconds(),
        }
    ).reset_index()
    return frame.sort_values(["busy_seconds", "node"], ascending=[False, True], ignore_index=True)[list(COLUMNS)]


def _stays(trial: Mapping[Hashable, Any]) -> Iterator[dict[str, Any]]:
    """A trial on each of its nodes, in order: the last stay ends with the trial, the others follow its start."""
    if pd.isna(trial["end"]):
        return  # it runs, or its driver was killed: nobody knows how long it did
    nodes = str(trial["nodes"]).split() or [str(trial["node"]) or UNKNOWN]
    whole = (trial["end"] - trial["start"]).total_seconds()
    spent = [float(seconds) for seconds in str(trial["node_seconds"]).split()]
    if len(spent) != len(nodes):  # as of an older version, which did not say
        spent = [whole / len(nodes)] * len(nodes)
    since = trial["start"]
    for place, (node, seconds) in enumerate(zip(nodes, spent, strict=True), start=1):
        length = pd.Timedelta(seconds=seconds)
        if place == len(nodes):
            since = trial["end"] - length
        yield {"node": node, "run_id": trial["run_id"], "since": since, "until": since + length}
        since += length


def add_sums(nodes: pd.DataFrame, num_trials: int) -> list[dict[str, Any]]:
    """The rows of a table of nodes, with their sums where there are several."""
    rows = [{str(key): value for key, value in row.items()} for row in nodes.to_dict("records")]
    if len(rows) > 1:
        sums = {column: float(nodes[column].sum()) for column in ("busy_seconds", "span_seconds")}
        rows.append({"node": ALL, "trials": num_trials, **sums})
    return rows


def describe_nodes(nodes: pd.DataFrame) -> list[str]:
    """One line for a study on one machine, and where there are more a few words on each."""
    return [
        f"{row['node']} ({count(row['trials'], 'trial')}, busy {row['busy_seconds']:,.0f} s"
        f" in {row['span_seconds']:,.0f} s)"
        for row in nodes.to_dict("records")
    ]


def nodes_part(nodes: pd.DataFrame, num_trials: int) -> str:
    """The page's table of nodes; empty for one machine, which is one line of the protocol."""
    rows = add_sums(nodes, num_trials)
    if len(rows) < 2:  # noqa: PLR2004 - one machine
        return ""
    headings = [
        ("Node", "the machine"),
        ("Trials", "that ran there; one that moved counts for each of its nodes, and once for all"),
        ("Busy (s)", "the times of its trials, summed"),
        ("Span (s)", "from the first trial's start to the last one's end"),
    ]
    cells: list[list[Cell]] = [
        [
            (text(row["node"]), str(row["node"]).lower()),
            (str(row["trials"]), float(row["trials"])),
            number(row["busy_seconds"], ",.0f"),
            number(row["span_seconds"], ",.0f"),
        ]
        for row in rows
    ]
    return f'<h3>Nodes</h3>{render_table("nodes", headings, cells)}<p class="caption">{text(NOTE)}</p>'


def nodes_section(nodes: pd.DataFrame, num_trials: int) -> Section:
    """The same for a terminal."""
    rows = add_sums(nodes, num_trials)
    if len(rows) < 2:  # noqa: PLR2004 - one machine
        return Section("Nodes")
    shown = [
        [str(row["node"]), str(row["trials"]), *(f"{row[key]:,.0f}" for key in ("busy_seconds", "span_seconds"))]
        for row in rows
    ]
    return Section("Nodes", ("node", "trials", "busy s", "span s"), shown, [NOTE])
