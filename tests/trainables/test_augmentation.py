"""Every augmented image is one crop of its padded self, perhaps mirrored, and all of them are equally likely."""

import numpy as np
import pytest
import torch

from trainables.augmentation import PADDING, crop_and_flip


def random_images(count, channels, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, height, width), generator=generator, dtype=torch.uint8)


def possible_views(image, padding):
    """(top, left, flipped) -> what this crop of one padded image looks like, worked out slowly in numpy."""
    channels, height, width = image.shape
    padded = np.zeros((channels, height + 2 * padding, width + 2 * padding), dtype=np.uint8)
    padded[:, padding : padding + height, padding : padding + width] = image
    views = {}
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[:, top : top + height, left : left + width]
            views[top, left, False] = crop
            views[top, left, True] = crop[:, :, ::-1]
    return views


def find_draws(images, augmented, padding):
    """The crop and flip that each image underwent; fails where there is none or more than one."""
    draws = []
    for image, outcome in zip(images.numpy(), augmented.numpy(), strict=True):
        matches = [draw for draw, view in possible_views(image, padding).items() if np.array_equal(view, outcome)]
        assert len(matches) == 1
        draws += matches
    return np.array(draws)


@pytest.mark.parametrize(
    ("shape", "padding"), [((1, 28, 28), 4), ((3, 32, 16), 4), ((3, 8, 8), 2), ((2, 9, 14), 2), ((1, 3, 40), 0)]
)
def test_every_image_becomes_one_crop_of_its_padded_self_perhaps_mirrored(shape, padding):
    images = random_images(30, *shape)
    augmented = crop_and_flip(images, torch.Generator().manual_seed(1))
    assert augmented.shape == images.shape
    assert augmented.dtype == torch.uint8
    draws = find_draws(images, augmented, padding)
    assert set(draws[:, 2]) == {0, 1}
    assert len(np.unique(draws, axis=0)) > min(10, 2 * padding)


def test_padding_is_at_most_four_pixels():
    assert PADDING == 4


def test_shifts_and_flips_are_uniform_and_independent():
    images = random_images(1, 1, 8, 8).expand(5000, 1, 8, 8)
    augmented = crop_and_flip(images, torch.Generator().manual_seed(2))
    views = possible_views(images[0].numpy(), 2)
    counts = [int((augmented == torch.from_numpy(view.copy())).flatten(1).all(1).sum()) for view in views.values()]
    assert len(counts) == 50
    assert sum(counts) == 5000
    # Chi-square with 49 degrees of freedom: 94.6 is its 99.99% quantile.
    assert sum((count - 100) ** 2 / 100 for count in counts) < 94.6


def test_channels_move_together():
    images = random_images(20, 1, 8, 8).expand(20, 3, 8, 8)
    augmented = crop_and_flip(images, torch.Generator().manual_seed(3))
    assert torch.equal(augmented[:, 0], augmented[:, 1])
    assert torch.equal(augmented[:, 0], augmented[:, 2])


def test_one_generator_state_gives_one_result_and_the_next_another():
    images = random_images(20, 1, 8, 8)
    generator = torch.Generator().manual_seed(4)
    first, second = crop_and_flip(images, generator), crop_and_flip(images, generator)
    assert torch.equal(first, crop_and_flip(images, torch.Generator().manual_seed(4)))
    assert not torch.equal(first, second)


def test_the_global_generator_and_the_images_stay_as_they_were():
    images = random_images(20, 1, 8, 8)
    before, state = images.clone(), torch.get_rng_state()
    crop_and_flip(images, torch.Generator().manual_seed(5))
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)
