"""A reported study on the digits: both regimes, and its claims."""

import html
import json
import subprocess
from collections import Counter

import pytest

from analysis.claims.model import VERDICTS
from tests.end_to_end.conftest import REPORTED, command, launch

ARMS = "tanh-cross_entropy,tanh-kl_div,tanh-focal,tanh-focal-rate_1e-2"
FAIR_ARMS = ("tanh-cross_entropy", "tanh-kl_div", "tanh-focal")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return launch(tmp_path_factory.mktemp("reported"), *REPORTED, "--arms", ARMS)


def claims(study, *arguments):
    done = subprocess.run(
        **command(study.folder, *arguments, module="analysis.claims"), capture_output=True, timeout=200, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_it_ends_well_and_prints_what_was_assumed(study):
    assert study.code == 0, study.stderr
    assert "assumed: Focal gamma is 2; the report does not give it." in study.stderr
    assert study.parent.data.tags["regime"] == "both"
    assert study.parent.data.tags["state"] == "finished"


def test_every_arm_is_run_as_stated_on_every_seed_and_the_test_split_is_watched(study):
    runs = study.runs(regime="stated")
    assert Counter(run.data.tags["arm"] for run in runs) == dict.fromkeys(ARMS.split(","), 3)
    for run in runs:
        assert run.data.tags["phase"] == "confirm"
        assert study.steps(run, "test_accuracy") == [1, 2]
        assert run.data.params["init_std"] == "0.01"
        assert run.data.params["reduction"] == "sum"


def test_the_fair_regime_tries_twelve_rates_on_three_seeds_and_looks_at_the_test_split_once(study):
    search = study.runs(regime="fair", phase="search")
    assert Counter(run.data.tags["arm"] for run in search) == dict.fromkeys(FAIR_ARMS, 36)
    for arm in FAIR_ARMS:
        own = [run for run in search if run.data.tags["arm"] == arm]
        rates = Counter(run.data.params["optimizer.learning_rate"] for run in own)
        assert sorted(rates.values()) == [3] * 12
    assert not any("test_accuracy" in run.data.metrics for run in search)
    confirm = study.runs(regime="fair", phase="confirm")
    assert Counter(run.data.tags["arm"] for run in confirm) == dict.fromkeys(FAIR_ARMS, 3)
    assert all(study.steps(run, "test_accuracy") == [2] for run in confirm)


def test_the_rate_that_is_confirmed_had_the_highest_mean_validation_accuracy(study):
    for arm in FAIR_ARMS:
        scores = {}
        for run in study.runs(regime="fair", phase="search", arm=arm):
            rate = run.data.params["optimizer.learning_rate"]
            scores.setdefault(rate, []).append(run.data.metrics["val_accuracy"])
        confirmed = {
            run.data.params["optimizer.learning_rate"] for run in study.runs(regime="fair", phase="confirm", arm=arm)
        }
        (rate,) = confirmed
        assert sum(scores[rate]) == max(map(sum, scores.values()))


@pytest.mark.parametrize("regime", ["stated", "fair"])
def test_kl_divergence_and_cross_entropy_differ_by_exactly_nothing(study, regime):
    for metric in ("test_accuracy", "test_nll", "train_loss"):
        scores = [
            {
                run.data.tags["seed"]: study.values(run, metric)
                for run in study.runs(regime=regime, phase="confirm", arm=arm)
            }
            for arm in ("tanh-cross_entropy", "tanh-kl_div")
        ]
        assert len(scores[0]) == 3
        assert scores[0] == scores[1]


def test_exact_tests_and_diagnostics_are_on_record(study):
    run_id = study.parent.info.run_id
    identities = json.loads(study.artifact(run_id, "identities.json").read_text())
    assert identities["kl_div_equals_cross_entropy"]["holds"] is True
    assert identities["raising_gamma_raises_loss"]["holds"] is False
    diagnostics = json.loads(study.artifact(run_id, "diagnostics.json").read_text())
    assert set(diagnostics["arms"]) == {"tanh-cross_entropy", "tanh-kl_div", "tanh-focal"}
    protocol = json.loads(study.artifact(run_id, "study.json").read_text())
    assert (protocol["report"], protocol["regimes"], protocol["stand_in"]) == ("003", ["stated", "fair"], True)


def test_every_claim_of_the_report_gets_a_line_and_the_exact_ones_a_verdict(study):
    code, out, err = claims(study, "--study", study.name, "--format", "json")
    assert code == 0, err
    table = json.loads(out)
    assert [row["id"] for row in table] == [f"003-{number:02d}" for number in range(1, 19)]
    by_id = {row["id"]: row["regimes"] for row in table}
    assert by_id["003-08"]["stated"]["verdict"] == "holds" or "selu" in by_id["003-08"]["stated"]["reason"]
    assert by_id["003-17"]["stated"]["verdict"] == "holds"
    assert by_id["003-03"]["stated"]["verdict"] == "not run"
    assert "selu" in by_id["003-03"]["stated"]["reason"]
    counts = Counter(row["regimes"]["stated"]["verdict"] for row in table)
    # What was asked is answered first, on the terminal as on the page and in MLflow.
    answer = f"Report 003's 18 claims: as stated {counts['holds']} hold"
    assert answer in " ".join(study.stdout.split())
    assert answer in study.parent.data.tags["mlflow.note.content"]
    assert f'<p id="verdict">{html.escape(answer)}' in (study.folder / "runs" / study.name / "report.html").read_text()


def test_the_table_of_all_claims_misses_none(study):
    code, out, err = claims(study, "--all", "--format", "json")
    assert code == 0, err
    table = json.loads(out)
    assert len(table) == len({row["id"] for row in table}) == 118
    unrun = [row for row in table if row["id"].startswith("000")]
    assert {row["regimes"]["fair"]["verdict"] for row in unrun} == {"not run"}


def test_resuming_what_has_ended_runs_nothing_and_says_so(study):
    before = {run.info.run_id for run in study.runs()}
    done = subprocess.run(
        **command(study.folder, "--resume", study.name), capture_output=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Every trial is on record already" in done.stderr
    assert {run.info.run_id for run in study.runs()} == before
    assert study.parent.data.tags["state"] == "finished"


@pytest.mark.studies
@pytest.mark.parametrize(
    ("space", "arms", "count"),
    [
        ("loss_by_optimizer", "sgd-cross_entropy,adam-l1,sgd_then_adam-focal_2", 23),
        ("loss_metrics", "cross_entropy,focal_5,focal_2-imbalance_100,adam-l1_logits", 23),
        ("one_factor_at_a_time", "base,epochs_80,batch_256,rate_0.1,smooth_l1_logits", 19),
        ("loss_by_depth", "gelu-*-two,gelu-focal-one-1000_epochs,gelu-mse_probabilities-one", 35),
    ],
)
def test_every_reported_study_runs_as_stated_and_answers_its_claims(tmp_path, space, arms, count):
    flags = (
        "--dataset",
        "digits",
        "--regime",
        "stated",
        "--epochs-scale",
        "0.01",
        "--seeds",
        "1",
        "--precision",
        "bf16",
        "--max-concurrent",
        "1",
    )
    study = launch(tmp_path, "--space", space, "--arms", arms, *flags)
    assert study.code == 0, study.stderr
    runs = study.runs(regime="stated", phase="confirm")
    assert len(runs) == len(study.runs()) >= 3
    assert {run.data.tags["stop_reason"] for run in runs} <= {"completed", "diverged"}
    code, out, err = claims(study, "--study", study.name, "--format", "json")
    assert code == 0, err
    table = json.loads(out)
    assert len(table) == count
    for row in table:
        for outcome in row["regimes"].values():
            assert outcome["verdict"] in VERDICTS
            assert outcome["reason"] or outcome["verdict"] != "not run"
    # The table has arms of this study: one that is here is not said to be missing.
    reasons = " ".join(row["regimes"]["stated"]["reason"] for row in table)
    assert not any(f"arm {run.data.tags['arm']} was not run" in reasons for run in runs)
    watched = study.steps(runs[0], "noisy_test_accuracy")
    assert bool(watched) == (space == "loss_by_optimizer")
