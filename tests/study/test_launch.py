"""The command line: what it takes, and the one line it says when it cannot."""

import argparse
import contextlib
import logging
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from study import cluster
from study.flags import build_parser
from study.launch import main, parse_options
from study.protocol import resolve_study
from trainables.config import InputError

SMOKE = ("--space", "smoke")
#: The flags that were asked for.
FLAGS = {
    "--space", "--arms", "--baseline", "--delta", "--name", "--dataset", "--data-dir", "--classes", "--train-size",
    "--imbalance", "--augment", "--model", "--precision", "--schedule", "--trials", "--seeds", "--seed",
    "--time-budget", "--mode", "--search", "--stopping", "--max-concurrent", "--cpus-per-trial",
    "--gpus-per-trial", "--device", "--address", "--storage-path", "--tracking-uri", "--experiment-name",
    "--dry-run", "--no-models", "--quiet", "--regime", "--epochs-scale", "--resume", "--force",
    "--max-failures", "--hang-timeout", "--list", "--extend", "--replicas",
}  # fmt: skip
OWN_PARTS = """
import numpy as np
from torch import nn
from search_spaces.arms import Arm, Float, Parameter, Study

def too_few_outputs(input_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes - 1))

def one_number(logits, labels):
    return logits.sum()

def labels_out_of_range():
    images = np.zeros((8, 4, 4), dtype=np.uint8)
    return {"images": images, "labels": np.arange(8) % 3, "class_names": ["a", "b"]}

def raises():
    raise RuntimeError("first line\\nsecond line")

FIXED = {"loss": "mse", "optimizer": "sgd", "model": "mlp", "batch_size": 8, "epochs": 4}
RATE = Parameter("optimizer.learning_rate", Float(1e-3, 1.0, log=True))
UNKNOWN_LOSS = Study("own", "?", "loss", (Arm("mse", {**FIXED, "loss": "mean_square"}, (RATE,)),), "mse")
UNKNOWN_OPTIMIZER = Study("own", "?", "loss", (Arm("mse", {**FIXED, "optimizer": "sgdd"}, (RATE,)),), "mse")
TWINS = Study("own", "?", "loss", (Arm("mse", FIXED, (RATE,)), Arm("twin", FIXED, (RATE,))), "mse")
"""
BAD_RATE = """
from search_spaces.arms import Arm, Float, Parameter, Study

FIXED = {"loss": "mse", "optimizer": "sgd", "model": "mlp", "batch_size": 8, "epochs": 4}
RATE = Parameter("optimizer.learning_rate", Float(0.0, 1.0))
STUDY = Study("own", "?", "loss", (Arm("mse", FIXED, (RATE,)),), "mse")
"""


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    """An empty working directory; environment, import path and log handlers as they were afterwards."""
    monkeypatch.chdir(tmp_path)
    environment = dict(os.environ)
    for key in list(os.environ):
        if key.startswith(("MLFLOW_", "RAY_")):
            del os.environ[key]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    names = ("ray", "study", "mlflow", "alembic", "optuna")
    loggers = [(logger, logger.handlers, logger.propagate, logger.level) for logger in map(logging.getLogger, names)]
    yield tmp_path
    for logger, handlers, propagate, level in loggers:
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
    os.environ.clear()
    os.environ.update(environment)
    sys.modules.pop("own_parts_of_launch", None)


@pytest.fixture
def things(working_directory):
    """What a user may have lying about."""
    (working_directory / "own_parts_of_launch.py").write_text(OWN_PARTS)
    (working_directory / "bad_rate.py").write_text(BAD_RATE)
    (working_directory / "syntax.py").write_text("STUDY = (")
    (working_directory / "a_file").write_text("not images")
    (working_directory / "text.npz").write_text("not images")
    (working_directory / "runs" / "taken").mkdir(parents=True)
    images = np.zeros((12, 4, 4), dtype=np.uint8)
    np.savez("one_class.npz", images=images, labels=np.zeros(12, dtype=int))
    np.savez("out_of_range.npz", images=images, labels=np.arange(12) - 1)
    np.savez("floats.npz", images=images / 255, labels=np.arange(12) % 2)
    np.savez("no_labels.npz", images=images)
    for name in ("a", "b"):
        for folder in ("text_folder", "one_class_folder"):
            (working_directory / folder / (name if folder == "text_folder" else "a")).mkdir(parents=True, exist_ok=True)
        for number in range(4):
            (working_directory / "text_folder" / name / f"{number}.png").write_text("not an image")
            Image.fromarray(images[0]).save(working_directory / "one_class_folder" / "a" / f"{number}.png")
    return working_directory


@pytest.fixture
def no_ray(monkeypatch):
    """Everything but Ray itself, so that a refusal costs no start-up; going on would be a failure."""
    from study import phases

    @contextlib.contextmanager
    def connected(options):
        yield 2

    def run_trials(*_, **__):
        raise AssertionError("the study was not refused")

    monkeypatch.setattr(cluster, "connected", connected)
    monkeypatch.setattr(phases, "run_trials", run_trials)


def contents(folder):
    return {path: path.is_dir() or path.read_bytes() for path in folder.rglob("*") if "__pycache__" not in str(path)}


def refused(arguments, capsys, folder):
    """The line that was said; nothing else may have happened."""
    before = contents(folder)
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("study.launch: ")
    assert contents(folder) == before
    return line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "The following arguments are required: --space"),
        (("--space",), "--space: expected one argument"),
        (("--space", "fulll"), "Unknown space 'fulll'; choose from full, smoke, loss_by_optimizer,"),
        (("--space", "missing.py"), "no file 'missing.py'"),
        (("--space", "syntax.py"), "'syntax.py' cannot be loaded: SyntaxError"),
        (("--space", "own_parts_of_launch:FIXED"), "must be a search_spaces.arms.Study; got dict"),
        (("--space", "own_parts_of_launch:NOTHING"), "has no attribute 'NOTHING'"),
        (("--space", "bad_rate.py"), "'mse': `optimizer.learning_rate` must be a finite number > 0; got 0.0"),
        ((*SMOKE, "--frobnicate"), "Unrecognized arguments: --frobnicate"),
        ((*SMOKE, "--tri", "3"), "Unrecognized arguments: --tri 3"),
        ((*SMOKE, "extra"), "Unrecognized arguments: extra"),
        ((*SMOKE, "--arms", "cross_entropy,focall"), "Unknown arm 'focall'; choose from cross_entropy, kl_div, focal"),
        ((*SMOKE, "--arms", ","), "`--arms` must be names separated by commas; got ','"),
        ((*SMOKE, "--arms", "focal,focal"), "`--arms` must name each arm once; got focal,focal"),
        ((*SMOKE, "--baseline", "mse"), "Unknown arm 'mse'; choose from cross_entropy, kl_div, focal"),
        ((*SMOKE, "--mode", "both"), "--mode: invalid choice: 'both' (choose from"),
        ((*SMOKE, "--search", "bayes"), "--search: invalid choice: 'bayes' (choose from"),
        ((*SMOKE, "--stopping", "median"), "--stopping: invalid choice: 'median' (choose from"),
        ((*SMOKE, "--precision", "fp16"), "--precision: invalid choice: 'fp16' (choose from"),
        ((*SMOKE, "--schedule", "step"), "--schedule: invalid choice: 'step' (choose from"),
        ((*SMOKE, "--device", "tpu"), "--device: invalid choice: 'tpu' (choose from"),
        ((*SMOKE, "--trials", "0"), "`--trials` must be >= 1; got 0"),
        ((*SMOKE, "--trials", "many"), "--trials: invalid int value: 'many'"),
        ((*SMOKE, "--trials", "1.5"), "--trials: invalid int value: '1.5'"),
        ((*SMOKE, "--seeds", "0"), "`--seeds` must be >= 1; got 0"),
        ((*SMOKE, "--seed", "-1"), "`--seed` must lie in [0, 2147483648); got -1"),
        ((*SMOKE, "--delta", "0"), "`--delta` must be a number of accuracy points > 0; got 0"),
        ((*SMOKE, "--delta", "nan"), "`--delta` must be a number of accuracy points > 0; got nan"),
        ((*SMOKE, "--delta", "1%"), "--delta: invalid float value: '1%'"),
        ((*SMOKE, "--max-concurrent", "0"), "`--max-concurrent` must be >= 1; got 0"),
        ((*SMOKE, "--replicas", "0"), "`--replicas` must be >= 1; got 0"),
        (
            (*SMOKE, "--replicas", "4", "--time-budget", "9m"),
            "`--replicas 4` trains at once the seeds that `--time-budget` counts one by one; leave out one of them.",
        ),
        ((*SMOKE, "--cpus-per-trial", "0"), "`--cpus-per-trial` must be > 0; got 0"),
        ((*SMOKE, "--cpus-per-trial", "9999"), "`--cpus-per-trial` must be at most this machine's"),
        ((*SMOKE, "--gpus-per-trial", "Auto"), "--gpus-per-trial: invalid float value: 'Auto'"),
        ((*SMOKE, "--gpus-per-trial", "-1"), "`--gpus-per-trial` must be >= 0; got -1"),
        ((*SMOKE, "--time-budget", "soon"), "`--time-budget` must be a time such as 90s, 30m or 1h30m; got 'soon'"),
        ((*SMOKE, "--time-budget", "0"), "`--time-budget` must be a time such as 90s, 30m or 1h30m; got '0'"),
        ((*SMOKE, "--classes", "0,cat"), "`--classes` must be integers separated by commas; got '0,cat'"),
        ((*SMOKE, "--classes", ""), "`--classes` must be integers separated by commas; got ''"),
        ((*SMOKE, "--name", "a b"), "`--name` must be at most 100 letters, digits, '.', '_' or '-'"),
        ((*SMOKE, "--name", ""), "`--name` must be at most 100 letters, digits, '.', '_' or '-'"),
        ((*SMOKE, "--name", "../up"), "got '../up'"),
        ((*SMOKE, "--search", "grid"), "`--search grid` needs finite choices; `optimizer.learning_rate` of arm"),
        ((*SMOKE, "--search", "grid", "--trials", "3"), "runs every point of the grid; leave out `--trials 3`"),
        (("--space", "own_parts_of_launch:TWINS", "--mode", "joint"), "each fix their own `loss`; got ('mse', 'mse')"),
    ],
)
def test_flag_that_breaks_a_rule_is_refused_with_its_value_and_the_rule(arguments, says, things, capsys):
    assert says in refused(arguments, capsys, things)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--dataset", "digitz"), "Unknown dataset 'digitz'; choose from cifar10"),
        (("--dataset", "npz:missing.npz"), "no file 'missing.npz'"),
        (("--dataset", "npz:"), "'npz:' names no path; write npz:FILE"),
        (("--dataset", "npz:text.npz"), "text.npz"),
        (("--dataset", "npz:one_class.npz"), "'npz:one_class.npz' has 1 class; a study needs two or more"),
        (("--dataset", "npz:out_of_range.npz"), "-1"),
        (("--dataset", "npz:floats.npz"), "float64"),
        (("--dataset", "npz:no_labels.npz"), "labels"),
        (("--dataset", "folder:missing"), "folder:DIR needs a folder of images by class"),
        (("--dataset", "folder:a_file"), "folder:DIR needs a folder of images by class"),
        (("--dataset", "folder:text_folder"), "0.png"),
        (("--dataset", "folder:one_class_folder"), "has 1 class; a study needs two or more"),
        (("--dataset", "own_parts_of_launch:labels_out_of_range"), "2"),
        (("--dataset", "own_parts_of_launch:raises"), "RuntimeError: first line second line"),
        (("--dataset", "own_parts_of_launch:nothing"), "The dataset 'own_parts_of_launch:nothing' cannot be imported"),
        (("--classes", "3"), "`classes` must be two or more different classes; got 3"),
        (("--classes", "0,99"), "`classes` of 'digits' must be integers from 0 to 9; got 0, 99"),
        (("--train-size", "5"), "`train_size` must be an integer from 20 (2 a class) to"),
        (("--train-size", "1000000"), "got 1000000"),
        (("--imbalance", "0.5"), "`imbalance` must be a finite number >= 1; got 0.5"),
        (("--model", "mpl"), "Unknown model 'mpl'; choose from convnet, mlp, resnet18"),
        (("--model", "own_parts_of_launch:too_few_outputs"), "logits of shape (2, 10), one per class; got (2, 9)"),
        (("--arms", "focal,own_parts_of_launch:nothing"), "The loss 'own_parts_of_launch:nothing' cannot be imported"),
        (("--arms", "focal,nowhere_at_all:poly"), "The loss 'nowhere_at_all:poly' cannot be imported"),
        (("--arms", "focal,own_parts_of_launch:one_number"), "must return one value per example"),
        (("--space", "own_parts_of_launch:UNKNOWN_LOSS"), "Arm 'mse': Unknown loss 'mean_square'; choose from"),
        (("--space", "own_parts_of_launch:UNKNOWN_OPTIMIZER"), "Arm 'mse': Unknown optimizer 'sgdd'; choose from adam"),
        (("--storage-path", "a_file"), "`--storage-path` must be a folder that can be written; got"),
        (("--storage-path", "a_file/below"), "`--storage-path` must be a folder that can be written; got"),
        (("--storage-path", f"new/{'x' * 300}"), "`--storage-path` must be a folder that can be written; got"),
        (("--name", "taken"), "The study 'taken' exists already in"),
        (
            ("--tracking-uri", "sqlite:///missing/mlflow.db"),
            "`--tracking-uri` must lie in a folder that can be written",
        ),
        (("--tracking-uri", "sqlite:///a_file"), "`--tracking-uri` must name a SQLite database or a file yet to be"),
        (("--tracking-uri", "gopher://nowhere", "--quiet"), "MLflow does not answer at gopher://nowhere"),
    ],
)
@pytest.mark.usefixtures("no_ray")
def test_input_that_only_shows_when_it_is_read_is_refused_and_leaves_nothing(arguments, says, things, capsys):
    assert says in refused((*SMOKE, *arguments), capsys, things)


def test_gpu_that_is_not_there_is_refused(working_directory, capsys, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for arguments in (("--gpus-per-trial", "0.5"), ("--device", "cuda")):
        assert "needs a CUDA device" in refused((*SMOKE, *arguments), capsys, working_directory)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9"])
def test_cluster_that_does_not_answer_is_refused_and_leaves_neither_folder_nor_database(
    working_directory, capsys, address
):
    says = f"`--address {address}`: no Ray cluster answers there."
    assert says in refused((*SMOKE, "--address", address), capsys, working_directory)


def test_dry_run_refuses_the_same_input(things, capsys):
    line = refused((*SMOKE, "--dataset", "npz:one_class.npz", "--dry-run"), capsys, things)
    assert "has 1 class; a study needs two or more" in line


def test_interruption_ends_with_its_own_code_and_one_line(capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("study.launch._run", interrupted)
    assert main(list(SMOKE)) == 130
    assert capsys.readouterr().err == "study.launch: interrupted.\n"


def test_help_mentions_every_flag_the_environment_and_the_exit_codes(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert set(re.findall(r"--[a-z-]+", shown)) >= FLAGS
    for word in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "RAY_ADDRESS", "exit codes", "130 interrupted"):
        assert word in shown
    for example in ("npz:FILE", "folder:DIR", "my_module:poly", "my_module:build", "my_module:STUDY"):
        assert example in shown


def test_every_flag_says_what_it_does():
    actions = [action for action in build_parser()._actions if not isinstance(action, argparse._HelpAction)]
    assert {option for action in actions for option in action.option_strings} == FLAGS
    assert [action.dest for action in actions if not action.help] == []


def test_flags_reach_the_options(working_directory):
    line = (
        "--space smoke --arms cross_entropy,focal --baseline focal --delta 0.3 --name mine --dataset mnist --data-dir "
        "data --classes 6,0 --train-size 500 --imbalance 10 --augment --model convnet --precision bf16 --schedule "
        "cosine --trials 3 --seeds 4 --seed 5 --time-budget 1h30m --mode joint --search random --stopping none "
        "--max-concurrent 6 --cpus-per-trial 0.5 --gpus-per-trial 0.25 --device cpu --address auto --storage-path out "
        "--tracking-uri sqlite:///own.db --experiment-name exp --dry-run --no-models --quiet"
    )
    options, space = parse_options(line.split())
    assert space.name == "smoke"
    shown = dict(vars(options))
    assert shown.pop("command") == f"python -m study.launch {line}"
    assert shown.pop("arguments") == tuple(line.split())
    assert shown == {
        "name": "mine",
        "space": "smoke",
        "arms": ("cross_entropy", "focal"),
        "baseline": "focal",
        "mode": "joint",
        "search": "random",
        "stopping": "none",
        "trials": 3,
        "seeds": 4,
        "seed": 5,
        "delta": 0.3,
        "time_budget": 5400,
        "dataset": "mnist",
        "data_dir": "data",
        "classes": (6, 0),
        "train_size": 500,
        "imbalance": 10.0,
        "augment": True,
        "model": "convnet",
        "precision": "bf16",
        "schedule": "cosine",
        "device": "cpu",
        "cpus_per_trial": 0.5,
        "gpus_per_trial": 0.25,
        "share_gpus": False,
        "max_concurrent": 6,
        "replicas": 1,
        "address": "auto",
        "storage_path": working_directory / "out",
        "bucket": None,
        "tracking_uri": f"sqlite:///{working_directory}/own.db",
        "experiment_name": "exp",
        "dry_run": True,
        "no_models": True,
        "quiet": True,
        "regime": "search",
        "epochs_scale": 1.0,
        "resume": False,
        "force": False,
        "max_failures": 2,
        "hang_timeout": 1800,
        "extend": None,
    }


def test_a_bucket_holds_the_study_beside_the_driver_s_own_folder(working_directory):
    options, _ = parse_options(["--space=full", "--name=s", "--storage-path=s3://bucket/some/where/"])
    assert (options.bucket, options.shared) == ("s3://bucket/some/where", "s3://bucket/some/where/s")
    assert options.folder == working_directory / "runs" / "s"


def test_flags_of_a_reported_study_reach_the_options(working_directory):
    line = "--space loss_by_depth --regime fair --epochs-scale 0.25 --arms gelu-*-one,silu-mse-one --seeds 5"
    options, space = parse_options(line.split())
    assert (options.regime, options.epochs_scale, options.dataset, options.classes) == ("fair", 0.25, "mnist", None)
    study = resolve_study(space, options)
    assert [arm.name for arm in study.arms] == [
        "silu-mse-one", "gelu-mse-one", "gelu-cross_entropy-one", "gelu-hinge-one", "gelu-focal-one",
        "gelu-mse_probabilities-one",
    ]  # fmt: skip
    assert {arm.fixed["epochs"] for arm in study.arms} == {50}
    assert (study.seeds, study.baseline) == (5, "gelu-cross_entropy-one")


@pytest.mark.parametrize(
    ("dataset", "classes", "expected"),
    [
        ((), (), ("fashion-mnist", (0, 6))),
        (("--dataset", "cifar10"), (), ("cifar10", (3, 5))),
        (("--dataset", "svhn"), ("--classes", "1,7"), ("svhn", (1, 7))),
        (("--dataset", "cifar10"), ("--classes", "0,1"), ("cifar10", (0, 1))),
    ],
)
def test_a_study_of_two_classes_knows_its_look_alikes(working_directory, dataset, classes, expected):
    options, _ = parse_options(["--space", "one_factor_at_a_time", *dataset, *classes])
    assert (options.dataset, options.classes) == expected


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--space one_factor_at_a_time --dataset svhn", "needs `--classes A,B` for the data set 'svhn'"),
        ("--space loss_by_depth --trials 3", "`--trials 3` does not apply to the space 'loss_by_depth': it is fixed"),
        ("--space loss_by_depth --stopping none", "`--stopping none` does not apply to the space 'loss_by_depth'"),
        ("--space loss_by_depth --model mlp", "`--model mlp` does not apply to the space 'loss_by_depth'"),
        ("--space loss_by_depth --time-budget 3m", "`--time-budget 3m` does not apply to the space 'loss_by_depth'"),
        ("--space smoke --regime fair", "`--regime fair` does not apply to the space 'smoke': it is for the reported"),
        ("--space smoke --epochs-scale 0", "`--epochs-scale 0.0` does not apply to the space 'smoke'"),
        ("--space smoke --epochs-scale 0.5", "`--epochs-scale 0.5` does not apply to the space 'smoke'"),
        ("--space loss_by_depth --epochs-scale 0", "`--epochs-scale` must lie in (0, 1]; got 0"),
        ("--space loss_by_depth --epochs-scale 1.5", "`--epochs-scale` must lie in (0, 1]; got 1.5"),
        ("--space loss_by_depth --epochs-scale nan", "`--epochs-scale` must lie in (0, 1]; got nan"),
        ("--space loss_by_depth --arms gelu-*-three", "No arm matches 'gelu-*-three'; choose from selu-mse-one,"),
        ("--space loss_by_depth --baseline nobody", "Unknown arm 'nobody'; choose from selu-mse-one,"),
        ("--space loss_by_depth --regime honest", "invalid choice: 'honest'"),
        ("--list --space smoke", "`--list` shows the studies on record; leave out `--space`."),
        ("--resume", "`--resume` needs the name of a study: `--resume NAME`."),
        ("--extend --trials 3", "`--extend` needs the name of a study: `--extend NAME`."),
        ("--extend s", "`--extend` needs the number of trials to add to each arm: `--trials N`."),
        (
            "--extend s --resume s --trials 3",
            "`--resume` goes on with a study, `--extend` adds to one that is finished; give one of them.",
        ),
        (
            "--space smoke --force",
            "`--force` is for a study that is resumed; it needs `--resume NAME` or `--extend NAME`.",
        ),
        ("--space smoke --max-failures -1", "`--max-failures` must be >= 0; got -1."),
        ("--space smoke --hang-timeout soon", "`--hang-timeout` must be a time such as 90s, 30m or 1h30m; got 'soon'."),
        ("--name s", "The following arguments are required: --space"),
    ],
)
def test_flags_that_do_not_fit_a_reported_study_are_refused(line, says, things, capsys):
    assert says in refused(line.split(), capsys, things)


RECORDED = [
    "--space",
    "smoke",
    "--name",
    "s",
    "--trials",
    "3",
    "--dataset",
    "digits",
    "--quiet",
    "--storage-path",
    "old",
]


@pytest.fixture
def on_record(working_directory, monkeypatch):
    monkeypatch.setattr("study.resume.recorded_arguments", lambda _name, *, tracking_uri: RECORDED)
    return working_directory


@pytest.mark.parametrize(
    "line",
    [
        "--resume s",
        "--space smoke --name s --trials 3 --resume",
        "--resume s --trials 3 --max-concurrent 2 --max-failures 5 --storage-path new --force",
    ],
)
def test_a_study_is_resumed_with_its_flags_from_where_it_is_kept_now(on_record, line):
    options, space = parse_options(line.split())
    assert (space.name, options.name, options.trials, options.dataset) == ("smoke", "s", 3, "digits")
    assert options.resume
    assert options.arguments == tuple(RECORDED)
    assert not options.quiet  # how it is watched is not on record
    assert options.storage_path == on_record / ("new" if "new" in line else "old")
    assert (options.max_concurrent, options.max_failures, options.force) == (
        (2, 5, True) if "new" in line else (None, 2, False)
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", ("cuda", 0.5, 8)),
        ("--device cpu", ("cpu", 0.0, 8)),
        ("--device cpu --replicas 1", ("cpu", 0.0, 1)),
        ("--gpus-per-trial 2", ("cuda", 2.0, 8)),
    ],
)
def test_a_study_is_resumed_on_the_device_that_is_there_now(on_record, monkeypatch, line, expected):
    begun = [*RECORDED, "--device=cuda", "--gpus-per-trial=0.5", "--replicas=8"]
    monkeypatch.setattr("study.resume.recorded_arguments", lambda _name, *, tracking_uri: begun)
    options, _ = parse_options(["--resume", "s", *line.split()])
    assert (options.device, options.gpus_per_trial, options.replicas) == expected


@pytest.mark.parametrize("line", ["--extend s --trials 5", "--space smoke --name s --extend --trials 5"])
def test_a_study_is_extended_with_its_flags_by_trials_that_are_no_flag_of_its_record(on_record, line):
    options, _ = parse_options(line.split())
    assert (options.name, options.trials, options.extend, options.resume) == ("s", 3, 5, True)
    assert options.arguments == tuple(RECORDED)
    assert parse_options(["--resume", "s"])[0].extend is None


def test_a_study_that_has_no_room_for_more_is_not_extended(on_record, monkeypatch, capsys):
    monkeypatch.setattr(
        "study.resume.recorded_arguments", lambda _name, *, tracking_uri: [*RECORDED, "--time-budget=9s"]
    )
    assert main(["--extend", "s", "--trials", "2"]) == 2
    assert capsys.readouterr().err == (
        "study.launch: The study 's' cannot be extended: it was given a time, which is spent.\n"
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--resume s --trials 4", "`--trials 4` contradicts the record: the study 's' was begun with `--trials 3`."),
        ("--resume s --seeds 4", "`--seeds 4` contradicts the record: the study 's' was begun without it."),
        (
            "--resume s --space full",
            "`--space full` contradicts the record: the study 's' was begun with `--space smoke`.",
        ),
        ("--resume s --augment", "`--augment` contradicts the record: the study 's' was begun without it."),
        ("--extend s --trials 4 --seeds 4", "`--seeds 4` contradicts the record: the study 's' was begun without it."),
        ("--extend s --trials 0", "`--trials` must be >= 1; got 0."),
    ],
)
def test_flags_that_contradict_the_record_are_refused(on_record, line, says, capsys):
    assert main(line.split()) == 2
    assert capsys.readouterr().err == f"study.launch: {says}\n"


def test_gpus_shared_by_themselves_begin_with_a_whole_one_each(working_directory):
    options, _ = parse_options([*SMOKE, "--gpus-per-trial", "auto"])
    assert (options.gpus_per_trial, options.share_gpus, options.device) == (1.0, True, "cuda")


def test_defaults_need_nothing_but_a_space(working_directory):
    options, _ = parse_options(list(SMOKE))
    assert (options.dataset, options.mode, options.search, options.stopping) == ("digits", "arms", "tpe", "asha")
    assert (options.device, options.gpus_per_trial, options.cpus_per_trial) == ("cpu", 0.0, 1.0)
    assert (options.trials, options.seeds, options.time_budget, options.address) == (None, None, None, None)
    assert options.storage_path == working_directory / "runs"
    assert options.tracking_uri == f"sqlite:///{working_directory}/mlflow.db"
    assert options.experiment_name == "smoke"


@pytest.mark.parametrize(
    ("arguments", "device", "gpus"),
    [
        ((), "cpu", 0.0),
        (("--device", "cuda"), "cuda", 1.0),
        (("--gpus-per-trial", "0.25"), "cuda", 0.25),
        (("--device", "cuda", "--gpus-per-trial", "0.5"), "cuda", 0.5),
        (("--device", "cpu", "--gpus-per-trial", "1"), "cpu", 1.0),
        (("--gpus-per-trial", "0"), "cpu", 0.0),
    ],
)
def test_device_and_gpus_follow_from_each_other(arguments, device, gpus):
    options, _ = parse_options([*SMOKE, *arguments])
    assert (options.device, options.gpus_per_trial) == (device, gpus)


def test_environment_is_heard_below_the_flags(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "from-outside")
    monkeypatch.setenv("RAY_ADDRESS", "cluster:6379")
    options, _ = parse_options(list(SMOKE))
    assert (options.tracking_uri, options.experiment_name, options.address) == (
        "http://tracking:5000",
        "from-outside",
        "cluster:6379",
    )
    flags = ["--tracking-uri", "http://other:1", "--experiment-name", "mine", "--address", "auto"]
    options, _ = parse_options([*SMOKE, *flags])
    assert (options.tracking_uri, options.experiment_name, options.address) == ("http://other:1", "mine", "auto")


@pytest.mark.parametrize(
    ("dataset", "label"),
    [
        ("digits", "digits"),
        ("fashion-mnist", "fashion-mnist"),
        ("npz:/some where/my data.npz", "my-data.npz"),
        ("folder:images/", "folder-images"),
        ("my_module:load", "my_module-load"),
        ("npz:/数据.npz", "npz"),
        ("folder:/", "folder"),
        (f"npz:{'x' * 200}", f"npz-{'x' * 36}"),
    ],
)
def test_default_name_is_space_dataset_and_time_and_always_a_name(dataset, label):
    before = datetime.now().astimezone().replace(microsecond=0)
    options, _ = parse_options([*SMOKE, "--dataset", dataset])
    found = re.fullmatch(r"smoke-(.+)-(\d{8}-\d{6})", options.name)
    assert found is not None
    assert found[1] == label
    stamp = datetime.strptime(found[2], "%Y%m%d-%H%M%S").astimezone()
    assert before <= stamp <= datetime.now().astimezone()


def test_default_name_takes_the_spaces_own_name_not_its_path(things):
    (things / "good.py").write_text(BAD_RATE.replace("0.0", "0.1"))
    options, _ = parse_options(["--space", "good.py"])
    assert options.name.startswith("own-digits-")
    assert options.experiment_name == "own"


def test_recorded_command_can_be_typed_again_and_shows_no_password(working_directory):
    arguments = [*SMOKE, "--name", "a", "--dataset", "npz:my data.npz"]
    assert (
        parse_options(arguments)[0].command
        == "python -m study.launch --space smoke --name a --dataset 'npz:my data.npz'"
    )
    secret = [*SMOKE, "--tracking-uri", "https://user:secret@tracking/"]
    options, _ = parse_options(secret)
    assert options.tracking_uri == "https://user:secret@tracking/"
    assert "secret" not in options.command


def test_options_refuse_before_a_folder_is_made(working_directory):
    with pytest.raises(InputError):
        parse_options([*SMOKE, "--trials", "0"])
    assert list(working_directory.iterdir()) == []


def imported(arguments, folder):
    """Exit code, what was said, and the top-level modules that ``python -m study.launch`` imported."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "study.launch", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    lines = done.stderr.splitlines()
    times = [line for line in lines if line.startswith("import time:")]
    said = [line for line in lines if not line.startswith("import time:")]
    modules = {line.rpartition("|")[2].strip().partition(".")[0] for line in times}
    assert "search_spaces" in modules
    return done.returncode, done.stdout, said, modules


HEAVY = {"torch", "torchvision", "ray", "mlflow", "optuna", "numpy", "pandas", "sklearn", "rich"}


def test_help_is_quick_it_imports_nothing_heavy(working_directory):
    code, shown, said, modules = imported(["--help"], working_directory)
    assert (code, said) == (0, [])
    assert "usage: python -m study.launch" in shown
    assert modules & HEAVY == set()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--space", "smoke", "--trials", "0"], "study.launch: `--trials` must be >= 1; got 0."),
        (["--space", "smok"], "study.launch: Unknown space 'smok'; choose from full, smoke,"),
        (["--space", "smoke", "--frobnicate"], "study.launch: Unrecognized arguments: --frobnicate"),
    ],
)
def test_refusal_of_a_flag_is_quick_it_imports_nothing_heavy(working_directory, arguments, says):
    code, shown, said, modules = imported(arguments, working_directory)
    assert (code, shown) == (2, "")
    (line,) = said
    assert line.startswith(says)
    assert modules & HEAVY == set()
    assert list(working_directory.iterdir()) == []


def test_refusal_of_an_arm_imports_neither_torch_nor_ray_nor_mlflow(working_directory):
    code, _, said, modules = imported(["--space", "smoke", "--arms", "focall"], working_directory)
    assert code == 2
    assert len(said) == 1
    assert modules & {"torch", "torchvision", "ray", "mlflow", "optuna"} == set()
    assert list(working_directory.iterdir()) == []
