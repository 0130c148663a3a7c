import io
import json
import re
import runpy
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest

from analysis.findings import find
from analysis.load import StudyRecord
from analysis.plain import fit, needs_ascii, plain, to_ascii, width, wrap
from analysis.report import main
from analysis.reported import ReportedPart
from analysis.terminal import as_json, as_markdown, as_text, build_sections, format_table, to_records

STUDIES = ("truth", "searching", "hostile", "one-seed", "bare", "alone", "joint", "drifting")
REPORTED = runpy.run_path(str(Path(__file__).with_name("synthetic_reported.py")))
DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = json.loads((DOCS / "report.schema.json").read_text(encoding="utf-8"))
ESCAPES = "\x1b[2J\x1b]0;owned\x07\r\nnext\u202eevil\u200b|*`<b>"


@pytest.fixture(scope="module")
def nothing():
    """A study that was interrupted before its first trial."""
    trials = pd.DataFrame(columns=["run_id", "arm", "phase", "regime", "seed", "number", "stop_reason", "epochs_done"])
    trials = trials.assign(start=pd.NaT, end=pd.NaT, trial_id="", node="", status="")
    epochs = pd.DataFrame(columns=["run_id", "arm", "phase", "seed", "trial_id", "epoch", "logged_at"])
    return find(
        StudyRecord("nothing", "run", "1", "sqlite:///x", {"state": "interrupted"}, {}, trials, epochs, finals={})
    )


@pytest.fixture(scope="module")
def escaping(findings_of):
    """A study whose name, arms, question and command act on a terminal."""
    findings = findings_of("truth")
    record = findings.record
    rename = lambda frame: frame.assign(arm=frame["arm"].replace("focal", f"focal{ESCAPES}"))  # noqa: E731
    protocol = {**record.protocol, "question": f"Q{ESCAPES}", "command": f"run{ESCAPES}", "notes": [f"note{ESCAPES}"]}
    return replace(
        findings,
        record=replace(record, name=f"name{ESCAPES}", protocol=protocol),
        table=rename(findings.table),
        comparisons=rename(findings.comparisons),
        audit=rename(findings.audit),
        verdict=f"verdict{ESCAPES}",
    )


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("ascii_only", [False, True])
def test_text_fits_120_columns_and_shows_no_nan(findings_of, study, ascii_only):
    text = as_text(findings_of(study), ascii_only=ascii_only)
    assert max(map(width, text.splitlines())) <= 120
    assert not {"nan", "inf", "None", "<NA>"} & set(re.split(r"[\s\[\],:]+", text))
    assert text.isascii() >= ascii_only


def test_text_says_what_the_page_says(findings_of):
    findings = findings_of("truth")
    text = " ".join(as_text(findings).split())
    assert " ".join(findings.verdict.split()) in text
    for section in build_sections(findings):
        for remark in section.remarks:
            assert " ".join(remark.split()) in text
    focal = findings.comparisons.set_index("arm").loc["focal"]
    row = f"focal {focal['difference_points']:+.2f} [{focal['low_points']:+.2f}, {focal['high_points']:+.2f}]"
    assert row in text
    accuracy = findings.table.set_index("arm").loc["hinge", "accuracy"]
    assert f"hinge {accuracy * 100:.2f} [" in text
    titles = [section.title for section in build_sections(findings)]
    assert titles == ["Arms", "Comparisons", "Audit", "Search", "Errors", "Protocol"]


@pytest.mark.parametrize("study", STUDIES)
def test_every_markdown_row_has_the_cells_of_its_heading(findings_of, study):
    lines = as_markdown(findings_of(study)).splitlines()
    rules = [place for place, line in enumerate(lines) if re.fullmatch(r"\|---(\|---:)*\|", line)]
    for rule in rules:
        cells = lines[rule].count("|")
        for line in (lines[rule - 1], *lines[rule + 1 :]):
            if not line.startswith("|"):
                break
            assert len(re.findall(r"(?<!\\)\|", line)) == cells
    assert len(rules) >= (0 if study == "searching" else 2)


def test_no_name_acts_on_a_terminal_or_becomes_markup(escaping):
    for content in (as_text(escaping), as_markdown(escaping), as_json(escaping), format_table(escaping)):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202e]", content)
        assert "\\x1b" in content.replace("\\\\x1b", "\\x1b") or "\\u001b" in content
    assert "next" not in [line[:4] for line in as_text(escaping).splitlines()]
    assert not re.search(r"(?<!\\)<b>", as_markdown(escaping))
    assert json.loads(as_json(escaping))["study"] == f"name{ESCAPES}"
    assert max(map(width, as_text(escaping).splitlines())) <= 120


@pytest.mark.parametrize("study", STUDIES)
def test_the_json_keeps_to_its_schema_and_the_findings(findings_of, study):
    findings = findings_of(study)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    content = json.loads(as_json(findings), parse_constant=refuse)
    jsonschema.validate(content, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert [row["arm"] for row in content["arms"]] == findings.table["arm"].tolist()
    held = pd.DataFrame(content["comparisons"], columns=findings.comparisons.columns)
    expected = findings.comparisons["difference_points"].astype(float)
    np.testing.assert_array_equal(held["difference_points"].astype(float), expected)
    assert content["claims"] is None


def test_the_schema_refuses_what_is_not_a_report(findings_of):
    content = json.loads(as_json(findings_of("truth")))
    broken = [
        content | {"schema": 2},
        content | {"surprise": 1},
        content | {"arms": [content["arms"][0] | {"accuracy": "high"}]},
        {key: value for key, value in content.items() if key != "verdict"},
    ]
    for wrong in broken:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, SCHEMA)


def test_every_key_of_the_json_is_described(findings_of):
    described = (DOCS / "report.md").read_text(encoding="utf-8")
    for key in json.loads(as_json(findings_of("truth"))):
        assert f"`{key}`" in described
        assert key in SCHEMA["properties"]


def test_a_study_without_trials_still_has_every_view(nothing):
    for content in (as_text(nothing), as_markdown(nothing)):
        assert "No verdict yet" in content
        assert "The study is interrupted" in content
    content = json.loads(as_json(nothing))
    jsonschema.validate(content, SCHEMA)
    assert content["arms"] == []
    assert content["baseline"] is None


def test_what_is_not_a_finite_number_is_null():
    frame = pd.DataFrame(
        {"a": [np.nan, np.inf, 1.5], "b": pd.array([1, None, 3], dtype="Int64"), "c": [True, False, True]}
    )
    frame = frame.assign(d=pd.to_datetime(["2020-01-01", None, None]))
    assert to_records(frame) == [
        {"a": None, "b": 1, "c": True, "d": "2020-01-01 00:00:00"},
        {"a": None, "b": None, "c": False, "d": None},
        {"a": 1.5, "b": 3, "c": True, "d": None},
    ]


def test_the_table_of_a_launch_fits_a_terminal_and_is_ascii(findings_of):
    for study in STUDIES:
        text = format_table(findings_of(study))
        assert max(map(len, text.splitlines())) <= 120
        assert text.isascii()
    lines = format_table(findings_of("truth")).splitlines()
    assert lines[0].split() == ["arm", *"accuracy % 95% CI diff 95% CI Holm p NLL s/epoch n".split()]  # noqa: SIM905
    assert [line.split()[0] for line in lines[2:6]] == ["focal", "hinge", "cross_entropy", "l1"]
    assert "* a seed diverged" in lines[-1]


def test_a_long_name_is_cut_to_fit(findings_of):
    findings = findings_of("truth")
    for name in ("-with-a-name-that-no-terminal-was-made-for-é", "損失関数" * 30, "🏔" * 200):
        long = findings.table.assign(arm=findings.table["arm"] + name)
        text = format_table(replace(findings, table=long))
        assert max(map(len, text.splitlines())) <= 120
        whole = as_text(replace(findings, table=long, record=replace(findings.record, name=name * 4)))
        assert max(map(width, whole.splitlines())) <= 120


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("plain δ ±1", "plain δ ±1"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\u202e\u2028\x9b", "\\u202e\\u2028\\x9b"),
        ("\ud800", "\\ud800"),
        (None, "None"),
    ],
)
def test_what_would_act_on_a_terminal_is_shown_as_its_code(words, shown):
    assert plain(words) == shown


def test_ascii_spells_what_the_project_writes_and_marks_the_rest():
    assert to_ascii("δ ≤ ±0.5 × Δ − … é") == "delta <= +/-0.5 x diff - ... ?"


@pytest.mark.parametrize(
    ("encoding", "needs"), [("utf-8", False), ("ascii", True), ("latin-1", True), ("nonsense", True), (None, True)]
)
def test_a_stream_is_trusted_by_its_encoding(encoding, needs):
    stream = io.StringIO()
    stream_like = (
        type("Stream", (), {"encoding": encoding})()
        if encoding != "utf-8"
        else io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    )
    assert needs_ascii(stream_like) is needs
    assert needs_ascii(stream) is True  # no encoding at all


def test_fitting_and_wrapping_count_columns_and_not_characters():
    assert width(fit("損失", 10)) == width(fit("損失関数関数", 10)) == 10
    assert fit("abcdef", 4) == "ab.."
    assert all(width(line) <= 20 for line in wrap("損失関数" * 20, 20))
    assert wrap("one two three", 9, indent="  ") == ["one two", "  three"]


@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_a_view_is_printed_and_nothing_is_written(store, tmp_path, monkeypatch, capsys, form):
    monkeypatch.chdir(tmp_path)
    assert main(["--study", "truth", "--tracking-uri", store, "--format", form]) == 0
    assert "focal beats cross" in capsys.readouterr().out.replace("\\", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("form", "name"), [("text", "report.txt"), ("markdown", "report.md"), ("json", "report.json")])
def test_a_view_is_written_where_output_says(store, tmp_path, capsys, form, name):
    folder = tmp_path / "out"
    assert main(["--study", "truth", "--tracking-uri", store, "--format", form, "--output", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder / name}\n"
    assert [path.name for path in folder.iterdir()] == [name]
    assert "focal beats" in (folder / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reported():
    """The findings of a reported study and what it has beside."""
    truth = REPORTED["ReportedTruth"](effects={"cross_entropy": 0.0, "focal": -5.0})
    record = REPORTED["build_record"](truth)
    return find(record), ReportedPart.of(record)


def test_a_reported_study_shows_every_claim_in_every_view(reported):
    findings, part = reported
    names = [claim.id for claim in part.claims]
    assert names
    for ascii_only in (False, True):
        text = as_text(findings, part, ascii_only=ascii_only)
        assert max(map(width, text.splitlines())) <= 120
        starts = [line.split()[0] for line in text.splitlines() if line.strip()]
        assert [name for name in names if name not in starts] == []
        markdown = as_markdown(findings, part, ascii_only=ascii_only)
        assert all(f"| {name} |" in markdown for name in names)
        assert (text.isascii() and markdown.isascii()) >= ascii_only
    content = json.loads(as_json(findings, part))
    jsonschema.validate(content, SCHEMA)
    held = {claim["id"]: claim["regimes"]["stated"]["verdict"] for claim in content["claims"]}
    assert held == {claim.id: claim.regimes["stated"].verdict for claim in part.claims}


def test_a_reported_study_of_the_users_own_has_no_claims_and_no_empty_table_of_them(reported):
    findings, part = reported
    own = replace(part, claims=[])
    assert part.text != own.text == ""
    assert as_text(findings, own) == as_text(findings)
    assert as_markdown(findings, own) == as_markdown(findings)
    content = json.loads(as_json(findings, own))
    jsonschema.validate(content, SCHEMA)
    assert content["claims"] == []
