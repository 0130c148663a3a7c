"""What the tests of report 003 really compare."""

from analysis.claims.model import All, Contrast, Equal, Share, Superior
from analysis.claims.report_003 import CLAIMS, REPORTED

TESTS = {claim.id: claim for claim in CLAIMS}


def applied(contrast: Contrast, accuracies):
    return sum(term.weight * accuracies[term.arm] for term in contrast.terms)


def as_reported():
    losses = ("hinge", "kl_div", "cross_entropy", "focal")
    return {
        f"{activation}-{loss}": accuracy
        for activation, accuracies in REPORTED.items()
        for loss, accuracy in zip(losses, accuracies, strict=True)
    }


def test_focal_lies_more_than_the_bound_below_every_other_loss_in_the_report():
    stated = TESTS["003-09"].stated
    assert isinstance(stated, Superior)
    deficits = [applied(contrast, as_reported()) for contrast in stated.contrasts]
    assert len(deficits) == 9
    assert min(deficits) > stated.bound


def test_the_reported_changes_contradict_the_report_exactly_where_its_notes_say():
    wrong = {
        id_: [contrast.label for contrast in TESTS[id_].stated.contrasts if applied(contrast, as_reported()) <= 0]
        for id_ in ("003-04", "003-05", "003-06")
    }
    assert wrong == {
        "003-04": ["tanh-hinge - selu-hinge: accuracy"],
        "003-05": ["hardswish-cross_entropy - tanh-cross_entropy: accuracy"],
        "003-06": ["tanh-focal - hardswish-focal: accuracy"],
    }


def test_a_deficit_that_is_the_same_with_every_activation_has_no_interaction():
    test = TESTS["003-16"].stated
    assert isinstance(test, Equal)
    same = {arm: 90.0 - 5.0 * arm.endswith("focal") + len(arm.split("-")[0]) for arm in as_reported()}
    assert {applied(contrast, same) for contrast in test.contrasts} == {0.0}
    assert any(abs(applied(contrast, as_reported())) > 0.5 for contrast in test.contrasts)


def test_one_divergence_in_an_arm_of_the_report_speaks_against_the_cure():
    for regime in ("stated", "fair"):
        test = getattr(TESTS["003-18"], regime)
        assert isinstance(test, All)
        (event,) = (part for part in test.parts if isinstance(part, Share))
        assert event.absent
        assert event.at_least == 1.0
        assert not {arm for arm in event.arms if "margin_1" in arm or "averaged" in arm or arm.endswith("-mean")}
