"""What a search of so many trials finds, per arm, with a band for what other draws would have found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go
from opda.nonparametric import EmpiricalDistribution

from analysis.band import equal_tailed_band, kolmogorov_band
from analysis.compare import POINTS
from analysis.figures.style import (
    GREY,
    INK,
    Style,
    build_panels,
    error_percent,
    error_window,
    label,
    show_accuracies,
    translucent,
)
from analysis.findings import Findings
from analysis.inference import ALPHA
from analysis.load import numbers

Array = npt.NDArray[np.float64]

COLUMNS = ("arm", "trials", "median", "low", "high", "recorded", "search", "stopping")
#: A trial that spent its share of the budget; one that is interrupted or still runs has not.
ENDED = ("completed", "pruned", "diverged", "failed")
#: Up to so many trials, summed over the different budgets of the arms, the tighter bands take about a second.
MAX_TIGHT = 3000
#: More points than this no panel can show.
MAX_POINTS = 120
#: Up to so many trials each has its tick.
FEW_TRIALS = 6
RECORDED = {"color": INK, "width": 1.3, "dash": "dot", "shape": "hv"}
BASELINE = {"color": GREY, "width": 1.3}
#: Why bands that assume independent draws from one distribution may not hold.
DEPENDENT = {
    "tpe": "TPE's trials depend on one another",
    "grid": "a grid's points are not drawn at random",
    "": "how trials were proposed is not on record",
}


def tuning_curve(
    scores: npt.ArrayLike,
    budgets: npt.ArrayLike,
    *,
    band: Callable[[int, float], tuple[Array, Array]] = equal_tailed_band,
) -> pd.DataFrame:
    """The best of k independent trials: its median, with a band that holds for every k at once.

    Exact for independent draws from one continuous distribution, wider than need be where scores tie; the band is that
    of the distribution function, which bounds the whole curve.

    Args:
        scores: Validation accuracy of each trial, a fraction; larger is better.
        budgets: Numbers of trials k, at least 1.
        band: Of the distribution function, by the size of the sample and the confidence (``analysis.band``).

    Returns:
        ``trials, median, low, high``: k, the median of the best of k draws of these scores, and its 95% band, 0 and 1
        where the scores say nothing.

    Raises:
        ValueError: If there is no score, or one is not in [0, 1].

    References:
        Lourie, Cho & He, NAACL 2024, arXiv:2311.09480.
    """
    sample, ks = np.sort(np.asarray(scores, dtype=np.float64)), np.asarray(budgets)
    if not sample.size or not ((sample >= 0) & (sample <= 1)).all():
        raise ValueError("`scores` must be one or more accuracies in [0, 1].")
    # A low distribution function is that of high scores.
    least, most = band(sample.size, 1 - ALPHA)
    bounds = np.concatenate([[0.0], sample, [1.0]])
    curves = {"median": EmpiricalDistribution(sample)} | {
        name: EmpiricalDistribution(bounds, ws=np.diff(shares, prepend=0.0, append=1.0), a=0.0, b=1.0)
        for name, shares in (("low", most), ("high", least))
    }
    return pd.DataFrame({"trials": ks} | {name: curve.quantile_tuning_curve(ks) for name, curve in curves.items()})


def search_scores(trials: pd.DataFrame) -> pd.DataFrame:
    """The score of every search trial that ended, in the order of their numbers: ``arm, score``.

    The score is the validation accuracy of the last epoch, by which the search ranks. A failed trial spent its share
    of the budget and found nothing: 0.
    """
    search = trials[(trials["phase"] == "search") & trials["stop_reason"].isin(ENDED)]
    score = numbers(search, "val_accuracy").where(search["stop_reason"] != "failed").fillna(0.0).clip(0, 1)
    return search.assign(score=score).sort_values(["number", "start"], kind="stable")[["arm", "score"]]


def info_tuning(findings: Findings) -> pd.DataFrame:
    """Each arm's tuning curve, and how trials were proposed and stopped.

    Returns:
        ``arm, trials, median, low, high, recorded, search, stopping``: as :func:`tuning_curve`; ``recorded`` is the
        best of the first so many trials as they were run.
    """
    scored = search_scores(findings.record.trials)
    samples = {str(arm): own["score"].to_numpy(dtype=float) for arm, own in scored.groupby("arm", sort=False)}
    samples = {arm: sample for arm, sample in samples.items() if sample.any()}
    band = equal_tailed_band if sum({len(sample) for sample in samples.values()}) <= MAX_TIGHT else kolmogorov_band
    protocol = findings.record.protocol
    how = {key: str(protocol.get(key) or "") for key in ("search", "stopping")}
    frames = []
    for arm, sample in samples.items():
        budgets = np.unique(np.linspace(1, len(sample), min(len(sample), MAX_POINTS)).round().astype(int))
        curve = tuning_curve(sample, budgets, band=band)
        frames.append(curve.assign(arm=arm, recorded=np.maximum.accumulate(sample)[budgets - 1], **how))
    return pd.concat(frames, ignore_index=True)[list(COLUMNS)] if frames else pd.DataFrame(columns=list(COLUMNS))


def plot_tuning(info: pd.DataFrame, style: Style) -> go.Figure:
    """One panel per arm: the band, the median, what happened, and the baseline's median in grey."""
    arms = [arm for arm in style.colours if arm in set(info["arm"])]
    y_title = "Best validation accuracy (%)"
    figure, cells = build_panels(arms, x_title="Trials of the arm's search", y_title=y_title)
    window = _window(info)
    best = window[1]
    base = info[info["arm"] == style.baseline]
    for arm, cell in cells.items():
        own = info[info["arm"] == arm]
        for trace in _band(own, style.colours[arm], best):
            figure.add_scatter(**trace, **cell)
        if arm != style.baseline and len(base):
            figure.add_scatter(**_line(base, "median", best, BASELINE), hoverinfo="skip", **cell)
        figure.add_scatter(**_line(own, "recorded", best, RECORDED), hoverinfo="skip", **cell)
        solid = {"color": style.colours[arm], "width": 2.4}
        figure.add_scatter(**_line(own, "median", best, solid), hovertext=_hover(own), hoverinfo="text", **cell)
    _add_legend(figure, style, with_baseline=bool(len(base)) and len(arms) > 1)
    figure.update_xaxes(nticks=6, **({"dtick": 1} if info["trials"].max() <= FEW_TRIALS else {}))
    return show_accuracies(figure, window)


def _window(info: pd.DataFrame) -> tuple[float, float]:
    """What the axis shows: where the searches end, the bands that close there, and the middle of every median."""
    end = info.groupby("arm").tail(1)
    closed = end["low"].where(end["low"] > 0, end["median"])
    middle = info.groupby("arm")["median"].median()
    return error_window(info["median"], min(float(closed.min()), float(middle.min())))


def _band(own: pd.DataFrame, colour: str, best: float) -> list[dict[str, Any]]:
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    low, high = ({"x": own["trials"], "y": error_percent(own[end], best)} for end in ("low", "high"))
    return [{**low, **edge}, {**high, **edge, "fill": "tonexty", "fillcolor": translucent(colour, 0.22)}]


def _line(own: pd.DataFrame, column: str, best: float, line: dict[str, Any]) -> dict[str, Any]:
    form = {"mode": "lines" if len(own) > 1 else "markers", "line": line, "marker": {"color": line["color"]}}
    return {"x": own["trials"], "y": error_percent(own[column], best), "showlegend": False, **form}


def _hover(own: pd.DataFrame) -> list[str]:
    return [
        f"<b>{label(row['arm'])}</b>, best of {row['trials']}: median {row['median']:.2%}<br>"
        f"95% band {_end(row['low'], 0)} to {_end(row['high'], 1)}; as run: {row['recorded']:.2%}"
        for row in own.to_dict("records")
    ]


def _end(value: float, limit: float) -> str:
    return "open" if value == limit else f"{value:.2%}"


def _add_legend(figure: go.Figure, style: Style, *, with_baseline: bool) -> None:
    entries: list[tuple[str, dict[str, Any]]] = [
        ("median best of so many trials, redrawn", {"line": {"color": GREY, "width": 3}}),
        ("its 95% band", {"line": {"color": translucent(GREY, 0.3), "width": 10}}),
        ("best as the trials were run", {"line": RECORDED}),
    ]
    if with_baseline:
        entries.append((f"median of {label(style.baseline)}", {"line": BASELINE}))
    for name, form in entries:
        figure.add_scatter(x=[None], y=[None], mode="lines", name=name, hoverinfo="skip", **form)


def say_tuning(info: pd.DataFrame, style: Style) -> str:
    """What the best arm's search finds, how soon arms are near their end, and whether the bands hold."""
    end = info.groupby("arm", sort=False).tail(1).set_index("arm")
    best = end.iloc[int(end["median"].argmax())]
    band = f"95% band from {best['low']:.2%}" if best["low"] > 0 else "too few trials for a band"
    near = info[info["median"] >= info["arm"].map(end["median"]) - style.delta / POINTS - 1e-9]
    soonest = near.groupby("arm")["trials"].min()
    low, high = int(soonest.min()), int(soonest.max())
    reach = f"{low}" if low == high else f"{low} to {high}"
    return (
        f"Half of the searches of {int(best['trials'])} trials like those of {best.name} find {best['median']:.2%} or "
        f"more ({band}); arms come within δ = {style.delta:g} of their own end after {reach} "
        f"trial{'' if high == 1 else 's'}; {_whether_it_holds(best)}."
    )


def _whether_it_holds(row: pd.Series[Any]) -> str:
    """Independent draws, each trained to its end, are what the bands assume."""
    reasons = [DEPENDENT[row["search"]]] if row["search"] in DEPENDENT else []
    reasons += ["ASHA cut weak trials short"] if row["stopping"] == "asha" else []
    if reasons:
        return f"{' and '.join(reasons)}, so bands describe redrawing the recorded trials and guarantee nothing"
    return "trials were drawn independently, so each arm's band holds as it stands"
