from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.across.changes import change, config_of, describe_change, protocol_table, shown, version_changes
from analysis.across.studies import put_together


def facts(comparison, *, differs):
    table = protocol_table(comparison)
    rows = table[table["differs"].astype(bool) == differs].set_index("fact")
    return {fact: [str(row[place]) for place in range(len(comparison.studies))] for fact, row in rows.iterrows()}


def altered(comparison, place, **protocol):
    records = [study.findings.record for study in comparison.studies]
    records[place] = replace(records[place], protocol={**records[place].protocol, **protocol})
    return put_together(records)


def test_what_differs_between_versions_is_listed_and_nothing_else(compare):
    assert facts(compare("digits-1", "digits-2"), differs=True) == {"Commit": ["0123456789ab", "fedcba987654"]}
    same = facts(compare("digits-1", "digits-2"), differs=False)
    assert same["Confirm seeds"] == ["1 to 10"] * 2
    assert same["optimizer.learning_rate (optimizer = sgd)"] == ["0.001 to 1, log"] * 2


def test_another_range_precision_or_version_is_seen(compare):
    plain = compare("digits-1", "digits-2")
    arms = [dict(arm) for arm in plain.studies[1].protocol["arms"]]
    arms[0] = {**arms[0], "fixed": {**arms[0]["fixed"], "precision": "bf16"}}
    arms[1] = {**arms[1], "parameters": arms[1]["parameters"][:1]}
    found = facts(altered(plain, 1, arms=arms, versions={"python": "3.12.1"}), differs=True)
    assert found["precision of cross_entropy"] == ["", "bf16"]
    assert found["Version of python"] == ["3.11.7", "3.12.1"]
    assert found["Version of mlflow"] == ["3.17.2", ""]
    assert found["optimizer.learning_rate (optimizer = adam) of hinge"] == ["", "1e-05 to 0.1, log"]


def test_the_factor_itself_is_no_difference(compare):
    assert not any(fact.startswith("loss of") for fact in facts(compare("digits-1", "letters"), differs=False))


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), ([], ""), ([1, 2, 3, 4], "1 to 4"), ([2, 6], "2, 6"), (True, "yes"), (0.00012345, "0.0001234")],
)
def test_values_are_shown_as_a_person_writes_them(value, text):
    assert shown(value) == text


def test_the_same_seeds_on_the_same_data_are_paired(compare):
    table = version_changes(compare("digits-1", "digits-2"))
    assert table["paired"].all()
    before, after = (study.findings.record.trials for study in compare("digits-1", "digits-2").studies)
    row = table.set_index("arm").loc["focal"]
    scores = [
        own[(own["arm"] == "focal") & (own["phase"] == "confirm")].set_index("seed")["test_accuracy"]
        for own in (before, after)
    ]
    expected = stats.ttest_1samp(100 * (scores[1] - scores[0]).to_numpy(dtype=float), 0)
    assert row["change"] == pytest.approx(100 * (scores[1] - scores[0]).mean())
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_other_data_or_other_seeds_are_compared_by_welch(compare):
    comparison = altered(compare("digits-1", "digits-2"), 1, dataset={"name": "digits train-size=500", "sha256": "x"})
    row = version_changes(comparison).set_index("arm").loc["l1"]
    assert not row["paired"]
    values = [
        own.loc[(own["arm"] == "l1") & (own["phase"] == "confirm"), "test_accuracy"].to_numpy(dtype=float) * 100
        for own in (study.findings.record.trials for study in comparison.studies)
    ]
    expected = stats.ttest_ind(values[1], values[0], equal_var=False)
    assert row["p"] == pytest.approx(expected.pvalue)
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_a_study_repeated_exactly_changes_nothing_by_zero(compare):
    study = compare("digits-1", "digits-2").studies[0]
    row = change(study, study, "focal")
    assert (row["change"], row["low"], row["high"], row["p"]) == (0, 0, 0, 1)


def test_one_seed_has_a_change_and_no_interval(compare):
    single, other = compare("one-seed", "digits-1").studies
    row = change(single, other, "focal")
    assert np.isfinite(row["change"])
    assert np.isnan([row["low"], row["high"], row["p"]]).all()


def test_studies_of_different_datasets_have_no_versions(compare):
    table = version_changes(compare("digits-1", "letters"))
    assert table.empty
    assert isinstance(table, pd.DataFrame)


def test_the_winners_change_is_told_by_key(compare):
    assert describe_change({"optimizer": "sgd", "batch_size": 32}, {"optimizer": "adam", "batch_size": 32, "x": 1}) == (
        "optimizer sgd → adam, x – → 1"
    )
    assert describe_change({"a": 1}, {"a": 1}) == "the same"
    assert describe_change({}, {"a": 1}) == "not on record"
    config = config_of(compare("digits-1", "letters").studies[0], "focal")
    assert config["loss.gamma"] == 1.5
    assert "seed" not in config
