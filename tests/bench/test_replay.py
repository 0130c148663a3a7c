"""Replayed searches cost what they trained, find what is there, and stop what the rule says."""

import random
import statistics
from types import SimpleNamespace

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState

from bench import curves as curves_module
from bench import search
from bench.curves import Curve, read_curves, record_curves, write_curves
from bench.replay import AtRandom, ByOptuna, by_arm, by_asha, by_pruner, default_grace, never, quiet, replay
from search_spaces.arms import Arm, Categorical, Float, Integer, Parameter, Study, joint
from search_spaces.full import STUDY as FULL
from study.schedule import REDUCTION_FACTOR

EPOCHS = 9
PARAMETERS = (
    Parameter("optimizer", Categorical(("sgd", "adam"))),
    Parameter("optimizer.learning_rate", Float(1e-4, 1.0, log=True)),
    Parameter("optimizer.momentum", Float(0.0, 0.9), {"optimizer": ("sgd",)}),
    Parameter("hidden_layers", Integer(1, 3)),
    Parameter("epochs", Categorical((EPOCHS,))),
)
ARMS = tuple(
    Arm(loss, {"loss": loss, "model": "mlp", "batch_size": 64}, PARAMETERS) for loss in ("cross_entropy", "mse")
)
SPACE = Study(name="small", question="?", factor="loss", arms=ARMS, baseline="cross_entropy")


@pytest.fixture(autouse=True)
def _quiet(recwarn):
    before = optuna.logging.get_verbosity()
    quiet()
    yield
    optuna.logging.set_verbosity(before)


def a_curve(final, *, arm="cross_entropy", epochs=EPOCHS, shape=lambda share: share, **params):
    """One that grows to ``final``."""
    values = tuple(final * shape((epoch + 1) / epochs) for epoch in range(epochs))
    return Curve(arm, {"epochs": epochs, **params}, values)


def configurations(count, arm="cross_entropy"):
    """Curves of random configurations; accuracy is best at a learning rate of 0.01."""
    generator = random.Random(arm)
    found = []
    for _ in range(count):
        optimizer, exponent = generator.choice(("sgd", "adam")), generator.uniform(-4, 0)
        own = {"optimizer.momentum": generator.uniform(0, 0.9)} if optimizer == "sgd" else {}
        params = {"optimizer": optimizer, "optimizer.learning_rate": 10**exponent, "hidden_layers": 2, **own}
        found.append(a_curve(0.9 - 0.1 * abs(exponent + 2), arm=arm, **params))
    return found


def test_without_a_goal_everything_is_trained_to_its_end_once():
    curves = configurations(20)
    found = replay(curves, AtRandom(0), never, goals={"cross_entropy": 2.0})
    assert found.spent == 20 * EPOCHS
    assert sorted(map(id, found.completed)) == sorted(map(id, curves))
    assert (found.stopped, found.reached) == ([], {})


def test_at_most_so_many_trials_are_trained():
    found = replay(configurations(20), AtRandom(0), never, goals={"cross_entropy": 2.0}, trials=7)
    assert (found.spent, len(found.completed)) == (7 * EPOCHS, 7)


def test_random_search_needs_half_the_table_to_find_the_one_good_configuration():
    curves = [a_curve(0.9), *(a_curve(0.1) for _ in range(19))]
    spent = [
        replay(curves, AtRandom(seed), never, goals={"cross_entropy": 0.9}, workers=1).reached["cross_entropy"]
        for seed in range(2000)
    ]
    # Uniform over 1 to 20 trials: mean 10.5, standard deviation 5.77.
    assert statistics.fmean(spent) / EPOCHS == pytest.approx(10.5, abs=4 * 5.77 / 2000**0.5)


def test_two_workers_train_side_by_side():
    curves = [a_curve(0.9, epochs=4), a_curve(0.2, epochs=9)]
    found = replay(curves, AtRandom(0), never, goals={"cross_entropy": 0.9})
    # When the short one has ended, the long one has trained three or four epochs.
    assert found.reached["cross_entropy"] in (7, 8)


def test_a_goal_counts_only_when_a_trial_was_trained_to_its_end():
    peak = Curve("cross_entropy", {"epochs": 3}, (0.1, 0.9, 0.2))
    assert replay([peak], AtRandom(0), never, goals={"cross_entropy": 0.9}).reached == {}


def test_asha_never_stops_the_best_of_curves_that_do_not_cross_and_saves_epochs():
    curves = [a_curve(0.3 + 0.02 * place) for place in range(30)]
    for seed in range(50):
        found = replay(curves, AtRandom(seed), by_asha(1, 3, EPOCHS), goals={"cross_entropy": 2.0})
        assert curves[-1] in found.completed
        assert found.spent < 0.75 * 30 * EPOCHS
        assert len(found.completed) + len(found.stopped) == 30


def test_asha_stops_a_late_bloomer_unless_its_grace_outlasts_the_bud():
    late = a_curve(0.95, shape=lambda share: share**8)
    curves = [late, *(a_curve(0.5 + 0.01 * place, shape=lambda share: 1.0) for place in range(15))]
    early = [
        bool(replay(curves, AtRandom(s), by_asha(1, 3, EPOCHS), goals={"x": 2.0}).stopped.count(late))
        for s in range(60)
    ]
    assert statistics.fmean(early) > 0.7
    for seed in range(20):
        assert late in replay(curves, AtRandom(seed), by_asha(EPOCHS, 3, EPOCHS), goals={"x": 2.0}).completed


def test_each_arm_has_rungs_of_its_own():
    weak = [a_curve(0.2 + 0.001 * place, arm="mse") for place in range(8)]
    strong = [a_curve(0.9 + 0.001 * place) for place in range(8)]
    for seed in range(10):
        found = replay([*weak, *strong], AtRandom(seed), by_asha(1, 3, EPOCHS), goals={"mse": 2.0})
        assert weak[-1] in found.completed


def test_the_proposer_takes_the_nearest_configuration_and_tells_what_it_took():
    curves = configurations(40)
    proposer = ByOptuna(ARMS[0], trials=16, seed=0)
    found = replay(curves, proposer, by_asha(1, 3, EPOCHS), goals={"cross_entropy": 2.0})
    told = proposer.study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
    assert len(told) == 40
    assert {trial.params["optimizer.learning_rate"] for trial in told} == {
        curve.params["optimizer.learning_rate"] for curve in curves
    }
    for trial in told:
        assert ("optimizer.momentum" in trial.params) == (trial.params["optimizer"] == "sgd")
        assert (
            max(trial.intermediate_values) == (EPOCHS if trial.state == TrialState.COMPLETE else 1)
            or trial.value is None
        )
    assert sum(trial.state == TrialState.PRUNED for trial in told) == len(found.stopped)


def test_what_is_asked_for_is_found_where_it_is_recorded():
    curves = configurations(40)
    proposer = ByOptuna(ARMS[0], trials=16, seed=0)
    for curve in curves:
        wanted = dict(curve.params)
        assert min(curves, key=lambda other: proposer._distance(wanted, other.params)) is curve


def test_tpe_finds_a_narrow_optimum_sooner_than_random_search():
    curves = configurations(120)
    goal = {"cross_entropy": max(curve.final for curve in curves) - 0.003}
    at_random = [replay(curves, AtRandom(s), never, goals=goal).reached["cross_entropy"] for s in range(40)]
    by_tpe = [
        replay(curves, ByOptuna(ARMS[0], trials=16, seed=s), never, goals=goal).reached["cross_entropy"]
        for s in range(40)
    ]
    assert statistics.fmean(by_tpe) < 0.8 * statistics.fmean(at_random)


def test_a_joint_search_takes_the_arm_that_was_asked_for():
    curves = [*configurations(30), *configurations(30, "mse")]
    levels = {arm.name: arm.fixed["loss"] for arm in ARMS}
    proposer = ByOptuna(joint(SPACE), trials=32, seed=0, factor="loss", levels=levels)
    wanted = {"loss": "mse", "optimizer": "adam", "optimizer.learning_rate": 0.01, "hidden_layers": 2, "epochs": EPOCHS}
    nearest = sorted(curves, key=lambda curve: proposer._distance(wanted, proposer._values(curve)))
    assert {curve.arm for curve in nearest[:30]} == {"mse"}
    found = replay(curves, proposer, by_pruner(proposer, optuna.pruners.MedianPruner()), goals={"mse": 2.0})
    assert len(found.completed) + len(found.stopped) == 60


def test_the_median_pruner_stops_the_worse_half_once_it_has_five():
    curves = [a_curve(0.9 - 0.02 * place, hidden_layers=1) for place in range(30)]  # taken in this order: ever worse
    proposer = ByOptuna(Arm("cross_entropy", {"loss": "l"}, PARAMETERS[-1:]), trials=16, seed=0)
    stops = by_pruner(proposer, optuna.pruners.MedianPruner())
    found = replay(curves, proposer, stops, goals={"cross_entropy": 2.0}, workers=1)
    assert (found.completed, found.stopped) == (curves[:5], curves[5:])


def test_curves_come_back_as_they_were_written(tmp_path):
    curves = [*configurations(5), a_curve(0.4, epochs=2, arm="mse", **{"loss.gamma": 2.0})]
    write_curves(tmp_path / "below" / "table.parquet", curves)
    assert read_curves(tmp_path / "below" / "table.parquet") == curves


def recorded(reasons):
    trials = pd.DataFrame(
        {
            "run_id": ["a", "b", "c"], "phase": ["search", "search", "confirm"], "arm": "mse",
            "stop_reason": [*reasons, "completed"], "optimizer": "adam", "optimizer.learning_rate": 0.1,
            "optimizer.momentum": [None] * 3, "hidden_layers": 1, "epochs": 3, "loss": "mse",
        }
    )  # fmt: skip
    epochs = pd.DataFrame(
        {"run_id": ["a"] * 3 + ["b"] * 2, "epoch": [3, 1, 2, 1, 2], "val_accuracy": [0.3, 0.1, 0.2, 0.4, 0.1]}
    )
    return SimpleNamespace(trials=trials, epochs=epochs)


def test_curves_are_the_search_trials_of_a_study(monkeypatch):
    monkeypatch.setattr(curves_module, "load_study", lambda *_, **__: recorded(["completed", "diverged"]))
    params = {"optimizer": "adam", "optimizer.learning_rate": 0.1, "hidden_layers": 1, "epochs": 3}
    first, second = record_curves("s", "uri", SPACE)
    assert first == Curve("mse", params, (0.1, 0.2, 0.3))
    assert (second.accuracy, second.diverged, second.final) == ((0.4, 0.1), True, 0.1)


def test_a_study_that_stopped_trials_is_no_table(monkeypatch):
    monkeypatch.setattr(curves_module, "load_study", lambda *_, **__: recorded(["completed", "pruned"]))
    with pytest.raises(ValueError, match="--stopping none"):
        record_curves("s", "uri", SPACE)


def test_the_share_of_stopped_best_trials_is_that_of_curves_that_do_not_cross(monkeypatch):
    curves = [a_curve(0.3 + 0.01 * place) for place in range(40)]
    stopped, lost, share = search.best_stopped(curves, 1, 3, seeds=30)
    assert (len(stopped), sum(stopped), lost) == (30, 0, 0)
    assert 0.2 < share < 0.8
    # A grace that outlasts every trial stops none.
    assert search.best_stopped(curves, EPOCHS + 1, 3, seeds=5) == ([False] * 5, 0, 1.0)


@pytest.mark.parametrize("table", search.TABLES)
def test_the_recorded_tables_hold_the_curves_of_full(table):
    curves = read_curves(search.RECORDED / f"{table}.parquet")
    arms = by_arm(curves)
    assert len(curves) >= 300
    assert arms.keys() == {arm.name for arm in FULL.arms}
    for curve in curves:
        assert 1 <= len(curve.accuracy) <= curve.params["epochs"]
        assert all(0 <= value <= 1 for value in curve.accuracy)
        FULL.arm(curve.arm).sample(lambda key, _, curve=curve: curve.params[key])  # it has every parameter that applies


def test_costs_are_counted_by_arm_and_seed():
    curves = [
        a_curve(0.9 - 0.05 * place, arm=arm, **dict(configurations(10)[place].params))
        for arm in ("mse", "l1")
        for place in range(10)
    ]
    goals = {"mse": 0.9, "l1": 0.9}

    def run(arm, own, goal, seed):
        assert {curve.arm for curve in own} == {arm.name}
        return replay(own, AtRandom(seed), never, goals=goal)

    cost = search.cost_of(run, curves, goals, 3)
    assert cost.epochs.shape == cost.reached.shape == (2, 3)
    assert cost.reached.all()
    assert ((cost.epochs >= EPOCHS) & (cost.epochs <= 10 * EPOCHS)).all()


def test_the_study_s_own_rule_is_among_those_compared():
    assert default_grace(FULL) in search.GRACE_PERIODS
    assert REDUCTION_FACTOR in search.REDUCTION_FACTORS
    assert search.OURS in search.strategies(FULL)
    assert np.isfinite(search.MAX_RATIO)
