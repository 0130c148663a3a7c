"""Which share of a GPU holds a trial, and one line where the share that was given does not."""

import pytest

from study.memory import SHARES, GpuMemory, smallest_share

GB = 10**9


def warnings(share, *observed):
    said = []
    memory = GpuMemory(share, said.append)
    for arm, peak, total in observed:
        memory.observe(arm, peak, total)
    return said


@pytest.mark.parametrize(
    ("peak", "share"), [(1, 1 / 8), (2, 1 / 8), (2.1, 1 / 6), (4, 1 / 4), (5, 1 / 3), (8, 1 / 2), (8.1, 1), (17, 1)]
)
def test_the_smallest_share_that_holds_the_peak_of_sixteen_gigabytes(peak, share):
    assert smallest_share(peak * GB, 16 * GB) == share


def test_a_share_that_is_too_small_is_said_once_with_the_arm_and_what_fits():
    told = warnings(0.25, ("mse", 4 * GB, 16 * GB), ("focal", 5 * GB, 16 * GB), ("hinge", 9 * GB, 16 * GB))
    (line,) = told
    assert line == (
        "A trial of the arm focal took 5.0 GB of its GPU's 16.0; `--gpus-per-trial 0.25` leaves each 4.0."
        " The largest number of trials that fit: `--gpus-per-trial 0.333`."
    )
    (whole,) = warnings(0.5, ("hinge", 9 * GB, 16 * GB))
    assert whole.endswith(" None fits beside it: `--gpus-per-trial 1`.")


@pytest.mark.parametrize(("share", "peak"), [(0.25, 4 * GB), (1.0, 15 * GB), (2.0, 15 * GB), (None, 15 * GB)])
def test_nothing_is_said_of_a_share_that_holds_or_that_is_found_here(share, peak):
    assert warnings(share, ("mse", peak, 16 * GB)) == []


def test_what_is_advised_lets_as_many_trials_run_as_it_means():
    for share in SHARES[1:]:
        (line,) = warnings(0.01, ("mse", share * 16 * GB, 16 * GB))
        advised = float(line.rpartition("--gpus-per-trial ")[2].rstrip("`."))
        assert int(1 / advised) == round(1 / share)
        assert advised == pytest.approx(share, abs=1e-3)


def test_shares_follow_the_largest_peak_on_the_smallest_gpu_with_a_margin():
    memory = GpuMemory(None, pytest.fail)
    assert memory.share == 1
    for peak, total, share in (
        (1.6 * GB, 16 * GB, 1 / 8),  # with a fifth on top it is 1.92
        (1.7 * GB, 16 * GB, 1 / 6),  # and this is 2.04
        (1.0 * GB, 16 * GB, 1 / 6),
        (1.0 * GB, 8 * GB, 1 / 3),
        (1.0 * GB, 80 * GB, 1 / 3),
        (7.0 * GB, 8 * GB, 1),
    ):
        memory.observe("mse", peak, total)
        assert memory.share == share
