"""What several looks do to certainty: extended studies in which nothing differs, by the tests of a report.

A study that is extended only if its first look finds nothing comes to report a difference exactly where one of its two
looks finds one.
"""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.earlier import mark_earlier
from analysis.inference import ALPHA, holm, sign_flip_p
from analysis.looks import measure_looks

SEEDS = 10
STUDIES = 10_000


@pytest.fixture(scope="module")
def without_difference():
    """Paired differences of extended studies in which nothing differs, shape (studies, looks, arms, seeds)."""
    generator = np.random.default_rng(41)
    return generator.normal(size=(STUDIES, 2, 3, SEEDS)) - generator.normal(size=(STUDIES, 2, 1, SEEDS))


def rejected(differences):
    """Whether a look finds any of its arms better or worse, by the tests of a report; shape (studies, looks)."""
    p = sign_flip_p(np.round(differences, 9))
    return np.array([[holm(look).min() < ALPHA for look in study] for study in p])


def between(share, low, high):
    """Whether a share of the studies is at least ``low`` and at most ``high``, as far as 99% of samples can tell."""
    least, most = stats.binom.ppf([0.005, 0.995], STUDIES, [low, high])
    return least <= share * STUDIES <= most


@pytest.mark.parametrize("arms", [1, 3])
def test_one_of_two_looks_is_a_false_positive_in_more_than_5_and_up_to_10_percent_of_studies(without_difference, arms):
    found = rejected(without_difference[:, :, :arms])
    either = found.any(axis=1).mean()
    assert stats.binom.sf(either * STUDIES - 1, STUDIES, ALPHA) < 0.01
    assert between(either, ALPHA, 2 * ALPHA)


def test_a_look_by_itself_is_one_in_5_percent_whatever_the_first_has_shown(without_difference):
    first, second = rejected(without_difference[:, :, :1]).T
    assert between(second.mean(), ALPHA, ALPHA)
    least, most = stats.binom.ppf([0.005, 0.995], int((~first).sum()), ALPHA)
    assert least <= second[~first].sum() <= most


def test_the_tests_of_the_simulation_are_those_of_the_looks(without_difference):
    looks = [
        {"trials_per_arm": 3, "confirm_seeds": [*range(1, 11)]},
        {"trials_per_arm": 6, "confirm_seeds": [*range(11, 21)]},
    ]
    arms = [f"arm{number}" for number in range(3)]
    protocol = {"looks": looks, "baseline": "base", "arms": [{"name": name} for name in ("base", *arms)]}
    found = rejected(without_difference)
    chosen = [int(np.flatnonzero((found == wanted).all(axis=1))[0]) for wanted in ((0, 0), (1, 0), (0, 1))]
    for study in chosen:
        scores = np.concatenate([np.zeros((2, 1, SEEDS)), without_difference[study]], axis=1)
        rows = [
            (arm, "confirm", look * SEEDS + seed + 1, 0.9 + scores[look, place, seed] / 100)
            for look in range(2)
            for place, arm in enumerate(("base", *arms))
            for seed in range(SEEDS)
        ]
        trials = pd.DataFrame(rows, columns=["arm", "phase", "seed", "test_accuracy"])
        trials = trials.assign(stop_reason="completed", start=pd.Timestamp("2026-01-01"))
        frame = measure_looks(mark_earlier(trials, protocol), protocol)
        assert [
            bool(frame.loc[frame["look"] == look, "finding"].isin(["better", "worse"]).any()) for look in (1, 2)
        ] == found[study].tolist()
