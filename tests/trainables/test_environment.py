"""What differs between two machines is named, and a build for another device is no difference."""

import importlib.metadata

import pytest
from ray import tune

from trainables import environment
from trainables.environment import CODE, OtherEnvironmentError, describe_environment, differences, digest_code
from trainables.trainable import ClassifierTrainable


def test_python_the_packages_and_the_code_are_described():
    described = describe_environment()
    assert list(described) == ["python", "ray", "torch", "torchvision", "optuna", "numpy", CODE]
    assert described["ray"] == importlib.metadata.version("ray")
    assert described[CODE] == digest_code()[:12]


def test_a_build_is_no_version_and_a_missing_package_is_said(monkeypatch):
    def version(name):
        if name == "optuna":
            raise importlib.metadata.PackageNotFoundError(name)
        return "2.1.0+cpu"

    mine = describe_environment() | {"torch": "2.1.0"}
    monkeypatch.setattr(importlib.metadata, "version", version)
    theirs = describe_environment()
    assert theirs["torch"] == "2.1.0"
    assert "its optuna is not installed and not " in differences({"optuna": mine["optuna"]}, theirs)


def test_differences_are_named_in_order_and_none_is_nothing():
    mine = {"python": "3.11.4", "torch": "2.1.0", CODE: "aaa"}
    assert differences(mine, dict(mine)) == ""
    other = {"python": "3.11.5", "torch": "2.1.0", CODE: "bbb"}
    assert differences(mine, other) == "its python is 3.11.5 and not 3.11.4, this project's code is bbb and not aaa"


def test_the_digest_follows_the_projects_code_and_the_users_part(tmp_path, monkeypatch):
    for package in environment.PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "code.py").write_text(package)
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "users_own_part.py").write_text("one")
    names = ("focal", "users_own_part:build")
    before, with_part = digest_code(), digest_code(names)
    assert digest_code(("focal",)) == before != with_part
    (tmp_path / "users_own_part.py").write_text("two")
    assert (digest_code(), digest_code(names) == with_part) == (before, False)
    (tmp_path / "trainables" / "code.py").write_text("changed")
    assert digest_code() != before


def test_a_trainable_on_a_machine_that_runs_something_else_fails_each_of_its_trials_and_says_why():
    elsewhere = describe_environment() | {"numpy": "0.1"}
    trainable = tune.with_parameters(ClassifierTrainable, dataset=None, environment=elsewhere)({})
    for _ in range(2):
        with pytest.raises(
            OtherEnvironmentError, match=r"The node \S+ \(\S*\) cannot run this study.s trials: .* and not 0\.1\."
        ):
            trainable.train()
        assert trainable.reset_config({})
