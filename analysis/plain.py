"""Words from anywhere as a terminal may show them: no name on record moves a cursor or changes a colour."""

from __future__ import annotations

import textwrap
import unicodedata
from typing import TextIO

#: Control characters, what turns the direction of writing or is not seen, halves of characters, separators of lines.
UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
#: What the project's own sentences use beyond ASCII.
ASCII = {
    "δ": "delta",
    "Δ": "diff",
    "σ": "sigma",
    "α": "alpha",
    "γ": "gamma",
    "±": "+/-",
    "×": "x",
    "−": "-",
    "–": "-",
    "—": "-",
    "…": "...",
    "·": "|",
    "≤": "<=",
    "≥": ">=",
    "→": "->",
    "’": "'",
}
ELLIPSIS = ".."


def plain(words: object) -> str:
    r"""Anything as one line of visible text: what would act on a terminal is written as its code, ``\x1b``."""
    return "".join(_seen(character) for character in str(words))


def _seen(character: str) -> str:
    if unicodedata.category(character) not in UNSEEN:
        return character
    return character.encode("unicode_escape").decode("ascii")


def to_ascii(words: str) -> str:
    """Words for a terminal that shows ASCII only; what has no spelling of its own becomes a question mark."""
    for character, spelled in ASCII.items():
        words = words.replace(character, spelled)
    return words.encode("ascii", "replace").decode("ascii")


def needs_ascii(stream: TextIO) -> bool:
    """Whether a stream cannot be trusted with more than ASCII, by its declared encoding."""
    try:
        "".join(ASCII).encode(stream.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return True
    return False


def width(words: str) -> int:
    """Columns on a terminal: some characters take two, some none."""
    from rich.cells import cell_len  # noqa: PLC0415 - what refuses a flag needs no table

    return cell_len(words)


def fit(words: str, columns: int) -> str:
    """Words in exactly so many columns: padded, or cut with two dots at the end."""
    from rich.cells import set_cell_size  # noqa: PLC0415 - likewise

    if width(words) <= columns:
        return words + " " * (columns - width(words))
    return set_cell_size(words, max(columns - len(ELLIPSIS), 0)) + ELLIPSIS[:columns]


def wrap(words: str, columns: int, *, indent: str = "") -> list[str]:
    """One text as lines of at most so many columns; from the second line on indented."""
    lines = textwrap.wrap(words, columns, subsequent_indent=indent, break_on_hyphens=False)
    if all(width(line) <= columns for line in lines):
        return lines
    # Wide characters: half as many a line always fit.
    return textwrap.wrap(words, columns // 2, subsequent_indent=indent, break_on_hyphens=False)
