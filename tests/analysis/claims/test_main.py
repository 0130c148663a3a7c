import json
import subprocess
import sys

import numpy as np
import pytest
from mlflow import MlflowClient

from analysis.claims.__main__ import main
from analysis.claims.table import ALL_CLAIMS

IDENTITIES = {
    "naive_softmax_overflows": {"holds": True, "statement": "It overflows."},
    "naive_kl_fails_at_zero_probability": {"holds": True, "statement": "It fails."},
    "raising_gamma_raises_loss": {"holds": False, "statement": "Raising gamma raises the loss."},
}


def accuracies(gain, *, seeds=6):
    """Focal loss with one hidden layer and with two, which gain so many points, with a little noise."""
    noise = np.random.default_rng(0).normal(0, 0.0005, (2, seeds))
    return {"tanh-focal": 0.9 + noise[0], "tanh-focal-two_layers": 0.9 + gain / 100 + noise[1]}


@pytest.fixture(scope="module")
def store(tmp_path_factory, write_study):
    """Three studies of report 003 (one regime each and a broken one), one of 001 cut short, and one of no report."""
    folder = tmp_path_factory.mktemp("claims")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    space = {"space": "loss_by_activation", "report": "003"}
    write_study(uri, folder, accuracies(1.0), name="as-stated", identities=IDENTITIES, **space)
    write_study(uri, folder, accuracies(-1.0), name="tuned", regime="fair", **space)
    write_study(uri, folder, {}, name="broken", study_json=False, **space)
    arms = {"cross_entropy": [0.5, 0.6, 0.7], "l1": [0.1, 0.1, 0.1]}
    one = {"space": "loss_metrics", "report": "001", "identities": IDENTITIES}
    write_study(uri, folder, arms, name="cut-short", state="interrupted", **one)
    MlflowClient(uri).create_run("0", tags={"study": "losses", "space": "full", "phase": "study"})
    return uri


def results_of(store, capsys, *arguments):
    assert main([*arguments, "--tracking-uri", store, "--format", "json"]) == 0
    return {entry["id"]: entry for entry in json.loads(capsys.readouterr().out)}


def test_the_real_command_prints_one_table_of_all_118_claims(store, tmp_path):
    command = [sys.executable, "-m", "analysis.claims", "--all", "--tracking-uri", store, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0
    content = json.loads(done.stdout)
    assert [entry["id"] for entry in content] == [claim.id for claim in ALL_CLAIMS]
    assert len(content) == 118
    warnings = [line for line in done.stderr.splitlines() if "broken" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith("warning: study 'broken' is left out: ")


def test_all_takes_each_regime_from_the_study_that_ran_it(store, capsys):
    results = results_of(store, capsys, "--all")
    told = results["003-15"]["regimes"]  # two layers help focal loss
    stated, fair = told["stated"], told["fair"]
    assert (stated["verdict"], list(stated["studies"]), stated["n"]) == ("holds", ["as-stated"], 6)
    assert (fair["verdict"], list(fair["studies"])) == ("refuted", ["tuned"])
    assert told["stated"]["effect"] == pytest.approx(1.0, abs=0.1)
    assert told["stated"]["ci_low"] < told["stated"]["effect"] < told["stated"]["ci_high"]
    # The exact tests were recorded with one study and answer in both regimes.
    assert [regime["verdict"] for regime in results["003-17"]["regimes"].values()] == ["holds", "holds"]
    unheard = results["004-01"]["regimes"]["fair"]
    assert unheard["verdict"] == "not run"
    assert "python -m study.launch --space loss_by_depth" in unheard["reason"]


def test_an_interrupted_study_counts_with_what_it_has_and_is_named(store, capsys):
    outcome = results_of(store, capsys, "--all", "--report", "001")["001-06"]["regimes"]["stated"]
    assert outcome["verdict"] == "refuted"
    assert "cut-short is interrupted; its completed trials count" in outcome["reason"]


def test_a_study_by_itself_answers_its_report_alone(store, capsys):
    results = results_of(store, capsys, "--study", "as-stated")
    assert {id_.partition("-")[0] for id_ in results} == {"003"}
    assert results["003-15"]["regimes"]["fair"]["verdict"] == "not run"
    assert "--regime fair" in results["003-15"]["regimes"]["fair"]["reason"]
    together = results_of(store, capsys, "--study", "as-stated", "--study", "tuned")
    assert together["003-15"]["regimes"]["fair"]["verdict"] == "refuted"
    mixed = results_of(store, capsys, "--study", "as-stated", "--study", "cut-short")
    assert {id_.partition("-")[0] for id_ in mixed} == {"001", "003"}


def test_every_format_is_printed_or_written(store, tmp_path, capsys):
    for form, start in (("text", "as-stated: Fashion-MNIST"), ("markdown", "| regime |"), ("json", "[")):
        arguments = ["--study", "as-stated", "--tracking-uri", store, "--format", form]
        assert main(arguments) == 0
        printed = capsys.readouterr().out
        assert printed.startswith(start)
        path = tmp_path / "below" / f"claims.{form}"
        assert main([*arguments, "--output", str(path)]) == 0
        assert capsys.readouterr().out == f"{path}\n"
        assert path.read_text(encoding="utf-8") == printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--study", "nope"], "error: Unknown study 'nope' in "),
        (["--study", "losses"], "error: Study 'losses' is of the space 'full', which is no report's"),
        (["--study", "as-stated", "--report", "004"], "error: `--report 004`: the studies named are of 003."),
        (["--all", "--tracking-uri", "sqlite:////nowhere/mlflow.db"], "error: No MLflow record at "),
        (["--study", "as-stated", "--output", "/dev/null/claims.txt"], "error: Cannot write '/dev/null/claims.txt'"),
    ],
)
def test_bad_input_is_one_line_and_code_two(store, arguments, message, capsys):
    assert main(["--tracking-uri", store, *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["--all", "--study", "x"], ["--all", "--report", "005"]])
def test_flags_that_contradict_are_refused(arguments, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
