"""What one study leaves behind, read back from the stores and counted."""

import csv
import json
import math
import subprocess
from collections import Counter

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from sklearn.datasets import load_digits

from search_spaces.smoke import STUDY
from tests.end_to_end.conftest import command
from trainables.config import TrialConfig

ARMS = [arm.name for arm in STUDY.arms]
PER_SPLIT = (
    "loss",
    "accuracy",
    "nll",
    *(f"{m}_{a}" for m in ("precision", "recall", "f1") for a in ("macro", "weighted")),
)
EPOCH_METRICS = {f"{split}_{name}" for split in ("train", "val") for name in PER_SPLIT}
EPOCH_METRICS |= {"epoch_seconds", "learning_rate", "diverged"}
FINAL_METRICS = {f"test_{name}" for name in (*PER_SPLIT, "ece", "brier", "temperature", "corruption_area")}
FINAL_METRICS |= {"train_eval_accuracy", "train_eval_nll", "train_eval_loss"}


def last_line_with(text, start):
    return next(line for line in reversed(text.splitlines()) if line.startswith(start)).removeprefix(start).strip()


def test_it_ends_well_and_says_where_the_answer_is(smoke):
    assert smoke.code == 0, smoke.stderr
    report = last_line_with(smoke.stdout, "Report:")
    assert (smoke.folder / "runs" / "s" / "report.html").samefile(report)
    assert (
        last_line_with(smoke.stdout, "MLflow:") == f"mlflow ui --backend-store-uri 'sqlite:///{smoke.folder}/mlflow.db'"
    )
    for arm in ARMS:
        assert arm in smoke.stdout


def test_without_a_terminal_there_are_plain_lines_and_none_of_rays_own(smoke):
    assert "\x1b[" not in smoke.stdout + smoke.stderr
    for noise in ("INFO", "WARN", "Traceback", "ray.", "alembic", "Warning"):
        assert noise not in smoke.stderr


def test_nothing_but_the_record_and_the_report_is_left(smoke):
    assert sorted(path.name for path in smoke.folder.iterdir()) == ["mlartifacts", "mlflow.db", "runs"]
    left = sorted(path.name for path in (smoke.folder / "runs" / "s").iterdir())
    assert left == ["arms.csv", "comparisons.csv", "epochs.parquet", "optuna.journal", "report.html"]


def test_each_arm_got_the_same_number_of_search_trials(smoke):
    counts = Counter(run.data.tags["arm"] for run in smoke.runs(phase="search"))
    assert counts == dict.fromkeys(ARMS, STUDY.trials)


def test_each_arm_was_confirmed_on_the_same_fresh_seeds(smoke):
    seeds = {arm: sorted(int(run.data.tags["seed"]) for run in smoke.runs(phase="confirm", arm=arm)) for arm in ARMS}
    assert seeds == {arm: list(range(1, STUDY.seeds + 1)) for arm in ARMS}
    assert {run.data.tags["seed"] for run in smoke.runs(phase="search")} == {"0"}


def test_every_run_carries_the_schemas_tags_and_a_full_configuration(smoke):
    runs = smoke.runs()
    assert len(runs) == 3 * STUDY.trials + 4 * STUDY.seeds
    for run in runs:
        tags = run.data.tags
        assert tags["study"] == "s"
        assert tags["space"] == "smoke"
        assert tags["dataset"] == "digits"
        assert tags["regime"] == "search"
        assert tags["node"]
        assert tags["trial_id"].startswith(f"{tags['arm']}/{tags['phase']}/")
        assert run.info.run_name.startswith(tags["arm"])
        numbers = {key: _parsed(value) for key, value in run.data.params.items()}
        assert TrialConfig.from_flat(numbers).to_flat() == numbers
        assert run.data.params["seed"] == tags["seed"]


def _parsed(text):
    if text in ("True", "False"):
        return text == "True"
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def test_status_follows_from_the_stop_reason_and_nothing_is_left_running(smoke):
    expected = {"completed": "FINISHED", "diverged": "FINISHED", "pruned": "KILLED"}
    for run in smoke.runs():
        assert run.info.status == expected[run.data.tags["stop_reason"]]
    assert smoke.parent.info.status == "FINISHED"
    assert smoke.parent.data.tags["state"] == "finished"


def test_every_epoch_is_on_record_exactly_once(smoke):
    for run in smoke.runs():
        steps = smoke.steps(run, "val_accuracy")
        assert steps == list(range(1, len(steps) + 1))
        if run.data.tags["stop_reason"] == "completed":
            assert len(steps) == int(run.data.params["epochs"])
        for metric in EPOCH_METRICS:
            assert smoke.steps(run, metric) == steps, metric


def test_test_metrics_are_in_confirm_and_control_runs_only_once_at_the_last_epoch(smoke):
    for run in smoke.runs():
        if run.data.tags["phase"] == "search":
            assert set(run.data.metrics) == EPOCH_METRICS
            continue
        assert set(run.data.metrics) == EPOCH_METRICS | FINAL_METRICS
        for metric in FINAL_METRICS:
            assert smoke.steps(run, metric) == [int(run.data.params["epochs"])]
            assert all(map(math.isfinite, smoke.values(run, metric)))


def test_the_confusion_matrix_on_record_gives_the_accuracy_on_record(smoke):
    run = smoke.runs(phase="confirm", arm="focal")[0]
    final = json.loads(smoke.artifact(run.info.run_id, "final.json").read_text())
    confusion = np.array(final["confusion"])
    assert confusion.sum() == 360
    assert np.trace(confusion) / confusion.sum() == pytest.approx(run.data.metrics["test_accuracy"], abs=1e-6)
    assert sum(final["reliability"]["counts"]) == 360
    assert final["corruptions"]["gaussian_noise"]["severities"] == [0.04, 0.06, 0.08, 0.09, 0.1, 0.2, 0.3, 0.5, 1]
    assert len(final["class_names"]) == 10


def test_the_negative_control_differs_from_cross_entropy_by_exactly_nothing(smoke):
    baseline = {run.data.tags["seed"]: run for run in smoke.runs(phase="confirm", arm="cross_entropy")}
    controls = smoke.runs(phase="control", arm="kl_div")
    assert len(controls) == STUDY.seeds
    for control in controls:
        twin = baseline[control.data.tags["seed"]]
        for metric in (EPOCH_METRICS | FINAL_METRICS) - {"epoch_seconds"}:
            assert smoke.values(control, metric) == smoke.values(twin, metric), metric


def test_winners_are_the_best_completed_trials_and_their_configurations_were_confirmed(smoke):
    protocol = json.loads(smoke.artifact(smoke.parent.info.run_id, "study.json").read_text())
    for arm in ARMS:
        completed = [run for run in smoke.runs(phase="search", arm=arm) if run.data.tags["stop_reason"] == "completed"]
        best = max(run.data.metrics["val_accuracy"] for run in completed)
        winner = protocol["winners"][arm]
        assert winner["val_accuracy"] == best
        for run in smoke.runs(phase="confirm", arm=arm):
            expected = {**winner["config"], "seed": int(run.data.tags["seed"])}
            assert run.data.params == {key: str(value) for key, value in expected.items()}


def test_optunas_states_agree_with_mlflows(smoke):
    storage = JournalStorage(JournalFileBackend(str(smoke.folder / "runs" / "s" / "optuna.journal")))
    expected = {"completed": "COMPLETE", "diverged": "COMPLETE", "pruned": "PRUNED"}
    for arm in ARMS:
        trials = optuna.load_study(study_name=f"s/{arm}", storage=storage).trials
        assert len(trials) == STUDY.trials
        for run in smoke.runs(phase="search", arm=arm):
            trial = trials[int(run.data.tags["trial_id"].rpartition("/")[2])]
            assert trial.state.name == expected[run.data.tags["stop_reason"]]
            for key, value in trial.params.items():
                assert run.data.params[key] == str(value)
            steps = smoke.steps(run, "val_accuracy")
            assert trial.intermediate_values[steps[-1]] == run.data.metrics["val_accuracy"]


def test_the_report_and_its_tables_are_attached_to_the_studys_run(smoke):
    names = {item.path for item in smoke.client.list_artifacts(smoke.parent.info.run_id)}
    assert {"study.json", "report.html", "arms.csv", "comparisons.csv"} <= names


def test_one_model_per_arm_is_logged_and_the_best_one_registered(smoke):
    client = smoke.client
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    logged = client.search_logged_models(experiments)
    runs = {run.info.run_id: run for run in smoke.runs(phase="confirm")}
    assert Counter(runs[model.source_run_id].data.tags["arm"] for model in logged) == dict.fromkeys(ARMS, 1)
    (version,) = client.search_model_versions("name = 's'")
    best = max(runs[model.source_run_id].data.metrics["val_accuracy"] for model in logged)
    assert runs[version.run_id].data.metrics["val_accuracy"] == best


def test_predict_uses_the_registered_model(smoke, tmp_path):
    images, labels = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 8, 8) * 255 / 16).round().astype(np.uint8)
    np.savez(tmp_path / "new.npz", images=pixels, labels=labels)
    done = subprocess.run(
        **command(smoke.folder, "--study", "s", "--input", str(tmp_path / "new.npz"), "--output",
                  str(tmp_path / "out.csv"), module="study.predict"),
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    hits = np.mean([row[1] == str(label) for row, label in zip(rows, labels, strict=True)])
    assert hits > 0.9
    assert f"{100 * hits:.2f}" in done.stdout


def test_a_name_in_use_is_refused_and_the_record_stays(smoke):
    before = len(smoke.runs())
    done = subprocess.run(
        **command(smoke.folder, "--space", "smoke", "--name", "s"), capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "'s' exists already" in done.stderr
    assert len(smoke.runs()) == before
