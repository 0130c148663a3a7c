"""How accuracy falls as the test images get worse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.compare import POINTS, twins_of
from analysis.end_measures import NOISE
from analysis.figures.style import Style, label, lay_out, translucent
from analysis.finals import compare_values, corruption_drops, corruption_points, pool_curves
from analysis.findings import Findings
from analysis.inference import ALPHA
from analysis.verdict import count

PANELS_PER_ROW = 3
PANEL_HEIGHT = 280
#: Bands of more arms than this hide each other: then the baseline alone has one, and the others' stand in the hover.
MAX_BANDS = 10
#: Corruption → its name, and what its severity is; units as in :mod:`trainables.corruptions`.
PANELS = {
    "gaussian_noise": ("Gaussian noise", "SD σ of the noise, pixels in [0, 1]"),
    "shot_noise": ("Shot noise", "1 / photons of a white pixel"),
    "impulse_noise": ("Impulse noise", "Share of values black or white"),
    "blur": ("Blur", "SD of the blur (pixels)"),
    "contrast": ("Less contrast", "Share of the contrast removed"),
    "brightness": ("Brightness", "Added to the value, pixels in [0, 1]"),
}
COLUMNS = (
    "arm", "corruption", "severity", "mean", "low", "high", "num_seeds", "num_diverged",
    "drop", "difference", "difference_low", "difference_high", "p_holm", "twin",
)  # fmt: skip


def info_corruption(findings: Findings) -> pd.DataFrame:
    """A row per arm, corruption and severity, which is 0 for clean images.

    Returns:
        What ``pool_curves`` returns, fractions, and for the whole curve: ``drop``, the points lost averaged over the
        severities; its ``difference`` to the baseline's with the 95% t interval, positive where the arm loses more;
        ``p_holm`` over the arms; ``twin``, whether the arm is the baseline under another name.
    """
    points = corruption_points(findings.record)
    if points.empty:
        return pd.DataFrame(columns=list(COLUMNS))
    drops = corruption_drops(points)
    ends = {"low": "difference_low", "high": "difference_high"}
    compared = [
        compare_values(own, findings.baseline).rename(columns=ends).assign(corruption=name)
        for name, own in drops.groupby("corruption")
    ]
    means = drops.groupby(["arm", "corruption"], as_index=False).agg(drop=("value", "mean"))
    frame = pool_curves(points).merge(means, on=["arm", "corruption"], how="left")
    frame = frame.merge(
        pd.concat(compared or [pd.DataFrame(columns=["arm", *ends.values(), "corruption"])]),
        on=["arm", "corruption"],
        how="left",
    )
    twins = twins_of(findings.baseline, findings.record.protocol)
    return frame.assign(twin=frame["arm"].isin(twins))[list(COLUMNS)]


def plot_corruption(info: pd.DataFrame, style: Style) -> go.Figure:
    """One panel per corruption, one curve per arm with its 95% t interval as a band."""
    names = [name for name in PANELS if name in set(info["corruption"])]
    names += sorted(set(info["corruption"]) - set(PANELS))
    columns = min(PANELS_PER_ROW, len(names))
    rows = -(-len(names) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[f"<b>{_panel(name)[0]}</b>" for name in names],
        horizontal_spacing=0.05,
        vertical_spacing=0.34 / rows,
        y_title="Test accuracy, mean over seeds (%)",
    )
    arms = [arm for arm in style.colours if arm in set(info["arm"])]
    curves = {(str(arm), str(name)): own for (arm, name), own in info.groupby(["arm", "corruption"])}
    for place, name in enumerate(names):
        where = {"row": place // columns + 1, "col": place % columns + 1}
        for arm in arms:
            if (arm, name) in curves:
                banded = len(arms) <= MAX_BANDS or arm == style.baseline
                for trace in _curve(curves[arm, name], arm, style, shown=place == 0, banded=banded):
                    figure.add_trace(trace, **where)
        figure.update_xaxes(title_text=_panel(name)[1], rangemode="tozero", **where)
    height = max(90 + PANEL_HEIGHT * rows, 150 + 30 * len(arms))  # the legend needs its lines
    lay_out(figure, height=height, margin={"l": 70, "r": 20, "t": 60, "b": 10})
    return figure


def _panel(name: str) -> tuple[str, str]:
    return PANELS.get(name, (label(name), "Severity"))


def _curve(own: pd.DataFrame, arm: str, style: Style, *, shown: bool, banded: bool) -> list[go.Scatter]:
    """The band, if there is one, and the line on it."""
    traces = []
    colour = style.colours[arm]
    known = own[own["low"].notna()]
    if banded and len(known) > 1:
        outline = {
            "x": np.concatenate([known["severity"], known["severity"][::-1]]),
            "y": np.concatenate([known["low"], known["high"][::-1]]) * POINTS,
        }
        band: dict[str, Any] = {"mode": "lines", "line": {"width": 0}, "fill": "toself", "hoverinfo": "skip"}
        fill = translucent(colour, 0.12)
        traces.append(go.Scatter(**outline, **band, fillcolor=fill, legendgroup=arm, showlegend=False))
    line = go.Scatter(
        x=own["severity"].to_numpy(),
        y=own["mean"].to_numpy() * POINTS,
        mode="lines+markers",
        line={"color": colour, "dash": style.dashes[arm], "width": 1.8},
        marker={"size": 4, "color": colour},
        name=label(arm),
        legendgroup=arm,
        showlegend=shown,
        hovertext=[_hover_point(row) for row in own.to_dict("records")],
        hoverinfo="text",
    )
    return [*traces, line]


def _hover_point(row: dict[Any, Any]) -> str:
    interval = f" [{row['low'] * POINTS:.2f}, {row['high'] * POINTS:.2f}]" if np.isfinite(row["low"]) else ""
    severity = "clean images" if row["severity"] == 0 else f"severity {row['severity']:.3g}"
    diverged = f", {row['num_diverged']} diverged" if row["num_diverged"] else ""
    return (
        f"<b>{label(row['arm'])}</b>: {row['mean'] * POINTS:.2f}%{interval}<br>"
        f"{_panel(row['corruption'])[0]}, {severity}; {count(row['num_seeds'], 'seed')}{diverged}"
    )


def say_corruption(info: pd.DataFrame, style: Style) -> str:
    """Which arm loses least under Gaussian noise, and whether that is more than chance."""
    name = NOISE if NOISE in set(info["corruption"]) else str(info["corruption"].iloc[0])
    own = info[info["corruption"] == name]
    highest = own["severity"].max()
    clean = own[own["severity"] == 0].set_index("arm")["mean"] * POINTS
    arms = own.drop_duplicates("arm").dropna(subset="drop").sort_values("drop", kind="stable").set_index("arm")
    left_out = int(own.drop_duplicates("arm")["num_diverged"].sum())
    note = f" {count(left_out, 'diverged seed')} left out of this mean." if left_out else ""
    scope = f"{PANELS.get(name, (name, ''))[0]} (mean over severities 0 to {highest:g})"
    if arms.empty:
        return f"{scope}: no arm has curves with a clean start."
    best = str(arms.index[0])
    lost = f"{arms['drop'].iloc[0]:.1f} points of accuracy"
    others = arms.drop(index=style.baseline, errors="ignore")
    others = others[others["p_holm"].notna() & ~others["twin"].astype(bool)]
    if others.empty:
        return f"{scope}: {best} loses {'least, ' if len(arms) > 1 else ''}{lost}.{note}"
    found = others[others["p_holm"] < ALPHA]
    less, more = int((found["difference"] < 0).sum()), int((found["difference"] > 0).sum())
    tally = f"; beyond chance {less} of {count(len(others), 'arm')} lost less than {style.baseline}, {more} more"
    return f"{scope}: {best} loses least, {lost}{_against(arms.iloc[0], best, clean, style)}{tally}.{note}"


def _against(row: pd.Series[Any], arm: str, clean: pd.Series[float], style: Style) -> str:
    """The best arm's difference to the baseline, and whether it only had less to lose."""
    if arm == style.baseline:
        return " (the baseline)"
    if row["twin"]:
        return f" (the same function as {style.baseline})"
    if np.isnan(row["p_holm"]):
        return ""
    interval = (
        f" [{-row['difference_high']:.2f}, {-row['difference_low']:.2f}]" if pd.notna(row["difference_low"]) else ""
    )
    sure = f"Holm p = {row['p_holm']:.2g}" + ("" if row["p_holm"] < ALPHA else ", so it may be chance")
    behind = clean.get(style.baseline, np.nan) - clean.get(arm, np.nan)
    starts = f", though it starts {behind:.1f} points lower" if behind > style.delta else ""
    return f", {-row['difference']:.2f}{interval} fewer than {style.baseline} ({sure}){starts}"
