"""Peak memory of the driver, and of a slot: the worker process that trains one trial after another; in GB (1e9 bytes).

The driver's peak is the kernel's own high-water mark (``VmHWM``), so nothing between two looks is missed; it includes
the shared pages that the driver has touched, such as the dataset in Ray's object store.

A slot is looked at again and again while the study runs (``smaps_rollup``). Of what it has *resident*, its *own* is of
no file and no shared segment, and its *share* counts a page that n processes have as an nth, so that shares add up to
what the node holds. The data are in the node's memory once if what is a slot's own does not grow with them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.measure import Figure, Measurement, Result
from bench.studies import Launched, launch

MAX_GIGABYTES = 1.0
STUDIES = {
    "smoke, digits": ("--space", "smoke"),
    "full, 2 arms, 6,000 of fashion-mnist": (
        *("--space", "full", "--arms", "cross_entropy,focal", "--trials", "2", "--seeds", "1"),
        *("--dataset", "fashion-mnist", "--train-size", "6000"),
    ),
}
#: One configuration on more and more data.
SLOT_SPACE = ("--space", str(Path(__file__).parent / "spaces" / "short_trials.py"), "--trials", "4")
SLOT_DATA = {
    "digits": ("--dataset", "digits"),
    "6,000 of fashion-mnist": ("--dataset", "fashion-mnist", "--train-size", "6000"),
    "fashion-mnist": ("--dataset", "fashion-mnist"),
}


def measure() -> Result:
    """One run each: a peak varies by some percent between runs, a time by far more."""
    drivers = []
    for name, arguments in STUDIES.items():
        peak = _launch(*arguments).peak_bytes
        drivers.append(Measurement(f"driver, {name}", 1, peak / 1e9, "GB"))
    slots = []
    for name, arguments in SLOT_DATA.items():
        slots += slot_measurements(name, _launch(*SLOT_SPACE, *arguments, watch_workers=True))
    figures = [Figure(name=item.contender, ours=item.value, unit=item.unit, at_most=MAX_GIGABYTES) for item in drivers]
    for name in dict.fromkeys(item.contender for item in slots):
        values = [item.value for item in slots if item.contender == name]
        figures.append(Figure(name=f"{name}, the most of {len(values)}", ours=max(values), unit="GB"))
    return Result(figures, [*drivers, *slots])


def slot_measurements(name: str, launched: Launched) -> list[Measurement]:
    """The peaks of every worker of a study.

    Args:
        name: Of what it trained on.
        launched: The study.
    """
    return [
        Measurement(f"slot, {name}: {kind}", number, peak / 1e9, "GB")
        for kind in ("own", "share", "resident")
        for number, peak in enumerate((getattr(worker, kind) for worker in launched.workers), start=1)
    ]


def _launch(*arguments: str, watch_workers: bool = False) -> Launched:
    with tempfile.TemporaryDirectory() as folder:
        launched = launch(Path(folder), *arguments, watch_workers=watch_workers)
    if launched.peak_bytes == 0:
        raise RuntimeError("The peak memory of a process is only known on Linux, from /proc.")
    return launched
