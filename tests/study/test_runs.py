"""What a trial's run holds, in a real SQLite store."""

import json
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from study.ledger import COMPLETED, CONFIRM, CONTROL, DIVERGED, FAILED, INTERRUPTED, PRUNED, SEARCH
from study.runs import MAX_BATCH, TrialRuns, batches
from study.spool import End, Row, Start
from tests.study.told_trials import FINAL, KEY, TAGS, Calls, a_request, a_row, children, history, new_study_run

DATASET = {
    "name": "digits",
    "num_train": 1197,
    "num_val": 240,
    "num_test": 360,
    "num_classes": 10,
    "class_names": list("0123456789"),
    "input_shape": [1, 8, 8],
    "sha256": "c0ffee" * 10 + "feed",
}


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """A SQLite store, made once: its tables take a second."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture
def study_run(uri):
    return new_study_run(uri, Path(uri.removeprefix("sqlite:///")).parent)


@pytest.fixture
def trial_runs(study_run):
    """``trial_runs(dataset=...)`` builds them; a client other than the store's may be given."""

    def build(client=None, *, dataset=None, known=None, **how):
        store, experiment_id, parent = study_run
        return TrialRuns(client or store, experiment_id, parent, TAGS, dataset=dataset, known=known or {}, **how)

    return build


def begin(runs, request, time=1000):
    for write in runs.start(Start(request, time)):
        write()


def finish(runs, key, stop_reason=COMPLETED, tags=None, final=None):
    runs.end(End(key, stop_reason, tags or {}, final, 2000))


def only_run(study_run):
    found, count = children(*study_run)
    assert count == 1
    return next(iter(found.values()))


def contexts(run):
    return {found.tags[0].value for found in run.inputs.dataset_inputs}


def test_trial_is_a_run_under_the_studys_with_its_name_tags_and_parameters(study_run, trial_runs):
    runs, request = trial_runs(), a_request(seed=5)
    begin(runs, request)
    finish(runs, KEY, tags={"node": "here"})
    run = only_run(study_run)
    assert run.info.run_id == runs.ids[KEY]
    assert run.info.run_name == "focal-007"
    own = {"phase": "search", "arm": "focal", "seed": "5", "node": "here", "stop_reason": "completed", "trial_id": KEY}
    assert {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")} == {**TAGS, **own}
    assert run.data.params == {key: str(value) for key, value in request.config.items()}
    assert float(run.data.params["optimizer.learning_rate"]) == 0.0123456789


@pytest.mark.parametrize(
    ("phase", "name"), [(SEARCH, "focal-007"), (CONFIRM, "focal-seed-7"), (CONTROL, "focal-control-seed-7")]
)
def test_run_is_named_by_arm_and_number_or_seed(study_run, trial_runs, phase, name):
    begin(trial_runs(), a_request(phase=phase))
    run = only_run(study_run)
    assert (run.info.run_name, run.data.tags["phase"], run.info.status) == (name, phase, "RUNNING")


@pytest.mark.parametrize(
    ("stop_reason", "status"),
    [
        (COMPLETED, "FINISHED"),
        (DIVERGED, "FINISHED"),
        (PRUNED, "KILLED"),
        (INTERRUPTED, "KILLED"),
        (FAILED, "FAILED"),
    ],
)
def test_status_follows_from_the_reason_a_trial_ended_for(study_run, trial_runs, stop_reason, status):
    runs = trial_runs()
    begin(runs, a_request())
    finish(runs, KEY, stop_reason)
    run = only_run(study_run)
    assert (run.info.status, run.data.tags["stop_reason"]) == (status, stop_reason)
    assert (run.info.start_time, run.info.end_time) == (1000, 2000)


def test_final_record_is_an_artifact_of_the_trials_that_have_one(study_run, trial_runs, uri):
    runs = trial_runs()
    for request, final in ((a_request(phase=CONFIRM), FINAL), (a_request(), None)):
        begin(runs, request)
        finish(runs, request.key, final=final)
    run_id = runs.ids["focal/confirm/7"]
    path = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="final.json", tracking_uri=uri)
    assert json.loads(Path(path).read_text()) == FINAL
    assert study_run[0].list_artifacts(runs.ids[KEY]) == []


def test_trial_names_its_data_and_the_test_split_only_where_it_was_scored_on_it(study_run, trial_runs):
    runs = trial_runs(dataset=DATASET)
    begin(runs, a_request())
    begin(runs, a_request(phase=CONFIRM, number=1, seed=1))
    found, _ = children(*study_run)
    assert contexts(found[KEY]) == {"train", "validation"}
    assert contexts(found["focal/confirm/1"]) == {"train", "validation", "test"}


def test_trial_without_a_described_dataset_names_no_data(study_run, trial_runs):
    begin(trial_runs(), a_request())
    assert only_run(study_run).inputs.dataset_inputs == []


def test_tag_longer_than_the_store_takes_is_cut(study_run, trial_runs):
    runs = trial_runs()
    begin(runs, a_request())
    finish(runs, KEY, FAILED, {"error": "x" * 20_000})
    run = only_run(study_run)
    assert set(run.data.tags["error"]) == {"x"}
    assert run.info.status == "FAILED"


def test_writes_of_a_trial_reach_the_store_in_order(study_run, trial_runs):
    calls = Calls(study_run[0])
    runs = trial_runs(calls, dataset=DATASET)
    begin(runs, a_request())
    runs.rows(KEY, [Row(KEY, 1, a_row(1), 1500)])
    finish(runs, KEY, final=FINAL)
    assert calls.names == [
        "create_run",
        "log_batch params",
        "log_inputs",
        "log_batch metrics",
        "search_runs order_by",
        "log_batch tags",
        "log_dict",
        "set_terminated",
    ]


def test_every_write_may_be_made_twice(study_run, trial_runs):
    runs = trial_runs(dataset=DATASET)
    writes = list(runs.start(Start(a_request(), 1000)))
    odd = {"nan": float("nan"), "inf": float("inf"), "low": float("-inf"), "tiny": 5e-324, "third": 1 / 3}
    for write in [
        *writes,
        lambda: runs.rows(KEY, [Row(KEY, epoch, a_row(epoch) | odd, 1500) for epoch in (1, 2)]),
        lambda: finish(runs, KEY, final=FINAL),
    ]:
        write()
        before = only_run(study_run)
        write()
        after = only_run(study_run)
        assert str(after.to_dictionary()) == str(before.to_dictionary())  # NaN is not equal to itself
    client = study_run[0]
    for metric in (*a_row(1), *odd):
        assert [step for step, _ in history(client, after, metric)] == [1, 2], metric


def test_known_run_is_used_again_and_nothing_of_it_is_lost(study_run, trial_runs):
    first = trial_runs()
    begin(first, a_request())
    first.rows(KEY, [Row(KEY, 1, a_row(1), 1500)])
    finish(first, KEY, INTERRUPTED, {"node": "here"})
    again = trial_runs(known=first.ids)
    begin(again, a_request(), time=3000)
    run = only_run(study_run)
    assert (run.info.run_id, run.info.status, run.info.start_time) == (first.ids[KEY], "RUNNING", 1000)
    assert run.data.tags["node"] == "here"
    assert history(study_run[0], run, "val_accuracy") == [(1, a_row(1)["val_accuracy"])]
    finish(again, KEY)
    assert only_run(study_run).info.status == "FINISHED"


def test_run_that_a_dead_process_had_asked_for_is_gone_at_the_end_however_late_it_was_made(study_run, trial_runs):
    runs = trial_runs()
    begin(runs, a_request())
    runs.rows(KEY, [Row(KEY, 1, a_row(1), 1500)])
    next(trial_runs().start(Start(a_request(), 1000)))()
    assert children(*study_run)[1] == 2
    finish(runs, KEY)
    assert only_run(study_run).info.run_id == runs.ids[KEY]


def test_run_is_looked_for_only_after_it_was_asked_for(study_run, trial_runs):
    calls = Calls(study_run[0])
    create, *_ = trial_runs(calls).start(Start(a_request(), 1000))
    create()
    create()
    assert calls.names == ["create_run", "search_runs order_by"]
    assert children(*study_run)[1] == 1


@pytest.mark.parametrize("answers_get_lost", [True, False])
def test_an_end_looks_for_twins_only_where_there_may_be_some(study_run, trial_runs, answers_get_lost):
    calls = Calls(study_run[0])
    runs = trial_runs(calls, answers_get_lost=answers_get_lost)
    begin(runs, a_request())
    finish(runs, KEY)
    assert ("search_runs order_by" in calls.names) is answers_get_lost
    assert only_run(study_run).info.status == "FINISHED"


def test_run_that_the_client_made_twice_by_itself_is_there_once_at_the_end(study_run, trial_runs):
    class AskedAgain(MlflowClient):
        def create_run(self, *arguments, **keywords):
            super().create_run(*arguments, **keywords)
            return super().create_run(*arguments, **keywords)

    runs = trial_runs(AskedAgain(study_run[0].tracking_uri))
    begin(runs, a_request())
    begin(runs, a_request(number=8))
    assert children(*study_run)[1] == 4
    runs.rows(KEY, [Row(KEY, 1, a_row(1), 1500)])
    finish(runs, KEY)
    finish(runs, "focal/search/8")
    found, count = children(*study_run)
    assert count == 2
    assert found[KEY].data.metrics == a_row(1)


@pytest.mark.parametrize("num_metrics", [1, 30, 334, 999, 1000, 1001])
def test_batch_holds_whole_rows_and_no_more_than_the_store_takes(num_metrics):
    rows = {number: Row(KEY, number, dict.fromkeys(map(str, range(num_metrics)), 0.0), 0) for number in range(70)}
    made = list(batches(rows))
    assert [number for batch in made for number in batch] == list(rows)
    assert {len(batch) for batch in made[:-1]} <= {max(1, MAX_BATCH // num_metrics)}
    assert all(row is rows[number] for batch in made for number, row in batch.items())


def test_nothing_is_no_batch():
    assert list(batches({})) == []


def test_trials_of_both_regimes_of_a_report_are_told_apart(study_run, trial_runs):
    runs = trial_runs()
    for regime in ("stated", "fair"):
        begin(runs, replace(a_request(phase=CONFIRM), regime=regime))
    found, _ = children(*study_run)
    assert {key: run.data.tags["regime"] for key, run in found.items()} == {
        "focal/stated-confirm/7": "stated",
        "focal/fair-confirm/7": "fair",
    }
