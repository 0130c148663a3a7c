"""The stated grid of the report on activations: 12 arms, 10 epochs, 10 seeds on the whole Fashion-MNIST, once."""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.measure import Figure, Measurement, Result
from bench.studies import launch
from search_spaces.loss_by_activation import GRID

MAX_SECONDS = 480.0


def measure() -> Result:
    """1,200 epochs of training with the test split watched, from the command to the printed claims."""
    arms = ",".join(GRID)
    with tempfile.TemporaryDirectory() as folder:
        flags = ("--space", "loss_by_activation", "--dataset", "fashion-mnist", "--regime", "stated", "--arms", arms)
        seconds = launch(Path(folder), *flags).seconds
    name = "stated grid of loss_by_activation, Fashion-MNIST"
    return Result(
        [Figure(name=name, ours=seconds, unit="s", at_most=MAX_SECONDS)], [Measurement(name, 1, seconds, "s")]
    )
