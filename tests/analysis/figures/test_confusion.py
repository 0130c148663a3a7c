import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.figures.confusion import class_names, info_confusion, plot_confusion, say_confusion
from analysis.figures.style import build_style
from analysis.findings import find

SYNTHETIC = runpy.run_path(str(Path(__file__).parents[1] / "synthetic_final.py"))
SEEDS = range(1, 11)
HOSTILE = "<script>alert(1)</script>"


def draw(record):
    findings = find(record)
    info, style = info_confusion(findings), build_style(findings)
    return info, plot_confusion(info, style), say_confusion(info, style)


def study(*, num_classes=10, extra=((6, 0, 5),), accuracy=0.82, **protocol):
    arms = {
        "base": {seed: {"accuracy": 0.8} for seed in SEEDS},
        "other": {seed: {"accuracy": accuracy, "extra_errors": extra} for seed in SEEDS},
        "same": {seed: {"accuracy": 0.8} for seed in SEEDS},
    }
    return SYNTHETIC["build_final_record"](arms, num_classes=num_classes, num_test=100 * num_classes, **protocol)


def shown(drawing):
    """The visible traces: colours and recalls, left and right."""
    return [trace for trace in drawing.data if trace.visible]


def test_one_arm_is_shown_and_each_button_shows_another():
    _, drawing, _ = draw(study())
    buttons = drawing.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == ["base", "other", "same"]
    chosen = np.array([button.args[0]["visible"] for button in buttons])
    assert (chosen.sum(axis=0) == 1).all()  # every trace belongs to one arm
    assert (chosen.sum(axis=1) == 4).all()
    assert [trace.visible for trace in drawing.data] == chosen[drawing.layout.updatemenus[0].active].tolist()
    assert drawing.layout.updatemenus[0].active == 1  # the best of those that differ from the baseline at all


def test_colours_are_the_confusions_and_the_diagonal_tells_the_recall():
    info, drawing, _ = draw(study())
    left, recall, right, change = shown(drawing)
    own = info[info["arm"] == "other"].set_index(["true", "predicted"])
    assert left.z[6][0] == pytest.approx(own.loc[(6, 0), "percent"])
    assert np.isnan(np.diagonal(left.z)).all()
    assert recall.text[6] == f"{own.loc[(6, 6), 'percent']:.1f}"
    assert right.z[6][0] == pytest.approx(own.loc[(6, 0), "difference"])
    assert change.text[6] == "-3.0"  # five more taken for another, two fewer by the higher accuracy
    assert drawing.layout.coloraxis.cmax == pytest.approx(info.query("true != predicted")["percent"].max())
    assert drawing.layout.coloraxis2.cmin == -drawing.layout.coloraxis2.cmax


def test_a_difference_has_a_number_only_where_it_is_more_than_chance():
    _, drawing, _ = draw(study(accuracy=0.8))
    numbers = {text for row in shown(drawing)[2].text for text in row} - {""}
    assert numbers == {"+5.0"}
    record = study(accuracy=0.8)
    few = replace(record, trials=record.trials[record.trials["seed"] <= 4])
    assert {text for row in shown(draw(few)[1])[2].text for text in row} == {""}


def test_axes_are_named_and_classes_in_their_order():
    names = ["zero", *map(str, range(1, 10))]
    record = study()
    record.protocol["dataset"]["class_names"] = names
    _, drawing, said = draw(record)
    assert (drawing.layout.xaxis.title.text, drawing.layout.yaxis.title.text) == ("Predicted class", "True class")
    assert list(drawing.layout.xaxis.categoryarray) == names
    titles = [note.text for note in drawing.layout.annotations]
    assert titles == ["Share of the images of a true class (%)", "Difference to base (percentage points)"]
    assert "zero" in said


def test_the_takeaway_tells_the_commonest_confusion_and_the_clearest_difference():
    _, _, said = draw(study(extra=((6, 0, 40),), accuracy=0.9))
    assert said == (
        "other (highest accuracy) most often takes 6 for 0: 40.0% of that class, 10 seeds. Largest difference to base "
        "beyond chance: other takes 6 for 0, +40.00 [+40.00, +40.00] points (p = 0.0039, corrected for all 180)."
    )


def test_the_takeaway_does_not_sell_chance_as_a_difference():
    record = study(extra=(), accuracy=0.8)
    counts = np.array(record.finals["run-10"]["confusion"])
    counts[6, 0] += 9
    counts[6, 6] -= 9
    record.finals["run-10"]["confusion"] = counts.tolist()
    _, _, said = draw(record)
    assert "Of 180 confusions of all arms none is shown to differ from base" in said
    assert "other takes 6 for 0, +0.90 [-1.14, +2.94] points." in said


def test_arms_that_confuse_alike_are_told_so():
    assert draw(study(extra=(), accuracy=0.8))[2].endswith("No arm confuses any classes more or less often than base.")


def test_the_best_arm_is_best_with_its_diverged_seeds_counted():
    arms = {"base": {1: {"accuracy": 0.8}, 2: {"accuracy": 0.8}}, "wild": {1: {"accuracy": 0.9}, 2: {"diverged": True}}}
    _, _, said = draw(SYNTHETIC["build_final_record"](arms))
    assert said.startswith("base (highest accuracy) most often takes")
    assert said.endswith(" 1 seed without counts left out.")


def test_a_single_arm_has_no_difference_to_show():
    _, drawing, said = draw(SYNTHETIC["build_final_record"]({"base": {1: {}, 2: {}}}))
    assert len(drawing.data) == 2
    assert said == "base most often takes 0 for 1: 20.0% of that class, 2 seeds."
    perfect = SYNTHETIC["build_final_record"]({"base": {1: {"accuracy": 1.0}}})
    assert draw(perfect)[2] == "base confuses no classes."


def test_classes_without_images_and_single_seeds_show_no_nan():
    finals = {"confusion": [[5, 5], [0, 0]]}
    arms = {arm: {1: {"final": finals}} for arm in ("base", "other")}
    _, drawing, said = draw(SYNTHETIC["build_final_record"](arms, num_classes=2))
    texts = [str(text) for trace in drawing.data for kind in (trace.text, trace.hovertext) for text in np.ravel(kind)]
    assert not any("nan" in text for text in [said, *texts])


def test_names_of_classes_with_markup_are_text_and_stay_apart():
    record = study(num_classes=3, extra=())
    record.protocol["dataset"]["class_names"] = [HOSTILE + "a", HOSTILE + "b", "plain"]
    _, drawing, _ = draw(record)
    content = json.dumps(drawing.to_plotly_json(), default=str)
    assert "<script" not in content
    assert "&lt;script&gt;" in content
    assert len(set(drawing.layout.xaxis.categoryarray)) == 3


def test_class_names_are_the_protocols_else_a_trials_else_numbers():
    record = study(num_classes=3, extra=())
    record.protocol["dataset"]["class_names"] = ["a", "b", "c"]
    assert class_names(record, 3) == ["a", "b", "c"]
    record.protocol["dataset"]["class_names"] = ["a", "b"]
    assert class_names(record, 3) == ["0", "1", "2"]  # as the trials say
    bare = replace(record, protocol={}, finals={"run-0": {"class_names": ["x", 1, None]}})
    assert class_names(bare, 3) == ["x", "1", "None"]
    assert class_names(replace(bare, finals={}), 2) == ["0", "1"]


def test_a_hundred_classes_stay_light():
    _, drawing, said = draw(study(num_classes=100))
    left, recall, *_ = shown(drawing)
    assert left.text is None
    assert left.hovertext is None
    assert "%{z:.2f}" in left.hovertemplate
    assert recall.mode == "markers"
    assert len(drawing.to_json()) < 100 * 100 * 6 * 4 * 2  # six matrices of float32, and as much again
    assert "takes 6 for 0" in said


def test_nothing_confirmed_draws_nothing(findings_of):
    assert info_confusion(findings_of("searching")).empty
