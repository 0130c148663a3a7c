"""One HTML file that needs nothing else: no server, no network, no font, no file beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files

import plotly.graph_objects as go
import plotly.offline

from analysis.tables import text

#: How a section begins: its address and its heading, which are HTML already.
HEADING = re.compile(r'<section id="(?P<id>[^"]*)"><h2>(?P<title>.*?)</h2>')
#: From version 7 on plotly shows a button that uploads the chart to its makers; a report stays where it is.
PLOTLY = {
    "responsive": True,
    "displaylogo": False,
    "showSendToCloud": False,
    "plotlyServerURL": "",
    "modeBarButtonsToRemove": ["select2d", "lasso2d"],
}
#: Nothing may be fetched from anywhere: the browser itself refuses it.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def document(title: str, header: str, sections: Sequence[str]) -> str:
    """A whole page.

    Args:
        title: Of the window; plain text.
        header: What stands first, as HTML.
        sections: The rest, as HTML; those with an ``id`` and an ``h2`` are listed below the header.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<link rel="icon" href="data:,">
<title>{text(title)}</title>
<style>{_asset("report.css")}</style>
<script>{plotly.offline.get_plotlyjs()}</script>
</head>
<body>
<main>
{header}
{_contents(sections)}
{chr(10).join(sections)}
</main>
<script>{_asset("report.js")}</script>
</body>
</html>
"""


def header(facts: Sequence[str], title: str, question: str, verdict: str) -> str:
    """The head of a page with its answer; all of it plain text, empty facts left out."""
    return f"""<header>
<p class="eyebrow">{text(" · ".join(fact for fact in facts if fact))}</p>
<h1>{text(title)}</h1>
<p class="question">{text(question)}</p>
</header>
<section class="verdict" aria-label="Verdict"><p id="verdict">{text(verdict)}</p></section>"""


def figure_section(key: str, title: str, takeaway: str, drawing: go.Figure, caption: str) -> str:
    """A figure with its heading, what it says and how to read it; the words are plain text."""
    shown = drawing.to_html(
        full_html=False, include_plotlyjs=False, include_mathjax=False, div_id=f"figure-{key}", config=PLOTLY
    )
    return (
        f'<section id="section-{key}"><h2>{text(title)}</h2><p class="takeaway">{text(takeaway)}</p>'
        f'<div class="figure">{shown}</div><p class="caption">{text(caption)}</p></section>'
    )


def _contents(sections: Sequence[str]) -> str:
    found = [match for section in sections if (match := HEADING.match(section))]
    links = "".join(f'<li><a href="#{match["id"]}">{match["title"]}</a></li>' for match in found)
    return f'<nav aria-label="Contents"><ol>{links}</ol></nav>'


def _asset(name: str) -> str:
    return (files("analysis") / name).read_text(encoding="utf-8")
