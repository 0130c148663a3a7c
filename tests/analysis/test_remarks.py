from dataclasses import replace

import pytest

from analysis.findings import find
from analysis.remarks import audit_remarks, describe_disagreements, describe_luck, protocol_facts


def with_comparison(findings, arm, **values):
    """The findings with one comparison's numbers changed."""
    frame = findings.comparisons.copy()
    for column, value in values.items():
        frame.loc[frame["arm"] == arm, column] = value
    return replace(findings, comparisons=frame)


def test_a_significant_arm_whose_interval_includes_zero_is_explained_by_the_seed_that_diverged(findings_of):
    (remark,) = describe_disagreements(findings_of("truth"))
    row = findings_of("truth").comparisons.set_index("arm").loc["l1"]
    assert remark.startswith("l1: Holm p = 0.0059 says that it differs from cross_entropy, though its t interval [")
    assert "seed 3 (-" in remark
    assert "points, diverged) stands apart from the others (median -6" in remark
    assert f"leaves [{row['flip_low_points']:+.2f}, {row['flip_high_points']:+.2f}]" in remark


def test_an_outlier_that_did_not_diverge_is_named_too(load):
    record = load("truth")
    trials = record.trials.copy()
    confirm = (trials["phase"] == "confirm") & (trials["arm"] == "focal")
    trials.loc[confirm & (trials["seed"] == 5), "test_accuracy"] += 0.5
    (remark,) = [line for line in describe_disagreements(find(replace(record, trials=trials))) if "focal" in line]
    assert "seed 5 (+5" in remark
    assert "diverged" not in remark


def test_a_close_call_without_an_outlier_is_called_so(load):
    record = load("hostile")
    trials = record.trials.copy()
    points = dict(enumerate([1.7, 0.8, 2.8, 1.0, 0.2, 0.4, -0.3], start=1))  # p = 6 / 128, t interval from -0.02
    base = trials[(trials["phase"] == "confirm") & (trials["arm"] == "cross_entropy")].set_index("seed")
    other = (trials["phase"] == "confirm") & (trials["arm"] != "cross_entropy")
    scores = [base.loc[seed, "test_accuracy"] + points[seed] / 100 for seed in trials.loc[other, "seed"]]
    trials.loc[other, "test_accuracy"] = scores
    (remark,) = describe_disagreements(find(replace(record, trials=trials)))
    assert "t interval [-0.02, +1.90] includes 0: no seed stands apart, both are close to their bounds." in remark


def test_an_interval_that_excludes_zero_against_the_correction_is_explained_by_it(findings_of):
    findings = with_comparison(findings_of("truth"), "hinge", low_points=0.1, high_points=0.5, p=0.03, p_holm=0.09)
    remarks = describe_disagreements(findings)
    assert (
        "The t interval of hinge excludes 0, though Holm p is no smaller than 0.05: p is corrected for 3 comparisons,"
        " an interval stands for its arm alone."
    ) in remarks


@pytest.mark.parametrize(
    ("pairs", "p", "reason"), [(5, 0.0625, "no sign-flip p of 5 seeds can be smaller than 0.062"), (10, 0.06, "normal")]
)
def test_an_interval_that_excludes_zero_against_the_test_is_explained(findings_of, pairs, p, reason):
    findings = with_comparison(
        findings_of("truth"), "hinge", low_points=0.1, high_points=0.5, p=p, p_holm=3 * p, num_seeds=pairs
    )
    (remark,) = [line for line in describe_disagreements(findings) if line.startswith("hinge")]
    assert "even before the correction" in remark
    assert reason in remark


def test_agreement_needs_no_remark(findings_of):
    assert describe_disagreements(findings_of("one-seed")) == []
    assert describe_disagreements(findings_of("hostile")) == []
    assert describe_disagreements(findings_of("searching")) == []


def test_the_luck_of_the_search_is_printed_where_a_twin_measures_it(load):
    record = load("truth")
    twin = find(replace(record, protocol=record.protocol | {"controls": {"hinge": "cross_entropy"}}))
    (remark,) = describe_luck(twin)
    row = twin.comparisons.set_index("arm").loc["hinge"]
    assert "measured by hinge, which is cross_entropy under another name" in remark
    assert f"came out {row['difference_points']:+.2f} [" in remark
    assert f"a difference of {abs(row['difference_points']):.2f} points or less" in remark
    assert protocol_facts(twin)["Control arms"] == "hinge, which is cross_entropy under another name"


def test_a_study_without_a_twin_says_that_nothing_measures_its_luck(findings_of):
    assert describe_luck(findings_of("truth")) == [
        "Intervals leave the luck of the search out, and no arm of this study measures it."
    ]
    assert describe_luck(findings_of("searching")) == []


def test_the_facts_name_machines_rungs_and_seeds(findings_of):
    facts = protocol_facts(findings_of("truth"))
    assert facts["Nodes"].startswith(f"host-a ({len(findings_of('truth').record.trials)} trials, busy ")
    assert facts["Rungs"] == "1 at epoch 2, 2 at epoch 6"
    assert facts["Confirm seeds"].startswith("1, 2, 3")
    assert "Control arms" not in facts


def test_remarks_never_hold_a_number_that_is_none(findings_of):
    for study in ("truth", "searching", "hostile", "one-seed", "bare", "alone", "joint", "drifting"):
        for line in [*audit_remarks(findings_of(study)), *protocol_facts(findings_of(study)).values()]:
            words = line.lower().replace("[", " ").replace(",", " ").split()
            assert not {"nan", "inf", "none", "<na>"} & set(words)
