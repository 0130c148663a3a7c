"""The committed tables of claims: every claim of a report once, counted right, and alike on the page of what held."""

import re
from collections import Counter
from pathlib import Path

import pytest

from analysis.claims.model import VERDICTS
from analysis.claims.table import CLAIMS_OF, SPACE_OF
from search_spaces.reported import REGIMES

DOCS = Path(__file__).resolve().parents[2] / "docs"
REPORTS = sorted(CLAIMS_OF)


def cells_of(path: Path) -> list[list[str]]:
    """The cells of every row of every table of a page."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def page_of(report: str) -> Path:
    (page,) = (DOCS / "results").glob(f"{SPACE_OF[report]}-*.md")
    return page


def verdicts_of(report: str) -> dict[str, list[str]]:
    """Each regime's verdicts in the table of claims, in its order."""
    rows = [row for row in cells_of(page_of(report)) if re.fullmatch(rf"{report}-\d\d", row[0])]
    assert [row[0] for row in rows] == [claim.id for claim in CLAIMS_OF[report]]
    assert [row[1] for row in rows] == [claim.statement.replace("[", r"\[") for claim in CLAIMS_OF[report]]
    return {regime: [row[3 + place].partition("<br>")[0] for row in rows] for place, regime in enumerate(REGIMES)}


def counts_of(verdicts: list[str]) -> list[str]:
    count = Counter(verdicts)
    assert set(count) <= set(VERDICTS)
    return [str(count[verdict]) for verdict in VERDICTS]


@pytest.mark.parametrize("report", REPORTS)
def test_a_page_counts_the_verdicts_of_its_table(report):
    verdicts = verdicts_of(report)
    counted = {row[0]: row[1:] for row in cells_of(page_of(report)) if row[0] in REGIMES}
    assert counted == {regime: counts_of(verdicts[regime]) for regime in REGIMES}


@pytest.mark.parametrize("report", REPORTS)
def test_what_held_counts_them_alike(report):
    verdicts = verdicts_of(report)
    rows = [row[1:] for row in cells_of(DOCS / "what-held.md") if row[0].startswith(report)]
    assert rows == [[regime, *counts_of(verdicts[regime])] for regime in REGIMES]
