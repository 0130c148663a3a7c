"""A comparison of studies as text, Markdown, JSON and CSV."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from analysis.across.result import Result
from analysis.across.takeaways import say_forest, say_ranking
from analysis.compare import POINTS
from analysis.plain import fit, plain, width, wrap
from analysis.verdict import difference

SCHEMA = 1
TEXT_WIDTH = 120
MISSING = "-"
Row = Mapping[Any, Any]


def as_csv(result: Result) -> str:
    """One row per study and arm: the columns of ``score_table``."""
    return str(result.scores.to_csv(index=False))


def as_json(result: Result) -> str:
    """Everything, as one object; what is not known is null.

    ``schema`` 1; ``verdict``; ``remarks``; ``factor``, ``regime`` (empty for tuned spaces), ``baseline``, ``arms``,
    ``twins``; ``left_out``: arm → reason; ``studies``: ``name, dataset, setting, delta, run_id``; ``scores``,
    ``effect_changes``, ``pooled``, ``versions``: lists of rows as ``score_table``, ``effect_changes``,
    ``pooled_effects`` and ``version_changes`` describe them; ``ranking``: the fields of ``Ranking`` or null;
    ``protocols``: rows of ``fact, differs, values`` with a value per study.
    """
    comparison = result.comparison
    names = range(len(comparison.studies))
    content = {
        "schema": SCHEMA,
        "verdict": result.verdict,
        "remarks": list(comparison.remarks),
        "factor": comparison.factor,
        "regime": comparison.regime,
        "baseline": comparison.baseline,
        "arms": list(comparison.arms),
        "twins": list(comparison.twins),
        "left_out": dict(comparison.left_out),
        "studies": [
            {"name": study.name, "dataset": study.dataset, "setting": study.setting, "delta": study.delta}
            | {"run_id": study.findings.record.run_id}
            for study in comparison.studies
        ],
        "scores": _records(result.scores),
        "effect_changes": _records(result.effect_changes),
        "pooled": _records(result.pooled),
        "ranking": _ranking(result),
        "protocols": [
            {"fact": row["fact"], "differs": bool(row["differs"]), "values": [row[place] for place in names]}
            for row in result.protocols.to_dict("records")
        ],
        "versions": _records(result.versions),
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _records(frame: pd.DataFrame) -> list[Any]:
    return list(json.loads(frame.to_json(orient="records", double_precision=15)))


def _ranking(result: Result) -> dict[str, Any] | None:
    if result.ranking is None:
        return None
    fields = asdict(result.ranking) | {"ranks": _records(result.ranking.ranks)}
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in fields.items()
    }


def notes(result: Result) -> list[str]:
    """What stands below the tables, a sentence or two each."""
    return [say_forest(result), say_ranking(result), *result.comparison.remarks, *left_out(result)]


def left_out(result: Result) -> list[str]:
    """The arms that are not compared, by what they lack."""
    arms: dict[str, list[str]] = {}
    for arm, reason in result.comparison.left_out.items():
        arms.setdefault(reason, []).append(arm)
    return [f"Left out: {', '.join(names)} ({reason})." for reason, names in arms.items()]


Table = tuple[str, list[str], list[list[str]]]


def tables(result: Result) -> list[Table]:
    """Title, headings and rows of every table, as plain text."""
    studies = [study.name for study in result.comparison.studies]
    found: list[Table] = [("Accuracy, % [95% CI], and rank", ["arm", *studies], _by_arm(result, accuracy_cell))]
    effects = [row for row in _by_arm(result, effect_cell) if row[0] != result.comparison.baseline]
    if effects:
        means = ["mean over datasets"] if len(result.pooled) else []
        title = f"Difference to {result.comparison.baseline}, points [95% CI]"
        found.append((title, ["arm", *studies, *means], _with_mean(result, effects)))
    differing = result.protocols[result.protocols["differs"].astype(bool)]
    rows = [
        [str(row["fact"]), *(str(row[place]) or MISSING for place in range(len(studies)))]
        for row in differing.to_dict("records")
    ]
    if rows:
        found.append(("What differs", ["fact", *studies], rows))
    if len(result.versions):
        headings = ["arm", "from", "to", "change, points", "Holm p", "winner"]
        changes = [
            [row["arm"], row["before"], row["after"], change_cell(row), number(row["p_holm"], ".2g"), row["winner"]]
            for row in result.versions.to_dict("records")
        ]
        found.append(("The same dataset again", headings, changes))
    return found


def _by_arm(result: Result, cell: Callable[[Row], str]) -> list[list[str]]:
    by_place = {(row["arm"], row["study"]): row for row in result.scores.to_dict("records")}
    return [
        [arm, *(cell(by_place[arm, study.name]) for study in result.comparison.studies)]
        for arm in result.comparison.arms
    ]


def _with_mean(result: Result, rows: list[list[str]]) -> list[list[str]]:
    if result.pooled.empty:
        return rows
    means = {row["arm"]: pooled_cell(row) for row in result.pooled.to_dict("records")}
    return [[*row, means.get(row[0], MISSING)] for row in rows]


def accuracy_cell(row: Row) -> str:
    """``97.31 [96.90, 97.72] #1``."""
    low, high = row["accuracy_low"] * POINTS, row["accuracy_high"] * POINTS
    interval = f" [{low:.2f}, {high:.2f}]" if math.isfinite(low) else ""
    diverged = f" ({row['num_diverged']} diverged)" if row["num_diverged"] else ""
    return f"{row['accuracy'] * POINTS:.2f}{interval} #{row['rank']:g}{diverged}"


def effect_cell(row: Row) -> str:
    """``+0.62 [+0.30, +0.94] better``."""
    if math.isnan(row["difference_points"]):
        return MISSING
    return f"{difference(pd.Series(row))} {'(twin)' if row['twin'] else row['outcome']}"


def pooled_cell(row: Row) -> str:
    """``+0.62 [-0.30, +1.54], I² 40%``."""
    return f"{row['mean']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}], I² {row['i2']:.0%}"


def change_cell(row: Row) -> str:
    """A change with its interval and how it was compared."""
    interval = f" [{row['low']:+.2f}, {row['high']:+.2f}]" if math.isfinite(row["low"]) else ""
    how = f"{row['num_after']} pairs" if row["paired"] else f"{row['num_before']} and {row['num_after']} seeds"
    return f"{row['change']:+.2f}{interval} ({how})"


def number(value: float, form: str) -> str:
    """A number as text; a dash where there is none."""
    return format(value, form) if math.isfinite(value) else MISSING


def as_text(result: Result) -> str:
    """For a terminal, at most 120 columns wide where the names allow it."""
    lines = wrap(plain(result.verdict), TEXT_WIDTH, indent="  ")
    for title, headings, rows in tables(result):
        lines += ["", plain(title), *_aligned(headings, rows)]
    lines += ["", *(line for note in notes(result) for line in wrap(plain(note), TEXT_WIDTH, indent="  "))]
    return "\n".join(lines) + "\n"


def _aligned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns side by side; where that is too wide, a block per row with a line per column."""
    every = [list(map(plain, row)) for row in [headings, *rows]]
    widths = [max(map(width, column)) for column in zip(*every, strict=True)]
    if sum(widths) + 2 * (len(widths) - 1) <= TEXT_WIDTH:
        lines = ["  ".join(map(fit, row, widths)).rstrip() for row in every]
        return [lines[0], "-" * max(map(width, lines)), *lines[1:]]
    lines = []
    for first, *others in every[1:]:
        lines.append(first)
        for name, cell in zip(every[0][1:], others, strict=True):
            lines += [f"  {line}" for line in wrap(f"{name}: {cell}", TEXT_WIDTH - 2, indent="    ")]
    return lines


def as_markdown(result: Result) -> str:
    """The verdict, a pipe table each and the notes as a list."""
    lines = [_markdown(result.verdict)]
    for title, headings, rows in tables(result):
        lines += ["", f"### {_markdown(title)}", "", f"| {' | '.join(map(_markdown, headings))} |"]
        lines.append("|---" * len(headings) + "|")
        lines += [f"| {' | '.join(map(_markdown, row))} |" for row in rows]
    return "\n".join([*lines, "", *(f"- {_markdown(note)}" for note in notes(result))]) + "\n"


def _markdown(words: str) -> str:
    """Words that Markdown takes as text, within one cell."""
    shown = plain(words).replace("\\", "\\\\")
    for character in "|*_`<>[]#":
        shown = shown.replace(character, f"\\{character}")
    return shown


FORMATS: dict[str, Callable[[Result], str]] = {"text": as_text, "markdown": as_markdown, "json": as_json}
