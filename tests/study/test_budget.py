"""`--time-budget` under a clock of our own: what starts, what is reserved, what is cut off."""

import heapq
import itertools
import math
from collections import Counter

import optuna
import pytest
from ray.tune.search import Searcher

from search_spaces.smoke import STUDY
from study.budget import REPORT_SECONDS, RESERVE_SHARE, TimeBudget
from study.confirm import confirm_seeds, find_winners, plan_confirmation
from study.ledger import COMPLETED, CONFIRM, CONTROL, INTERRUPTED, PRUNED, SEARCH, Ledger, Request, TrialRecord
from study.search import StudySearcher, build_searches

SEEDS = STUDY.seeds
ARMS = [arm.name for arm in STUDY.arms]
TRIALS_A_SEED = len(ARMS) + len(STUDY.controls)


@pytest.fixture(autouse=True)
def quiet_optuna():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


class Clock:
    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


def a_budget(limit, ledger, *, clock=None, started=1000.0, seeds=SEEDS, slots=2):
    return TimeBudget(limit, STUDY, ledger, seeds=seeds, slots=slots, started=started, clock=clock or Clock())


def a_ledger(seconds=4.0, arms=ARMS, trials=1, stop_reason=COMPLETED):
    ledger = Ledger()
    for number, arm in itertools.product(range(trials), arms):
        request = Request(arm, SEARCH, number, {"epochs": 8})
        ledger.records[request.key] = TrialRecord(
            request, epoch=8, val_accuracy=0.9, seconds=seconds, stop_reason=stop_reason
        )
    return ledger


class Simulation:
    """The real searcher, confirmation and budget on a simulated machine: an epoch takes as long as we say."""

    def __init__(self, limit, *, epoch_seconds=1.0, confirm_factor=1.0, slots=2, trials=300):
        self.clock, self.ledger = Clock(), Ledger()
        self.limit, self.slots = limit, slots
        self.epoch_seconds, self.confirm_factor = epoch_seconds, confirm_factor
        self.budget = a_budget(limit, self.ledger, clock=self.clock, slots=slots)
        storage = optuna.storages.InMemoryStorage()
        self.searcher = StudySearcher(
            build_searches(STUDY, storage, "s", mode="arms", sampler="random", trials=trials, seed=0),
            self.ledger,
            recalled={},
            arm_of=lambda label, config: label,
            plan_confirmation=self.confirmation,
            may_start_round=self.budget.search_round_fits,
            max_concurrent=None,
            to_config=lambda request: {"config": dict(request.config)},
        )
        self.search_ended = math.nan
        self.run()

    def confirmation(self):
        self.search_ended = self.clock.now
        winners = find_winners(STUDY, self.ledger)
        return plan_confirmation(STUDY, winners, confirm_seeds(0, SEEDS), self.budget.confirm_round_fits)

    def seconds_of_an_epoch(self, request):
        return self.epoch_seconds * (1.0 if request.phase == SEARCH else self.confirm_factor)

    def run(self):
        ids, running = itertools.count(), []
        while True:
            while len(running) < self.slots:
                trial_id = f"id{next(ids)}"
                suggestion = self.searcher.suggest(trial_id)
                if suggestion is None:
                    break
                if suggestion == Searcher.FINISHED:
                    return
                request = self.ledger.records[suggestion["key"]].request
                heapq.heappush(running, (self.clock.now + self.seconds_of_an_epoch(request), trial_id, 1, request))
            self.epoch_ends(running)

    def epoch_ends(self, running):
        self.clock.now, trial_id, epoch, request = heapq.heappop(running)
        pace = self.seconds_of_an_epoch(request)
        result = {"epoch": epoch, "val_accuracy": 0.1 * epoch, "val_nll": 1.0, "diverged": 0.0}
        result["trial_seconds"] = epoch * pace
        if epoch == request.config["epochs"]:
            self.searcher.on_trial_complete(trial_id, result)
            return
        self.searcher.on_trial_result(trial_id, result)
        if self.budget.expired(request.phase):  # as the scheduler does
            self.ledger.note_end(request.key, INTERRUPTED)
            self.searcher.on_trial_complete(trial_id, result)
        else:
            heapq.heappush(running, (self.clock.now + pace, trial_id, epoch + 1, request))

    @property
    def seconds(self):
        return self.clock.now - 1000.0

    def count(self, phase):
        return Counter(record.request.arm for record in self.ledger.of_phase(phase))

    def seeds(self):
        """Seeds by the number of their trials that ended well."""
        ended = self.ledger.of_phase(CONFIRM) + self.ledger.of_phase(CONTROL)
        return Counter(record.request.number for record in ended if record.stop_reason == COMPLETED)


def test_without_a_limit_everything_may_start_and_nothing_expires():
    budget = a_budget(None, a_ledger(seconds=1e9))
    assert budget.left == math.inf
    assert budget.search_round_fits()
    assert budget.confirm_round_fits([Request(arm, CONFIRM, 1, {}) for arm in ARMS])
    assert not budget.expired(SEARCH)
    assert not budget.expired(CONFIRM)


def test_time_left_runs_down_with_the_clock_and_keeps_the_reports_share():
    clock = Clock()
    budget = a_budget(100, Ledger(), clock=clock)
    assert budget.left == 100 - REPORT_SECONDS
    clock.now += 30
    assert budget.left == 70 - REPORT_SECONDS


def test_time_before_the_phases_counts():
    assert a_budget(100, Ledger(), started=940.0).left == 40 - REPORT_SECONDS


def test_first_round_starts_whatever_it_may_cost_if_there_is_any_time():
    assert a_budget(REPORT_SECONDS + 1, Ledger()).search_round_fits()
    assert not a_budget(REPORT_SECONDS - 1, Ledger()).search_round_fits()


def test_reserve_covers_every_arm_and_control_on_every_seed():
    needed = 4.0 * TRIALS_A_SEED * SEEDS / 2
    reserve = a_budget(1000, a_ledger(4.0)).confirmation_seconds()
    assert needed <= reserve <= 2 * needed
    assert a_budget(1000, a_ledger(4.0), seeds=2 * SEEDS).confirmation_seconds() == pytest.approx(2 * reserve)
    assert a_budget(1000, a_ledger(4.0), slots=4).confirmation_seconds() == pytest.approx(reserve / 2)


def test_reserve_counts_arms_that_have_no_winner_yet():
    all_of_them = a_budget(1000, a_ledger(4.0)).confirmation_seconds()
    assert a_budget(1000, a_ledger(4.0, arms=ARMS[:1])).confirmation_seconds() == pytest.approx(all_of_them)
    assert a_budget(1000, a_ledger(4.0, stop_reason=PRUNED)).confirmation_seconds() == 0.0


def test_round_of_the_search_costs_a_trial_of_every_arm():
    assert a_budget(1000, Ledger()).round_seconds() == 0.0
    cost = a_budget(1000, a_ledger(4.0, trials=3)).round_seconds()
    assert 4.0 * len(ARMS) / 2 <= cost <= 4.5 * len(ARMS) / 2


def test_round_of_the_search_starts_only_if_the_confirmation_keeps_its_reserve():
    ledger = a_ledger(4.0)
    free = a_budget(None, ledger)
    needed = free.round_seconds() + free.confirmation_seconds() + REPORT_SECONDS
    limit = 10 * needed
    for left, fits in ((needed + 0.1, True), (needed - 0.1, False)):
        assert a_budget(limit, ledger, started=1000.0 - limit + left).search_round_fits() is fits


def test_reserve_is_the_estimate_but_never_more_than_a_share_of_the_whole():
    ledger = a_ledger(4.0)
    estimate = a_budget(None, ledger).confirmation_seconds()
    assert a_budget(None, ledger).reserve() == estimate
    assert a_budget(10 * estimate, ledger).reserve() == estimate
    assert a_budget(estimate, ledger).reserve() == RESERVE_SHARE * estimate


def test_running_search_trial_gives_way_to_the_reserve_and_a_confirm_trial_only_to_the_end():
    ledger = a_ledger(4.0)
    reserve = a_budget(None, ledger).confirmation_seconds()
    limit = 10 * reserve
    before, at = (
        a_budget(limit, ledger, started=1000.0 - limit + REPORT_SECONDS + reserve + spare) for spare in (0.1, -0.1)
    )
    assert (before.expired(SEARCH), at.expired(SEARCH)) == (False, True)
    assert (before.expired(CONFIRM), at.expired(CONFIRM)) == (False, False)
    over = a_budget(REPORT_SECONDS, ledger)
    assert over.expired(CONFIRM)
    assert over.expired(CONTROL)


def test_seed_of_the_confirmation_starts_only_if_all_its_trials_fit():
    requests = [Request(arm, CONFIRM, 1, {}) for arm in ARMS]
    needed = 4.0 * len(ARMS) / 2 + REPORT_SECONDS
    assert not a_budget(needed - 0.1, a_ledger(4.0)).confirm_round_fits(requests)
    assert a_budget(2 * needed, a_ledger(4.0)).confirm_round_fits(requests)


def test_estimate_of_the_time_left_starts_with_the_first_end_shrinks_and_stays_within_the_limit():
    assert a_budget(None, Ledger()).seconds_left(12) is None
    early, later = (a_budget(None, a_ledger(4.0, trials=n)).seconds_left(12) for n in (1, 3))
    assert early > later > a_budget(None, a_ledger(4.0)).confirmation_seconds() * 0.9
    ledger = a_ledger(4.0, trials=4)
    searched = a_budget(None, ledger).seconds_left(12)
    for arm in ARMS:
        request = Request(arm, CONFIRM, 1, {})
        ledger.records[request.key] = TrialRecord(request, stop_reason=COMPLETED)
    assert a_budget(None, ledger).seconds_left(12) < searched
    assert a_budget(REPORT_SECONDS + 5, ledger).seconds_left(12) == 5


@pytest.mark.parametrize("slots", [1, 2, 5])
@pytest.mark.parametrize("limit", [240, 400, 900])
def test_study_within_a_time_budget_searches_whole_rounds_and_confirms_every_seed_in_time(limit, slots):
    study = Simulation(limit * 2 / slots, slots=slots)
    trials = set(study.count(SEARCH).values())
    assert len(trials) == 1, "every arm had the same number of trials"
    assert 1 <= trials.pop() < 300, "the limit, not the space, ended the search"
    assert study.seeds() == dict.fromkeys(confirm_seeds(0, SEEDS), TRIALS_A_SEED)
    assert study.seconds <= study.limit - REPORT_SECONDS


def test_longer_budget_is_spent_on_more_rounds():
    rounds = [Simulation(limit).count(SEARCH)[ARMS[0]] for limit in (300, 450, 600)]
    assert rounds[0] < rounds[1] < rounds[2]


def test_budget_that_is_not_needed_is_not_spent():
    study = Simulation(10_000, trials=3)
    assert study.count(SEARCH) == dict.fromkeys(ARMS, 3)
    assert study.seconds < 400


def test_search_leaves_the_confirmation_its_time():
    study = Simulation(400)
    assert study.limit - REPORT_SECONDS - (study.search_ended - 1000) >= study.seconds - (study.search_ended - 1000)
    assert all(r.stop_reason in (COMPLETED, INTERRUPTED) for r in study.ledger.of_phase(SEARCH))


@pytest.mark.parametrize("confirm_factor", [1.5, 2.0])
def test_confirmation_that_turns_out_slower_is_cut_after_the_time_and_loses_at_most_its_last_seed(confirm_factor):
    study = Simulation(400, confirm_factor=confirm_factor)
    complete = [seed for seed, count in sorted(study.seeds().items()) if count == TRIALS_A_SEED]
    assert complete == confirm_seeds(0, len(complete))
    assert 1 <= len(complete) < SEEDS
    assert len(study.seeds()) <= len(complete) + 1
    assert study.seconds <= study.limit - REPORT_SECONDS + 2 * confirm_factor


def test_confirmation_stops_between_seeds_where_the_next_one_does_not_fit():
    study = Simulation(340, confirm_factor=1.3)
    assert set(study.seeds().values()) == {TRIALS_A_SEED}
    assert all(r.stop_reason == COMPLETED for r in study.ledger.of_phase(CONFIRM))


def test_budget_too_short_for_a_single_trial_ends_at_once_and_names_no_winner():
    study = Simulation(REPORT_SECONDS + 2)
    assert find_winners(STUDY, study.ledger) == dict.fromkeys(ARMS)
    assert study.count(SEARCH) == dict.fromkeys(ARMS, 1), "begun as a whole round"
    assert study.count(CONFIRM) == {}
    assert study.seconds <= 6


@pytest.mark.parametrize("limit", [45, 60, 90])
def test_budget_too_short_for_all_seeds_still_finds_every_arm_a_winner_and_confirms_what_fits(limit):
    study = Simulation(limit)
    assert None not in find_winners(STUDY, study.ledger).values()
    assert len(set(study.count(SEARCH).values())) == 1
    assert len(study.seeds()) < SEEDS
    assert study.seconds <= limit - REPORT_SECONDS


class Unread(Ledger):
    """A ledger at which nobody may look."""

    def of_phase(self, phase):
        raise AssertionError


@pytest.mark.parametrize(("limit", "spent"), [(None, 1e6), (1000.0, 300.0)])
def test_whether_a_trial_goes_on_is_not_asked_of_all_trials_while_the_answer_is_clear(limit, spent):
    clock = Clock()
    budget = a_budget(limit, Unread(), clock=clock)
    clock.now += spent
    assert not budget.expired(SEARCH)


def test_without_a_limit_nobody_looks_at_all_trials_before_a_round():
    budget = a_budget(None, Unread())
    assert budget.search_round_fits()
    assert budget.confirm_round_fits([])
