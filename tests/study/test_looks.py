"""Which looks a study takes, and which studies may be given another."""

from dataclasses import replace
from pathlib import Path

import pytest

from analysis.earlier import Look
from search_spaces.loss_metrics import STUDY as LOSS_METRICS
from search_spaces.smoke import STUDY as SMOKE
from study.looks import check_extendable, check_finished, describe_looks, plan_looks
from study.options import Options
from trainables.config import InputError

FIRST = Look(SMOKE.trials, tuple(range(8, 8 + SMOKE.seeds)), {})


def an_options(**changes):
    values = {"command": "", "name": "s", "space": "smoke", "tracking_uri": "", "experiment_name": "s", "seed": 7}
    return Options(storage_path=Path(), **(values | changes))


def test_a_study_that_begins_takes_one_look():
    assert plan_looks(SMOKE, an_options(), {}) == [FIRST]


def test_looks_on_record_stay_and_an_extension_adds_one_with_fresh_seeds():
    looks = [FIRST]
    for added in (4, 1, 2):
        protocol = describe_looks(looks)
        assert plan_looks(SMOKE, an_options(), protocol) == looks
        looks = plan_looks(SMOKE, an_options(extend=added), protocol)
        assert looks[:-1] == plan_looks(SMOKE, an_options(), protocol)
        assert looks[-1].trials_per_arm == looks[-2].trials_per_arm + added
    seeds = [seed for look in looks for seed in look.seeds]
    assert len(looks) == 4
    assert seeds == list(range(8, 8 + 4 * SMOKE.seeds))


def test_a_study_of_an_older_version_is_extended_from_its_flags():
    old = {"trials_per_arm": 3, "winners": {"focal": None}}
    first, second = plan_looks(SMOKE, an_options(extend=2), old)
    assert first == replace(FIRST, winners={"focal": None})
    assert (second.trials_per_arm, second.winners) == (SMOKE.trials + 2, {})
    assert second.seeds == tuple(range(FIRST.seeds[-1] + 1, FIRST.seeds[-1] + 1 + SMOKE.seeds))


def test_what_was_confirmed_stays_with_its_look_and_the_last_one_speaks_for_the_study():
    looks = [replace(FIRST, winners={"focal": None}), Look(9, (70, 71), {})]
    described = describe_looks(looks)
    assert described["looks"][0] == {
        "trials_per_arm": FIRST.trials_per_arm,
        "confirm_seeds": list(FIRST.seeds),
        "winners": {"focal": None},
    }
    assert described["looks"][1] == {"trials_per_arm": 9, "confirm_seeds": [70, 71], "winners": {}}
    assert (described["trials_per_arm"], described["confirm_seeds"]) == (9, [70, 71])
    assert plan_looks(SMOKE, an_options(), described) == looks


@pytest.mark.parametrize(
    ("study", "changes", "why"),
    [
        (LOSS_METRICS, {}, "a report fixes its trials"),
        (SMOKE, {"search": "grid"}, "its grid has no more points"),
        (SMOKE, {"time_budget": 60.0}, "it was given a time, which is spent"),
    ],
)
def test_a_study_without_room_for_more_trials_is_not_extended(study, changes, why):
    with pytest.raises(InputError, match=rf"^The study 's' cannot be extended: {why}\.$"):
        check_extendable(study, an_options(**changes))
    check_extendable(SMOKE, an_options())


@pytest.mark.parametrize("state", ["running", "interrupted", "failed"])
def test_a_study_is_finished_before_it_is_extended(state):
    options = an_options(tracking_uri="sqlite:///elsewhere.db")
    with pytest.raises(InputError) as caught:
        check_finished(options, state)
    assert str(caught.value) == f"The study 's' is not finished ({state}); go on with it: {options.resume_command}"
    check_finished(options, "finished")
