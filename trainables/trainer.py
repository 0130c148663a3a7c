"""Trains one trial after another in one process, each exactly as a fresh process would."""

from __future__ import annotations

import math
import os
import random
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables.config import LOOKS, InputError, TrialConfig
from trainables.data import Dataset
from trainables.evaluation import corrupt_test_images, final_evaluation
from trainables.loop import (
    ResidentData,
    TrainingState,
    draw_split,
    load_resident,
    run_epoch,
    start_training,
    switch_optimizer,
)

CHECKPOINT_FILE = "trial.pt"
REPORT_SECONDS = 0.3


class Trainer:
    """Holds the data once and trains what it is asked to, one trial at a time.

    A request holds ``config`` (a flat ``TrialConfig``), ``phase`` (``search``, ``confirm`` or ``control``), ``rungs``
    (epochs that must be reported as they end), ``model_path`` (where a confirm trial leaves its weights, or None), and
    possibly ``watch`` (which of ``config.LOOKS`` to take after each epoch; none if it is left out).

    Args:
        dataset: The data.
        device: Where to train.
        num_threads: Of torch's operations; bit-identity needs 1.
    """

    def __init__(self, dataset: Dataset, *, device: str = "cpu", num_threads: int = 1) -> None:
        torch.set_num_threads(num_threads)
        self._dataset = dataset
        self._device = torch.device(device)
        self._data: ResidentData | None = None
        self._splits: dict[tuple[int, float], tuple[Tensor, Tensor]] = {}
        self._corrupted: dict[str, list[Tensor]] | None = None

    def begin(self, request: dict[str, Any]) -> None:
        """Forget the last trial; nothing of it may reach the next. The new one starts when it is advanced."""
        self._request = request
        self._state: TrainingState | None = None
        self._seconds = 0.0

    def advance(self) -> dict[str, Any]:
        """Train until something is worth reporting: a rung of the scheduler, a share of a second, or the end.

        A trial's epochs can be far shorter than the driver's handling of a report, so they travel together;
        what the scheduler decides on, it sees at exactly the epochs it asked for.
        """
        state = self._state or self._start()
        started = time.monotonic()
        rows: list[tuple[int, dict[str, float]]] = []
        result: dict[str, Any] = {}
        while not rows or not (result["done"] or self._at_rung() or time.monotonic() - started > REPORT_SECONDS):
            row = run_epoch(state, self._resident(), watch=self._looks(state))
            self._seconds += row["epoch_seconds"]
            rows.append((state.epoch, row))
            # ASHA never stops a NaN, so a diverged trial must end itself.
            result["done"] = bool(row["diverged"]) or state.epoch >= state.config.epochs
        if result["done"] and self._request["phase"] != "search":
            result["final"] = self._finish(row)
        result |= {"epoch": state.epoch, "schedule_percent": 100.0 * state.epoch / state.config.epochs, "rows": rows}
        result |= {"val_accuracy": row["val_accuracy"], "val_nll": row.get("val_nll", math.inf)}
        result |= {"diverged": row["diverged"], "trial_seconds": self._seconds, "node": socket.gethostname()}
        return result

    def save(self, folder: Path) -> None:
        """Everything the next epoch depends on, readable with ``weights_only=True``."""
        state = self._state or self._start()
        content = {
            "config": state.config.to_flat(),
            "epoch": state.epoch,
            "seconds": self._seconds,
            "model": state.model.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "schedule": state.schedule.state_dict(),
            "order": state.order.get_state(),
            "augmentation": state.augmentation.get_state(),
            "global_generators": _global_generators(self._device),
        }
        target = folder / CHECKPOINT_FILE
        temporary = target.with_name(f"{target.name}.{os.getpid()}")
        torch.save(content, temporary)
        temporary.replace(target)

    def restore(self, folder: Path) -> None:
        """Go on exactly where ``save`` was called."""
        content = torch.load(folder / CHECKPOINT_FILE, weights_only=True)
        state = self._start()
        if content["config"] != state.config.to_flat():
            raise ValueError(f"The checkpoint in {folder} belongs to another configuration.")
        state.epoch = content["epoch"]
        if 0 < state.config.switch_epoch < state.epoch:
            switch_optimizer(state)
        self._seconds = content["seconds"]
        state.model.load_state_dict(content["model"])
        state.optimizer.load_state_dict(content["optimizer"])
        state.schedule.load_state_dict(content["schedule"])
        state.order.set_state(content["order"])
        state.augmentation.set_state(content["augmentation"])
        _restore_global_generators(content["global_generators"], self._device)

    def _start(self) -> TrainingState:
        config = TrialConfig.from_flat(self._request["config"])
        unknown = [look for look in self._request.get("watch", ()) if look not in LOOKS]
        if unknown:
            raise InputError(f"`watch` takes {', '.join(LOOKS)}; got {unknown[0]!r}.")
        random.seed(config.seed)  # a user's own part may use any of the global generators
        np.random.seed(config.seed % 2**32)  # noqa: NPY002 - likewise
        data = self._resident()
        key = config.seed, config.imbalance
        if key not in self._splits:
            self._splits[key] = draw_split(data.labels, *key)
        self._state = start_training(config, data, self._splits[key])
        return self._state

    def _looks(self, state: TrainingState) -> list[str]:
        """What to watch in the coming epoch; the last one of a confirm trial is looked at by the final evaluation."""
        final = self._request["phase"] != "search" and state.epoch + 1 == state.config.epochs
        return [look for look in self._request.get("watch", ()) if not (final and look == "test")]

    def _resident(self) -> ResidentData:
        if self._data is None:
            self._data = load_resident(self._dataset, self._device)
        return self._data

    def _at_rung(self) -> bool:
        state = self._state
        return state is not None and state.epoch in self._request["rungs"]

    def _finish(self, row: dict[str, float]) -> dict[str, Any]:
        """The one look at the test split: its metrics join the last row, the rest is returned."""
        state = self._state or self._start()
        if self._corrupted is None:
            self._corrupted = corrupt_test_images(self._resident())
        final = final_evaluation(state, self._resident(), self._corrupted, diverged=bool(row["diverged"]))
        row.update(final.metrics)
        self._save_weights(state)
        return {**final.record, "class_names": list(self._dataset.class_names)}

    def _save_weights(self, state: TrainingState) -> None:
        path = self._request.get("model_path")
        if path is None:
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{target.name}.{os.getpid()}")
        torch.save({key: value.cpu() for key, value in state.model.state_dict().items()}, temporary)
        temporary.replace(target)


def _global_generators(device: torch.device) -> dict[str, Any]:
    """States of the generators that dropout or a user's own part draws from, in types that a safe load accepts."""
    numpy_state: Any = np.random.get_state()  # noqa: NPY002 - the global one is meant
    kind, words, *position = numpy_state
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": (kind, words.tolist(), *position),
        "python": random.getstate(),
    }


def _restore_global_generators(states: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"], device)
    np.random.set_state(states["numpy"])  # noqa: NPY002 - likewise
    random.setstate(states["python"])
