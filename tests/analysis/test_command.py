"""How every command ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for package in ("analysis", "study")
    for file in sorted((ROOT / package).rglob("*.py"))
    if "    leave(main())" in file.read_text(encoding="utf-8")
]

BEGINNING = """
import atexit, os, sys, tempfile, threading, time
from analysis.command import leave

class Complaint:
    def __del__(self):
        print("taken apart", file=sys.stderr)

complaint = Complaint()
atexit.register(print, "registered")
"""


def run(code, **keywords):
    return subprocess.run(
        [sys.executable, "-c", BEGINNING + code], cwd=ROOT, capture_output=True, text=True, check=False, **keywords
    )


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_a_command_ends_with_its_code_after_what_is_registered_and_before_modules_are_taken_apart(code):
    result = run(f"print('said', end=' ')\nleave({code})")
    assert (result.returncode, result.stdout, result.stderr) == (code, "said registered\n", "")


def test_a_command_that_does_not_leave_ends_as_ever():
    result = run("print('said', end=' ')")
    assert (result.returncode, result.stdout, result.stderr) == (0, "said registered\n", "taken apart\n")


def test_threads_end_and_temporary_folders_go_first(tmp_path):
    result = run(
        "folder = tempfile.TemporaryDirectory(dir=os.environ['FOLDER'])\n"
        "def late():\n"
        "    time.sleep(0.3)\n"
        "    print('late')\n"
        "threading.Thread(target=late).start()\n"
        "leave(0)",
        env={"FOLDER": str(tmp_path)},
    )
    assert (result.returncode, result.stdout) == (0, "late\nregistered\n")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_is_gone_is_told_as_ever():
    with subprocess.Popen(
        [sys.executable, "-c", BEGINNING + "input()\nprint('said')\nleave(0)"],
        cwd=ROOT,
        env={},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.close()
        _, error = process.communicate("go on\n")
    assert "BrokenPipeError" in error
    assert process.returncode == 120


REGISTERED = """
import atexit, importlib, sys
register, seen = atexit.register, []
atexit.register = lambda function, *rest, **named: seen.append(function) or register(function, *rest, **named)
importlib.import_module(sys.argv[1])
print(*(function.__module__ for function in seen))
"""


def test_every_command_is_found():
    assert {"study.launch", "study.predict", "analysis.report", "analysis.claims.__main__"} < set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_libraries_register_for_the_exit_of_a_command_is_done_before_it_ends(command):
    result = subprocess.run(
        [sys.executable, "-c", REGISTERED, command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    modules = result.stdout.split()
    assert "analysis.command" in modules, result.stderr
    # Of what comes before, and so is left out, there is Python's own logging at most, which keeps nothing back.
    assert set(modules[: modules.index("analysis.command")]) <= {"logging"}


@pytest.mark.parametrize("command", ["study.launch", "analysis.report", "study.predict"])
def test_no_command_reports_what_it_is_used_for(command):
    code = f"import {command}\nfrom mlflow.telemetry import get_telemetry_client\nprint(get_telemetry_client())"
    # MLflow itself reports nothing from a test or from CI.
    kept = {key: value for key, value in os.environ.items() if key not in {"CI", "PYTEST_CURRENT_TEST"}}
    kept.pop("MLFLOW_DISABLE_TELEMETRY", None)
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=kept, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (0, "None\n"), result.stderr
