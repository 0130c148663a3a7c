"""Corruptions against SciPy, colorsys and the moments of their noise; curves and their area."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import scipy.ndimage
import torch

from trainables import corruptions
from trainables.corruptions import (
    CORRUPTIONS,
    SEVERITIES,
    corrupted_images,
    corruption_curves,
    drop_area,
    sample_indices,
)

IMAGES = torch.randint(256, (30, 3, 9, 11), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_gaussian_noise_has_its_deviation_and_scales_one_draw():
    grey = torch.full((100, 1, 20, 20), 0.5)
    noise = corruptions.gaussian_noise(grey, 0.08, seeded()) - 0.5
    assert noise.std().item() == pytest.approx(0.08, rel=0.02)
    assert abs(noise.mean().item()) < 0.001
    torch.testing.assert_close(corruptions.gaussian_noise(grey, 0.04, seeded()) - 0.5, noise / 2)


def test_shot_noise_has_the_variance_of_its_photons():
    grey = torch.full((100, 1, 20, 20), 0.5)
    noisy = corruptions.shot_noise(grey, 1 / 50, seeded())
    assert noisy.mean().item() == pytest.approx(0.5, abs=0.003)
    assert noisy.var().item() == pytest.approx(0.5 / 50, rel=0.03)
    torch.testing.assert_close(noisy * 50, (noisy * 50).round())  # whole photons
    assert (corruptions.shot_noise(torch.zeros(1, 1, 4, 4), 1 / 50, seeded()) == 0).all()


def test_impulse_noise_turns_its_share_black_or_white_and_leaves_the_rest():
    grey = torch.full((100, 1, 20, 20), 0.5)
    noisy = corruptions.impulse_noise(grey, 0.07, seeded())
    assert (noisy == 0).float().mean().item() == pytest.approx(0.035, rel=0.1)
    assert (noisy == 1).float().mean().item() == pytest.approx(0.035, rel=0.1)
    assert set(noisy.unique().tolist()) == {0.0, 0.5, 1.0}


@pytest.mark.parametrize("severity", [*SEVERITIES["blur"], 4.0])  # 4: the kernel is wider than the image
def test_blur_equals_scipys(severity):
    images = IMAGES.double() / 255
    expected = scipy.ndimage.gaussian_filter(images.numpy(), (0, 0, severity, severity), mode="nearest", truncate=4)
    blurred = corruptions.blur(images.float(), severity, seeded())
    np.testing.assert_allclose(blurred.numpy(), expected, atol=1e-5)


def test_contrast_keeps_the_mean_and_shrinks_the_deviation_per_channel():
    images = IMAGES.float() / 255
    flatter = corruptions.contrast(images, 0.85, seeded())
    torch.testing.assert_close(flatter.mean(dim=(2, 3)), images.mean(dim=(2, 3)))
    torch.testing.assert_close(flatter.std(dim=(2, 3)), 0.15 * images.std(dim=(2, 3)))


def test_brightness_raises_the_value_of_hue_saturation_value():
    pixels = torch.tensor([[0.2, 0.4, 0.1], [0.9, 0.3, 0.3], [0.0, 0.0, 0.0], [0.5, 0.5, 0.5]])
    brighter = corruptions.brightness(pixels.T.reshape(1, 3, 2, 2), 0.2, seeded()).reshape(3, 4).T
    for before, after in zip(pixels.tolist(), brighter.tolist(), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        assert after == pytest.approx(colorsys.hsv_to_rgb(hue, saturation, min(value + 0.2, 1)), abs=1e-6)


def test_brightness_adds_to_grey_pixels():
    grey = torch.tensor([0.0, 0.3, 0.9]).reshape(1, 1, 1, 3)
    assert corruptions.brightness(grey, 0.2, seeded()).flatten().tolist() == pytest.approx([0.2, 0.5, 1.0])


def test_corrupted_images_are_the_same_from_arrays_and_tensors_and_for_a_seed():
    first, again, other = (
        corrupted_images(IMAGES, seed=1),
        corrupted_images(IMAGES.numpy(), seed=1),
        corrupted_images(IMAGES, seed=2),
    )
    for name, levels in first.items():
        assert len(levels) == len(SEVERITIES[name])
        for level, repeated in zip(levels, again[name], strict=True):
            assert level.dtype == torch.uint8
            assert torch.equal(level, repeated)
    assert not torch.equal(first["gaussian_noise"][0], other["gaussian_noise"][0])


def test_corrupted_images_are_the_corruption_rounded_to_whole_levels():
    levels = corrupted_images(IMAGES, seed=0)["contrast"]
    for level, severity in zip(levels, SEVERITIES["contrast"], strict=True):
        exact = corruptions.contrast(IMAGES.float() / 255, severity, seeded()) * 255
        assert (level - exact).abs().max() <= 0.5


def test_a_new_corruption_leaves_the_noise_of_the_others_as_it_was(monkeypatch):
    before = corrupted_images(IMAGES, seed=0)["shot_noise"]
    monkeypatch.setattr(corruptions, "CORRUPTIONS", {"first": corruptions.contrast, **CORRUPTIONS})
    monkeypatch.setitem(SEVERITIES, "first", (0.5,))
    for level, repeated in zip(before, corrupted_images(IMAGES, seed=0)["shot_noise"], strict=True):
        assert torch.equal(level, repeated)


def test_corruptions_do_not_share_their_noise(monkeypatch):
    monkeypatch.setitem(CORRUPTIONS, "impulse_noise", corruptions.gaussian_noise)
    corrupted = corrupted_images(IMAGES, seed=0)
    monkeypatch.setitem(SEVERITIES, "impulse_noise", (SEVERITIES["gaussian_noise"][0],))
    assert not torch.equal(corrupted["gaussian_noise"][0], corrupted_images(IMAGES, seed=0)["impulse_noise"][0])


def test_curves_count_what_is_predicted_right_batch_by_batch(monkeypatch):
    monkeypatch.setattr(corruptions, "_BATCH", 7)
    labels = torch.arange(30) % 2
    corrupted = corrupted_images(IMAGES, seed=0)
    sizes = []

    def predict(images):
        sizes.append(len(images))
        assert images.dtype == torch.float32
        assert 0 <= images.min() <= images.max() <= 1
        return (images.mean(dim=(1, 2, 3)) > 0.5).long()

    curves = corruption_curves(predict, corrupted, labels)
    assert set(sizes) == {7, 2}
    for name, levels in corrupted.items():
        expected = [
            ((level.double().mean(dim=(1, 2, 3)) > 127.5).long() == labels).double().mean().item() for level in levels
        ]
        assert curves[name]["accuracy"] == pytest.approx(expected)
        assert curves[name]["severities"] == list(SEVERITIES[name])


def test_a_sample_meets_every_class_of_a_sorted_test_part():
    labels = torch.arange(10).repeat_interleave(1000)
    assert torch.bincount(labels[sample_indices(10_000)]).tolist() == [200] * 10
    assert sample_indices(360).tolist() == list(range(360))
    uneven = sample_indices(2500, 2000)
    assert len(uneven.unique()) == 2000
    assert (uneven[0], uneven[-1]) == (0, 2498)


def test_the_area_is_the_mean_drop_over_the_severities():
    # 0.9 → 0.7 over [0, 1] and 0.7 → 0.1 over [1, 3]: drops of 0.1 and 0.5 on average.
    assert drop_area(0.9, [1, 3], [0.7, 0.1]) == pytest.approx((0.1 * 1 + 0.5 * 2) / 3)


def test_no_drop_has_no_area_and_a_gain_is_negative():
    assert drop_area(0.8, [0.5, 1.0], [0.8, 0.8]) == 0
    assert drop_area(0.8, [1.0], [0.9]) == pytest.approx(-0.05)
