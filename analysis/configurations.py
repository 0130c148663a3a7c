"""A trial's configuration: what was searched in it, as text for a hover, and where MLflow shows its run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import pandas as pd

from analysis.address import LOCAL_SERVER, is_server, mlflow_command
from analysis.compare import POINTS
from analysis.figures.style import label
from analysis.findings import Findings
from analysis.load import StudyRecord
from analysis.tables import text
from analysis.verdict import count

#: Keys of the flat ``TrialConfig`` without a dot; those with one belong to a part (``optimizer.momentum``).
PLAIN_KEYS = frozenset(
    {
        "loss", "optimizer", "model", "second_optimizer", "activation", "hidden_layers", "width", "batch_size",
        "epochs", "reduction", "schedule", "precision", "augment", "init_std", "imbalance", "switch_epoch",
    }
)  # fmt: skip
#: A trial that ended for no reason of its own says nothing about its configuration.
ENDED = frozenset({"completed", "pruned", "diverged"})
#: Digits of a number that was sampled from a range.
DIGITS = 4


def configuration_keys(trials: pd.DataFrame) -> list[str]:
    """The columns that are parameters of a trial, in the order of the record."""
    own = list(trials.columns)
    start = own.index("end") + 1 if "end" in own else 0
    return [key for key in own[start:] if key in PLAIN_KEYS or "." in key]


def search_trials(findings: Findings) -> pd.DataFrame:
    """The search trials that ended by themselves and have a validation accuracy."""
    trials = findings.record.trials
    if "val_accuracy" not in trials:
        return trials.iloc[:0]
    searched = (trials["phase"] == "search") & trials["stop_reason"].isin(ENDED) & trials["val_accuracy"].notna()
    return trials[searched].reset_index(drop=True)


def searched_parameters(trial: Mapping[Any, Any], protocol: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What was searched in a trial: each key with its declared range, of those whose condition the trial meets.

    In a joint search the factor itself is one of them.

    Args:
        trial: A row of ``trials``.
        protocol: The study's ``study.json``.
    """
    arms = protocol.get("arms", [])
    found: dict[str, Mapping[str, Any]] = {}
    if protocol.get("mode") == "joint" and len(arms) > 1:
        factor = str(protocol.get("factor", ""))
        values = [arm["fixed"].get(factor) for arm in arms]
        found[factor] = {"key": factor, "kind": "categorical", "choices": values}
    for parameter in next((arm.get("parameters", []) for arm in arms if arm["name"] == trial["arm"]), []):
        condition = parameter.get("when") or {}
        if all(trial.get(key) in values for key, values in condition.items()):
            found.setdefault(parameter["key"], parameter)
    return {key: parameter for key, parameter in found.items() if is_set(trial.get(key)) and not is_single(parameter)}


def is_single(parameter: Mapping[str, Any]) -> bool:
    """Whether a declared parameter can take one value only."""
    if parameter["kind"] == "categorical":
        return len(parameter["choices"]) < 2  # noqa: PLR2004 - one choice is none
    return bool(parameter["low"] == parameter["high"])


def is_set(value: object) -> bool:
    """Whether a trial has this parameter: the record's frame holds NaN where it does not."""
    return value is not None and not (isinstance(value, float) and math.isnan(value)) and value is not pd.NA


def show(value: object) -> str:
    """A parameter's value, short: an integer that a frame holds as a float is one again."""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 10**DIGITS else f"{value:.{DIGITS}g}"
    return str(value)


def hover_text(trial: Mapping[Any, Any], keys: Sequence[str]) -> str:
    """A trial for plotly's hover: which one, how it ended, its configuration.

    Args:
        trial: A row of ``trials``.
        keys: The parameters worth a line; those that the trial does not have are left out.
    """
    lines = [
        f"<b>{label(trial['arm'])}</b>, {label(name_of(trial))}: {_score(trial)}",
        f"{label(trial['stop_reason'])} after {trial['epochs_done']} epochs",
        *(f"{label(key)} = {label(show(trial[key]))}" for key in keys if is_set(trial.get(key))),
    ]
    return "<br>".join(lines)


def name_of(trial: Mapping[Any, Any]) -> str:
    """``trial 7`` of a search, ``seed 3`` of a confirmation."""
    part, place = ("trial", trial["number"]) if trial["phase"] == "search" else ("seed", trial["seed"])
    return f"{part} {place}" if is_set(place) else part


def _score(trial: Mapping[Any, Any]) -> str:
    value = trial.get("val_accuracy", math.nan)
    return "no accuracy on record" if pd.isna(value) else f"{value * POINTS:.2f}%"


def varying_keys(trials: pd.DataFrame) -> list[str]:
    """The parameters in which trials differ: the others are said once."""
    return [key for key in configuration_keys(trials) if len(trials[key].drop_duplicates()) > 1]


def run_prefix(record: StudyRecord) -> str:
    """What stands before a run's id in the address where MLflow shows it; without any user and password."""
    server = LOCAL_SERVER
    if is_server(record.tracking_uri):
        parts = urlsplit(record.tracking_uri)
        place = parts.netloc.rpartition("@")[2]
        server = urlunsplit((parts.scheme, place, parts.path.rstrip("/"), "", ""))
    return f"{server}/#/experiments/{quote(record.experiment_id, safe='')}/runs/"


def describe_trials(findings: Findings) -> dict[str, Any]:
    """All that the page says about single trials, as plain data.

    Returns:
        ``link``: what stands before a run's id; ``serve``: the command that opens the record there, empty where a
        server is up anyway; ``common``: what all trials share; ``columns`` and, by run id, ``trials``: a row each,
        accuracy in percent.
    """
    record = findings.record
    trials = record.trials
    varying = varying_keys(trials)
    first: Mapping[Any, Any] = trials.iloc[0].to_dict() if len(trials) else {}
    common = {
        key: show(first[key]) for key in configuration_keys(trials) if key not in varying and is_set(first.get(key))
    }
    columns = ["arm", "phase", "trial", "ended", "epochs done", "validation accuracy (%)", *varying]
    rows = {}
    for trial in trials.to_dict("records"):
        accuracy = float(trial.get("val_accuracy", math.nan))
        rows[str(trial["run_id"])] = [
            trial["arm"],
            trial["phase"],
            name_of(trial),
            trial["stop_reason"],
            int(trial["epochs_done"]),
            "" if math.isnan(accuracy) else round(accuracy * POINTS, 2),
            *(_plain(trial[key]) for key in varying),
        ]
    serve = "" if is_server(record.tracking_uri) else mlflow_command(record.tracking_uri)
    return {"link": run_prefix(record), "serve": serve, "common": common, "columns": columns, "trials": rows}


def _plain(value: Any) -> str | float | int:
    """A value as JSON has it, numbers as short as they are shown."""
    if not is_set(value):
        return ""
    shown = show(value)
    if isinstance(value, (bool, str)) or not math.isfinite(value):  # JSON has no infinity
        return shown
    return int(value) if float(value).is_integer() else float(shown)


def trials_section(findings: Findings) -> str:
    """The page's list of trials: folded, filled by ``report.js`` from the data beside it when it is opened.

    A click on a point of a figure shows the same row; this is the way to it for a keyboard.
    """
    data = describe_trials(findings)
    if not data["trials"]:
        return ""
    trials = count(len(data["trials"]), "trial")
    serve = (
        f" Links lead to <code>{text(LOCAL_SERVER)}</code>, where this command serves the record: "
        f"<code>{text(data['serve'])}</code>"
        if data["serve"]
        else ""
    )
    # A name may hold "</script>": no "<" stands in the data as such.
    plain = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return (
        '<section id="section-trials"><h2>Trials</h2>'
        f'<p class="takeaway">{trials} on record, each with its configuration and its MLflow run.{serve}</p>'
        f'<details id="trials"><summary>Show {trials}</summary></details>'
        f'<script type="application/json" id="trials-data">{plain}</script></section>'
    )
