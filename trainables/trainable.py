"""The Ray adapter: a class of Tune's around a trainer."""

from __future__ import annotations

import faulthandler
from typing import Any

from ray import tune

from trainables.data import Dataset

#: The worker's log, whatever Python's own object for it is by then.
STANDARD_ERROR = 2


class ClassifierTrainable(tune.Trainable):  # type: ignore[misc]
    """Trains a classifier and reports its epochs, several at a time where they are short.

    The Ray configuration is a request to :class:`trainables.trainer.Trainer`.
    """

    def setup(
        self,
        config: dict[str, Any],
        *,
        dataset: Dataset,
        device: str = "cpu",
        num_threads: int = 1,
        hang_seconds: float | None = None,
    ) -> None:
        """Load the data once per actor; the trial itself starts in its first step, where a failure is its own."""
        # Imported here: the driver only names this class, and torch would cost it a second and half a gigabyte.
        from trainables.trainer import Trainer  # noqa: PLC0415

        self._trainer = Trainer(dataset, device=device, num_threads=num_threads)
        self._hang_seconds = hang_seconds
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial."""
        self._trainer.begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train until something is worth reporting; a step that takes longer than it may ends this process.

        To the study that is a trial that failed, and it is tried again elsewhere. The clock runs in a thread of C, so
        it ends code that never gives Python a turn too, and it leaves the traceback in the worker's log.
        """
        if self._hang_seconds is None:
            return self._trainer.advance()
        faulthandler.dump_traceback_later(self._hang_seconds, exit=True, file=STANDARD_ERROR)
        try:
            return self._trainer.advance()
        finally:
            faulthandler.cancel_dump_traceback_later()
