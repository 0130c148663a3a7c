"""Random crops and flips of a whole batch at once."""

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = 4


def crop_and_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift every image by up to four pixels and mirror half of them, each at random.

    The usual recipe for CIFAR (He et al., 2016, arXiv:1512.03385): zero padding of four pixels, a random crop
    of the original size, a horizontal flip.

    Args:
        images: Raw pixels, uint8, shape ``(batch, channels, height, width)``.
        generator: Source of the shifts and flips, on the images' device.

    Returns:
        Like ``images``.
    """
    count, channels, height, width = images.shape
    padding = min(PADDING, height // 4, width // 4)
    device = images.device
    padded = F.pad(images, (padding, padding, padding, padding))
    top, left = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=generator, device=device)
    flip = torch.rand((count, 1), generator=generator, device=device) < 0.5  # noqa: PLR2004 - one half
    rows = top + torch.arange(height, device=device)
    columns = torch.arange(width, device=device).expand(count, width)
    columns = left + torch.where(flip, columns.flip(1), columns)
    example = torch.arange(count, device=device).view(-1, 1, 1, 1)
    channel = torch.arange(channels, device=device).view(1, -1, 1, 1)
    return padded[example, channel, rows.view(count, 1, height, 1), columns.view(count, 1, 1, width)]
