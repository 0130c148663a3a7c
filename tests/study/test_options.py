"""The flags as one checked value."""

import math
from pathlib import Path

import pytest

from study.options import Options, parse_duration
from trainables.config import InputError


def an_options(**changes):
    required = {"command": "", "name": "s", "space": "smoke", "tracking_uri": "sqlite:////x.db", "experiment_name": "e"}
    return Options(**{**required, "storage_path": Path("/runs"), **changes})


@pytest.mark.parametrize("name", ["a", "full-digits-20260101-120000", "A_1.b-c", "7", "_x", "a" * 100])
def test_name_of_letters_digits_and_a_few_signs_is_taken(name):
    assert an_options(name=name).folder == Path("/runs") / name


@pytest.mark.parametrize("name", ["", " ", "a b", "a/b", "..", ".hidden", "-x", "ü", "a\nb", "a" * 101])
def test_name_that_would_not_fit_a_path_is_refused_with_the_rule(name):
    with pytest.raises(InputError, match="`--name` must be at most 100 letters, digits") as caught:
        an_options(name=name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"trials": 0}, "`--trials` must be >= 1; got 0."),
        ({"seeds": -3}, "`--seeds` must be >= 1; got -3."),
        ({"max_concurrent": 0}, "`--max-concurrent` must be >= 1; got 0."),
        ({"seed": -1}, "`--seed` must lie in [0, 2147483648); got -1."),
        ({"seed": 2**31}, "`--seed` must lie in [0, 2147483648); got 2147483648."),
        ({"delta": 0.0}, "`--delta` must be a number of accuracy points > 0; got 0."),
        ({"delta": math.nan}, "`--delta` must be a number of accuracy points > 0; got nan."),
        ({"delta": math.inf}, "`--delta` must be a number of accuracy points > 0; got inf."),
        ({"cpus_per_trial": 0.0}, "`--cpus-per-trial` must be > 0; got 0."),
        ({"cpus_per_trial": math.nan}, "`--cpus-per-trial` must be > 0; got nan."),
        ({"gpus_per_trial": -0.5}, "`--gpus-per-trial` must be >= 0; got -0.5."),
        ({"gpus_per_trial": math.inf}, "`--gpus-per-trial` must be >= 0; got inf."),
        ({"search": "grid", "trials": 4}, "`--search grid` runs every point of the grid; leave out `--trials 4`."),
        ({"arms": ("l1", "mse", "l1")}, "`--arms` must name each arm once; got l1,mse,l1."),
    ],
)
def test_value_that_breaks_a_rule_is_refused_with_both(changes, says):
    with pytest.raises(InputError) as caught:
        an_options(**changes)
    assert str(caught.value) == says


def test_smallest_values_are_taken():
    options = an_options(trials=1, seeds=1, max_concurrent=1, seed=0, delta=1e-9, cpus_per_trial=0.5, search="random")
    assert (options.trials, options.gpus_per_trial) == (1, 0.0)


def test_dataset_is_labelled_with_what_was_done_to_it():
    assert an_options().dataset_label == "digits"
    cut = an_options(dataset="mnist", classes=(6, 0), train_size=500, imbalance=100.0)
    assert cut.dataset_label == "mnist classes=6,0 train-size=500 imbalance=100"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("90s", 90),
        ("30m", 1800),
        ("1h", 3600),
        ("1h30m", 5400),
        ("1h30s", 3630),
        ("2h3m4s", 7384),
        ("0.5h", 1800),
        (" 30m ", 1800),
    ],
)
def test_duration_is_read_in_seconds(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0m", "-5m", "30min", "m", "30m1h", "1h30", "1 h", "1e3", "nan", "inf", "1d"]
)
def test_duration_that_is_none_is_refused(text):
    with pytest.raises(InputError, match="`--time-budget` must be a time such as 90s, 30m or 1h30m; got") as caught:
        parse_duration(text)
    assert repr(text) in str(caught.value)


def test_how_to_go_on_names_the_record_where_it_is_not_the_usual_one_and_no_password(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    usual = an_options(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert usual.resume_command == "python -m study.launch --resume s"
    other = an_options(tracking_uri="http://me:secret@host:5000")
    assert other.resume_command == "python -m study.launch --resume s --tracking-uri 'http://me:***@host:5000'"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@host:5000")
    assert other.resume_command == "python -m study.launch --resume s"
