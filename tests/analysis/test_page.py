import re
from html.parser import HTMLParser

import pytest
from mlflow import MlflowClient

from analysis.arm_section import arm_section
from analysis.audit_section import audit_section
from analysis.figures.table import FIGURES
from analysis.findings import find
from analysis.load import load_study
from analysis.page import build_page
from analysis.tables import render_table

STUDIES = ("truth", "searching", "hostile", "one-seed", "bare", "alone", "joint", "drifting")


class Page(HTMLParser):
    """The ids, links and visible text of a page, and its tables as rows of cells."""

    def __init__(self, content):
        super().__init__()
        self.ids, self.links, self.text, self.tables, self.skipped, self.inside = [], [], [], {}, False, False
        self.feed(content)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes["href"]] if tag == "a" else []
        self.skipped = tag in {"script", "style"}
        if tag == "table":
            self.rows = self.tables[attributes["id"]] = []
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.skipped = False
        self.inside = self.inside and tag not in {"td", "th"}

    def handle_data(self, data):
        if self.skipped:
            return
        self.text.append(data)
        if self.inside:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def pages(findings_of):
    return {study: build_page(findings_of(study)) for study in STUDIES}


@pytest.mark.parametrize("study", STUDIES)
def test_every_link_of_the_contents_leads_to_its_section(pages, study):
    page = Page(pages[study])
    assert len(page.ids) == len(set(page.ids))
    anchors = [link.removeprefix("#") for link in page.links]
    assert anchors == [name for name in page.ids if name.startswith("section-")]
    assert anchors[-1] == "section-audit"


def test_the_sections_stand_best_first(pages, findings_of):
    page = Page(pages["truth"])
    sections = [name.removeprefix("section-") for name in page.ids if name.startswith("section-")]
    figures = [key for key in FIGURES if key != "forest" and not FIGURES[key].info(findings_of("truth")).empty]
    assert sections[:2] == ["forest", "arms"]
    assert [name for name in sections if name in FIGURES] == ["forest", *figures]
    assert page.ids.index("verdict") < page.ids.index("section-forest")


def test_figures_without_data_are_named_in_one_line(pages, findings_of):
    text = "".join(Page(pages["searching"]).text)
    missing = [figure.title for figure in FIGURES.values() if figure.info(findings_of("searching")).empty]
    assert FIGURES["forest"].title in missing
    assert f"Nothing to draw, since the record holds no data: {', '.join(missing)}." in text
    assert text.count("Nothing to draw") == 1


@pytest.mark.parametrize("study", STUDIES)
def test_the_browser_may_fetch_nothing(pages, study):
    head = pages[study].partition("<script>")[0]
    assert "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:" in head
    assert not re.search(r"(src|href)=\"(?!#|data:)", pages[study].replace(head, "").partition("<body>")[2])


def arms_of(findings):
    """The table of arms as ``{arm: {heading: cell}}``."""
    headings, *rows = Page(arm_section(findings)).tables["arms"]
    return {row[0].removesuffix(" baseline"): dict(zip(headings, row, strict=True)) for row in rows}


def test_the_arm_table_holds_the_columns_of_the_design(findings_of):
    arms = arms_of(findings_of("truth"))
    assert list(arms) == ["focal", "hinge", "cross_entropy", "l1"]
    assert list(arms["focal"])[1:] == [
        "Accuracy %", "Δ points", "P(better)", "Holm p", "Within δ", "F1", "NLL", "ECE", "Epochs to target",
        "Failed %", "s/epoch", "Seeds",
    ]  # fmt: skip
    row = findings_of("truth").table.set_index("arm").loc["focal"]
    low, high = 100 * row["accuracy_low"], 100 * row["accuracy_high"]
    assert arms["focal"]["Accuracy %"] == f"{100 * row['accuracy']:.2f}[{low:.2f}, {high:.2f}]"
    assert arms["focal"]["P(better)"] == "1.00"
    assert arms["focal"]["Within δ"] == "no"
    assert arms["focal"]["Failed %"] == "0[0, 39]"
    assert arms["l1"]["Epochs to target"].startswith("> 8")
    assert arms["l1"]["Seeds"] == "101 diverged"
    assert arms["cross_entropy"]["Δ points"] == "–"


def test_a_column_that_is_empty_for_the_whole_study_is_left_out(findings_of):
    assert not {"Δ points", "Holm p", "P(better)", "Within δ"} & set(arms_of(findings_of("alone"))["cross_entropy"])
    searching = arms_of(findings_of("searching"))["focal"]
    assert list(searching) == ["Arm", "Failed %", "Seeds"]


def test_an_infinite_number_sorts_after_every_other():
    table = render_table("t", [("a", "a")], [[("&gt; 8", float("inf"))], [("8", 8.0)], [("-", float("nan"))]])
    values = re.findall(r'data-value="([^"]*)"', table)
    assert values[1:] == ["8.0", ""]
    assert float(values[0]) > 1e300
    assert "inf" not in values[0]


def test_the_audit_has_budgets_rungs_errors_command_and_machines(findings_of):
    content = audit_section(findings_of("truth"))
    page = Page(content)
    text = "".join(page.text)
    headings, *rows = page.tables["search"]
    assert headings[:5] == ["Arm", "Trials", "Completed", "Pruned", "Epochs"]
    assert rows[1][:2] == ["focal", "6"]
    assert "1 of 6 at rung 1, 1 of 5 at rung 2" in rows[1]
    assert "Rungs: 1 at epoch 2, 2 at epoch 6." in text
    errors = {row[0]: row[1:] for row in page.tables["errors"][1:]}
    table = findings_of("truth").table.set_index("arm")
    assert errors["focal"][0] == f"{100 * table.loc['focal', 'accuracy_sd'] / 10**0.5:.2f}"
    assert errors["cross_entropy"][2:] == ["–", "–", "–"]
    assert "<pre><code>python -m study.launch --space full --name truth</code></pre>" in content
    assert "host-a" in text


@pytest.fixture(scope="module")
def poor_pages(tmp_path_factory):
    """Pages of studies with hardly anything on record."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('poor') / 'mlflow.db'}"
    client = MlflowClient(uri)
    client.create_run("0", tags={"study": "empty", "phase": "study"})
    for study, reason, status in (("failed", "failed", "FAILED"), ("interrupted", "interrupted", "KILLED")):
        tags = {"study": study, "phase": "study", "state": study}
        parent = client.create_run("0", tags=tags).info.run_id
        for number in range(3):
            tags = {"arm": "focal", "phase": "search", "trial_id": f"focal/search/{number}", "stop_reason": reason}
            run_id = client.create_run("0", tags=tags | {"mlflow.parentRunId": parent}).info.run_id
            if reason == "interrupted":
                client.log_metric(run_id, "val_accuracy", 0.5, step=1)
            client.set_terminated(run_id, status)
    findings = {study: find(load_study(study, tracking_uri=uri)) for study in ("empty", "failed", "interrupted")}
    return {study: build_page(found) for study, found in findings.items()}


@pytest.mark.parametrize("study", ["empty", "failed", "interrupted"])
def test_a_study_with_hardly_anything_on_record_has_a_page_that_says_so(poor_pages, study):
    page = Page(poor_pages[study])
    text = "".join(page.text)
    assert "No verdict yet" in text
    assert ("section-arms" in page.ids) == (study != "empty")
    if study != "empty":
        assert page.tables["search"][1][:2] == ["focal", "3"]
        assert f"The study is {study}" in text


def test_no_page_shows_a_number_that_is_none(pages, poor_pages):
    for content in (*pages.values(), *poor_pages.values()):
        words = re.findall(r"[a-z<>]+", "".join(Page(content).text).lower())
        assert not {"nan", "nat", "inf"} & set(words)


def test_a_hostile_name_is_text_in_every_section(pages):
    content = pages["hostile"]
    assert "<script>alert" not in content
    assert "<script>alert(1)</script>&quot;<b>" in Page(content).tables["arms"][1][0]
