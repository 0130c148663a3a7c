"""Learning curves of a study that stopped no trial, as a table that a search can be replayed on.

python -m study.launch --space full --search random --stopping none --trials 60 --seeds 1 --name curves
python -m bench.curves curves sqlite:///mlflow.db bench/recorded/full-digits.parquet
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.load import load_protocol, load_study
from search_spaces.arms import Study
from search_spaces.table import load_space
from trainables.config import Scalar


@dataclass(frozen=True)
class Curve:
    """One recorded training.

    Args:
        arm: Its arm.
        params: What was searched, by key.
        accuracy: On the validation split after each epoch, in [0, 1]; shorter than ``params["epochs"]`` if it diverged.
    """

    arm: str
    params: Mapping[str, Scalar]
    accuracy: tuple[float, ...]

    @property
    def diverged(self) -> bool:
        """Whether it ended before its last epoch."""
        return len(self.accuracy) < int(self.params["epochs"])

    @property
    def final(self) -> float:
        """Validation accuracy at its end."""
        return self.accuracy[-1]


def record_curves(study: str, tracking_uri: str, space: Study) -> list[Curve]:
    """The search trials of a study that stopped none.

    Args:
        study: Its name.
        tracking_uri: Where its record is.
        space: What it searched.

    Raises:
        ValueError: If a trial was stopped: its curve is not whole.
    """
    record = load_study(study, tracking_uri=tracking_uri, metrics=["val_accuracy"], finals=False)
    trials = record.trials[record.trials["phase"] == "search"]
    if set(trials["stop_reason"]) - {"completed", "diverged"}:
        raise ValueError("a trial was stopped or failed; record with --stopping none")
    values = record.epochs.sort_values("epoch").groupby("run_id")["val_accuracy"].apply(tuple)
    searched = {arm.name: [parameter.key for parameter in arm.parameters] for arm in space.arms}
    return [
        Curve(
            row["arm"],
            {key: row[key] for key in searched[row["arm"]] if key in row and not pd.isna(row[key])},
            values[row["run_id"]],
        )
        for row in trials.to_dict("records")
    ]


def write_curves(path: Path, curves: Sequence[Curve]) -> None:
    """A table of curves as a parquet file, one row each."""
    rows = [{"arm": curve.arm, **curve.params, "accuracy": list(curve.accuracy)} for curve in curves]
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(path, compression="zstd", index=False)


def read_curves(path: Path) -> list[Curve]:
    """What :func:`write_curves` wrote."""
    curves = []
    for row in pd.read_parquet(path).to_dict("records"):
        accuracy, arm = row.pop("accuracy"), row.pop("arm")
        params = {str(key): _plain(value) for key, value in row.items() if not pd.isna(value)}
        curves.append(Curve(arm, params, tuple(map(float, accuracy))))
    return curves


def _plain(value: Any) -> Scalar:
    """Parquet gives a column with gaps as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() and value >= 1 else value


def main() -> None:
    """The command."""
    study, tracking_uri, path = sys.argv[1:]
    space = load_space(str(load_protocol(study, tracking_uri=tracking_uri)["space"]))
    curves = record_curves(study, tracking_uri, space)
    write_curves(Path(path), curves)
    print(f"{len(curves)} curves, {sum(len(curve.accuracy) for curve in curves)} epochs: {path}")


if __name__ == "__main__":
    main()
