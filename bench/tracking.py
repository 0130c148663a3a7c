"""What tracking takes of the driver, per report of twenty metrics: ours beside Ray's ``MLflowLoggerCallback``.

Both are called as Tune calls a callback, on the same stores, a report every ``PACE`` seconds, so that our writer works
beside the reports as it does in a study. A round is a few trials; the contenders alternate. *Elapsed* is what the
driver waits for a call that tells a report, *processor* what its thread computes in it. Ours writes from a thread of
its own in the same process: that thread's processor time is a figure too, its trials' starts and ends included, and so
is all processor time, in which nothing is hidden.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from ray.air.integrations.mlflow import MLflowLoggerCallback

from analysis.address import is_sqlite
from bench.measure import Figure, Measurement, Result, compare, values_of
from bench.server import serve
from bench.synthetic import METRICS
from study.cluster import prepare_environment
from study.ledger import COMPLETED, SEARCH, Ledger, Request
from study.record import MlflowRecord
from study.tracking import MlflowCallback, connect, start_study_run
from trainables.config import Scalar

ROUNDS = 3
TRIALS = 4
EPOCHS = 25
PACE = 0.02
MAX_MILLISECONDS = 2.0
MIN_TIMES_FASTER = 20.0
#: Nothing listens there.
NOWHERE = "http://127.0.0.1:9"
DATASET = {
    "name": "digits", "sha256": "0" * 64, "num_train": 1000, "num_val": 300, "num_test": 300,
    "input_shape": [1, 8, 8], "num_classes": 10, "class_names": [str(digit) for digit in range(10)],
}  # fmt: skip


@dataclass(frozen=True)
class Told:
    """What a round of reports took.

    Args:
        elapsed: Seconds of each call that told a report.
        processor: Seconds that the driver's thread computed in them, all together.
        beside: Seconds that other threads of the process computed, until everything was on record.
    """

    elapsed: list[float]
    processor: float
    beside: float


@dataclass(frozen=True)
class Contender:
    """A callback for one round.

    Args:
        callback: Tune's.
        config: A request as Tune would hand it to the callback.
        result: An epoch and its metrics as Tune would.
        close: Called when the round is over.
    """

    callback: Any
    config: Callable[[Request], dict[str, Any]]
    result: Callable[[int, dict[str, float]], dict[str, Any]]
    close: Callable[[], object]


@dataclass(eq=False)
class Trial:
    """What a callback sees of a trial."""

    config: dict[str, Any]
    last_result: dict[str, Any]
    error_file: str | None = None

    def __str__(self) -> str:
        """As Ray's callback names a run."""
        return "trial"


NUMBERS = itertools.count()


def measure(rounds: int = ROUNDS) -> Result:
    """Both callbacks on SQLite and on a server of its own, and ours where no server answers."""
    prepare_environment(alone=True)  # as a study does: MLflow's client prints no line for every run
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serve(folder, f"sqlite:///{folder / 'served.db'}", folder / "served") as (server, _):
            stores = {"SQLite": f"sqlite:///{folder / 'mlflow.db'}", "server": server}
            contenders: dict[str, Callable[[], Contender]] = {"ours, no answer": partial(ours_unheard, folder)}
            for store, uri in stores.items():
                contenders[f"ours, {store}"] = partial(ours, uri, folder)
                contenders[f"Ray's, {store}"] = partial(rays, uri)
            measurements = take_turns(contenders, rounds)
    figures = []
    for store in (*stores, "no answer"):
        for quantity in ("elapsed", "processor", "slowest call", "writer's processor"):
            figure_name = f"ours, {store}: {quantity}"
            median = statistics.median(values_of(measurements, figure_name))
            bound = MAX_MILLISECONDS if quantity in ("elapsed", "processor") else None
            figures.append(Figure(name=figure_name, ours=median, unit="ms", at_most=bound))
    for store, quantity in itertools.product(stores, ("elapsed", "processor", "all processor")):
        names = f"ours, {store}: {quantity}", f"Ray's, {store}: {quantity}"
        figures.append(compare(measurements, names[0], [names[1]], at_least=MIN_TIMES_FASTER))
    return Result(figures, measurements)


def take_turns(contenders: Mapping[str, Callable[[], Contender]], rounds: int, **how: Any) -> list[Measurement]:
    """A round that does not count, then ``rounds``, every other one backwards; milliseconds per report.

    Args:
        contenders: name -> what makes it for a round.
        rounds: How many count.
        how: For :func:`tell`.
    """
    measurements = []
    for number in range(rounds + 1):
        names = list(contenders)
        for name in names if number % 2 else reversed(names):
            told = tell(contenders[name](), **how)
            reports = len(told.elapsed)
            values = {
                "elapsed": sum(told.elapsed) / reports,
                "processor": told.processor / reports,
                "slowest call": max(told.elapsed),
                "writer's processor": told.beside / reports,
                "all processor": (told.processor + told.beside) / reports,
            }
            if number > 0:
                measurements += [Measurement(f"{name}: {what}", number, 1e3 * s, "ms") for what, s in values.items()]
    return measurements


def tell(contender: Contender, *, epochs: int = EPOCHS, pace: float = PACE) -> Told:
    """A few trials side by side, an epoch a report."""
    process, thread = time.process_time(), time.thread_time()
    callback, processor, elapsed = contender.callback, 0.0, []
    trials = [Trial(contender.config(a_request(number, epochs)), {}) for number in range(TRIALS)]
    for trial in trials:
        callback.on_trial_start(0, trials, trial)
    for epoch, trial in itertools.product(range(1, epochs + 1), trials):
        metrics = {metric: place / epoch for place, metric in enumerate(METRICS, 1)}
        trial.last_result = contender.result(epoch, metrics)
        computed, begun = time.thread_time(), time.perf_counter()
        callback.on_trial_result(epoch, trials, trial, trial.last_result)
        elapsed.append(time.perf_counter() - begun)
        processor += time.thread_time() - computed
        time.sleep(pace)
    for trial in trials:
        callback.on_trial_complete(epochs, trials, trial)
    contender.close()
    return Told(elapsed, processor, time.process_time() - process - (time.thread_time() - thread))


def a_request(number: int, epochs: int) -> Request:
    """A trial with as many parameters as one of the space ``full``."""
    config: dict[str, Scalar] = {
        "loss": "cross_entropy", "model": "mlp", "hidden_layers": 2, "width": 128, "activation": "relu",
        "optimizer": "sgd", "optimizer.learning_rate": 0.01 * (number + 1), "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 1e-4, "batch_size": 128, "epochs": epochs, "seed": 0,
    }  # fmt: skip
    return Request("cross_entropy", SEARCH, number, config)


def ours(uri: str, folder: Path) -> Contender:
    """A study's run of its own, and the record that writes to it."""
    name = f"ours-{next(NUMBERS)}"
    client, experiment_id = connect(uri, name, (folder / "artifacts").as_uri() if is_sqlite(uri) else None)
    parent = start_study_run(client, experiment_id, name, {"study": name, "phase": "study"}, {"dataset": DATASET})
    lossy = not is_sqlite(uri)
    return _ours(MlflowRecord(client, experiment_id, parent, {"study": name}, DATASET, answers_get_lost=lossy))


def ours_unheard(folder: Path) -> Contender:
    """The same where nothing listens: what is told waits, and is left in the folder at the end."""
    record = MlflowRecord(MlflowClient(NOWHERE), "1", "0", {"study": "unheard"}, DATASET, folder=folder)
    return _ours(record, patience_seconds=0.0)


def _ours(record: MlflowRecord, **how: float) -> Contender:
    ledger = Ledger()

    def config(request: Request) -> dict[str, Any]:
        ledger.open(request).stop_reason = COMPLETED  # as it will have by its end
        return {"key": request.key, "config": dict(request.config)}

    return Contender(
        MlflowCallback(record, ledger),
        config,
        result=lambda epoch, metrics: {"rows": [(epoch, metrics)], "node": "here"},
        close=lambda: record.close(**how),
    )


def rays(uri: str) -> Contender:
    """Ray's callback with an experiment of its own."""
    callback = MLflowLoggerCallback(tracking_uri=uri, experiment_name=f"rays-{next(NUMBERS)}")
    callback.setup()
    return Contender(
        callback,
        config=lambda request: dict(request.config),
        result=lambda epoch, metrics: {**metrics, "training_iteration": epoch},
        close=lambda: None,
    )
