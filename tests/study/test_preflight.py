"""What is checked before anything is spent, and that a refusal leaves nothing behind."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from search_spaces.full import STUDY as FULL
from search_spaces.smoke import STUDY as SMOKE
from study import preflight
from study.apart import try_parts
from study.options import Options
from study.protocol import resolve_study
from trainables.config import InputError
from trainables.data import load_dataset
from trainables.optimizers import OPTIMIZERS

OWN_PARTS = """
from torch import nn

def too_few_outputs(input_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes - 1))

def good_model(input_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))

def one_number(logits, labels):
    return logits.sum()

def good_loss(logits, labels):
    return -logits.log_softmax(1).gather(1, labels[:, None]).squeeze(1)
"""


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def an_options(storage=Path("runs"), **changes):
    required = {"command": "", "name": "s", "space": "full", "tracking_uri": "sqlite:////x.db", "experiment_name": "e"}
    return Options(**{**required, "storage_path": Path(storage).resolve(), **changes})


def leave(options, error, meanwhile=lambda: None):
    """Claim the study's folder, leave something there, and fail."""
    with preflight.claimed_folder(options):
        (options.folder / "study.log").write_text("half made")
        meanwhile()
        raise error


def refuse(options):
    leave(options, InputError("refused"))


def paths_under(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_claimed_folder_is_made_and_stays(working_directory):
    with preflight.claimed_folder(an_options("a/b")):
        assert paths_under(working_directory) == ["a", "a/b", "a/b/s", "a/b/s/lock"]
    assert paths_under(working_directory) == ["a", "a/b", "a/b/s"]


def test_a_study_that_is_running_cannot_be_resumed_and_keeps_what_it_has(working_directory):
    with preflight.claimed_folder(an_options()):
        before = paths_under(working_directory)
        with pytest.raises(InputError, match="The study 's' is running already in"):
            leave(an_options(resume=True), RuntimeError("went on beside it"))
        assert paths_under(working_directory) == before


def test_a_study_whose_process_died_can_be_resumed(working_directory):
    folder = working_directory / "runs" / "s"
    folder.mkdir(parents=True)
    (folder / "lock").touch()  # a dead process holds no lock, but its file is there
    with preflight.claimed_folder(an_options(resume=True)):
        pass
    assert folder.is_dir()


def test_a_start_that_failed_leaves_its_log_and_may_be_typed_again(working_directory):
    with pytest.raises(RuntimeError):
        leave(an_options(), RuntimeError("Ray did not start"))
    assert paths_under(working_directory) == ["runs", "runs/s", "runs/s/study.log"]
    with preflight.claimed_folder(an_options()):
        (working_directory / "runs" / "s" / "optuna.journal").touch()
    with pytest.raises(InputError, match="exists already"), preflight.claimed_folder(an_options()):
        pass


def test_a_start_that_was_killed_or_interrupted_before_anything_was_done_may_be_typed_again(working_directory):
    (working_directory / "runs" / "s").mkdir(parents=True)
    (working_directory / "runs" / "s" / "lock").touch()  # of a process that died
    with preflight.claimed_folder(an_options()):
        pass
    (working_directory / "runs" / "s").rmdir()
    (working_directory / "runs").rmdir()
    with pytest.raises(KeyboardInterrupt), preflight.claimed_folder(an_options()):
        raise KeyboardInterrupt
    assert paths_under(working_directory) == []


def test_refused_study_leaves_neither_its_folder_nor_the_parents_made_for_it(working_directory):
    with pytest.raises(InputError, match=r"^refused$"):
        refuse(an_options("a/b/c"))
    assert paths_under(working_directory) == []


def test_refused_study_leaves_the_parents_that_were_there(working_directory):
    (working_directory / "runs" / "earlier").mkdir(parents=True)
    (working_directory / "empty").mkdir()
    for storage in ("runs", "runs/new", "empty", "empty/new"):
        with pytest.raises(InputError, match=r"^refused$"):
            refuse(an_options(storage))
    assert paths_under(working_directory) == ["empty", "runs", "runs/earlier"]


def test_refused_study_leaves_what_another_study_put_beside_it_meanwhile(working_directory):
    other = working_directory / "a" / "b" / "other"
    with pytest.raises(InputError, match=r"^refused$"):
        leave(an_options("a/b"), InputError("refused"), other.mkdir)
    assert paths_under(working_directory) == ["a", "a/b", "a/b/other"]


def test_crashed_study_keeps_its_log(working_directory):
    with pytest.raises(ZeroDivisionError):
        leave(an_options(), ZeroDivisionError())
    assert "runs/s/study.log" in paths_under(working_directory)


def test_name_in_use_is_refused_with_the_way_out_and_its_folder_stays(working_directory):
    (working_directory / "runs" / "s").mkdir(parents=True)
    (working_directory / "runs" / "s" / "report.html").write_text("earlier")
    with pytest.raises(InputError, match=r"The study 's' exists already in .*; give another `--name`"):
        refuse(an_options())
    assert (working_directory / "runs" / "s" / "report.html").read_text() == "earlier"


@pytest.mark.parametrize("storage", ["a_file", "a_file/below", f"new/{'x' * 300}", "x" * 300, "/proc/nowhere"])
def test_folder_that_cannot_be_made_is_refused_and_leaves_nothing(storage, working_directory):
    (working_directory / "a_file").write_text("mine")
    with pytest.raises(InputError, match=r"`--storage-path` must be a folder that can be written; got .* \(.+\)\.$"):
        refuse(an_options(storage))
    assert paths_under(working_directory) == ["a_file"]
    assert (working_directory / "a_file").read_text() == "mine"


def test_store_in_a_folder_that_is_not_there_is_refused(working_directory):
    options = an_options(tracking_uri=f"sqlite:///{working_directory}/missing/mlflow.db")
    with pytest.raises(InputError, match=r"`--tracking-uri` must lie in a folder that can be written; got sqlite:.*\("):
        preflight.check_store(options)


def test_store_that_can_be_written_is_not_touched(working_directory):
    preflight.check_store(an_options(tracking_uri=f"sqlite:///{working_directory}/mlflow.db"))
    assert paths_under(working_directory) == []


@pytest.mark.parametrize("name", ["notes.txt", "a_folder"])
def test_store_that_is_no_database_is_refused_before_mlflow_tries_for_minutes(working_directory, name):
    (working_directory / "notes.txt").write_text("SQLite is nice")
    (working_directory / "a_folder").mkdir()
    with pytest.raises(InputError, match=rf"`--tracking-uri` must name a SQLite database or a file .*/{name}\.$"):
        preflight.check_store(an_options(tracking_uri=f"sqlite:///{working_directory}/{name}"))


def test_database_that_is_there_and_an_empty_file_pass(working_directory):
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect("full.db")) as database:
        database.execute("create table experiments (x)")
    (working_directory / "empty.db").touch()
    for name in ("full.db", "empty.db"):
        preflight.check_store(an_options(tracking_uri=f"sqlite:///{working_directory}/{name}"))


@pytest.mark.parametrize("uri", ["http://nowhere:5000", "postgresql://nowhere/db"])
def test_store_elsewhere_is_not_this_machines_business(uri):
    preflight.check_store(an_options(tracking_uri=uri))


def test_trial_must_fit_this_machine_but_not_a_cluster():
    cores = os.cpu_count()
    preflight.check_resources(an_options(cpus_per_trial=float(cores)))
    too_many = an_options(cpus_per_trial=cores + 1.0)
    with pytest.raises(InputError, match=f"`--cpus-per-trial` must be at most this machine's {cores}; got {cores + 1}"):
        preflight.check_resources(too_many)
    preflight.check_resources(replace(too_many, address="ray://cluster:10001"))


def test_grid_over_a_real_range_is_refused_in_both_modes():
    for mode in ("arms", "joint"):
        with pytest.raises(InputError, match=r"`--search grid` needs finite choices; `optimizer.learning_rate` of arm"):
            preflight.check_search(FULL, an_options(search="grid", mode=mode))


def test_grid_over_finite_choices_and_every_other_search_pass():
    finite = replace(SMOKE, arms=tuple(replace(arm, parameters=arm.parameters[-3:]) for arm in with_rates(SMOKE).arms))
    preflight.check_search(finite, an_options(search="grid"))
    for search in ("tpe", "random"):
        preflight.check_search(FULL, an_options(search=search, mode="joint"))


def with_rates(study):
    fixed = {"optimizer": "sgd", "optimizer.learning_rate": 0.1, "batch_size": 32}
    return replace(study, arms=tuple(replace(arm, fixed={**arm.fixed, **fixed}) for arm in study.arms))


def test_joint_mode_refuses_arms_it_cannot_tell_apart():
    twins = replace(SMOKE, arms=(*SMOKE.arms, replace(SMOKE.arms[0], name="twin")))
    preflight.check_search(twins, an_options(mode="arms"))
    with pytest.raises(InputError, match="`--mode joint` needs arms that each fix their own `loss`"):
        preflight.check_search(twins, an_options(mode="joint"))


@pytest.fixture
def own_parts(working_directory, monkeypatch):
    (working_directory / "own_parts_of_preflight.py").write_text(OWN_PARTS)
    monkeypatch.syspath_prepend(str(working_directory))
    yield "own_parts_of_preflight"
    sys.modules.pop("own_parts_of_preflight", None)


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits", train_size=100)


def check_parts(digits, study=FULL, **changes):
    options = an_options(**changes)
    parts = preflight.parts_to_try(resolve_study(study, options), options)
    try_parts(parts, digits.num_classes, digits.input_shape)
    return parts


def test_parts_of_the_projects_own_spaces_are_not_built_again(digits):
    assert check_parts(digits) == []
    assert check_parts(digits, arms=("focal", "l1")) == []


def test_every_arm_of_the_users_own_space_is_tried_with_each_of_its_optimizers(digits):
    tried = {(arm, values["optimizer"]) for arm, values in check_parts(digits, space="file.py")}
    assert tried == {(arm.name, optimizer) for arm in FULL.arms for optimizer in OPTIMIZERS}


@pytest.mark.parametrize("space", ["file.py", "module:STUDY"])
def test_space_of_the_users_own_is_built_once(digits, space):
    unknown = replace(FULL.arm("mse"), fixed={**FULL.arm("mse").fixed, "loss": "mean_square"})
    with pytest.raises(InputError, match="Arm 'mse': Unknown loss 'mean_square'; choose from cross_entropy"):
        check_parts(digits, replace(FULL, arms=(unknown,), baseline="mse", controls={}), space=space)


def test_users_own_parts_that_fit_pass(digits, own_parts):
    check_parts(digits, arms=("cross_entropy", f"{own_parts}:good_loss"), model=f"{own_parts}:good_model")


def test_unknown_model_is_refused_with_the_choices(digits):
    with pytest.raises(InputError, match="Arm 'cross_entropy': Unknown model 'mpl'; choose from convnet, mlp, resnet"):
        check_parts(digits, model="mpl")


def test_model_with_fewer_outputs_than_classes_is_refused(digits, own_parts):
    with pytest.raises(InputError, match=r"logits of shape \(2, 10\), one per class; got \(2, 9\)"):
        check_parts(digits, model=f"{own_parts}:too_few_outputs")


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        ("one_number", "Arm 'one_number': .* must return one value per example"),
        ("nothing", "Arm 'nothing': The loss .* cannot be imported"),
    ],
)
def test_loss_that_is_none_is_refused_with_its_arm(digits, own_parts, loss, says):
    with pytest.raises(InputError, match=says):
        check_parts(digits, arms=("cross_entropy", f"{own_parts}:{loss}"))


def test_gpu_must_be_there_where_trials_run_on_this_machine(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="`--device cuda` needs a CUDA device; torch sees none on this machine"):
        preflight.check_device(an_options(device="cuda"))
    preflight.check_device(an_options(device="cuda", address="ray://cluster:10001"))
    preflight.check_device(an_options(device="cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    preflight.check_device(an_options(device="cuda"))
