"""Trials as one batched model from their first epoch to their last."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import Tensor

from trainables.config import TrialConfig
from trainables.evaluation import FinalEvaluation, final_evaluation
from trainables.loop import ResidentData, TrainingState
from trainables.replicas import run_replicas_epoch, start_replicas


@dataclass(frozen=True)
class TrainedReplica:
    """A trial that has ended.

    Args:
        state: After its last epoch.
        rows: As :func:`trainables.loop.run_epoch` gives them, up to the last epoch or the one in which it diverged.
        final: Of the test split, its metrics in the last row too; None if it was not looked at.
    """

    state: TrainingState
    rows: list[dict[str, float]]
    final: FinalEvaluation | None


def seeded(config: TrialConfig, seeds: Sequence[int]) -> list[TrialConfig]:
    """The configuration with each of the seeds."""
    return [dataclasses.replace(config, seed=seed) for seed in seeds]


def train_replicas(
    configs: Sequence[TrialConfig],
    data: ResidentData,
    corrupted: dict[str, list[Tensor]] | None = None,
    *,
    graph: bool = False,
) -> list[TrainedReplica]:
    """Train configurations that differ in seed and learning rate alone, each to its end.

    Args:
        configs: One for each replica.
        data: The data, on the device that trains.
        corrupted: What :func:`trainables.evaluation.corrupt_test_images` gives, for the look at the test split that a
            confirm trial ends with; None for none.
        graph: Replay steps from a CUDA graph; without effect on a CPU.

    Returns:
        One for each configuration, in their order.

    Raises:
        InputError: If they cannot be batched or there is none.
    """
    trials = ReplicaTrials(configs, data, graph=graph)
    while not trials.ended:
        trials.run_epoch()
    return [trials.finish(position, corrupted) for position in range(len(configs))]


class ReplicaTrials:
    """Replicas from their first epoch to their last, each with its rows; arguments as of :func:`train_replicas`.

    Args:
        configs: One for each replica.
        data: The data, on the device that trains.
        splits: What :func:`trainables.loop.draw_split` gives for each, if the caller has them already.
        graph: Replay steps from a CUDA graph.
    """

    def __init__(
        self,
        configs: Sequence[TrialConfig],
        data: ResidentData,
        splits: Sequence[tuple[Tensor, Tensor]] | None = None,
        *,
        graph: bool = False,
    ) -> None:
        self._data = data
        self._replicas = start_replicas(configs, data, splits, graph=graph)
        self._rows: list[list[dict[str, float]]] = [[] for _ in configs]
        self._running = set(range(len(configs)))

    @property
    def ended(self) -> bool:
        """Whether every replica has reached its last epoch or diverged."""
        return not self._running

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self._replicas.state.epoch

    @property
    def last_rows(self) -> list[dict[str, float]]:
        """The last row of each."""
        return [rows[-1] for rows in self._rows]

    def run_epoch(self, *, watch: Collection[str] = ()) -> None:
        """Train one more epoch; a replica that has diverged goes on, and no more is kept of it.

        Args:
            watch: As of :func:`trainables.loop.run_epoch`.
        """
        for position, row in enumerate(run_replicas_epoch(self._replicas, self._data, watch=watch)):
            if position not in self._running:
                continue
            self._rows[position].append(row)
            if row["diverged"] or self.epoch == self._replicas.state.config.epochs:
                self._replicas.update_member(position)
                self._running.remove(position)

    def finish(self, position: int, corrupted: dict[str, list[Tensor]] | None) -> TrainedReplica:
        """A replica that has ended; with ``corrupted``, after its one look at the test split, which joins its row."""
        member, rows = self._replicas.members[position], self._rows[position]
        if corrupted is None:
            return TrainedReplica(member, rows, None)
        final = final_evaluation(member, self._data, corrupted, diverged=bool(rows[-1]["diverged"]))
        rows[-1].update(final.metrics)
        return TrainedReplica(member, rows, final)
