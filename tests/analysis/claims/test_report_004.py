"""What the tests of report 004 really compare."""

import math

import pytest

from analysis.claims.model import AnyOf, Number, Superior
from analysis.claims.report_004 import CLAIMS

TESTS = {claim.id: claim for claim in CLAIMS}


def applied(contrast, outcomes):
    """What a contrast gives for outcomes by arm; by (arm, measure) or (arm, regime) where it spans these."""
    return sum(
        term.weight * outcomes.get(term.arm, outcomes.get((term.arm, term.regime or term.measure), math.nan))
        for term in contrast.terms
    )


def log_seconds(selu, silu, gelu, *, focal=580.5):
    """The report's times with these for hinge: one hidden layer."""
    with_gelu = {"mse": 532.2, "cross_entropy": 544.6, "hinge": gelu, "focal": focal}
    seconds = {f"gelu-{loss}-one": time for loss, time in with_gelu.items()}
    return {
        arm: math.log(time) for arm, time in {**seconds, "selu-hinge-one": selu, "silu-hinge-one": silu}.items()
    }  # fmt: skip


def ranges_differ(outcomes):
    """Whether every contrast of some part of 004-10 is positive."""
    test = TESTS["004-10"].stated
    assert isinstance(test, AnyOf)
    return any(all(applied(contrast, outcomes) > 0 for contrast in part.contrasts) for part in test.parts)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (log_seconds(415.1, 339.8, 533.7), True),
        (log_seconds(800.0, 500.0, 533.7), True),  # other activations at the ends
        (log_seconds(530.0, 520.0, 533.7), False),
        (log_seconds(415.1, 339.8, 533.7, focal=1000.0), False),
    ],
)
def test_the_activation_moves_time_more_where_its_range_is_the_wider(outcomes, expected):
    assert ranges_differ(outcomes) is expected


def test_the_reported_ratios_of_times_are_logarithms_of_two_layers_over_one():
    seconds = {"mse": (532.2, 610.1), "cross_entropy": (544.6, 616.5), "hinge": (533.7, 627.8), "focal": (580.5, 658.7)}
    outcomes = {
        f"gelu-{loss}-{layers}": math.log(time)
        for loss, times in seconds.items()
        for layers, time in zip(("one", "two"), times, strict=True)
    }
    numbers = [part for part in TESTS["004-25"].stated.parts if isinstance(part, Number)]
    assert len(numbers) == 4
    for number in numbers:
        assert number.value == pytest.approx(applied(number.contrast, outcomes), abs=1e-3)
        assert not number.absolute


def test_the_mean_over_losses_weighs_each_of_them_alike():
    gelu_over_selu = TESTS["004-32"].stated.parts[0].contrasts[0]
    outcomes = {f"selu-{loss}-one": 90.0 for loss in ("mse", "cross_entropy", "hinge", "focal")}
    outcomes |= {"gelu-mse-one": 91.0, "gelu-cross_entropy-one": 92.0, "gelu-hinge-one": 93.0, "gelu-focal-one": 90.0}
    assert applied(gelu_over_selu, outcomes) == pytest.approx(1.5)


def test_swish_is_slightly_lower_only_within_half_a_point():
    better, slightly, faster = TESTS["004-32"].stated.parts
    assert slightly.contrasts[0] == better.contrasts[1]
    assert (slightly.lower, slightly.bound) == (True, 0.5)
    assert faster.lower


def test_the_initialisation_is_to_blame_only_where_it_holds_focal_back_more_than_cross_entropy():
    plain, with_alpha = TESTS["004-18"].stated.parts[1].contrasts
    focal, other = "gelu-focal-one", "gelu-cross_entropy-one"
    steps = {
        (focal, "log_steps_to_fall"): 6.0, (focal, "log_steps_to_fall_own_init"): 2.0,
        (focal, "log_steps_to_fall_alpha"): 9.0, (focal, "log_steps_to_fall_own_init_alpha"): 8.0,
        (other, "log_steps_to_fall"): 5.0, (other, "log_steps_to_fall_own_init"): 2.0,
    }  # fmt: skip
    assert applied(plain, steps) == 1.0  # focal gains 4, cross-entropy 3
    assert applied(with_alpha, steps) == -2.0  # focal gains 1


def test_regret_is_what_tuning_gains():
    parts = TESTS["004-35"].stated.parts
    assert len(parts) == 24
    assert TESTS["004-35"].fair == TESTS["004-35"].stated
    same, better_as_stated = parts[0].parts
    arm = same.contrasts[0].terms[0].arm
    outcomes = {(arm, "fair"): 97.0, (arm, "stated"): 95.0}
    assert applied(same.contrasts[0], outcomes) == 2.0
    assert isinstance(better_as_stated, Superior)
    assert applied(better_as_stated.contrasts[0], outcomes) == -2.0
