"""The space `full` is what was asked for: ten losses, the same nuisance space, conditional where it should be."""

import random
from dataclasses import replace

import pytest

from search_spaces.arms import Categorical, Float, Integer, Parameter, joint, with_fixed
from search_spaces.full import LEARNING_RATES, NUISANCE, STUDY, build_arm
from trainables.config import TrialConfig

LOSSES = {
    "cross_entropy",
    "kl_div",
    "focal",
    "hinge",
    "l1",
    "l1_logits",
    "mse",
    "mse_logits",
    "smooth_l1",
    "smooth_l1_logits",
}
OPTIMIZERS = {"sgd", "adam", "adamw", "rmsprop"}
BATCH_SIZES = {32, 64, 128, 256, 512}
EPOCHS = {10, 20, 40}
WIDTHS = {64, 128, 256, 512}
ACTIVATIONS = {"relu", "tanh", "selu", "hardswish", "silu", "gelu"}
EVERYWHERE = {
    "optimizer",
    "optimizer.learning_rate",
    "optimizer.weight_decay",
    "batch_size",
    "epochs",
    "hidden_layers",
    "width",
    "activation",
}

every_arm = pytest.mark.parametrize("arm", STUDY.arms, ids=lambda arm: arm.name)


def samples(arm, count=300, seed=0):
    generator = random.Random(seed)

    def suggest(_key, distribution):
        if isinstance(distribution, Categorical):
            return generator.choice(distribution.choices)
        if isinstance(distribution, Integer):
            return generator.randint(distribution.low, distribution.high)
        return generator.uniform(distribution.low, distribution.high)

    return [arm.sample(suggest) for _ in range(count)]


def distribution_of(arm, key):
    (found,) = (parameter.distribution for parameter in arm.parameters if parameter.key == key)
    return found


def test_there_is_one_arm_for_each_of_the_ten_losses():
    assert {arm.name for arm in STUDY.arms} == LOSSES
    assert all(arm.fixed == {"loss": arm.name, "model": "mlp"} for arm in STUDY.arms)
    assert STUDY.factor == "loss"


def test_arms_are_compared_with_cross_entropy_and_kl_div_is_its_control():
    assert STUDY.baseline == "cross_entropy"
    assert STUDY.controls == {"kl_div": "cross_entropy"}


def test_budgets_are_sixteen_trials_and_ten_seeds():
    assert (STUDY.trials, STUDY.seeds) == (16, 10)


@every_arm
def test_finite_parameters_take_every_value_that_was_asked_for_and_no_other(arm):
    drawn = samples(arm)
    seen = {key: {values[key] for values in drawn} for key in EVERYWHERE if key != "optimizer.learning_rate"}
    assert seen["optimizer"] == OPTIMIZERS
    assert seen["batch_size"] == BATCH_SIZES
    assert seen["epochs"] == EPOCHS
    assert seen["hidden_layers"] == {1, 2, 3}
    assert seen["width"] == WIDTHS
    assert seen["activation"] == ACTIVATIONS


@every_arm
def test_keys_of_a_trial_are_the_common_ones_the_losses_own_and_momentum_for_sgd(arm):
    own = {"focal": {"loss.gamma"}, "hinge": {"loss.margin"}}.get(arm.name, set())
    for values in samples(arm):
        momentum = {"optimizer.momentum"} if values["optimizer"] == "sgd" else set()
        assert values.keys() == EVERYWHERE | {"loss", "model"} | own | momentum


@every_arm
def test_each_optimizer_has_a_learning_rate_range_of_its_own_on_a_log_scale(arm):
    rates = [parameter for parameter in arm.parameters if parameter.key == "optimizer.learning_rate"]
    assert [dict(parameter.when) for parameter in rates] == [{"optimizer": (name,)} for name in LEARNING_RATES]
    assert LEARNING_RATES.keys() == OPTIMIZERS
    assert all(parameter.distribution.log for parameter in rates)
    assert all(parameter.distribution.high >= 10 * parameter.distribution.low for parameter in rates)
    for values in samples(arm):
        low, high = LEARNING_RATES[values["optimizer"]]
        assert low <= values["optimizer.learning_rate"] <= high


def test_focal_searches_gamma_from_zero_to_five():
    assert distribution_of(STUDY.arm("focal"), "loss.gamma") == Float(0.0, 5.0)


def test_hinge_searches_a_positive_margin():
    margin = distribution_of(STUDY.arm("hinge"), "loss.margin")
    assert 0 < margin.low < 1 < margin.high


def test_momentum_reaches_from_none_to_below_one():
    momentum = distribution_of(STUDY.arm("mse"), "optimizer.momentum")
    assert (momentum.low, momentum.log) == (0.0, False)
    assert 0.9 < momentum.high < 1


def test_every_arm_tunes_the_same_nuisance_parameters():
    own = {arm.name: [p for p in arm.parameters if p not in NUISANCE] for arm in STUDY.arms}
    assert {name for name, parameters in own.items() if parameters} == {"focal", "hinge"}
    assert all(tuple(p for p in arm.parameters if p in NUISANCE) == NUISANCE for arm in STUDY.arms)


@every_arm
@pytest.mark.parametrize("model", ["mlp", "convnet", "resnet18"])
def test_every_configuration_is_a_trial_and_its_flat_form_says_the_same(arm, model):
    (changed,) = (a for a in with_fixed(STUDY, model=model).arms if a.name == arm.name)
    for values in samples(changed, count=100):
        flat = TrialConfig.from_flat(values).to_flat()
        assert {key: flat[key] for key in values} == values


@pytest.mark.parametrize(
    ("model", "keys", "widths"),
    [
        ("convnet", {"width", "activation"}, {16, 32, 64}),
        ("resnet18", set(), set()),
        ("my_module:build", set(), set()),
    ],
)
def test_architecture_is_searched_only_where_the_model_has_it(model, keys, widths):
    drawn = samples(with_fixed(STUDY, model=model).arm("mse"))
    architecture = {"hidden_layers", "width", "activation"}
    assert all(values.keys() & architecture == keys for values in drawn)
    assert {values["width"] for values in drawn if "width" in values} == widths


def test_joint_search_covers_all_losses_with_their_own_parameters_only():
    drawn = samples(joint(STUDY), count=600)
    assert {values["loss"] for values in drawn} == LOSSES
    assert all(("loss.gamma" in values) == (values["loss"] == "focal") for values in drawn)
    assert all(("loss.margin" in values) == (values["loss"] == "hinge") for values in drawn)
    for values in drawn:
        low, high = LEARNING_RATES[values["optimizer"]]
        assert low <= values["optimizer.learning_rate"] <= high
        TrialConfig.from_flat(values)


def test_arm_of_a_users_loss_is_named_by_its_last_part_and_tunes_the_same():
    arm = build_arm("package.module:poly", (Parameter("loss.epsilon", Float(0.0, 1.0)),))
    assert (arm.name, arm.fixed["loss"]) == ("poly", "package.module:poly")
    study = replace(STUDY, arms=(*STUDY.arms, arm))
    assert all(values.keys() >= EVERYWHERE | {"loss.epsilon"} for values in samples(study.arm("poly"), count=20))
