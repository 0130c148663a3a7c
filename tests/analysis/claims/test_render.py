import json
import re
from html.parser import HTMLParser

import pytest

from analysis.claims.evaluate import ClaimResult, Outcome
from analysis.claims.model import VERDICTS
from analysis.claims.render import as_json, as_markdown, as_sentence, as_text, claims_section

HOSTILE = "<script>alert(1)</script> a|b & \\ `c` *d* [e](f)\nnew line"


def outcome(verdict="holds", **changes):
    numbers = {"effect": 1.234, "ci_low": 0.567, "ci_high": 1.901, "n": 10, "unit": "points", "p": 0.002}
    told = {"reason": "because", "label": "a - b: accuracy", "studies": {"one": "MNIST, the report's epochs"}}
    return Outcome(**({"verdict": verdict} | numbers | told | changes))


def silent(verdict):
    return Outcome(verdict)


def result(id_="003-01", *, statement="Hinge is the best of them.", stated=None, fair=None, reported="", note=""):
    regimes = {
        "stated": stated or outcome(),
        "fair": fair or outcome("refuted", effect=-1.0, ci_low=-2.0, ci_high=-0.5),
    }
    return ClaimResult(id_, statement, reported, note, regimes)


@pytest.fixture
def results():
    """One claim for each pair of verdicts."""
    return [
        result(
            f"003-{number:02d}",
            statement=f"{stated} and {fair}: " + "a long sentence that a narrow column must break " * 3,
            stated=outcome(stated) if number % 2 else silent(stated),
            fair=outcome(fair, reason="another reason that is long " * 8),
            reported="97.28 / 96.47 / 96.39 / 90.96 % (hinge / KL / CE / focal)",
        )
        for number, (stated, fair) in enumerate([(a, b) for a in VERDICTS for b in VERDICTS], start=1)
    ]


def test_the_text_table_holds_every_claim_within_120_columns(results):
    text = as_text(results)
    assert max(map(len, text.splitlines())) <= 120
    assert text == "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
    for line in (entry.id for entry in results):
        assert text.count(f"\n{line}") >= 1
    assert "stated: 5 hold, 5 refuted, 5 inconclusive, 5 not testable, 5 not run" in text


def test_the_text_table_shows_verdict_effect_interval_unit_and_n():
    text = as_text([result(reported="97.4 %")])
    row = [line for line in text.splitlines() if line.startswith("003-01  ")]
    assert re.split(r"\s{2,}", row[0]) == ["003-01", "Hinge is the best of them.", "97.4 %", "holds", "refuted"]
    assert "1.23 [0.57, 1.90]           -1.00 [-2.00, -0.50]" in text
    assert text.count("points, n = 10") == 2
    assert text.startswith("one: MNIST, the report's epochs\n")
    assert "003-01: a - b: accuracy; because" in text  # once, as both regimes say it


def test_an_interval_and_the_longest_unit_stay_on_their_lines():
    numbers = {"effect": -0.0564, "ci_low": -0.0710, "ci_high": -0.0599, "unit": "rank correlation"}
    text = as_text([result(stated=outcome(**numbers), fair=outcome(**numbers))])
    assert text.count("-0.0564 [-0.0710, -0.0599]") == text.count("rank correlation, n = 10") == 2


def test_a_sentence_counts_the_verdicts_of_the_regimes_that_were_run(results):
    counts = "5 hold, 5 refuted, 5 inconclusive, 5 not testable, 5 not run"
    assert as_sentence(results, ["stated"]) == f"Report 003's 25 claims: as stated {counts}."
    both = as_sentence(results[:1], ["stated", "fair"])
    assert both == "Report 003's 1 claim: as stated 1 holds; with tuned rates 1 holds."
    assert as_sentence(results, []) == as_sentence([], ["stated"]) == ""


def test_different_reasons_are_told_by_regime():
    lines = as_text([result(stated=outcome(reason="this"), fair=outcome(reason="that"))]).splitlines()
    assert "003-01 stated: a - b: accuracy; this" in lines
    assert "003-01 fair: a - b: accuracy; that" in lines


def test_a_reason_that_many_claims_were_not_run_for_is_told_once():
    missing = outcome("not run", effect=None, ci_low=None, ci_high=None, reason="the fair regime was not run")
    another = outcome("not run", effect=None, ci_low=None, ci_high=None, reason="arm d was not run")
    fair = dict.fromkeys(("003-17", "003-18", "004-01", "004-02", "004-03"), missing)
    fair |= {"004-04": another, "004-05": missing, "004-06": outcome(), "004-07": outcome()}
    lines = as_text(
        [result(name, stated=outcome(reason=name), fair=found) for name, found in fair.items()]
    ).splitlines()
    told = [line.partition(" fair: ") for line in lines if " fair: " in line]
    assert [(ids, reason) for ids, _, reason in told] == [
        ("003-17, 003-18, 004-01 to 004-03, 004-05", "the fair regime was not run"),
        ("004-04", "arm d was not run"),
        ("004-06, 004-07", "a - b: accuracy; because"),
    ]


def test_claims_that_were_not_run_in_either_regime_are_told_once():
    nothing = Outcome("not run", reason="no study of report 003 is on record")
    lines = as_markdown([result(f"003-0{n}", stated=nothing, fair=nothing) for n in range(1, 5)]).splitlines()
    assert lines[-1] == "- 003-01 to 003-04: no study of report 003 is on record"


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ((0.0, 0.0, 0.0), "0.00 [0.00, 0.00]"),
        ((1e-14, -1e-14, 2e-14), "0.00 [0.00, 0.00]"),
        ((-1e-12, -0.1, 0.1), "0.000 [-0.100, 0.100]"),
        ((97.28, 96.5, 98.0), "97.28 [96.50, 98.00]"),
        ((0.0123, 0.01, 0.0146), "0.0123 [0.0100, 0.0146]"),
        ((533.7, 400.0, 600.0), "534 [400, 600]"),
        ((1.5, None, None), "1.50"),
    ],
)
def test_numbers_are_rounded_alike_within_a_cell(numbers, shown):
    effect, low, high = numbers
    text = as_markdown([result(stated=outcome(effect=effect, ci_low=low, ci_high=high))])
    assert f"holds<br>{shown.replace('[', chr(92) + '[').replace(']', chr(92) + ']')}<br>points, n = 10" in text


def test_an_outcome_without_numbers_is_its_verdict():
    text = as_markdown([result(stated=silent("not run"), fair=silent("not testable"))])
    assert text.splitlines()[-1] == "| 003-01 | Hinge is the best of them. | - | not run | not testable |"


def test_markdown_counts_the_verdicts_of_each_regime_on_top(results):
    lines = as_markdown(results[:6]).splitlines()
    assert lines[:4] == [
        "| regime | holds | refuted | inconclusive | not testable | not run |",
        "|---|---:|---:|---:|---:|---:|",
        "| stated | 5 | 1 | 0 | 0 | 0 |",
        "| fair | 2 | 1 | 1 | 1 | 1 |",
    ]
    table = [line for line in lines if line.startswith("| 003-")]
    assert len(table) == 6
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {6}
    assert "| id | statement | reported | stated | fair |" in lines


def test_markdown_takes_hostile_text_as_text():
    rows = [
        line for line in as_markdown([result(statement=HOSTILE, reported=HOSTILE)]).splitlines() if "003-01" in line
    ]
    table, note = rows
    assert len(re.findall(r"(?<!\\)\|", table)) == 6
    assert "\\<script\\>alert(1)\\</script\\> a\\|b & \\\\ \\`c\\` \\*d\\* \\[e\\](f) new line" in table
    assert note.startswith("- 003-01")


def test_json_is_a_list_of_claims_with_their_regimes(results):
    content = json.loads(as_json(results))
    assert [entry["id"] for entry in content] == [entry.id for entry in results]
    for entry in content:
        assert {"id", "statement", "regimes"} <= set(entry)
        assert list(entry["regimes"]) == ["stated", "fair"]
        for told in entry["regimes"].values():
            assert {"verdict", "effect", "ci_low", "ci_high", "n", "reason"} <= set(told)
            assert told["verdict"] in VERDICTS
            assert isinstance(told["n"], int)
            assert isinstance(told["reason"], str)
            assert all(told[key] is None or isinstance(told[key], float) for key in ("effect", "ci_low", "ci_high"))
    assert content[0]["regimes"]["stated"] == json.loads(json.dumps(vars(results[0].regimes["stated"]) | {"parts": []}))


class Page(HTMLParser):
    """Tags and text; raises where a tag is closed that is not open."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(content)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_section_of_the_page_is_whole_and_names_each_verdict_in_words(results):
    page = Page(claims_section(results))
    text = "".join(page.text)
    words = [attributes["class"] for tag, attributes in page.tags if tag == "b"]
    assert {word.removeprefix("claim ") for word in words} == {verdict.replace(" ", "-") for verdict in VERDICTS}
    for entry in results:
        assert entry.id in text
    assert all(verdict in text for verdict in VERDICTS)
    headings = [tag for tag, _ in page.tags if tag in {"th", "button"}]
    assert headings == ["th", "button"] * 5  # the page's script sorts a table by the buttons in its headings
    cells = [attributes for tag, attributes in page.tags if tag == "td"]
    assert len(cells) == 5 * len(results)
    assert all("data-value" in attributes for attributes in cells)
    assert ("summary", {}) in page.tags


def test_the_section_escapes_what_it_shows():
    entry = result(
        statement=HOSTILE,
        reported=HOSTILE,
        note=HOSTILE,
        stated=outcome(reason=HOSTILE, label=HOSTILE, studies={HOSTILE: ""}),
    )
    section = claims_section([entry])
    assert "<script" not in section
    assert 'data-value="&lt;script&gt;' in section
    assert "".join(Page(section).text).count("<script>alert(1)</script>") == 7  # with the list of studies


def test_without_claims_there_is_no_section_and_no_table():
    assert claims_section([]) == as_text([]) == as_markdown([]) == ""


def test_a_study_is_named_once_whatever_other_studies_an_outcome_rests_on():
    one, two = {"one": "MNIST, the report's epochs"}, {"two": "digits, the report's epochs"}
    results = [result("003-01", stated=outcome(studies=one | two), fair=outcome(studies=two | one)), result("003-02")]
    lines = [line for line in as_markdown(results).splitlines() if "the report's epochs" in line]
    assert lines == ["- one: MNIST, the report's epochs", "- two: digits, the report's epochs"]
