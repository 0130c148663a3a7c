"""What every line of ``CORRUPTIONS`` must do."""

from __future__ import annotations

import pytest
import torch

from trainables.corruptions import CORRUPTIONS, SEVERITIES

CASES = [(name, severity) for name in CORRUPTIONS for severity in SEVERITIES[name]]
SHAPES = [(3, 1, 8, 8), (2, 3, 5, 7)]


def images_of(shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(5))


def run(name, images, severity, seed=0):
    return CORRUPTIONS[name](images, severity, torch.Generator().manual_seed(seed))


def test_every_corruption_has_rising_severities_above_zero():
    assert set(SEVERITIES) == set(CORRUPTIONS)
    for severities in SEVERITIES.values():
        assert len(severities) >= 5
        assert severities[0] > 0
        assert list(severities) == sorted(set(severities))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("name", "severity"), CASES)
def test_a_corruption_keeps_shape_type_and_range_and_changes_something(name, severity, shape):
    images = images_of(shape)
    corrupted = run(name, images, severity)
    assert corrupted.shape == images.shape
    assert corrupted.dtype == torch.float32
    assert corrupted.min() >= 0
    assert corrupted.max() <= 1
    assert not torch.equal(corrupted, images)


@pytest.mark.parametrize(("name", "severity"), CASES)
def test_a_corruption_repeats_with_its_seed_and_leaves_its_input_and_the_global_generator_alone(name, severity):
    images = images_of(SHAPES[0])
    before, state = images.clone(), torch.get_rng_state()
    assert torch.equal(run(name, images, severity), run(name, images, severity))
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_higher_severity_moves_images_further(name):
    images = images_of((200, 1, 8, 8)) * 0.5 + 0.25
    distances = [(run(name, images, severity) - images).abs().mean().item() for severity in SEVERITIES[name]]
    assert distances == sorted(distances)
    assert distances[-1] > 1.5 * distances[0]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_takes_black_and_white_images(name):
    for value in (0.0, 1.0):
        corrupted = run(name, torch.full((1, 3, 4, 4), value), SEVERITIES[name][-1])
        assert torch.isfinite(corrupted).all()
