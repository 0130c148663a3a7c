"""``epochs.parquet``: every metric of every epoch of a study, and when that file may stand for the record.

A tracking server reads some 40,000 values a second from its database, so 1,000 trials with 20 metrics are 20 seconds of
work for it. The file that the study's own run carries answers in one request; it is believed only where it agrees with
what the server says of each run.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from mlflow.entities import Run
from pyarrow import parquet

FILE_NAME = "epochs.parquet"
KEY_COLUMNS = ("run_id", "arm", "phase", "regime", "seed", "trial_id", "epoch", "logged_at")
#: Few values, many rows: stored once each.
DICTIONARY = pa.dictionary(pa.int32(), pa.string())
TYPES = {
    **dict.fromkeys(("run_id", "arm", "phase", "regime", "trial_id"), DICTIONARY),
    "seed": pa.int64(),
    "epoch": pa.int32(),
    "logged_at": pa.timestamp("ms", tz="UTC"),
}
#: Version of the columns, in the file's metadata.
SCHEMA = 1
ENDED = {"FINISHED", "KILLED", "FAILED"}


def to_parquet(epochs: pd.DataFrame, trials: pd.DataFrame) -> bytes:
    """The content of the file.

    Args:
        epochs: A study's ``epochs``, with all metrics.
        trials: Its ``trials``, which know each run's regime.

    Returns:
        One row per run and epoch, as ``docs/report.md`` describes it; metrics are float64, missing where none is on
        record.
    """
    frame = epochs.assign(regime=epochs["run_id"].map(trials.set_index("run_id")["regime"]))
    metrics = [column for column in epochs.columns if column not in KEY_COLUMNS]
    types = TYPES | dict.fromkeys(metrics, pa.float64())
    schema = pa.schema([(name, types[name]) for name in (*KEY_COLUMNS, *metrics)])
    arrays = [_to_arrow(frame[field.name], field.type) for field in schema]
    table = pa.Table.from_arrays(arrays, schema=schema.with_metadata({"schema": str(SCHEMA)}))
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _to_arrow(column: pd.Series[Any], kind: pa.DataType) -> pa.Array:
    if kind == DICTIONARY:
        return pa.array(column.astype(object), pa.string(), from_pandas=True).dictionary_encode()
    if pa.types.is_timestamp(kind):  # pandas 3.1 deprecates what pyarrow asks of a column with a time zone
        return pa.array(pd.to_datetime(column, utc=True).dt.tz_convert(None).astype("datetime64[ms]")).cast(kind)
    return pa.array(column, from_pandas=True).cast(kind)


def read_histories(content: bytes, runs: Sequence[Run], metrics: Collection[str] | None) -> pd.DataFrame | None:
    """What the file holds of these runs, where it may be believed.

    Args:
        content: The file's content.
        runs: The study's trials as the server describes them now.
        metrics: Those wanted; all by default.

    Returns:
        ``run_id, epoch, logged_at`` and the metrics, one row per run and epoch; None where the file is not whole, is
        not of exactly these runs, or does not agree with the server, which must then be asked.
    """
    if any(run.info.status not in ENDED for run in runs):
        return None
    try:
        table = parquet.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError):
        return None
    if (table.schema.metadata or {}).get(b"schema") != str(SCHEMA).encode() or not set(KEY_COLUMNS) <= set(
        table.column_names
    ):
        return None
    frame = table.to_pandas().astype({"run_id": str, "epoch": int})
    frame = frame.sort_values(["run_id", "epoch"], ignore_index=True)
    if not (_is_gapless(frame) and _ends_as_recorded(frame, runs)):
        return None
    names = [name for name in frame.columns if name not in KEY_COLUMNS and (metrics is None or name in metrics)]
    held: pd.DataFrame = frame.loc[frame[names].notna().any(axis="columns"), ["run_id", "epoch", "logged_at", *names]]
    return held


def _is_gapless(frame: pd.DataFrame) -> bool:
    """Epochs 1, 2, … of every run: one that reached the record late would have left a gap."""
    return bool((frame["epoch"] == frame.groupby("run_id").cumcount() + 1).all())


def _ends_as_recorded(frame: pd.DataFrame, runs: Sequence[Run]) -> bool:
    """Whether each run's metrics, and the epoch and value each ended with, are those that the server has."""
    recorded = pd.DataFrame(
        [(run.info.run_id, m.key, m.step, m.value) for run in runs for m in run.data._metric_objs],  # noqa: SLF001
        columns=["run_id", "metric", "epoch", "value"],
    )
    ends = [
        frame.loc[frame[name].notna(), ["run_id", "epoch", name]]
        .drop_duplicates("run_id", keep="last")
        .rename(columns={name: "value"})
        .assign(metric=name)
        for name in frame.columns
        if name not in KEY_COLUMNS
    ]
    if not ends or recorded.empty:
        return False
    keys = ["run_id", "metric"]
    both = recorded.merge(pd.concat(ends), on=keys, how="outer", suffixes=("", "_held"), validate="1:1")
    return bool(np.all((both["epoch"] == both["epoch_held"]) & (both["value"] == both["value_held"])))
