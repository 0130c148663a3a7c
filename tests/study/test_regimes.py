"""A reported study as stated and again with tuned rates: what is run, what is chosen, what is noted."""

import itertools
import statistics
from collections import Counter
from types import SimpleNamespace

import pytest

from search_spaces import loss_by_activation, loss_by_optimizer
from search_spaces.reported import LEARNING_RATES, pick, rate_in_mean
from study.confirm import confirm_seeds, search_seeds
from study.ledger import COMPLETED, CONFIRM, DIVERGED, FAILED, SEARCH, Ledger, Request, TrialRecord
from study.regimes import (
    best_rates,
    conduct_regimes,
    plan_fair,
    plan_grid,
    plan_stated,
    planned_epochs,
    planned_trials,
    rate_lines,
    regimes_of,
    seconds_left,
)

STUDY = loss_by_activation.STUDY
SMALL = pick(STUDY, ["tanh-focal", "tanh-cross_entropy", "tanh-focal-rate_1e-2"], "tanh-cross_entropy")
SEEDS = confirm_seeds(0, 10)


def an_options(regime, folder):
    """On a cluster, where nobody says how much is dealt at once."""
    return SimpleNamespace(
        regime=regime, seed=0, max_concurrent=None, replicas=1, max_failures=0, quiet=True, folder=folder,
        shared=folder, address="auto",
    )  # fmt: skip


def searched(study, accuracy, *, reason=lambda _request: COMPLETED):
    """A ledger in which the whole grid has been run; ``accuracy`` is asked for each request."""
    ledger = Ledger()
    for request in plan_grid(study, search_seeds(0)):
        ledger.records[request.key] = TrialRecord(
            request, epoch=10, val_accuracy=accuracy(request), stop_reason=reason(request), seconds=1.0
        )
    return ledger


def peaked(at):
    """Validation accuracy that is best at one step of the grid, with some noise between seeds."""
    return lambda request: 0.9 - 0.01 * abs(request.number % len(LEARNING_RATES) - at) + 0.001 * (request.number % 7)


def test_the_stated_regime_runs_every_arm_on_every_seed_exactly_as_stated():
    requests = list(plan_stated(STUDY, SEEDS))
    assert len(requests) == len(STUDY.arms) * len(SEEDS)
    assert len({request.key for request in requests}) == len(requests)
    for request in requests:
        fixed = STUDY.arm(request.arm).fixed
        assert {key: request.config[key] for key in fixed} == dict(fixed)
        assert (request.phase, request.regime, request.config["seed"]) == (CONFIRM, "stated", request.number)


def test_seeds_come_one_after_the_other_so_that_a_study_cut_short_stays_paired():
    numbers = [request.number for request in plan_stated(STUDY, SEEDS)]
    assert numbers == sorted(numbers)


def test_every_tuned_arm_has_the_same_grid_on_the_same_seeds():
    requests = list(plan_grid(STUDY, search_seeds(0)))
    tuned = {arm.name for arm in STUDY.reported_arms if arm.in_fair and not arm.rate_of}
    assert {request.arm for request in requests} == tuned
    for arm in tuned:
        own = [request for request in requests if request.arm == arm]
        assert Counter(request.config["seed"] for request in own) == dict.fromkeys(search_seeds(0), 12)
        rates = sorted(rate_in_mean(request.config) for request in own)
        assert rates == pytest.approx(sorted(LEARNING_RATES * 3))
        assert sorted(request.number for request in own) == list(range(36))


def test_where_gradients_are_summed_the_rate_is_divided_by_the_batch_size():
    request = next(r for r in plan_grid(STUDY, search_seeds(0)) if r.arm == "tanh-focal")
    assert request.config["optimizer.learning_rate"] == LEARNING_RATES[0] / 100
    request = next(plan_grid(loss_by_optimizer.STUDY, search_seeds(0)))
    assert request.config["optimizer.learning_rate"] == LEARNING_RATES[0]


def test_search_seeds_are_fresh_whatever_the_studys_seed():
    for seed in (0, 7, 99):
        assert not set(search_seeds(seed)) & set(confirm_seeds(seed, 1000))


@pytest.mark.parametrize("at", [0, 5, 11])
def test_the_rate_with_the_highest_mean_accuracy_over_the_seeds_wins(at):
    rates = best_rates(SMALL, searched(SMALL, peaked(at)))
    for arm in ("tanh-focal", "tanh-cross_entropy"):
        rate, accuracy = rates[arm]
        assert rate == LEARNING_RATES[at]
        assert accuracy == pytest.approx(
            statistics.fmean(peaked(at)(SimpleNamespace(number=at + 12 * k)) for k in range(3))
        )


def test_an_arm_stated_at_another_rate_only_is_not_in_the_fair_regime():
    assert set(best_rates(SMALL, searched(SMALL, peaked(3)))) == {"tanh-focal", "tanh-cross_entropy"}


def test_a_rate_counts_with_its_diverged_trials_and_not_with_failed_ones():
    def reason(request):
        step = request.number % len(LEARNING_RATES)
        return {4: FAILED, 5: DIVERGED}.get(step, COMPLETED) if request.number < len(LEARNING_RATES) else COMPLETED

    by_step = {4: 0.99, 5: 0.95, 6: 0.90}
    ledger = searched(SMALL, lambda request: by_step.get(request.number % len(LEARNING_RATES), 0.1), reason=reason)
    rates = best_rates(SMALL, ledger)
    assert rates["tanh-focal"] == (LEARNING_RATES[5], pytest.approx(0.95))


def test_equal_rates_are_decided_for_the_smaller_one():
    assert best_rates(SMALL, searched(SMALL, lambda _request: 0.5))["tanh-focal"] == (LEARNING_RATES[0], 0.5)


def test_an_arm_without_results_has_no_rate_and_is_left_out_of_the_confirmation():
    ledger = searched(SMALL, peaked(3), reason=lambda r: FAILED if r.arm == "tanh-focal" else COMPLETED)
    rates = best_rates(SMALL, ledger)
    assert rates["tanh-focal"] is None
    assert {request.arm for request in plan_fair(SMALL, rates, SEEDS)} == {"tanh-cross_entropy"}
    (line,) = [line for line in rate_lines(rates) if line.split()[0] == "tanh-focal"]
    assert "none" in line


def test_an_arm_that_takes_anothers_rate_is_confirmed_at_it():
    study = loss_by_optimizer.STUDY
    rates = best_rates(study, searched(study, peaked(8)))
    requests = {request.arm: request for request in plan_fair(study, rates, [1])}
    assert requests["sgd-focal_2-80_epochs"].config["optimizer.learning_rate"] == LEARNING_RATES[8]
    assert requests["sgd_then_adam-focal_2"].config["second_optimizer.learning_rate"] == 1e-3


def test_both_regimes_see_the_same_seeds():
    rates = best_rates(SMALL, searched(SMALL, peaked(3)))
    fair = {request.number for request in plan_fair(SMALL, rates, SEEDS)}
    assert fair == {request.number for request in plan_stated(SMALL, SEEDS)}


@pytest.mark.parametrize("regime", ["stated", "fair", "both"])
def test_trials_and_epochs_are_planned_as_they_are_dealt(regime, tmp_path):
    options = an_options(regime, tmp_path)
    ledger = Ledger()
    conduct = conduct_regimes(SMALL, options, ledger, slots=2, recalled={})
    for name in map(str, itertools.count()):
        config = conduct.dealer.suggest(name)
        if config == "FINISHED":
            break
        epochs = config["config"]["epochs"]
        result = {"epoch": epochs, "val_accuracy": 0.5, "val_nll": 1.0, "diverged": 0.0, "trial_seconds": 1.0}
        conduct.dealer.on_trial_complete(name, {**result, "rows": []})
    regimes = regimes_of(options)
    assert Counter(record.request.stage for record in ledger.records.values()) == planned_trials(SMALL, regimes)
    assert sum(record.epoch for record in ledger.records.values()) == sum(planned_epochs(SMALL, regimes).values())
    conclusion = conduct.conclusion()
    assert conclusion["notes"] == []
    assert set(conclusion["winners"]) == (set() if regime == "stated" else {"tanh-focal", "tanh-cross_entropy"})


def test_only_stated_trials_watch_the_test_split(tmp_path):
    options = an_options("both", tmp_path)
    conduct = conduct_regimes(loss_by_optimizer.STUDY, options, Ledger(), slots=2, recalled={})
    first = conduct.dealer.suggest("1")
    assert first["watch"] == ["test", "noise"]
    stated = len(loss_by_optimizer.STUDY.arms) * loss_by_optimizer.STUDY.seeds
    for number in range(2, stated + 1):
        conduct.dealer.suggest(str(number))
    search = conduct.dealer.suggest("search")
    assert (search["phase"], search["watch"]) == (SEARCH, [])


def test_a_stage_that_ended_early_is_noted(tmp_path):
    options = an_options("stated", tmp_path)
    ledger = Ledger()
    conduct = conduct_regimes(SMALL, options, ledger, slots=2, recalled={})
    conduct.dealer.suggest("1")
    conduct.dealer.finish()
    assert conduct.conclusion()["notes"] == ["The stated confirm stage ended after 0 of 30 trials."]


def test_time_left_follows_from_what_epochs_have_taken():
    ledger = searched(SMALL, peaked(3))  # 72 trials of 10 epochs at a tenth of a second
    assert seconds_left(ledger, 820, 2) == pytest.approx(100 * 0.1 / 2)
    assert seconds_left(Ledger(), 820, 2) is None


def test_time_left_is_that_of_the_device_on_which_the_study_goes_on():
    ledger = searched(SMALL, peaked(3))
    before = list(ledger.records)[:40]
    for key in before:
        ledger.records[key].seconds = 0.01
    assert seconds_left(ledger, 820, 2, before) == pytest.approx(100 * 0.1 / 2)
    # Before anything is trained here there is nothing better.
    assert seconds_left(ledger, 820, 2, list(ledger.records)) == pytest.approx(100 * (40 * 0.01 + 32) / 720 / 2)


def test_epochs_that_are_trained_are_not_waited_for_though_nothing_is_told_of_them():
    ledger = searched(SMALL, peaked(3))
    ledger.open(Request("tanh-focal", CONFIRM, 1, {"epochs": 100}, regime="fair"))
    ledger.note_untold("tanh-focal/fair-confirm/1", 40, 4.0)
    assert seconds_left(ledger, 820, 2) == pytest.approx(60 * 0.1 / 2)


def test_time_left_is_estimated_before_any_trial_has_ended():
    ledger = Ledger()
    for seed in (1, 2):
        ledger.open(Request("tanh-focal", CONFIRM, seed, {"epochs": 100}, regime="fair"))
        ledger.note_untold(f"tanh-focal/fair-confirm/{seed}", 10, 2.0)
    assert seconds_left(ledger, 200, 2) == pytest.approx(180 * 0.2 / 2)


def test_epochs_that_a_diverged_trial_does_not_train_are_not_waited_for():
    ledger = searched(SMALL, peaked(3))
    record = next(iter(ledger.records.values()))
    record.epoch, record.seconds = 2, 0.2
    assert seconds_left(ledger, 820, 2) == pytest.approx(100 * 0.1 / 2)
