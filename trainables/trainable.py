"""The Ray adapter: a class of Tune's around a trainer."""

from __future__ import annotations

import faulthandler
import socket
from collections.abc import Mapping
from typing import Any

import ray
from ray import tune

from trainables.data import Dataset
from trainables.environment import OtherEnvironmentError, describe_environment, differences
from trainables.importing import importing

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
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Load the data once per actor; the trial itself starts in its first step, where a failure is its own.

        Args:
            config: The first request.
            dataset: The data.
            device: Where to train.
            num_threads: Of torch's operations.
            hang_seconds: How long a step may take.
            environment: What the driver runs, of ``describe_environment``; on a machine that runs something else every
                trial fails. Not compared by default, as where driver and trials are on one machine.
        """
        self._other = environment and differences(environment, describe_environment())
        if self._other:
            return  # what is imported here may not even exist in another version
        # Imported here: the driver only names this class, and torch would cost it a second and half a gigabyte.
        with importing():
            from trainables.trainer import Trainer  # noqa: PLC0415

        self._trainer = Trainer(dataset, device=device, num_threads=num_threads)
        self._hang_seconds = hang_seconds
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial."""
        if not self._other:
            self._trainer.begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train until something is worth reporting; a step that takes longer than it may ends this process.

        To the study that is a trial that failed, and it is tried again elsewhere. The clock runs in a thread of C, so
        it ends code that never gives Python a turn too, and it leaves the traceback in the worker's log.

        Raises:
            OtherEnvironmentError: If this machine runs other versions or other code than the driver.
        """
        if self._other:
            raise OtherEnvironmentError(
                f"The node {socket.gethostname()} ({_node_id()}) cannot run this study's trials: {self._other}."
            )
        if self._hang_seconds is None:
            return self._advance()
        faulthandler.dump_traceback_later(self._hang_seconds, exit=True, file=STANDARD_ERROR)
        try:
            return self._advance()
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _advance(self) -> dict[str, Any]:
        result = self._trainer.advance()
        return {**result, "node_id": _node_id()} if ray.is_initialized() else result


def _node_id() -> str:
    """Ray's name for this machine, empty outside a cluster."""
    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else ""
