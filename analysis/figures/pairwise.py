"""Which arms can be told apart: how often each is better than each other, with what tests say of the pair."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures.style import INK, Style, label, lay_out
from analysis.findings import Findings
from analysis.inference import ALPHA
from analysis.pairwise import pairwise_comparisons, smallest_pair_p
from analysis.verdict import count, difference, seeds

EQUIVALENT, DIFFERS = "≈", "*"
#: Never better, even, always better: told apart by people of every colour vision, and in grey even is lightest.
SCALE = ((0.0, "#eba64f"), (0.25, "#f5d2a5"), (0.5, "#f7f7f5"), (0.75, "#b5d3ee"), (1.0, "#6fabdf"))
#: More arms than this need narrow cells, and more than that have room for the marks alone.
MANY, TOO_MANY = 10, 16
CELL_HEIGHT = 36


def info_pairwise(findings: Findings) -> pd.DataFrame:
    """Every ordered pair of confirmed arms, best first, and whether both are one function by the study's controls."""
    pairs = pairwise_comparisons(findings.record.trials, findings.delta)
    controls = (findings.record.protocol.get("controls") or {}).items()
    twins = {frozenset((str(arm), str(like))) for arm, like in controls}
    same = [frozenset(names) in twins for names in zip(pairs["arm"], pairs["other"], strict=True)]
    return pairs.assign(same_function=np.array(same, dtype=bool))


def plot_pairwise(info: pd.DataFrame, _style: Style) -> go.Figure:
    """A cell per ordered pair: the share of seeds on which the row's arm beats the column's, and the tests' marks."""
    arms = list(dict.fromkeys([*info["arm"], *info["other"]]))
    cells = {(row["arm"], row["other"]): row for row in info.to_dict("records")}
    grid = [[cells.get((arm, other)) for other in arms] for arm in arms]
    places = list(range(len(arms)))
    figure = go.Figure(
        go.Heatmap(
            x=places,
            y=places,
            z=[[cell["probability_better"] if cell else None for cell in row] for row in grid],
            text=[[_shown(cell, len(arms)) if cell else "" for cell in row] for row in grid],
            hovertext=[[_hover_pair(cell) if cell else "" for cell in row] for row in grid],
            texttemplate="%{text}",
            textfont={"size": 11 if len(arms) > MANY else 13, "color": INK},
            hoverinfo="text",
            hoverongaps=False,
            colorscale=SCALE,
            zmin=0,
            zmax=1,
            xgap=2,
            ygap=2,
            colorbar={
                "title": {"text": "P(A &gt; B)", "side": "right"},
                "tickformat": ".0%",
                "thickness": 14,
                "outlinewidth": 0,
            },
        )
    )
    names = [label(arm) for arm in arms]
    lay_out(figure, height=190 + CELL_HEIGHT * len(arms))
    ends = [-0.5, len(arms) - 0.5]
    figure.update_xaxes(
        title_text="Arm B (a cell: share of seeds on which A is better)",
        tickvals=places,
        ticktext=names,
        tickangle=-40 if len(arms) > MANY // 2 else 0,
        range=ends,
        showgrid=False,
    )
    figure.update_yaxes(title_text="Arm A", tickvals=places, ticktext=names, range=ends[::-1], showgrid=False)
    return figure


def _shown(cell: dict[Any, Any], num_arms: int) -> str:
    marks = (EQUIVALENT if cell["equivalent"] else "") + (DIFFERS if cell["differs"] else "")
    return marks if num_arms > TOO_MANY else f"{cell['probability_better']:.2f}{marks}"


def _hover_pair(cell: dict[Any, Any]) -> str:
    diverged = f", {count(cell['num_diverged'], 'run')} diverged" if cell["num_diverged"] else ""
    lines = [
        f"<b>{label(cell['arm'])}</b> minus <b>{label(cell['other'])}</b>: {difference(pd.Series(cell))} points",
        f"better on {cell['probability_better']:.0%} of {seeds(cell['num_seeds'])}{diverged}",
        f"difference: max-T p = {cell['p_family']:.3g} (uncorrected {cell['p']:.3g})",
        f"within ±δ: Holm p = {cell['equivalence_p_holm']:.3g} (uncorrected {cell['equivalence_p']:.3g})",
    ]
    return "<br>".join([*lines, *(["the same function under two names"] if cell["same_function"] else [])])


def say_pairwise(info: pd.DataFrame, style: Style) -> str:
    """How many pairs differ, how many are shown not to, and how many stay open."""
    # Of the two orders of a pair one is enough.
    names = pd.Series([frozenset(pair) for pair in zip(info["arm"], info["other"], strict=True)], index=info.index)
    pairs = info[~names.duplicated()]
    differs, equivalent = (pairs[column].astype(bool) for column in ("differs", "equivalent"))
    both, still_open = int((differs & equivalent).sum()), int((~differs & ~equivalent).sum())
    parts = [_say_differences(pairs), f"{int(equivalent.sum())} shown to lie within δ = {style.delta:g}"]
    parts += [f"{both} both"] if both else []
    lucky = pairs[differs & pairs["same_function"].astype(bool)]
    note = "".join(
        f" {row['arm']} and {row['other']} are one function: what parts them is luck of the search."
        for _, row in lucky.iterrows()
    )
    return f"Of {count(len(pairs), 'pair')} of arms: {'; '.join(parts)}; {still_open} open.{note}"


def _say_differences(pairs: pd.DataFrame) -> str:
    found, most = int(pairs["differs"].sum()), int(pairs["num_seeds"].max())
    floor = smallest_pair_p(most)
    if floor < ALPHA:
        return f"{found} differ after correction over all pairs (step-down max-T)"
    enough = next(n for n in itertools.count(most + 1) if smallest_pair_p(n) < ALPHA)
    return f"none can be shown to differ with {seeds(most)} (the smallest p is {floor:.2g}; {seeds(enough)} would do)"
