"""The seeds of one configuration: a process per trial, as a study runs them, against one batched model; on this CPU.

Contenders train the same seeds; that they did the same work is checked on their records (:func:`check_same_work`), not
assumed. Here a trial is its epochs alone. ``bench.gpu`` measures the same on a CUDA card, there with the look at the
test split that a trial of a confirmation ends with.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from bench.measure import Figure, Measurement, Result, alternate, compare, values_of
from trainables import memory
from trainables.config import Scalar, TrialConfig
from trainables.data import Dataset, load_dataset
from trainables.evaluation import corrupt_test_images
from trainables.loop import load_resident
from trainables.replica_trials import seeded, train_replicas
from trainables.trainer import Trainer

SGD: Mapping[str, Scalar] = {
    "loss": "cross_entropy",
    "optimizer": "sgd",
    "optimizer.learning_rate": 0.01,
    "optimizer.momentum": 0.9,
}
MODELS: Mapping[str, Mapping[str, Scalar]] = {
    "MLP": {**SGD, "model": "mlp", "hidden_layers": 1, "width": 128},
    "ConvNet": {**SGD, "model": "convnet", "width": 8},
}
ROUNDS = 3
#: Of the training images, and how often a trial sees them: a CPU takes long enough.
CPU_IMAGES, CPU_EPOCHS = 3_000, 2
CPU_REPLICAS = 10

#: What two ways of training a seed may differ by. The first epoch's NLL, relatively: what is summed in another order
#: (and convolved in TF32 on some cards) differs by less. The last epoch's accuracy, absolutely: by then the weights
#: have gone ways of their own, as those of two runs on one card may.
FIRST_NLL_TOLERANCE, LAST_ACCURACY_TOLERANCE = 0.03, 0.03

#: A trial's rows.
Rows = list[dict[str, float]]


@dataclass
class Contender:
    """A way to train trials.

    Args:
        seeds: Of the trials it trains.
        run: Trains them: each seed's rows, and the peak bytes of GPU memory, 0 without one.
        rows: What the last run gave.
        peak_bytes: Likewise.
    """

    seeds: Sequence[int]
    run: Callable[[Sequence[int]], tuple[Mapping[int, Rows], int]]
    rows: Mapping[int, Rows] = field(default_factory=dict)
    peak_bytes: int = 0

    def __call__(self) -> None:
        """Train, and keep what came of it."""
        self.rows, self.peak_bytes = self.run(self.seeds)


def measure() -> Result:
    """Ten seeds of each model at batch 32, one thread, one process beside one batched model."""
    torch.set_num_threads(1)
    figures, measurements = [], []
    for name, model in MODELS.items():
        config = TrialConfig.from_flat({**model, "batch_size": 32, "epochs": CPU_EPOCHS})
        data = {"name": "fashion-mnist", "train_size": CPU_IMAGES}
        sizes: Any = {"processes": [1], "replicas": [CPU_REPLICAS], "trials": CPU_REPLICAS}
        with contenders(config, data, **sizes, phase="search") as compared:
            measured = measure_contenders(f"{name}, batch 32", compared, rounds=ROUNDS)
        measurements += measured
        alone, together = (f"{name}, batch 32: {contender}" for contender in compared)
        figures.append(compare(measured, together, [alone]))
    return Result(figures, measurements)


@contextlib.contextmanager
def contenders(
    config: TrialConfig,
    data: Mapping[str, Any],
    *,
    processes: Sequence[int],
    replicas: Sequence[int],
    trials: int,
    device: str = "cpu",
    phase: str = "confirm",
    graphs: bool = False,
) -> Iterator[dict[str, Contender]]:
    """The ways to train seeds of a configuration, while their processes live.

    Args:
        config: What is trained.
        data: Arguments of ``load_dataset``: a process loads its own.
        processes: How many processes at once, each with one trial at a time; reused, as a study's actors are.
        replicas: How many seeds as one model.
        trials: How many each number of processes trains.
        device: Where.
        phase: ``confirm`` for trials that end with the look at the test split, ``search`` for others.
        graphs: Whether to replay CUDA graphs too.
    """
    with contextlib.ExitStack() as stack:
        context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
        pools = [
            stack.enter_context(ProcessPoolExecutor(1, context, _start_worker, (data, device, phase)))
            for _ in range(max(processes))
        ]
        compared = {
            f"{count} process{'es' * (count > 1)}": Contender(range(trials), _in_processes(config, pools[:count]))
            for count in processes
        }
        in_one = _as_one_model(config, load_dataset(**data), device, phase)
        for count in replicas:
            for graph in (False, True) if graphs else (False,):
                compared[f"{count} replicas{', graph' * graph}"] = Contender(range(count), in_one(graph))
        yield compared


def measure_contenders(name: str, compared: Mapping[str, Contender], *, rounds: int) -> list[Measurement]:
    """Seconds per trial of each contender and round; its name begins with what is trained.

    Raises:
        RuntimeError: If they did not do the same work.
    """
    measured = alternate(compared, rounds=rounds)
    check_same_work({contender: one.rows for contender, one in compared.items()})
    return [
        replace(
            item,
            contender=f"{name}: {item.contender}",
            value=item.value / len(compared[item.contender].seeds),
            unit="s/trial",
        )
        for item in measured
    ]


def check_same_work(rows: Mapping[str, Mapping[int, Rows]]) -> None:
    """Compare what contenders recorded of the seeds that they share with the first of them.

    Args:
        rows: contender -> seed -> the trial's rows.

    Raises:
        RuntimeError: If a trial has other epochs, or its first epoch's NLL or its last epoch's accuracy lies further
            from the first contender's than rounding explains.
    """
    first, *others = rows
    for other in others:
        for seed in rows[first].keys() & rows[other].keys():
            ours, theirs = rows[other][seed], rows[first][seed]
            same = (
                len(ours) == len(theirs)
                and set(ours[-1]) == set(theirs[-1])
                and math.isclose(ours[0]["train_nll"], theirs[0]["train_nll"], rel_tol=FIRST_NLL_TOLERANCE)
                and math.isclose(ours[-1]["val_accuracy"], theirs[-1]["val_accuracy"], abs_tol=LAST_ACCURACY_TOLERANCE)
            )
            if not same:
                raise RuntimeError(f"{other!r} and {first!r} did other work with the seed {seed}: {ours}, {theirs}")


def _in_processes(
    config: TrialConfig, pools: Sequence[ProcessPoolExecutor]
) -> Callable[[Sequence[int]], tuple[Mapping[int, Rows], int]]:
    def run(seeds: Sequence[int]) -> tuple[Mapping[int, Rows], int]:
        flat = config.to_flat()
        shares = [seeds[position :: len(pools)] for position in range(len(pools))]
        futures = [pool.submit(_train_alone, flat, share) for pool, share in zip(pools, shares, strict=True)]
        rows: dict[int, Rows] = {}
        peak_bytes = 0
        for future in futures:
            own, bytes_of_one = future.result()
            rows |= own
            peak_bytes += bytes_of_one
        return rows, peak_bytes

    return run


# Of a worker's process.
_trainer: Trainer
_phase: str


def _start_worker(data: Mapping[str, Any], device: str, phase: str) -> None:
    global _trainer, _phase  # noqa: PLW0603 - a process pool has no other place for what its processes keep
    _phase = phase
    _trainer = Trainer(load_dataset(**data), device=device, num_threads=1)


def _train_alone(flat: Mapping[str, Scalar], seeds: Sequence[int]) -> tuple[dict[int, Rows], int]:
    """One trial after another, as an actor of a study trains them."""
    rows: dict[int, Rows] = {}
    peak_bytes = 0
    for seed in seeds:
        _trainer.begin({"config": {**flat, "seed": seed}, "phase": _phase, "rungs": [], "model_path": None})
        rows[seed] = []
        result: dict[str, Any] = {"done": False}
        while not result["done"]:
            result = _trainer.advance()
            rows[seed] += [row for _, row in result["rows"]]
        peak_bytes = max(peak_bytes, result.get("gpu_peak_bytes", 0))
    return rows, peak_bytes


def _as_one_model(
    config: TrialConfig, dataset: Dataset, device: str, phase: str
) -> Callable[[bool], Callable[[Sequence[int]], tuple[Mapping[int, Rows], int]]]:
    place = torch.device(device)
    data = load_resident(dataset, place)
    corrupted = corrupt_test_images(data) if phase == "confirm" else None

    def with_graph(graph: bool) -> Callable[[Sequence[int]], tuple[Mapping[int, Rows], int]]:
        def run(seeds: Sequence[int]) -> tuple[Mapping[int, Rows], int]:
            memory.forget_peak(place)
            trained = train_replicas(seeded(config, seeds), data, corrupted, graph=graph)
            rows = {seed: replica.rows for seed, replica in zip(seeds, trained, strict=True)}
            return rows, memory.gpu_memory(place).get("gpu_peak_bytes", 0)

        return run

    return with_graph


def rate(name: str, measured: Sequence[Measurement]) -> Figure:
    """A contender's trials per hour: the median of its rounds."""
    values = sorted(3600 / seconds for seconds in values_of(measured, name))
    return Figure(name=name, ours=values[len(values) // 2], unit="/h")
