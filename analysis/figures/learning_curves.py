"""Validation accuracy per epoch of the winners on fresh seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.compare import POINTS
from analysis.figures.style import (
    GREY,
    Style,
    build_panels,
    error_percent,
    error_window,
    label,
    lay_out,
    show_accuracies,
    show_counts,
    translucent,
)
from analysis.findings import Findings
from analysis.inference import t_interval

#: More curves with bands than this cover one another.
MAX_TOGETHER = 6
#: Where the longest training has so many times the epochs of the shortest, their axis is logarithmic.
UNEQUAL = 3


def info_learning_curves(findings: Findings) -> pd.DataFrame:
    """Validation accuracy per epoch of the confirm runs: ``arm, epoch, mean, low, high, num_seeds``.

    A seed that diverged stays at the chance level it ended with, so that a mean is over the same seeds throughout.
    """
    columns = ["arm", "epoch", "mean", "low", "high", "num_seeds"]
    epochs = findings.record.epochs
    if "val_accuracy" not in epochs:
        return pd.DataFrame(columns=columns)
    trials = findings.record.trials
    ended = set(trials.loc[trials["stop_reason"].isin(["completed", "diverged"]), "run_id"])
    diverged = set(trials.loc[trials["stop_reason"] == "diverged", "run_id"])
    frames = []
    for arm, own in epochs[(epochs["phase"] == "confirm") & epochs["run_id"].isin(ended)].groupby("arm"):
        runs = own.pivot_table(index="epoch", columns="run_id", values="val_accuracy").sort_index()
        full = runs.ffill().where(runs.notna() | runs.columns.isin(diverged)).dropna()
        mean, low, high = t_interval(full.to_numpy())
        numbers = {"mean": mean, "low": low, "high": high, "num_seeds": full.shape[1]}
        frames.append(pd.DataFrame({"arm": str(arm), "epoch": full.index, **numbers}, columns=columns))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def plot_learning_curves(info: pd.DataFrame, style: Style) -> go.Figure:
    """Mean over seeds with its 95% t interval as a band; many arms have a panel each, the baseline in grey."""
    arms = [arm for arm in style.colours if arm in set(info["arm"])]
    title = "Validation accuracy, mean (%)"
    window = _window(info)
    if len(arms) > MAX_TOGETHER:
        figure, cells = build_panels(arms, x_title="Epoch", y_title=title)
        figure.update_layout(showlegend=False)
    else:
        figure, cells = lay_out(go.Figure(), height=440), {arm: {} for arm in arms}
        figure.update_xaxes(title_text="Epoch")
        figure.update_yaxes(title_text=title)
    base = info[info["arm"] == style.baseline]
    for arm, cell in cells.items():
        if cell and arm != style.baseline and len(base):
            grey = {"mode": "lines", "line": {"color": GREY, "width": 1.3}, "hoverinfo": "skip", "showlegend": False}
            figure.add_scatter(x=base["epoch"], y=error_percent(base["mean"], window[1]), **grey, **cell)
        for trace in _curve(info[info["arm"] == arm], style, window[1], alone=bool(cell)):
            figure.add_scatter(**trace, **cell)
    last = info.groupby("arm")["epoch"].max()
    if last.max() >= UNEQUAL * last.min():
        show_counts(figure, 1, int(last.max()))
    return show_accuracies(figure, window)


def _window(info: pd.DataFrame) -> tuple[float, float]:
    """What the axis shows: every mean, and the upper ends of intervals unless they halve the error."""
    upper = np.fmin(info["high"], (1 + info["mean"]) / 2)
    return error_window(upper, float(info["mean"].min()))


def _curve(own: pd.DataFrame, style: Style, best: float, *, alone: bool) -> list[dict[str, Any]]:
    """One arm's band, where it has one, and its mean."""
    arm = str(own["arm"].iloc[0])
    colour = style.colours[arm]
    group: dict[str, Any] = {"legendgroup": arm, "mode": "lines" if len(own) > 1 else "markers", "x": own["epoch"]}
    traces: list[dict[str, Any]] = []
    if own["low"].notna().all():
        edge = {**group, "hoverinfo": "skip", "showlegend": False, "line": {"width": 0}}
        traces.append({**edge, "y": error_percent(own["low"], best)})
        fill = {"fill": "tonexty", "fillcolor": translucent(colour, 0.18)}
        traces.append({**edge, **fill, "y": error_percent(own["high"], best)})
    mean = {
        "y": error_percent(own["mean"], best),
        "name": label(arm),
        "line": {"color": colour, "dash": "solid" if alone else style.dashes[arm], "width": 2.2},
        "customdata": own["mean"] * POINTS,
        "hovertemplate": f"%{{customdata:.2f}}% at epoch %{{x}}, mean of {own['num_seeds'].iloc[0]}",
    }
    return [*traces, {**group, **mean}]


def say_learning_curves(info: pd.DataFrame, _style: Style) -> str:
    """Where the means end."""
    last = info.groupby("arm").tail(1).set_index("arm")["mean"] * POINTS
    if len(last) == 1:
        return f"{last.index[0]} ends at {last.iloc[0]:.2f}% validation accuracy."
    ends = f"{last.min():.2f}% ({last.idxmin()}) and {last.max():.2f}% ({last.idxmax()})"
    return f"Mean validation accuracy ends between {ends}."
