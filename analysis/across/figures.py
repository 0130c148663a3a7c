"""The two figures of a comparison of studies: a forest by arm and study, and a critical-difference diagram."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.across.ranks import Ranking
from analysis.across.result import Result
from analysis.across.sentence import place_names
from analysis.figures.style import INK, arm_colours, label, lay_out, translucent
from analysis.inference import ALPHA
from analysis.verdict import difference

#: A row of a frame, by column.
Row = Mapping[Any, Any]

SOFT = "#565d6d"
BAND = "#eef0f4"
ROW = 27
POOLED = "mean over datasets"
#: Steps of the diagram below the axis, in its own unit.
BAR_STEP, LABEL_STEP = 0.45, 0.8


def colours_of(result: Result) -> dict[str, str]:
    """A colour per arm: that of the first study's own report."""
    return arm_colours(arm for study in result.comparison.studies for arm in study.findings.arms)


def info_forest(result: Result) -> pd.DataFrame:
    """One row a line of the forest from the top: arms by mean difference, twins last; studies as named, then the mean.

    Returns:
        ``arm, place, kind`` (``study`` or ``pooled``)``, difference_points, low_points, high_points, delta, filled,
        outcome, p, p_page, num_pairs, twin, next_low, next_high, position``.
    """
    scores = result.scores[result.scores["difference_points"].notna()]
    place_of = dict(
        zip((study.name for study in result.comparison.studies), place_names(result.comparison), strict=True)
    )
    order = scores.groupby("arm", sort=False).agg({"twin": "first", "difference_points": "mean"})
    order = order.sort_values(["twin", "difference_points"], ascending=[True, False], kind="stable")
    rows = []
    position = 0
    for arm in order.index:
        position += 1  # the arm's heading
        for row in scores[scores["arm"] == arm].to_dict("records"):
            shown = {key: row[key] for key in ("difference_points", "low_points", "high_points", "delta", "outcome")}
            shown |= {"p": row["p"], "p_page": row["p_page"], "num_pairs": row["num_pairs"], "twin": row["twin"]}
            shown |= {"filled": row["p_page"] < ALPHA, "place": place_of[row["study"]], "kind": "study"}
            rows.append({"arm": arm, **shown, "position": position})
            position += 1
        for row in result.pooled[result.pooled["arm"] == arm].to_dict("records"):
            shown = {"difference_points": row["mean"], "low_points": row["low"], "high_points": row["high"]}
            shown |= {key: row[key] for key in ("next_low", "next_high", "tau2", "i2", "num_datasets")}
            rows.append({"arm": arm, "place": POOLED, "kind": "pooled", **shown, "filled": False, "position": position})
            position += 1
    return pd.DataFrame(rows)


def plot_forest(info: pd.DataFrame, baseline: str, colours: Mapping[str, str]) -> go.Figure:
    """Differences with their intervals, by arm and study; the grey band of a line is its study's ±δ."""
    figure = go.Figure()
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    for row in info.to_dict("records"):
        position, colour = row["position"], colours[row["arm"]]
        if row["kind"] == "study":
            figure.add_shape(
                type="rect", x0=-row["delta"], x1=row["delta"], y0=position - 0.5, y1=position + 0.5,
                fillcolor=BAND, line_width=0, layer="below",
            )  # fmt: skip
        else:
            figure.add_scatter(
                x=[row["next_low"], row["next_high"]], y=[position] * 2, mode="lines", hoverinfo="skip",
                line={"color": translucent(colour, 0.6), "width": 1.5, "dash": "dot"}, showlegend=False,
            )  # fmt: skip
        figure.add_scatter(**_point(row, colour))
        figure.add_annotation(
            x=1.01, xref="paper", xanchor="left", y=position, showarrow=False, text=difference(pd.Series(row)),
        )  # fmt: skip
    headings = info.groupby("arm", sort=False)["position"].min() - 1
    twins = set(info.loc[info["twin"].eq(other=True), "arm"])
    ticks = [
        (float(place), f"<b>{label(arm)}</b>{' (twin)' if arm in twins else ''}") for arm, place in headings.items()
    ]
    ticks += [(float(row["position"]), label(row["place"])) for row in info.to_dict("records")]
    last = float(info["position"].max())
    lay_out(figure, height=110 + int(ROW * (last + 1)), margin={"l": 10, "r": 170, "t": 20, "b": 10})
    low, high = _reach(info)
    figure.update_xaxes(
        title_text=f"Test accuracy minus that of {label(baseline)} (percentage points)", range=[low, high]
    )
    figure.update_yaxes(
        tickvals=[place for place, _ in ticks],
        ticktext=[name for _, name in ticks],
        range=[last + 0.6, -0.7],
        showgrid=False,
        ticks="",
    )
    return figure


def _reach(info: pd.DataFrame) -> tuple[float, float]:
    """So far that every interval is seen; where the next dataset may lie is cut off rather than the rest squeezed."""
    ends = info[["difference_points", "low_points", "high_points"]].to_numpy(dtype=float)
    bands = info["delta"].dropna().to_numpy(dtype=float)
    low = min(float(np.nanmin(ends)), float(-bands.max(initial=0)))
    high = max(float(np.nanmax(ends)), float(bands.max(initial=0)))
    pad = 0.06 * (high - low)
    return low - pad, high + pad


def _point(row: Row, colour: str) -> dict[str, object]:
    number = {key: float(row[key]) for key in ("difference_points", "low_points", "high_points")}
    arms = {
        "array": [number["high_points"] - number["difference_points"]],
        "arrayminus": [number["difference_points"] - number["low_points"]],
        "color": colour,
        "thickness": 2.5,
        "width": 5,
    }
    pooled = row["kind"] == "pooled"
    return {
        "x": [number["difference_points"]],
        "y": [row["position"]],
        "error_x": arms if math.isfinite(number["low_points"]) else None,
        "marker": {
            "symbol": "diamond" if pooled else "circle",
            "size": 13 if pooled else 10,
            "color": colour if row["filled"] else "white",
            "line": {"color": colour, "width": 2.5},
        },
        "mode": "markers",
        "showlegend": False,
        "hovertext": _hover(row),
        "hoverinfo": "text",
    }


def _hover(row: Row) -> str:
    shown = pd.Series(row)
    lines = [f"<b>{label(row['arm'])}</b>, {label(row['place'])}: {difference(shown)} points"]
    if row["kind"] == "pooled":
        lines.append(f"random effects over {shown['num_datasets']:.0f} datasets: I² = {shown['i2']:.0%}, ")
        lines[-1] += f"τ² = {shown['tau2']:.3g} points²"
        lines.append(f"one further dataset (dotted): {shown['next_low']:+.2f} to {shown['next_high']:+.2f}")
    else:
        lines.append(f"sign-flip p = {shown['p']:.3g}, {shown['num_pairs']:.0f} pairs of seeds")
        if not math.isnan(shown["p_page"]):
            lines.append(f"corrected for the whole page: p = {shown['p_page']:.3g}; {shown['outcome']}")
    return "<br>".join(lines)


def plot_critical_difference(ranking: Ranking, colours: Mapping[str, str]) -> go.Figure:
    """Mean ranks on an axis, best on the left; a bar joins arms that cannot be told apart."""
    table = ranking.ranks
    k = len(table)
    figure = go.Figure()
    _axis(figure, k)
    top = -0.35
    for level, (first, last) in enumerate(ranking.bars):
        height = top - BAR_STEP * level
        ends = [float(table["mean_rank"].iloc[first]) - 0.04, float(table["mean_rank"].iloc[last]) + 0.04]
        figure.add_scatter(
            x=ends, y=[height] * 2, mode="lines", line={"color": INK, "width": 5}, hoverinfo="skip", showlegend=False
        )
    below = top - BAR_STEP * len(ranking.bars) - 0.25
    half = (k + 1) // 2
    for place, row in enumerate(table.to_dict("records")):
        left = place < half
        depth = below - LABEL_STEP * (place if left else k - 1 - place)
        _elbow(figure, row, depth=depth, left=left, k=k, colour=colours[str(row["arm"])])
    if ranking.critical_difference <= k - 1:
        _ruler(figure, ranking.critical_difference)
    lowest = below - LABEL_STEP * max(half - 1, 0)
    lay_out(figure, height=int(90 + 34 * (1.6 - lowest)), margin={"l": 230, "r": 230, "t": 10, "b": 10})
    figure.update_xaxes(visible=False, range=[1 - 0.02 * k, k + 0.02 * k])
    figure.update_yaxes(visible=False, range=[lowest - 0.5, 1.5])
    return figure


def _axis(figure: go.Figure, k: int) -> None:
    figure.add_scatter(
        x=[1, k], y=[0, 0], mode="lines", line={"color": INK, "width": 1}, hoverinfo="skip", showlegend=False
    )
    for rank in range(1, k + 1):
        figure.add_scatter(
            x=[rank, rank], y=[0, 0.12], mode="lines", line={"color": INK, "width": 1}, hoverinfo="skip",
            showlegend=False,
        )  # fmt: skip
        figure.add_annotation(x=rank, y=0.15, yanchor="bottom", text=str(rank), showarrow=False)
    figure.add_annotation(
        x=-0.01, xref="paper", y=0, xanchor="right", showarrow=False, text="mean rank", font={"color": SOFT}
    )


def _elbow(figure: go.Figure, row: Row, *, depth: float, left: bool, k: int, colour: str) -> None:
    rank = float(row["mean_rank"])
    end = 1 - 0.015 * k if left else k + 0.015 * k
    own = "<br>".join(f"{label(name)}: {value:g}" for name, value in row.items() if name not in {"arm", "mean_rank"})
    figure.add_scatter(
        x=[rank, rank, end], y=[0, depth, depth], mode="lines", line={"color": colour, "width": 1.5},
        hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    figure.add_scatter(
        x=[rank], y=[0], mode="markers", marker={"color": colour, "size": 11}, showlegend=False, hoverinfo="text",
        hovertext=f"<b>{label(row['arm'])}</b>: mean rank {rank:.2f}<br>{own}",
    )  # fmt: skip
    figure.add_annotation(
        x=end, y=depth, xanchor="right" if left else "left", showarrow=False,
        text=f"{label(row['arm'], 24)} <b>{rank:.2f}</b>" if left else f"<b>{rank:.2f}</b> {label(row['arm'], 24)}",
    )  # fmt: skip


def _ruler(figure: go.Figure, length: float) -> None:
    figure.add_scatter(
        x=[1, 1, 1, 1 + length, 1 + length, 1 + length], y=[0.9, 1.1, 1.0, 1.0, 1.1, 0.9], mode="lines",
        line={"color": SOFT, "width": 1.5}, hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    figure.add_annotation(
        x=1 + length / 2, y=1.05, yanchor="bottom", showarrow=False, font={"color": SOFT},
        text=f"critical difference {length:.2f}",
    )  # fmt: skip
