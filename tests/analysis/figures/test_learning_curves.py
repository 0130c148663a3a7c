import pytest

from analysis.figures.table import FIGURES


def test_learning_curves_end_at_the_mean_over_seeds_and_keep_a_diverged_one(findings_of):
    findings = findings_of("truth")
    info = FIGURES["learning_curves"].info(findings)
    last = info.groupby("arm").tail(1).set_index("arm")
    confirm = findings.record.trials.query("phase == 'confirm'")
    expected = confirm.groupby("arm")["val_accuracy"].mean()
    assert last["mean"].to_dict() == pytest.approx(expected.to_dict())
    assert last["epoch"].tolist() == [8] * 4
    assert last["num_seeds"].tolist() == [10] * 4
