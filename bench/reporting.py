"""Trials that only report: what a driver costs is seen where nothing trains.

The curves are those of :func:`bench.synthetic.draw_histories`: twenty metrics an epoch, drawn from the trial's arm,
learning rate and seed, the same wherever the trial runs.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

import ray
from ray import tune

from bench.synthetic import LAST, Trial, draw_histories, final_record


class Reporter:
    """What :class:`trainables.trainer.Trainer` is to a request, without training: an epoch a report, at once."""

    def begin(self, request: Mapping[str, Any]) -> None:
        """Draw the trial's curves; they are not the driver's work."""
        config = request["config"]
        rate = float(config["optimizer.learning_rate"])
        trial = Trial(request["arm"], request["phase"], int(request["number"]), int(config["seed"]), rate)
        self._histories = draw_histories(trial)
        self._request, self._epochs, self._epoch, self._seconds = request, int(config["epochs"]), 0, 0.0

    def advance(self) -> dict[str, Any]:
        """The next epoch, in the form in which a trainer reports it."""
        self._epoch += 1
        row = {metric: float(values[self._epoch - 1]) for metric, values in self._histories.items()}
        row["diverged"] = 0.0
        self._seconds += row["epoch_seconds"]
        result: dict[str, Any] = {"done": self._epoch == self._epochs}
        if result["done"] and self._request["phase"] != "search":
            row |= dict.fromkeys(LAST, row["val_accuracy"])
            result["final"] = final_record(row["val_accuracy"])
        return result | {
            "epoch": self._epoch,
            "schedule_percent": 100.0 * self._epoch / self._epochs,
            "rows": [(self._epoch, row)],
            "val_accuracy": row["val_accuracy"],
            "val_nll": row["val_nll"],
            "diverged": row["diverged"],
            "trial_seconds": self._seconds,
            "node": socket.gethostname(),
        }


class ReportingTrainable(tune.Trainable):  # type: ignore[misc]
    """In the place of :class:`trainables.trainable.ClassifierTrainable`; it takes the same arguments and no notice."""

    def setup(self, config: dict[str, Any], **_: Any) -> None:
        self._reporter = Reporter()
        self._node = str(ray.get_runtime_context().get_node_id())
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._reporter.begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        return {**self._reporter.advance(), "node_id": self._node}
