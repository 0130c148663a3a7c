"""What every space in the table promises: each of its configurations is a trial whose parts can be built."""

import itertools
import math
import random

import pytest
import torch

from search_spaces.arms import Categorical, Float, Integer, Study, joint, with_fixed
from search_spaces.reported import LEARNING_RATES, Reported, rate_in_mean, scale_epochs, with_rate
from search_spaces.table import SPACES, load_space
from trainables.checks import keyword_names
from trainables.config import TrialConfig
from trainables.losses import LOSSES, build_loss
from trainables.models import MODELS, accepted_parameters, build_model
from trainables.optimizers import OPTIMIZERS, build_optimizer

INPUT_SHAPE, NUM_CLASSES, NUM_SAMPLES = (1, 8, 8), 10, 50
SPACE_ARMS = [(space, arm.name) for space in SPACES for arm in load_space(space).arms]
REPORTED = [space for space in SPACES if isinstance(load_space(space), Reported)]
TUNED = [space for space in SPACES if space not in REPORTED]

every_space = pytest.mark.parametrize("space", SPACES)
every_tuned_space = pytest.mark.parametrize("space", TUNED)
every_reported_space = pytest.mark.parametrize("space", REPORTED)
every_tuned_arm = pytest.mark.parametrize(("space", "arm"), [pair for pair in SPACE_ARMS if pair[0] in TUNED])
every_arm = pytest.mark.parametrize(("space", "arm"), SPACE_ARMS)


def at_random(seed):
    generator = random.Random(seed)

    def suggest(_key, distribution):
        if isinstance(distribution, Categorical):
            return generator.choice(distribution.choices)
        if isinstance(distribution, Integer):
            return generator.randint(distribution.low, distribution.high)
        if distribution.log:
            return math.exp(generator.uniform(math.log(distribution.low), math.log(distribution.high)))
        return generator.uniform(distribution.low, distribution.high)

    return suggest


def corner(end):
    def suggest(_key, distribution):
        if isinstance(distribution, Categorical):
            return distribution.choices[0 if end == "low" else -1]
        return getattr(distribution, end)

    return suggest


def configurations(arm):
    """Both corners and random samples, each once: an arm of a report has only one."""
    suggestions = [corner("low"), corner("high"), *map(at_random, range(NUM_SAMPLES))]
    different = {tuple(values.items()): values for values in map(arm.sample, suggestions)}
    return [TrialConfig.from_flat(values) for values in different.values()]


def build(config):
    """What a trial builds first; a step shows that the parts fit one another."""
    loss = build_loss(config.loss, num_classes=NUM_CLASSES)
    model = build_model(config.model, INPUT_SHAPE, NUM_CLASSES)
    optimizer = build_optimizer(config.optimizer, model.parameters())
    loss(model(torch.zeros(2, *INPUT_SHAPE)), torch.tensor([0, 9])).mean().backward()
    optimizer.step()


@every_space
def test_space_loads_under_its_name_and_asks_a_question(space):
    study = load_space(space)
    assert isinstance(study, Study)
    assert study.name == space
    assert study.question.endswith("?")


@every_space
def test_controls_and_their_likes_are_arms_that_differ_in_the_factor_alone(space):
    study = load_space(space)
    for arm, like in study.controls.items():
        assert study.factor in study.arm(arm).fixed
        rest = [{k: v for k, v in study.arm(name).fixed.items() if k != study.factor} for name in (arm, like)]
        assert rest[0] == rest[1]


@every_tuned_space
def test_arms_of_a_space_are_told_apart_by_the_factor(space):
    study = load_space(space)
    levels = [arm.fixed.get(study.factor) for arm in study.arms]
    assert len(set(levels)) == len(levels)


@every_arm
def test_corners_and_samples_of_an_arm_are_trials_that_can_be_built(space, arm):
    torch.manual_seed(0)
    for config in configurations(load_space(space).arm(arm)):
        build(config)


@every_tuned_space
@pytest.mark.parametrize("model", MODELS)
def test_space_can_be_trained_with_every_model_of_the_table(space, model):
    torch.manual_seed(0)
    study = with_fixed(load_space(space), model=model)
    arm = study.arm(study.baseline)
    for suggest in (corner("low"), corner("high"), at_random(0)):
        build(TrialConfig.from_flat(arm.sample(suggest)))


@every_arm
def test_arm_searches_only_parameters_that_its_parts_accept(space, arm):
    for config in configurations(load_space(space).arm(arm)):
        assert set(config.loss.params) <= set(keyword_names(LOSSES[config.loss.name], num_positional=2))
        accepted = keyword_names(OPTIMIZERS[config.optimizer.name], num_positional=1)
        assert set(config.optimizer.params) <= set(accepted)
        assert set(config.model.params) <= set(accepted_parameters(config.model.name))


@pytest.mark.parametrize("model", MODELS)
def test_full_tunes_every_parameter_of_its_optimizers_and_models(model):
    for arm in with_fixed(load_space("full"), model=model).arms:
        for config in configurations(arm):
            accepted = keyword_names(OPTIMIZERS[config.optimizer.name], num_positional=1)
            assert set(config.optimizer.params) == set(accepted)
            # The last layer's own width is one report's; the search varies the width of all.
            assert set(config.model.params) == set(accepted_parameters(model)) - {"last_width"}


@every_tuned_space
def test_one_search_over_all_arms_of_a_space_proposes_trials_of_each(space):
    study = load_space(space)
    drawn = [joint(study).sample(at_random(seed)) for seed in range(20 * len(study.arms))]
    assert {values[study.factor] for values in drawn} == {arm.fixed[study.factor] for arm in study.arms}
    assert all(TrialConfig.from_flat(values).epochs <= study.max_epochs for values in drawn)


@every_tuned_arm
def test_learning_rate_is_searched_on_a_log_scale_over_at_least_two_decades(space, arm):
    rates = [p for p in load_space(space).arm(arm).parameters if p.key == "optimizer.learning_rate"]
    assert rates, "the learning rate is a nuisance hyperparameter of every arm"
    for rate in rates:
        assert isinstance(rate.distribution, Float)
        assert rate.distribution.log
        assert rate.distribution.high >= 99 * rate.distribution.low


def shape_of(config):
    """A configuration without its learning rate."""
    return {key: value for key, value in config.items() if key != "optimizer.learning_rate"}


@every_reported_space
def test_no_two_arms_of_a_report_are_the_same_trial(space):
    study = load_space(space)
    configurations = [tuple(sorted(arm.fixed.items())) for arm in study.arms]
    assert len(set(configurations)) == len(configurations)


@every_reported_space
def test_arms_outside_the_fair_regime_are_those_that_differ_in_the_learning_rate_or_scale_alone(space):
    """At a tuned rate they would be another arm again; hinge averaged over classes differs by a factor, like a rate."""
    study = load_space(space)
    fair = [shape_of(arm.fixed) for arm in study.arms_of("fair")]
    for arm in study.reported_arms:
        shape = {k: v for k, v in shape_of(arm.fixed).items() if k != "loss.class_reduction"} | {
            "reduction": study.arms[0].fixed["reduction"]
        }
        if not arm.in_fair and "200_epochs" not in arm.name:
            assert shape in fair, arm.name
    assert len({tuple(sorted(shape.items())) for shape in fair}) == len(fair)


@every_reported_space
def test_a_report_says_what_it_assumes_in_sentences(space):
    study = load_space(space)
    assert len(study.assumptions) >= 3
    assert all(assumption.endswith(".") for assumption in study.assumptions)
    assert study.report in {"000", "001", "002", "003", "004"}


@every_reported_space
@pytest.mark.parametrize("scale", [1.0, 0.25, 0.001])
def test_epochs_are_scaled_to_no_less_than_one(space, scale):
    study = load_space(space)
    for before, after in zip(study.arms, scale_epochs(study, scale).arms, strict=True):
        epochs = after.fixed["epochs"]
        least = 2 if "switch_epoch" in before.fixed else 1
        assert epochs == max(least, round(before.fixed["epochs"] * scale))
        assert 0 < after.fixed.get("switch_epoch", 1) < max(2, epochs)


def test_the_common_grid_is_twelve_rates_evenly_spaced_from_1e_5_to_10():
    logarithms = [math.log10(rate) for rate in LEARNING_RATES]
    assert len(logarithms) == 12
    assert (logarithms[0], logarithms[-1]) == (-5, 1)
    steps = [b - a for a, b in itertools.pairwise(logarithms)]
    assert steps == pytest.approx([6 / 11] * 11, abs=1e-3)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_rate_is_given_for_a_mean_over_the_batch(reduction):
    config = {"reduction": reduction, "batch_size": 50, "optimizer.learning_rate": 1.0}
    assert rate_in_mean(with_rate(config, 0.3)) == pytest.approx(0.3)
    assert with_rate(config, 0.3)["optimizer.learning_rate"] == pytest.approx(0.3 if reduction == "mean" else 0.006)
