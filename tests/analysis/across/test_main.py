import json
import subprocess
import sys

import pandas as pd
import pytest

from analysis.across.__main__ import main


def test_the_real_command_writes_a_page_and_a_table(across_store, tmp_path):
    command = [sys.executable, "-m", "analysis.across", "--study", "digits-1", "--study", "letters"]
    done = subprocess.run(
        [*command, "--tracking-uri", across_store, "--output", str(tmp_path / "out")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    verdict, path = done.stdout.splitlines()
    assert verdict.startswith("focal beats cross_entropy on 2 of 2 datasets")
    assert path == str(tmp_path / "out" / "across.html")
    assert len(pd.read_csv(tmp_path / "out" / "across.csv")) == 8
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["across.csv", "across.html"]


@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_the_other_formats_print_and_write_nothing(across_store, tmp_path, monkeypatch, capsys, form):
    monkeypatch.chdir(tmp_path)
    arguments = ["--study", "digits-1", "--study", "letters", "--tracking-uri", across_store, "--format", form]
    assert main(arguments) == 0
    assert "focal beats" in capsys.readouterr().out.replace("\\_", "_")
    assert list(tmp_path.iterdir()) == []


def test_without_a_folder_it_writes_below_reports(across_store, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--study", "digits-1", "--study", "letters", "--tracking-uri", across_store]) == 0
    assert (tmp_path / "reports" / "across-digits-1-letters" / "across.html").exists()


@pytest.mark.parametrize(
    "names", [("digits-1",), ("digits-1", "nosuch"), ("digits-1", "optimizers"), ("digits-1", "strangers")]
)
def test_bad_input_is_one_line_and_exit_code_2(across_store, capsys, names):
    arguments = [part for name in names for part in ("--study", name)]
    assert main([*arguments, "--tracking-uri", across_store, "--format", "text"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_one_line(across_store, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    arguments = ["--study", "digits-1", "--study", "letters", "--tracking-uri", across_store]
    assert main([*arguments, "--output", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith("error: Cannot write")


def test_a_terminal_of_plain_ascii_gets_plain_ascii(across_store):
    command = [sys.executable, "-m", "analysis.across", "--study", "digits-1", "--study", "letters"]
    done = subprocess.run(
        [*command, "--tracking-uri", across_store, "--format", "json"],
        capture_output=True, timeout=120, check=False, env={"PYTHONIOENCODING": "ascii", "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0
    assert json.loads(done.stdout.decode("ascii"))["baseline"] == "cross_entropy"
