"""``python -m bench.run [NAME ...] [--output DIR]``: measures and prints; judges nothing.

The exit code is 0 whatever the figures say.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from bench.measure import Figure, Measurement, Result

#: name -> what it measures, for ``--help``; the module is called like it.
BENCHMARKS = {
    "epoch": "an epoch against plain PyTorch and a DataLoader",
    "overhead": "what a short trial costs beside its training",
    "start": "seconds from the command to the first result",
    "memory": "peak memory of the driver and of a slot, and what of it is the data",
    "replicas": "ten seeds of a configuration as one batched model, on this CPU",
    "agreement": "trials trained as one batched model against the same trials alone (reads no clock)",
    "gpu": "trials per hour on a CUDA card: packed processes against batched seeds",
    "full": "seconds of the full study on the digits",
    "stated": "seconds of a report's stated grid on Fashion-MNIST",
    "floor": "a whole study of some minutes against its training alone (half an hour)",
    "idioms": "the same grid as others' documentation has a user write it (an hour and a half)",
    "proposal": "what the next configuration costs, by the trials before it",
    "search": "epochs until a search has found what an arm can do, by replay (reads no clock)",
    "report": "seconds of a report of 1,000 trials, from SQLite and a server",
    "tracking": "what a report costs the driver, beside Ray's callback for MLflow",
    "scale": "10,000 trials, a simulated cluster, and the driver without Ray (about half an hour)",
}
PACKAGES = ("torch", "torchvision", "ray", "optuna", "mlflow", "numpy", "pandas")
COLUMNS = (("benchmark", 9), ("figure", 58), ("ours", 9), ("reference", 9), ("ratio", 6), ("bound", 9), ("holds", 5))


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    arguments = _parse(argv)
    print(f"{describe_machine()}\n\n{table_line(tuple(name for name, _ in COLUMNS))}", flush=True)
    for name in arguments.names or BENCHMARKS:
        started = time.perf_counter()
        result: Result = importlib.import_module(f"bench.{name}").measure()
        for figure in result.figures:
            print(table_line(cells(name, figure)), flush=True)
        if arguments.output is not None:
            write_csv(arguments.output / f"{name}.csv", result.measurements)
        print(f"{name}: measured in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    print(
        "\nMedians. A ratio is the median of the rounds' own: ours / reference, or reference / ours if the bound is >=."
    )


def describe_machine() -> str:
    """What the figures were measured on, with the load that others put on it."""
    load = ", ".join(f"{average:.2f}" for average in os.getloadavg())
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in PACKAGES)
    return "\n".join(
        (
            f"machine:   {os.cpu_count()} cores, {_cpu_model()}, {platform.system()} {platform.release()}",
            f"load:      {load} over 1, 5 and 15 minutes before the first measurement",
            f"software:  Python {platform.python_version()}, {versions}",
            "threads:   1 per trial and in every loop beside it",
        )
    )


def cells(benchmark: str, figure: Figure) -> tuple[str, ...]:
    """A figure as the texts of its table line."""
    bound = ""
    if figure.at_most is not None:
        bound = f"<= {figure.at_most:g}"
    elif figure.at_least is not None:
        bound = f">= {figure.at_least:g}"
    if bound and figure.ratio is None:
        bound += f" {figure.unit}"
    return (
        benchmark,
        figure.name,
        f"{figure.ours:.3g} {figure.unit}",
        "" if figure.reference is None else f"{figure.reference:.3g} {figure.unit}",
        "" if figure.ratio is None else f"{figure.ratio:.2f}",
        bound,
        {True: "yes", False: "no", None: ""}[figure.holds],
    )


def table_line(texts: Sequence[str]) -> str:
    """Texts under the table's columns."""
    padded = (f"{text:<{width}}" for text, (_, width) in zip(texts, COLUMNS, strict=True))
    return "  ".join(padded).rstrip()


def write_csv(file: Path, measurements: Sequence[Measurement]) -> None:
    """Every raw measurement, one a line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Measurement)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, measurements))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    listed = "\n".join(f"  {name:<10}{what}" for name, what in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench.run",
        description="Measures speed and memory against what a user would otherwise write.",
        epilog=f"benchmarks:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which benchmarks to run (default: all)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write every raw measurement to DIR/NAME.csv")
    arguments = parser.parse_args(argv)
    for name in arguments.names:
        if name not in BENCHMARKS:
            parser.error(f"unknown benchmark {name!r}; choose from {', '.join(BENCHMARKS)}")
    return arguments


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


if __name__ == "__main__":
    main()
