"""Results of claims as a text table, Markdown, JSON and a section of the report's page."""

from __future__ import annotations

import itertools
import json
import math
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from analysis import tables
from analysis.claims.evaluate import ClaimResult, Outcome
from analysis.claims.model import HOLDS, NOT_RUN, VERDICTS
from analysis.inference import ROUNDING
from analysis.tables import Cell, render_table, text
from analysis.verdict import count, verb
from search_spaces.reported import FAIR, REGIMES, STATED

Results = Sequence[ClaimResult]

TEXT_WIDTH = 120
#: Columns of the text table: name and width; two spaces lie between them.
COLUMNS = (("id", 6), ("statement", 36), ("reported", 18), ("stated", 26), ("fair", 26))
MISSING = "-"
REGIME_WORDS = {STATED: "as stated", FAIR: "with tuned rates"}


def as_text(results: Results) -> str:
    """A table for a terminal, at most 120 columns wide, its reasons as footnotes; empty where there are no claims."""
    if not results:
        return ""
    names = [name for name, _ in COLUMNS]
    rule = "-" * (sum(width for _, width in COLUMNS) + 2 * (len(COLUMNS) - 1))
    lines = [*_wrapped(_settings(results)), "", *_row(names), rule]
    for result in results:
        lines += _row([result.id, result.statement, result.reported or MISSING, *map(_cell, _outcomes(result))])
    lines += [rule, *(f"{regime}: {_counted(results, regime)}" for regime in REGIMES)]
    if footnotes := _footnotes(results):
        lines += ["", *_wrapped(footnotes)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def as_markdown(results: Results) -> str:
    """The counts of verdicts, the studies, a pipe table and the reasons below it; empty where there are no claims."""
    if not results:
        return ""
    lines = [f"| regime | {' | '.join(VERDICTS)} |", f"|---|{'---:|' * len(VERDICTS)}"]
    for regime in REGIMES:
        counts = _counts(results, regime)
        lines.append(f"| {regime} | {' | '.join(str(counts[verdict]) for verdict in VERDICTS)} |")
    settings = _settings(results)
    lines += ["", *(f"- {_markdown(line)}" for line in settings), *([""] if settings else [])]
    lines += [f"| {' | '.join(name for name, _ in COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for result in results:
        outcomes = ["<br>".join(_markdown(line) for line in _lines(outcome)) for outcome in _outcomes(result)]
        cells = [result.id, _markdown(result.statement), _markdown(result.reported) or MISSING, *outcomes]
        lines.append(f"| {' | '.join(cells)} |")
    if footnotes := _footnotes(results):
        lines += ["", *(f"- {_markdown(note)}" for note in footnotes)]
    return "\n".join(lines) + "\n"


def as_json(results: Results) -> str:
    """A list of objects: ``id``, ``statement``, ``regimes`` → ``stated``/``fair`` → the fields of an ``Outcome``."""
    return json.dumps([asdict(result) for result in results], indent=1, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS: dict[str, Callable[[Results], str]] = {"text": as_text, "markdown": as_markdown, "json": as_json}


def as_sentence(results: Results, regimes: Sequence[str]) -> str:
    """How many claims of the report hold in the regimes that were run; empty where there are no claims or regimes."""
    if not results or not regimes:
        return ""
    report = results[0].id.partition("-")[0]
    parts = [f"{REGIME_WORDS[regime]} {_counted(results, regime)}" for regime in regimes]
    return f"Report {report}'s {count(len(results), 'claim')}: {'; '.join(parts)}."


def claims_section(results: Results) -> str:
    """A section of the report's page; empty where there are no claims."""
    if not results:
        return ""
    counts = "; ".join(f"{regime}: {_counted(results, regime)}" for regime in REGIMES)
    settings = "".join(f"<li>{text(line)}</li>" for line in _settings(results))
    return (
        '<section id="section-claims"><h2>Claims of the report</h2>'
        f'<p class="takeaway">{text(counts)}.</p>'
        f"{render_table('claims', HEADINGS, [_html_row(result) for result in results])}"
        f'<ul class="caption">{settings}</ul></section>'
    )


HEADINGS = (
    ("Claim", "report and number"),
    ("Statement", "what the report says"),
    ("Reported", "the report's numbers"),
    ("Stated", "verdict with the report's own hyperparameters, over seeds"),
    ("Fair", "verdict with each arm's learning rate tuned"),
)


def _html_row(result: ClaimResult) -> list[Cell]:
    note = f"<details><summary>How it is tested</summary>{text(result.note)}</details>" if result.note else ""
    return [
        (text(result.id), result.id),
        (f"{text(result.statement)}{note}", result.statement),
        (text(result.reported) or tables.MISSING, result.reported),
        *((_html_outcome(outcome), str(VERDICTS.index(outcome.verdict))) for outcome in _outcomes(result)),
    ]


def _html_outcome(outcome: Outcome) -> str:
    word, *numbers = _lines(outcome)
    kind = outcome.verdict.replace(" ", "-")
    shown = "".join(f'<br><span class="interval">{text(line)}</span>' for line in numbers)
    said = filter(None, (outcome.label, outcome.reason, ", ".join(outcome.studies)))
    more = "".join(f"<p>{text(line)}</p>" for line in said)
    details = f"<details><summary>Why</summary>{more}</details>" if more else ""
    return f'<b class="claim {kind}">{text(word)}</b>{shown}{details}'


def _markdown(words: str) -> str:
    """Words that Markdown takes as text, within one cell."""
    plain = " ".join(words.split()).replace("\\", "\\\\")
    for character in "|*`<>[]":
        plain = plain.replace(character, f"\\{character}")
    return plain


def _outcomes(result: ClaimResult) -> list[Outcome]:
    return [result.regimes[regime] for regime in REGIMES]


def _cell(outcome: Outcome) -> str:
    return "\n".join(_lines(outcome))


def _lines(outcome: Outcome) -> list[str]:
    """The verdict, the effect with its interval, the unit with n; only what there is."""
    if outcome.effect is None:
        return [outcome.verdict]
    known = [value for value in (outcome.effect, outcome.ci_low, outcome.ci_high) if value is not None]
    decimals = _decimals(max(map(abs, known)))
    numbers = f"{_plain_zero(outcome.effect, decimals)}"
    if outcome.ci_low is not None and outcome.ci_high is not None:
        numbers += f" [{_plain_zero(outcome.ci_low, decimals)}, {_plain_zero(outcome.ci_high, decimals)}]"
    unit = f"{outcome.unit}, " if outcome.unit else ""
    return [outcome.verdict, numbers, f"{unit}n = {outcome.n}"]


def _decimals(largest: float) -> int:
    """So many that the largest number shows three digits, and at least two places where it is below 100."""
    if largest < ROUNDING:
        return 2
    return min(max(2 - math.floor(math.log10(largest)), 2 if largest < 100 else 0), 6)  # noqa: PLR2004 - as it says


def _plain_zero(value: float, decimals: int) -> str:
    shown = f"{value:.{decimals}f}"
    return shown.removeprefix("-") if float(shown) == 0 else shown


def _counts(results: Results, regime: str) -> Mapping[str, int]:
    return Counter(result.regimes[regime].verdict for result in results)


def _counted(results: Results, regime: str) -> str:
    counts = _counts(results, regime)
    words = {HOLDS: verb(counts[HOLDS], "hold")}
    return ", ".join(f"{counts[verdict]} {words.get(verdict, verdict)}" for verdict in VERDICTS if counts[verdict])


def _settings(results: Results) -> list[str]:
    """Each study that an outcome rests on, with its data."""
    outcomes = [outcome for result in results for outcome in result.regimes.values()]
    settings = {study: setting for outcome in outcomes for study, setting in outcome.studies.items()}
    return [f"{study}: {setting}" if setting else study for study, setting in settings.items()]


def _footnotes(results: Results) -> list[str]:
    """The reasons, each once: a line where both regimes give the same, and for all claims that have the same."""
    places: dict[tuple[str, str], list[int]] = {}
    for place, result in enumerate(results):
        reasons = {f" {regime}": _explained(result.regimes[regime]) for regime in REGIMES}
        if len(set(reasons.values())) == 1:
            reasons = {"": reasons.popitem()[1]}
        for regime, reason in reasons.items():
            if reason:
                places.setdefault((regime, reason), []).append(place)
    return [f"{_ids(results, of)}{regime}: {reason}" for (regime, reason), of in places.items()]


def _ids(results: Results, places: Sequence[int]) -> str:
    """The claims at ascending places; three and more on end are a range within their report."""

    def run_of(entry: tuple[int, int]) -> tuple[int, str]:
        number, place = entry
        return place - number, results[place].id.partition("-")[0]

    runs = [[results[place].id for _, place in run] for _, run in itertools.groupby(enumerate(places), key=run_of)]
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(run) for run in runs)  # noqa: PLR2004


def _explained(outcome: Outcome) -> str:
    if outcome.verdict == NOT_RUN and outcome.reason:
        return outcome.reason  # it names what is missing, which many comparisons may have missed
    return "; ".join(filter(None, (outcome.label, outcome.reason)))


def _wrapped(lines: Sequence[str]) -> list[str]:
    return [
        part
        for line in lines
        for part in textwrap.wrap(line, TEXT_WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    ]


def _row(cells: Sequence[str]) -> list[str]:
    """One row of the text table, as many lines as its longest cell needs."""
    columns = [
        [part for line in cell.splitlines() for part in textwrap.wrap(line, width)]
        for cell, (_, width) in zip(cells, COLUMNS, strict=True)
    ]
    height = max(map(len, columns))
    padded: list[list[str]] = [[*column, *[""] * (height - len(column))] for column in columns]
    widths = [width for _, width in COLUMNS]
    return [
        "  ".join(part.ljust(width) for part, width in zip(line, widths, strict=True))
        for line in zip(*padded, strict=True)
    ]
