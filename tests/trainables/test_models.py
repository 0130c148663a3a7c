import subprocess
import sys
import types

import pytest
import torch
from torch import nn

from trainables.config import Component, InputError
from trainables.models import MODELS, Halving, accepted_parameters, build_model, redraw_weights


def layers_of(model, kind):
    return [layer for layer in model.modules() if isinstance(layer, kind)]


def test_mlp_has_the_layers_asked_for():
    model = build_model(Component("mlp", {"activation": "tanh", "hidden_layers": 3, "width": 20}), (2, 4, 5), 7)
    shapes = [(layer.in_features, layer.out_features) for layer in layers_of(model, nn.Linear)]
    assert shapes == [(40, 20), (20, 20), (20, 20), (20, 7)]
    assert len(layers_of(model, nn.Tanh)) == 3


def test_mlp_is_by_default_one_hidden_layer_of_128_units():
    shapes = [
        (layer.in_features, layer.out_features)
        for layer in layers_of(build_model(Component("mlp"), (1, 28, 28), 10), nn.Linear)
    ]
    assert shapes == [(784, 128), (128, 10)]


@pytest.mark.parametrize(
    ("hidden_layers", "last_width", "widths"),
    [(2, 32, [128, 32]), (3, 5, [128, 128, 5]), (2, 0, [128, 128]), (1, 32, [32])],
)
def test_the_last_hidden_layer_of_an_mlp_may_have_its_own_width(hidden_layers, last_width, widths):
    params = {"hidden_layers": hidden_layers, "width": 128, "last_width": last_width}
    linear = layers_of(build_model(Component("mlp", params), (1, 8, 8), 10), nn.Linear)
    shapes = [(layer.in_features, layer.out_features) for layer in linear]
    assert shapes == list(zip([64, *widths], [*widths, 10], strict=True))


def test_redrawing_touches_the_weights_alone_and_follows_the_generator():
    torch.manual_seed(0)
    model = build_model(Component("resnet18"), (1, 8, 8), 10)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(4)
    redraw_weights(model, 0.05)
    torch.manual_seed(4)
    expected = torch.normal(0.0, 0.05, model.conv1.weight.shape)
    assert torch.equal(model.conv1.weight, expected)
    weights = {name for name, parameter in model.named_parameters() if parameter.dim() >= 2}
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == weights
    assert all(model.get_parameter(name).std().item() == pytest.approx(0.05, rel=0.1) for name in weights)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 8, 8), (3, 32, 32), (1, 28, 28), (4, 7, 65)])
@pytest.mark.parametrize("activation", ["relu", "selu"])
def test_convnet_takes_images_of_any_size(shape, activation):
    model = build_model(Component("convnet", {"activation": activation, "width": 4}), shape, 5)
    images = torch.randn(3, *shape, requires_grad=True)
    model(images).square().sum().backward()
    assert images.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_convnet_widens_by_two_at_each_convolution():
    model = build_model(Component("convnet", {"width": 6}), (3, 8, 8), 5)
    assert [(layer.in_channels, layer.out_channels) for layer in layers_of(model, nn.Conv2d)] == [
        (3, 6),
        (6, 12),
        (12, 24),
    ]


@pytest.mark.parametrize(("activation", "equal"), [("relu", True), ("tanh", True), ("gelu", False)])
def test_convnet_halves_before_an_activation_as_it_would_after_one_that_never_falls(activation, equal):
    torch.manual_seed(0)
    model = build_model(Component("convnet", {"activation": activation, "width": 4}), (1, 12, 12), 5)
    images = 3 * torch.randn(16, 1, 12, 12) - 2
    kinds = [type(layer) for layer in model]
    layers = list(model)
    for place in (kinds.index(Halving), len(kinds) - 1 - kinds[::-1].index(Halving)):
        layers[place], layers[place + 1] = layers[place + 1], layers[place]
    after = nn.Sequential(*layers)
    results = []
    for network in (model, after):
        network.zero_grad()
        outputs = network(images)
        outputs.square().sum().backward()
        results.append([outputs.detach(), *(parameter.grad.clone() for parameter in network.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True)) is equal


@pytest.mark.parametrize("size", [(6, 8), (5, 8), (6, 7), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_halving_is_pooling_with_and_without_gradients(size, dtype):
    images = torch.randn(4, 3, *size, generator=torch.Generator().manual_seed(0)).to(dtype)
    images[0, 0, 0, 0] = torch.nan
    for layout in (torch.contiguous_format, torch.channels_last):
        given = images.contiguous(memory_format=layout)
        expected = nn.functional.max_pool2d(given, 2, ceil_mode=True)
        with torch.no_grad():
            assert torch.equal(Halving()(given).nan_to_num(9), expected.nan_to_num(9))
        with torch.enable_grad():
            assert torch.equal(Halving()(given).nan_to_num(9), expected.nan_to_num(9))
        assert expected.shape[2:] == tuple((side + 1) // 2 for side in size)


def test_convnet_learns_to_tell_patterns_apart():
    torch.manual_seed(0)
    model = build_model(Component("convnet", {"width": 8}), (1, 8, 8), 2)
    stripes = torch.zeros(1, 8, 8)
    stripes[:, ::2] = 1.0
    images = torch.stack([stripes, stripes.transpose(1, 2)]).repeat(32, 1, 1, 1)
    images += 0.3 * torch.randn_like(images)
    labels = torch.arange(64) % 2
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    assert (model(images).argmax(1) == labels).float().mean() == 1.0


def test_resnet18_keeps_the_resolution_of_a_small_image_in_its_stem():
    model = build_model(Component("resnet18"), (1, 8, 8), 10)
    stem = model.relu(model.bn1(model.conv1(torch.zeros(2, 1, 8, 8))))
    assert model.maxpool(stem).shape == (2, 64, 8, 8)


def test_resnet18_has_torchvisions_weights_apart_from_the_stem():
    from torchvision.models import resnet18

    def count(model):
        return sum(parameter.numel() for parameter in model.parameters())

    ours, theirs = build_model(Component("resnet18"), (3, 16, 16), 10), resnet18(weights=None, num_classes=10)
    assert count(ours) == count(theirs) - count(theirs.conv1) + 3 * 64 * 9
    # Drawn like torchvision's other convolutions, normal with variance 2 / (64 outputs × 9 pixels).
    assert ours.conv1.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)


def test_torchvision_is_imported_only_when_its_model_is_built():
    code = "import sys, trainables.models; assert 'torch' in sys.modules; assert 'torchvision' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("mlp", {"width": 0}, "`width` must be an integer >= 1; got 0."),
        ("mlp", {"hidden_layers": 1.5}, "`hidden_layers` must be an integer >= 1; got 1.5."),
        ("convnet", {"width": True}, "`width` must be an integer >= 1; got True."),
        ("mlp", {"last_width": -1}, "`last_width` must be an integer >= 0; got -1."),
        ("mlp", {"last_width": 32.0}, "`last_width` must be an integer >= 0; got 32.0."),
        ("mlp", {"activation": "swish"}, "Unknown activation 'swish'; choose from gelu,"),
        (
            "mlp",
            {"depth": 3},
            "The model 'mlp' has no parameter 'depth'; it accepts activation, hidden_layers, width, last_width.",
        ),
        (
            "convnet",
            {"hidden_layers": 3},
            "The model 'convnet' has no parameter 'hidden_layers'; it accepts activation,",
        ),
        ("resnet18", {"width": 3}, "The model 'resnet18' has no parameter 'width'; it accepts none."),
        ("vgg", {}, "Unknown model 'vgg'; choose from convnet, mlp, resnet18"),
    ],
)
def test_what_a_model_cannot_take_is_refused(name, params, message):
    with pytest.raises(InputError) as caught:
        build_model(Component(name, params), (1, 8, 8), 10)
    assert str(caught.value).startswith(message)


def test_accepted_parameters_names_what_a_model_takes():
    assert accepted_parameters("mlp") == ("activation", "hidden_layers", "width", "last_width")
    assert accepted_parameters("convnet") == ("activation", "width")
    assert accepted_parameters("resnet18") == ()
    with pytest.raises(InputError, match="Unknown model 'vgg'"):
        accepted_parameters("vgg")


@pytest.fixture
def own(monkeypatch):
    """A module of the user's own, importable as ``own``."""
    module = types.ModuleType("own")
    monkeypatch.setitem(sys.modules, "own", module)
    return module


def test_a_users_own_model_is_built_with_its_parameters(own):
    def build(input_shape, num_classes, **params):
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(params["units"]), nn.Linear(params["units"], num_classes))

    own.build = build
    assert accepted_parameters("own:build") == ("**",)
    model = build_model(Component("own:build", {"units": 6}), (1, 4, 4), 3)
    assert model(torch.zeros(5, 1, 4, 4)).shape == (5, 3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda shape, classes: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
            "must map images of shape (2, 1, 8, 8) to logits of shape (2, 100), one per class; got (2, 10).",
        ),
        (
            lambda shape, classes: nn.Identity(),
            "must map images of shape (2, 1, 8, 8) to logits of shape (2, 100), one per class; got (2, 1, 8, 8).",
        ),
        (
            lambda shape, classes: nn.Sequential(nn.Flatten(), nn.LSTM(64, classes)),
            "must map images of shape (2, 1, 8, 8) to logits of shape (2, 100), one per class; got tuple.",
        ),
        (lambda shape, classes: nn.Linear(3, classes), "fails on images of shape (2, 1, 8, 8): RuntimeError: "),
        (lambda shape, classes: shape.depth, "cannot be built for images of shape (1, 8, 8) and 100 classes: Attribut"),
        (lambda shape, classes: None, "must build a torch.nn.Module; got NoneType."),
        ("text", "must be callable; got str."),
    ],
)
def test_a_users_own_model_that_does_not_fit_is_refused_in_one_line(own, build, message):
    own.build = build
    with pytest.raises(InputError) as caught:
        build_model(Component("own:build"), (1, 8, 8), 100)
    assert str(caught.value).startswith(f"The model 'own:build' {message}")
    assert "\n" not in str(caught.value)


def test_trying_a_model_changes_neither_its_statistics_nor_its_modes_nor_the_generator(own):
    class Noisy(nn.Module):
        def forward(self, images):
            return images + torch.randn_like(images)

    def build(input_shape, num_classes):
        frozen = nn.BatchNorm2d(1).eval()
        return nn.Sequential(Noisy(), nn.BatchNorm2d(1), frozen, nn.Flatten(), nn.Linear(16, num_classes))

    own.build = build
    torch.manual_seed(5)
    untried = build((1, 4, 4), 3)
    after_building = torch.get_rng_state()
    torch.manual_seed(5)
    model = build_model(Component("own:build"), (1, 4, 4), 3)
    assert torch.equal(torch.get_rng_state(), after_building)
    assert [module.training for module in model.modules()] == [module.training for module in untried.modules()]
    for name, value in untried.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_every_built_in_model_is_listed_once():
    assert len(set(MODELS.values())) == len(MODELS)
