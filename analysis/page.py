"""Findings to one HTML page that needs nothing else: no server, no network, no font, no file beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.resources import files

import numpy as np
import pandas as pd
import plotly.offline

from analysis.audit import STOP_REASONS
from analysis.compare import POINTS
from analysis.figures.style import build_style
from analysis.figures.table import FIGURES, Figure
from analysis.findings import Findings
from analysis.inference import ALPHA
from analysis.remarks import audit_remarks, protocol_facts
from analysis.reported import ReportedPart
from analysis.tables import MISSING, Cell, number, render_table, text
from analysis.verdict import difference

#: Figures that stand above the table, in the order of the report.
FIRST = ("forest",)
#: From version 7 on plotly shows a button that uploads the chart to its makers; a report stays where it is.
PLOTLY = {
    "responsive": True,
    "displaylogo": False,
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "modeBarButtonsToRemove": ["select2d", "lasso2d"],
}


def build_page(findings: Findings, reported: ReportedPart | None = None) -> str:
    """The whole report as HTML; ``reported`` is what a reported study has beside."""
    # Nothing may be fetched from anywhere: the browser itself refuses it.
    policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
    name = text(findings.record.name)
    head = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<link rel="icon" href="data:,">
<title>{name}</title>
<style>{_asset("report.css")}</style>
<script>{plotly.offline.get_plotlyjs()}</script>
</head>
<body>
"""
    figures = {key: _figure_section(key, figure, findings) for key, figure in FIGURES.items()}
    sections = [
        _header(findings),
        *(figures[key] for key in FIRST),
        _table_section(findings),
        *(reported.sections if reported else ()),
        *(section for key, section in figures.items() if key not in FIRST),
        _audit_section(findings),
    ]
    tail = f"<script>{_asset('report.js')}</script>\n</body>\n</html>\n"
    return head + "<main>\n" + "\n".join(sections) + "\n</main>\n" + tail


def _asset(name: str) -> str:
    return (files("analysis") / name).read_text(encoding="utf-8")


def _header(findings: Findings) -> str:
    protocol = findings.record.protocol
    dataset = protocol.get("dataset") or {}
    facts = [str(dataset.get("name", "")), f"{len(findings.arms)} arms", _when(findings.record.trials)]
    if findings.baseline:
        facts.insert(2, f"baseline {findings.baseline}")
    question = str(protocol.get("question") or "Does this choice matter, by how much, and how sure are we?")
    return f"""<header>
<p class="eyebrow">{text(" · ".join(fact for fact in facts if fact))}</p>
<h1>{text(findings.record.name)}</h1>
<p class="question">{text(question)}</p>
</header>
<section class="verdict" aria-label="Verdict"><p id="verdict">{text(findings.verdict)}</p></section>"""


def _when(trials: pd.DataFrame) -> str:
    last = trials["end"].max()
    return "" if pd.isna(last) else f"{last:%Y-%m-%d %H:%M} UTC"


def _figure_section(key: str, figure: Figure, findings: Findings) -> str:
    style = build_style(findings)
    info = figure.info(findings)
    heading = f'<section id="section-{key}"><h2>{text(figure.title)}</h2>'
    if info.empty:
        return f'{heading}<p class="takeaway">Nothing to draw: the record holds no data for this figure.</p></section>'
    drawing = figure.plot(info, style).to_html(
        full_html=False,
        include_plotlyjs=False,
        include_mathjax=False,
        div_id=f"figure-{key}",
        config=PLOTLY,
    )
    takeaway = text(figure.takeaway(info, style))
    caption = f'<p class="caption">{text(figure.caption)}</p>'
    return f'{heading}<p class="takeaway">{takeaway}</p><div class="figure">{drawing}</div>{caption}</section>'


ARM_HEADINGS = (
    ("Arm", "the value of the factor"),
    ("Accuracy % [95% CI]", "test accuracy, mean over seeds"),
    ("SD", "standard deviation over seeds, points"),
    ("Δ points [95% CI]", "mean paired difference to the baseline"),
    ("Holm p", "sign-flip test, corrected for the family of arms"),
    ("P(better)", "share of seeds on which the arm beats the baseline"),
    ("Within δ", "whether two one-sided tests show a difference smaller than δ"),
    ("F1", "macro F1 on the test split"),
    ("NLL", "negative log-likelihood on the test split, nats"),
    ("ECE", "expected calibration error, 15 bins"),
    ("s/epoch", "median seconds per epoch, without the first"),
    ("Seeds", "confirm runs with a score; a diverged one counts with chance accuracy"),
)


def _table_section(findings: Findings) -> str:
    comparisons = {str(row["arm"]): row for _, row in findings.comparisons.iterrows()}
    colours = build_style(findings).colours
    rows = []
    for _, row in findings.table.iterrows():
        arm = str(row["arm"])
        rows.append(_arm_cells(row, comparisons.get(arm), colours[arm]))
    note = (
        "Mean over the confirm seeds, scored once on the test split. Click a heading to sort. Holm p counts every arm "
        "compared; P(better) counts ties half."
    )
    return (
        '<section id="section-arms"><h2>Arms</h2>'
        + render_table("arms", ARM_HEADINGS, rows)
        + f'<p class="caption">{text(note)}</p></section>'
    )


def _arm_cells(row: pd.Series, comparison: pd.Series | None, colour: str) -> list[Cell]:
    arm = str(row["arm"])
    tag = ' <span class="tag">baseline</span>' if row["baseline"] else ""
    cells: list[Cell] = [(f'<span class="swatch" style="background:{colour}"></span>{text(arm)}{tag}', arm.lower())]
    accuracy = row["accuracy"] * POINTS
    interval = f"[{row['accuracy_low'] * POINTS:.2f}, {row['accuracy_high'] * POINTS:.2f}]"
    known = f'{accuracy:.2f} <span class="interval">{interval if np.isfinite(row["accuracy_low"]) else ""}</span>'
    cells.append((known if np.isfinite(accuracy) else MISSING, accuracy))
    cells.append(number(row["accuracy_sd"] * POINTS, ".2f"))
    if comparison is None:
        # The baseline is compared with itself: zero for the order of the rows.
        cells += [(MISSING, 0.0 if row["baseline"] else math.nan), *[(MISSING, math.nan)] * 3]
    else:
        mean, _, interval = difference(comparison).partition(" ")
        cells.append((f'{mean} <span class="interval">{interval}</span>', comparison["difference_points"]))
        shown, value = number(comparison["p_holm"], ".2g")
        cells.append((f"<b>{shown}</b>" if comparison["p_holm"] < ALPHA else shown, value))
        cells.append(number(comparison["probability_better"], ".2f"))
        cells.append(("yes" if comparison["equivalent"] else "no", comparison["equivalence_p"]))
    cells += [number(row["f1_macro"], ".3f"), number(row["nll"], ".3f"), number(row["ece"], ".3f")]
    cells.append(number(row["epoch_seconds"], ".3g"))
    flag = f' <b class="warn">({row["num_diverged"]} diverged)</b>' if row["num_diverged"] else ""
    return [*cells, (f"{row['num_seeds']}{flag}", float(row["num_seeds"]))]


#: Ends of a trial that earn a column only where there are any.
RARE = ("failed", "interrupted", "running")


def _search_table(audit: pd.DataFrame) -> str:
    reasons = [reason for reason in STOP_REASONS if reason not in RARE or audit[reason].any()]
    headings = (
        ("Arm", "the value of the factor"),
        ("Trials", "search trials on record"),
        *((reason.capitalize(), f"search trials that ended so: {reason}") for reason in reasons),
        ("Epochs", "epochs spent in the search"),
        ("Stopped early", "how many trials were pruned after which epoch"),
        ("Winner", "number of the winning trial"),
        ("Learning rate", "of the winner"),
        ("Range", "searched for the winner's optimizer"),
        ("Edge", "whether the winner lies in the outer tenth of the range"),
    )
    return render_table("search", headings, [_search_cells(row, reasons) for _, row in audit.iterrows()])


def _search_cells(row: pd.Series, reasons: Sequence[str]) -> list[Cell]:
    bounds = f"{row['low']:.2g} to {row['high']:.2g}" if np.isfinite(row["low"]) else MISSING
    known = not pd.isna(row["winner"])
    return [
        (text(row["arm"]), str(row["arm"]).lower()),
        (str(row["trials"]), float(row["trials"])),
        *((str(row[reason]), float(row[reason])) for reason in reasons),
        (str(row["epochs"]), float(row["epochs"])),
        (text(row["stopped"] or MISSING), str(row["stopped"])),
        (str(row["winner"]) if known else MISSING, float(row["winner"]) if known else math.nan),
        number(row["learning_rate"], ".3g"),
        (bounds, row["low"]),
        (f'<b class="warn">{text(row["edge"])}</b>' if row["edge"] else MISSING, str(row["edge"])),
    ]


def _audit_section(findings: Findings) -> str:
    remarks = "".join(f"<li>{text(remark)}</li>" for remark in audit_remarks(findings))
    protocol = findings.record.protocol
    command = protocol.get("command") or findings.record.tags.get("command")
    shown = f"<h3>Command</h3><pre><code>{text(command)}</code></pre>" if command else ""
    facts = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in protocol_facts(findings).items())
    return (
        '<section id="section-audit"><h2>Audit</h2>'
        f"<ul>{remarks}</ul>" + _search_table(findings.audit) + f"<h3>Protocol</h3><dl>{facts}</dl>{shown}</section>"
    )
