"""Validation accuracy per epoch of the winners on fresh seeds."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.compare import POINTS
from analysis.figures.style import Style, label, lay_out, translucent
from analysis.findings import Findings
from analysis.inference import t_interval


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
    """Mean over seeds with its 95% t interval as a band."""
    figure = go.Figure()
    for arm in (arm for arm in style.colours if arm in set(info["arm"])):
        own = info[info["arm"] == arm]
        colour = style.colours[arm]
        group: dict[str, Any] = {"legendgroup": arm, "mode": "lines"}
        if own["low"].notna().all():
            band = {"hoverinfo": "skip", "showlegend": False, "line": {"width": 0}}
            figure.add_scatter(x=own["epoch"], y=own["low"] * POINTS, **group, **band)
            figure.add_scatter(
                x=own["epoch"],
                y=own["high"] * POINTS,
                **group,
                **band,
                fill="tonexty",
                fillcolor=translucent(colour, 0.15),
            )
        figure.add_scatter(
            x=own["epoch"],
            y=own["mean"] * POINTS,
            name=label(arm),
            line={"color": colour, "dash": style.dashes[arm], "width": 2.2},
            hovertemplate=f"%{{y:.2f}}% at epoch %{{x}}, mean of {own['num_seeds'].iloc[0]}",
            **group,
        )
    lay_out(figure, height=440)
    figure.update_xaxes(title_text="Epoch")
    figure.update_yaxes(title_text="Validation accuracy, mean over seeds (%)")
    return figure


def say_learning_curves(info: pd.DataFrame, _style: Style) -> str:
    """Where the means end."""
    last = info.groupby("arm").tail(1).set_index("arm")["mean"] * POINTS
    if len(last) == 1:
        return f"{last.index[0]} ends at {last.iloc[0]:.2f}% validation accuracy."
    ends = f"{last.min():.2f}% ({last.idxmin()}) and {last.max():.2f}% ({last.idxmax()})"
    return f"Mean validation accuracy ends between {ends}."
