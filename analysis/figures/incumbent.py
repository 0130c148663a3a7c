"""What each arm's search had found after spending so much."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from analysis.compare import POINTS
from analysis.figures.style import (
    LEGEND_ROW,
    Style,
    error_percent,
    error_window,
    label,
    lay_out,
    show_accuracies,
    show_counts,
)
from analysis.findings import Findings

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


def info_incumbent(findings: Findings) -> pd.DataFrame:
    """The incumbent of each arm's search."""
    epochs = findings.record.epochs
    if "val_accuracy" not in epochs:
        return pd.DataFrame(columns=["arm", "budget", "incumbent"])
    return incumbent_curve(epochs[epochs["phase"] == "search"])


def plot_incumbent(info: pd.DataFrame, style: Style) -> go.Figure:
    """Best validation accuracy so far against the epochs spent in an arm's search."""
    figure = go.Figure()
    halfway = info.groupby("arm")["incumbent"].median()
    window = error_window(info["incumbent"].dropna(), float(halfway.min()))
    for arm in (arm for arm in style.colours if arm in set(info["arm"])):
        own = info[info["arm"] == arm]
        # A step line needs only the steps and its end.
        own = own[own["incumbent"].diff().ne(0) | (own["budget"] == own["budget"].max())]
        figure.add_scatter(
            x=own["budget"],
            y=error_percent(own["incumbent"], window[1]),
            mode="lines",
            line={"shape": "hv", "color": style.colours[arm], "dash": style.dashes[arm], "width": 2.2},
            name=label(arm),
            customdata=own["incumbent"] * POINTS,
            hovertemplate="%{customdata:.2f}% after %{x} epochs",
        )
    lay_out(figure, height=max(440, 120 + LEGEND_ROW * info["arm"].nunique()))
    figure.update_xaxes(title_text="Epochs spent in the arm's search")
    shown = info.loc[error_percent(info["incumbent"], window[1]) <= window[0], "budget"]
    show_counts(figure, int(shown.min()), int(info["budget"].max()))
    figure.update_yaxes(title_text="Best validation accuracy so far (%)")
    return show_accuracies(figure, window)


def say_incumbent(info: pd.DataFrame, _style: Style) -> str:
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
