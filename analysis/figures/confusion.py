"""Which classes an arm takes for which, and where it differs from the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.confusions import confusion_cells, confusion_counts
from analysis.figures.style import INK, Style, label, lay_out
from analysis.findings import Findings
from analysis.inference import ALPHA
from analysis.load import StudyRecord
from analysis.verdict import count, seeds

Array = npt.NDArray[np.float64]

#: Up to so many classes the cells have room for numbers, and a hover for more than a share.
MAX_NUMBERED = 20
MAX_CLASS_LABEL = 18
#: A share that a cell shows as 0.0 is not worth its ink.
SMALLEST_SHOWN = 0.05
#: Confusions from pale to dark; differences from fewer to more, told apart by people of every colour vision.
SHARES = ((0.0, "#ffffff"), (0.25, "#fbe3c8"), (0.6, "#f0a35e"), (1.0, "#b4551a"))
DIFFERENCES = ((0.0, "#3d82c4"), (0.25, "#9cc3e8"), (0.5, "#ffffff"), (0.75, "#f3c68f"), (1.0, "#d9821f"))
COLUMNS = (
    "arm", "true", "predicted", "percent", "num_seeds", "difference", "low", "high", "p", "num_pairs",
    "true_name", "predicted_name", "accuracy", "num_left_out",
)  # fmt: skip


def info_confusion(findings: Findings) -> pd.DataFrame:
    """A row per arm and pair of classes.

    Returns:
        What ``confusion_cells`` returns, the classes' names, the arm's mean test ``accuracy`` over all its seeds, and
        how many of these have no counts, as diverged ones, ``num_left_out``.
    """
    counts = confusion_counts(findings.record)
    if not counts:
        return pd.DataFrame(columns=list(COLUMNS))
    cells = confusion_cells(counts, findings.baseline)
    names = np.array(class_names(findings.record, 1 + int(cells["true"].max())), dtype=object)
    table = findings.table.set_index("arm")
    return cells.assign(
        true_name=names[cells["true"].to_numpy()],
        predicted_name=names[cells["predicted"].to_numpy()],
        accuracy=cells["arm"].map(table["accuracy"]),
        num_left_out=(cells["arm"].map(table["num_seeds"]) - cells["num_seeds"]).clip(lower=0),
    )[list(COLUMNS)]


def class_names(record: StudyRecord, num_classes: int) -> list[str]:
    """The names of the classes as the protocol says, else as a trial does, else their numbers."""
    dataset = record.protocol.get("dataset") or {}
    for names in (dataset.get("class_names"), *(final.get("class_names") for final in record.finals.values())):
        if isinstance(names, list) and len(names) == num_classes:
            return [str(name) for name in names]
    return [str(number) for number in range(num_classes)]


def plot_confusion(info: pd.DataFrame, style: Style) -> go.Figure:
    """One arm at a time, chosen from a list: its confusions, and beside them their difference to the baseline."""
    arms = [arm for arm in style.colours if arm in set(info["arm"])]
    compared = bool((info["num_pairs"] > 0).any())
    size = 1 + int(info["true"].max())
    names = _labels(info.drop_duplicates("true").sort_values("true")["true_name"].tolist())
    titles = ["Share of the images of a true class (%)"]
    titles += [f"Difference to {label(style.baseline)} (percentage points)"] if compared else []
    figure = make_subplots(cols=len(titles), subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.06)
    first = _first(info, style)
    cells = {str(arm): own.sort_values(["true", "predicted"]) for arm, own in info.groupby("arm")}
    for arm in arms:
        own = cells[arm]
        for place in range(len(titles)):
            for trace in _panel(own, names, style, difference=place == 1):
                figure.add_trace(trace.update(visible=arm == first), row=1, col=place + 1)
    of_arm = len(figure.data) // len(arms)
    buttons = [
        {
            "label": label(arm),
            "method": "restyle",
            "args": [{"visible": [place // of_arm == chosen for place in range(len(figure.data))]}],
        }
        for chosen, arm in enumerate(arms)
    ]
    menu = {"buttons": buttons, "active": arms.index(first), "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom"}
    off = info[info["true"] != info["predicted"]]
    figure.update_layout(
        updatemenus=[menu | {"pad": {"b": 34}, "showactive": True, "bgcolor": "white"}],
        coloraxis=_scale(SHARES, 0.0, off["percent"].max(), 0.47 if compared else 1.0),
        coloraxis2=_scale(DIFFERENCES, -off["difference"].abs().max(), off["difference"].abs().max(), 1.0),
    )
    lay_out(figure, height=170 + max(360, min(620, 44 * size)), margin={"l": 10, "r": 20, "t": 90, "b": 10})
    if size > MAX_NUMBERED:
        figure.update_layout(hoverdistance=2)  # pixels: the diagonal would answer for the small cells beside it
    shown = {"type": "category", "categoryorder": "array", "categoryarray": names, "showgrid": False}
    figure.update_xaxes(title_text="Predicted class", range=[-0.5, size - 0.5], **shown)
    figure.update_yaxes(range=[size - 0.5, -0.5], **shown)
    figure.update_yaxes(title_text="True class", col=1)
    return figure


def _first(info: pd.DataFrame, style: Style) -> str:
    """The arm shown first: the best, or, since the baseline has no difference to itself, the best of the others."""
    order = info.drop_duplicates("arm").sort_values("accuracy", ascending=False, kind="stable")["arm"]
    others = [str(arm) for arm in order if arm != style.baseline]
    return others[0] if others else str(order.iloc[0])


def _labels(names: Sequence[str]) -> list[str]:
    """Names as the axes show them; those that look alike when cut are told apart by their number."""
    cut = [label(name, MAX_CLASS_LABEL) for name in names]
    return [name if cut.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(cut)]


def _scale(colours: tuple[tuple[float, str], ...], low: float, high: float, place: float) -> dict[str, Any]:
    known = np.isfinite(high) and high > 0
    bar = {"thickness": 12, "outlinewidth": 0, "x": place, "xanchor": "left", "xpad": 4}
    return {"colorscale": colours, "cmin": low if known else 0.0, "cmax": high if known else 1.0, "colorbar": bar}


def _panel(own: pd.DataFrame, names: list[str], style: Style, *, difference: bool) -> list[go.Heatmap | go.Scatter]:
    """The confusions in colour, and the recalls, which would outshine them, as numbers on the diagonal."""
    size = len(names)
    column = "difference" if difference else "percent"
    values = own[column].to_numpy(dtype=float).reshape(size, size)
    numbered = size <= MAX_NUMBERED
    confusions = np.where(np.eye(size, dtype=bool), np.nan, values)
    shown: dict[str, Any] = {"hovertemplate": _template(own["arm"].iloc[0], style, difference=difference)}
    if numbered:
        rows = own.to_dict("records")
        hover = [_hover(row, style, difference=difference) for row in rows]
        text = [_number(row, difference=difference) for row in rows]
        shown = {"hovertext": _grid(hover, size), "hoverinfo": "text", "text": _grid(text, size)}
        shown |= {"texttemplate": "%{text}", "textfont": {"size": 11}}
    heatmap = go.Heatmap(
        x=names,
        y=names,
        z=confusions.astype(np.float32),  # half the page's weight, and more digits than anybody reads
        coloraxis="coloraxis2" if difference else "coloraxis",
        hoverongaps=False,
        xgap=1 if numbered else 0,
        ygap=1 if numbered else 0,
        **shown,
    )
    recalls = values.diagonal()
    form = "+.1f" if difference else ".1f"
    recalls = np.round(recalls, 1) + 0.0  # no negative zero
    known = [f"{recall:{form}}" if np.isfinite(recall) else "" for recall in recalls]
    what = f"recall minus that of {label(style.baseline)}" if difference else "recall"
    diagonal = go.Scatter(
        x=names,
        y=names,
        mode="markers+text" if numbered else "markers",
        text=known,
        textfont={"size": 11, "color": INK},
        marker={"size": 3, "color": "#c4c9d2", "opacity": 0 if numbered else 1},
        hovertext=[f"{name}: {what} {recall}" if recall else "" for name, recall in zip(names, known, strict=True)],
        hoverinfo="text",
        showlegend=False,
    )
    return [heatmap, diagonal]


def _grid(texts: list[str], size: int) -> list[list[str]]:
    return [texts[size * row : size * (row + 1)] for row in range(size)]


def _number(row: dict[Any, Any], *, difference: bool) -> str:
    """What a cell shows: of differences those alone that are more than chance."""
    value = row["difference" if difference else "percent"]
    if row["true"] == row["predicted"] or not abs(value) >= SMALLEST_SHOWN or (difference and not row["p"] < ALPHA):
        return ""
    return f"{value:+.1f}" if difference else f"{value:.1f}"


def _hover(row: dict[Any, Any], style: Style, *, difference: bool) -> str:
    classes = f"<b>{label(row['arm'])}</b> takes {label(row['true_name'])} for {label(row['predicted_name'])}"
    if np.isnan(row["difference" if difference else "percent"]):
        return ""
    if not difference:
        return f"{classes}<br>{row['percent']:.2f}% of the class, {seeds(row['num_seeds'])}"
    interval = f" [{row['low']:+.2f}, {row['high']:+.2f}]" if np.isfinite(row["low"]) else ""
    p = f"p = {row['p']:.2g} over all confusions of all arms" if np.isfinite(row["p"]) else ""
    against = f"{row['difference']:+.2f}{interval} points against {label(style.baseline)}, {seeds(row['num_pairs'])}"
    return "<br>".join(line for line in (classes, against, p) if line)


def _template(arm: str, style: Style, *, difference: bool) -> str:
    unit = f"%{{z:+.2f}} points against {label(style.baseline)}" if difference else "%{z:.2f}% of the class"
    return f"<b>{label(arm)}</b> takes %{{y}} for %{{x}}<br>{unit}<extra></extra>"


def say_confusion(info: pd.DataFrame, style: Style) -> str:
    """The commonest confusion of the best arm, and where an arm differs most from the baseline."""
    off = info[info["true"] != info["predicted"]]
    best = str(info["arm"].iloc[int(info["accuracy"].fillna(-1).argmax())])
    own = off[(off["arm"] == best) & (off["percent"] > 0)]
    who = best if (info["arm"] == best).all() else f"{best} (highest accuracy)"
    if own.empty:
        first = f"{who} confuses no classes."
    else:
        most = own.iloc[int(own["percent"].argmax())]
        share = f"{most['percent']:.1f}% of that class, {seeds(most['num_seeds'])}"
        first = f"{who} most often takes {most['true_name']} for {most['predicted_name']}: {share}."
    left_out = int(info.drop_duplicates("arm")["num_left_out"].sum())
    note = f" {count(left_out, 'seed')} without counts left out." if left_out else ""
    return f"{first}{_against(off[off['difference'].notna()], style)}{note}"


def _against(compared: pd.DataFrame, style: Style) -> str:
    if compared.empty:
        return ""
    if not compared["difference"].abs().max() > 0:
        return f" No arm confuses any classes more or less often than {style.baseline}."
    found = compared[compared["p"] < ALPHA]
    shown = found if len(found) else compared
    row = shown.iloc[int(shown["difference"].abs().argmax())]
    interval = f" [{row['low']:+.2f}, {row['high']:+.2f}]" if np.isfinite(row["low"]) else ""
    what = (
        f"{row['arm']} takes {row['true_name']} for {row['predicted_name']}, {row['difference']:+.2f}{interval} points"
    )
    if len(found):
        sure = f"p = {row['p']:.2g}, corrected for all {len(compared):,}"
        return f" Largest difference to {style.baseline} beyond chance: {what} ({sure})."
    family = f"{len(compared):,} confusions of all arms"
    return f" Of {family} none is shown to differ from {style.baseline}; the largest difference seen: {what}."
