"""Validation accuracy of every search trial against its learning rate."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.audit import LEARNING_RATE
from analysis.compare import POINTS
from analysis.figures.style import INK, SYMBOLS, Style, label, lay_out
from analysis.findings import Findings

FACETS_PER_ROW = 4
#: A panel's title shares its row with three others.
MAX_FACET_LABEL = 22
#: Not worth a line of a hover: the same for all trials of a figure's panel, or told elsewhere.
QUIET = {"loss", "seed", "reduction", "schedule", "precision", "augment", "optimizer"}


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
