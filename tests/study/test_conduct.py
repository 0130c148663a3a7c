"""What a tuned study says beside the trials themselves."""

import pytest

from search_spaces.smoke import STUDY
from study.conduct import describe_rungs, search_notes, winner_lines
from study.confirm import find_winners
from study.ledger import COMPLETED, CONFIRM, FAILED, PRUNED, Ledger, Request, TrialRecord
from study.phases import Outcome
from study.schedule import RungPlan

ARMS = [arm.name for arm in STUDY.arms]
FULL_SEARCH = dict.fromkeys(ARMS, (4, 4))


def a_record(arm, *, number=0, phase="search", stop_reason=COMPLETED):
    config = {"optimizer": "adam", "optimizer.learning_rate": 0.0125, "batch_size": 64, "epochs": 8}
    return TrialRecord(Request(arm, phase, number, config), epoch=8, val_accuracy=0.9512, stop_reason=stop_reason)


def a_ledger(*, seeds=STUDY.seeds, without=(), records=()):
    winners = [a_record(arm) for arm in ARMS if arm not in without]
    confirmed = [a_record(ARMS[0], number=seed, phase=CONFIRM) for seed in range(1, seeds + 1)]
    return Ledger({record.request.key: record for record in (*winners, *confirmed, *records)})


def test_study_that_ran_to_its_end_has_nothing_to_note():
    assert search_notes(STUDY, a_ledger(), FULL_SEARCH, STUDY.seeds) == []


@pytest.mark.parametrize(
    ("searched", "note"),
    [
        (dict.fromkeys(ARMS, (2, 4)), "The search ended after 2 of 4 trials per arm."),
        ({"cross_entropy": (3, 4), "kl_div": (3, 4), "focal": (2, 4)}, "The search ended after 2 of 4 trials per arm."),
        ({"joint": (5, 12)}, "The search ended after 5 of 12 trials."),
    ],
)
def test_search_that_ended_early_is_noted_with_its_own_budget(searched, note):
    assert search_notes(STUDY, a_ledger(), searched, STUDY.seeds) == [note]


@pytest.mark.parametrize(
    "searched", [{"cross_entropy": (2, 2), "kl_div": (8, 8), "focal": (6, 6)}, {"joint": (12, 12)}]
)
def test_grid_or_joint_search_that_ran_to_its_end_is_not_called_short(searched):
    assert search_notes(STUDY, a_ledger(), searched, STUDY.seeds) == []


def test_missing_winners_and_missing_seeds_are_noted():
    assert search_notes(STUDY, a_ledger(without=("focal",), seeds=2), FULL_SEARCH, STUDY.seeds) == [
        "Arm focal has no winner: none of its trials completed.",
        f"The confirmation ended after 2 of {STUDY.seeds} seeds.",
    ]


def test_winners_are_told_with_what_was_chosen_and_arms_without_one_by_name():
    head, *lines = winner_lines(find_winners(STUDY, a_ledger(without=("kl_div",))))
    assert "not a result" in head
    assert [line.split()[0] for line in lines] == ARMS
    assert lines[0].split()[1:] == ["95.12%", "adam", "learning", "rate", "0.0125", "batch", "64", "epochs", "8"]
    assert lines[1].split(maxsplit=1)[1] == "none: no trial completed"


@pytest.mark.parametrize(
    ("reasons", "all_failed"),
    [((FAILED, FAILED), True), ((FAILED, PRUNED), False), ((COMPLETED,), False), ((), False)],
)
def test_study_failed_only_if_trials_ran_and_all_of_them_did(reasons, all_failed):
    records = [a_record("focal", number=number, stop_reason=reason) for number, reason in enumerate(reasons)]
    ledger = a_ledger(seeds=0, without=ARMS, records=records)
    assert Outcome(ledger, interrupted=False, first_error="", record=None).all_failed == all_failed


def test_stopping_rule_is_described_as_plain_data():
    assert describe_rungs(RungPlan("epoch", 5, 40)) == {
        "time_attribute": "epoch",
        "grace_period": 5,
        "reduction_factor": 3,
        "rungs": [5, 15],
    }
    assert describe_rungs(None) == {
        "time_attribute": None,
        "grace_period": None,
        "reduction_factor": None,
        "rungs": [],
    }
