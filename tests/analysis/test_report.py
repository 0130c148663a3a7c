import io
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from analysis import report as report_module
from analysis.remarks import audit_remarks, protocol_facts
from analysis.report import build_report, folder_name, main, write_file
from trainables.config import InputError

ROOT = Path(__file__).parents[2]
STUDIES = ("truth", "searching", "hostile", "one-seed", "bare", "alone", "joint", "drifting")


class Page(HTMLParser):
    """The tags, text and addresses of a page; raises where a tag is closed that is not open."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.addresses, self.text, self.open = [], [], [], []
        self.feed(content)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)
        self.addresses += [value for name, value in attributes if name in {"src", "href", "srcset", "action"}]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in {"script", "style"}:
            self.text.append(data)


@pytest.fixture(scope="module")
def pages(store, tmp_path_factory):
    """The report of every study on record."""
    folder = tmp_path_factory.mktemp("reports")
    return {study: build_report(study, tracking_uri=store, output=folder / study) for study in STUDIES}


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_has_a_whole_page_with_its_verdict(pages, study):
    report = pages[study]
    page = Page(report.path.read_text(encoding="utf-8"))
    assert report.verdict in "".join(page.text)
    assert page.tags.count("h2") >= 2
    assert "nan" not in "".join(page.text).lower().split()


@pytest.mark.parametrize("study", STUDIES)
def test_a_page_fetches_nothing(pages, study):
    content = pages[study].path.read_text(encoding="utf-8")
    elsewhere = [address for address in Page(content).addresses if not address.startswith("#")]
    assert elsewhere == ["data:,"]
    assert "@import" not in re.search(r"<style>.*?</style>", content, re.DOTALL)[0]
    assert "default-src 'none'" in content
    assert content.count('"showSendToCloud": false') == content.count("Plotly.newPlot(") - plotly_mentions()


def plotly_mentions():
    from plotly.offline import get_plotlyjs

    return get_plotlyjs().count("Plotly.newPlot(")


def test_the_page_is_under_15_megabytes(pages):
    assert pages["truth"].path.stat().st_size < 15_000_000


def test_names_with_markup_are_text(pages):
    report = pages["hostile"]
    content = report.path.read_text(encoding="utf-8")
    assert "<script>alert" not in content
    assert content.count("<script") == Page(content).tags.count("script") + plotly_scripts()
    assert "<script>alert(1)</script>&quot;<b>" in "".join(Page(content).text)
    assert pd.read_csv(report.tables[0])["arm"].tolist()[0] == "<script>alert(1)</script>&quot;<b>"


def plotly_scripts():
    from plotly.offline import get_plotlyjs

    return get_plotlyjs().count("<script")


def test_the_tables_on_disk_equal_the_findings(pages, findings_of):
    findings = findings_of("truth")
    *tables, epochs = pages["truth"].tables
    for path, frame in zip(tables, (findings.table, findings.comparisons), strict=True):
        pd.testing.assert_frame_equal(pd.read_csv(path), pd.read_csv(io.StringIO(frame.to_csv(index=False))))
    assert [path.name for path in tables] == ["arms.csv", "comparisons.csv"]
    held, record = pd.read_parquet(epochs), findings.record.epochs
    assert epochs.name == "epochs.parquet"
    assert held["val_accuracy"].tolist() == record["val_accuracy"].tolist()
    assert held["run_id"].tolist() == record["run_id"].tolist()


def test_the_audit_says_what_to_distrust(findings_of):
    remarks = " ".join(audit_remarks(findings_of("truth")))
    assert "hinge: the winner's learning rate 0.099 lies at the high end of [1e-05, 0.1]" in remarks
    assert "1 confirm seed diverged" in remarks
    assert "kl_div with the winner of cross_entropy gives exactly the same numbers on 10 seeds" in remarks
    assert "Smallest effect that the study finds four times in five" in remarks
    assert "another test split of 360 images would move one accuracy by about ±1." in remarks
    assert "The negative control fails" in " ".join(audit_remarks(findings_of("drifting")))
    searching = " ".join(audit_remarks(findings_of("searching")))
    assert "The study is running" in searching
    assert "No winner on record for focal" in searching
    assert "No negative control on record" in searching
    assert "study.json is not on record" in " ".join(audit_remarks(findings_of("bare")))


def test_the_page_holds_what_reproduces_the_study(findings_of, pages):
    facts = protocol_facts(findings_of("truth"))
    assert facts["Dataset"] == "digits, 1,437 train, 240 val, 360 test"
    assert facts["Dataset sha256"].startswith("c0ffee")
    assert facts["Confirm seeds"] == "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"
    assert facts["Commit"] == "0123456789abcdef"
    text = "".join(Page(pages["truth"].path.read_text(encoding="utf-8")).text)
    assert "python -m study.launch --space full --name truth" in text


def test_the_command_line_prints_verdict_and_path(store, tmp_path, capsys):
    assert main(["--study", "truth", "--tracking-uri", store, "--output", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("focal beats cross_entropy by")
    assert lines[-1] == str(tmp_path / "out" / "report.html")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["arms.csv", "comparisons.csv", "epochs.parquet", "report.html"]


def test_the_default_folder_is_below_the_working_directory(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert build_report("alone", tracking_uri=store).path == tmp_path / "reports" / "alone" / "report.html"
    assert folder_name("../../etc/x") == "_.._etc_x"
    assert folder_name("..") == "study"


def test_bad_input_is_one_line_and_code_two(store, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    for arguments in (
        ["--study", "nope", "--tracking-uri", store],
        ["--study", "truth", "--tracking-uri", f"sqlite:///{tmp_path}/none.db"],
        ["--study", "truth", "--tracking-uri", store, "--output", str(tmp_path / "file" / "below")],
    ):
        assert main(arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("error: ")
        assert captured.err.count("\n") == 1


def test_a_file_is_written_at_once_or_not_at_all(tmp_path, monkeypatch):
    path = write_file(tmp_path / "a.txt", "old")
    assert path.stat().st_mode & 0o777 == 0o644

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report_module.os, "fdopen", lambda descriptor, *_, **__: (os.close(descriptor), full()))
    with pytest.raises(InputError, match=r"Cannot write .*a\.txt.*No space left"):
        write_file(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_study_with_nothing_or_only_failures_still_has_a_page(tmp_path):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(uri)
    client.create_run("0", tags={"study": "empty", "phase": "study"})
    parent = client.create_run("0", tags={"study": "failed", "phase": "study"}).info.run_id
    for number in range(3):
        tags = {"arm": "focal", "phase": "search", "trial_id": f"focal/search/{number}", "stop_reason": "failed"}
        run_id = client.create_run("0", tags=tags | {"mlflow.parentRunId": parent}).info.run_id
        client.set_terminated(run_id, "FAILED")
    for study in ("empty", "failed"):
        report = build_report(study, tracking_uri=uri, output=tmp_path / study)
        assert report.verdict.startswith("No verdict yet")
        text = "".join(Page(report.path.read_text(encoding="utf-8")).text)
        assert "Nothing to draw" in text
    assert "No winner on record for focal" in text


HOSTILE = "evil\x1b[2J\nname\u202e<script>alert(1)</script>"


@pytest.fixture(scope="module")
def odd_store(tmp_path_factory):
    """Studies that ended early or badly, and one whose name acts on a terminal: the store's URI."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    folder = tmp_path_factory.mktemp("odd")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("odd", artifact_location=(folder / "artifacts").as_uri())
    plans = {
        "interrupted": [("search", "completed"), ("search", "interrupted"), ("confirm", "completed"), ("confirm", "")],
        "failed": [("search", "failed")] * 3,
        "empty": [],
        HOSTILE: [("search", "completed"), ("confirm", "completed")],
    }
    for study, plan in plans.items():
        tags = {"study": study, "phase": "study", "state": "interrupted"}
        parent = client.create_run(experiment, tags=tags).info.run_id
        for number, (phase, reason) in enumerate(plan):
            arm = f"{study}-{number % 2}"
            own = {"arm": arm, "phase": phase, "trial_id": f"{arm}/{phase}/{number}", "seed": "1"}
            own |= {"stop_reason": reason, "mlflow.parentRunId": parent}
            run_id = client.create_run(experiment, tags=own).info.run_id
            if reason != "failed":
                last = [Metric("test_accuracy", 0.8, 1, 1)] if reason == "completed" and phase == "confirm" else []
                client.log_batch(run_id, [Metric("val_accuracy", 0.5, 1, 1), *last])
            if reason:
                client.set_terminated(run_id, {"failed": "FAILED", "interrupted": "KILLED"}.get(reason, "FINISHED"))
    return uri


@pytest.mark.parametrize("study", ["interrupted", "failed", "empty", HOSTILE])
@pytest.mark.parametrize("form", ["html", "text", "markdown", "json"])
def test_a_study_that_ended_early_or_badly_has_every_view(odd_store, tmp_path, capsys, study, form):
    arguments = ["--study", study, "--tracking-uri", odd_store, "--format", form]
    assert main([*arguments, "--output", str(tmp_path)] if form == "html" else arguments) == 0
    shown = capsys.readouterr().out
    assert "No verdict yet" in shown or "No comparison" in shown
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown)
    if form == "html":
        content = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert "<script>alert" not in content
        assert len(pd.read_parquet(tmp_path / "epochs.parquet")) == {"interrupted": 4, HOSTILE: 2}.get(study, 0)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--study", "nope"], 2, r"error: Unknown study 'nope' in .*evil\\x1b\[2J\\nname\\u202e<script>"),
        (["--study", HOSTILE, "--output", "/dev/null/below"], 2, r"error: Cannot write '/dev/null/below/report\.html'"),
        (["--study", HOSTILE, "--format", "text"], 0, r"^evil\\x1b\[2J\\nname\\u202e<script>"),
    ],
)
def test_the_real_command_is_one_line_or_a_report_in_an_ascii_terminal(odd_store, tmp_path, arguments, code, says):
    done = subprocess.run(
        [sys.executable, "-m", "analysis.report", "--tracking-uri", odd_store, *arguments],
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    shown = (done.stderr if code else done.stdout).decode("ascii")
    assert done.returncode == code
    assert re.search(says, shown)
    if code:
        assert done.stdout == b""
        assert shown.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
