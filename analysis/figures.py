"""Frame to figure. Every figure is *info* (findings to a frame), *plot* (that frame to plotly) and a *takeaway*.

What a figure says is tested through its frame. To add one: three functions and a line in ``FIGURES``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.audit import LEARNING_RATE
from analysis.compare import POINTS
from analysis.curves import (
    info_learning_curves,
    info_tuning,
    plot_learning_curves,
    plot_tuning,
    say_learning_curves,
    say_tuning,
)
from analysis.findings import Findings
from analysis.inference import ALPHA
from analysis.style import INK, SYMBOLS, Style, arm_colours, arm_dashes, label, lay_out
from analysis.verdict import difference

FACETS_PER_ROW = 4
#: A panel's title shares its row with three others.
MAX_FACET_LABEL = 22
#: Not worth a line of a hover: the same for all trials of a figure's panel, or told elsewhere.
QUIET = {"loss", "seed", "reduction", "schedule", "precision", "augment", "optimizer"}


def build_style(findings: Findings) -> Style:
    """The look of a study's figures."""
    arms = findings.arms
    return Style(arm_colours(arms), arm_dashes(arms), findings.baseline, findings.delta)


def info_forest(findings: Findings) -> pd.DataFrame:
    """The comparisons, best arm first."""
    return findings.comparisons


def plot_forest(info: pd.DataFrame, style: Style) -> go.Figure:
    """Difference of each arm to the baseline with its interval; filled where it survives Holm; the band is ±δ."""
    figure = go.Figure()
    figure.add_vrect(x0=-style.delta, x1=style.delta, fillcolor="#eef0f4", line_width=0, layer="below")
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    for position, row in enumerate(info.to_dict("records")):
        colour = style.colours[row["arm"]]
        reach = [row["high_points"] - row["difference_points"]]
        figure.add_scatter(
            x=[row["difference_points"]],
            y=[position],
            error_x={"array": reach, "color": colour, "thickness": 2.5, "width": 6} if np.isfinite(reach[0]) else None,
            marker={
                "color": colour if row["p_holm"] < ALPHA else "white",
                "line": {"color": colour, "width": 2.5},
                "size": 12,
            },
            mode="markers",
            showlegend=False,
            hovertext=_hover_comparison(row),
            hoverinfo="text",
        )
        figure.add_annotation(
            x=1.01, xref="paper", xanchor="left", y=position, showarrow=False, text=difference(pd.Series(row))
        )
    title = f"Test accuracy minus that of {label(style.baseline)} (percentage points)"
    lay_out(figure, height=120 + 38 * len(info), margin={"l": 10, "r": 170, "t": 20, "b": 10})
    figure.update_xaxes(title_text=title, zeroline=False)
    figure.update_yaxes(
        tickvals=list(range(len(info))),
        ticktext=[label(arm) for arm in info["arm"]],
        range=[len(info) - 0.4, -0.6],
        showgrid=False,
    )
    return figure


def _hover_comparison(row: dict[Any, Any]) -> str:
    inside = "lies" if row["equivalent"] else "does not lie"
    inner = f"[{row['equivalence_low_points']:+.2f}, {row['equivalence_high_points']:+.2f}]"
    lines = [
        f"<b>{label(row['arm'])}</b>: {difference(pd.Series(row))} points",
        f"Holm p = {row['p_holm']:.3g} (uncorrected {row['p']:.3g})",
        f"better in {row['probability_better']:.0%} of {row['num_seeds']} seeds",
        f"90% interval {inner} {inside} within ±δ",
    ]
    return "<br>".join(lines)


def say_forest(info: pd.DataFrame, style: Style) -> str:
    """How many arms differ from the baseline, and how many are shown to be as good."""
    found = int((info["p_holm"] < ALPHA).sum())
    equal = int(info["equivalent"].astype(bool).sum())
    best = info.iloc[0]
    return (
        f"{best['arm']} stands highest, {difference(best)} points; {found} of {len(info)} arms differ from "
        f"{style.baseline} after Holm's correction (filled), {equal} are shown to lie within δ = {style.delta:g}."
    )


def info_learning_rate(findings: Findings) -> pd.DataFrame:
    """One row per search trial: ``arm, optimizer, learning_rate, val_accuracy, stop_reason, winner, edge, text``."""
    trials = findings.record.trials
    columns = ["arm", "optimizer", "learning_rate", "val_accuracy", "stop_reason", "winner", "edge", "text"]
    if not {LEARNING_RATE, "val_accuracy"} <= set(trials):
        return pd.DataFrame(columns=columns)
    search = trials[(trials["phase"] == "search") & trials[LEARNING_RATE].notna() & trials["val_accuracy"].notna()]
    place = list(trials.columns).index("end") + 1
    parameters = [name for name in trials.columns[place:] if name in _parameters(findings) and name not in QUIET]
    audit = findings.audit.set_index("arm")
    winner = search["number"].eq(search["arm"].map(audit["winner"])).fillna(value=False).astype(bool)
    frame = pd.DataFrame(
        {
            "arm": search["arm"],
            "optimizer": search.get("optimizer", ""),
            "learning_rate": search[LEARNING_RATE].astype(float),
            "val_accuracy": search["val_accuracy"],
            "stop_reason": search["stop_reason"],
            "winner": winner,
            "edge": search["arm"].map(audit["edge"]).where(winner, ""),
            "text": [_hover_trial(row, parameters) for row in search.to_dict("records")],
        },
        columns=columns,
    )
    return frame.reset_index(drop=True)


def _parameters(findings: Findings) -> set[str]:
    """Keys that the protocol fixes or searches, or that belong to a part of the trial."""
    known = {"batch_size", "epochs", "model", "hidden_layers", "width", "activation"}
    dotted = {name for name in findings.record.trials.columns if "." in name}
    return known | dotted


def _hover_trial(row: dict[Any, Any], parameters: list[str]) -> str:
    set_ones = {name: row[name] for name in parameters if not pd.isna(row[name])}
    lines = [
        f"<b>{label(row['arm'])}</b>, trial {row['number']}: {row['val_accuracy']:.2%}",
        f"{label(row['stop_reason'])} after {row['epochs_done']} epochs; {label(row.get('optimizer', ''))}",
        *(f"{label(name)} = {_number(value)}" for name, value in set_ones.items()),
    ]
    return "<br>".join(lines)


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else label(value)


def plot_learning_rate(info: pd.DataFrame, style: Style) -> go.Figure:
    """One panel per arm; the symbol is the optimizer, open where the trial was stopped early, ringed where it won."""
    arms = [arm for arm in style.colours if arm in set(info["arm"])]
    columns = min(FACETS_PER_ROW, len(arms))
    rows = -(-len(arms) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        shared_xaxes=True,
        shared_yaxes=True,
        subplot_titles=[label(arm, MAX_FACET_LABEL) for arm in arms],
        horizontal_spacing=0.02,
        vertical_spacing=0.16 / rows,
        x_title="Learning rate (log scale)",
        y_title="Validation accuracy (%)",
    )
    optimizers = sorted(map(str, set(info["optimizer"])))
    symbols = {name: SYMBOLS[place % len(SYMBOLS)] for place, name in enumerate(optimizers)}
    for place, arm in enumerate(arms):
        own = info[info["arm"] == arm]
        colour = style.colours[arm]
        forms = [
            symbols[str(o)] + ("" if s == "completed" else "-open")
            for o, s in zip(own["optimizer"], own["stop_reason"], strict=True)
        ]
        marker = {
            "color": colour,
            "symbol": [
                "x-thin" if s == "diverged" else form for form, s in zip(forms, own["stop_reason"], strict=True)
            ],
            "size": [13 if won else 8 for won in own["winner"]],
            "line": {
                "color": [INK if won else colour for won in own["winner"]],
                "width": [2.5 if won else 1.2 for won in own["winner"]],
            },
        }
        figure.add_scatter(
            x=own["learning_rate"],
            y=own["val_accuracy"] * POINTS,
            mode="markers",
            marker=marker,
            showlegend=False,
            hovertext=own["text"],
            hoverinfo="text",
            row=place // columns + 1,
            col=place % columns + 1,
        )
    legend: list[tuple[str, dict[str, Any]]] = [
        (name, {"symbol": symbol, "color": "#777"}) for name, symbol in symbols.items()
    ]
    legend += [
        ("stopped early", {"symbol": "circle-open", "color": "#777"}),
        ("diverged", {"symbol": "x-thin", "line": {"width": 1.5, "color": "#777"}}),
        ("winner", {"symbol": "circle", "color": "#bbb", "line": {"width": 2.5, "color": INK}, "size": 12}),
    ]
    for name, form in legend:
        figure.add_scatter(x=[None], y=[None], mode="markers", name=label(name), marker=form, hoverinfo="skip")
    lay_out(figure, height=130 + 190 * rows, margin={"l": 70, "r": 20, "t": 70, "b": 60})
    figure.update_layout(legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0})
    figure.update_xaxes(type="log", nticks=5, exponentformat="power")
    for place in range(max(0, len(arms) - columns), len(arms)):  # the lowest panel of each column, also in a short row
        figure.update_xaxes(showticklabels=True, row=place // columns + 1, col=place % columns + 1)
    return figure


def say_learning_rate(info: pd.DataFrame, _style: Style) -> str:
    """How far the winners' learning rates lie apart, and how many touch the end of their range."""
    winners = info[info["winner"].astype(bool)]
    if winners.empty:
        return f"{len(info)} trials; no arm has a winner on record."
    low, high = float(winners["learning_rate"].min()), float(winners["learning_rate"].max())
    edges = winners.loc[winners["edge"] != "", "arm"]
    close = (
        f"{len(edges)} in the outer tenth of their range ({', '.join(map(str, edges))})"
        if len(edges)
        else "none near the end of its range"
    )
    factor = f"{high / low:,.0f}" if high >= 10 * low else f"{high / low:.1f}"
    return f"The winners' learning rates run from {low:.2g} to {high:.2g}, a factor of {factor}; {close}."


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
