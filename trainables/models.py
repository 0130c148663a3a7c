"""Networks by name: ``build(input_shape, num_classes, **params) -> module`` that maps images to logits.

Weights are drawn from torch's global generator, which the caller seeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.activations import build_activation
from trainables.checks import check_parameters, keyword_names, one_line
from trainables.config import Component, InputError, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

InputShape = tuple[int, int, int]
#: A parameter of fewer dimensions is a bias or a normalisation's scale.
_WEIGHT_DIMENSIONS = 2


def mlp(
    input_shape: InputShape,
    num_classes: int,
    *,
    activation: str = "relu",
    hidden_layers: int = 1,
    width: int = 128,
    last_width: int = 0,
) -> nn.Module:
    """A multilayer perceptron on the flattened image.

    Args:
        input_shape: Channels, height, width.
        num_classes: Logits per image.
        activation: A line of ``ACTIVATIONS``, after each hidden layer.
        hidden_layers: How many, >= 1.
        width: Units of each hidden layer, >= 1.
        last_width: Units of the last hidden layer, >= 1, or 0 for ``width``; where there is one hidden layer it is the
            last, and ``width`` has no say.

    Raises:
        InputError: If a value breaks its rule.
    """
    _check_count("hidden_layers", hidden_layers)
    _check_count("width", width)
    _check_count("last_width", last_width, least=0)
    channels, height, columns = input_shape
    layers: list[nn.Module] = [nn.Flatten()]
    features = channels * height * columns
    for units in [*[width] * (hidden_layers - 1), last_width or width]:
        layers += [nn.Linear(features, units), build_activation(activation)]
        features = units
    return nn.Sequential(*layers, nn.Linear(features, num_classes))


class Halving(nn.Module):
    """The largest of every 2 × 2 pixels, from ``(N, C, H, W)``; an odd row or column is one of its own."""

    def forward(self, images: Tensor) -> Tensor:
        """``(N, C, ceil(H / 2), ceil(W / 2))``."""
        if torch.is_grad_enabled() or images.shape[2] % 2 or images.shape[3] % 2:
            return F.max_pool2d(images, 2, ceil_mode=True)
        # The same numbers, on a CPU in a quarter of the time, but their gradient would take longer than the pooling's.
        rows = torch.maximum(images[:, :, ::2], images[:, :, 1::2])
        return torch.maximum(rows[..., ::2], rows[..., 1::2])


def convnet(input_shape: InputShape, num_classes: int, *, activation: str = "relu", width: int = 32) -> nn.Module:
    """Three 3 × 3 convolutions of growing width, two halvings, and the average over what is left of the image.

    Nothing is normalised over the batch, so an example's gradient depends on its own loss alone. An image is halved
    before its activation, not after: for one that never falls, as ReLU, the same bits come of a quarter of the work.

    Args:
        input_shape: Channels, height, width; any size.
        num_classes: Logits per image.
        activation: A line of ``ACTIVATIONS``, after each convolution and its halving.
        width: Channels of the first convolution, >= 1; the next ones have 2 and 4 times as many.

    Raises:
        InputError: If a value breaks its rule.
    """
    _check_count("width", width)

    def convolution(channels_in: int, channels_out: int) -> nn.Module:
        return nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1)

    return nn.Sequential(
        convolution(input_shape[0], width),
        Halving(),
        build_activation(activation),
        convolution(width, 2 * width),
        Halving(),
        build_activation(activation),
        convolution(2 * width, 4 * width),
        build_activation(activation),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, num_classes),
    )


def resnet18(input_shape: InputShape, num_classes: int) -> nn.Module:
    """ResNet-18 as torchvision builds it, untrained, its stem adapted to small images: 3 × 3, stride 1, no pooling.

    Args:
        input_shape: Channels, height, width.
        num_classes: Logits per image.

    References:
        He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385 (stem as in its
        section 4.2 on CIFAR-10).
    """
    from torchvision.models import resnet18 as torchvision_resnet18  # noqa: PLC0415  # takes a second to import

    model: nn.Module = torchvision_resnet18(weights=None, num_classes=num_classes)
    stem = nn.Conv2d(input_shape[0], 64, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")  # as torchvision draws the others
    model.conv1 = stem
    model.maxpool = nn.Identity()
    return model


MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "convnet": convnet,
    "resnet18": resnet18,
}


def accepted_parameters(name: str) -> tuple[str, ...]:
    """Names of the parameters that a model takes; one that takes any shows ``**``.

    Raises:
        InputError: If there is no such model.
    """
    builder = resolve("model", name, MODELS)
    check_parameters("model", name, builder, {}, num_positional=2)
    return keyword_names(builder, num_positional=2)


def build_model(component: Component, input_shape: InputShape, num_classes: int) -> nn.Module:
    """The model behind a name, initialised from torch's global generator and tried once on two black images.

    Args:
        component: A line of `MODELS`, or ``package.module:name`` for ``build(input_shape, num_classes, **params)``.
        input_shape: Channels, height, width of one image.
        num_classes: Logits per image.

    Raises:
        InputError: If the name or a parameter is unknown, a parameter breaks its rule, or the model does not map two
            images to logits of shape ``(2, num_classes)``.
    """
    builder = resolve("model", component.name, MODELS)
    check_parameters("model", component.name, builder, component.params, num_positional=2)
    try:
        model = builder(input_shape, num_classes, **component.params)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(
            f"The model {component.name!r} cannot be built for images of shape {tuple(input_shape)} and "
            f"{num_classes} classes: {one_line(error)}"
        ) from error
    if not isinstance(model, nn.Module):
        raise InputError(f"The model {component.name!r} must build a torch.nn.Module; got {type(model).__name__}.")
    _check_output(component.name, model, input_shape, num_classes)
    return model


def redraw_weights(model: nn.Module, standard_deviation: float) -> None:
    """Draw every weight from N(0, standard_deviation²), in place, from torch's global generator.

    Weights are the parameters of two dimensions or more; biases and the scales of normalisations keep their values.
    """
    for parameter in model.parameters():
        if parameter.dim() >= _WEIGHT_DIMENSIONS:
            nn.init.normal_(parameter, std=standard_deviation)


def _check_output(name: str, model: nn.Module, input_shape: InputShape, num_classes: int) -> None:
    images = torch.zeros(2, *input_shape)
    modes = [(module, module.training) for module in model.modules()]
    # Evaluation mode and a forked generator: batch-norm statistics and the trial's random numbers stay as they are.
    model.eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            logits = model(images)
        except (Exception, SystemExit) as error:
            raise InputError(
                f"The model {name!r} fails on images of shape {tuple(images.shape)}: {one_line(error)}"
            ) from error
    for module, training in modes:
        module.training = training
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape != (2, num_classes):
        raise InputError(
            f"The model {name!r} must map images of shape {tuple(images.shape)} to logits of shape "
            f"{(2, num_classes)}, one per class; got {shape}."
        )


def _check_count(name: str, value: int, *, least: int = 1) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"`{name}` must be an integer >= {least}; got {value!r}.")
