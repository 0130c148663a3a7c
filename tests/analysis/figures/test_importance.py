import itertools

import numpy as np
import optuna
import pandas as pd
import pytest

from analysis.figures import importance
from analysis.figures.importance import build_optuna_study, importance_of, info_importance
from analysis.figures.style import Style
from analysis.figures.table import FIGURES
from analysis.findings import Findings
from analysis.load import StudyRecord

STYLE = Style({"a": "#111111", "b": "#222222", "c": "#333333"}, {}, {}, "a", 1.0)
RANGES = {"sgd": (1e-3, 10.0), "adam": (1e-5, 1e-1)}


def rate_of(optimizer):
    low, high = RANGES[optimizer]
    return {"key": "optimizer.learning_rate", "kind": "float", "low": low, "high": high, "log": True} | {
        "when": {"optimizer": [optimizer]}
    }


PARAMETERS = [
    {"key": "optimizer", "kind": "categorical", "choices": ["sgd", "adam"], "when": None},
    rate_of("sgd"),
    rate_of("adam"),
    {"key": "batch_size", "kind": "categorical", "choices": [32, 64, 128], "when": None},
    {"key": "optimizer.momentum", "kind": "float", "low": 0.0, "high": 0.99, "log": False}
    | {"when": {"optimizer": ["sgd"]}},
    {"key": "hidden_layers", "kind": "integer", "low": 1, "high": 3, "log": False, "when": None},
    {"key": "width", "kind": "categorical", "choices": [64], "when": None},
]
PROTOCOL = {"arms": [{"name": "focal", "fixed": {"loss": "focal"}, "parameters": PARAMETERS}]}


def sample(generator, num_trials, arm="focal"):
    """Search trials drawn at random, with ``position``: where the learning rate lies in its range, 0 to 1."""
    optimizer = generator.choice(["sgd", "adam"], num_trials)
    position = generator.random(num_trials)
    low, high = (np.array([RANGES[name][end] for name in optimizer]) for end in (0, 1))
    return pd.DataFrame(
        {
            "arm": arm,
            "optimizer": optimizer,
            "optimizer.learning_rate": low * (high / low) ** position,
            "batch_size": generator.choice([32, 64, 128], num_trials),
            "optimizer.momentum": np.where(optimizer == "sgd", generator.uniform(0, 0.99, num_trials), np.nan),
            "hidden_layers": generator.integers(1, 4, num_trials).astype(float),
            "width": 64,
            "position": position,
        }
    )


def test_the_hyperparameter_that_decides_has_the_largest_share_and_stands_out():
    generator = np.random.default_rng(1)
    trials = sample(generator, 60)
    scores = -np.abs(trials["position"].to_numpy() - 0.7) + generator.normal(0, 0.01, 60)
    found = importance_of(trials, scores, PROTOCOL, generator).set_index("hyperparameter")
    assert found["importance"].idxmax() == "optimizer.learning_rate"
    assert found.loc["optimizer.learning_rate", "importance"] > 0.5
    assert found.loc["optimizer.learning_rate", "beyond_chance"]
    assert found["importance"].sum() == pytest.approx(1)
    assert set(found["num_top"]) == {15}


def test_a_choice_that_decides_stands_out_too():
    generator = np.random.default_rng(2)
    trials = sample(generator, 40)
    scores = (trials["batch_size"].to_numpy() == 64) + generator.normal(0, 0.05, 40)
    found = importance_of(trials, scores, PROTOCOL, generator).set_index("hyperparameter")
    assert found["importance"].idxmax() == "batch_size"
    assert found.loc["batch_size", "beyond_chance"]


def test_where_nothing_matters_one_cell_in_twenty_stands_out():
    generator = np.random.default_rng(3)
    cells = [
        importance_of(sample(generator, 16), generator.random(16), PROTOCOL, generator)["beyond_chance"]
        for _ in range(100)
    ]
    rate = pd.concat(cells).astype(float).mean()
    assert len(pd.concat(cells)) > 350
    assert 0.02 < rate < 0.08  # 5% but for ties, give or take three standard errors of 1% each


def test_a_hyperparameter_of_few_trials_or_of_one_value_is_left_out():
    generator = np.random.default_rng(4)
    trials = sample(generator, 16)
    trials.loc[4:, ["optimizer", "optimizer.momentum"]] = "adam", np.nan
    trials.loc[4:, "optimizer.learning_rate"] = 1e-3
    keys = set(importance_of(trials, generator.random(16), PROTOCOL, generator)["hyperparameter"])
    assert keys == {"optimizer", "optimizer.learning_rate", "batch_size", "hidden_layers"}


def test_one_hyperparameter_alone_has_no_importance_to_share():
    only = {"arms": [{"name": "focal", "fixed": {}, "parameters": PARAMETERS[3:4]}]}
    generator = np.random.default_rng(5)
    assert importance_of(sample(generator, 20), generator.random(20), only, generator).empty


def test_each_trial_keeps_the_range_of_its_own_optimizer():
    trials = sample(np.random.default_rng(6), 30).to_dict("records")
    study = build_optuna_study(trials, PROTOCOL)
    for known, rebuilt in zip(trials, study.get_trials(), strict=True):
        ranges = rebuilt.distributions["optimizer.learning_rate"]
        assert (ranges.low, ranges.high) == RANGES[known["optimizer"]]
        assert rebuilt.params["optimizer.learning_rate"] == known["optimizer.learning_rate"]
        assert ("optimizer.momentum" in rebuilt.params) == (known["optimizer"] == "sgd")
        assert "width" not in rebuilt.params


def test_a_value_that_is_not_in_its_range_is_left_out():
    trials = sample(np.random.default_rng(7), 2).to_dict("records")
    trials[0] |= {"batch_size": 77, "hidden_layers": 9.0}
    rebuilt = build_optuna_study(trials, PROTOCOL).get_trials()[0]
    assert not {"batch_size", "hidden_layers"} & set(rebuilt.params)


def test_numbers_that_are_names_find_their_choice():
    choice = [{"key": "activation", "kind": "categorical", "choices": ["1", "2"], "when": None}]
    protocol = {"arms": [{"name": "focal", "fixed": {}, "parameters": choice}]}
    rebuilt = build_optuna_study([{"arm": "focal", "activation": 2}], protocol).get_trials()[0]
    assert rebuilt.params == {"activation": "2"}


def test_rebuilding_a_study_says_nothing_and_leaves_the_loudness_alone(capfd):
    before = optuna.logging.get_verbosity()
    build_optuna_study([], PROTOCOL)
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr().err == ""


def findings_of_trials(trials, **protocol):
    record = StudyRecord("made", "", "", "", {}, protocol, trials, pd.DataFrame(), {})
    empty = pd.DataFrame()
    arms = tuple(dict.fromkeys(trials["arm"]))
    return Findings(record, arms, arms[0], 1.0, empty, empty, empty, empty, "")


def search(generator, arms, num_trials, level):
    """Trials of several arms whose accuracy falls with the distance of the learning rate from its best."""
    frames = []
    for arm in arms:
        own = sample(generator, num_trials, arm)
        accuracy = level[arm] - 0.3 * (own["position"] - 0.7).abs() + generator.normal(0, 0.003, num_trials)
        frames.append(own.assign(val_accuracy=accuracy, loss=arm, phase="search", stop_reason="completed", number=0))
    return pd.concat(frames, ignore_index=True)


def arms_of(names):
    return [{"name": name, "fixed": {"loss": name}, "parameters": PARAMETERS} for name in names]


def test_all_arms_are_one_row_in_which_levels_do_not_count():
    levels = {"a": 0.9, "b": 0.5, "c": 0.7}
    trials = search(np.random.default_rng(8), levels, 16, levels)
    info = info_importance(findings_of_trials(trials, arms=arms_of(levels), mode="arms"))
    assert list(dict.fromkeys(info["row"])) == ["all arms", "a", "b", "c"]
    whole = info[info["pooled"]].set_index("hyperparameter")
    assert whole["num_trials"].unique() == [48]
    assert whole["importance"].idxmax() == "optimizer.learning_rate"
    assert "loss" not in whole.index
    takeaway = FIGURES["importance"].takeaway(info, STYLE)
    assert takeaway.startswith("Over the 48 trials of all arms, optimizer.learning_rate (")
    assert "16 trials each" in takeaway


def test_in_a_joint_search_the_factor_is_one_of_the_hyperparameters():
    levels = {"a": 0.9, "b": 0.2, "c": 0.2}
    trials = search(np.random.default_rng(9), levels, 20, levels)
    info = info_importance(findings_of_trials(trials, arms=arms_of(levels), mode="joint", factor="loss"))
    assert set(info["row"]) == {"joint search"}
    assert info.set_index("hyperparameter").loc["loss", "beyond_chance"]
    assert "the joint search" in FIGURES["importance"].takeaway(info, STYLE)


def test_a_page_says_the_same_every_time():
    trials = search(np.random.default_rng(12), {"a": 0.9}, 12, {"a": 0.9})
    first, second = (info_importance(findings_of_trials(trials, arms=arms_of(["a"]))) for _ in range(2))
    assert not first.empty
    pd.testing.assert_frame_equal(first, second)


def test_trials_that_ended_for_no_reason_of_their_own_do_not_count():
    levels = {"a": 0.9}
    trials = search(np.random.default_rng(10), levels, 20, levels)
    trials.loc[:11, "stop_reason"] = list(itertools.islice(itertools.cycle(["failed", "interrupted", "running"]), 12))
    info = info_importance(findings_of_trials(trials, arms=arms_of(levels)))
    assert info.empty  # eight are left


def test_cells_beyond_chance_are_marked_and_only_these():
    levels = {"a": 0.9, "b": 0.5}
    trials = search(np.random.default_rng(11), levels, 30, levels)
    info = info_importance(findings_of_trials(trials, arms=arms_of(levels)))
    drawing = importance.plot_importance(info, STYLE)
    marked = [note.text for note in drawing.layout.annotations if note.text.endswith("*</b>")]
    assert len(marked) == int(info["beyond_chance"].sum()) > 0
    assert len(drawing.layout.annotations) == len(info)
