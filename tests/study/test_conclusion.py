"""The end of a study when something at the end goes wrong: what was trained stays."""

from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException

from search_spaces.loss_by_activation import STUDY as REPORTED
from search_spaces.smoke import STUDY
from study import conclusion
from study.ledger import COMPLETED, CONFIRM, FAILED, Ledger, Request, TrialRecord
from study.phases import Outcome, Store
from trainables.config import InputError


@pytest.fixture
def options(tmp_path):
    folder = tmp_path / "runs" / "s"
    folder.mkdir(parents=True)
    return SimpleNamespace(name="s", folder=folder, tracking_uri="http://me:secret@host:1")


def an_outcome(stop_reason=COMPLETED, first_error=""):
    ledger = Ledger()
    request = Request("focal", CONFIRM, 1, {"epochs": 1})
    ledger.records[request.key] = TrialRecord(request, epoch=1, stop_reason=stop_reason)
    record = SimpleNamespace(parent_run_id="p", run_ids={})
    return Outcome(ledger, interrupted=False, first_error=first_error, record=record)


def conclude(options, outcome, client=None):
    return conclusion.conclude(STUDY, options, None, outcome, Store(client, "0"))


@pytest.mark.parametrize("error", [InputError("no server at http://me:secret@host:1"), MlflowException("gone\naway")])
def test_a_report_that_cannot_be_built_keeps_the_study_and_says_how_to_build_it(options, monkeypatch, capsys, error):
    def refuse(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(conclusion, "build_report", refuse)
    assert conclude(options, an_outcome()) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "The trials are done, the report is not" in lines[0]
    assert "secret" not in lines[0]
    assert lines[1] == "Build it with: python -m analysis.report --study s"
    assert options.folder.is_dir()


def test_a_study_in_which_every_trial_failed_is_code_1_with_the_first_error(options, capsys):
    assert conclude(options, an_outcome(FAILED, "RuntimeError: no gradient today")) == 1
    assert "the first error: RuntimeError: no gradient today" in capsys.readouterr().err


def test_the_report_and_its_tables_are_attached_and_the_answer_printed(options, monkeypatch, capsys, tmp_path):
    attached = []
    report = SimpleNamespace(
        path=tmp_path / "report.html", tables=(tmp_path / "arms.csv",), text="arm", verdict="So.", claims=""
    )
    monkeypatch.setattr(conclusion, "build_report", lambda *_args, **_kwargs: report)
    client = SimpleNamespace(log_artifact=lambda run_id, path: attached.append((run_id, path)))
    assert conclude(options, an_outcome(), client) == 0
    assert attached == [("p", str(report.path)), ("p", str(report.tables[0]))]
    out = capsys.readouterr().out.splitlines()
    assert out == ["arm", "", "So.", "", f"Report: {report.path}", "MLflow: open http://me:***@host:1"]


@pytest.fixture
def a_report(monkeypatch, tmp_path):
    report = SimpleNamespace(path=tmp_path / "report.html", tables=(), text="arm", verdict="So.", claims="003-01 holds")
    monkeypatch.setattr(conclusion, "build_report", lambda *_args, **_kwargs: report)


@pytest.mark.usefixtures("a_report")
def test_a_reported_study_that_was_interrupted_says_how_to_go_on_and_measures_nothing_yet(options, monkeypatch, capsys):
    monkeypatch.setattr(conclusion, "log_measurements", lambda *_args: pytest.fail("measured"))
    outcome = an_outcome()
    outcome.interrupted = True
    client = SimpleNamespace(log_artifact=lambda *_args: None)
    assert conclusion.conclude(REPORTED, options, None, outcome, Store(client, "0")) == 130
    assert capsys.readouterr().out.splitlines()[-1] == "Go on with: python -m study.launch --resume s"


@pytest.mark.usefixtures("a_report")
def test_a_reported_study_puts_its_exact_tests_on_record_before_its_report(options, monkeypatch, capsys):
    measured = []
    monkeypatch.setattr(conclusion, "log_measurements", lambda study, *_args: measured.append(study.name))
    client = SimpleNamespace(log_artifact=lambda *_args: None)
    assert conclusion.conclude(REPORTED, options, None, an_outcome(), Store(client, "0")) == 0
    assert measured == ["loss_by_activation"]
    assert "003-01 holds" in capsys.readouterr().out


def test_measurements_that_fail_cost_one_line_and_not_the_report(options, monkeypatch, capsys):
    class Broken:
        def __init__(self, *_args, **_kwargs):
            raise OSError("no more processes")

    monkeypatch.setattr(conclusion, "ProcessPoolExecutor", Broken)
    options.seed = 0
    conclusion.log_measurements(REPORTED, options, None, an_outcome(), Store(None, "0"))
    said = capsys.readouterr().err.splitlines()
    assert said == ["The exact tests are not on record (no more processes); `--resume s` tries again."]
