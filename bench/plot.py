"""``python -m bench.plot idioms.csv study-time.svg``: what a study takes by its number of trials, beside the idioms."""

from __future__ import annotations

import argparse
import csv
import re
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from bench.idioms import OURS, TRIALS_TASK

#: contender → its name, colour and marker; colours that everybody can tell apart (Okabe and Ito, 2008).
STYLES = {
    OURS: ("this project's study", "#0072b2", "o"),
    "optuna_idiom": ("as Optuna's documentation has it", "#e69f00", "s"),
    "ray_idiom": ("as Ray Tune's documentation has it", "#d55e00", "^"),
}
#: ``100 trials, digits: study``; the accuracies beside them have more to say of the contender.
LINE = re.compile(re.escape(TRIALS_TASK).replace(r"\{\}", r"(?P<trials>\d+)") + r": (?P<contender>\w+)")

Seconds = dict[str, dict[int, list[float]]]


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.plot", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "measurements", type=Path, help="idioms.csv, as `python -m bench.run idioms --output` writes it"
    )
    parser.add_argument("picture", type=Path, help="its end says what it becomes: .svg or .png")
    arguments = parser.parse_args(argv)
    with arguments.measurements.open(encoding="utf-8", newline="") as stream:
        draw(read_seconds(csv.DictReader(stream))).savefig(arguments.picture, metadata={"Date": None})


def read_seconds(rows: Sequence[Mapping[str, str]] | csv.DictReader[str]) -> Seconds:
    """From raw measurements to seconds of each round, by contender and number of trials."""
    found: Seconds = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if match := LINE.fullmatch(row["contender"]):
            found[match["contender"]][int(match["trials"])].append(float(row["value"]))
    return found


def draw(seconds: Seconds) -> Figure:
    """A line through each contender's medians, and every round as a point."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log")
    for contender, (label, colour, marker) in STYLES.items():
        by_trials = sorted(seconds[contender].items())
        numbers = [number for number, _ in by_trials]
        axes.plot(numbers, [statistics.median(values) for _, values in by_trials], color=colour, label=label)
        points = [(number, value) for number, values in by_trials for value in values]
        axes.plot(*map(list, zip(*points, strict=True)), color=colour, marker=marker, markersize=4, linestyle="none")
    every = sorted({number for by_trials in seconds.values() for number in by_trials})
    axes.set_xticks(every, [str(number) for number in every])
    axes.minorticks_off()
    axes.set_yticks([10, 30, 100, 300], ["10", "30", "100", "300"])
    axes.set_xlabel("trials of 5 epochs on the digits")
    axes.set_ylabel("seconds of the whole command")
    axes.grid(visible=True, color="#e2e5ea")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
