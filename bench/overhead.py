"""What a trial costs beside its training, from the record of a real study of 200 short trials.

All search trials from the 101st started on are looked at: start-up is over, and what grows with the number of trials
has grown. With ``slots`` trials running at once,

    overhead = (last end - first start) * slots / trials - mean training seconds

where a trial's training seconds are the sum of its ``epoch_seconds`` (validation and metrics are part of an epoch). So
the proposal of a configuration, the hand-over to an actor, building the model, reports, Optuna, MLflow and every
moment in which a slot waits count as overhead. As the driver and the slots share the cores, a busy driver also
stretches the epochs, which this difference does not show; the slot seconds per trial, overhead and training together,
are therefore printed beside it.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.measure import Figure, Measurement, Result
from bench.studies import launch

SPACE = Path(__file__).parent / "spaces" / "short_trials.py"
WARM_UP_TRIALS = 100
SLOTS = min(2, os.cpu_count() or 1)
MAX_SECONDS = 0.1


@dataclass(frozen=True)
class TrialCost:
    """Seconds per trial.

    Args:
        slot_seconds: For how long a trial has a slot to itself.
        training_seconds: For how long of that it trains.
    """

    slot_seconds: float
    training_seconds: float

    @property
    def overhead_seconds(self) -> float:
        """The rest."""
        return self.slot_seconds - self.training_seconds


def measure() -> Result:
    """One study; its trials are the repetitions."""
    with tempfile.TemporaryDirectory() as folder:
        flags = ("--space", str(SPACE), "--stopping", "none", "--max-concurrent", str(SLOTS), "--quiet")
        record = launch(Path(folder), *flags).record(["epoch_seconds"])
    training = record.epochs.groupby("run_id")["epoch_seconds"].sum().rename("training_seconds")
    search = record.trials[record.trials["phase"] == "search"]
    unfinished = search[search["stop_reason"] != "completed"]
    if len(unfinished):
        raise RuntimeError(f"{len(unfinished)} of {len(search)} trials were not completed; the figures would mislead.")
    trials = search.merge(training, left_on="run_id", right_index=True)
    late, every = trial_cost(trials, slots=SLOTS, skip=WARM_UP_TRIALS), trial_cost(trials, slots=SLOTS)
    return Result(
        [
            Figure(
                name="overhead per trial, from the 101st on", ours=late.overhead_seconds, unit="s", at_most=MAX_SECONDS
            ),
            Figure(name="slot time per trial, from the 101st on", ours=late.slot_seconds, unit="s"),
            Figure(name="training per trial, from the 101st on", ours=late.training_seconds, unit="s"),
            Figure(name="overhead per trial, all trials", ours=every.overhead_seconds, unit="s"),
        ],
        _raw(trials),
    )


def trial_cost(trials: pd.DataFrame, *, slots: int, skip: int = 0) -> TrialCost:
    """Slot and training seconds per trial.

    Args:
        trials: One row per trial: ``start`` and ``end`` (times), ``training_seconds``.
        slots: Trials that ran at once.
        skip: How many of those that started first to leave out.

    Raises:
        ValueError: If no trial is left.
    """
    kept = trials.sort_values("start")[skip:]
    if kept.empty:
        raise ValueError(f"`skip` must be less than the number of trials, {len(trials)}; got {skip}.")
    elapsed = (kept["end"].max() - kept["start"].min()).total_seconds()
    return TrialCost(elapsed * slots / len(kept), float(kept["training_seconds"].mean()))


def _raw(trials: pd.DataFrame) -> list[Measurement]:
    """Start and end of each trial, counted from the first start, and its training."""
    ordered = trials.sort_values("start")
    columns = {
        "start": (ordered["start"] - ordered["start"].min()).dt.total_seconds(),
        "end": (ordered["end"] - ordered["start"].min()).dt.total_seconds(),
        "training": ordered["training_seconds"],
    }
    return [
        Measurement(name, number, float(value), "s")
        for name, values in columns.items()
        for number, value in enumerate(values, start=1)
    ]
