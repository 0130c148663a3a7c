"""The winner of an arm, and its retraining on fresh seeds beside the other arms' winners."""

import itertools
from dataclasses import replace

import pytest

from search_spaces.smoke import STUDY
from study.confirm import confirm_seeds, find_winners, plan_confirmation
from study.ledger import (
    COMPLETED,
    CONFIRM,
    CONTROL,
    DIVERGED,
    FAILED,
    INTERRUPTED,
    PRUNED,
    SEARCH,
    Ledger,
    Request,
    TrialRecord,
)

ARMS = [arm.name for arm in STUDY.arms]
RATES = {"cross_entropy": 0.01, "kl_div": 0.02, "focal": 0.03}


def a_record(arm, number, val_accuracy, *, epoch=8, val_nll=1.0, stop_reason=COMPLETED, phase=SEARCH):
    config = {"loss": arm, "optimizer": "adam", "optimizer.learning_rate": RATES[arm], "epochs": epoch, "seed": 0}
    request = Request(arm, phase, number, config)
    return TrialRecord(request, epoch=epoch, val_accuracy=val_accuracy, val_nll=val_nll, stop_reason=stop_reason)


def a_ledger(*records):
    return Ledger({record.request.key: record for record in records})


def winner_of(*records):
    """The number of the first arm's winner, whatever the order of the records."""
    numbers = set()
    for order in itertools.permutations(records):
        winner = find_winners(STUDY, a_ledger(*order))[ARMS[0]]
        numbers.add(None if winner is None else winner.request.number)
    (number,) = numbers
    return number


def winners(**changes):
    return {arm: a_record(arm, 3, 0.9) for arm in ARMS} | changes


def plan(found=None, *, seeds=(1, 2, 3), study=STUDY, rounds=99):
    allowed = iter([True] * rounds + [False])
    return list(plan_confirmation(study, winners() if found is None else found, seeds, lambda _: next(allowed)))


def test_winner_has_the_highest_validation_accuracy_at_its_last_epoch():
    assert winner_of(a_record(ARMS[0], 0, 0.8), a_record(ARMS[0], 1, 0.9), a_record(ARMS[0], 2, 0.85)) == 1


@pytest.mark.parametrize("stop_reason", [PRUNED, DIVERGED, FAILED, INTERRUPTED, None])
def test_only_a_completed_trial_wins(stop_reason):
    better = a_record(ARMS[0], 0, 0.99, stop_reason=stop_reason)
    assert winner_of(better, a_record(ARMS[0], 1, 0.2)) == 1
    assert winner_of(better) is None


def test_tie_goes_to_fewer_epochs_whatever_the_nll():
    long, short = a_record(ARMS[0], 0, 0.9, val_nll=0.1), a_record(ARMS[0], 1, 0.9, epoch=4, val_nll=2.0)
    assert winner_of(long, short) == 1


def test_tie_in_epochs_goes_to_the_lower_nll():
    assert winner_of(a_record(ARMS[0], 0, 0.9, val_nll=0.5), a_record(ARMS[0], 1, 0.9, val_nll=0.4)) == 1


def test_tie_in_everything_goes_to_the_earlier_trial():
    assert winner_of(*(a_record(ARMS[0], number, 0.9) for number in (4, 2, 3))) == 2


def test_arms_are_judged_apart_and_by_their_search_alone():
    ledger = a_ledger(
        a_record("focal", 0, 0.5),
        a_record("cross_entropy", 0, 0.9),
        a_record("focal", 1, 0.99, phase=CONFIRM),
        a_record("kl_div", 1, 0.99, phase=CONTROL),
    )
    found = find_winners(STUDY, ledger)
    assert list(found) == ARMS
    assert {arm: winner and winner.val_accuracy for arm, winner in found.items()} == {
        "cross_entropy": 0.9,
        "kl_div": None,
        "focal": 0.5,
    }


@pytest.mark.parametrize("seed", [0, 41])
def test_seeds_are_fresh_and_differ(seed):
    seeds = confirm_seeds(seed, 10)
    assert len(set(seeds)) == 10
    assert seed not in seeds
    assert confirm_seeds(seed, 4) == seeds[:4], "a longer confirmation extends a shorter one"


def test_every_arms_winner_is_retrained_on_every_seed_and_the_seeds_are_the_same():
    confirm = [request for request in plan() if request.phase == CONFIRM]
    assert {arm: [r.number for r in confirm if r.arm == arm] for arm in ARMS} == {arm: [1, 2, 3] for arm in ARMS}
    for request in confirm:
        assert request.config == {**winners()[request.arm].request.config, "seed": request.number}


def test_confirmation_goes_seed_by_seed_so_that_it_stays_paired():
    numbers = [request.number for request in plan()]
    assert numbers == sorted(numbers)


def test_control_takes_the_winner_of_the_arm_it_should_equal():
    requests = plan()
    control = [request for request in requests if request.phase == CONTROL]
    assert [(request.arm, request.number) for request in control] == [("kl_div", 1), ("kl_div", 2), ("kl_div", 3)]
    like = [request.config for request in requests if request.arm == "cross_entropy"]
    assert [{**request.config, "loss": "cross_entropy"} for request in control] == like
    assert {request.config["loss"] for request in control} == {"kl_div"}


def test_names_of_confirm_and_control_trials_of_one_arm_differ():
    requests = plan()
    assert len({request.key for request in requests}) == len({r.run_name for r in requests}) == len(requests)


def test_nothing_of_the_confirmation_belongs_to_an_optuna_study():
    assert {request.group for request in plan()} == {None}


@pytest.mark.parametrize(
    ("lacks", "expected"),
    [
        ("focal", [("cross_entropy", CONFIRM), ("kl_div", CONFIRM), ("kl_div", CONTROL)]),
        ("kl_div", [("cross_entropy", CONFIRM), ("focal", CONFIRM), ("kl_div", CONTROL)]),
        ("cross_entropy", [("kl_div", CONFIRM), ("focal", CONFIRM)]),
    ],
)
def test_arm_without_a_winner_is_left_out_and_with_it_the_control_that_needs_it(lacks, expected):
    assert [(request.arm, request.phase) for request in plan(winners(**{lacks: None}), seeds=[1])] == expected


def test_without_any_winner_there_is_nothing_to_confirm():
    assert plan(dict.fromkeys(ARMS)) == []


def test_study_without_controls_has_none():
    assert {request.phase for request in plan(study=replace(STUDY, controls={}))} == {CONFIRM}


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_confirmation_that_runs_out_of_time_ends_on_a_whole_seed(rounds):
    requests = plan(rounds=rounds)
    assert len(requests) == rounds * (len(ARMS) + 1)
    assert {request.number for request in requests} == set(range(1, rounds + 1))


def test_each_seed_is_asked_for_with_its_own_requests_when_its_turn_comes():
    asked = []

    def may_start_round(requests):
        asked.append([request.key for request in requests])
        return True

    requests = plan_confirmation(STUDY, winners(), [1, 2], may_start_round)
    assert asked == []
    first_seed = [next(requests).key for _ in range(4)]
    assert asked == [first_seed]
    second_seed = [request.key for request in requests]
    assert asked == [first_seed, second_seed]
