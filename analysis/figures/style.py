"""How every figure looks: one colour per arm, one layout, names that stay text."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from analysis.findings import Findings

#: Ten colours told apart by people of every colour vision (Petroff, 2021, arXiv:2107.02270).
COLOURS = (
    "#3f90da", "#ffa90e", "#bd1f01", "#832db6", "#94a4a2", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd",
)  # fmt: skip
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "star", "hexagon")
INK = "#1f2430"
GRID = "#e6e8ec"
MAX_LABEL = 32


@dataclass(frozen=True)
class Style:
    """What a plot needs beside its data.

    Args:
        colours: A colour per arm, the same in every figure.
        dashes: A dash per arm: arms that share a colour differ in it.
        baseline: The arm that others are compared with.
        delta: The largest difference that does not matter, in accuracy points.
    """

    colours: Mapping[str, str]
    dashes: Mapping[str, str]
    baseline: str
    delta: float


def build_style(findings: Findings) -> Style:
    """The look of a study's figures."""
    arms = findings.arms
    return Style(arm_colours(arms), arm_dashes(arms), findings.baseline, findings.delta)


def arm_colours(arms: Iterable[str]) -> dict[str, str]:
    """A colour per arm by its place in the protocol; from the eleventh arm on they repeat."""
    return {arm: COLOURS[place % len(COLOURS)] for place, arm in enumerate(dict.fromkeys(arms))}


def arm_dashes(arms: Iterable[str]) -> dict[str, str]:
    """A dash per arm that changes where the colours repeat."""
    return {arm: DASHES[place // len(COLOURS) % len(DASHES)] for place, arm in enumerate(dict.fromkeys(arms))}


def label(name: object, width: int = MAX_LABEL) -> str:
    """A name as plotly must be given it: plotly reads some HTML in every text, a name is none."""
    text = str(name)
    # Plotly decodes &lt; &gt; &amp; but not &quot;.
    return html.escape(text if len(text) <= width else f"{text[: width - 1]}…", quote=False)


def translucent(colour: str, opacity: float) -> str:
    """``#rrggbb`` with an opacity in [0, 1]."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


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
