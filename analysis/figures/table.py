"""The figures of a report. Every one is *info* (findings to a frame), *plot* (that frame to plotly) and a *takeaway*.

What a figure says is tested through its frame. To add one: a module with three functions, and a line in ``FIGURES``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from analysis.figures.confusion import info_confusion, plot_confusion, say_confusion
from analysis.figures.corruption import info_corruption, plot_corruption, say_corruption
from analysis.figures.forest import info_forest, plot_forest, say_forest
from analysis.figures.importance import info_importance, plot_importance, say_importance
from analysis.figures.incumbent import info_incumbent, plot_incumbent, say_incumbent
from analysis.figures.learning_curves import info_learning_curves, plot_learning_curves, say_learning_curves
from analysis.figures.learning_rate import info_learning_rate, plot_learning_rate, say_learning_rate
from analysis.figures.pairwise import info_pairwise, plot_pairwise, say_pairwise
from analysis.figures.parallel import info_parallel, plot_parallel, say_parallel
from analysis.figures.reliability import info_reliability, plot_reliability, say_reliability
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
        "Mean paired difference over seeds with its 95% t interval. Filled: Holm-corrected sign-flip p < 0.05. Small "
        "points: the seeds, an arrow where one lies outside. Grey band: ±δ, differences too small to matter. Dotted: "
        "how far luck of the search set the same function apart, where an arm measures it.",
    ),
    "learning_rate": Figure(
        "Accuracy against learning rate",
        info_learning_rate,
        plot_learning_rate,
        say_learning_rate,
        "One point per search trial; hover for its configuration, click to keep it. Open symbols were "
        "stopped early and may lie low. Rates are for a loss averaged over the batch. These are search "
        "scores, not results.",
    ),
    "tuning": Figure(
        "Tuning curves",
        info_tuning,
        plot_tuning,
        say_tuning,
        "The best of so many trials drawn again from those on record (median; 95% band for all numbers of trials at "
        "once, each arm by itself), given the search's split and seed. A trial scores what it had when it ended, a "
        "failed one nothing. Bands assume trials drawn independently and trained to their end. Accuracies stand as far "
        "apart as the logarithms of their errors.",
    ),
    "incumbent": Figure(
        "Search progress",
        info_incumbent,
        plot_incumbent,
        say_incumbent,
        "Best validation accuracy of any epoch so far, in the order the epochs were recorded. Accuracies stand as far "
        "apart as the logarithms of their errors.",
    ),
    "learning_curves": Figure(
        "Learning curves",
        info_learning_curves,
        plot_learning_curves,
        say_learning_curves,
        "Each arm's winner retrained on fresh seeds; band: 95% t interval of the mean. Many arms have a panel "
        "each, with the baseline's mean in grey. Accuracies stand as far apart as the logarithms of their errors.",
    ),
    "pairwise": Figure(
        "Every pair of arms",
        info_pairwise,
        plot_pairwise,
        say_pairwise,
        "Share of paired confirm seeds on which the row's arm scores higher, ties half, best arm first. * they differ "
        "(step-down max-T over all pairs, p < 0.05), ≈ they lie within ±δ (two one-sided tests, Holm-corrected over "
        "all pairs, p < 0.05); cells without a mark describe these seeds and show nothing. Hover for the difference.",
    ),
    "corruption": Figure(
        "Accuracy on corrupted images",
        info_corruption,
        plot_corruption,
        say_corruption,
        "Mean over seeds, on up to 2,000 test images with the same noise for every arm; each panel has its own scale. "
        "Band: 95% t interval; with more than ten arms the baseline's alone, the others' in the hover. A diverged seed "
        "stays at chance. Click a name to hide an arm.",
    ),
    "confusion": Figure(
        "Confused classes",
        info_confusion,
        plot_confusion,
        say_confusion,
        "Choose the arm from the list. Left: of all images of a true class, over all seeds, the share taken for each "
        "other; on the diagonal the share that is right. Right: minus the baseline, seed by seed; up to 20 classes, a "
        "cell has a number where p < 0.05 (sign flips of whole seeds, corrected for all confusions of all arms).",
    ),
    "importance": Figure(
        "Which hyperparameters decide",
        info_importance,
        plot_importance,
        say_importance,
        "PED-ANOVA (Watanabe et al. 2023) over each arm's search trials, their number in brackets: what sets the best "
        "quarter, at least five, apart from the rest. * above all of 19 shuffles of the accuracies, as chance is in 1 "
        "of 20 cells; other cells show nothing, for continuous ranges get large shares by chance. Trials stopped early "
        "count with their last accuracy. Blank: not searched, or in fewer than ten trials.",
    ),
    "parallel": Figure(
        "Search trials as lines",
        info_parallel,
        plot_parallel,
        say_parallel,
        "One line per search trial, the best in front; hover or click where it crosses an axis, pick an arm from the "
        "list. Each colour holds an eighth of the trials. Lines of one category are spread around its name, the most "
        "accurate on top.",
    ),
    "reliability": Figure(
        "Confidence against accuracy",
        info_reliability,
        plot_reliability,
        say_reliability,
        "Test images of all seeds in 15 bins of confidence, markers larger where there are more images; below the "
        "diagonal an arm is surer than it is right. ECE (expected calibration error, in points): mean over seeds with "
        "its 95% t interval; few images make it larger. How sure arms are: t intervals that hold for all together.",
    ),
}
