"""Whether a classifier is as often right as it is sure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.compare import POINTS, twins_of
from analysis.figures.style import Style, label, lay_out, translucent
from analysis.finals import calibration_scores, compare_values, final_runs, pool_bins, reliability_bins
from analysis.findings import Findings
from analysis.inference import ALPHA, t_interval
from analysis.verdict import count

MAX_PANELS_PER_ROW = 5
PANEL_HEIGHT = 225
#: A panel's title shares its row with four others.
MAX_PANEL_LABEL = 24
#: Areas of the markers: of the smallest and of a bin that holds all images.
SMALLEST, LARGEST = 3.0, 16.0
COLUMNS = (
    "arm", "low", "high", "count", "confidence", "accuracy", "num_seeds", "num_left_out",
    "ece", "ece_low", "ece_high", "gap", "gap_low", "gap_high", "difference", "difference_low", "difference_high",
    "p_holm", "twin",
)  # fmt: skip


def info_reliability(findings: Findings) -> pd.DataFrame:
    """A row per arm and bin of confidence that holds an image.

    Returns:
        What ``pool_bins`` returns, fractions, and for the whole arm, in points: ``ece``, mean over seeds, with its 95%
        t interval; its ``difference`` to the baseline's with the same and ``p_holm``; ``gap``, confidence minus
        accuracy, with t intervals that hold for all arms together (Bonferroni). ``num_left_out`` counts seeds without
        finite bins; ``twin`` says whether the arm is the baseline under another name.
    """
    bins = reliability_bins(findings.record)
    if bins.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    scores = calibration_scores(bins)
    ends = {"low": "difference_low", "high": "difference_high"}
    compared = compare_values(scores.rename(columns={"ece": "value"}), findings.baseline).rename(columns=ends)
    of_arm = _arm_scores(scores).merge(compared, on="arm", how="left")
    runs = final_runs(findings.record).groupby("arm").size()
    of_arm["num_left_out"] = of_arm["arm"].map(runs) - of_arm["num_seeds"]
    of_arm["twin"] = of_arm["arm"].isin(twins_of(findings.baseline, findings.record.protocol))
    return pool_bins(bins).merge(of_arm, on="arm")[list(COLUMNS)]


def _arm_scores(scores: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for arm, own in scores.groupby("arm"):
        row: dict[str, Any] = {"arm": arm, "num_seeds": len(own)}
        confidences = {"ece": 1 - ALPHA, "gap": 1 - ALPHA / scores["arm"].nunique()}
        for name, confidence in confidences.items():
            mean, low, high = t_interval(own[name].to_numpy(dtype=float), confidence=confidence)
            row |= {name: float(mean), f"{name}_low": float(low), f"{name}_high": float(high)}
        rows.append(row)
    frame = pd.DataFrame(rows)
    return frame.assign(ece_low=frame["ece_low"].clip(lower=0))


def plot_reliability(info: pd.DataFrame, style: Style) -> go.Figure:
    """One panel per arm: accuracy against confidence beside the diagonal, markers as large as their share of images."""
    arms = [arm for arm in style.colours if arm in set(info["arm"])]
    rows = -(-len(arms) // MAX_PANELS_PER_ROW)
    columns = max(1, -(-len(arms) // rows))
    bins = {str(arm): own for arm, own in info.groupby("arm")}
    figure = make_subplots(
        rows=rows,
        cols=columns,
        shared_xaxes=True,
        shared_yaxes=True,
        subplot_titles=[_title(bins[arm].iloc[0]) for arm in arms],
        horizontal_spacing=0.02,
        vertical_spacing=0.26 / rows,
        x_title="Confidence, the highest predicted probability (%)",
        y_title="Test accuracy (%)",
    )
    for place, arm in enumerate(arms):
        where = {"row": place // columns + 1, "col": place % columns + 1}
        diagonal = {"x": [0, POINTS], "y": [0, POINTS], "mode": "lines", "hoverinfo": "skip", "showlegend": False}
        figure.add_scatter(**diagonal, line={"color": "#8a91a0", "width": 1.2, "dash": "dot"}, **where)
        figure.add_trace(_bins(bins[arm], arm, style), **where)
        figure.update_xaxes(showticklabels=place + columns >= len(arms), **where)
    lay_out(figure, height=130 + PANEL_HEIGHT * rows, margin={"l": 70, "r": 20, "t": 80, "b": 60})
    figure.update_annotations(selector={"yanchor": "bottom"}, font={"size": 12})  # the panels' titles
    figure.update_xaxes(range=[0, 102], tickvals=[0, 25, 50, 75, 100])
    figure.update_yaxes(range=[0, 102], tickvals=[0, 25, 50, 75, 100])
    return figure


def _title(row: pd.Series[Any]) -> str:
    return f"<b>{label(row['arm'], MAX_PANEL_LABEL)}</b><br>ECE {_score(row)}"


def _score(row: pd.Series[Any]) -> str:
    interval = f" [{row['ece_low']:.2f}, {row['ece_high']:.2f}]" if np.isfinite(row["ece_low"]) else ""
    return f"{row['ece']:.2f}{interval}"


def _bins(own: pd.DataFrame, arm: str, style: Style) -> go.Scatter:
    colour = style.colours[arm]
    share = own["count"] / own["count"].sum()
    return go.Scatter(
        x=own["confidence"].to_numpy() * POINTS,
        y=own["accuracy"].to_numpy() * POINTS,
        mode="lines+markers",
        line={"color": translucent(colour, 0.6), "width": 1.5},
        marker={"color": colour, "size": SMALLEST + (LARGEST - SMALLEST) * np.sqrt(share.to_numpy()), "opacity": 1},
        showlegend=False,
        hovertext=[_hover_bin(row) for row in own.assign(share=share).to_dict("records")],
        hoverinfo="text",
    )


def _hover_bin(row: dict[Any, Any]) -> str:
    left_out = f"; {row['num_left_out']} left out" if row["num_left_out"] else ""
    return (
        f"<b>{label(row['arm'])}</b>, confidence {row['low']:.1%} to {row['high']:.1%}<br>"
        f"mean {row['confidence']:.2%}, right {row['accuracy']:.2%}<br>"
        f"{row['count']:,.0f} images ({row['share']:.1%}) of {count(row['num_seeds'], 'seed')}{left_out}"
    )


def say_reliability(info: pd.DataFrame, style: Style) -> str:
    """How many arms are too sure or not sure enough, and which is best calibrated."""
    arms = info.drop_duplicates("arm").sort_values("ece", kind="stable").set_index("arm")
    best, row = str(arms.index[0]), arms.iloc[0]
    score = f"ECE {_score(row)} points"
    if len(arms) > 1:
        score = f"{best} is best calibrated, {score}{_against(row, best, style)}"
    left_out = int(arms["num_left_out"].sum())
    note = f" {count(left_out, 'seed')} without finite bins left out." if left_out else ""
    return f"{_sureness(arms)}; {score}.{note}"


def _sureness(arms: pd.DataFrame) -> str:
    """Over- and underconfidence where the intervals that hold for all arms together exclude none."""
    over, under = arms.index[arms["gap_low"] > 0], arms.index[arms["gap_high"] < 0]
    if len(arms) == 1:
        kind = "is overconfident" if len(over) else "is underconfident" if len(under) else ""
        gap = f"confidence minus accuracy {arms['gap'].iloc[0]:+.2f} points"
        return (
            f"{arms.index[0]} {kind} ({gap})" if kind else f"{gap[0].upper()}{gap[1:]}, too few seeds or too close to 0"
        )
    if arms["gap_low"].isna().all():
        return (
            f"Confidence minus accuracy runs from {arms['gap'].min():+.2f} to {arms['gap'].max():+.2f} points over arms"
        )
    parts = [f"{len(over)} of {len(arms)} arms are surer than they are right"]
    parts[0] += f" (most: {arms['gap'].idxmax()}, {arms['gap'].max():+.2f} points)" if len(over) else ""
    parts.append(f"{len(under)} are less sure")
    parts[1] += f" (most: {arms['gap'].idxmin()}, {arms['gap'].min():+.2f} points)" if len(under) else ""
    return ", ".join(parts)


def _against(row: pd.Series[Any], arm: str, style: Style) -> str:
    if arm == style.baseline:
        return " (the baseline)"
    if row["twin"]:
        return f" (the same function as {style.baseline})"
    if np.isnan(row["p_holm"]):
        return ""
    interval = (
        f" [{row['difference_low']:+.2f}, {row['difference_high']:+.2f}]" if pd.notna(row["difference_low"]) else ""
    )
    sure = f"Holm p = {row['p_holm']:.2g}" + ("" if row["p_holm"] < ALPHA else ", so it may be chance")
    return f", {row['difference']:+.2f}{interval} against {style.baseline} ({sure})"
