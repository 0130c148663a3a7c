"""The figures of a report. Every one is *info* (findings to a frame), *plot* (that frame to plotly) and a *takeaway*.

What a figure says is tested through its frame. To add one: a module with three functions, and a line in ``FIGURES``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from analysis.figures.forest import info_forest, plot_forest, say_forest
from analysis.figures.learning_curves import info_learning_curves, plot_learning_curves, say_learning_curves
from analysis.figures.learning_rate import info_learning_rate, plot_learning_rate, say_learning_rate
from analysis.figures.style import Style
from analysis.figures.tuning import info_tuning, plot_tuning, say_tuning
from analysis.findings import Findings


@dataclass(frozen=True)
class Figure:
    """A figure of the report.

    Args:
        title: Its heading.
        info: Findings to the frame drawn; an empty frame means there is nothing to draw.
        plot: That frame to plotly.
        takeaway: That frame to one line of plain text.
        caption: How to read it.
    """

    title: str
    info: Callable[[Findings], pd.DataFrame]
    plot: Callable[[pd.DataFrame, Style], go.Figure]
    takeaway: Callable[[pd.DataFrame, Style], str]
    caption: str


#: In the order of the report.
FIGURES: dict[str, Figure] = {
    "forest": Figure(
        "Difference to the baseline",
        info_forest,
        plot_forest,
        say_forest,
        "Mean paired difference over seeds with its 95% t interval. Filled: Holm-corrected sign-flip p < 0.05. "
        "Grey band: ±δ, differences too small to matter.",
    ),
    "learning_rate": Figure(
        "Accuracy against learning rate",
        info_learning_rate,
        plot_learning_rate,
        say_learning_rate,
        "One point per search trial; hover for its configuration. Open symbols were stopped early and may lie low. "
        "These are search scores, not results.",
    ),
    "tuning": Figure(
        "Tuning curves",
        info_tuning,
        plot_tuning,
        say_tuning,
        "Best validation accuracy of any epoch so far, in the order the epochs were recorded.",
    ),
    "learning_curves": Figure(
        "Learning curves",
        info_learning_curves,
        plot_learning_curves,
        say_learning_curves,
        "Each arm's winner retrained on fresh seeds; band: 95% t interval of the mean. Click a name to hide an arm.",
    ),
}
