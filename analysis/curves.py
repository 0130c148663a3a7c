"""The two figures over epochs: what the search spent, and how the winners learn."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from analysis.compare import POINTS
from analysis.findings import Findings
from analysis.inference import t_interval
from analysis.style import Style, label, lay_out, translucent

#: Accuracy points; less is not worth a word.
SMALL_GAIN = 0.05


def incumbent_curve(epochs: pd.DataFrame, *, metric: str = "val_accuracy") -> pd.DataFrame:
    """Best value so far against epochs spent, per arm.

    Args:
        epochs: One row per logged epoch; needs ``arm``, ``logged_at`` and ``metric``.
        metric: Larger is better.

    Returns:
        ``arm, budget, incumbent``; ``budget`` counts epochs from 1.

    Raises:
        ValueError: If a required column is missing.
    """
    missing = {"arm", "logged_at", metric} - set(epochs)
    if missing:
        raise ValueError(f"`epochs` lacks the columns {', '.join(sorted(missing))}.")
    ordered = epochs.sort_values("logged_at", kind="stable")
    arms = ordered.groupby("arm", sort=False)
    frame = pd.DataFrame(
        {
            "arm": ordered["arm"],
            "budget": arms.cumcount() + 1,
            "incumbent": arms[metric].cummax().groupby(ordered["arm"]).ffill(),
        }
    )
    return frame.sort_values(["arm", "budget"], ignore_index=True)


def info_tuning(findings: Findings) -> pd.DataFrame:
    """The incumbent of each arm's search."""
    epochs = findings.record.epochs
    if "val_accuracy" not in epochs:
        return pd.DataFrame(columns=["arm", "budget", "incumbent"])
    return incumbent_curve(epochs[epochs["phase"] == "search"])


def plot_tuning(info: pd.DataFrame, style: Style) -> go.Figure:
    """Best validation accuracy so far against the epochs spent in an arm's search."""
    figure = go.Figure()
    for arm in (arm for arm in style.colours if arm in set(info["arm"])):
        own = info[info["arm"] == arm]
        # A step line needs only the steps and its end.
        own = own[own["incumbent"].diff().ne(0) | (own["budget"] == own["budget"].max())]
        figure.add_scatter(
            x=own["budget"],
            y=own["incumbent"] * POINTS,
            mode="lines",
            line={"shape": "hv", "color": style.colours[arm], "dash": style.dashes[arm], "width": 2.2},
            name=label(arm),
            hovertemplate="%{y:.2f}% after %{x} epochs",
        )
    lay_out(figure, height=440)
    figure.update_xaxes(title_text="Epochs spent in the arm's search")
    figure.update_yaxes(title_text="Best validation accuracy so far (%)")
    return figure


def say_tuning(info: pd.DataFrame, _style: Style) -> str:
    """How much the second half of the budget brought."""
    last = info.groupby("arm").tail(1).set_index("arm")
    half = info[info["budget"] * 2 <= info["arm"].map(last["budget"])].groupby("arm").tail(1).set_index("arm")
    gain = ((last["incumbent"] - half["incumbent"]) * POINTS).dropna()
    if gain.empty:
        return f"{int(last['budget'].sum())} epochs spent in the search."
    if gain.max() < SMALL_GAIN:
        return "The second half of the search brought next to nothing in any arm: more trials would hardly help."
    return (
        f"The second half of the search brought {gain.median():.2f} points in the median arm and at most "
        f"{gain.max():.2f} ({gain.idxmax()}): where it still climbs, more trials might find better."
    )


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
