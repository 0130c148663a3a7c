"""Every search trial as a line through its hyperparameters: parallel coordinates.

Drawn as Optuna draws its own (``optuna.visualization.plot_parallel_coordinate``), lines over axes scaled to [0, 1]:
plotly's ``parcoords`` has neither hover nor click, and it compiles code at run time, which the page forbids.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.colors
import plotly.graph_objects as go
from numpy.typing import NDArray

from analysis.compare import POINTS
from analysis.configurations import hover_text, search_trials, searched_parameters, show, varying_keys
from analysis.figures.style import Style, label, lay_out
from analysis.findings import Findings

ARM, ACCURACY = "arm", "val_accuracy"
#: What stands before the hyperparameters in the frame.
FIRST_COLUMNS = ("run_id", ARM, "stop_reason", "text", ACCURACY)
#: More axes than this cannot be told apart; those of the fewest arms go first.
MAX_AXES = 13
MAX_TICK = 14
#: Lines share so many colours, so that a thousand of them are a few traces and not a thousand.
NUM_COLOURS = 8
#: A range of fewer integers is drawn like names: lines are spread around each.
FEW_INTEGERS = 8
SCALE = "Viridis"
#: Room below an axis for trials that do not have the hyperparameter.
UNSET = -0.1
#: The part of its place over which the lines of a category are spread.
SPREAD = 0.7
UNITS = {"batch_size": "images", "hidden_layers": "layers", "width": "units", "epochs": "epochs"}


def info_parallel(findings: Findings) -> pd.DataFrame:
    """One row per search trial: ``run_id, arm, stop_reason, text, val_accuracy`` and each searched hyperparameter.

    NaN where a trial does not have it. Nothing where fewer than two hyperparameters were searched. ``attrs["scale"]``
    says of each whether it is ``log``, ``linear`` or ``choices``, ``attrs["left_out"]`` names those without an axis.
    """
    trials, protocol = search_trials(findings), findings.record.protocol
    rows: list[dict[str, Any]] = []
    scales: dict[str, set[str]] = {}
    arms_with: dict[str, set[str]] = {}
    keys = varying_keys(trials)
    for trial in trials.to_dict("records"):
        declared = searched_parameters(trial, protocol)
        for key, parameter in declared.items():
            scales.setdefault(key, set()).add(_scale(parameter))
            arms_with.setdefault(key, set()).add(trial["arm"])
        row = {column: trial[column] for column in ("run_id", ARM, "stop_reason", ACCURACY)}
        rows.append(row | {"text": hover_text(trial, keys)} | {key: trial[key] for key in declared})
    # The factor of a joint search is the arm, which has an axis.
    axes = [key for key in arms_with if key != protocol.get("factor")]
    if len(axes) < 2:  # noqa: PLR2004 - one alone is the figure of learning rates
        return pd.DataFrame(columns=list(FIRST_COLUMNS))
    kept = sorted(axes, key=lambda key: -len(arms_with[key]))[: MAX_AXES - 2]
    shown = [key for key in axes if key in kept]
    frame = pd.DataFrame(rows)[[*FIRST_COLUMNS, *shown]]
    # What is a range in one arm and a choice in another is spread out like names.
    scale = {key: next(one for one in ("choices", "log", "linear") if one in scales[key]) for key in shown}
    frame.attrs = {"scale": scale, "left_out": [key for key in axes if key not in kept]}
    return frame


def _scale(parameter: Mapping[str, Any]) -> str:
    if parameter["kind"] == "categorical":
        return "choices"
    if parameter.get("log"):
        return "log"
    few = parameter["kind"] == "integer" and parameter["high"] - parameter["low"] < FEW_INTEGERS
    return "choices" if few else "linear"


@dataclass(frozen=True, eq=False)
class Axis:
    """One coordinate.

    Args:
        title: As plotly is given it.
        places: Where each line crosses it, in [0, 1]; below where the trial does not have it.
        ticks: Places and what is written at them.
    """

    title: str
    places: NDArray[np.float64]
    ticks: tuple[tuple[float, str], ...]


def build_axes(info: pd.DataFrame, arms: Sequence[str]) -> list[Axis]:
    """The arm, the hyperparameters, the accuracy, in this order.

    Args:
        info: From :func:`info_parallel`.
        arms: In the order of the study.
    """
    axes = [
        _category_axis(key, info) if scale == "choices" else _number_axis(key, info[key], log=scale == "log")
        for key, scale in info.attrs["scale"].items()
    ]
    if len(set(info[ARM])) > 1:
        axes.insert(0, _category_axis(ARM, info, [arm for arm in arms if arm in set(info[ARM])]))
    last = _number_axis(ACCURACY, info[ACCURACY] * POINTS, log=False, unit="%")
    return [*axes, last]


def _number_axis(name: str, values: pd.Series[Any], *, log: bool, unit: str = "") -> Axis:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
    low, high = float(np.nanmin(numbers)), float(np.nanmax(numbers))
    if log:
        steps = [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
        steps = steps[:: max(1, math.ceil(len(steps) / 6))] or [low, high]
    else:
        steps = np.linspace(low, high, 5).tolist()

    def place(number: Any) -> Any:
        if high == low:
            return number * 0 + 0.5
        return np.log(number / low) / math.log(high / low) if log else (number - low) / (high - low)

    ticks = [(float(place(step)), f"{step:.3g}") for step in dict.fromkeys(steps)]
    unset = np.isnan(numbers)
    suffix = "log" if log else unit or UNITS.get(name, "")
    if unset.any():
        ticks.append((UNSET, "not set"))
    return Axis(_title(name, suffix), np.where(unset, UNSET, place(numbers)), tuple(ticks))


def _category_axis(name: str, info: pd.DataFrame, order: Sequence[Any] = ()) -> Axis:
    """Names at even places; the lines of one are spread around it, the most accurate on top."""
    values = info[name]
    known = list(order) or sorted(values.dropna().unique(), key=lambda value: (isinstance(value, str), value))
    gap = 1 / max(1, len(known))
    centres = {value: (place + 0.5) * gap for place, value in enumerate(known)}
    if order:  # the first arm stands on top
        centres = {value: 1 - centre for value, centre in centres.items()}
    rank = info[ACCURACY].groupby(values, dropna=False).rank(pct=True, method="first").to_numpy(dtype=float)
    centre = values.map(centres).to_numpy(dtype=float)
    spread = centre + (rank - 0.5) * gap * SPREAD
    ticks = [(centre, label(show(value), MAX_TICK)) for value, centre in centres.items()]
    unset = np.isnan(centre)
    if unset.any():
        ticks.append((UNSET, "not set"))
        spread = np.where(unset, UNSET + (rank - 0.5) * 0.06, spread)
    return Axis(_title(name, UNITS.get(name, "")), spread, tuple(ticks))


def _title(name: str, unit: str) -> str:
    words = label(name).replace(".", ".<br>", 1)
    return f"{words}<br>({unit})" if unit else words


def plot_parallel(info: pd.DataFrame, style: Style) -> go.Figure:
    """A line per trial, coloured by its accuracy; a list picks the arm whose lines are shown."""
    found = dict.fromkeys(info[ARM])
    # A joint search also tried values of the factor that nobody confirmed.
    arms = [*(arm for arm in style.colours if arm in found), *(arm for arm in found if arm not in style.colours)]
    # The best are drawn last and stand in front.
    info = _sorted(info)
    axes = build_axes(info, arms)
    accuracy = info[ACCURACY] * POINTS
    colours = plotly.colors.sample_colorscale(SCALE, [(bin_ + 0.5) / NUM_COLOURS for bin_ in range(NUM_COLOURS)])
    # As many trials of each colour: a few diverged ones would leave a single colour to all others.
    bins = np.ceil(accuracy.rank(pct=True) * NUM_COLOURS).astype(int) - 1
    figure = go.Figure()
    owners = []
    for bin_, colour in enumerate(colours):
        for arm in arms:
            chosen = np.flatnonzero((bins == bin_) & (info[ARM] == arm))
            if len(chosen):
                owners.append(arm)
                figure.add_scatter(**_lines(axes, info, chosen), line={"color": colour, "width": 1.2}, opacity=0.7)
    figure.add_scatter(**_colour_bar(accuracy, colours))
    _draw_axes(figure, axes)
    lay_out(figure, height=560, margin={"l": 60, "r": 20, "t": 60, "b": 10})
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(
        range=[-0.45, len(axes) - 0.85],
        tickvals=list(range(len(axes))),
        ticktext=[axis.title for axis in axes],
        tickangle=0,
        showgrid=False,
        ticks="",
        tickfont={"size": 11},
        title_text="Searched hyperparameters, and the last validation accuracy (%)",
    )
    figure.update_yaxes(visible=False, range=[UNSET - 0.06, 1.04], fixedrange=True)
    if len(arms) > 1:
        figure.update_layout(updatemenus=[_arm_menu(arms, owners)])
    return figure


def _sorted(info: pd.DataFrame) -> pd.DataFrame:
    ordered = info.sort_values(ACCURACY, kind="stable", ignore_index=True)
    ordered.attrs = info.attrs
    return ordered


def _lines(axes: Sequence[Axis], info: pd.DataFrame, chosen: NDArray[np.intp]) -> dict[str, Any]:
    """The lines of some trials as one trace: a gap after each.

    ``meta`` holds what ``report.js`` makes the points' ``customdata`` and ``hovertext`` from.
    """
    steps = len(axes) + 1
    places = np.full((len(chosen), steps), np.nan)
    for column, axis in enumerate(axes):
        places[:, column] = axis.places[chosen]
    runs, texts = (info[column].to_numpy()[chosen].tolist() for column in ("run_id", "text"))
    height = [None if math.isnan(place) else round(float(place), 4) for place in places.ravel()]
    return {
        "x": list(range(steps)) * len(chosen),
        "y": height,
        # One per line; the page repeats them at every point of it, which here would make it ten times as heavy.
        "meta": {"steps": steps, "runs": runs, "texts": texts},
        "hoverinfo": "text",
        "mode": "lines",
        "showlegend": False,
    }


def _colour_bar(accuracy: pd.Series[float], colours: Sequence[str]) -> dict[str, Any]:
    """An empty trace that carries the scale of colours: an eighth of the trials each."""
    edges = np.linspace(0, 1, NUM_COLOURS + 1)
    steps = [[float(end), colour] for place, colour in enumerate(colours) for end in edges[place : place + 2]]
    bar = {
        "title": {"text": "Validation<br>accuracy (%)"},
        "thickness": 12,
        "outlinewidth": 0,
        "tickvals": edges.tolist(),
        "ticktext": [f"{value:.1f}" for value in accuracy.quantile(edges)],
    }
    marker = {"color": [0, 1], "cmin": 0, "cmax": 1, "colorscale": steps, "showscale": True, "colorbar": bar}
    return {
        "x": [None, None],
        "y": [None, None],
        "mode": "markers",
        "marker": marker,
        "showlegend": False,
        "hoverinfo": "skip",
    }


def _draw_axes(figure: go.Figure, axes: Sequence[Axis]) -> None:
    for place, axis in enumerate(axes):
        figure.add_shape(
            type="line", x0=place, x1=place, y0=0, y1=1, line={"color": "#8a90a0", "width": 1}, layer="below"
        )
        for height, name in axis.ticks:
            figure.add_annotation(
                x=place,
                y=height,
                text=name,
                showarrow=False,
                xanchor="right",
                xshift=-3,
                font={"size": 10.5},
                bgcolor="rgba(255,255,255,0.75)",
                borderpad=0,
            )


def _arm_menu(arms: Sequence[str], owners: Sequence[str]) -> dict[str, Any]:
    """A list that shows all arms or one; the last trace is the scale of colours."""
    buttons = [{"label": "All arms", "method": "restyle", "args": [{"visible": [True] * (len(owners) + 1)}]}]
    for arm in arms:
        visible = [owner == arm for owner in owners]
        buttons.append({"label": label(arm), "method": "restyle", "args": [{"visible": [*visible, True]}]})
    return {"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "bgcolor": "white"}


#: A hyperparameter is worth a word where at least this share of the best trials has it.
COMMON = 0.5


def say_parallel(info: pd.DataFrame, _style: Style) -> str:
    """Where the best trials lie."""
    best = info.nlargest(max(1, math.ceil(len(info) / 10)), ACCURACY)
    left_out = info.attrs.get("left_out", ())
    parts = [
        f"{key} from {show(float(best[key].min()))} to {show(float(best[key].max()))}"
        for key, scale in info.attrs["scale"].items()
        if scale == "log" and best[key].notna().mean() >= COMMON
    ]
    trials = f"The best tenth of the {len(info):,} trials ({best[ACCURACY].min() * POINTS:.1f}% or more)"
    lies = f"{trials} has {' and '.join(parts)}" if parts else f"{len(info):,} trials are drawn"
    missing = f"; no axis for {', '.join(left_out)}, searched in the fewest arms" if left_out else ""
    return f"{lies}{missing}."
