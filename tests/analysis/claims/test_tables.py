"""The tables of claims: complete, and naming only what a study of their report records."""

import importlib
import importlib.util
from dataclasses import fields, is_dataclass
from itertools import product

import pytest

from analysis.claims.model import (
    Best,
    Claim,
    Different,
    EffectSize,
    Equal,
    Identity,
    Number,
    Ordered,
    RarerThan,
    Share,
    Superior,
    Term,
)
from analysis.measures import MEASURES
from search_spaces.table import load_space
from trainables.identities import IDENTITIES

REPORTS = {
    "000": ("loss_by_optimizer", 23),
    "001": ("loss_metrics", 23),
    "002": ("one_factor_at_a_time", 19),
    "003": ("loss_by_activation", 18),
    "004": ("loss_by_depth", 35),
}
#: Seen only by trials that look at noisy images after every epoch, which those of the fair regime do not.
WATCHED = {"noisy_accuracy", "noisy_drop"}


def module_of(report):
    return importlib.import_module(f"analysis.claims.report_{report}")


def nodes(test):
    """The test and everything within it."""
    yield test
    for field in fields(test):
        content = getattr(test, field.name)
        for part in content if isinstance(content, tuple) else (content,):
            if is_dataclass(part):
                yield from nodes(part)


def mentions(node, regime):
    """What a node names by itself: (arm, measure, regime)."""
    named, measure, where = (), "", regime
    match node:
        case Term():
            named, measure, where = (node.arm,), node.measure, node.regime or regime
        case Number():
            named, measure = (node.arm,), node.measure
        case Best():
            named, measure = (node.arm, *node.rivals), node.measure
        case Ordered() | Share():
            named, measure = node.arms, node.measure
        case RarerThan():  # counted over the trials of the fair regime's search, whichever the regime
            named, measure, where = (node.arm, *node.rivals), node.event, "fair"
        case EffectSize():
            factors, levels = zip(*node.levels, strict=True)
            cells = [dict(zip(factors, cell, strict=True)) for cell in product(*levels)]
            named, measure = [node.pattern.format(**cell) for cell in cells], node.measure
    return [(arm, measure, where) for arm in named]


def all_mentions(claim):
    return [
        mention
        for regime in ("stated", "fair")
        for node in nodes(getattr(claim, regime))
        for mention in mentions(node, regime)
    ]


def every_claim():
    return [pytest.param(report, claim, id=claim.id) for report in REPORTS for claim in module_of(report).CLAIMS]


@pytest.mark.parametrize("report", REPORTS)
def test_no_claim_of_a_report_is_missing_and_they_stand_in_order(report):
    _, count = REPORTS[report]
    assert [claim.id for claim in module_of(report).CLAIMS] == [f"{report}-{n:02d}" for n in range(1, count + 1)]


@pytest.mark.parametrize("report", REPORTS)
def test_statements_are_sentences_of_their_own(report):
    statements = [claim.statement for claim in module_of(report).CLAIMS]
    assert len(set(statements)) == len(statements)
    for text in statements + [claim.note for claim in module_of(report).CLAIMS if claim.note]:
        assert text[0].isupper() or text[0].isdigit(), text
        assert text.endswith("."), text
        assert "  " not in text, text


@pytest.mark.parametrize(("report", "claim"), every_claim())
def test_a_claim_names_arms_that_its_regime_runs(report, claim):
    study = load_space(REPORTS[report][0])
    runs = {regime: {arm.name for arm in study.arms_of(regime)} for regime in ("stated", "fair")}
    assert {(arm, regime) for arm, _, regime in all_mentions(claim) if arm not in runs[regime]} == set()


@pytest.mark.parametrize(("report", "claim"), every_claim())
def test_a_claim_names_measures_that_its_regime_records(report, claim):
    named = {(measure, regime) for _, measure, regime in all_mentions(claim)}
    assert {measure for measure, _ in named} - set(MEASURES) == set()
    seen = {"stated"} if "noise" in load_space(REPORTS[report][0]).watch else set()
    assert {regime for measure, regime in named if measure in WATCHED} <= seen


@pytest.mark.parametrize(("report", "claim"), every_claim())
def test_a_claim_names_identities_that_are_decided(report, claim):
    named = {node.name for node in (*nodes(claim.stated), *nodes(claim.fair)) if isinstance(node, Identity)}
    assert named <= set(IDENTITIES)


@pytest.mark.parametrize(("report", "claim"), every_claim())
def test_no_two_comparisons_of_a_family_share_a_label_and_no_family_is_empty(report, claim):
    for node in (*nodes(claim.stated), *nodes(claim.fair)):
        if isinstance(node, Superior | Equal | Different):
            labels = [contrast.label for contrast in node.contrasts]
            assert labels
            assert len(set(labels)) == len(labels)
        elif is_dataclass(node) and any(field.name == "parts" for field in fields(node)):
            assert node.parts
        elif isinstance(node, Best | RarerThan):
            assert node.rivals
            assert len(set(node.rivals) - {node.arm}) == len(node.rivals)


def test_the_walk_sees_through_every_nesting():
    claim = module_of("001").CLAIMS[16]
    assert isinstance(claim, Claim)
    arms = {arm for arm, _, _ in all_mentions(claim)}
    assert arms == {"cross_entropy", "l1", "adam-l1_logits"}


def applied(contrast, outcomes):
    """What a contrast gives for these outcomes, arm by arm."""
    return sum(term.weight * outcomes[term.arm] for term in contrast.terms)


def test_the_curvature_over_gamma_finds_the_square_and_ignores_the_line():
    report = module_of("001")
    contrast = report._curvature(report.GAMMAS, "accuracy")
    bent = {arm: 7.0 - 3.0 * gamma - 0.5 * gamma**2 for gamma, arm in report.GAMMAS}
    straight = {arm: 7.0 - 3.0 * gamma for gamma, arm in report.GAMMAS}
    assert applied(contrast, bent) == pytest.approx(-0.5)
    assert applied(contrast, straight) == pytest.approx(0.0, abs=1e-12)


def test_the_gain_over_batch_sizes_is_that_of_the_line_through_them():
    report = module_of("002")
    contrast = report._gain("accuracy")
    assert applied(contrast, {arm: 80.0 + 0.25 * doublings for doublings, arm in report.BATCHES}) == pytest.approx(1.0)
    zigzag = {arm: 80.0 + offset for (_, arm), offset in zip(report.BATCHES, (1, -2, 0, -2, 1), strict=True)}
    assert applied(contrast, zigzag) == pytest.approx(0.0, abs=1e-12)


def test_a_change_between_regimes_is_the_fair_difference_minus_the_stated_one():
    contrast = module_of("001")._regimes("l1", "cross_entropy", "accuracy")
    outcomes = {
        ("l1", "fair"): 80,
        ("cross_entropy", "fair"): 85,
        ("l1", "stated"): 40,
        ("cross_entropy", "stated"): 84,
    }
    assert sum(term.weight * outcomes[term.arm, term.regime] for term in contrast.terms) == -5 + 44


def test_a_difference_under_noise_is_one_of_accuracies_after_their_drops():
    contrast = module_of("000")._under_noise("adam-cross_entropy", "sgd-cross_entropy")
    outcomes = {
        ("adam-cross_entropy", "accuracy"): 90.0, ("adam-cross_entropy", "noise_drop"): 30.0,
        ("sgd-cross_entropy", "accuracy"): 88.0, ("sgd-cross_entropy", "noise_drop"): 25.0,
    }  # fmt: skip
    assert sum(term.weight * outcomes[term.arm, term.measure] for term in contrast.terms) == 60.0 - 63.0
