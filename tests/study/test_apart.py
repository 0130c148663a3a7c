"""What a study's end does in a process apart: which work there is, and that a real process does it."""

import atexit
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient

from search_spaces.loss_metrics import STUDY as REPORTED
from search_spaces.smoke import STUDY
from study.apart import begin, find_candidates, get_ready, process_apart, try_parts
from study.confirm import weights_path
from study.ledger import COMPLETED, CONFIRM, FAILED, Ledger, Request, TrialRecord
from study.phases import Outcome
from trainables.config import InputError
from trainables.identities import IDENTITIES


class Executor:
    """Keeps what is to be done."""

    def __init__(self):
        self.submitted = []

    def submit(self, function, *arguments):
        self.submitted.append((function.__name__, arguments))
        return f"work {len(self.submitted)}"


class Full(Executor):
    """Can start no process."""

    def submit(self, function, *arguments):
        """As the system says it."""
        raise BlockingIOError("no more processes")


@pytest.fixture
def options(tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    return SimpleNamespace(name="s", folder=folder, shared=folder, bucket=None, tracking_uri="sqlite://", seed=0)


def an_outcome(*stop_reasons, interrupted=False, undelivered=0, **others):
    ledger = Ledger()
    for number, reason in enumerate(stop_reasons):
        request = Request("focal", CONFIRM, number, {"epochs": 1})
        ledger.records[request.key] = TrialRecord(request, epoch=1, stop_reason=reason, val_accuracy=0.5)
    record = SimpleNamespace(parent_run_id="p", run_ids={key: f"run of {key}" for key in ledger.records})
    return Outcome(ledger, interrupted=interrupted, first_error="", record=record, undelivered=undelivered, **others)


def keep_weights(options, arm, number):
    weights = Path(weights_path(options.folder, arm, number))
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


def test_what_is_measured_already_is_not_measured_again_unless_trials_are_new(options, tmp_path):
    options.tracking_uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(options.tracking_uri)
    run_id = client.create_run(client.create_experiment("e", artifact_location=str(tmp_path / "artifacts"))).info.run_id
    before = an_outcome(COMPLETED, new=False)
    before.record.parent_run_id = run_id
    seeds = list(range(1, 1 + REPORTED.seeds))

    def begun(outcome):
        return begin(Executor(), REPORTED, options, None, outcome)

    assert begun(before) == "work 1"
    client.log_dict(run_id, {"mean_is_sum_over_batch": {}}, "identities.json")
    assert begun(before) == "work 1"
    client.log_dict(run_id, {"seeds": seeds[:-1], "arms": {}}, "diagnostics.json")
    assert begun(before) == "work 1"  # a life ended between more seeds and their measurements
    client.log_dict(run_id, {"seeds": seeds, "arms": {}}, "diagnostics.json")
    assert begun(before) is None
    after = an_outcome(COMPLETED)
    after.record.parent_run_id = run_id
    assert begun(after) == "work 1"
    options.tracking_uri = f"sqlite:///{tmp_path}/none/mlflow.db"
    assert begun(before) == "work 1"  # what is wrong is told where it is put on record


@pytest.mark.parametrize(
    ("study", "no_models", "imports"),
    [(STUDY, False, "_import_models"), (STUDY, True, None), (REPORTED, True, "_import_measures")],
)
def test_what_the_end_will_need_is_imported_before_and_nothing_else(options, study, no_models, imports):
    executor = Executor()
    options.no_models = no_models
    get_ready(executor, study, options)
    assert executor.submitted == ([(imports, ())] if imports else [])


def test_imports_leave_to_the_work_what_is_wrong_with_the_process(options):
    options.no_models = False
    get_ready(Full(), STUDY, options)
    with process_apart() as process:
        os.kill(process.submit(os.getpid).result(), signal.SIGKILL)
        with pytest.raises(BrokenProcessPool):  # once the pool knows, it takes no more work
            process.submit(time.sleep, 60).result(30)
        get_ready(process, STUDY, options)


def test_a_process_that_cannot_be_had_is_told_where_its_work_is_asked_for(options):
    work = begin(Full(), REPORTED, options, None, an_outcome(COMPLETED))
    assert isinstance(work.exception(), BlockingIOError)


def test_a_process_that_was_killed_while_it_waited_costs_its_work_and_not_the_study(options):
    with process_apart() as process:
        os.kill(process.submit(os.getpid).result(), signal.SIGKILL)
        with pytest.raises(BrokenProcessPool):  # once the pool knows, it takes no more work
            process.submit(time.sleep, 60).result(30)
        work = begin(process, REPORTED, options, None, an_outcome(COMPLETED))
    assert isinstance(work.exception(), BrokenProcessPool)


def test_a_real_process_decides_the_exact_tests(options):
    with process_apart() as process:
        found = begin(process, REPORTED, options, None, an_outcome(COMPLETED)).result()
    assert set(found) == {"identities.json", "diagnostics.json"}
    assert set(found["identities.json"]) == set(IDENTITIES)
    assert found["diagnostics.json"] == {"seeds": list(range(1, 1 + REPORTED.seeds)), "arms": {}}


def test_a_part_that_does_not_fit_is_told_from_there():
    fits = dict(REPORTED.arms[0].fixed)
    with process_apart() as process:
        assert process.submit(try_parts, [("mine", fits)], 10, (1, 8, 8)).result() is None
        with pytest.raises(InputError, match="Arm 'mine': Unknown loss 'no_such_loss'"):
            process.submit(try_parts, [("mine", {**fits, "loss": "no_such_loss"})], 10, (1, 8, 8)).result()


DRIVER = """
import os, sys
from study.apart import process_apart
if __name__ == "__main__":
    with process_apart() as process:
        print(process.submit(os.getpid).result(), flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def driver(tmp_path):
    """A process that has one apart, which waits for work, in a group of their own; and the pid of the latter."""
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    started = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with started:
        yield started, int(started.stdout.readline())
        started.kill()


def is_gone(pid, seconds=20.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_driver_that_is_killed_leaves_no_process_behind(driver):
    process, apart = driver
    assert not is_gone(apart, 0.5)
    process.kill()
    assert is_gone(apart)


def test_ctrl_c_is_for_the_driver_while_the_process_waits(driver):
    process, apart = driver
    os.kill(apart, signal.SIGINT)
    assert not is_gone(apart, 0.5)
    process.stdin.close()  # the driver ends as it should, and so does what it started
    assert is_gone(apart)
    assert process.wait(20) == 0
    assert process.stderr.read() == ""


class Complaint:
    """Says that its module was taken apart."""

    def __init__(self, path):
        self.path = path

    def __del__(self):
        self.path.touch()


def leave_behind(folder):
    """What a library may do: something for the exit, and something that lives as long as a module."""
    atexit.register((folder / "ended").touch)
    sys.modules["__main__"].complaint = Complaint(folder / "taken apart")


def test_the_process_ends_without_taking_its_modules_apart(tmp_path):
    with process_apart() as process:
        process.submit(leave_behind, tmp_path).result()
    assert [path.name for path in tmp_path.iterdir()] == ["ended"]
