"""How every figure looks: one colour per arm, one layout, names that stay text."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.findings import Findings

#: Ten colours told apart by people of every colour vision (Petroff, 2021, arXiv:2107.02270).
COLOURS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#832db6", "#94a4a2", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "star", "hexagon")
#: The same dashes, and the symbols of the first forty arms around (13, 6), as SVG draws them.
SVG_DASHES = {"solid": "none", "dash": "6 3", "dot": "2 3", "dashdot": "6 3 2 3"}
SVG_SYMBOLS = {
    "circle": "M13 1.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 1 1 0-9z",
    "square": "M9 2h8v8h-8z",
    "diamond": "M13 .5l5.5 5.5-5.5 5.5-5.5-5.5z",
    "triangle-up": "M13 1l5 9.5h-10z",
}
INK = "#1f2430"
GRID = "#e6e8ec"
GREY = "#8a909c"
MAX_LABEL = 32
PANELS_PER_ROW = 4
#: Pixels of a name in a legend beside a figure.
LEGEND_ROW = 20
#: Of an axis of errors: room at its ends as a factor, and its ticks in percent, or steps where it spans little.
LOG_MARGIN = 0.85
FEW_HALVINGS, MAX_TICKS = 4, 5
ERROR_TICKS = (90, 70, 50, 30, 20, 10, 5, 3, 2, 1, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01)
NICE_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Style:
    """What a plot needs beside its data.

    Args:
        colours: A colour per arm, the same in every figure.
        dashes: A dash per arm: in figures of lines, arms that share a colour differ in it.
        symbols: A symbol per arm: in figures of points, arms that share a colour differ in it.
        baseline: The arm that others are compared with.
        delta: The largest difference that does not matter, in accuracy points.
    """

    colours: Mapping[str, str]
    dashes: Mapping[str, str]
    symbols: Mapping[str, str]
    baseline: str
    delta: float


def build_style(findings: Findings) -> Style:
    """The look of a study's figures."""
    arms = findings.arms
    return Style(arm_colours(arms), arm_dashes(arms), arm_symbols(arms), findings.baseline, findings.delta)


def arm_colours(arms: Iterable[str]) -> dict[str, str]:
    """A colour per arm by its place in the protocol; from the eleventh arm on they repeat."""
    return {arm: COLOURS[place % len(COLOURS)] for place, arm in enumerate(dict.fromkeys(arms))}


def arm_dashes(arms: Iterable[str]) -> dict[str, str]:
    """A dash per arm that changes where the colours repeat."""
    return _per_round(arms, DASHES)


def arm_symbols(arms: Iterable[str]) -> dict[str, str]:
    """A symbol per arm that changes where the colours repeat."""
    return _per_round(arms, SYMBOLS)


def _per_round(arms: Iterable[str], forms: Sequence[str]) -> dict[str, str]:
    return {arm: forms[place // len(COLOURS) % len(forms)] for place, arm in enumerate(dict.fromkeys(arms))}


def swatch(arm: str, style: Style) -> str:
    """An arm's colour, dash and symbol as a small inline SVG, for tables in HTML."""
    colour, dash = style.colours[arm], SVG_DASHES[style.dashes[arm]]
    shape = SVG_SYMBOLS.get(style.symbols[arm], SVG_SYMBOLS[SYMBOLS[0]])
    return (
        '<svg class="swatch" width="26" height="12" viewBox="0 0 26 12" aria-hidden="true">'
        f'<path d="M0 6H26" stroke="{colour}" stroke-width="2.5" stroke-dasharray="{dash}"/>'
        f'<path d="{shape}" fill="{colour}" stroke="white"/></svg>'
    )


def label(name: object, width: int = MAX_LABEL) -> str:
    """A name as plotly must be given it: plotly reads some HTML in every text, a name is none."""
    text = str(name)
    # Plotly decodes &lt; &gt; &amp; but not &quot;.
    return html.escape(text if len(text) <= width else f"{text[: width - 1]}…", quote=False)


def translucent(colour: str, opacity: float) -> str:
    """``#rrggbb`` with an opacity in [0, 1]."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def error_percent(accuracy: pd.Series[float], best: float) -> pd.Series[float]:
    """Accuracies as percent of error for :func:`show_accuracies`, nothing beyond the axis's end, as a log demands."""
    return (100 * (1 - accuracy)).clip(lower=best)


def error_window(accuracies: Iterable[float], worst: float) -> tuple[float, float]:
    """The axis's two ends in percent of error: just below the accuracy ``worst``, just above the best of all."""
    errors = 100 * (1 - np.array(list(accuracies), dtype=float))
    errors = errors[errors > 0]
    best = LOG_MARGIN * float(errors.min()) if errors.size else 1.0
    return max(100 * (1 - worst) / LOG_MARGIN, 2 * best), best


def show_accuracies(figure: go.Figure, window: tuple[float, float]) -> go.Figure:
    """Let the y axes show percent of accuracy where traces hold error, on a log scale.

    Half the error is the same step everywhere: 98 and 99% stand as far apart as 80 and 90%, and an arm that fails does
    not press the others together.
    """
    worst, best = window
    if worst < FEW_HALVINGS * best:
        step = next(unit for unit in NICE_STEPS if (worst - best) / unit <= MAX_TICKS)
        ticks = [step * number for number in range(1, int(worst / step) + 1)]
    else:
        ticks = list(ERROR_TICKS)
    ticks = [tick for tick in ticks if best <= tick <= worst]
    names = [f"{100 - tick:.6g}" for tick in ticks]
    ends = [float(end) for end in np.log10(window)]
    figure.update_yaxes(type="log", range=ends, tickvals=ticks, ticktext=names)
    return figure


def show_counts(figure: go.Figure, first: int, last: int) -> go.Figure:
    """Let the x axes show whole numbers from ``first`` to ``last`` on a log scale."""
    ticks = [unit * 10**power for power in range(len(str(last))) for unit in (1, 2, 5)]
    ends = [float(np.log10(first) - 0.02), float(np.log10(max(last, first + 1)) + 0.02)]
    figure.update_xaxes(type="log", range=ends, tickvals=ticks)
    return figure


def build_panels(arms: Sequence[str], *, x_title: str, y_title: str) -> tuple[go.Figure, dict[str, dict[str, int]]]:
    """A panel per arm on common axes, and each arm's ``row`` and ``col``."""
    columns = min(PANELS_PER_ROW, len(arms))
    rows = -(-len(arms) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        shared_xaxes=True,
        shared_yaxes=True,
        subplot_titles=[label(arm) for arm in arms],
        horizontal_spacing=0.02,
        vertical_spacing=0.16 / rows,
        x_title=x_title,
        y_title=y_title,
    )
    figure.update_annotations(font_size=13)
    lay_out(figure, height=150 + 190 * rows, margin={"l": 75, "r": 20, "t": 80, "b": 60})
    # From top to bottom of the legend as the traces come; a fill would turn their order.
    legend = {"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0, "traceorder": "normal"}
    figure.update_layout(legend=legend | {"itemsizing": "trace"})
    cells = {arm: {"row": place // columns + 1, "col": place % columns + 1} for place, arm in enumerate(arms)}
    for arm in arms[-columns:]:  # the lowest panel of each column, also in a short row
        figure.update_xaxes(showticklabels=True, **cells[arm])
    return figure, cells


def lay_out(figure: go.Figure, *, height: int, **layout: Any) -> go.Figure:
    """The look shared by all figures."""
    font = {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": INK}
    figure.update_layout(
        template="none",
        height=height,
        font=font,
        margin={"l": 10, "r": 20, "t": 20, "b": 10},
        paper_bgcolor="white",
        plot_bgcolor="white",
        hoverlabel={"bgcolor": "white", "font": font, "align": "left"},
        legend={"itemsizing": "constant"},
    )
    axis = {"gridcolor": GRID, "zeroline": False, "automargin": True, "title": {"standoff": 12}, "ticks": "outside"}
    figure.update_xaxes(**axis, tickcolor=GRID)
    figure.update_yaxes(**axis, tickcolor=GRID)
    figure.update_layout(**layout)
    return figure
