import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.claims.decide import count_tests
from analysis.claims.evaluate import evaluate_claims
from analysis.claims.evidence import bodies, measure
from analysis.claims.model import (
    All,
    AnyOf,
    AtScaleOne,
    Best,
    Contrast,
    Different,
    EffectSize,
    Identity,
    Most,
    Not,
    NotTestable,
    Number,
    OnDatasets,
    Ordered,
    RarerThan,
    Share,
    Superior,
    Term,
    difference,
    equal,
    interaction,
    superior,
    value,
    values,
)
from analysis.claims.table import ALL_CLAIMS, CLAIMS_OF, SPACE_OF
from analysis.measures import DIAGNOSTIC_MEASURES, METRICS
from search_spaces.table import load_space
from trainables.config import InputError
from trainables.identities import IDENTITIES

REPORTED = runpy.run_path(str(Path(__file__).parents[1] / "synthetic_reported.py"))

A_ABOVE_B = superior([("a", "b")], "accuracy")
HOLDS, REFUTED, INCONCLUSIVE = "holds", "refuted", "inconclusive"
NOT_TESTABLE, NOT_RUN = "not testable", "not run"


def of_records(*records):
    """The claims of the first record's report, by these studies."""
    studies = [measure(record) for record in records]
    return evaluate_claims(studies[0].scope.report, studies)


@pytest.fixture
def study(measured, around):
    """A study of arms at these centers of accuracy: a is 1 above b, c is b, d is uncertain."""

    def build(**options):
        centers = {"a": (97.0, 0.1), "b": (96.0, 0.1), "c": (96.0, 0.1), "d": (96.1, 1.5), "low": (90.0, 0.1)}
        tables = {
            (regime, arm): {"accuracy": around(center, sd=sd, stream=number)}
            for regime in ("stated", "fair")
            for number, (arm, (center, sd)) in enumerate(centers.items())
        }
        return measured(tables, **options)

    return build


def with_events(measured, **shares):
    """A study in which an event happens in so many of an arm's ten seeds."""
    tables = {("stated", arm): {"diverged": [1.0] * some + [0.0] * (10 - some)} for arm, some in shares.items()}
    return measured(tables)


@pytest.mark.parametrize(
    ("test", "verdict"),
    [
        (superior([("a", "b")], "accuracy"), HOLDS),
        (superior([("b", "a")], "accuracy"), REFUTED),
        (superior([("b", "c")], "accuracy"), REFUTED),  # equal within the study's delta
        (superior([("d", "b")], "accuracy"), INCONCLUSIVE),
        (superior([("b", "a")], "accuracy", lower=True), HOLDS),
        (Superior(values(["a", "b"], "accuracy"), bound=95.0), HOLDS),
        (Superior(values(["a", "low"], "accuracy"), bound=95.0), REFUTED),
        (superior([("a", "b")], "accuracy", at_least_twice_delta=True), HOLDS),
        (superior([("a", "b")], "accuracy", at_least_twice_delta=True, delta=0.6), REFUTED),
        (Best("a", ("b", "c", "low"), "accuracy"), HOLDS),
        (Best("b", ("a", "low"), "accuracy"), REFUTED),
        (Best("b", ("c",), "accuracy"), REFUTED),
        (Best("a", ("d", "low"), "accuracy"), INCONCLUSIVE),
        (Best("low", ("b", "a"), "accuracy", lower=True), HOLDS),
        (Ordered(("a", "b", "low"), "accuracy"), HOLDS),
        (Ordered(("b", "a", "low"), "accuracy"), REFUTED),
        (Ordered(("d", "b", "low"), "accuracy"), INCONCLUSIVE),
        (equal([("b", "c")], "accuracy"), HOLDS),
        (equal([("a", "b")], "accuracy"), REFUTED),
        (equal([("d", "b")], "accuracy"), INCONCLUSIVE),
        (Different((interaction(("a", "b"), ("c", "low"), "accuracy"),)), HOLDS),
        (Different((difference("b", "c", "accuracy"),)), REFUTED),
        (Different((difference("d", "b", "accuracy"),)), INCONCLUSIVE),
        (Number("a", "accuracy", 97.1), HOLDS),
        (Number("a", "accuracy", 98.0), REFUTED),
        (Number("a", "accuracy", 1.0, contrast=difference("a", "b", "accuracy")), HOLDS),
        (All((A_ABOVE_B, Number("a", "accuracy", 97.1))), HOLDS),
        (All((A_ABOVE_B, Number("a", "accuracy", 98.0))), REFUTED),
        (All((A_ABOVE_B, superior([("d", "b")], "accuracy"))), INCONCLUSIVE),
        (All((A_ABOVE_B, NotTestable("nobody knows"))), HOLDS),
        (All((A_ABOVE_B, superior([("a", "nowhere")], "accuracy"))), NOT_RUN),
        (AnyOf((Not(A_ABOVE_B), A_ABOVE_B)), HOLDS),
        (AnyOf((Not(A_ABOVE_B), Not(A_ABOVE_B))), REFUTED),
        (AnyOf((Not(A_ABOVE_B), superior([("d", "b")], "accuracy"))), INCONCLUSIVE),
        (Most((A_ABOVE_B, A_ABOVE_B, Not(A_ABOVE_B))), HOLDS),
        (Most((A_ABOVE_B, Not(A_ABOVE_B))), REFUTED),
        (Most((A_ABOVE_B, superior([("d", "b")], "accuracy"))), INCONCLUSIVE),
        (Not(A_ABOVE_B), REFUTED),
        (Not(superior([("d", "b")], "accuracy")), INCONCLUSIVE),
        (NotTestable("nobody knows"), NOT_TESTABLE),
        (superior([("a", "nowhere")], "accuracy"), NOT_RUN),
        (OnDatasets(Not(A_ABOVE_B)), REFUTED),
        (AtScaleOne(A_ABOVE_B), HOLDS),
    ],
    ids=repr,
)
def test_every_kind_of_test_comes_to_the_verdict_that_is_true(test, verdict, ask, study):
    assert ask(test, study()).verdict == verdict


@pytest.mark.parametrize(
    ("test", "verdict"),
    [
        (Share(("always",), "diverged", above=0.5), HOLDS),
        (Share(("never",), "diverged", above=0.5), REFUTED),
        (Share(("half",), "diverged", above=0.5), INCONCLUSIVE),
        (Share(("always", "never"), "diverged", at_least=0.95), REFUTED),
        (Share(("never",), "diverged", at_least=1.0, absent=True), HOLDS),
        (Share(("once",), "diverged", at_least=1.0, absent=True), REFUTED),
    ],
    ids=repr,
)
def test_a_share_counts_the_seeds_with_the_event_or_without(test, verdict, ask, measured):
    outcome = ask(test, with_events(measured, always=10, never=0, half=5, once=1))
    assert outcome.verdict == verdict
    assert (outcome.n, outcome.unit) == (10, "of the seeds")


def test_an_event_is_rarer_by_the_trials_of_the_grid_in_both_regimes(ask, measured):
    counts = {"no_convergence": {"a": (1, 36), "b": (20, 36), "c": (2, 36)}}
    study = measured({("stated", "a"): {"accuracy": [90.0]}}, events=counts)
    rarer = RarerThan("a", ("b",), "no_convergence")
    for regime in ("stated", "fair"):
        outcome = ask(rarer, study, regime=regime)
        assert (outcome.verdict, outcome.n) == (HOLDS, 36)
        assert outcome.effect == pytest.approx(-19 / 36)
    assert ask(RarerThan("b", ("a",), "no_convergence"), study).verdict == REFUTED
    assert ask(RarerThan("a", ("c",), "no_convergence"), study).verdict == INCONCLUSIVE
    missing = ask(RarerThan("a", ("nowhere",), "no_convergence"), study)
    assert (missing.verdict, missing.reason) == (NOT_RUN, "arm nowhere was not run; --arms nowhere runs it")


def crossed(measured, around, losses, activations, noise):
    """A cross of arms whose accuracy is the sum of a loss's and an activation's part."""
    parts = [(f"{a}-{b}", own + other) for a, own in losses.items() for b, other in activations.items()]
    return measured(
        {
            ("stated", arm): {"accuracy": around(90 + center, sd=noise, stream=number)}
            for number, (arm, center) in enumerate(parts)
        }
    )


def test_effect_sizes_compare_the_factors_of_a_cross_of_arms(ask, measured, around):
    losses, activations = {"ce": 0.0, "l1": 5.0, "mse": 2.0}, {"tanh": 0.0, "selu": 0.2}
    levels = (("loss", tuple(losses)), ("activation", tuple(activations)))

    def asked(study, factor, **options):
        return ask(EffectSize(levels, "{loss}-{activation}", "accuracy", factor, **options), study)

    clear = crossed(measured, around, losses, activations, 0.3)
    assert asked(clear, "loss", than="activation").verdict == HOLDS
    assert asked(clear, "activation", than="loss").verdict == REFUTED
    assert asked(clear, "activation", below=0.06).verdict == HOLDS
    assert asked(clear, "loss", below=0.06).verdict == REFUTED
    assert asked(clear, "loss", than="activation").label.startswith("omega squared of loss - omega squared of activ")
    unclear = crossed(measured, around, {"ce": 0.0, "l1": 0.1, "mse": 0.0}, activations, 3.0)
    assert asked(unclear, "loss", than="activation").verdict == INCONCLUSIVE
    with pytest.raises(ValueError, match="one of two factors"):
        asked(clear, "depth", below=0.06)


def test_an_identity_is_what_the_study_recorded(ask, measured):
    recorded = {"true": {"holds": True, "statement": "One is one."}, "false": {"holds": False, "statement": "No."}}
    study = measured({}, identities=recorded)
    assert ask(Identity("true"), study).verdict == HOLDS
    assert ask(Identity("false"), study).verdict == REFUTED
    assert ask(Identity("false", expected=False), study).verdict == HOLDS
    assert ask(Identity("true"), study).reason == "exact test: true that one is one"
    assert list(ask(Identity("true"), study).studies) == ["study"]
    missing = ask(Identity("other"), study)
    assert missing.verdict == NOT_RUN
    assert "exact test other is not on record" in missing.reason


def test_the_effect_is_the_paired_difference_with_its_interval_unit_and_study(ask, measured):
    shared = np.linspace(-5, 5, 10)
    wiggle = np.array([0.1, -0.1] * 5)
    study = measured({("stated", "a"): {"accuracy": 91 + shared + wiggle}, ("stated", "b"): {"accuracy": 90 + shared}})
    outcome = ask(A_ABOVE_B, study)
    assert outcome.effect == pytest.approx(1.0)
    assert outcome.ci_high - outcome.ci_low == pytest.approx(2 * 2.2622 * wiggle.std(ddof=1) / 10**0.5, rel=1e-3)
    assert (outcome.n, outcome.unit) == (10, "points")
    assert outcome.label == "a - b: accuracy"
    assert outcome.p < 0.05
    assert outcome.studies == {"study": "MNIST, 50,000 training images, the report's epochs"}


def test_seeds_are_paired_by_number_and_a_missing_value_is_counted(ask, measured):
    a = {seed: 91.0 + seed for seed in range(1, 11)} | {3: float("nan")}
    b = {seed: 90.0 + seed for seed in range(2, 12)}
    outcome = ask(A_ABOVE_B, measured({("stated", "a"): {"accuracy": a}, ("stated", "b"): {"accuracy": b}}))
    assert (outcome.n, outcome.effect) == (8, pytest.approx(1.0))
    assert "3 seeds of 11 left out of a - b: accuracy: a value is missing" in outcome.reason


def test_no_common_seed_is_not_run(ask, measured):
    tables = {("stated", "a"): {"accuracy": {1: 90.0}}, ("stated", "b"): {"accuracy": {2: 90.0}}}
    outcome = ask(A_ABOVE_B, measured(tables))
    assert (outcome.verdict, outcome.effect) == (NOT_RUN, None)
    assert outcome.reason == "no seed has every value of a - b: accuracy"


@pytest.mark.parametrize(
    ("options", "regime", "reason"),
    [
        ({"regimes": ["stated"]}, "fair", "the fair regime was not run; --regime fair runs it"),
        ({"regimes": ["fair"]}, "stated", "the stated regime was not run; --regime stated runs it"),
        ({"arms": {"b": False}}, "fair", "arm b is not in the fair regime"),
        ({"arms": {"b": True}}, "fair", "no trial with fresh seeds of arm b has ended in the fair regime"),
        ({}, "stated", "arm b was not run; --arms b runs it"),
    ],
)
def test_what_was_not_run_says_what_would_run_it(options, regime, reason, ask, measured):
    study = measured({(place, "a"): {"accuracy": [90.0, 91.0]} for place in ("stated", "fair")}, **options)
    outcome = ask(A_ABOVE_B, study, regime=regime)
    assert outcome.verdict == NOT_RUN
    assert outcome.reason.startswith(reason)
    assert list(outcome.studies) == ["study"]


def test_a_measure_that_no_trial_recorded_is_not_run(ask, measured, around):
    study = measured({("stated", "a"): {"accuracy": around(90), "nll": [np.nan] * 10}})
    for name in ("nll", "ece"):
        outcome = ask(Superior((value("a", name),)), study)
        assert (outcome.verdict, outcome.reason) == (
            NOT_RUN,
            f"{name} of arm a is not on record in the stated regime",
        )
    with pytest.raises(ValueError, match="'niceness' is no measure"):
        ask(Superior((value("a", "niceness"),)), study)


def test_seconds_that_trials_shared_are_said_to_be_none_of_their_own(ask, measured, around):
    study = measured({("fair", "a"): {"accuracy": around(90), "log_epoch_seconds": [np.nan] * 10}})
    test = Superior((value("a", "log_epoch_seconds"),))
    alone = ask(test, study, regime="fair").reason
    assert alone == "log_epoch_seconds of arm a is not on record in the fair regime"
    study.record.runs_of["shared_seconds"] = ["run"]
    assert ask(test, study, regime="fair").reason == (
        f"{alone}; trials trained as one model have no time of their own (--replicas 1)"
    )


def test_a_family_with_a_missing_arm_is_refuted_by_another_but_never_confirmed(ask, study):
    refuted = ask(superior([("b", "a"), ("a", "nowhere")], "accuracy"), study())
    assert refuted.verdict == REFUTED
    open_ = ask(superior([("a", "b"), ("a", "nowhere")], "accuracy"), study())
    assert (open_.verdict, open_.reason) == (NOT_RUN, "arm nowhere was not run; --arms nowhere runs it")


def test_each_regime_reads_its_own_trials_and_a_term_may_name_one(ask, measured, around):
    tables = {
        ("stated", "a"): {"accuracy": around(90, stream=1)},
        ("stated", "b"): {"accuracy": around(95, stream=2)},
        ("fair", "a"): {"accuracy": around(96, stream=3)},
        ("fair", "b"): {"accuracy": around(95, stream=4)},
    }
    study = measured(tables)
    assert ask(A_ABOVE_B, study, regime="stated").verdict == REFUTED
    assert ask(A_ABOVE_B, study, regime="fair").verdict == HOLDS
    gain = Contrast("a: fair - stated", (Term("a", "accuracy", regime="fair"), Term("a", "accuracy", -1.0, "stated")))
    for regime in ("stated", "fair"):
        assert ask(Superior((gain,)), study, regime=regime).effect == pytest.approx(6.0)
    assert ask(A_ABOVE_B, study, fair=Not(A_ABOVE_B), regime="fair").verdict == REFUTED


def test_what_the_grid_and_the_diagnostics_measured_is_the_same_in_both_regimes(ask, measured, around):
    tables = {
        ("grid", "a"): {"tuned_log10_rate": around(-1, n=3)},
        ("grid", "b"): {"tuned_log10_rate": around(-2, n=3, stream=1)},
        ("beside", "a"): {"gradient_variance_slope": around(-1, sd=0.01)},
    }
    rates = superior([("a", "b")], "tuned_log10_rate", interval_only=True)
    slope = Superior((value("a", "gradient_variance_slope"),), lower=True, bound=-0.9)
    for regime in ("stated", "fair"):
        outcome = ask(rates, measured(tables), regime=regime)
        assert (outcome.verdict, outcome.n, outcome.unit) == (HOLDS, 3, "log10")
        assert ask(slope, measured(tables), regime=regime).verdict == HOLDS
    missing = ask(slope, measured({("stated", "a"): {"accuracy": [90.0]}}))
    assert missing.reason.startswith("gradient_variance_slope of a is not on record")
    untuned = ask(rates, measured({("stated", "a"): {"accuracy": [90.0]}}, regimes=["stated"]))
    assert untuned.reason == "the fair regime was not run; --regime fair runs it"


def test_a_measure_without_a_smallest_difference_has_none_and_epochs_have_one(ask, measured, around):
    reached = {"target_missed": [0.0] * 10}
    columns = {"nll": around(0.5, sd=1e-3), "epochs_to_target": around(10, sd=0.1), **reached}
    same = {"nll": around(0.5, sd=1e-3, stream=5), "epochs_to_target": around(10, sd=0.1, stream=5), **reached}
    study = measured({("stated", "a"): columns, ("stated", "b"): same})
    assert ask(superior([("a", "b")], "nll"), study).verdict == INCONCLUSIVE
    assert ask(superior([("a", "b")], "epochs_to_target"), study).verdict == REFUTED
    assert ask(equal([("a", "b")], "nll", delta=0.01), study).verdict == HOLDS
    with pytest.raises(ValueError, match="Equality in 'nll' needs a delta"):
        ask(equal([("a", "b")], "nll"), study)


def test_of_agreeing_parts_one_with_numbers_is_shown(ask, measured, around):
    same = around(90.0, sd=0.5)
    study = measured(
        {("stated", "a"): {"accuracy": same}, ("stated", "b"): {"accuracy": same}},
        identities={"kl_div_equals_cross_entropy": {"holds": True, "statement": "KL divergence is cross-entropy."}},
    )
    exact = equal([("a", "b")], "accuracy", delta=1e-9)
    outcome = ask(All((Identity("kl_div_equals_cross_entropy"), exact)), study)
    assert (outcome.verdict, outcome.effect, outcome.ci_low, outcome.ci_high, outcome.n) == (HOLDS, 0.0, 0.0, 0.0, 10)
    alone = ask(Identity("kl_div_equals_cross_entropy"), study)
    assert alone.reason == "exact test: true that KL divergence is cross-entropy"


def a_race(measured, missed_by_b, missed_by_c):
    """Epochs to a target that a reaches early; who misses it has the censoring value 21."""
    tables = {("stated", "a"): {"epochs_to_target": [5.0, 6.0] * 5, "target_missed": [0.0] * 10}}
    for arm, missed in (("b", missed_by_b), ("c", missed_by_c)):
        tables["stated", arm] = {
            "epochs_to_target": [21.0 if miss else 12.0 + seed % 3 for seed, miss in enumerate(missed)],
            "target_missed": [float(miss) for miss in missed],
        }
    return measured(tables)


def test_two_arms_that_both_missed_the_target_are_not_equally_fast(ask, measured):
    study = a_race(measured, [True] * 10, [True] * 10)
    for test in (superior([("b", "c")], "epochs_to_target", lower=True), equal([("b", "c")], "epochs_to_target")):
        outcome = ask(test, study)
        assert outcome.verdict == INCONCLUSIVE
        assert outcome.reason == "on 10 seeds of 10 no arm of b - c: epochs_to_target got there"


def test_a_miss_against_an_arm_that_arrived_counts_with_the_least_it_can_be(ask, measured):
    study = a_race(measured, [True] * 10, [True] * 10)
    outcome = ask(superior([("a", "b")], "epochs_to_target", lower=True), study)
    assert (outcome.verdict, outcome.n) == (HOLDS, 10)
    assert outcome.effect == pytest.approx(-15.5)


def test_seeds_on_which_both_missed_are_left_out_and_counted(ask, measured):
    study = a_race(measured, [True] * 2 + [False] * 8, [True] * 3 + [False] * 7)
    outcome = ask(superior([("b", "c")], "epochs_to_target", lower=True), study)
    assert outcome.n == 8
    assert "on 2 seeds of 10 no arm of b - c: epochs_to_target got there" in outcome.reason


def test_a_comparison_that_cannot_be_decided_does_not_hide_one_that_refutes(ask, measured):
    study = a_race(measured, [True] * 10, [True] * 10)
    outcome = ask(superior([("b", "c"), ("b", "a")], "epochs_to_target", lower=True), study)
    assert outcome.verdict == REFUTED
    outcome = ask(superior([("b", "c"), ("a", "b")], "epochs_to_target", lower=True), study)
    assert outcome.verdict == INCONCLUSIVE


def test_a_number_of_the_report_is_not_tested_on_fewer_epochs_than_it_had(ask, study):
    outcome = ask(Number("a", "accuracy", 98.0), study(scale=0.25))
    assert outcome.verdict == NOT_TESTABLE
    assert outcome.reason.startswith("only 0.25 of the report's epochs were run")


@pytest.mark.parametrize(
    "test", [Number("a", "accuracy", 98.0), Superior((value("a", "accuracy"),), bound=95.0, absolute=True)], ids=repr
)
def test_an_absolute_number_is_not_testable_on_a_stand_in_but_measured(test, ask, study):
    outcome = ask(test, study(dataset="fashion-mnist", stand_in=True))
    assert outcome.verdict == NOT_TESTABLE
    assert outcome.reason == "Fashion-MNIST stands in for MNIST: the reported number belongs to its own data"
    assert outcome.effect == pytest.approx(97.0)
    assert outcome.ci_low < 97.0 < outcome.ci_high
    assert outcome.n == 10
    assert ask(replace(test, absolute=False), study(dataset="fashion-mnist", stand_in=True)).verdict in {HOLDS, REFUTED}
    other = ask(test, study(dataset="mnist", stand_in=True))
    assert other.reason.startswith("MNIST stands in for the report's data")


def test_an_absolute_part_is_left_out_where_the_order_can_be_tested(ask, study):
    both = All((A_ABOVE_B, Number("a", "accuracy", 12.0)))
    outcome = ask(both, study(dataset="fashion-mnist", stand_in=True))
    assert outcome.verdict == HOLDS
    assert "left out as not testable: 1 of 2 parts" in outcome.reason
    assert [part.verdict for part in outcome.parts] == [HOLDS, NOT_TESTABLE]


def test_a_claim_about_the_full_epochs_counts_only_there(ask, study):
    outcome = ask(AtScaleOne(A_ABOVE_B), study(scale=0.25))
    assert outcome.verdict == NOT_RUN
    assert "0.25 of them were run" in outcome.reason
    assert outcome.studies["study"].endswith("0.25 of the report's epochs")
    assert ask(A_ABOVE_B, study(scale=0.25)).verdict == HOLDS


def test_holm_corrects_over_the_whole_claim(ask, study):
    pairs = [("a", "b"), ("a", "c"), ("a", "low"), ("b", "low"), ("c", "low")]
    alone = ask(superior(pairs[:1], "accuracy"), study())
    whole = ask(All(tuple(superior([pair], "accuracy") for pair in pairs)), study())
    assert whole.p == pytest.approx(5 * alone.p)
    nested = AtScaleOne(OnDatasets(Not(Most((A_ABOVE_B, Best("a", ("b", "c"), "accuracy"))))))
    assert count_tests(AnyOf((nested, Ordered(("a", "b", "c"), "accuracy"), Number("a", "accuracy", 1.0)))) == 5
    assert count_tests(superior(pairs, "accuracy", interval_only=True)) == 0  # no test, nothing to correct


def test_a_claim_about_data_sets_needs_as_many_and_is_refuted_by_one(ask, study, measured, around):
    general = OnDatasets(A_ABOVE_B, 2)
    mnist, fashion = study(name="m"), study(name="f", dataset="fashion-mnist")
    alone = ask(general, mnist)
    assert alone.verdict == NOT_RUN
    assert alone.reason == "on MNIST holds; it takes 2 data sets (--dataset)"
    both = ask(general, mnist, fashion)
    assert both.verdict == HOLDS
    images = "50,000 training images, the report's epochs"
    assert both.studies == {"m": f"MNIST, {images}", "f": f"Fashion-MNIST, {images}"}
    assert both.unit == "points"
    assert [part.label for part in both.parts] == ["MNIST: a - b: accuracy", "Fashion-MNIST: a - b: accuracy"]
    reverse = {("stated", "a"): {"accuracy": around(80)}, ("stated", "b"): {"accuracy": around(90, stream=1)}}
    refuting = ask(general, mnist, measured(reverse, name="c", dataset="cifar10"))
    assert refuting.verdict == REFUTED
    assert refuting.effect == pytest.approx(-10)
    smaller = study(name="half", scale=0.5)
    assert ask(general, mnist, smaller).verdict == NOT_RUN  # the same data at fewer epochs are no second data set
    # But they answer for the first where all epochs were run with other arms.
    others = measured({("stated", "a"): {"accuracy": around(90)}}, name="others", num_train=60_000)
    for outcome in (ask(general, others, fashion, smaller), ask(general, fashion, others, smaller)):
        assert outcome.verdict == HOLDS
        assert set(outcome.studies) >= {"half", "f"}
    assert ask(general, others, fashion).verdict == NOT_RUN


def test_studies_of_one_scope_answer_together_and_others_do_not(ask, measured, around):
    stated = measured({("stated", "a"): {"accuracy": around(90)}}, name="s", regimes=["stated"])
    fair = measured({("fair", "a"): {"accuracy": around(95, stream=1)}}, name="f", regimes=["fair"])
    gain = Contrast("gain", (Term("a", "accuracy", regime="fair"), Term("a", "accuracy", -1.0, "stated")))
    outcome = ask(Superior((gain,)), stated, fair)
    assert (outcome.verdict, outcome.effect) == (HOLDS, pytest.approx(5.0))
    assert sorted(outcome.studies) == ["f", "s"]
    for change in ({"dataset": "kmnist"}, {"scale": 0.5}, {"num_train": 12_000}):
        apart = measured({("fair", "a"): {"accuracy": around(95)}}, name="f", regimes=["fair"], **change)
        assert ask(Superior((gain,)), stated, apart).verdict == NOT_RUN


def test_of_an_arm_that_two_studies_ran_the_one_with_more_seeds_counts_whole(measured, around):
    few = measured({("stated", "a"): {"accuracy": around(50, n=5)}}, name="few", end="2026-02-01")
    many = measured({("stated", "a"): {"accuracy": around(90)}}, name="many")
    newer = measured({("stated", "a"): {"accuracy": around(70)}}, name="newer", end="2026-03-01")
    (evidence,) = bodies([few, many])
    series, name = evidence.series("a", "accuracy", "stated")
    assert (name, len(series)) == ("many", 10)
    assert series.mean() == pytest.approx(90)
    (evidence,) = bodies([few, many, newer])
    assert evidence.series("a", "accuracy", "stated")[1] == "newer"


FIRST = CLAIMS_OF["003"][6]  # hinge is best overall: every activation's arms


def grid(measured, around, best="hinge", **options):
    arms = [
        f"{a}-{loss}" for a in ("tanh", "selu", "hardswish") for loss in ("hinge", "kl_div", "cross_entropy", "focal")
    ]
    centers = {arm: 97.0 if arm.endswith(best) else 95.0 for arm in arms}
    regimes = options.pop("filled", ("stated", "fair"))
    tables = {
        (regime, arm): {"accuracy": around(center, stream=number)}
        for regime in regimes
        for number, (arm, center) in enumerate(centers.items())
    }
    return measured(tables, **options)


def test_each_claim_comes_from_the_study_that_says_most(measured, around):
    def picked(*studies, regime="stated"):
        result = next(result for result in evaluate_claims("003", studies) if result.id == FIRST.id)
        return ", ".join(result.regimes[regime].studies), result.regimes[regime].verdict

    short = grid(measured, around, name="short", scale=0.1, num_train=60_000, end="2026-09-01")
    full = grid(measured, around, name="full", num_train=10_000)
    more = grid(measured, around, name="more", num_train=20_000, dataset="kmnist")
    newer = grid(measured, around, name="newer", num_train=20_000, dataset="svhn", end="2026-02-01")
    tiny = grid(measured, around, name="tiny", num_train=1_197, dataset="digits", end="2026-10-01")
    assert picked(short) == picked(short, tiny) == ("short", HOLDS)
    assert picked(short, full) == ("full", HOLDS)
    assert picked(short, full, more) == ("more", HOLDS)
    assert picked(short, newer, more) == ("newer", HOLDS)
    stated = grid(measured, around, name="stated", num_train=50_000, filled=["stated"], regimes=["stated"])
    assert picked(stated, short, full) == ("stated", HOLDS)
    assert picked(stated, short, full, regime="fair") == ("full", HOLDS)  # a verdict goes before *not run*
    other = grid(measured, around, name="other", best="focal", num_train=40_000)
    assert picked(stated, other) == ("stated", HOLDS)


def test_more_seeds_go_before_the_newer_study(measured, around):
    def study(name, n, **options):
        tables = {("stated", arm): {"accuracy": around(90, n=n)} for arm in ("a", "b")}
        return measured(tables, name=name, **options)

    ten, five = study("ten", 10, dataset="kmnist"), study("five", 5, dataset="svhn", end="2026-09-01")
    ranks = {evidence.studies[0].record.name: evidence.rank for evidence in bodies([five, ten])}
    assert ranks["ten"] > ranks["five"]


def test_a_report_without_a_study_says_what_would_run_it():
    results = [result for report in CLAIMS_OF for result in evaluate_claims(report, [])]
    assert [result.id for result in results] == [claim.id for claim in ALL_CLAIMS]
    assert len(results) == 118
    outcome = results[-1].regimes["fair"]
    assert outcome.verdict == NOT_RUN
    assert outcome.reason == "no study of report 004 is on record; python -m study.launch --space loss_by_depth"


def test_each_report_is_the_space_that_says_so():
    assert {report: load_space(space).report for report, space in SPACE_OF.items()} == {r: r for r in CLAIMS_OF}


def test_an_unfinished_study_counts_and_is_named(ask, study):
    outcome = ask(A_ABOVE_B, study(state="interrupted", name="cut"))
    assert outcome.verdict == HOLDS
    assert outcome.reason == "cut is interrupted; its completed trials count"


def record_of(space="loss_by_activation", *, seeds=10, **options):
    """A record as the loader gives it, of every arm of a space in both regimes; hinge is best, KL is cross-entropy."""
    from analysis.load import StudyRecord

    arms = [arm.name for arm in load_space(space).arms]
    rows = []
    for regime in ("stated", "fair"):
        for number, arm in enumerate(arms):
            like = arm.replace("kl_div", "cross_entropy")
            noise = np.random.default_rng([arms.index(like) if like in arms else number, 1]).normal(0, 0.001, seeds)
            for seed in range(1, seeds + 1):
                score = 0.9 + 0.05 * ("hinge" in arm) - 0.05 * ("focal" in arm) + noise[seed - 1]
                key = f"{arm}/{regime}-confirm/{seed}"
                rows.append((key, arm, "confirm", regime, seed, key, "completed", score, 1 - score, score, 0.0))
    columns = ["run_id", "arm", "phase", "regime", "seed", "trial_id", "stop_reason"]
    trials = pd.DataFrame(rows, columns=[*columns, "test_accuracy", "test_nll", "val_accuracy", "diverged"])
    trials = trials.assign(
        start=pd.Timestamp("2026-01-01", tz="UTC"), end=pd.Timestamp("2026-01-02", tz="UTC"), epochs=10
    )
    protocol = {
        "report": load_space(space).report,
        "regimes": ["stated", "fair"],
        "epochs_scale": 1.0,
        "stand_in": True,
        "report_dataset": "mnist",
        "delta": 0.5,
        "baseline": "tanh-cross_entropy",
        "arms": [{"name": arm, "in_fair": True} for arm in arms],
        "dataset": {
            "name": "fashion-mnist",
            "num_classes": 10,
            "num_test": 10_000,
            "num_val": 5_000,
            "num_train": 50_000,
        },
    }
    epochs = pd.DataFrame({"run_id": trials["run_id"], "epoch": 10, "val_accuracy": trials["val_accuracy"]})
    whole = {
        "name": "whole", "run_id": "0", "experiment_id": "0", "tracking_uri": "", "tags": {"state": "finished"},
        "protocol": protocol, "trials": trials, "epochs": epochs, "finals": {},
        "identities": {"kl_div_equals_cross_entropy": {"holds": True, "statement": "KL is CE."}},
    }  # fmt: skip
    return StudyRecord(**(whole | options))


def test_a_whole_record_answers_every_claim_of_its_report():
    results = {result.id: result.regimes for result in of_records(record_of())}
    assert list(results) == [claim.id for claim in CLAIMS_OF["003"]]
    assert results["003-07"]["stated"].verdict == HOLDS
    assert results["003-02"]["stated"].verdict == REFUTED  # KL above CE
    assert results["003-08"]["stated"].verdict == HOLDS
    assert {part.effect for part in results["003-08"]["stated"].parts[1].parts} == {0.0}
    assert results["003-01"]["stated"].verdict == NOT_TESTABLE
    assert results["003-17"]["stated"].verdict == NOT_RUN  # its exact tests are not on this record


def full_record(report, **options):
    """Every arm of a report's space in both regimes, searched and diagnosed."""
    space = load_space(SPACE_OF[report])
    values = {measure: [1.0, 1.1, 0.9] for measure in DIAGNOSTIC_MEASURES}
    truth = REPORTED["ReportedTruth"](
        name=f"full-{report}",
        report=report,
        effects={arm.name: float(len(arm.name) % 3) for arm in space.arms},
        not_in_fair=tuple(arm.name for arm in space.reported_arms if not arm.in_fair),
        baseline=space.baseline,
        epochs=5,
        watch_noise="noise" in space.watch,
        identities={name: {"holds": True, "statement": name} for name in IDENTITIES},
        diagnostics={"seeds": [1, 2, 3], "arms": {a: values for arms in space.diagnostics.values() for a in arms}},
        **options,
    )
    return REPORTED["build_record"](truth, METRICS)


@pytest.mark.parametrize("report", CLAIMS_OF)
def test_a_full_study_leaves_no_claim_unanswered_but_those_about_several_data_sets(report):
    results = of_records(full_record(report))
    unanswered = {
        (result.id, regime): outcome.reason
        for result in results
        for regime, outcome in result.regimes.items()
        if outcome.verdict == NOT_RUN
    }
    assert all("it takes 2 data sets (--dataset)" in reason for reason in unanswered.values()), unanswered
    assert {id_ for id_, _ in unanswered} <= {"000-19", "004-33"}


def test_other_records_fill_in_what_one_lacks():
    record = record_of()
    only = record.trials["regime"] == "stated"
    stated = record_of(trials=record.trials[only], protocol=record.protocol | {"regimes": ["stated"]}, name="stated")
    fair = record_of(trials=record.trials[~only], protocol=record.protocol | {"regimes": ["fair"]}, name="fair")
    alone = {result.id: result.regimes["fair"] for result in of_records(stated)}
    assert alone["003-07"].verdict == NOT_RUN
    assert "--regime fair" in alone["003-07"].reason
    together = {result.id: result.regimes["fair"] for result in of_records(stated, fair)}
    assert (together["003-07"].verdict, list(together["003-07"].studies)) == (HOLDS, ["fair"])


def test_only_trials_that_ended_count():
    record = record_of()
    cut = record.trials["seed"] > 6
    trials = record.trials.assign(stop_reason=record.trials["stop_reason"].mask(cut, "interrupted"))
    results = {result.id: result.regimes["stated"] for result in of_records(record_of(trials=trials))}
    assert results["003-07"].n == 6


def test_a_study_of_another_kind_has_no_claims():
    with pytest.raises(InputError, match="Study 'tuned' is of the space 'full', which is no report's") as error:
        of_records(record_of(name="tuned", protocol={"space": "full"}))
    assert "\n" not in str(error.value)
