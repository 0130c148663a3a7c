"""A real study of ten thousand short trials: what the last of them cost, beside the first.

The command line runs on the digits with as many trials at once as there are cores, at most two. The time of a trial is
that between the ends of two, so that everything counts by which a slot waits for the driver: proposals, Tune, Optuna's
journal, MLflow's writer on the same cores. The first tenth begins with the first trial's start, when the workers run.

A proposal costs more while an arm has fewer than ``study.search.REMEMBERED`` trials, and no more from then on: with
5,000 trials an arm the first tenth holds that growth, so the ratio is of what comes after it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pandas as pd

from bench.measure import Figure, Measurement, Result
from bench.report import run
from bench.studies import NAME, launch

SPACE = Path(__file__).parent / "spaces" / "many_trials.py"
TRIALS = 10_000
ARMS = 2
SLOTS = min(2, os.cpu_count() or 1)
MAX_GROWTH = 1.3
MAX_GIGABYTES = 1.5
MAX_REPORT_SECONDS = 60.0
REPORT = "from analysis.report import build_report; build_report({name!r}, tracking_uri={uri!r}, output={out!r})"


def measure(trials: int = TRIALS) -> Result:
    """One study of so many search trials, then its report again in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        flags = ("--space", str(SPACE), "--stopping", "none", "--max-concurrent", str(SLOTS), "--quiet")
        launched = launch(folder, *flags, "--trials", str(trials // ARMS))
        record = launched.record(["epoch_seconds"])
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        report_seconds, _ = run(REPORT.format(name=NAME, uri=uri, out=str(folder / "again")))
    search = record.trials[record.trials["phase"] == "search"]
    unfinished = search[search["stop_reason"] != "completed"]
    if len(unfinished):
        raise RuntimeError(f"{len(unfinished)} of {len(search)} trials were not completed; the figures would mislead.")
    tenths = seconds_by_tenth(search)
    said = f"{len(search):,} trials"
    figures = [
        Figure(
            name=f"a trial in the last tenth of {said} vs in the first",
            ours=tenths[-1],
            reference=tenths[0],
            ratio=tenths[-1] / tenths[0],
            unit="s",
            at_most=MAX_GROWTH,
        ),
        Figure(name=f"driver's memory, {said}", ours=launched.peak_bytes / 1e9, unit="GB", at_most=MAX_GIGABYTES),
        Figure(name=f"report of {said}", ours=report_seconds, unit="s", at_most=MAX_REPORT_SECONDS),
        Figure(name=f"the whole study of {said}", ours=launched.seconds, unit="s"),
    ]
    raw = [Measurement("a trial, by tenth", number, seconds, "s") for number, seconds in enumerate(tenths, 1)]
    return Result(figures, raw)


def seconds_by_tenth(trials: pd.DataFrame) -> list[float]:
    """Seconds per trial in each tenth of a study's trials, in the order in which they ended.

    Args:
        trials: ``start`` and ``end`` of at least ten trials, one a row.

    Raises:
        ValueError: If there are fewer than ten.
    """
    if len(trials) < 10:
        raise ValueError(f"Tenths need at least 10 trials; got {len(trials)}.")
    ends = trials["end"].sort_values(ignore_index=True)
    borders = [round(tenth * len(ends) / 10) for tenth in range(11)]
    times = [trials["start"].min(), *(ends[border - 1] for border in borders[1:])]
    return [
        (times[tenth + 1] - times[tenth]).total_seconds() / (borders[tenth + 1] - borders[tenth]) for tenth in range(10)
    ]
