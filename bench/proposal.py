"""What the next configuration costs the driver, by how many trials an arm has had: TPE on the space ``full``."""

from __future__ import annotations

import random
import statistics
import time
import warnings
from collections.abc import Iterator

import optuna
from optuna.storages import InMemoryStorage

from bench.measure import Figure, Measurement, Result
from search_spaces.full import STUDY
from study.ledger import COMPLETED, Request, TrialRecord
from study.search import REMEMBERED, ArmSearch

COUNTS = (50, REMEMBERED, 1000)
#: Proposals around each count, of which the median is taken.
NEAR = 20
MAX_GROWTH = 1.3


def measure() -> Result:
    """A thousand proposals, each followed by a result; seconds of the processor, which other work does not stretch."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    seconds = [seconds for _, seconds in zip(range(max(COUNTS)), _proposals(), strict=False)]
    near = {count: statistics.median(seconds[count - NEAR : count]) for count in COUNTS}
    growth = Figure(
        name=f"a proposal at {COUNTS[2]} trials of an arm vs at {COUNTS[1]}",
        ours=near[COUNTS[2]],
        reference=near[COUNTS[1]],
        ratio=near[COUNTS[2]] / near[COUNTS[1]],
        unit="s",
        at_most=MAX_GROWTH,
    )
    figures = [Figure(name=f"a proposal at {count} trials of an arm", ours=near[count], unit="s") for count in COUNTS]
    raw = [Measurement("proposal", number, value, "s") for number, value in enumerate(seconds, 1)]
    return Result([*figures, growth], raw)


def _proposals() -> Iterator[float]:
    arm, generator = STUDY.arm(STUDY.baseline), random.Random(0)
    search = ArmSearch(
        arm.name, arm, InMemoryStorage(), "bench", sampler="tpe", trials=2 * max(COUNTS), seed=0, fixed={"seed": 0}
    )
    while True:
        started = time.process_time()
        number, config = search.ask()
        yield time.process_time() - started
        ended = TrialRecord(Request(arm.name, "search", number, config))
        ended.epoch, ended.val_accuracy, ended.stop_reason = 1, generator.random(), COMPLETED
        search.report(ended)
        search.tell(ended)
