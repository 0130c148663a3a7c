"""One Optuna study per arm that is told the truth, and the searcher that deals trials to them in turn."""

import itertools
import math
import pickle
import random
from collections import Counter

import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from search_spaces.arms import Arm, Categorical, Float, Integer, Parameter, Study
from search_spaces.full import LEARNING_RATES
from search_spaces.full import STUDY as FULL
from search_spaces.smoke import STUDY as SMOKE
from study.ledger import COMPLETED, CONFIRM, DIVERGED, FAILED, INTERRUPTED, PRUNED, SEARCH, Ledger, Request, TrialRecord
from study.search import REMEMBERED, ArmSearch, StudySearcher, _Recent, build_searches, derive_seed
from trainables.config import TrialConfig

SEED = 11


@pytest.fixture(autouse=True)
def quiet_optuna():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def searches_of(study, *, mode="arms", sampler="tpe", trials=3, seed=SEED, storage=None):
    storage = storage or optuna.storages.InMemoryStorage()
    return build_searches(study, storage, "s", mode=mode, sampler=sampler, trials=trials, seed=seed)


def a_grid_study():
    rate = Parameter("optimizer.learning_rate", Categorical((0.1, 0.01)))
    momentum = Parameter("optimizer.momentum", Categorical((0.0, 0.5, 0.9)), {"optimizer": ("sgd",)})
    fixed = {"model": "mlp", "batch_size": 32, "epochs": 4}
    return Study(
        "grid",
        "?",
        "loss",
        (
            Arm("mse", {**fixed, "loss": "mse", "optimizer": "adam"}, (rate, momentum)),
            Arm("l1", {**fixed, "loss": "l1"}, (Parameter("optimizer", Categorical(("sgd", "adam"))), rate, momentum)),
            Arm("focal", {**fixed, "loss": "focal", "optimizer": "adam"}, (rate, Parameter("width", Integer(8, 10)))),
        ),
        "mse",
    )


def a_result(epoch, val_accuracy=0.5, diverged=0.0):
    values = {"epoch": epoch, "val_accuracy": val_accuracy, "val_nll": 1.0, "diverged": diverged, "trial_seconds": 0.1}
    return {**values, "rows": []}


class Stage:
    """A searcher, and Tune's part played around it."""

    def __init__(self, study=SMOKE, *, mode="arms", confirmation=(), max_concurrent=None, rounds=math.inf, **how):
        self.ledger = Ledger()
        self.rounds_asked = 0
        self.storage = optuna.storages.InMemoryStorage()
        self.searches = searches_of(study, mode=mode, storage=self.storage, **how)
        self.confirmations_planned = []
        self.ids = itertools.count()

        def may_start_round():
            self.rounds_asked += 1
            return self.rounds_asked <= rounds

        def plan_confirmation():
            self.confirmations_planned.append([record.stop_reason for record in self.ledger.of_phase(SEARCH)])
            return iter(confirmation)

        self.searcher = StudySearcher(
            self.searches,
            self.ledger,
            recalled={},
            arm_of=lambda label, config: label if mode == "arms" else config["loss"],
            plan_confirmation=plan_confirmation,
            may_start_round=may_start_round,
            max_concurrent=max_concurrent,
            to_config=lambda request: {"config": dict(request.config), "arm": request.arm},
        )

    def ask(self):
        """The Tune id of the next trial and what was suggested."""
        trial_id = f"id{next(self.ids)}"
        return trial_id, self.searcher.suggest(trial_id)

    def end(self, trial_id, epoch=4, val_accuracy=0.5, *, diverged=0.0, error=False):
        result = None if error else a_result(epoch, val_accuracy, diverged)
        self.searcher.on_trial_complete(trial_id, result, error=error)

    def play(self, *, slots=2, seed=0):
        """Run to the end, trials finishing in random order; what was suggested, in order."""
        running, suggested, generator = [], [], random.Random(seed)
        while True:
            trial_id, suggestion = self.ask() if len(running) < slots else (None, None)
            if suggestion == Searcher.FINISHED:
                return suggested
            if suggestion is not None:
                suggested.append(suggestion)
                running.append((trial_id, suggestion))
                continue
            ended, what = running.pop(generator.randrange(len(running)))
            self.end(ended, epoch=what["config"]["epochs"], val_accuracy=generator.random())

    def frozen(self, label):
        return optuna.load_study(study_name=f"s/{label}", storage=self.storage).trials


def record_of(search, number, config, *, stop_reason=COMPLETED, val_accuracy=0.5, epoch=4):
    request = Request(search.label, SEARCH, number, config, group=search.label)
    return TrialRecord(request, epoch=epoch, val_accuracy=val_accuracy, stop_reason=stop_reason)


def converse(search, count, score):
    """Ask and tell ``count`` times; the proposals."""
    proposals = []
    for _ in range(count):
        number, config = search.ask()
        search.tell(record_of(search, number, config, val_accuracy=score(config)))
        proposals.append(config)
    return proposals


def near(rate):
    return lambda config: 0.9 - 0.1 * abs(math.log10(config["optimizer.learning_rate"] / rate))


@pytest.mark.parametrize(("slots", "trials"), [(1, 4), (3, 5), (25, 3)])
def test_every_arm_gets_exactly_its_budget_dealt_in_turn(slots, trials):
    stage = Stage(FULL, trials=trials)
    arms = [suggestion["arm"] for suggestion in stage.play(slots=slots)]
    assert arms == [arm.name for arm in FULL.arms] * trials


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_every_proposal_is_a_trial_of_its_arm_with_the_studys_seed(sampler):
    stage = Stage(FULL, sampler=sampler, trials=3)
    for suggestion in stage.play():
        flat = suggestion["config"]
        assert TrialConfig.from_flat(flat).to_flat() == flat
        assert (flat["loss"], flat["seed"]) == (suggestion["arm"], SEED)


def test_suggestion_carries_its_key_and_a_rising_index():
    suggested = Stage(trials=2).play()
    assert [suggestion["key"] for suggestion in suggested] == [
        f"{arm.name}/search/{number}" for number in range(2) for arm in SMOKE.arms
    ]
    assert [suggestion["index"] for suggestion in suggested] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_conditional_parameters_are_proposed_only_where_they_apply(sampler):
    stage = Stage(FULL, sampler=sampler, trials=8)
    stage.play()
    seen = Counter()
    for arm in FULL.arms:
        for trial in stage.frozen(arm.name):
            seen[trial.params["optimizer"]] += 1
            assert ("optimizer.momentum" in trial.params) == (trial.params["optimizer"] == "sgd")
            assert ("loss.gamma" in trial.params) == (arm.name == "focal")
            assert ("loss.margin" in trial.params) == (arm.name == "hinge")
    assert seen.keys() == LEARNING_RATES.keys()


@pytest.mark.parametrize("best_rate", [3e-5, 5.0])
def test_learning_rates_stay_inside_their_optimizers_own_range_however_many_trials_tpe_has_seen(best_rate):
    # The best rate lies outside the range of most optimizers, so that the model is drawn out of their ranges.
    (search,) = (s for s in searches_of(FULL, trials=120) if s.label == "mse")
    proposals = converse(search, 120, near(best_rate))
    for config in proposals:
        low, high = LEARNING_RATES[config["optimizer"]]
        assert low <= config["optimizer.learning_rate"] <= high
    assert len({config["optimizer"] for config in proposals}) == 4


def test_tpe_searches_where_it_found_good_trials():
    def error_of_the_second_half(sampler, seed):
        (search,) = (s for s in searches_of(FULL, trials=60, sampler=sampler, seed=seed) if s.label == "mse")
        proposals = converse(search, 60, near(1e-3))
        return sum(abs(math.log10(config["optimizer.learning_rate"] / 1e-3)) for config in proposals[30:])

    errors = {name: sum(error_of_the_second_half(name, seed) for seed in range(3)) for name in ("tpe", "random")}
    assert errors["tpe"] < 0.7 * errors["random"]


@pytest.mark.parametrize(("forgotten", "same"), [(20, True), (-20, False)])
def test_a_proposal_is_made_from_the_last_trials_so_that_its_cost_is_bounded(forgotten, same):
    study = Study("one", "?", "loss", (FULL.arm("mse"),), "mse")
    count = REMEMBERED + forgotten
    source = optuna.storages.InMemoryStorage()
    (search,) = searches_of(study, sampler="random", trials=count, storage=source)
    converse(search, count, near(1e-2))
    trials = optuna.load_study(study_name="s/mse", storage=source).trials

    def propose(first_values):
        storage = optuna.storages.InMemoryStorage()
        known = optuna.create_study(storage=storage, study_name="s/mse", direction="maximize")
        for trial, value in itertools.zip_longest(trials, first_values):
            known.add_trial(trial if value is None else _with_value(trial, value))
        (search,) = searches_of(study, trials=10_000, storage=storage)
        return search.ask()

    one, other = propose([0.99] * 20), propose([0.01] * 20)
    assert one[0] == other[0] == count
    assert (one == other) is same


@pytest.mark.parametrize("states", [None, (TrialState.COMPLETE,), (TrialState.COMPLETE, TrialState.PRUNED)])
def test_what_a_proposal_is_made_from_are_the_last_trials_of_the_states_it_asks_for(states):
    storage = optuna.storages.InMemoryStorage()
    study = _Recent(optuna.create_study(storage=storage, direction="maximize").study_name, storage)
    generator = random.Random(0)
    for number in range(2 * REMEMBERED):
        state = generator.choice([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
        value = float(number) if state == TrialState.COMPLETE else None
        study.add_trial(optuna.trial.create_trial(state=state, value=value))
    every = optuna.load_study(study_name=study.study_name, storage=storage).get_trials(deepcopy=False, states=states)
    for how in ({}, {"use_cache": True}, {"deepcopy": False}):
        assert study._get_trials(states=states, **how) == every[-REMEMBERED:]
    assert study._get_trials(deepcopy=False)[-1] is every[-1] or states is not None
    assert study._get_trials()[-1] is not study._get_trials(deepcopy=False)[-1]


def test_a_proposal_looks_at_no_more_trials_the_more_there_are(monkeypatch):
    looked = []

    class Trial:
        @property
        def state(self):
            looked.append(self)
            return TrialState.COMPLETE

    trials = [Trial() for _ in range(10 * REMEMBERED)]
    monkeypatch.setattr(_Recent, "all_trials", trials)
    study = optuna.create_study(direction="maximize")
    recent = _Recent(study.study_name, study._storage)
    assert recent._get_trials(False, (TrialState.COMPLETE,), True) == trials[-REMEMBERED:]
    assert len(looked) == REMEMBERED


def _with_value(trial, value):
    return optuna.trial.create_trial(params=trial.params, distributions=trial.distributions, value=value)


def test_half_of_a_small_budget_is_random_before_tpe_takes_over():
    def propose(best_rate):
        (search,) = (s for s in searches_of(FULL, trials=16) if s.label == "mse")
        return converse(search, 16, near(best_rate))

    one, other = propose(1e-3), propose(1e-1)
    assert one[:8] == other[:8], "what came back changes nothing yet"
    assert one[8:] != other[8:]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_same_seed_gives_the_same_proposals_and_another_seed_others(sampler):
    def propose(seed):
        return [s["config"] for s in Stage(sampler=sampler, trials=6, seed=seed).play()]

    first = propose(3)
    assert propose(3) == first
    assert {tuple(config.items()) for config in propose(4)}.isdisjoint({tuple(config.items()) for config in first})


def test_proposals_of_an_arm_do_not_depend_on_the_other_arms():
    alone = Study("one", "?", "loss", (FULL.arm("focal"),), "focal")
    (by_itself,) = searches_of(alone, trials=12)
    (among_ten,) = (s for s in searches_of(FULL, trials=12) if s.label == "focal")
    assert converse(by_itself, 12, near(1e-2)) == converse(among_ten, 12, near(1e-2))


def test_arms_do_not_repeat_each_others_random_proposals():
    rates = [s.ask()[1]["optimizer.learning_rate"] for s in searches_of(FULL, sampler="random")]
    assert len(set(rates)) == len(rates)


def test_seed_of_a_proposal_is_the_same_on_every_machine():
    assert derive_seed(0, "focal", 3) == 1221706881
    assert len({derive_seed(0, "focal", n) for n in range(100)} | {derive_seed(1, "focal", 0)}) == 101


def test_grid_proposes_every_point_of_every_arm_once_and_arms_in_proportion():
    study = a_grid_study()
    stage = Stage(study, sampler="grid")
    suggested = stage.play()
    points = Counter((s["arm"], tuple(sorted(s["config"].items()))) for s in suggested)
    assert set(points.values()) == {1}
    assert Counter(s["arm"] for s in suggested) == {"mse": 2, "l1": 8, "focal": 6}
    wanted = {
        (arm.name, tuple(sorted(TrialConfig.from_flat({**values, "seed": SEED}).to_flat().items())))
        for arm in study.arms
        for values in arm.grid()
    }
    assert points.keys() == wanted
    half = Counter(s["arm"] for s in suggested[:8])
    assert (half["mse"], half["l1"], half["focal"]) == (1, 4, 3), "at any time, equal shares of their grids"


def test_one_optuna_study_for_each_arm_lies_in_the_one_storage():
    stage = Stage(trials=2)
    stage.play()
    names = optuna.get_all_study_names(stage.storage)
    assert sorted(names) == ["s/cross_entropy", "s/focal", "s/kl_div"]


def test_joint_mode_searches_all_arms_in_one_optuna_study_and_counts_trials_for_their_arms():
    stage = Stage(FULL, mode="joint", sampler="random", trials=4)
    suggested = stage.play()
    assert len(suggested) == 4 * len(FULL.arms) == len(stage.frozen("joint"))
    assert {s["config"]["loss"] for s in suggested} == {s["arm"] for s in suggested}
    assert all(s["config"]["loss"] == s["arm"] for s in suggested)
    assert all(record.request.group == "joint" for record in stage.ledger.of_phase(SEARCH))
    assert optuna.get_all_study_names(stage.storage) == ["s/joint"]


def test_completed_trial_is_complete_with_its_last_value_and_every_reported_one():
    stage = Stage(trials=1)
    trial_id, suggestion = stage.ask()
    stage.searcher.on_trial_result(trial_id, a_result(2, 0.6))
    stage.searcher.on_trial_result(trial_id, a_result(3, 0.7))
    stage.end(trial_id, epoch=suggestion["config"]["epochs"], val_accuracy=0.8)
    (trial,) = stage.frozen("cross_entropy")
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.8)
    assert trial.intermediate_values == {2: 0.6, 3: 0.7, suggestion["config"]["epochs"]: 0.8}
    assert trial.user_attrs == {"stop_reason": COMPLETED, "arm": "cross_entropy"}


def test_stopped_trial_is_pruned_and_keeps_its_intermediate_values():
    stage = Stage(trials=1)
    trial_id, _ = stage.ask()
    stage.searcher.on_trial_result(trial_id, a_result(2, 0.3))
    stage.searcher.on_trial_result(trial_id, a_result(3, 0.2))
    stage.end(trial_id, epoch=3, val_accuracy=0.2)
    (trial,) = stage.frozen("cross_entropy")
    assert trial.state == TrialState.PRUNED
    assert trial.intermediate_values == {2: 0.3, 3: 0.2}
    assert trial.user_attrs["stop_reason"] == PRUNED


@pytest.mark.parametrize("reported", [True, False])
def test_failed_trial_is_failed(reported):
    stage = Stage(trials=1)
    trial_id, _ = stage.ask()
    if reported:
        stage.searcher.on_trial_result(trial_id, a_result(2, 0.9))
    stage.end(trial_id, error=True)
    (trial,) = stage.frozen("cross_entropy")
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs["stop_reason"] == FAILED


def test_diverged_trial_is_complete_at_chance_and_flagged():
    stage = Stage(trials=1)
    trial_id, _ = stage.ask()
    stage.end(trial_id, epoch=2, val_accuracy=0.1, diverged=1.0)
    (trial,) = stage.frozen("cross_entropy")
    assert (trial.state, trial.value, trial.user_attrs["stop_reason"]) == (TrialState.COMPLETE, 0.1, DIVERGED)


def test_trials_left_running_go_on_some_day_so_to_optuna_they_have_not_ended():
    stage = Stage(trials=2)
    (first, _), (second, _), (third, _) = stage.ask(), stage.ask(), stage.ask()
    stage.end(second)
    stage.searcher.on_trial_result(first, a_result(1, 0.4))
    left = stage.searcher.finish()
    assert [(r.request.arm, r.stop_reason) for r in left] == [("cross_entropy", INTERRUPTED), ("focal", INTERRUPTED)]
    assert third
    for label in ("cross_entropy", "focal"):
        (trial,) = stage.frozen(label)
        assert (trial.state, trial.user_attrs) == (TrialState.RUNNING, {})
    assert stage.searcher.finish() == []


def test_result_told_twice_is_reported_to_optuna_once():
    stage = Stage(trials=1)
    trial_id, _ = stage.ask()
    for _ in range(2):
        stage.searcher.on_trial_result(trial_id, a_result(2, 0.5))
    (trial,) = stage.frozen("cross_entropy")
    assert trial.intermediate_values == {2: 0.5}


def confirm_requests(count):
    config = TrialConfig.from_flat(
        {
            "loss": "mse",
            "optimizer": "sgd",
            "optimizer.learning_rate": 0.1,
            "model": "mlp",
            "batch_size": 8,
            "epochs": 4,
        }
    ).to_flat()
    return [Request("mse", CONFIRM, seed, {**config, "seed": seed}) for seed in range(1, count + 1)]


def test_confirmation_waits_until_the_last_search_trial_has_ended():
    stage = Stage(trials=1, confirmation=confirm_requests(2))
    asked = [stage.ask() for _ in SMOKE.arms]
    for trial_id, _ in asked:
        assert stage.ask()[1] is None
        assert stage.confirmations_planned == []
        stage.end(trial_id, epoch=8)
    confirm = [stage.ask() for _ in range(2)]
    assert [suggestion["key"] for _, suggestion in confirm] == ["mse/confirm/1", "mse/confirm/2"]
    assert stage.confirmations_planned == [[COMPLETED] * len(SMOKE.arms)]


def test_searcher_is_finished_only_when_the_last_confirmation_has_ended():
    stage = Stage(trials=1, confirmation=confirm_requests(1))
    for trial_id, _ in [stage.ask() for _ in SMOKE.arms]:
        stage.end(trial_id)
    (last, _), (_, nothing) = stage.ask(), stage.ask()
    assert nothing is None
    stage.end(last)
    assert stage.ask()[1] == Searcher.FINISHED
    assert stage.ask()[1] == Searcher.FINISHED
    assert len(stage.confirmations_planned) == 1


def test_study_without_anything_to_confirm_finishes_after_the_search():
    stage = Stage(trials=2)
    assert len(stage.play()) == 2 * len(SMOKE.arms)
    assert len(stage.confirmations_planned) == 1


def test_confirmation_is_asked_for_one_trial_at_a_time():
    handed = []

    def lazily():
        for request in confirm_requests(3):
            handed.append(request.number)
            yield request

    stage = Stage(trials=1, confirmation=lazily())
    for trial_id, _ in [stage.ask() for _ in SMOKE.arms]:
        stage.end(trial_id)
    stage.ask()
    assert handed == [1]


def test_confirmation_is_not_told_to_optuna():
    stage = Stage(trials=1, confirmation=confirm_requests(3))
    stage.play()
    assert sum(len(stage.frozen(arm.name)) for arm in SMOKE.arms) == len(SMOKE.arms)
    assert [r.stop_reason for r in stage.ledger.of_phase(CONFIRM)] == [COMPLETED] * 3


@pytest.mark.parametrize("limit", [1, 2])
def test_no_more_trials_run_at_once_than_allowed(limit):
    stage = Stage(trials=2, max_concurrent=limit, confirmation=confirm_requests(4))
    running = [stage.ask()[0] for _ in range(limit)]
    assert stage.ask()[1] is None
    stage.end(running[0])
    assert stage.ask()[1] is not None
    assert stage.ask()[1] is None


@pytest.mark.parametrize("rounds", [0, 1, 3])
@pytest.mark.parametrize("slots", [1, 2, 7])
def test_search_that_runs_out_of_time_ends_on_a_whole_round_of_arms(rounds, slots):
    stage = Stage(FULL, sampler="random", trials=5, rounds=rounds)
    arms = Counter(suggestion["arm"] for suggestion in stage.play(slots=slots))
    assert arms == ({arm.name: rounds for arm in FULL.arms} if rounds else {})
    assert stage.rounds_asked == rounds + 1, "asked once a round, and never again"


def test_tune_pickles_nothing_of_it():
    assert pickle.loads(pickle.dumps(Stage().searcher)) == {}


def test_integer_and_real_ranges_are_proposed_as_such():
    fixed = {"loss": "mse", "optimizer": "sgd", "model": "mlp", "batch_size": 32, "epochs": 4}
    rate = Parameter("optimizer.learning_rate", Float(1e-3, 1.0, log=True))
    arm = Arm(
        "mse", fixed, (rate, Parameter("width", Integer(8, 128, log=True)), Parameter("hidden_layers", Integer(1, 3)))
    )
    search = ArmSearch("mse", arm, None, "s", sampler="random", trials=60, seed=0, fixed={"seed": 0})
    proposals = converse(search, 60, near(0.1))
    assert all(type(p["width"]) is type(p["hidden_layers"]) is int for p in proposals)
    assert {p["hidden_layers"] for p in proposals} == {1, 2, 3}
    assert sum(p["width"] <= 32 for p in proposals) > 20, "half of a logarithmic range lies below its geometric middle"
    assert sum(p["optimizer.learning_rate"] <= 10**-1.5 for p in proposals) > 20
