"""What a study's run says of it: the numbers of its report, and a description that nothing in it can break."""

import html
import math
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.utils.validation import _validate_metric_name

from analysis.findings import find
from analysis.load import load_study
from study.ledger import COMPLETED, DIVERGED, FAILED, PRUNED, Request, TrialRecord
from study.summary import arm_keys, count_trials, describe_result, log_summary, summarise

SYNTHETIC = runpy.run_path(str(Path(__file__).parents[1] / "analysis" / "synthetic_study.py"))
HOSTILE = "<script>alert(1)</script>|`*_[x](javascript:alert(1))"


@pytest.fixture(scope="module")
def findings_of(tmp_path_factory):
    """Findings of a study of known truth, written once: ``findings_of("clear")``."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    truth = SYNTHETIC["Truth"]
    quick = {"num_trials": 1}
    effects = {"cross_entropy": 0.0, "focal": 3.0, "l1": -6.0, "hinge": 0.0}
    many = {"cross_entropy": 0.0} | {f"arm-{place:02d}{'x' * 80}": 0.5 for place in range(30)}
    for study in (
        truth(name="clear", effects=effects, noise=0.2, seeds=tuple(range(1, 11)), **quick),
        truth(name="searching", confirm=False, effects={"cross_entropy": 0.0, "focal": 1.0}, **quick),
        truth(name="alone", effects={"cross_entropy": 0.0}, **quick),
        truth(name="one-seed", effects={"cross_entropy": 0.0, "focal": 1.0}, seeds=(1,), **quick),
        truth(name="diverged", effects={"cross_entropy": 0.0, "l1": -1.0}, diverged=(("l1", 2),), **quick),
        truth(name="hostile", effects={"cross_entropy": 0.0, HOSTILE: 1.0}, **quick),
        truth(name="many", effects=many, seeds=(1, 2), **quick),
    ):  # fmt: skip
        SYNTHETIC["write_study"](uri, folder / "artifacts", study)
    return lambda name: find(load_study(name, tracking_uri=uri, metrics=("val_accuracy",), finals=False))


def test_the_numbers_are_those_of_the_report(findings_of):
    findings = findings_of("clear")
    values = summarise(findings)
    table, comparisons = findings.table.set_index("arm"), findings.comparisons.set_index("arm")
    for arm in ("cross_entropy", "focal", "l1", "hinge"):
        assert values[f"accuracy/{arm}"] == table.loc[arm, "accuracy"]
    for arm in ("focal", "l1", "hinge"):
        assert values[f"difference_points/{arm}"] == comparisons.loc[arm, "difference_points"]
    assert values["best_accuracy"] == table.loc["focal", "accuracy"]
    assert values["baseline_accuracy"] == table.loc["cross_entropy", "accuracy"]
    assert values["best_difference_points"] == comparisons.loc["focal", "difference_points"]
    assert values["best_difference_low_points"] == comparisons.loc["focal", "low_points"]
    assert values["best_difference_high_points"] == comparisons.loc["focal", "high_points"]
    assert values["smallest_p_holm"] == comparisons["p_holm"].min()
    assert values["detectable_points"] == comparisons["detectable_points"].max()
    assert (values["num_arms"], values["num_seeds"], values["delta_points"]) == (4, 10, 1)


def test_arms_are_counted_by_what_the_study_showed_of_them(findings_of):
    values = summarise(findings_of("clear"))
    # True differences of +3, -6 and 0 points at a spread of 0.2 leave no doubt, delta is 1.
    assert {key: values[f"num_arms_{key}"] for key in ("better", "worse", "equivalent", "inconclusive")} == {
        "better": 1,
        "worse": 1,
        "equivalent": 1,
        "inconclusive": 0,
    }


def test_a_twin_of_the_baseline_is_no_arm_to_win(findings_of):
    findings = findings_of("clear")
    findings.record.protocol["controls"] = {"focal": "cross_entropy"}
    values = summarise(findings)
    assert values["best_difference_points"] == values["difference_points/hinge"]
    assert values["num_arms_better"] == 0
    assert values["num_arms"] == 3
    assert values["best_accuracy"] < values["accuracy/focal"]


def test_a_difference_that_luck_of_the_search_may_explain_is_no_win(findings_of):
    record = findings_of("clear").record
    # l1 lies 6 points below, hinge level with it, focal 3 above.
    lucky = find(replace(record, protocol={**record.protocol, "controls": {"l1": "cross_entropy"}}))
    values = summarise(lucky)
    assert (values["num_arms_better"], values["num_arms_equivalent"], values["num_arms_inconclusive"]) == (0, 1, 1)


@pytest.mark.parametrize("name", ["searching", "alone", "one-seed", "diverged", "many"])
def test_a_study_without_an_answer_has_fewer_numbers_and_none_that_is_not_finite(findings_of, name):
    values = summarise(findings_of(name))
    assert all(math.isfinite(value) for value in values.values())
    assert ("best_accuracy" in values) == (name != "searching")
    assert ("best_difference_points" in values) == (name not in ("searching", "alone"))
    assert ("best_difference_low_points" in values) == (name in ("diverged", "many"))


def test_arms_of_any_name_have_keys_of_their_own_that_mlflow_takes():
    arms = ["focal", "a/b", "a<b", "..", "", "x" * 400, "x" * 401, HOSTILE, "naïve λ", "a_b"]
    keys = arm_keys(arms)
    assert keys["focal"] == "focal"
    assert (keys["a/b"], keys["a<b"], keys["a_b"]) == ("a_b", "a_b_3", "a_b_10")
    assert len(set(keys.values())) == len(arms)
    for key in keys.values():
        _validate_metric_name(f"accuracy/{key}")
        assert len(f"difference_points/{key}") <= 250


def a_trial(number, stop_reason, epoch=4, seconds=1.5):
    request = Request("focal", "search", number, {"epochs": 4})
    return TrialRecord(request, epoch=epoch, seconds=seconds, stop_reason=stop_reason)


def test_trials_are_counted_by_how_they_ended_with_what_they_took():
    trials = [a_trial(0, COMPLETED), a_trial(1, PRUNED, epoch=1, seconds=0.5), a_trial(2, DIVERGED, epoch=2)]
    trials.append(a_trial(3, FAILED, epoch=0, seconds=0.0))
    assert count_trials(trials) == {
        "num_trials": 4,
        "num_failed": 1,
        "num_diverged": 1,
        "num_epochs": 7,
        "trial_seconds": 3.5,
    }


def test_the_description_gives_the_verdict_the_arms_and_the_way_on(findings_of):
    findings = findings_of("clear")
    lines = describe_result(findings).splitlines()
    assert html.unescape(lines[0].replace("\\", "")) == findings.verdict
    rows = [line for line in lines if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(findings.table["arm"])
    best = findings.comparisons.iloc[0]
    assert f"{best['difference_points']:+.2f} [{best['low_points']:+.2f}, {best['high_points']:+.2f}]" in rows[0]
    assert any("| baseline |" in row for row in rows)
    assert "report.html" in lines[-5]
    assert "python -m analysis.report --study clear" in lines[-5]


@pytest.mark.parametrize("name", ["searching", "alone", "one-seed", "diverged", "many", "hostile"])
def test_the_description_of_any_study_is_short_and_shows_no_nan(findings_of, name):
    note = describe_result(findings_of(name))
    assert len(note) <= 5000
    assert "nan" not in note
    assert ("| arm |" in note) == (name != "searching")
    assert ("6 more arms" in note) == (name == "many")


def test_a_seed_that_diverged_is_marked(findings_of):
    assert "(1 diverged)" in describe_result(findings_of("diverged"))


def test_a_name_with_markup_stays_text(findings_of):
    note = describe_result(findings_of("hostile"))
    rows = [line for line in note.splitlines() if line.startswith("| `")]
    assert all(row.count("|") == 6 for row in rows)
    verdict = note.splitlines()[0]
    assert "<script>" not in verdict
    assert "\\[x\\]" in verdict


def test_numbers_and_description_arrive_on_the_studys_run(findings_of, tmp_path):
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run_id = client.create_run("0", start_time=1_000_000).info.run_id
    client.set_terminated(run_id, "FINISHED", 1_090_000)
    findings = findings_of("clear")
    trials = [a_trial(0, COMPLETED)]
    for _ in range(2):
        log_summary(client, run_id, trials, findings)
    data = client.get_run(run_id).data
    assert data.metrics == {**summarise(findings), **count_trials(trials), "wall_seconds": 90}
    assert data.tags["mlflow.note.content"] == describe_result(findings)


def test_a_study_without_a_report_still_says_how_its_trials_ended(tmp_path):
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run_id = client.create_run("0").info.run_id
    log_summary(client, run_id, [a_trial(0, FAILED, epoch=0)], None)
    data = client.get_run(run_id).data
    assert data.metrics["num_failed"] == data.metrics["num_trials"] == 1
    assert "mlflow.note.content" not in data.tags


def test_every_number_is_described_under_its_name(findings_of):
    described = (Path(__file__).parents[2] / "docs" / "mlflow.md").read_text()
    keys = {*summarise(findings_of("clear")), *count_trials([]), "wall_seconds"}
    names = {key.split("/")[0] + "/ARM" if "/" in key else key for key in keys}
    assert not [name for name in names if f"`{name}`" not in described]
