"""A part of the report as plain strings, for a terminal or Markdown, and how its numbers are spelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

MISSING = "-"


@dataclass(frozen=True)
class Section:
    """A part of the report, of plain strings as they are on record.

    Args:
        title: Its heading.
        headings: Of the table's columns.
        rows: The table; the first column is a name, the others are short.
        remarks: Sentences below the table.
    """

    title: str
    headings: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    remarks: Sequence[str] = field(default=())


def cell(value: float, form: str = ".2f") -> str:
    """A number, or a dash where there is none."""
    return format(value, form) if np.isfinite(value) else MISSING


def interval(low: float, high: float, form: str = ".2f") -> str:
    """``[-0.31, 1.20]``, or a dash where there is none."""
    return f"[{low:{form}}, {high:{form}}]" if np.isfinite(low) else MISSING
