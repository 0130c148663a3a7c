"""What a study's end does in a process apart: which work there is, and that a real process does it."""

from types import SimpleNamespace

import pytest

from search_spaces.loss_metrics import STUDY as REPORTED
from search_spaces.smoke import STUDY
from study.apart import begin, find_candidates, process_apart
from study.confirm import weights_path
from study.ledger import COMPLETED, CONFIRM, FAILED, Ledger, Request, TrialRecord
from study.phases import Outcome
from trainables.identities import IDENTITIES


class Executor:
    """Keeps what is to be done."""

    def __init__(self):
        self.submitted = []

    def submit(self, function, *arguments):
        self.submitted.append((function.__name__, arguments))
        return f"work {len(self.submitted)}"


@pytest.fixture
def options(tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    return SimpleNamespace(name="s", folder=folder, shared=folder, bucket=None, tracking_uri="sqlite://", seed=0)


def an_outcome(*stop_reasons, interrupted=False, undelivered=0):
    ledger = Ledger()
    for number, reason in enumerate(stop_reasons):
        request = Request("focal", CONFIRM, number, {"epochs": 1})
        ledger.records[request.key] = TrialRecord(request, epoch=1, stop_reason=reason, val_accuracy=0.5)
    record = SimpleNamespace(parent_run_id="p", run_ids={key: f"run of {key}" for key in ledger.records})
    return Outcome(ledger, interrupted=interrupted, first_error="", record=record, undelivered=undelivered)


def keep_weights(options, arm, number):
    weights = options.folder / weights_path(options.folder, arm, number)
    weights.parent.mkdir(exist_ok=True)
    weights.touch()


@pytest.mark.parametrize(
    "outcome",
    [an_outcome(FAILED, FAILED), an_outcome(COMPLETED, undelivered=3)],
    ids=["every trial failed", "a record that is not whole"],
)
@pytest.mark.parametrize("study", [STUDY, REPORTED])
def test_without_trials_on_record_there_is_nothing_to_do(options, study, outcome):
    keep_weights(options, "focal", 0)
    executor = Executor()
    assert begin(executor, study, options, None, outcome) is None
    assert executor.submitted == []


def test_a_tuned_study_logs_the_models_of_the_completed_trials_that_left_weights(options):
    executor = Executor()
    outcome = an_outcome(COMPLETED, FAILED, COMPLETED, interrupted=True)
    assert begin(executor, STUDY, options, None, outcome) is None
    for number in (0, 1):
        keep_weights(options, "focal", number)
    assert begin(executor, STUDY, options, "images", outcome) == "work 1"
    ((name, (_, dataset, candidates)),) = executor.submitted
    assert (name, dataset, [candidate.seed for candidate in candidates]) == ("_log_models", "images", [0])
    assert candidates[0].run_id == outcome.record.run_ids["focal/confirm/0"]


def test_a_bucket_that_does_not_answer_costs_the_models_of_weights_that_are_not_here(options, capsys):
    options.shared = options.bucket = "s3://no-such-bucket-anywhere"
    assert find_candidates(options, an_outcome(COMPLETED)) == []
    assert capsys.readouterr().err.startswith("Models cannot be fetched from s3://no-such-bucket-anywhere: ")


def test_a_reported_study_is_measured_unless_it_was_interrupted(options):
    executor = Executor()
    assert begin(executor, REPORTED, options, None, an_outcome(COMPLETED, interrupted=True)) is None
    assert begin(executor, REPORTED, options, None, an_outcome(COMPLETED)) == "work 1"
    ((name, (_, diagnostics, configs, _, seeds)),) = executor.submitted
    assert name == "_measure"
    assert diagnostics == {what: list(arms) for what, arms in REPORTED.diagnostics.items()}
    assert set(configs) == {arm.name for arm in REPORTED.arms}
    assert seeds == list(range(1, 1 + REPORTED.seeds))


def test_a_process_that_cannot_be_had_is_told_where_its_work_is_asked_for(options):
    class Full(Executor):
        def submit(self, function, *arguments):
            raise BlockingIOError("no more processes")

    work = begin(Full(), REPORTED, options, None, an_outcome(COMPLETED))
    assert isinstance(work.exception(), BlockingIOError)


def test_a_real_process_decides_the_exact_tests(options):
    with process_apart() as process:
        found = begin(process, REPORTED, options, None, an_outcome(COMPLETED)).result()
    assert set(found) == {"identities", "diagnostics"}
    assert set(found["identities"]) == set(IDENTITIES)
    assert found["diagnostics"] == {"seeds": list(range(1, 1 + REPORTED.seeds)), "arms": {}}
