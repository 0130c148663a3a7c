"""The Ray adapter: a class of Tune's around a trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import tune

from trainables.data import Dataset


class ClassifierTrainable(tune.Trainable):  # type: ignore[misc]
    """Trains a classifier and reports its epochs, several at a time where they are short.

    The Ray configuration is a request to :class:`trainables.trainer.Trainer`.
    """

    def setup(self, config: dict[str, Any], *, dataset: Dataset, device: str = "cpu", num_threads: int = 1) -> None:
        """Load the data once per actor; the trial itself starts in its first step, where a failure is its own."""
        # Imported here: the driver only names this class, and torch would cost it a second and half a gigabyte.
        from trainables.trainer import Trainer  # noqa: PLC0415

        self._trainer = Trainer(dataset, device=device, num_threads=num_threads)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial."""
        self._trainer.begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train until something is worth reporting."""
        return self._trainer.advance()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Everything the next epoch depends on."""
        self._trainer.save(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint: str) -> None:
        """Go on exactly where the checkpoint was made."""
        self._trainer.restore(Path(checkpoint))
