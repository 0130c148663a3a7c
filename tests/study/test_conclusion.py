"""The end of a study when something at the end goes wrong: what was trained stays."""

import shlex
import threading
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException

from search_spaces.loss_by_activation import STUDY as REPORTED
from search_spaces.smoke import STUDY
from study import conclusion
from study.confirm import MODELS
from study.ledger import COMPLETED, CONFIRM, FAILED, Ledger, Request, TrialRecord
from study.phases import Outcome, Store
from trainables.config import InputError


class Client:
    """Keeps what is put on the study's run."""

    def __init__(self):
        self.artifacts, self.files, self.metrics, self.tags = [], {}, {}, {}

    def get_run(self, _run_id):
        return SimpleNamespace(info=SimpleNamespace(start_time=1_000, end_time=61_000))

    def log_artifact(self, run_id, path):
        self.artifacts.append((run_id, path))

    def log_dict(self, _run_id, content, name):
        self.files[name] = content

    def log_batch(self, _run_id, metrics):
        self.metrics |= {metric.key: metric.value for metric in metrics}

    def set_tag(self, _run_id, key, value):
        self.tags[key] = value


@pytest.fixture
def options(tmp_path):
    folder = tmp_path / "runs" / "s"
    folder.mkdir(parents=True)
    return SimpleNamespace(
        name="s",
        folder=folder,
        shared=folder,
        bucket=None,
        tracking_uri="http://me:secret@host:1",
        resume_command="... --resume s",
    )


def an_outcome(stop_reason=COMPLETED, first_error=""):
    ledger = Ledger()
    request = Request("focal", CONFIRM, 1, {"epochs": 1})
    ledger.records[request.key] = TrialRecord(request, epoch=1, stop_reason=stop_reason)
    record = SimpleNamespace(parent_run_id="p", run_ids={})
    return Outcome(ledger, interrupted=False, first_error=first_error, record=record)


def conclude(options, outcome, client=None, *, study=STUDY, work=None):
    return conclusion.conclude(study, options, outcome, Store(client or Client(), "0"), work)


def work_that(result=None, error=None):
    work = Future()
    if error:
        work.set_exception(error)
    else:
        work.set_result(result)
    return work


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
    client = Client()
    assert conclude(options, an_outcome(FAILED, "RuntimeError: no gradient today"), client) == 1
    assert "the first error: RuntimeError: no gradient today" in capsys.readouterr().err
    assert (client.metrics["num_trials"], client.metrics["num_failed"]) == (1, 1)
    assert client.artifacts == []


def test_the_report_and_its_tables_are_attached_and_the_answer_printed(options, monkeypatch, capsys, tmp_path):
    report = SimpleNamespace(
        path=tmp_path / "report.html",
        tables=(tmp_path / "arms.csv",),
        text="arm",
        verdict="So.",
        findings=None,
        claims="",
    )
    monkeypatch.setattr(conclusion, "build_report", lambda *_args, **_kwargs: report)
    client = Client()
    assert conclude(options, an_outcome(), client) == 0
    assert client.artifacts == [("p", str(report.path)), ("p", str(report.tables[0]))]
    assert (client.metrics["num_trials"], client.metrics["wall_seconds"]) == (1, 60)
    out = capsys.readouterr().out.splitlines()
    page = "http://me:***@host:1/#/experiments/0/runs/p?workflowType=machine_learning"
    assert out == ["arm", "", "So.", "", f"Report: {report.path}", f"MLflow: {page}"]


def test_a_local_record_is_opened_by_a_command_and_its_page(options):
    options.tracking_uri = "sqlite:////data/of mine/mlflow.db"
    command, page = conclusion.where_to_look(options, "3", "abc")
    assert shlex.split(command) == ["MLflow:", "mlflow", "ui", "--backend-store-uri", options.tracking_uri]
    assert page.split()[-1] == "http://127.0.0.1:5000/#/experiments/3/runs/abc?workflowType=machine_learning"


def test_a_search_is_opened_in_optuna_dashboard_where_there_is_one_and_it_is_installed(options, monkeypatch):
    journal = options.folder / "optuna.journal"
    monkeypatch.setattr(conclusion, "find_spec", lambda _name: object())
    assert not any(line.startswith("Search") for line in conclusion.where_to_look(options, "3", "abc"))
    journal.touch()
    assert shlex.split(conclusion.where_to_look(options, "3", "abc")[-1]) == [
        "Search:",
        "optuna-dashboard",
        str(journal),
    ]
    monkeypatch.setattr(conclusion, "find_spec", lambda _name: None)
    assert not any(line.startswith("Search") for line in conclusion.where_to_look(options, "3", "abc"))


@pytest.fixture
def a_report(monkeypatch, tmp_path):
    report = SimpleNamespace(
        path=tmp_path / "report.html", tables=(), text="arm", verdict="So.", findings=None, claims="003-01 holds"
    )
    monkeypatch.setattr(conclusion, "build_report", lambda *_args, **_kwargs: report)


@pytest.mark.usefixtures("a_report")
def test_a_reported_study_that_was_interrupted_says_how_to_go_on(options, capsys):
    outcome = an_outcome()
    outcome.interrupted = True
    assert conclude(options, outcome, study=REPORTED) == 130
    assert capsys.readouterr().out.splitlines()[-1] == "Go on with: ... --resume s"


@pytest.mark.usefixtures("a_report")
def test_a_reported_study_puts_its_exact_tests_on_record_before_its_report(options, monkeypatch, capsys):
    client = Client()
    report = conclusion.build_report()
    seen = []
    monkeypatch.setattr(conclusion, "build_report", lambda *_, **__: seen.append(dict(client.files)) or report)
    files = {"identities.json": {"kl_is_cross_entropy": {}}, "diagnostics.json": {"seeds": [1]}}
    assert conclude(options, an_outcome(), client, study=REPORTED, work=work_that(files)) == 0
    assert seen == [files]
    said = capsys.readouterr()
    assert "003-01 holds" in said.out
    assert said.err == ""


@pytest.mark.usefixtures("a_report")
def test_measurements_that_are_waited_for_say_what_they_are(options, monkeypatch, capsys):
    monkeypatch.setattr(conclusion, "SILENT_SECONDS", 0.0)
    work = Future()
    threading.Timer(0.5, work.set_result, ({},)).start()
    assert conclude(options, an_outcome(), study=REPORTED, work=work) == 0
    assert capsys.readouterr().err == "Measuring gradient scale on 10 seeds; the report comes after.\n"


@pytest.mark.usefixtures("a_report")
@pytest.mark.parametrize("error", [OSError("no more processes"), BrokenProcessPool("no more processes")])
def test_measurements_that_fail_cost_one_line_and_not_the_report(options, capsys, error):
    assert conclude(options, an_outcome(), study=REPORTED, work=work_that(error=error)) == 0
    said = capsys.readouterr().err.splitlines()
    assert said == ["The exact tests are not on record (no more processes); `--resume s` tries again."]


@pytest.mark.usefixtures("a_report")
@pytest.mark.parametrize(
    ("work", "why"),
    [
        (work_that("no room in the registry"), "no room in the registry"),
        (work_that(error=OSError("no more processes")), "no more processes"),
        (work_that(error=BrokenProcessPool("gone")), "the process that logs them died"),
    ],
)
def test_models_that_cannot_be_logged_cost_one_line_and_leave_their_weights(options, capsys, work, why):
    weights = options.folder / MODELS / "focal-1.pt"
    weights.parent.mkdir()
    weights.touch()
    assert conclude(options, an_outcome(), work=work) == 0
    said = capsys.readouterr().err.splitlines()
    assert said == [f"The models are not in MLflow ({why}); their weights stay in {weights.parent}."]
    assert weights.exists()
    assert conclude(options, an_outcome(), work=work_that("")) == 0
    assert not weights.exists()
