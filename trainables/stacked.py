"""Models of one architecture as one, each of its layers a single product for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class StackedModel(nn.Module):
    """R models of one architecture as one: from inputs ``(R, batch, C, H, W)`` to logits ``(R, batch, num_classes)``.

    Every layer with weights is one product in a batch of R, a convolution that of its patches. With a group for each
    model it would be faster on a CPU, but a GPU's library is at its best in batched products, and slow in some groups.

    Args:
        models: Sequences of linear layers, convolutions that keep the size, and layers without parameters; their
            weights are copied.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(map(_stack, zip(*(model.children() for model in models), strict=True)))

    def forward(self, inputs: Tensor) -> Tensor:
        """Each model's logits of its own inputs."""
        for layer in self.layers:
            inputs = layer(inputs)
        return inputs

    @torch.no_grad()
    def copy_to(self, model: nn.Module, position: int) -> None:
        """Give a model of the same architecture the weights of the one at ``position``."""
        for own, stacked in zip(model.parameters(), self.parameters(), strict=True):
            own.copy_(stacked[position])


class _Stacked(nn.Module):
    """Layers whose parameters are stacked along a first dimension."""

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]))

    def multiply(self, inputs: Tensor, weight: Tensor) -> Tensor:
        """From ``(R, N, features_in)`` and ``(R, features_in, features_out)``."""
        return torch.baddbmm(self.bias.unsqueeze(1), inputs, weight)


class _StackedLinear(_Stacked):
    def forward(self, features: Tensor) -> Tensor:
        return self.multiply(features, self.weight.transpose(1, 2))


class _StackedConvolution(_Stacked):
    def __init__(self, layers: Sequence[nn.Conv2d]) -> None:
        super().__init__(layers)
        self._height, self._width = layers[0].kernel_size

    def forward(self, images: Tensor) -> Tensor:
        # The channels of a pixel lie side by side, so that a patch is gathered in runs.
        rows, columns = self._height // 2, self._width // 2
        padded = F.pad(images.movedim(2, 4), (0, 0, columns, columns, rows, rows))
        patches = padded.unfold(2, self._height, 1).unfold(3, self._width, 1).movedim(4, 6)
        weight = self.weight.permute(0, 3, 4, 2, 1).flatten(1, 3)
        outputs = self.multiply(patches.flatten(1, 3).flatten(2), weight)
        return outputs.view(*patches.shape[:4], -1).movedim(4, 2)


class _Shared(nn.Module):
    """A layer without parameters, which takes the examples of all models for one batch."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self._layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self._layer(inputs.flatten(0, 1))
        return outputs.view(*inputs.shape[:2], *outputs.shape[1:])


def _stack(layers: Sequence[Any]) -> nn.Module:
    if isinstance(layers[0], nn.Linear):
        return _StackedLinear(layers)
    return _StackedConvolution(layers) if isinstance(layers[0], nn.Conv2d) else _Shared(layers[0])
