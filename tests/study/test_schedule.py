"""The rungs of a study and one ASHA per arm that stops at them."""

import itertools
import math
import pickle
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import pytest
from ray.tune.schedulers import TrialScheduler
from ray.tune.trainable.metadata import _TrainingRunMetadata

from search_spaces.arms import Arm, Categorical, Parameter, Study
from search_spaces.full import STUDY as FULL
from search_spaces.smoke import STUDY as SMOKE
from study.conduct import rung_epochs
from study.ledger import CONFIRM, CONTROL, INTERRUPTED, SEARCH, Ledger, Request
from study.schedule import ArmScheduler, RungPlan, plan_rungs

CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP
PLAN = RungPlan("epoch", 5, 40)


def a_study(epochs, factor="loss"):
    fixed = {"loss": "mse", "optimizer": "sgd", "optimizer.learning_rate": 0.1, "model": "mlp", "batch_size": 32}
    arm = Arm("mse", fixed, (Parameter("epochs", Categorical(tuple(epochs))),))
    return Study("s", "?", factor, (arm,), "mse")


class Stage:
    """A scheduler and the trials it sees, as Tune would show them."""

    def __init__(self, plan=PLAN, expired=lambda phase: False):
        self.ledger = Ledger()
        self.scheduler = ArmScheduler(self.ledger, plan, expired)

    def add(self, arm="mse", phase=SEARCH):
        trial = self.add_quietly(arm, phase)
        self.scheduler.on_trial_add(None, trial)
        return trial

    def add_quietly(self, arm="mse", phase=SEARCH):
        number = len(self.ledger.records)
        request = Request(arm, phase, number, {"epochs": 40})
        self.ledger.open(request)
        config = {"key": request.key, "arm": arm, "phase": phase, "index": number}
        metadata = _TrainingRunMetadata()
        return SimpleNamespace(trial_id=f"id{number}", config=config, status="RUNNING", run_metadata=metadata)

    def report(self, trial, epoch, val_accuracy, epochs=40):
        return self.scheduler.on_trial_result(None, trial, a_result(epoch, val_accuracy, epochs))

    def train(self, trial, accuracy_at, epochs=40):
        """The epoch at which the trial was stopped, or None."""
        for epoch in range(1, epochs):
            if self.report(trial, epoch, accuracy_at(epoch), epochs) == STOP:
                return epoch
        self.scheduler.on_trial_complete(None, trial, a_result(epochs, accuracy_at(epochs), epochs))
        return None


def a_result(epoch, val_accuracy, epochs=40):
    return {"epoch": epoch, "schedule_percent": 100 * epoch / epochs, "val_accuracy": val_accuracy}


@pytest.mark.parametrize("plan", [PLAN, None])
def test_nothing_stays_of_what_tune_keeps_of_the_metrics_of_a_trial_that_ended(plan):
    stage = Stage(plan)
    running, ended = stage.add(), stage.add()
    for trial in (running, ended):
        trial.run_metadata.update_metric("val_accuracy", 0.5, step=1)
    stage.scheduler.on_trial_complete(None, ended, a_result(40, 0.5))
    kept = [(trial.run_metadata.metric_analysis, trial.run_metadata.metric_n_steps) for trial in (running, ended)]
    assert all(kept[0])
    assert kept[1] == ({}, {})


@pytest.mark.parametrize("unsaved", [True, False])
def test_tune_saves_no_trials_state_where_nobody_would_read_it(unsaved):
    controller = SimpleNamespace(_trials_to_cache={"one before"})
    stage = Stage()
    stage.scheduler.unsaved = unsaved
    stage.scheduler.on_trial_add(SimpleNamespace(_tune_controller=controller), stage.add_quietly())
    controller._trials_to_cache.add("one after")
    assert controller._trials_to_cache == (set() if unsaved else {"one before", "one after"})


@pytest.mark.parametrize(
    ("study", "schedule", "time_attribute", "rungs"),
    [
        (FULL, "constant", "epoch", [8, 24]),
        (SMOKE, "constant", "epoch", [3]),
        (a_study([30]), "constant", "epoch", [6, 18]),
        (a_study([4, 101]), "constant", "epoch", [21, 63]),
        (FULL, "cosine", "schedule_percent", [30, 90]),
        (SMOKE, "cosine", "schedule_percent", [75]),
        (a_study([9, 18]), "cosine", "schedule_percent", [33.333333]),
        (a_study([24, 100]), "cosine", "schedule_percent", [20, 60]),
        (a_study([100, 200]), "cosine", "schedule_percent", [20, 60]),
    ],
)
def test_rungs_start_at_three_epochs_or_a_fifth_and_triple(study, schedule, time_attribute, rungs):
    plan = plan_rungs(study, stopping="asha", schedule=schedule)
    assert (plan.time_attribute, plan.grace_period) == (time_attribute, rungs[0])
    assert plan.rungs == rungs


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_no_trial_is_stopped_where_it_is_not_wanted(schedule):
    assert plan_rungs(FULL, stopping="none", schedule=schedule) is None


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_no_trial_is_stopped_where_epochs_are_the_question(schedule):
    assert plan_rungs(replace(FULL, factor="epochs"), stopping="asha", schedule=schedule) is None


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_trials_too_short_for_a_rung_are_not_stopped(schedule):
    assert plan_rungs(a_study([3]), stopping="asha", schedule=schedule) is None
    assert plan_rungs(a_study([3, 9]), stopping="asha", schedule="cosine") is None


def test_trial_is_looked_at_when_its_epochs_reach_a_rung():
    plan = plan_rungs(FULL, stopping="asha", schedule="constant")
    assert [rung_epochs(plan, epochs) for epochs in (8, 10, 20, 40)] == [[], [8], [8], [8, 24]]
    assert rung_epochs(None, 40) == []


def test_trials_under_a_cosine_are_looked_at_at_equal_fractions_of_it():
    plan = plan_rungs(FULL, stopping="asha", schedule="cosine")
    assert [rung_epochs(plan, epochs) for epochs in (10, 20, 40)] == [[3, 9], [6, 18], [12, 36]]


def test_no_rung_under_a_cosine_is_missed_or_late_by_a_rounding_error():
    for shortest, times in itertools.product(range(4, 200), (1, 2, 3, 5)):
        epochs = shortest * times
        plan = plan_rungs(a_study({shortest, epochs}), stopping="asha", schedule="cosine")
        first = max(Fraction(3, shortest), Fraction(1, 5))
        exact = [first * 3**power for power in range(3) if first * 3**power < 1]
        looked_at = rung_epochs(plan, epochs)
        assert looked_at == [math.ceil(share * epochs) for share in exact]
        # The scheduler compares the trial's share with the rung's: a hair too low and it waits for the next report.
        assert all(100 * epoch / epochs >= rung for epoch, rung in zip(looked_at, plan.rungs, strict=True))


def test_first_trial_of_an_arm_is_not_stopped_however_weak():
    stage = Stage()
    assert stage.train(stage.add(), lambda _: 0.1) is None


def test_weak_trial_is_stopped_by_a_better_one_of_its_arm_at_the_first_rung():
    stage = Stage()
    stage.train(stage.add(), lambda _: 0.8)
    assert stage.train(stage.add(), lambda _: 0.2) == 5


@pytest.mark.parametrize(("weak_from", "stopped_at"), [(1, 5), (5, 5), (6, 15), (15, 15), (16, None), (39, None)])
def test_trial_that_turns_weak_is_stopped_at_the_next_rung_and_nowhere_else(weak_from, stopped_at):
    stage = Stage()
    stage.train(stage.add(), lambda _: 0.8)
    assert stage.train(stage.add(), lambda epoch: 0.2 if epoch >= weak_from else 0.9) == stopped_at


def test_the_best_third_of_an_arm_goes_on():
    stage = Stage()
    accuracies = [0.90, 0.10, 0.20, 0.30, 0.95, 0.40]
    stopped = [stage.train(stage.add(), lambda _, value=value: value) for value in accuracies]
    assert stopped == [None, 5, 5, 5, None, 5]


def test_weak_arm_is_left_alone_by_better_trials_of_other_arms():
    stage = Stage()
    for _ in range(5):
        stage.train(stage.add("cross_entropy"), lambda _: 0.9)
    assert stage.train(stage.add("l1_logits"), lambda _: 0.2) is None
    assert stage.train(stage.add("l1_logits"), lambda _: 0.3) is None
    assert stage.train(stage.add("l1_logits"), lambda _: 0.1) == 5
    assert stage.train(stage.add("cross_entropy"), lambda _: 0.3) == 5


def test_arms_that_train_at_the_same_time_do_not_mix():
    stage = Stage()
    strong, weak = stage.add("cross_entropy"), stage.add("l1_logits")
    for epoch in range(1, 40):
        assert stage.report(strong, epoch, 0.9) == CONTINUE
        assert stage.report(weak, epoch, 0.2) == CONTINUE


@pytest.mark.parametrize("phase", [CONFIRM, CONTROL])
def test_confirmation_is_never_stopped_and_stops_nothing(phase):
    stage = Stage()
    stage.train(stage.add(), lambda _: 0.5)
    assert stage.train(stage.add(phase=phase), lambda _: 0.1) is None
    assert stage.train(stage.add(phase=phase), lambda _: 0.9) is None
    assert stage.train(stage.add(), lambda _: 0.6) is None, "only the search trial before it counts"


def test_without_a_plan_nothing_is_stopped():
    stage = Stage(plan=None)
    assert [stage.train(stage.add(), lambda _, value=value: value) for value in (0.9, 0.1)] == [None, None]


def test_under_a_cosine_short_and_long_trials_meet_at_the_same_fraction():
    stage = Stage(plan_rungs(FULL, stopping="asha", schedule="cosine"))
    stage.train(stage.add(), lambda _: 0.8, epochs=40)
    assert stage.train(stage.add(), lambda _: 0.2, epochs=10) == 3
    assert stage.train(stage.add(), lambda _: 0.2, epochs=20) == 6
    assert stage.train(stage.add(), lambda epoch: 0.9 if epoch < 10 else 0.2, epochs=20) == 18


def test_trial_that_ends_by_itself_still_counts_for_its_arm():
    stage = Stage()
    ended = stage.add()
    stage.scheduler.on_trial_complete(None, ended, a_result(5, 0.9, epochs=5))
    assert stage.train(stage.add(), lambda _: 0.2) == 5


def test_trial_that_is_removed_is_forgotten_without_a_word():
    stage = Stage()
    for phase in (SEARCH, CONFIRM):
        stage.scheduler.on_trial_remove(None, stage.add(phase=phase))
    assert stage.train(stage.add(), lambda _: 0.2) is None


@pytest.mark.parametrize("phase", [SEARCH, CONFIRM])
def test_phase_out_of_time_stops_its_trials_as_interrupted(phase):
    stage = Stage(expired=lambda asked: asked == phase)
    late, other = stage.add(phase=phase), stage.add(phase=CONTROL)
    assert stage.report(late, 1, 0.9) == STOP
    assert stage.ledger.close(late.config["key"], failed=False).stop_reason == INTERRUPTED
    assert stage.report(other, 1, 0.9) == CONTINUE
    assert stage.ledger.running() == [stage.ledger.records[other.config["key"]]]


class Workers(dict):
    """Tune's trials and their workers; the stand-ins here cannot be hashed."""

    def get(self, trial):
        return super().get(trial.config["index"])


def a_controller(trials, workers=(), alive=()):
    """What Tune shows a scheduler."""
    manager = SimpleNamespace(live_actors=list(alive))
    return SimpleNamespace(
        get_live_trials=lambda: trials,
        _tune_controller=SimpleNamespace(_actor_manager=manager, _trial_to_actor=Workers(workers)),
    )


def test_waiting_trials_run_in_the_order_they_were_asked_for():
    stage = Stage()
    trials = [stage.add() for _ in range(3)]
    trials[1].status = trials[2].status = "PENDING"
    assert stage.scheduler.choose_trial_to_run(a_controller(trials[::-1])) is trials[1]
    trials[1].status = trials[2].status = "RUNNING"
    assert stage.scheduler.choose_trial_to_run(a_controller(trials)) is None


def test_a_trial_whose_worker_is_starting_does_not_wait_for_another():
    stage = Stage()
    trials = [stage.add() for _ in range(3)]
    for trial in trials:
        trial.status = "PENDING"
    # The first's worker has what it asked for and is starting; the second's still waits for that.
    controller = a_controller(trials, workers={0: "starting", 1: "asked for"}, alive=["starting", "of no trial"])
    assert stage.scheduler.choose_trial_to_run(controller) is trials[1]
    controller = a_controller(trials[:1], workers={0: "starting"}, alive=["starting"])
    assert stage.scheduler.choose_trial_to_run(controller) is None


def test_tune_pickles_nothing_of_it():
    assert pickle.loads(pickle.dumps(Stage().scheduler)) == {}
