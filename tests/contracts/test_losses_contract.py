"""What every loss in the table promises; a new one is checked here without a line being written."""

import itertools

import pytest
import torch

from trainables.checks import keyword_names
from trainables.config import Component, InputError
from trainables.losses import LOSSES, build_loss

every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def random_batch(batch, num_classes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(batch)
    logits = torch.randn(batch, num_classes, generator=generator, dtype=torch.float64) * 2
    return logits.to(dtype), torch.randint(num_classes, (batch,), generator=generator)


@every_loss
@pytest.mark.parametrize("shape", [(1, 2), (3, 3), (128, 10), (2, 100)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_loss_gives_one_value_per_example_in_float32_at_least(loss, shape, dtype):
    logits, labels = random_batch(*shape, dtype)
    values = loss(logits, labels)
    assert values.shape == (shape[0],)
    assert values.dtype == (torch.float64 if dtype is torch.float64 else torch.float32)
    assert (values >= 0).all()


@every_loss
def test_loss_of_bfloat16_logits_is_computed_in_float32(loss):
    logits, labels = random_batch(32, 10, torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = loss(logits, labels)
    assert torch.equal(values, loss(logits.float(), labels))


@every_loss
def test_gradient_equals_finite_differences(loss):
    logits, labels = random_batch(6, 4)
    assert torch.autograd.gradcheck(lambda scores: loss(scores, labels), (logits.requires_grad_(),))


@every_loss
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_value_and_gradient_are_finite_at_extreme_logits(loss, reduction):
    rows = list(itertools.product([-1e4, -88.0, 0.0, 17.0, 1e4], repeat=3))
    for label in range(3):
        logits = torch.tensor(rows, requires_grad=True)
        values = loss(logits, torch.full((len(rows),), label))
        getattr(values, reduction)().backward()
        assert values.isfinite().all()
        assert logits.grad.isfinite().all()


@every_loss
def test_loss_of_an_example_does_not_depend_on_its_neighbours(loss):
    logits, labels = random_batch(16, 5)
    alone = torch.cat([loss(logits[i : i + 1], labels[i : i + 1]) for i in range(16)])
    torch.testing.assert_close(loss(logits, labels), alone)


@every_loss
def test_loss_does_not_depend_on_how_the_classes_are_numbered(loss):
    logits, labels = random_batch(16, 5)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(loss(logits[:, order], torch.argsort(order)[labels]), loss(logits, labels))


@every_loss
def test_first_step_downhill_raises_the_score_of_the_right_class(loss):
    logits = torch.zeros(10, 10, requires_grad=True)
    labels = torch.arange(10)
    loss(logits, labels).sum().backward()
    step = -logits.grad
    assert (step.diagonal() > 0).all()
    assert torch.equal(step.argmax(1), labels)


@every_loss
def test_loss_leaves_its_inputs_as_they_were(loss):
    logits, labels = random_batch(8, 4, torch.float32)
    before = logits.clone(), labels.clone()
    loss(logits, labels)
    assert torch.equal(logits, before[0])
    assert torch.equal(labels, before[1])


@every_loss
def test_loss_documents_its_arguments_result_and_parameters(loss):
    for heading in ("Args:", "Returns:", "(batch, num_classes)", *keyword_names(loss, num_positional=2)):
        assert heading in loss.__doc__


@pytest.mark.parametrize("name", LOSSES)
def test_loss_builds_by_name_and_refuses_an_unknown_parameter(name):
    logits, labels = random_batch(8, 4)
    assert torch.equal(build_loss(Component(name))(logits, labels), LOSSES[name](logits, labels))
    with pytest.raises(InputError, match=f"The loss '{name}' has no parameter 'unheard_of'; it accepts"):
        build_loss(Component(name, {"unheard_of": 1.0}))


@pytest.mark.parametrize("name", LOSSES)
def test_every_parameter_of_a_loss_is_checked_when_it_is_built(name):
    for parameter in keyword_names(LOSSES[name], num_positional=2):
        with pytest.raises(InputError, match=f"`{parameter}` must be (a finite number|one of)"):
            build_loss(Component(name, {parameter: -1.0}))
