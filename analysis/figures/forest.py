"""Difference of each arm to the baseline, with its interval and the band that does not matter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from analysis.compare import POINTS, luck_of_the_search, paired_differences
from analysis.figures.style import GREY, INK, Style, label, lay_out, translucent
from analysis.findings import Findings
from analysis.inference import ALPHA
from analysis.verdict import count, difference, seeds

SAME_FUNCTION = "same function as the baseline"
ROW_HEIGHT = 44
#: Seeds stand so much below their mean, in rows.
BELOW = 0.24
#: Of the intervals' width: beyond the last mark, and how far a seed may stretch the axis.
MARGIN, MAX_MARGIN = 0.04, 0.5


def info_forest(findings: Findings) -> pd.DataFrame:
    """The comparisons, best arm first, each with what it is the mean of.

    Returns:
        The columns of ``compare_to_baseline``, and per arm ``seeds``, ``runs`` and ``seed_points``, lists of its paired
        seeds, of its runs on them and of their differences in points.
    """
    comparisons = findings.comparisons
    pairs = paired_differences(findings.record.trials, findings.baseline).dropna(subset="difference")
    own = {str(arm): frame for arm, frame in pairs.groupby("arm")}
    confirm = findings.record.trials.query("phase == 'confirm'").dropna(subset="seed").sort_values("start")
    runs = {(arm, int(seed)): run for arm, seed, run in confirm[["arm", "seed", "run_id"]].itertuples(index=False)}
    lists = pd.DataFrame(
        {
            "runs": [[runs[arm, int(seed)] for seed in own[arm]["seed"]] for arm in comparisons["arm"]],
            "seeds": [own[arm]["seed"].astype(int).tolist() for arm in comparisons["arm"]],
            "seed_points": [(own[arm]["difference"] * POINTS).astype(float).tolist() for arm in comparisons["arm"]],
        },
        index=comparisons.index,
    )
    return pd.concat([comparisons, lists], axis="columns")


def plot_forest(info: pd.DataFrame, style: Style) -> go.Figure:
    """Difference of each arm to the baseline with its interval; filled where it survives Holm; the band is ±δ."""
    figure = go.Figure()
    figure.add_vrect(x0=-style.delta, x1=style.delta, fillcolor="#eef0f4", line_width=0, layer="below")
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    luck = luck_of_the_search(info)
    for end in (-luck, luck) if luck else ():
        figure.add_vline(x=end, line={"color": GREY, "width": 1.5, "dash": "dot"}, layer="below")
    ends = _reach(info, style.delta)
    for position, row in enumerate(info.to_dict("records")):
        figure.add_scatter(**_seed_marks(row, position, ends, style))
    for position, row in enumerate(info.to_dict("records")):
        figure.add_scatter(**_mean_mark(row, position, style))
        interval = difference(pd.Series(row))
        figure.add_annotation(x=1.01, xref="paper", xanchor="left", y=position, showarrow=False, text=interval)
    title = f"Test accuracy minus that of {label(style.baseline)} (percentage points)"
    lay_out(figure, height=120 + ROW_HEIGHT * len(info), margin={"l": 10, "r": 170, "t": 20, "b": 10})
    figure.update_xaxes(title_text=title, zeroline=False, range=ends)
    figure.update_yaxes(
        tickvals=list(range(len(info))),
        ticktext=[_row_name(row) for row in info.to_dict("records")],
        range=[len(info) - 0.4, -0.6],
        showgrid=False,
    )
    return figure


def _reach(info: pd.DataFrame, delta: float) -> list[float]:
    """Ends of the axis that show every interval; a single seed far outside is not worth the width."""
    marks = info[["difference_points", "low_points", "high_points"]].to_numpy(dtype=float)
    low, high = float(np.nanmin(np.append(marks, -delta))), float(np.nanmax(np.append(marks, delta)))
    furthest = MAX_MARGIN * (high - low)
    points = np.array([point for own in info["seed_points"] for point in own], dtype=float)
    near = points[(points >= low - furthest) & (points <= high + furthest)]
    low, high = min(low, near.min(initial=low)), max(high, near.max(initial=high))
    return [low - MARGIN * (high - low), high + MARGIN * (high - low)]


def _mean_mark(row: dict[Any, Any], position: int, style: Style) -> dict[str, Any]:
    colour = style.colours[row["arm"]]
    reach = [row["high_points"] - row["difference_points"]]
    return {
        "x": [row["difference_points"]],
        "y": [position],
        "error_x": {"array": reach, "color": colour, "thickness": 2.5, "width": 6} if np.isfinite(reach[0]) else None,
        "marker": {
            "color": colour if row["p_holm"] < ALPHA else "white",
            "line": {"color": colour, "width": 2.5},
            "size": 12,
            "symbol": style.symbols[row["arm"]],
        },
        "mode": "markers",
        "showlegend": False,
        "hovertext": _hover_comparison(row),
        "hoverinfo": "text",
    }


def _seed_marks(row: dict[Any, Any], position: int, ends: list[float], style: Style) -> dict[str, Any]:
    """The paired differences below their mean; one that lies outside the axis is an arrow at its end."""
    points = np.array(row["seed_points"], dtype=float)
    arrows = np.select([points < ends[0], points > ends[1]], ["triangle-left", "triangle-right"], "circle")
    return {
        "x": points.clip(ends[0], ends[1]),
        "y": [position + BELOW] * len(points),
        "marker": {"color": translucent(style.colours[row["arm"]], 0.45), "size": 7, "symbol": arrows},
        "mode": "markers",
        "cliponaxis": False,
        "showlegend": False,
        "hovertext": [
            f"{label(row['arm'])}, seed {seed}: {value:+.2f} points"
            for seed, value in zip(row["seeds"], points, strict=True)
        ],
        "hoverinfo": "text",
        "customdata": row["runs"],
    }


def _row_name(row: dict[Any, Any]) -> str:
    note = f'<br><span style="font-size:10px">{SAME_FUNCTION}</span>' if row["twin"] else ""
    return f"{label(row['arm'])}{note}"


def _hover_comparison(row: dict[Any, Any]) -> str:
    inside = "lies" if row["equivalent"] else "does not lie"
    inner = f"[{row['equivalence_low_points']:+.2f}, {row['equivalence_high_points']:+.2f}]"
    ninety = f"90% interval {inner} {inside} within ±δ" if np.isfinite(row["equivalence_low_points"]) else "no interval"
    lines = [
        f"<b>{label(row['arm'])}</b>: {difference(pd.Series(row))} points",
        f"Holm p = {row['p_holm']:.3g} (uncorrected {row['p']:.3g})",
        f"better in {row['probability_better']:.0%} of {seeds(row['num_seeds'])}",
        ninety,
    ]
    return "<br>".join([*lines, *([SAME_FUNCTION] if row["twin"] else [])])


def say_forest(info: pd.DataFrame, style: Style) -> str:
    """How many arms differ from the baseline, and how many are shown to be as good; a twin is no finding."""
    twins, judged = info[info["twin"].astype(bool)], info[~info["twin"].astype(bool)]
    parts = []
    if len(judged):
        differs = judged["p_holm"] < ALPHA
        found, lucky = int(differs.sum()), int((differs & judged["within_luck"].astype(bool)).sum())
        equal = int(judged["equivalent"].astype(bool).sum())
        best = judged.iloc[0]
        verb = "differs" if 1 in (found, len(judged)) else "differ"
        parts.append(
            f"{best['arm']} stands highest, {difference(best)} points; {found} of {count(len(judged), 'arm')} {verb} "
            f"from {style.baseline} after Holm's correction (filled), {equal} {'is' if equal == 1 else 'are'} shown to "
            f"lie within δ = {style.delta:g}."
        )
        if lucky:
            parts.append(f"{lucky} of those that differ by no more than luck of the search can do (dotted).")
    parts += [
        f"{row['arm']}, the same function as {style.baseline}, came out {difference(row)} points apart."
        for _, row in twins.iterrows()
    ]
    return " ".join(parts)
