"""What drives a study without training drives a real one: the same trials, reports and record."""

import pandas as pd
import pytest

from analysis.load import load_study
from bench import many_trials
from bench.driver import drive
from bench.reporting import Reporter
from bench.simulated_cluster import late_rates
from bench.synthetic import METRICS
from search_spaces.table import load_space
from study.search import REMEMBERED
from trainables.data import load_dataset
from trainables.trainer import Trainer

FLAT = {
    "loss": "cross_entropy", "model": "mlp", "width": 4, "optimizer": "sgd", "optimizer.learning_rate": 0.1,
    "batch_size": 256, "epochs": 2, "seed": 3,
}  # fmt: skip


def ended(*seconds, started=0.0):
    """Trials that ended then, the first of which started then."""
    origin = pd.Timestamp("2025-01-01", tz="UTC")
    ends = origin + pd.to_timedelta(seconds, unit="s")
    return pd.DataFrame({"start": origin + pd.Timedelta(started, unit="s"), "end": ends})


def test_a_tenth_is_timed_from_the_end_of_the_one_before_and_the_first_from_its_first_start():
    seconds = [1.0 * number for number in range(2, 20)] + [24.0, 29.0]
    tenths = many_trials.seconds_by_tenth(ended(*seconds, started=1.0))
    assert tenths == pytest.approx([1.0] * 9 + [5.0])


def test_tenths_do_not_depend_on_the_order_of_the_record():
    frame = ended(*(number**1.5 for number in range(1, 41)))
    assert many_trials.seconds_by_tenth(frame.sample(frac=1, random_state=0)) == many_trials.seconds_by_tenth(frame)
    assert many_trials.seconds_by_tenth(frame)[-1] > 2 * many_trials.seconds_by_tenth(frame)[0]


def test_fewer_trials_than_tenths_are_refused():
    with pytest.raises(ValueError, match="got 9"):
        many_trials.seconds_by_tenth(ended(*range(9)))


def test_the_many_trials_are_ten_thousand_and_outgrow_what_a_proposal_remembers_early_in_the_first_tenth():
    study = load_space(str(many_trials.SPACE))
    assert len(study.arms) == many_trials.ARMS
    assert len(study.arms) * study.trials == many_trials.TRIALS == 10_000
    assert study.trials / 10 > 1.5 * REMEMBERED
    assert study.max_epochs == 1


def test_rates_of_a_simulated_cluster_are_those_of_the_later_half_in_whatever_order_the_record_comes():
    # The workers took ten seconds to start; then a trial of five results ended every half second.
    frame = ended(*(10.0 + 0.1 * number for number in range(4)), 10.8, 11.3, 11.8, 12.3).assign(results=5)
    assert late_rates(frame) == pytest.approx((10.0, 2.0))
    assert late_rates(frame[::-1]) == late_rates(frame)


@pytest.mark.parametrize("phase", ["search", "confirm"])
def test_a_trial_that_only_reports_says_in_the_end_what_one_that_trains_says(phase):
    request = {"config": FLAT, "arm": "cross_entropy", "phase": phase, "number": 3, "rungs": [1], "model_path": None}
    trainer, reporter = Trainer(load_dataset("digits", train_size=240)), Reporter()
    for each in (trainer, reporter):
        each.begin(request)
    for epoch in (1, 2):
        real, drawn = trainer.advance(), reporter.advance()
        assert drawn.keys() == real.keys()
        assert [number for number, _ in drawn["rows"]] == [number for number, _ in real["rows"]] == [epoch]
        assert (drawn["done"], drawn["epoch"], drawn["schedule_percent"]) == (epoch == 2, epoch, 50.0 * epoch)
    assert drawn["rows"][0][1].keys() >= {*METRICS, "diverged"}
    assert drawn.get("final", {}).keys() <= real.get("final", {}).keys()


def test_trials_that_only_report_are_the_same_wherever_they_run():
    told = []
    for _ in range(2):
        reporter = Reporter()
        reporter.begin({"config": FLAT, "arm": "focal", "phase": "search", "number": 1})
        told.append([reporter.advance()["rows"] for _ in range(2)])
    assert told[0] == told[1]


@pytest.fixture(scope="module")
def driven(tmp_path_factory):
    folder = tmp_path_factory.mktemp("driven")
    return drive(folder, "--space", "smoke", "--trials", "3", "--seeds", "2", slots=4), folder


def test_everything_that_was_reported_without_ray_is_on_record(driven):
    made, folder = driven
    record = load_study("driven", tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    assert len(record.epochs) == made.results
    assert len(record.trials) == len(made.ends)
    assert set(record.trials["stop_reason"]) == {"completed", "pruned"}
    study = load_space("smoke")
    phases = record.trials.groupby("phase").size().to_dict()
    assert phases == {"search": 3 * len(study.arms), "confirm": 2 * len(study.arms), "control": 2 * len(study.controls)}


def test_what_the_drivers_thread_spent_is_split_and_adds_up(driven):
    made, _ = driven
    assert set(made.spent) == {"searcher", "scheduler", "tracker"}
    assert all(seconds > 0 for seconds in made.spent.values())
    assert made.ends == sorted(made.ends)
    assert made.ends[-1] <= sum(made.spent.values())
    assert made.seconds <= made.recorded_seconds
    assert made.writer_processor_seconds > 0
    assert made.waiting > 0
