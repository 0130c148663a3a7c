"""Both callbacks leave the same metrics in MLflow, and what they take is counted where it arises."""

import time
from functools import partial

import mlflow
import pytest
from mlflow import MlflowClient

from bench import tracking
from bench.synthetic import METRICS


@pytest.fixture(autouse=True)
def _mlflow_of_its_own():
    """Ray's callback sets where MLflow is for the whole process."""
    yield
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


@pytest.fixture
def uri(tmp_path):
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def histories(uri, prefix):
    """Of each trial's run in the experiments so called: the metrics it holds, by its learning rate."""
    client = MlflowClient(uri)
    (experiment,) = [e for e in client.search_experiments() if e.name.startswith(prefix)]
    runs = client.search_runs([experiment.experiment_id], "params.`optimizer.learning_rate` != ''")
    return {
        run.data.params["optimizer.learning_rate"]: {
            metric: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric)]
            for metric in METRICS
        }
        for run in runs
    }, [run.info.status for run in runs]


def test_both_callbacks_put_the_same_reports_on_record(uri, tmp_path):
    for contender in (tracking.ours(uri, tmp_path), tracking.rays(uri)):
        told = tracking.tell(contender, epochs=2, pace=0.0)
        assert len(told.elapsed) == 2 * tracking.TRIALS
    ours, rays = histories(uri, "ours-"), histories(uri, "rays-")
    assert ours == rays
    kept, statuses = ours
    assert len(kept) == tracking.TRIALS
    assert statuses == ["FINISHED"] * tracking.TRIALS
    assert all(len(history) == 2 for trial in kept.values() for history in trial.values())


def test_where_nobody_answers_everything_told_is_left_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    told = tracking.tell(tracking.ours_unheard(tmp_path), epochs=2, pace=0.0)
    assert len(told.elapsed) == 2 * tracking.TRIALS
    left = (tmp_path / "spool.jsonl").read_text().splitlines()
    assert len(left) == 1 + tracking.TRIALS * (1 + 2 + 1)


class Slow:
    """A callback whose reports take one thread a while."""

    def on_trial_start(self, *_):
        pass

    on_trial_complete = on_trial_start

    def on_trial_result(self, *_):
        time.sleep(0.005)


def slow():
    return tracking.Contender(Slow(), lambda request: {}, lambda epoch, metrics: {}, lambda: None)


def test_contenders_take_turns_and_the_first_round_does_not_count():
    opened = []

    def opening(name):
        opened.append(name)
        return slow()

    contenders = {name: partial(opening, name) for name in "ab"}
    measurements = tracking.take_turns(contenders, rounds=2, epochs=1, pace=0.0)
    assert "".join(opened) == "ba" + "ab" + "ba"
    assert {measurement.round for measurement in measurements} == {1, 2}
    assert len(measurements) == 2 * 2 * 5


def test_waiting_counts_as_elapsed_and_not_as_processor():
    elapsed, processor, slowest, beside, everything = tracking.take_turns({"slow": slow}, rounds=1, epochs=2, pace=0.0)
    assert elapsed.contender == "slow: elapsed"
    assert elapsed.value >= 5.0
    assert slowest.value >= elapsed.value
    assert processor.value < elapsed.value
    assert everything.value == pytest.approx(processor.value + beside.value)
