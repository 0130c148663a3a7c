"""Corruptions of test images, and how accuracy falls along them.

The corrupted images depend on the seed alone, not on arm, trial or device: they are made once per process, kept as
uint8 as in CIFAR-10-C, and every trial is measured on the same ones.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Generator, Tensor

#: Images predicted at once.
_BATCH = 500


def gaussian_noise(images: Tensor, severity: float, generator: Generator) -> Tensor:
    """Add normal noise with the standard deviation ``severity``."""
    return (images + severity * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def shot_noise(images: Tensor, severity: float, generator: Generator) -> Tensor:
    """Count photons: Poisson noise, with ``1 / severity`` photons expected of a white pixel."""
    return (torch.poisson(images / severity, generator=generator) * severity).clamp(0, 1)


def impulse_noise(images: Tensor, severity: float, generator: Generator) -> Tensor:
    """Turn the share ``severity`` of the values black or white, one as likely as the other."""
    draws = torch.rand(images.shape, generator=generator)
    return torch.where(draws < severity, (draws < severity / 2).to(images.dtype), images)


def blur(images: Tensor, severity: float, generator: Generator) -> Tensor:  # noqa: ARG001  # nothing is drawn
    """Gaussian blur with a standard deviation of ``severity`` pixels, cut at 4; edges are continued."""
    height, width = images.shape[2:]
    # Two small matrix products take a fraction of a convolution's time on planes of one channel.
    return (_blur_matrix(height, severity) @ images @ _blur_matrix(width, severity).T).clamp(0, 1)


def contrast(images: Tensor, severity: float, generator: Generator) -> Tensor:  # noqa: ARG001  # nothing is drawn
    """Take the share ``severity`` of the contrast away: pixels move towards their channel's mean."""
    mean = images.mean(dim=(2, 3), keepdim=True)
    return torch.lerp(images, mean, severity).clamp(0, 1)


def brightness(images: Tensor, severity: float, generator: Generator) -> Tensor:  # noqa: ARG001  # nothing is drawn
    """Add ``severity`` to the value of each pixel in hue, saturation, value; of a grey one, to the pixel."""
    value = images.amax(dim=1, keepdim=True)
    brighter = (value + severity).clamp(max=1)
    # At fixed hue and saturation all channels grow by one factor; black has no hue and becomes grey.
    return torch.where(value > 0, images * (brighter / value), brighter).clamp(0, 1)


#: name -> function(images float (N, C, H, W) in [0, 1], severity, generator) -> the same, corrupted, in [0, 1]
CORRUPTIONS: dict[str, Callable[[Tensor, float, Generator], Tensor]] = {
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "blur": blur,
    "contrast": contrast,
    "brightness": brightness,
}

#: Severities rise from clean, 0. They are those of CIFAR-10-C, whose images are the size of ours (Hendrycks &
#: Dietterich, ICLR 2019, arXiv:1903.12261, and the authors' make_cifar_c.py), which gives shot noise as photons and
#: contrast as the share left; Gaussian noise goes on to the levels at which classifiers of digits fail.
SEVERITIES: dict[str, tuple[float, ...]] = {
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.1, 0.2, 0.3, 0.5, 1.0),
    "shot_noise": (1 / 500, 1 / 250, 1 / 100, 1 / 75, 1 / 50),
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
    "blur": (0.4, 0.6, 0.7, 0.8, 1.0),
    "contrast": (0.25, 0.5, 0.6, 0.7, 0.85),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
}


def sample_indices(num_images: int, max_images: int = 2000) -> Tensor:
    """Evenly spaced indices of at most so many images: all classes are met even where a test part is sorted by class.

    Returns:
        Shape ``(min(num_images, max_images),)``, int64, increasing.
    """
    count = min(num_images, max_images)
    return torch.arange(count) * num_images // count


def corrupted_images(images: Tensor | NDArray[np.uint8], *, seed: int) -> dict[str, list[Tensor]]:
    """Every corruption at every severity, computed on the CPU so that the noise is the same for every device.

    Within a corruption every severity starts from the same random state, so that a curve shows the severity and not
    the luck of the draw.

    Args:
        images: Shape ``(N, C, H, W)``, uint8.
        seed: Fixes the noise, for each corruption apart, whatever else the table holds.

    Returns:
        For each name one tensor per severity, like ``images``: uint8, and on its device if it is a tensor.
    """
    source = images if isinstance(images, torch.Tensor) else torch.tensor(images)
    clean = source.cpu().float() / 255
    return {
        name: [
            (corrupt(clean, severity, _generator(name, seed)) * 255).round().to(torch.uint8).to(source.device)
            for severity in SEVERITIES[name]
        ]
        for name, corrupt in CORRUPTIONS.items()
    }


def corruption_curves(
    predict: Callable[[Tensor], Tensor], corrupted: Mapping[str, Sequence[Tensor]], labels: Tensor
) -> dict[str, dict[str, list[float]]]:
    """Accuracy at every severity of every corruption.

    Args:
        predict: From images, float in [0, 1], shape ``(n, C, H, W)``, to predicted classes, shape ``(n,)``.
        corrupted: What ``corrupted_images`` returns.
        labels: Shape ``(N,)``, int64, on the device of the predictions.

    Returns:
        For each name ``severities`` and ``accuracy``, both without the clean images.
    """
    hits = torch.stack(
        [
            torch.stack([_count_hits(predict, part, truth) for part, truth in _batches(level, labels)]).sum()
            for levels in corrupted.values()
            for level in levels
        ]
    )
    accuracies = iter((hits.double() / len(labels)).tolist())  # one wait for the device, not one per level
    return {
        name: {"severities": list(SEVERITIES[name]), "accuracy": [next(accuracies) for _ in levels]}
        for name, levels in corrupted.items()
    }


def drop_area(clean_accuracy: float, severities: Sequence[float], accuracies: Sequence[float]) -> float:
    """Mean loss of accuracy between severity 0 and the highest: the area between the clean accuracy and the curve.

    Args:
        clean_accuracy: Accuracy at severity 0, on the images of the curve.
        severities: Increasing, > 0.
        accuracies: One per severity.

    Returns:
        The area by the trapezoidal rule, divided by the highest severity.
    """
    drops = clean_accuracy - np.array([clean_accuracy, *accuracies])
    return float(np.trapezoid(drops, [0.0, *severities]) / severities[-1])


def _blur_matrix(size: int, deviation: float) -> Tensor:
    """Weights of each pixel of a line (columns) in each blurred one (rows), shape ``(size, size)``."""
    radius = int(4 * deviation + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-0.5 * (offsets / deviation) ** 2)
    sources = (torch.arange(size)[:, None] + offsets).clamp(0, size - 1)
    return torch.zeros(size, size).scatter_add_(1, sources, (kernel / kernel.sum()).expand(size, -1))


def _generator(name: str, seed: int) -> Generator:
    # From the name, not from its place in the table: a new line there leaves the others' noise as it was.
    mixed = np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(mixed[0] >> 1))


def _batches(level: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(torch.split(level, _BATCH), torch.split(labels, _BATCH), strict=True))


def _count_hits(predict: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> Tensor:
    return (predict(images.float() / 255) == labels).sum()
