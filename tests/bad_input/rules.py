"""What a rule of the table is, and the strategies that several of them share."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.bad_input.workplace import Case

TUNED = ("--space=smoke",)
REPORTED = ("--space=loss_by_depth",)


@dataclass(frozen=True)
class Rule:
    """A rule, and inputs that break this one and no other before it.

    Args:
        says: What its message says, as ``sites.site_of`` finds it.
        cases: The inputs.
        also: What the line on the error stream has to contain beside.
    """

    says: str
    cases: SearchStrategy[Case]
    also: str = ""


#: What can be typed: no zero byte, and halves of characters only where they stand for a byte that is not UTF-8.
characters = st.characters(exclude_characters="\0", exclude_categories=("Cs",))
texts = st.text(characters, max_size=30)
words = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12)
NASTY = (
    "<script>alert(1)</script>",
    "../up",
    "a\nb",
    "a\tb",
    "\x1b[2J",
    "größe",
    "数据",
    "\u202eabc",
    "' or 1=1 --",
    "%s{0}",
    "~",
    "$(id)",
)
nasty = st.sampled_from(NASTY)
anything = texts | nasty

_NOISE: dict[str, SearchStrategy[str]] = {
    "--seed": st.integers(0, 2**31 - 1).map(str),
    "--delta": st.floats(0.01, 5).map(str),
    "--max-concurrent": st.integers(1, 64).map(str),
    "--experiment-name": words,
    "--storage-path": words.map(lambda word: f"stores/{word}"),
    "--precision": st.sampled_from(("fp32", "bf16")),
}


@st.composite
def among_good_flags(
    draw: Callable, bad: SearchStrategy[Sequence[str]], *, first: Sequence[str] = TUNED, without: Sequence[str] = ()
) -> tuple[str, ...]:
    """A bad flag among others that are good."""
    names = draw(st.lists(st.sampled_from(sorted(set(_NOISE) - set(without))), unique=True, max_size=3))
    good = [f"{name}={draw(_NOISE[name])}" for name in names]
    if draw(st.booleans()):
        good.append("--quiet")
    wrong = list(draw(bad))
    place = draw(st.integers(0, len(good)))
    return (*first, *good[:place], *wrong, *good[place:])


def typed(bad: SearchStrategy[Sequence[str]], *, files: dict | None = None, **options: object) -> SearchStrategy[Case]:
    """The command line with these bad flags."""
    return among_good_flags(bad, **options).map(lambda arguments: Case(arguments, files or {}))


def flag(name: str, values: SearchStrategy[object], **options: object) -> SearchStrategy[Case]:
    """The command line with a bad value of one flag."""
    return typed(values.map(lambda value: (f"{name}={value}",)), without=(name,), **options)


def one_of_flags(names: Sequence[str], values: SearchStrategy[object], **options: object) -> SearchStrategy[Case]:
    """The command line with a bad value of one of some flags."""
    bad = st.builds(lambda name, value: (f"{name}={value}",), st.sampled_from(names), values)
    return typed(bad, without=names, **options)


def is_parsed(kind: Callable[[str], object], text: str) -> bool:
    """Whether Python takes a text for such a number."""
    try:
        kind(text)
    except ValueError:
        return False
    return True


def database(tables: Sequence[str], version: int) -> bytes:
    """A SQLite database with these tables and nothing in them."""
    with closing(sqlite3.connect(":memory:")) as made:
        for name in tables:
            made.execute(f"CREATE TABLE {name} (id INTEGER)")
        made.execute(f"PRAGMA user_version = {version % 2**31}")
        return made.serialize()
