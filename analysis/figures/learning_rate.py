"""Validation accuracy of every search trial against its learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.audit import LEARNING_RATE
from analysis.compare import POINTS
from analysis.configurations import configuration_keys, hover_text
from analysis.figures.style import INK, SYMBOLS, Style, label, lay_out
from analysis.findings import Findings
from search_spaces.reported import rate_in_mean

FACETS_PER_ROW = 4
#: With more arms than this, panels stand closer.
MANY_ARMS = 12
MANY_FACETS_PER_ROW = 6
#: The ring of a winner that asks for a wider range.
EDGE_INK = "#a33a00"
#: A panel's title shares its row with others.
MAX_FACET_LABEL = 22
#: Not worth a line of a hover: the arm says it, or it is the same for all trials of a study.
QUIET = frozenset({"loss", "reduction", "schedule", "precision", "augment"})


def info_learning_rate(findings: Findings) -> pd.DataFrame:
    """One row per search trial.

    Returns:
        ``run_id, arm, optimizer, learning_rate, val_accuracy, stop_reason, winner, edge`` (``low`` or ``high`` of a
        winner in the outer tenth of its range), ``has_range`` (whether the arm's winner has a range on record) and
        ``text``, its hover.
    """
    trials = findings.record.trials
    columns = ["run_id", "arm", "optimizer", "learning_rate", "val_accuracy", "stop_reason", "winner", "edge"]
    columns += ["has_range", "text"]
    if not {LEARNING_RATE, "val_accuracy"} <= set(trials):
        return pd.DataFrame(columns=columns)
    search = trials[(trials["phase"] == "search") & trials[LEARNING_RATE].notna() & trials["val_accuracy"].notna()]
    keys = [key for key in configuration_keys(trials) if key not in QUIET]
    audit = findings.audit.set_index("arm")
    winner = search["number"].eq(search["arm"].map(audit["winner"])).fillna(value=False).astype(bool)
    frame = pd.DataFrame(
        {
            "run_id": search["run_id"],
            "arm": search["arm"],
            "optimizer": search.get("optimizer", ""),
            # As if the loss were averaged over the batch, the unit of the tables.
            "learning_rate": [
                rate_in_mean({str(key): value for key, value in row.items()}) for row in search.to_dict("records")
            ],
            "val_accuracy": search["val_accuracy"],
            "stop_reason": search["stop_reason"],
            "winner": winner,
            "edge": search["arm"].map(audit["edge"]).where(winner, ""),
            "has_range": search["arm"].map(audit["low"]).notna(),
            "text": [hover_text(row, keys) for row in search.to_dict("records")],
        },
        columns=columns,
    )
    return frame.reset_index(drop=True)


def plot_learning_rate(info: pd.DataFrame, style: Style) -> go.Figure:
    """One panel per arm; the symbol is the optimizer, open where the trial was stopped early, ringed where it won.

    A winner in the outer tenth of its range has a ring of its own and says so.
    """
    arms = [arm for arm in style.colours if arm in set(info["arm"])]
    columns = min(FACETS_PER_ROW if len(arms) <= MANY_ARMS else MANY_FACETS_PER_ROW, len(arms))
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
        figure.add_scatter(
            x=own["learning_rate"],
            y=own["val_accuracy"] * POINTS,
            mode="markers+text",
            marker=_markers(own, style.colours[arm], symbols),
            text=[f"{edge} end" if edge else "" for edge in own["edge"]],
            textposition=["middle left" if edge == "high" else "middle right" for edge in own["edge"]],
            textfont={"color": EDGE_INK, "size": 11},
            showlegend=False,
            customdata=own["run_id"],
            hovertext=own["text"],
            hoverinfo="text",
            row=place // columns + 1,
            col=place % columns + 1,
        )
    for name, form in _legend(symbols, info):
        figure.add_scatter(x=[None], y=[None], mode="markers", name=label(name), marker=form, hoverinfo="skip")
    figure.update_annotations(font_size=13 if columns <= FACETS_PER_ROW else 12)
    lay_out(figure, height=130 + 190 * rows, margin={"l": 70, "r": 20, "t": 70, "b": 60})
    figure.update_layout(legend={"orientation": "h", "y": 1, "yref": "container", "yanchor": "top", "x": 0})
    # Of a range of many decades every second or third is written, not a crowd of 2s and 5s.
    figure.update_xaxes(type="log", dtick=_decades(info["learning_rate"]), exponentformat="power")
    for place in range(max(0, len(arms) - columns), len(arms)):  # the lowest panel of each column, also in a short row
        figure.update_xaxes(showticklabels=True, row=place // columns + 1, col=place % columns + 1)
    return figure


def _markers(own: pd.DataFrame, colour: str, symbols: Mapping[str, str]) -> dict[str, Any]:
    """The look of an arm's trials."""
    kinds, reasons = map(str, own["optimizer"]), own["stop_reason"]
    forms = [
        "x-thin" if reason == "diverged" else symbols[kind] + ("" if reason == "completed" else "-open")
        for kind, reason in zip(kinds, reasons, strict=True)
    ]
    rings = [
        (EDGE_INK if edge else INK) if won else colour for won, edge in zip(own["winner"], own["edge"], strict=True)
    ]
    widths = [2.5 if won else 1.2 for won in own["winner"]]
    sizes = [13 if won else 8 for won in own["winner"]]
    return {"color": colour, "symbol": forms, "size": sizes, "line": {"color": rings, "width": widths}}


def _legend(symbols: Mapping[str, str], info: pd.DataFrame) -> list[tuple[str, dict[str, Any]]]:
    """What the symbols mean: those that are there."""
    grey, reasons = "#777", set(info["stop_reason"])
    entries: list[tuple[str, dict[str, Any]]] = [
        (name, {"symbol": symbol, "color": grey}) for name, symbol in symbols.items()
    ]
    if reasons - {"completed", "diverged"}:
        entries.append(("stopped early", {"symbol": "circle-open", "color": grey}))
    if "diverged" in reasons:
        entries.append(("diverged", {"symbol": "x-thin", "line": {"width": 1.5, "color": grey}}))
    ring = {"symbol": "circle", "color": "#bbb", "size": 12}
    if (info["winner"].astype(bool) & (info["edge"] == "")).any():
        entries.append(("winner", {**ring, "line": {"width": 2.5, "color": INK}}))
    if (info["edge"] != "").any():
        entries.append(("winner at an end of its range", {**ring, "line": {"width": 2.5, "color": EDGE_INK}}))
    return entries


def _decades(rates: pd.Series[float]) -> int:
    """How many powers of ten lie between two ticks, so that no panel writes more than about four."""
    span = math.log10(rates.max() / rates.min()) if rates.min() > 0 else 0
    return max(1, math.ceil(span / 4))


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
    close = f"; {close}" if winners["has_range"].any() else ""
    factor = f"{high / low:,.0f}" if high >= 10 * low else f"{high / low:.1f}"
    return f"The winners' learning rates run from {low:.2g} to {high:.2g}, a factor of {factor}{close}."
