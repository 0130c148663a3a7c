"""A stacked model is each of its models at once."""

import pytest
import torch

from trainables.batched import MODELS
from trainables.config import Component
from trainables.models import build_model
from trainables.stacked import StackedModel


@pytest.mark.parametrize("name", MODELS)
def test_a_stacked_model_is_each_of_its_models(name):
    models = [build_model(Component(name, {"width": 4}), (3, 6, 5), 7) for _ in range(4)]
    inputs = torch.randn(3, 5, 3, 6, 5)
    stacked = StackedModel(models[:3])
    for model, own, logits in zip(models[:3], inputs, stacked(inputs), strict=True):
        torch.testing.assert_close(logits, model(own))
    stacked.copy_to(models[3], 1)
    pairs = zip(models[3].parameters(), models[1].parameters(), strict=True)
    assert all(torch.equal(copied, own) for copied, own in pairs)
