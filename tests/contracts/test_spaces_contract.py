"""What every space in the table promises: each of its configurations is a trial whose parts can be built."""

import math
import random

import pytest
import torch

from search_spaces.arms import Categorical, Float, Integer, Study, joint, with_fixed
from search_spaces.table import SPACES, load_space
from trainables.checks import keyword_names
from trainables.config import TrialConfig
from trainables.losses import LOSSES, build_loss
from trainables.models import MODELS, accepted_parameters, build_model
from trainables.optimizers import OPTIMIZERS, build_optimizer

INPUT_SHAPE, NUM_CLASSES, NUM_SAMPLES = (1, 8, 8), 10, 50
SPACE_ARMS = [(space, arm.name) for space in SPACES for arm in load_space(space).arms]

every_space = pytest.mark.parametrize("space", SPACES)
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
    """Both corners and random samples."""
    suggestions = [corner("low"), corner("high"), *map(at_random, range(NUM_SAMPLES))]
    return [TrialConfig.from_flat(arm.sample(suggest)) for suggest in suggestions]


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


@every_space
def test_arms_of_a_space_are_told_apart_by_the_factor(space):
    study = load_space(space)
    levels = [arm.fixed.get(study.factor) for arm in study.arms]
    assert len(set(levels)) == len(levels)


@every_arm
def test_corners_and_samples_of_an_arm_are_trials_that_can_be_built(space, arm):
    torch.manual_seed(0)
    for config in configurations(load_space(space).arm(arm)):
        build(config)


@every_space
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
            assert set(config.model.params) == set(accepted_parameters(model))


@every_space
def test_one_search_over_all_arms_of_a_space_proposes_trials_of_each(space):
    study = load_space(space)
    drawn = [joint(study).sample(at_random(seed)) for seed in range(20 * len(study.arms))]
    assert {values[study.factor] for values in drawn} == {arm.fixed[study.factor] for arm in study.arms}
    assert all(TrialConfig.from_flat(values).epochs <= study.max_epochs for values in drawn)


@every_arm
def test_learning_rate_is_searched_on_a_log_scale_over_at_least_two_decades(space, arm):
    rates = [p for p in load_space(space).arm(arm).parameters if p.key == "optimizer.learning_rate"]
    assert rates, "the learning rate is a nuisance hyperparameter of every arm"
    for rate in rates:
        assert isinstance(rate.distribution, Float)
        assert rate.distribution.log
        assert rate.distribution.high >= 99 * rate.distribution.low
