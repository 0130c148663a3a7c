import csv
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from study.predict import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def npz(logged_study, tmp_path):
    """Writes an npz file of digits; keyword arguments replace or add arrays."""

    def write(**arrays):
        file = tmp_path / "new.npz"
        np.savez(file, **{"images": logged_study.store.dataset.test_images[:, 0], **arrays})
        return file

    return write


@pytest.fixture
def predict(logged_study, capsys):
    """Runs the command on the study's store; returns its exit code and both streams."""

    def run(*flags, study="digits-study", uri=logged_study.store.uri):
        code = main(["--study", study, "--tracking-uri", uri, *map(str, flags)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def assert_refused(result, pattern):
    code, out, err = result
    assert (code, out) == (2, "")
    assert re.fullmatch(rf"study\.predict: [^\n]*{pattern}[^\n]*\n", err), err


def test_the_csv_holds_the_winners_class_and_probabilities_of_every_image(logged_study, npz, predict, tmp_path):
    output = tmp_path / "predictions.csv"
    code, out, err = predict("--input", npz(), "--output", output)
    assert (code, err) == (0, "")
    assert f"Predictions: {output}" in out
    with output.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    expected = logged_study.best_logits.softmax(dim=1)
    assert list(rows[0]) == ["index", "predicted", "probability", *(f"probability_{digit}" for digit in range(10))]
    assert [int(row["index"]) for row in rows] == list(range(len(expected)))
    assert [int(row["predicted"]) for row in rows] == expected.argmax(dim=1).tolist()
    table = np.array([[float(row[f"probability_{digit}"]) for digit in range(10)] for row in rows])
    np.testing.assert_allclose(table, expected.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose([float(row["probability"]) for row in rows], table.max(axis=1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.npz", "predictions.csv"]


def test_labels_in_the_file_give_the_accuracy(logged_study, npz, predict):
    labels = logged_study.store.dataset.test_labels
    correct = int((logged_study.best_logits.argmax(dim=1).numpy() == labels).sum())
    code, out, err = predict("--input", npz(labels=labels))
    assert (code, err) == (0, "")
    assert f"Accuracy: {100 * correct / len(labels):.2f}% ({correct} of {len(labels)})\n" in out
    assert correct > 0.7 * len(labels)


def test_without_labels_the_summary_counts_the_images_per_class(logged_study, npz, predict):
    code, out, _ = predict("--input", npz())
    assert code == 0
    assert out.startswith("Model: study digits-study, arm focal, seed 2\n")
    assert "Accuracy" not in out
    counts = {int(line.split()[0]): int(line.split()[1]) for line in out.splitlines()[2:]}
    classes, expected = np.unique(logged_study.best_logits.argmax(dim=1).numpy(), return_counts=True)
    assert counts == dict(zip(classes.tolist(), expected.tolist(), strict=True))


def test_images_with_a_channel_axis_are_the_same_images(npz, predict, logged_study):
    flat = predict("--input", npz())
    assert predict("--input", npz(images=logged_study.store.dataset.test_images.transpose(0, 2, 3, 1))) == flat


def test_more_images_than_a_batch_are_predicted_in_order(logged_study, npz, predict, tmp_path, monkeypatch):
    monkeypatch.setattr("study.predict.BATCH_SIZE", 7)
    output = tmp_path / "predictions.csv"
    predict("--input", npz(), "--output", output)
    with output.open(newline="") as stream:
        predicted = [int(row["predicted"]) for row in csv.DictReader(stream)]
    assert predicted == logged_study.best_logits.argmax(dim=1).tolist()


def test_an_arm_is_predicted_with_its_own_best(npz, predict):
    code, out, _ = predict("--input", npz(), "--arm", "cross_entropy")
    assert (code, out.splitlines()[0]) == (0, "Model: study digits-study, arm cross_entropy, seed 1")


@pytest.mark.parametrize(
    ("arrays", "pattern"),
    [
        ({"images": np.zeros((2, 9, 8), np.uint8)}, r"\(1, 9, 8\) \(channels.*'digits-study' takes \(1, 8, 8\)"),
        ({"images": np.zeros((2, 8, 8, 3), np.uint8)}, r"\(3, 8, 8\) \(channels.*takes \(1, 8, 8\)"),
        ({"images": np.zeros((2, 8, 8))}, r"dtype float64; images must be uint8"),
        ({"images": np.zeros((0, 8, 8), np.uint8)}, r"shape \(0, 8, 8\)"),
        ({"images": np.array(["a", None], dtype=object)}, r"cannot be read as an npz file of plain arrays"),
        ({"labels": np.zeros(3, np.int64)}, r"labels.*shape \(3,\)"),
        ({"labels": np.full(360, 10)}, r"contain 10; labels must lie in 0 to 9"),
        ({"labels": np.full(360, 0.5)}, r"dtype float64; labels must be integers"),
        ({"labels": np.zeros(360, int), "class_names": list("abcdefghij")}, r"are a, b, .* model's: 0, 1,"),
    ],
)
def test_arrays_that_do_not_fit_are_one_line(npz, predict, arrays, pattern):
    assert_refused(predict("--input", npz(**arrays)), pattern)


def test_files_that_are_no_npz_of_images_are_one_line(predict, tmp_path):
    assert_refused(predict("--input", tmp_path / "none.npz"), r"There is no file '.*none\.npz'")
    (tmp_path / "text.npz").write_text("index,predicted\n")
    assert_refused(predict("--input", tmp_path / "text.npz"), "cannot be read as an npz file")
    np.save(tmp_path / "bare.npy", np.zeros((2, 8, 8), np.uint8))
    assert_refused(predict("--input", tmp_path / "bare.npy"), "holds one bare array")
    np.savez(tmp_path / "other.npz", x=np.zeros(2))
    assert_refused(predict("--input", tmp_path / "other.npz"), "has no array 'images'; found x")
    whole = tmp_path / "whole.npz"
    np.savez(whole, images=np.zeros((50, 8, 8), np.uint8))
    (tmp_path / "cut.npz").write_bytes(whole.read_bytes()[:2000])
    assert_refused(predict("--input", tmp_path / "cut.npz"), "cannot be read as an npz file")


def test_an_output_that_cannot_be_written_is_one_line(npz, predict, tmp_path):
    assert_refused(predict("--input", npz(), "--output", tmp_path), "is a folder; it must be a file")
    assert_refused(predict("--input", npz(), "--output", tmp_path / "no" / "p.csv"), "folder that does not exist")


def test_an_unknown_study_or_arm_is_one_line_with_the_choices(npz, predict):
    assert_refused(
        predict("--input", npz(), study="nothing"),
        "'nothing' in sqlite.*studies with a registered model, newest first: ",
    )
    assert_refused(predict("--input", npz(), "--arm", "hinge"), "choose from focal, cross_entropy")


def test_a_database_that_is_not_there_is_one_line_and_is_not_made(npz, predict, tmp_path):
    missing = tmp_path / "none.db"
    assert_refused(predict("--input", npz(), uri=f"sqlite:///{missing}"), "the file does not exist")
    assert not missing.exists()


def test_a_server_that_is_down_is_one_line(npz, predict):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert_refused(predict("--input", npz(), uri=f"http://127.0.0.1:{port}"), rf"http://127\.0\.0\.1:{port}")


def test_a_missing_or_unknown_flag_is_one_line(capsys):
    for flags, pattern in ([["--study", "x"], "--input"], [["--study", "x", "--input", "y", "--tset"], "--tset"]):
        code = main(flags)
        captured = capsys.readouterr()
        assert_refused((code, captured.out, captured.err), pattern)


def test_the_command_finds_the_database_of_its_folder_and_prints_nothing_else(logged_study, npz):
    file = npz(labels=logged_study.store.dataset.test_labels)
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    result = subprocess.run(
        [sys.executable, "-m", "study.predict", "--study", "digits-study", "--input", str(file)],
        cwd=logged_study.store.folder,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "Accuracy: " in result.stdout


def test_help_and_a_missing_file_wait_for_no_heavy_import(tmp_path):
    code = (
        "import sys\n"
        "from study.predict import main\n"
        f"assert main(['--study', 'x', '--input', {str(tmp_path / 'none.npz')!r}]) == 2\n"
        "heavy = {'torch', 'mlflow', 'pandas', 'ray'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "main(['--help'])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("\n") == 1
    assert "probability_<class>" in result.stdout
