import math
import sys
import types

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from trainables.config import Component, InputError
from trainables.losses import (
    LOSSES,
    build_loss,
    cross_entropy,
    focal,
    hinge,
    kl_div,
    l1,
    mse,
    smooth_l1,
    smooth_l1_logits,
)


def random_batch(batch, num_classes, *, seed=0, scale=3.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, num_classes, generator=generator, dtype=torch.float64) * scale
    return logits.to(dtype), torch.randint(num_classes, (batch,), generator=generator)


def value_and_gradient(loss, logits, labels, reduction="sum"):
    leaf = logits.clone().requires_grad_()
    values = loss(leaf, labels)
    getattr(values, reduction)().backward()
    return values.detach(), leaf.grad


def textbook_focal(logits, labels, gamma):
    entropy = F.cross_entropy(logits, labels, reduction="none")
    return (1 - torch.exp(-entropy)) ** gamma * entropy


# One example at a time, in plain Python floats: no shared code with the module under test.


def softmax(row):
    exponentials = [math.exp(score - max(row)) for score in row]
    return [value / sum(exponentials) for value in exponentials]


def errors(outputs, label):
    return [output - (index == label) for index, output in enumerate(outputs)]


def smooth(error, beta):
    return error * error / (2 * beta) if abs(error) < beta else abs(error) - beta / 2


REDUCE = {"mean": np.mean, "sum": np.sum}

REFERENCES = {
    "cross_entropy": lambda z, y: -math.log(softmax(z)[y]),
    "kl_div": lambda z, y: 1.0 * (math.log(1.0) - math.log(softmax(z)[y])),
    "focal": lambda z, y, gamma=2.0: -((1 - softmax(z)[y]) ** gamma) * math.log(softmax(z)[y]),
    "hinge": lambda z, y, margin=1.0, class_reduction="sum": REDUCE[class_reduction](
        [max(0.0, margin - (z[y] - z[j])) if j != y else 0.0 for j in range(len(z))]
    ),
    "l1": lambda z, y, class_reduction="mean": REDUCE[class_reduction](np.abs(errors(softmax(z), y))),
    "l1_logits": lambda z, y, class_reduction="mean": REDUCE[class_reduction](np.abs(errors(z, y))),
    "mse": lambda z, y, class_reduction="mean": REDUCE[class_reduction](np.square(errors(softmax(z), y))),
    "mse_logits": lambda z, y, class_reduction="mean": REDUCE[class_reduction](np.square(errors(z, y))),
    "smooth_l1": lambda z, y, beta=1.0, class_reduction="mean": REDUCE[class_reduction](
        [smooth(error, beta) for error in errors(softmax(z), y)]
    ),
    "smooth_l1_logits": lambda z, y, beta=1.0, class_reduction="mean": REDUCE[class_reduction](
        [smooth(error, beta) for error in errors(z, y)]
    ),
}

#: Losses with one term per class.
OVER_CLASSES = ["hinge", "l1", "l1_logits", "mse", "mse_logits", "smooth_l1", "smooth_l1_logits"]

SETTINGS = [
    *[(name, {}) for name in REFERENCES],
    *[("focal", {"gamma": gamma}) for gamma in (0.0, 0.5, 1.0, 5.0)],
    *[("hinge", {"margin": margin}) for margin in (0.1, 5.0)],
    *[(name, {"beta": beta}) for name in ("smooth_l1", "smooth_l1_logits") for beta in (0.1, 0.5, 3.0)],
    *[(name, {"class_reduction": how}) for name in OVER_CLASSES for how in REDUCE],
    ("hinge", {"margin": 5.0, "class_reduction": "mean"}),
    ("smooth_l1_logits", {"beta": 0.3, "class_reduction": "sum"}),
]


def test_every_loss_has_a_reference():
    assert set(REFERENCES) == set(LOSSES)


@pytest.mark.parametrize(("name", "params"), SETTINGS)
@pytest.mark.parametrize("num_classes", [2, 10])
def test_loss_equals_its_definition_in_plain_python(name, params, num_classes):
    logits, labels = random_batch(50, num_classes, dtype=torch.float64)
    expected = [
        REFERENCES[name](row, label, **params) for row, label in zip(logits.tolist(), labels.tolist(), strict=True)
    ]
    np.testing.assert_allclose(LOSSES[name](logits, labels, **params).numpy(), expected, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(LOSSES[name](logits.float(), labels, **params).numpy(), expected, rtol=2e-4, atol=1e-6)


# |dL/dz| relative to cross-entropy, at a uniform p = .1 over ten classes and where p_y = .9 and the others share .1.
GRADIENT_SCALES = [
    ("kl_div", {}, 1.0, 1.0, 0.0),
    ("focal", {"gamma": 0.5}, 1.07, 0.47, 0.005),
    ("focal", {"gamma": 2.0}, 1.22, 0.029, 0.005),
    ("hinge", {"margin": 5.0}, 10.0, 90.0, 1e-3),
    ("mse_logits", {}, 0.21, 6.4, 0.05),
    ("mse", {}, 0.02, 0.02, 0.005),
    ("l1", {}, 0.02, 0.18, 0.005),
]


@pytest.mark.parametrize(("name", "params", "at_start", "when_learned", "tolerance"), GRADIENT_SCALES)
def test_gradient_scale_relative_to_cross_entropy(name, params, at_start, when_learned, tolerance):
    labels = torch.tensor([0])
    learned = torch.zeros(1, 10)
    learned[0, 0] = math.log(81)  # p_y = 81 / (81 + 9)
    for logits, expected in ((torch.zeros(1, 10), at_start), (learned, when_learned)):
        _, gradient = value_and_gradient(lambda z, y: LOSSES[name](z, y, **params), logits, labels)
        _, reference = value_and_gradient(cross_entropy, logits, labels)
        assert (gradient.norm() / reference.norm()).item() == pytest.approx(expected, abs=tolerance, rel=0)


@pytest.mark.parametrize("shape", [(1, 2), (2, 3), (7, 10), (32, 2), (100, 10), (128, 10), (64, 100), (5, 1000)])
@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_kl_div_is_cross_entropy_bit_for_bit(shape, scale, reduction):
    for seed in range(3):
        logits, labels = random_batch(*shape, seed=seed, scale=scale)
        for dtype in (torch.float32, torch.bfloat16):
            for ours, theirs in zip(
                value_and_gradient(kl_div, logits.to(dtype), labels, reduction),
                value_and_gradient(cross_entropy, logits.to(dtype), labels, reduction),
                strict=True,
            ):
                assert torch.equal(ours, theirs)
        assert torch.equal(
            getattr(kl_div(logits, labels), reduction)(), getattr(cross_entropy(logits, labels), reduction)()
        )


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_kl_div_trains_to_the_same_bits_as_cross_entropy(autocast, reduction):
    images, labels = random_batch(40, 16, scale=1.0)
    weights = []
    for loss in (kl_div, cross_entropy):
        torch.manual_seed(3)
        model = torch.nn.Sequential(torch.nn.Linear(16, 24), torch.nn.Tanh(), torch.nn.Linear(24, 16))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        before = model[0].weight.detach().clone()
        for _ in range(25):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                value = getattr(loss(model(images), labels), reduction)()
            value.backward()
            optimizer.step()
        assert not torch.equal(before, model[0].weight)
        weights.append([parameter.detach() for parameter in model.parameters()])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*weights, strict=True))


def test_textbook_focal_has_nan_gradients_below_gamma_one_and_ours_has_not():
    logits, labels = torch.tensor([[40.0, 0.0], [0.3, 0.1]]), torch.tensor([0, 1])
    for gamma in (0.1, 0.5, 0.9):
        _, broken = value_and_gradient(lambda z, y, gamma=gamma: textbook_focal(z, y, gamma), logits, labels)
        _, ours = value_and_gradient(lambda z, y, gamma=gamma: focal(z, y, gamma=gamma), logits, labels)
        assert broken[0].isnan().all()
        assert torch.equal(ours[0], torch.zeros(2))  # the limit at p = 1
        torch.testing.assert_close(ours[1], broken[1])  # elsewhere the two agree


@pytest.mark.parametrize("gamma", [0.0, 1e-30, 1e-3, 0.1, 0.5, 0.999, 1.0, 1.5, 2.0, 5.0, 60.0, 1e6, 1e38, 1e300])
def test_focal_is_finite_for_every_gamma_from_certain_to_hopeless(gamma):
    steps = torch.cat([torch.linspace(-120, 120, 961), torch.tensor([-1e4, 1e4, -2e4, 2e4, 0.0])])
    logits = torch.stack([steps / 2, -steps / 2], dim=1)  # covers p = 0, p = 1 and all that float32 has in between
    values, gradient = value_and_gradient(lambda z, y: focal(z, y, gamma=gamma), logits, torch.zeros(966).long())
    assert values.isfinite().all()
    assert gradient.isfinite().all()
    assert (values >= 0).all()


@pytest.mark.parametrize("gamma", [0.1, 0.5, 2.0])
def test_focal_gradient_keeps_its_precision_where_the_example_is_nearly_certain(gamma):
    # (1 - p)^gamma [gamma p ln p - (1 - p)] in p, in terms of the exact 1 - p.
    gap = torch.tensor([2.0, 6.0, 10.0, 14.0], dtype=torch.float64)
    missing = torch.sigmoid(-gap)
    expected = missing**gamma * (gamma * (1 - missing) * torch.log1p(-missing) - missing)
    logits = torch.stack([gap, torch.zeros(4)], dim=1)
    _, gradient = value_and_gradient(
        lambda z, y: focal(z, y, gamma=gamma), logits.to(torch.float32), torch.zeros(4).long()
    )
    # float32's log-softmax holds ln p = -8e-7 to 10%; nothing further may be lost.
    np.testing.assert_allclose(gradient[:, 0].numpy(), expected.numpy(), rtol=0.15)
    np.testing.assert_allclose(gradient[:2, 0].numpy(), expected[:2].numpy(), rtol=1e-3)


def test_focal_loses_nothing_of_what_cross_entropy_knows():
    gaps = torch.linspace(8, 15.5, 40)
    logits, labels = torch.stack([gaps, torch.zeros(40)], dim=1), torch.zeros(40).long()
    entropy = cross_entropy(logits, labels).double()
    expected = (-torch.expm1(-entropy)).sqrt() * entropy
    torch.testing.assert_close(focal(logits, labels, gamma=0.5).double(), expected, rtol=1e-6, atol=0)
    with pytest.raises(AssertionError):  # the textbook's 1 - exp(-entropy) does lose something here
        torch.testing.assert_close(textbook_focal(logits, labels, 0.5).double(), expected, rtol=2e-5, atol=0)


def test_focal_with_gamma_zero_equals_cross_entropy():
    logits, labels = random_batch(64, 10)
    for ours, theirs in zip(
        value_and_gradient(lambda z, y: focal(z, y, gamma=0), logits, labels),
        value_and_gradient(cross_entropy, logits, labels),
        strict=True,
    ):
        assert torch.equal(ours, theirs)


def test_focal_falls_as_gamma_rises():
    logits, labels = random_batch(64, 10)
    values = torch.stack([focal(logits, labels, gamma=gamma) for gamma in (0.0, 0.5, 2.0, 5.0)])
    assert (values.diff(dim=0) <= 0).all()


@pytest.mark.parametrize("name", OVER_CLASSES)
def test_the_class_reduction_scales_value_and_gradient_by_the_number_of_classes(name):
    logits, labels = random_batch(64, 8)  # a power of two: the division is exact
    of_mean, of_sum = (
        value_and_gradient(lambda z, y, how=how: LOSSES[name](z, y, class_reduction=how), logits, labels)
        for how in ("mean", "sum")
    )
    for mean, total in zip(of_mean, of_sum, strict=True):
        assert total.abs().max() > 0
        torch.testing.assert_close(8 * mean, total)


def test_hinge_is_zero_once_every_rival_is_a_margin_behind():
    logits = torch.tensor([[5.0, 0.0, -1.0], [4.9, 0.0, -1.0]])
    torch.testing.assert_close(hinge(logits, torch.tensor([0, 0]), margin=5.0), torch.tensor([0.0, 0.1]))


def test_l1_has_the_gradient_of_the_absolute_errors_written_out():
    logits, labels = random_batch(64, 10, dtype=torch.float64)

    def written_out(scores, targets):
        return (F.softmax(scores, 1) - F.one_hot(targets, 10)).abs().mean(1)

    for ours, theirs in zip(
        value_and_gradient(l1, logits, labels), value_and_gradient(written_out, logits, labels), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_smooth_l1_on_probabilities_with_beta_one_is_half_of_mse():
    logits, labels = random_batch(64, 10)
    torch.testing.assert_close(2 * smooth_l1(logits, labels), mse(logits, labels))


def test_smooth_l1_is_quadratic_near_zero_and_linear_far_away():
    labels = torch.tensor([0])
    slopes = [
        value_and_gradient(smooth_l1_logits, torch.tensor([[1.0 + error, 0.0]]), labels)[1][0, 0].item() * 2
        for error in (0.1, 0.2, 2.0, 50.0)
    ]
    assert slopes == pytest.approx([0.1, 0.2, 1.0, 1.0], rel=1e-5)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("focal", {"gamma": -1}, "`gamma` must be a finite number >= 0; got -1."),
        ("focal", {"gamma": math.nan}, "`gamma` must be a finite number >= 0; got nan."),
        ("focal", {"gamma": math.inf}, "`gamma` must be a finite number >= 0; got inf."),
        ("focal", {"gamma": "2"}, "`gamma` must be a finite number >= 0; got '2'."),
        ("focal", {"gamma": True}, "`gamma` must be a finite number >= 0; got True."),
        ("hinge", {"margin": 0}, "`margin` must be a finite number > 0; got 0."),
        ("smooth_l1", {"beta": 0.0}, "`beta` must be a finite number > 0; got 0.0."),
        ("smooth_l1_logits", {"beta": -0.5}, "`beta` must be a finite number > 0; got -0.5."),
        ("focal", {"alpha": 0.1}, "The loss 'focal' has no parameter 'alpha'; it accepts gamma."),
        ("mse", {"beta": 1.0}, "The loss 'mse' has no parameter 'beta'; it accepts class_reduction."),
        *[
            (name, {"class_reduction": value}, f"`class_reduction` must be one of mean, sum; got {value!r}.")
            for name in OVER_CLASSES
            for value in ("none", 1.0, True)
        ],
        ("cross_entropy", {"logits": 1.0}, "The loss 'cross_entropy' has no parameter 'logits'; it accepts none."),
    ],
)
def test_a_parameter_that_breaks_its_rule_is_refused_when_the_loss_is_built(name, params, message):
    with pytest.raises(InputError) as caught:
        build_loss(Component(name, params))
    assert str(caught.value) == message


def test_an_unknown_loss_is_refused_with_the_choices():
    with pytest.raises(InputError, match="Unknown loss 'poly'; choose from cross_entropy, focal, hinge"):
        build_loss(Component("poly"))


def test_built_loss_binds_its_parameters():
    logits, labels = random_batch(8, 4)
    torch.testing.assert_close(
        build_loss(Component("hinge", {"margin": 5}))(logits, labels), hinge(logits, labels, margin=5)
    )


@pytest.fixture
def own(monkeypatch):
    """A module of the user's own, importable as ``own``."""
    module = types.ModuleType("own")
    monkeypatch.setitem(sys.modules, "own", module)
    return module


def test_a_users_own_loss_is_built_with_its_parameters(own):
    own.poly = lambda logits, labels, *, epsilon=1.0: (
        cross_entropy(logits, labels) + epsilon * (1 - torch.exp(-cross_entropy(logits, labels)))
    )
    logits, labels = random_batch(8, 4)
    torch.testing.assert_close(
        build_loss(Component("own:poly", {"epsilon": 0.0}))(logits, labels), cross_entropy(logits, labels)
    )


def test_a_users_own_loss_may_take_any_parameter(own):
    own.any = lambda logits, labels, **params: cross_entropy(logits, labels) * params["factor"]
    logits, labels = random_batch(8, 4)
    torch.testing.assert_close(
        build_loss(Component("own:any", {"factor": 2.0}))(logits, labels), 2 * cross_entropy(logits, labels)
    )


def raises_in_two_lines(logits, labels):
    raise RuntimeError("first\nsecond")


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            F.cross_entropy,
            "must return one value per example, shape (2,) for two of them; got shape ().",
        ),
        (lambda z, y: z, "must return one value per example, shape (2,) for two of them; got shape (2, 3)."),
        (lambda z, y: 0.5, "must return one value per example, shape (2,) for two of them; got a float."),
        (lambda z, y: (z.argmax(1) != y).float(), "must be differentiable in the logits; its result has no gradient."),
        (raises_in_two_lines, "fails on logits of shape (2, 3): RuntimeError: first second"),
        (3, "must be callable; got int."),
    ],
)
def test_a_users_own_loss_that_cannot_train_is_refused_in_one_line(own, loss, message):
    own.loss = loss
    with pytest.raises(InputError) as caught:
        build_loss(Component("own:loss"))
    assert str(caught.value) == f"The loss 'own:loss' {message}"


def test_a_loss_with_class_weights_is_tried_with_the_number_of_classes(own):
    own.weighted = lambda z, y: F.cross_entropy(z, y, weight=torch.ones(10), reduction="none")
    build_loss(Component("own:weighted"), num_classes=10)
    with pytest.raises(InputError, match=r"fails on logits of shape \(2, 3\)"):
        build_loss(Component("own:weighted"))


def test_building_a_loss_leaves_the_global_generator_alone(own):
    own.noisy = lambda z, y: cross_entropy(z + torch.rand_like(z), y)
    before = torch.get_rng_state()
    build_loss(Component("own:noisy"))
    assert torch.equal(before, torch.get_rng_state())
