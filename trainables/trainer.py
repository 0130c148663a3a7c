"""Trains one trial after another in one process, each exactly as a fresh process would."""

from __future__ import annotations

import io
import logging
import math
import random
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainables import memory
from trainables.checkpoint import read_checkpoint, replace_file, write_checkpoint
from trainables.checks import one_line
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
from trainables.replica_trials import ReplicaTrials

#: A trial waits some ten milliseconds for what the driver says to a report.
REPORT_SECONDS = 1.0
#: Seconds of training that a second of saving must be worth: saving costs a trial 2% at most.
TRAINING_PER_SAVING = 50
#: What saving is thought to take until it was tried.
FIRST_SAVING_SECONDS = 0.005

_log = logging.getLogger(__name__)


class Trainer:
    """Holds the data once and trains what it is asked to, one trial at a time.

    A request holds ``config`` (a flat ``TrialConfig``), ``phase`` (``search``, ``confirm`` or ``control``), ``rungs``
    (epochs that must be reported as they end), ``model_path`` (where a confirm trial leaves its weights, or None), and
    possibly ``key`` (names the trial for good), ``watch`` (which of ``config.LOOKS`` to take after each epoch; none if
    it is left out) and ``checkpoint`` (the trial's own file, from which it goes on after a crash; none if it is left
    out). Files are given by their path or by their address in a bucket.

    A request with ``members`` is one for several trials, which are trained as one model
    (``trainables.replica_trials``): each member holds the ``config``, ``phase``, ``watch`` and ``model_path`` of its
    own. Nothing is saved on the way.

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
        self._saving_seconds = FIRST_SAVING_SECONDS
        self._warned = False

    def begin(self, request: dict[str, Any]) -> None:
        """Forget the last trial; nothing of it may reach the next. The new one starts when it is advanced."""
        self._request = request
        self._state: TrainingState | None = None
        self._together: ReplicaTrials | None = None
        self._rows: list[tuple[int, dict[str, float]]] = []
        self._seconds = self._saved_seconds = 0.0
        memory.forget_peak(self._device)

    def advance(self) -> dict[str, Any]:
        """Train until something is worth reporting: a rung of the scheduler, a share of a second, or the end.

        A trial's epochs can be far shorter than the driver's handling of a report, so they travel together;
        what the scheduler decides on, it sees at exactly the epochs it asked for. A trial that goes on from its
        checkpoint first reports all epochs until then at once, since the one who heard of them may be gone. Of trials
        that are trained as one, nothing is told until the last has ended: begun anew in other company, none would be
        the same to the bit.

        Returns:
            What the last epoch says, and ``rows`` (epoch and metrics of each epoch), ``final`` after a confirm trial's
            last epoch, and ``notice`` (a sentence) in the first result of a trial that found a checkpoint, good or not;
            on a GPU also what ``memory.gpu_memory`` says. Of several trials ``members``, what each says, with its
            ``key``; empty until they have ended.

        Raises:
            GpuMemoryError: If the GPU has too little memory left.
        """
        with memory.out_of_memory_told():
            advanced = self._advance_together() if "members" in self._request else self._advance()
            return advanced | memory.gpu_memory(self._device)

    def _advance(self) -> dict[str, Any]:
        notice = ""
        rows: list[tuple[int, dict[str, float]]] = []
        state = self._state
        if state is None:
            state, notice = self._start_or_go_on()
            rows = [*self._rows]
        rows = rows or self._train(state)
        _, row = rows[-1]
        result: dict[str, Any] = {"notice": notice} if notice else {}
        result["done"] = _is_last(state, row)
        if result["done"] and self._request["phase"] != "search":
            result["final"] = self._finish(state, row)
        result |= {"epoch": state.epoch, "schedule_percent": 100.0 * state.epoch / state.config.epochs}
        return result | _told(rows, self._seconds) | {"node": socket.gethostname()}

    def _advance_together(self) -> dict[str, Any]:
        members = self._request["members"]
        configs = [TrialConfig.from_flat(member["config"]) for member in members]
        if self._together is None:
            splits = [self._split(config) for config in configs]
            self._together = ReplicaTrials(configs, self._resident(), splits, graph=True)
        trials, started = self._together, time.monotonic()
        while not trials.ended:
            trials.run_epoch(watch=_looks(members[0], trials.epoch + 1 == configs[0].epochs))
            if time.monotonic() - started > REPORT_SECONDS:
                break
        self._seconds += time.monotonic() - started
        result = {"done": trials.ended, "epoch": trials.epoch, "trial_seconds": self._seconds}
        result["schedule_percent"] = 100.0 * trials.epoch / configs[0].epochs
        result["val_accuracy"] = max(row["val_accuracy"] for row in trials.last_rows)
        told = [self._finish_member(trials, place, one) for place, one in enumerate(members)] if trials.ended else []
        return result | {"members": told, "node": socket.gethostname()}

    def _finish_member(self, trials: ReplicaTrials, place: int, member: dict[str, Any]) -> dict[str, Any]:
        """What a trial of its own says in the end, all its rows at once."""
        looked_at = member["phase"] != "search"
        replica = trials.finish(place, self._corrupted_images() if looked_at else None)
        result: dict[str, Any] = {"key": member["key"], "done": True, "epoch": replica.state.epoch}
        if replica.final is not None:
            result["final"] = {**replica.final.record, "class_names": list(self._dataset.class_names)}
            _save_weights(replica.state, member.get("model_path"))
        for row in replica.rows:  # a share of what all took is no time of its own
            row["shared_seconds"] = row.pop("epoch_seconds")
        rows = list(enumerate(replica.rows, start=1))
        return result | _told(rows, sum(row["shared_seconds"] for row in replica.rows))

    def _train(self, state: TrainingState) -> list[tuple[int, dict[str, float]]]:
        started = time.monotonic()
        rows: list[tuple[int, dict[str, float]]] = []
        while not rows or not (
            _is_last(state, rows[-1][1])
            or state.epoch in self._request["rungs"]
            or time.monotonic() - started > REPORT_SECONDS
        ):
            row = run_epoch(
                state, self._resident(), watch=_looks(self._request, state.epoch + 1 == state.config.epochs)
            )
            self._seconds += row["epoch_seconds"]
            rows.append((state.epoch, row))
        self._rows += rows
        self._save(state)
        return rows

    def _save(self, state: TrainingState) -> None:
        """Save if the training since the last time is worth it; that it cannot be saved does not end a trial."""
        path = self._request.get("checkpoint")
        if path is None or self._seconds - self._saved_seconds < TRAINING_PER_SAVING * self._saving_seconds:
            return
        started = time.monotonic()
        try:
            write_checkpoint(path, self._content(state))
        except Exception as error:  # noqa: BLE001 - a full disk, or a part of the user's that cannot be saved
            if not self._warned:
                _log.warning("Trials go on without being saved: %s", one_line(error))
            self._warned = True
        self._saving_seconds = time.monotonic() - started
        self._saved_seconds = self._seconds

    def _content(self, state: TrainingState) -> dict[str, Any]:
        """Everything the next epoch depends on, and everything told so far, in types that a safe load accepts."""
        return {
            "trial": self._trial(state),
            "epoch": state.epoch,
            "seconds": self._seconds,
            "rows": self._rows,
            "model": state.model.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "schedule": state.schedule.state_dict(),
            "order": state.order.get_state(),
            "augmentation": state.augmentation.get_state(),
            "global_generators": _global_generators(self._device),
        }

    def _trial(self, state: TrainingState) -> dict[str, Any]:
        """Whose the checkpoint is: everything that decides what its rows are."""
        weights = state.model.state_dict().items()
        return {
            "key": self._request.get("key"),
            "phase": self._request["phase"],
            "watch": list(self._request.get("watch", ())),
            "config": state.config.to_flat(),
            "data": self._dataset.sha256,
            "device": self._device.type,
            "torch": str(torch.__version__),
            "model": {name: [str(value.dtype), *value.shape] for name, value in weights if isinstance(value, Tensor)},
        }

    def _start_or_go_on(self) -> tuple[TrainingState, str]:
        """The trial at its first epoch or where its checkpoint has it, and what there is to say about that."""
        state = self._start()
        path = self._request.get("checkpoint")
        if path is None:
            return state, ""
        content, notice = read_checkpoint(path, self._trial(state))
        if content is None:
            return state, notice
        try:
            self._restore(state, content)
        except Exception as error:  # noqa: BLE001 - a part of the user's may be another by now
            reason = f"The checkpoint {Path(path).name} does not fit ({one_line(error)})"
            return self._start(), f"{notice} {reason}; the trial starts from scratch.".strip()
        return state, f"{notice} The trial went on from its checkpoint, after epoch {state.epoch}.".strip()

    def _restore(self, state: TrainingState, content: dict[str, Any]) -> None:
        rows, seconds = list(content["rows"]), float(content["seconds"])
        state.epoch = content["epoch"]
        if 0 < state.config.switch_epoch < state.epoch:
            switch_optimizer(state)
        state.model.load_state_dict(content["model"])
        state.optimizer.load_state_dict(content["optimizer"])
        state.schedule.load_state_dict(content["schedule"])
        state.order.set_state(content["order"])
        state.augmentation.set_state(content["augmentation"])
        _restore_global_generators(content["global_generators"], self._device)
        self._rows = rows
        self._seconds = self._saved_seconds = seconds

    def _start(self) -> TrainingState:
        config = TrialConfig.from_flat(self._request["config"])
        random.seed(config.seed)  # a user's own part may use any of the global generators
        np.random.seed(config.seed % 2**32)  # noqa: NPY002 - likewise
        self._state = start_training(config, self._resident(), self._split(config))
        return self._state

    def _split(self, config: TrialConfig) -> tuple[Tensor, Tensor]:
        key = config.seed, config.imbalance
        if key not in self._splits:
            self._splits[key] = draw_split(self._resident().labels, *key)
        return self._splits[key]

    def _resident(self) -> ResidentData:
        if self._data is None:
            self._data = load_resident(self._dataset, self._device)
        return self._data

    def _finish(self, state: TrainingState, row: dict[str, float]) -> dict[str, Any]:
        """The one look at the test split: its metrics join the last row, the rest is returned."""
        final = final_evaluation(state, self._resident(), self._corrupted_images(), diverged=bool(row["diverged"]))
        row.update(final.metrics)
        _save_weights(state, self._request.get("model_path"))
        return {**final.record, "class_names": list(self._dataset.class_names)}

    def _corrupted_images(self) -> dict[str, list[Tensor]]:
        if self._corrupted is None:
            self._corrupted = corrupt_test_images(self._resident())
        return self._corrupted


def _told(rows: list[tuple[int, dict[str, float]]], seconds: float) -> dict[str, Any]:
    """What a trial says of epochs that have ended, the last one first of all."""
    _, row = rows[-1]
    said = {"rows": rows, "val_accuracy": row["val_accuracy"], "val_nll": row.get("val_nll", math.inf)}
    return said | {"diverged": row["diverged"], "trial_seconds": seconds}


def _looks(request: dict[str, Any], last: bool) -> list[str]:
    """What to watch in the coming epoch; the last one of a confirm trial is looked at by the final evaluation."""
    unknown = [look for look in request.get("watch", ()) if look not in LOOKS]
    if unknown:
        raise InputError(f"`watch` takes {', '.join(LOOKS)}; got {unknown[0]!r}.")
    final = request["phase"] != "search" and last
    return [look for look in request.get("watch", ()) if not (final and look == "test")]


def _save_weights(state: TrainingState, path: str | None) -> None:
    if path is None:
        return
    buffer = io.BytesIO()
    torch.save({key: value.cpu() for key, value in state.model.state_dict().items()}, buffer)
    replace_file(path, buffer.getbuffer())


def _is_last(state: TrainingState, row: dict[str, float]) -> bool:
    # ASHA never stops a NaN, so a diverged trial must end itself.
    return bool(row["diverged"]) or state.epoch >= state.config.epochs


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
