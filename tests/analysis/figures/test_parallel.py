import math

import numpy as np
import pandas as pd
import pytest

from analysis.figures.parallel import (
    MAX_AXES,
    NUM_COLOURS,
    UNSET,
    build_axes,
    info_parallel,
    plot_parallel,
    say_parallel,
)
from analysis.figures.style import Style
from analysis.findings import Findings
from analysis.load import StudyRecord

STYLE = Style({"a": "#111111", "b": "#222222"}, {}, {}, "a", 1.0)
RATE = {"key": "optimizer.learning_rate", "kind": "float", "low": 1e-5, "high": 1.0, "log": True, "when": None}
MOMENTUM = {"key": "optimizer.momentum", "kind": "float", "low": 0.0, "high": 0.9, "log": False}
PARAMETERS = [
    {"key": "optimizer", "kind": "categorical", "choices": ["sgd", "adam"], "when": None},
    RATE,
    MOMENTUM | {"when": {"optimizer": ["sgd"]}},
    {"key": "hidden_layers", "kind": "integer", "low": 1, "high": 3, "log": False, "when": None},
]


def make_findings(trials, *, parameters=PARAMETERS, **protocol):
    arms = tuple(dict.fromkeys(trials["arm"]))
    protocol = {"arms": [{"name": arm, "fixed": {"loss": arm}, "parameters": parameters} for arm in arms]} | protocol
    empty = pd.DataFrame()
    record = StudyRecord("made", "", "", "", {}, protocol, trials, empty, {})
    return Findings(record, arms, arms[0], 1.0, empty, empty, empty, empty, "")


def make_trials(accuracies=(0.9, 0.8, 0.7, 0.6), arms="aabb"):
    number = len(accuracies)
    optimizer = ["sgd" if place % 2 == 0 else "adam" for place in range(number)]
    return pd.DataFrame(
        {
            "run_id": [f"run{place}" for place in range(number)],
            "arm": list(arms),
            "phase": "search",
            "seed": 0,
            "number": range(number),
            "stop_reason": "completed",
            "end": 0,
            "loss": list(arms),
            "optimizer": optimizer,
            "optimizer.learning_rate": np.geomspace(1e-4, 1e-1, number),
            "optimizer.momentum": [0.3 * place if name == "sgd" else math.nan for place, name in enumerate(optimizer)],
            "hidden_layers": [1 + place % 3 for place in range(number)],
            "val_accuracy": accuracies,
            "epochs_done": 8,
        }
    )


def axes_of(info):
    return {axis.title.partition("<br>(")[0].replace("<br>", ""): axis for axis in build_axes(info, ["a", "b"])}


def test_there_is_an_axis_per_searched_hyperparameter_with_its_unit():
    titles = [axis.title for axis in build_axes(info_parallel(make_findings(make_trials())), ["a", "b"])]
    assert titles == [
        "arm",
        "optimizer",
        "optimizer.<br>learning_rate<br>(log)",
        "optimizer.<br>momentum",
        "hidden_layers<br>(layers)",
        "val_accuracy<br>(%)",
    ]


def test_learning_rates_lie_on_a_log_scale_with_powers_of_ten_written():
    axis = axes_of(info_parallel(make_findings(make_trials())))["optimizer.learning_rate"]
    assert axis.places == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert {name: place for place, name in axis.ticks} == pytest.approx(
        {"0.0001": 0, "0.001": 1 / 3, "0.01": 2 / 3, "0.1": 1}
    )


def test_a_hyperparameter_that_a_trial_does_not_have_lies_below_its_axis():
    axis = axes_of(info_parallel(make_findings(make_trials())))["optimizer.momentum"]
    assert axis.places == pytest.approx([0, UNSET, 1, UNSET])
    assert (UNSET, "not set") in axis.ticks


def test_the_lines_of_a_category_are_spread_and_the_most_accurate_is_on_top():
    axis = axes_of(info_parallel(make_findings(make_trials())))["optimizer"]
    assert axis.places[0] > axis.places[2]
    assert axis.places[1] > axis.places[3]
    centres = {name: place for place, name in axis.ticks}
    assert all(abs(axis.places[place] - centres["sgd"]) < abs(axis.places[place] - centres["adam"]) for place in (0, 2))


def test_the_first_arm_stands_on_top():
    axis = axes_of(info_parallel(make_findings(make_trials())))["arm"]
    assert min(axis.places[:2]) > max(axis.places[2:])


def test_one_hyperparameter_is_no_figure_of_its_own():
    assert info_parallel(make_findings(make_trials(), parameters=[RATE])).empty


def test_hyperparameters_of_the_fewest_arms_have_no_axis_where_there_are_too_many():
    many = [{"key": f"model.p{place}", "kind": "float", "low": 0.0, "high": 1.0, "when": None} for place in range(20)]
    trials = make_trials().assign(**{one["key"]: np.linspace(0, 1, 4) for one in many})
    findings = make_findings(trials, parameters=[*many[:11], RATE])
    findings.record.protocol["arms"][1]["parameters"] = [*many[1:11], RATE]
    info = info_parallel(findings)
    assert len(build_axes(info, ["a", "b"])) == MAX_AXES
    assert info.attrs["left_out"] == ["model.p0"]
    assert "no axis for model.p0" in say_parallel(info, STYLE)


def test_every_trial_is_one_line_and_a_list_picks_an_arm():
    accuracies = np.linspace(0.5, 0.9, 40)
    info = info_parallel(make_findings(make_trials(accuracies, "ab" * 20)))
    drawing = plot_parallel(info, STYLE)
    lines = [trace for trace in drawing.data if trace.meta]
    assert sorted(run for trace in lines for run in trace.meta["runs"]) == sorted(info["run_id"])
    assert all(len(trace.x) == len(trace.y) == trace.meta["steps"] * len(trace.meta["runs"]) for trace in lines)
    assert len({trace.line.color for trace in lines}) == NUM_COLOURS
    buttons = drawing.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == ["All arms", "a", "b"]
    arm_of = dict(zip(info["run_id"], info["arm"], strict=True))
    shown = [
        run
        for trace, on in zip(drawing.data, buttons[2].args[0]["visible"], strict=True)
        if on and trace.meta
        for run in trace.meta["runs"]
    ]
    assert len(shown) == 20
    assert {arm_of[run] for run in shown} == {"b"}


def test_each_colour_holds_as_many_trials_however_the_accuracies_lie():
    accuracies = np.r_[np.full(2, 0.1), np.linspace(0.97, 0.98, 38)]
    drawing = plot_parallel(info_parallel(make_findings(make_trials(accuracies, "a" * 40))), STYLE)
    assert {len(trace.meta["runs"]) for trace in drawing.data if trace.meta} <= {4, 5, 6}
    assert not drawing.layout.updatemenus  # a single arm needs no list


def test_a_value_of_the_factor_that_nobody_confirmed_is_drawn_too():
    info = info_parallel(make_findings(make_trials(arms="aacc"), mode="joint", factor="loss"))
    drawing = plot_parallel(info, STYLE)
    assert sorted(run for trace in drawing.data if trace.meta for run in trace.meta["runs"]) == sorted(info["run_id"])
    assert "loss" not in axes_of(info)


def test_trials_that_did_not_end_by_themselves_are_not_drawn():
    trials = make_trials().assign(stop_reason=["completed", "failed", "pruned", "interrupted"])
    assert list(info_parallel(make_findings(trials))["run_id"]) == ["run0", "run2"]


def test_the_takeaway_says_where_the_best_lie():
    info = info_parallel(make_findings(make_trials(np.linspace(0.5, 0.9, 40), "a" * 40)))
    said = say_parallel(info, STYLE)
    assert said.startswith("The best tenth of the 40 trials (86.9% or more)")
    assert "optimizer.learning_rate from" in said
    assert said.endswith("to 0.1.")


def test_equal_trials_are_drawn_in_the_middle():
    trials = make_trials(arms="aaaa").assign(val_accuracy=0.5, **{"optimizer.learning_rate": 1e-3})
    drawing = plot_parallel(info_parallel(make_findings(trials)), STYLE)
    assert not any("nan" in str(note.text) for note in drawing.layout.annotations)
