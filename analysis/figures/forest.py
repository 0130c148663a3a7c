"""Difference of each arm to the baseline, with its interval and the band that does not matter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.figures.style import INK, Style, label, lay_out
from analysis.findings import Findings
from analysis.inference import ALPHA
from analysis.verdict import difference


def info_forest(findings: Findings) -> pd.DataFrame:
    """The comparisons, best arm first."""
    return findings.comparisons


def plot_forest(info: pd.DataFrame, style: Style) -> go.Figure:
    """Difference of each arm to the baseline with its interval; filled where it survives Holm; the band is ±δ."""
    figure = go.Figure()
    figure.add_vrect(x0=-style.delta, x1=style.delta, fillcolor="#eef0f4", line_width=0, layer="below")
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    for position, row in enumerate(info.to_dict("records")):
        colour = style.colours[row["arm"]]
        reach = [row["high_points"] - row["difference_points"]]
        figure.add_scatter(
            x=[row["difference_points"]],
            y=[position],
            error_x={"array": reach, "color": colour, "thickness": 2.5, "width": 6} if np.isfinite(reach[0]) else None,
            marker={
                "color": colour if row["p_holm"] < ALPHA else "white",
                "line": {"color": colour, "width": 2.5},
                "size": 12,
            },
            mode="markers",
            showlegend=False,
            hovertext=_hover_comparison(row),
            hoverinfo="text",
        )
        figure.add_annotation(
            x=1.01, xref="paper", xanchor="left", y=position, showarrow=False, text=difference(pd.Series(row))
        )
    title = f"Test accuracy minus that of {label(style.baseline)} (percentage points)"
    lay_out(figure, height=120 + 38 * len(info), margin={"l": 10, "r": 170, "t": 20, "b": 10})
    figure.update_xaxes(title_text=title, zeroline=False)
    figure.update_yaxes(
        tickvals=list(range(len(info))),
        ticktext=[label(arm) for arm in info["arm"]],
        range=[len(info) - 0.4, -0.6],
        showgrid=False,
    )
    return figure


def _hover_comparison(row: dict[Any, Any]) -> str:
    inside = "lies" if row["equivalent"] else "does not lie"
    inner = f"[{row['equivalence_low_points']:+.2f}, {row['equivalence_high_points']:+.2f}]"
    lines = [
        f"<b>{label(row['arm'])}</b>: {difference(pd.Series(row))} points",
        f"Holm p = {row['p_holm']:.3g} (uncorrected {row['p']:.3g})",
        f"better in {row['probability_better']:.0%} of {row['num_seeds']} seeds",
        f"90% interval {inner} {inside} within ±δ",
    ]
    return "<br>".join(lines)


def say_forest(info: pd.DataFrame, style: Style) -> str:
    """How many arms differ from the baseline, and how many are shown to be as good."""
    found = int((info["p_holm"] < ALPHA).sum())
    equal = int(info["equivalent"].astype(bool).sum())
    best = info.iloc[0]
    return (
        f"{best['arm']} stands highest, {difference(best)} points; {found} of {len(info)} arms differ from "
        f"{style.baseline} after Holm's correction (filled), {equal} are shown to lie within δ = {style.delta:g}."
    )
