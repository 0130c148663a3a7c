"""Text and tables of the report's page: what stands in HTML is escaped here."""

from __future__ import annotations

import html
import math
import sys
from collections.abc import Sequence

MISSING = "–"


def text(value: object) -> str:
    """Anything as HTML text."""
    return html.escape(str(value))


#: A cell is what is shown, as HTML, and what it is sorted by.
Cell = tuple[str, float | str]


def render_table(identifier: str, headings: Sequence[tuple[str, str]], rows: Sequence[Sequence[Cell]]) -> str:
    """A table that sorts by a click on a heading.

    Args:
        identifier: The element's id.
        headings: For each column its name and what it means.
        rows: The cells.
    """
    head = "".join(
        f'<th scope="col" aria-sort="none"><button type="button" title="{text(meaning)}">{text(name)}</button></th>'
        for name, meaning in headings
    )
    body = "".join(
        "<tr>" + "".join(f'<td data-value="{text(_sortable(value))}">{shown}</td>' for shown, value in row) + "</tr>\n"
        for row in rows
    )
    scroll = f'<div class="scroll" tabindex="0" role="region" aria-label="{text(identifier)}">'
    return f'{scroll}<table id="{text(identifier)}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _sortable(value: float | str) -> str:
    if isinstance(value, str):
        return value
    # An infinite value sorts last; JavaScript spells infinity otherwise and cannot subtract it.
    largest = sys.float_info.max
    return "" if math.isnan(value) else repr(min(max(float(value), -largest), largest))


def number(value: float, form: str) -> Cell:
    """A number's cell; a dash where there is none."""
    return (format(value, form) if math.isfinite(value) else MISSING, value if math.isfinite(value) else math.nan)
