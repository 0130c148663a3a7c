from dataclasses import replace

import pytest

from analysis.across.studies import group_datasets, load_comparison, put_together
from trainables.config import InputError


def error_of(across_store, *names, **options):
    with pytest.raises(InputError) as caught:
        load_comparison(names, tracking_uri=across_store, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_fewer_than_two_studies_are_refused(across_store):
    assert "two studies or more; got 'digits-1'" in error_of(across_store, "digits-1", "digits-1")


def test_an_unknown_study_is_named(across_store):
    assert error_of(across_store, "digits-1", "nosuch").startswith("Unknown study 'nosuch'")


def test_studies_of_different_factors_are_refused(across_store):
    said = error_of(across_store, "digits-1", "optimizers")
    assert "'digits-1' asks about 'loss', 'optimizers' about 'optimizer'" in said


def test_studies_without_a_common_arm_are_refused_with_what_each_has(across_store):
    said = error_of(across_store, "digits-1", "strangers")
    assert said.startswith("No arm is common to the studies: 'digits-1' confirmed cross_entropy, focal, hinge, l1;")


def test_a_study_that_confirmed_nothing_is_refused(across_store):
    assert error_of(across_store, "digits-1", "searching").startswith("Study 'searching' has no confirm run")


def test_arms_that_not_all_confirmed_are_left_out_with_the_reason(compare):
    comparison = compare("digits-1", "clothes")
    assert comparison.arms == ("cross_entropy", "focal", "hinge", "l1")  # the first study's order
    assert comparison.left_out == {"mse": "no arm of digits-1; no confirm score in clothes"}


def test_studies_on_parts_of_one_dataset_count_as_one(compare):
    assert compare("digits-1", "digits-2", "letters").datasets == ["digits", "letters"]
    said = " ".join(compare("digits-1", "digits-2", "letters").remarks)
    assert "digits-1, digits-2 draw on digits: they are not independent" in said
    assert compare("clothes", "letters").studies[0].dataset == "clothes"
    assert compare("clothes", "letters").studies[0].setting == "clothes train-size=2000"


@pytest.mark.parametrize(
    ("settings", "digests", "groups"),
    [
        (["a", "a classes=0,6 train-size=12000", "b"], ["1", "2", "3"], ["a", "a", "b"]),
        (["a imbalance=100", "a"], ["", ""], ["a", "a"]),
        (["folder:/x", "folder:/y"], ["same", "same"], ["folder:/x", "folder:/x"]),
        (["folder:/x", "folder:/x y"], ["1", "2"], ["folder:/x", "folder:/x y"]),
    ],
)
def test_a_dataset_is_known_by_its_name_or_its_digest(settings, digests, groups):
    assert group_datasets(settings, digests) == groups


def test_a_baseline_that_is_not_shared_gives_way_and_it_is_said(compare):
    studies = [study.findings.record for study in compare("digits-1", "letters").studies]
    other = replace(studies[1], protocol={**studies[1].protocol, "baseline": "focal"})
    comparison = put_together([studies[0], other])
    assert comparison.baseline == "cross_entropy"
    assert "different baselines" in comparison.remarks[0]
    first = replace(studies[0], protocol={**studies[0].protocol, "baseline": "mse"})
    assert put_together([first, studies[1]]).baseline == "cross_entropy"


def test_an_interrupted_study_and_one_without_a_protocol_are_told_of(compare):
    said = " ".join(compare("stopped", "bare").remarks)
    assert "stopped is interrupted" in said
    assert "study.json of bare is not on record" in said


def reported(study, *regimes):
    """A record as a reported study leaves it, each confirm run once per regime."""
    import pandas as pd

    record = study.findings.record
    arms = [{**arm, "in_fair": True} for arm in record.protocol["arms"]]
    confirm = record.trials[record.trials["phase"] == "confirm"]
    runs = [
        confirm.assign(regime=regime, run_id=confirm["run_id"] + regime, test_accuracy=confirm["test_accuracy"] - drop)
        for regime, drop in regimes
    ]
    protocol = {**record.protocol, "report": "003", "arms": arms}
    return replace(record, protocol=protocol, trials=pd.concat(runs, ignore_index=True))


def test_a_reported_study_is_compared_in_the_regime_that_all_have(compare):
    first, second = compare("digits-1", "letters").studies
    both, stated = reported(first, ("fair", 0), ("stated", 0.1)), reported(second, ("stated", 0.1))
    tuned = second.findings.record
    assert put_together([both, tuned]).regime == "fair"
    common = put_together([both, stated])
    assert common.regime == "stated"
    assert "untuned" in common.remarks[0]
    shown = common.studies[0].findings.table.set_index("arm")["accuracy"]
    fair = put_together([both, tuned]).studies[0].findings.table.set_index("arm")["accuracy"]
    assert (fair - shown).to_list() == pytest.approx([0.1] * 4)
    assert put_together([both, both], regime="stated").regime == "stated"
    assert put_together([tuned, first.findings.record]).regime == ""


def test_studies_without_a_common_regime_are_refused(compare):
    first, second = compare("digits-1", "letters").studies
    stated, tuned = reported(first, ("stated", 0)), second.findings.record
    with pytest.raises(InputError, match="No regime is common to the studies: 'digits-1' confirmed stated; 'letters'"):
        put_together([stated, tuned])
    with pytest.raises(InputError, match="`--regime stated`: study 'letters' confirmed fair only"):
        put_together([stated, tuned], regime="stated")
