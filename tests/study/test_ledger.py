"""The ledger: every trial by its key, every result once, every end with its reason."""

import math

import pytest

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
)


def a_request(arm="focal", phase=SEARCH, number=7, epochs=10):
    return Request(arm, phase, number, {"loss": arm, "epochs": epochs}, group=arm if phase == SEARCH else None)


def a_result(epoch, val_accuracy=0.5, diverged=0.0):
    return {
        "epoch": epoch,
        "val_accuracy": val_accuracy,
        "val_nll": 1.5,
        "trial_seconds": 0.25 * epoch,
        "diverged": diverged,
        "rows": [],
    }


@pytest.fixture
def ledger():
    made = Ledger()
    made.open(a_request())
    return made


KEY = "focal/search/7"


@pytest.mark.parametrize(
    ("phase", "key", "run_name"),
    [
        (SEARCH, "focal/search/7", "focal-007"),
        (CONFIRM, "focal/confirm/7", "focal-seed-7"),
        (CONTROL, "focal/control/7", "focal-control-seed-7"),
    ],
)
def test_trial_is_named_by_arm_phase_and_number(phase, key, run_name):
    request = a_request(phase=phase)
    assert (request.key, request.run_name) == (key, run_name)


def test_record_that_was_only_opened_is_running_and_ranks_below_everything(ledger):
    record = ledger.records[KEY]
    assert ledger.running() == [record]
    assert (record.epoch, record.stop_reason, record.diverged) == (0, None, False)
    assert math.isnan(record.val_accuracy)
    assert record.val_nll == math.inf


def test_result_is_taken_over(ledger):
    record = ledger.update(KEY, a_result(3, 0.75))
    assert record is ledger.records[KEY]
    assert (record.epoch, record.val_accuracy, record.val_nll, record.seconds) == (3, 0.75, 1.5, 0.75)


def test_result_told_twice_or_late_counts_once(ledger):
    ledger.update(KEY, a_result(3, 0.75))
    ledger.update(KEY, a_result(3, 0.10))
    ledger.update(KEY, a_result(2, 0.20))
    record = ledger.records[KEY]
    assert (record.epoch, record.val_accuracy, record.seconds) == (3, 0.75, 0.75)


@pytest.mark.parametrize(
    ("result", "failed", "reason"),
    [
        (a_result(10), False, COMPLETED),
        (a_result(5), False, PRUNED),
        (a_result(5, diverged=1.0), False, DIVERGED),
        (a_result(10, diverged=1.0), False, DIVERGED),
        (a_result(5), True, FAILED),
        (a_result(10), True, FAILED),
        (None, True, FAILED),
        (None, False, PRUNED),
    ],
)
def test_end_of_a_trial_is_called_what_it_was(ledger, result, failed, reason):
    if result is not None:
        ledger.update(KEY, result)
    assert ledger.close(KEY, failed=failed).stop_reason == reason
    assert ledger.running() == []


@pytest.mark.parametrize("failed", [True, False])
def test_interrupted_trial_stays_interrupted_when_it_is_closed(ledger, failed):
    ledger.update(KEY, a_result(10))
    ledger.note_end(KEY, INTERRUPTED)
    assert ledger.close(KEY, failed=failed).stop_reason == INTERRUPTED


def test_records_are_kept_in_order_and_told_apart_by_phase(ledger):
    ledger.open(a_request("l1", number=0))
    ledger.open(a_request(phase=CONFIRM, number=1))
    assert [record.request.key for record in ledger.of_phase(SEARCH)] == [KEY, "l1/search/0"]
    assert [record.request.key for record in ledger.of_phase(CONFIRM)] == ["focal/confirm/1"]
    assert ledger.of_phase(CONTROL) == []


def test_request_outside_the_ledger_is_a_mistake_that_shows(ledger):
    with pytest.raises(KeyError):
        ledger.update("l1/search/0", a_result(1))
