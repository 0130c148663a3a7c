"""Distributions, arms, studies: what they promise and what they refuse."""

import json
import math
import random

import pytest

from search_spaces.arms import (
    Arm,
    Categorical,
    Float,
    Integer,
    Parameter,
    Study,
    describe,
    joint,
    lowest,
    with_fixed,
)
from trainables.config import InputError

FIXED = {"loss": "mse", "optimizer": "sgd", "model": "mlp", "batch_size": 32, "epochs": 5}
RATE = Parameter("optimizer.learning_rate", Float(1e-3, 1.0, log=True))


def an_arm(name="mse", parameters=(RATE,), **fixed):
    return Arm(name, {**FIXED, **fixed}, parameters)


def a_study(*arms, **changes):
    arms = arms or (an_arm(),)
    return Study(**{"name": "s", "question": "?", "factor": "loss", "arms": arms, "baseline": arms[0].name, **changes})


def at_random(seed):
    generator = random.Random(seed)

    def suggest(_key, distribution):
        if isinstance(distribution, Categorical):
            return generator.choice(distribution.choices)
        if isinstance(distribution, Integer):
            return generator.randint(distribution.low, distribution.high)
        return generator.uniform(distribution.low, distribution.high)

    return suggest


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Float(2.0, 1.0), "low <= high; got 2.0 and 1.0"),
        (lambda: Float(0.0, math.inf), "finite ends with low <= high; got 0.0 and inf"),
        (lambda: Float(math.nan, 1.0), "finite ends with low <= high; got nan"),
        (lambda: Float(0.0, 1.0, log=True), "must start above 0; got 0.0"),
        (lambda: Integer(0, 8, log=True), "must start above 0; got 0"),
        (lambda: Integer(1.5, 3), "needs integer ends; got 1.5 and 3"),
        (lambda: Integer(3, 1), "low <= high; got 3 and 1"),
        (lambda: Categorical(()), "Choices must be given and differ"),
        (lambda: Categorical(("a", "b", "a")), "Choices must be given and differ; got \\('a', 'b', 'a'\\)"),
    ],
)
def test_distribution_that_cannot_be_sampled_is_refused_with_its_values(build, says):
    with pytest.raises(InputError, match=says):
        build()


def test_ends_of_a_range_may_meet():
    assert Float(0.5, 0.5).low == Integer(1, 1).low / 2


def test_choices_keep_the_order_given():
    assert Categorical(["b", "a"]).choices == ("b", "a")


def test_parameter_without_a_condition_always_applies():
    assert RATE.applies({})


def test_parameter_applies_only_while_every_condition_holds():
    parameter = Parameter("x", Float(0, 1), {"optimizer": ("sgd", "adam"), "model": ("mlp",)})
    assert parameter.applies({"optimizer": "adam", "model": "mlp"})
    assert not parameter.applies({"optimizer": "adam", "model": "convnet"})
    assert not parameter.applies({"optimizer": "rmsprop", "model": "mlp"})
    assert not parameter.applies({"optimizer": "sgd"}), "a key that was not chosen fulfils no condition"


def test_condition_is_a_copy_that_cannot_be_changed():
    condition = {"optimizer": ["sgd"]}
    parameter = Parameter("x", Float(0, 1), condition)
    condition["optimizer"].append("adam")
    assert not parameter.applies({"optimizer": "adam"})
    with pytest.raises(TypeError):
        parameter.when["optimizer"] = ("adam",)


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a/b", "ä", "a:b"])
def test_arm_name_that_would_not_fit_a_path_is_refused(name):
    with pytest.raises(InputError, match="An arm's name must be letters, digits"):
        Arm(name)


def test_sample_holds_fixed_values_and_asks_once_for_each_key_that_applies_in_order():
    asked = []

    def suggest(key, distribution):
        asked.append(key)
        return distribution.choices[0] if isinstance(distribution, Categorical) else distribution.high

    arm = Arm(
        "a",
        {"model": "mlp"},
        (
            Parameter("optimizer", Categorical(("adam", "sgd"))),
            Parameter("optimizer.learning_rate", Float(1.0, 2.0), {"optimizer": ("sgd",)}),
            Parameter("optimizer.learning_rate", Float(3.0, 4.0), {"optimizer": ("adam",)}),
            Parameter("optimizer.momentum", Float(0.0, 0.9), {"optimizer": ("sgd",)}),
            Parameter("width", Integer(1, 9), {"model": ("mlp",)}),
        ),
    )
    assert arm.sample(suggest) == {"model": "mlp", "optimizer": "adam", "optimizer.learning_rate": 4.0, "width": 9}
    assert asked == ["optimizer", "optimizer.learning_rate", "width"]


def test_lowest_configuration_takes_the_first_choice_and_the_low_ends():
    arm = an_arm(parameters=(RATE, Parameter("batch_size", Categorical((64, 32))), Parameter("width", Integer(8, 16))))
    assert lowest(arm) == {**FIXED, "optimizer.learning_rate": 1e-3, "batch_size": 64, "width": 8}


def test_grid_yields_every_point_once_and_conditional_keys_only_where_they_apply():
    arm = Arm(
        "a",
        {"loss": "mse"},
        (
            Parameter("optimizer", Categorical(("sgd", "adam"))),
            Parameter("optimizer.momentum", Categorical((0.0, 0.9)), {"optimizer": ("sgd",)}),
            Parameter("hidden_layers", Integer(1, 3)),
            Parameter("optimizer.weight_decay", Float(0.1, 0.1)),
        ),
    )
    points = list(arm.grid())
    assert len(points) == len({tuple(sorted(point.items())) for point in points}) == 2 * 3 + 1 * 3
    assert all(("optimizer.momentum" in point) == (point["optimizer"] == "sgd") for point in points)
    assert {point["hidden_layers"] for point in points} == {1, 2, 3}
    assert all(point["loss"] == "mse" and point["optimizer.weight_decay"] == 0.1 for point in points)


def test_grid_refuses_a_real_range_and_names_it():
    with pytest.raises(InputError, match=r"`--search grid`.*`optimizer.learning_rate` of arm 'mse' is .* 0.001 to 1"):
        list(an_arm().grid())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "my space"}, "A space's name must be letters, digits.*got 'my space'"),
        ({"arms": (), "baseline": "mse"}, "The space 's' has no arms"),
        ({"arms": (an_arm(), an_arm())}, "different names; got mse, mse"),
        ({"baseline": "l1"}, "The baseline 'l1' is not among the arms mse"),
        ({"trials": 0}, "`trials` must be an integer >= 1; got 0"),
        ({"seeds": 1.5}, "`seeds` must be an integer >= 1; got 1.5"),
    ],
)
def test_study_that_asks_nothing_is_refused(changes, says):
    with pytest.raises(InputError, match=says):
        a_study(**changes)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ((Parameter("optimizer.learning_rate", Float(0.0, 1.0)),), "`optimizer.learning_rate` must be .* > 0; got 0.0"),
        ((Parameter("optimizer.learning_rate", Categorical((0.1, -1.0))),), "learning_rate` must be .* > 0; got -1.0"),
        ((RATE, Parameter("epochs", Integer(0, 5))), "`epochs` must be an integer >= 1; got 0"),
        ((RATE, Parameter("momentum", Float(0, 1))), "Unknown key 'momentum'"),
        ((), "`optimizer.learning_rate` is missing"),
    ],
)
def test_study_refuses_an_arm_with_an_end_that_is_no_trial_and_names_the_arm(parameters, says):
    with pytest.raises(InputError, match=f"Arm 'mse': .*{says}"):
        a_study(an_arm(parameters=parameters))


def test_arm_is_found_by_name_and_an_unknown_one_is_refused_with_the_choices():
    study = a_study(an_arm(), an_arm("l1", loss="l1"))
    assert study.arm("l1").fixed["loss"] == "l1"
    with pytest.raises(InputError, match="Unknown arm 'l2'; choose from mse, l1"):
        study.arm("l2")


def test_extreme_epochs_look_at_fixed_and_searched_values_of_every_arm():
    searched = an_arm("l1", (RATE, Parameter("epochs", Categorical((7, 3, 9)))), loss="l1")
    ranged = an_arm("kl", (RATE, Parameter("epochs", Integer(4, 12))), loss="kl_div")
    assert (a_study(an_arm()).min_epochs, a_study(an_arm()).max_epochs) == (5, 5)
    assert (a_study(an_arm(), searched, ranged).min_epochs, a_study(an_arm(), ranged).max_epochs) == (3, 12)


def test_study_knows_when_epochs_are_the_question():
    assert a_study(factor="epochs").searches_epochs_as_factor
    assert not a_study().searches_epochs_as_factor


def test_fixed_values_are_added_to_every_arm_and_the_given_study_stays():
    before = a_study(an_arm(), an_arm("l1", loss="l1"))
    after = with_fixed(before, precision="bf16", model="convnet")
    assert [(arm.fixed["precision"], arm.fixed["model"]) for arm in after.arms] == [("bf16", "convnet")] * 2
    assert [arm.fixed["loss"] for arm in after.arms] == ["mse", "l1"]
    assert all("precision" not in arm.fixed for arm in before.arms)


def two_losses():
    gamma = Parameter("loss.gamma", Float(0.0, 5.0))
    momentum = Parameter("optimizer.momentum", Float(0.0, 0.9), {"optimizer": ("sgd",)})
    return a_study(
        an_arm("mse", (RATE, momentum)), an_arm("focal", (gamma, RATE, momentum), loss="focal"), baseline="mse"
    )


def test_joint_arm_searches_the_factor_and_keeps_what_arms_share_in_common():
    arm = joint(two_losses())
    first, *rest = arm.parameters
    assert (first.key, first.distribution.choices, dict(first.when)) == ("loss", ("mse", "focal"), {})
    assert {p.key: dict(p.when) for p in rest} == {
        "optimizer.learning_rate": {},
        "optimizer.momentum": {"optimizer": ("sgd",)},
        "loss.gamma": {"loss": ("focal",)},
    }
    assert dict(arm.fixed) == {key: value for key, value in FIXED.items() if key != "loss"}


def test_joint_arm_proposes_for_each_level_exactly_the_keys_of_its_arm():
    study, seen = two_losses(), set()
    for seed in range(30):
        values = joint(study).sample(at_random(seed))
        seen.add(values["loss"])
        assert values.keys() == study.arm(values["loss"]).sample(at_random(seed)).keys()
    assert seen == {"mse", "focal"}


def test_joint_arm_keeps_ranges_apart_that_differ_between_arms():
    wide = Parameter("optimizer.learning_rate", Float(10.0, 20.0))
    arm = joint(a_study(an_arm(), an_arm("l1", (wide,), loss="l1")))
    for seed in range(20):
        values = arm.sample(at_random(seed))
        assert (values["optimizer.learning_rate"] >= 10) == (values["loss"] == "l1")


@pytest.mark.parametrize(
    ("arms", "says"),
    [
        ((an_arm(), an_arm("twin")), "each fix their own `loss`; got \\('mse', 'mse'\\)"),
        ((an_arm(), an_arm("l1", loss="l1", batch_size=64)), "fix the same values apart from the factor"),
    ],
)
def test_joint_refuses_arms_it_could_not_tell_apart(arms, says):
    with pytest.raises(InputError, match=says):
        joint(a_study(*arms))


def test_joint_refuses_arms_that_do_not_fix_the_factor():
    with pytest.raises(InputError, match="`--mode joint` needs arms that each fix their own `width`"):
        joint(a_study(factor="width"))


def test_description_is_plain_data_that_survives_json():
    described = describe(an_arm(parameters=(RATE, Parameter("width", Integer(8, 16), {"model": ("mlp",)}))))
    assert json.loads(json.dumps(described)) == {
        "name": "mse",
        "fixed": FIXED,
        "parameters": [
            {
                "key": "optimizer.learning_rate",
                "kind": "float",
                "low": 1e-3,
                "high": 1.0,
                "log": True,
                "when": None,
            },
            {"key": "width", "kind": "integer", "low": 8, "high": 16, "log": False, "when": {"model": ["mlp"]}},
        ],
    }
    choices = describe(an_arm(parameters=(RATE, Parameter("epochs", Categorical((5, 9))))))["parameters"][1]
    assert json.loads(json.dumps(choices)) == {
        "key": "epochs",
        "kind": "categorical",
        "choices": [5, 9],
        "when": None,
    }
