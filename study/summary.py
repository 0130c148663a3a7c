"""What the study's own run says of it: numbers to compare studies by in MLflow's table of runs, and a description."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable

import pandas as pd
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from analysis.compare import POINTS, twins_of
from analysis.findings import Findings
from analysis.inference import ALPHA
from study.ledger import DIVERGED, FAILED, TrialRecord

#: MLflow takes 250 characters; the rest is for what stands before the arm's name.
MAX_KEY = 200
#: Arms and characters that a description holds; MLflow takes 5,000 of a tag everywhere.
MAX_ROWS = 25
MAX_NAME = 60
MAX_NOTE = 5000
MISSING = "–"


def log_summary(client: MlflowClient, run_id: str, records: Iterable[TrialRecord], findings: Findings | None) -> None:
    """Write a study's numbers and its description on its run.

    Args:
        client: Client of the tracking store.
        run_id: The study's run; its trials have ended.
        records: All its trials.
        findings: What its report states, or None if there is none.

    Raises:
        MlflowException: If the store does not take it.
    """
    info = client.get_run(run_id).info
    values = summarise(findings) if findings else {}
    values |= count_trials(records)
    if info.end_time:
        values["wall_seconds"] = (info.end_time - info.start_time) / 1000
    if findings:
        client.set_tag(run_id, MLFLOW_RUN_NOTE, describe_result(findings))
    client.log_batch(run_id, [Metric(key, value, info.end_time or info.start_time, 0) for key, value in values.items()])


def count_trials(records: Iterable[TrialRecord]) -> dict[str, float]:
    """How many trials ran, how they ended and what they took: numbers, epochs, seconds of all trials together."""
    trials = list(records)
    reasons = [trial.stop_reason for trial in trials]
    return {
        "num_trials": float(len(trials)),
        "num_failed": float(reasons.count(FAILED)),
        "num_diverged": float(reasons.count(DIVERGED)),
        "num_epochs": float(sum(trial.epoch for trial in trials)),
        "trial_seconds": float(sum(trial.seconds for trial in trials)),
    }


def summarise(findings: Findings) -> dict[str, float]:
    """The report's numbers as metrics of one run; a number that there is not is left out.

    A twin, which is the baseline under another name, is no arm to win: ``best_*`` and ``num_arms_*`` leave it out.

    Returns:
        Accuracies as fractions, differences in points, by the names in ``docs/mlflow.md``.
    """
    table, comparisons = findings.table, findings.comparisons
    twins = twins_of(findings.baseline, findings.record.protocol)
    confirmed = table[table["num_seeds"] > 0]
    own = confirmed[~confirmed["arm"].isin(twins)]
    # In this order they stand on the run's page.
    values: dict[str, float] = {}
    if len(own):
        values["best_accuracy"] = own["accuracy"].max()
        values["baseline_accuracy"] = own.loc[own["arm"] == findings.baseline, "accuracy"].max()
    values |= _compare(comparisons[~comparisons["arm"].isin(twins)])
    values |= {"delta_points": findings.delta, "num_arms": len(set(findings.arms) - set(twins))}
    values["num_seeds"] = confirmed["num_seeds"].max()
    keys = arm_keys(findings.arms)
    values |= {f"accuracy/{keys[row['arm']]}": row["accuracy"] for row in confirmed.to_dict("records")}
    values |= {
        f"difference_points/{keys[row['arm']]}": row["difference_points"] for row in comparisons.to_dict("records")
    }
    return {key: float(value) for key, value in values.items() if math.isfinite(value)}


def _compare(judged: pd.DataFrame) -> dict[str, float]:
    if judged.empty:
        return {}
    best = judged.iloc[0]
    significant = judged["p_holm"] < ALPHA
    found = significant & ~judged["within_luck"].astype(bool)
    better = found & (judged["difference_points"] > 0)
    worse = found & (judged["difference_points"] < 0)
    equivalent = ~significant & judged["equivalent"].astype(bool)
    return {
        "best_difference_points": best["difference_points"],
        "best_difference_low_points": best["low_points"],
        "best_difference_high_points": best["high_points"],
        "smallest_p_holm": judged["p_holm"].min(),
        "num_arms_better": better.sum(),
        "num_arms_worse": worse.sum(),
        "num_arms_equivalent": equivalent.sum(),
        "num_arms_inconclusive": (~found & ~equivalent).sum(),
        "detectable_points": judged["detectable_points"].max(),
    }


def arm_keys(arms: Iterable[str]) -> dict[str, str]:
    """A part of a metric's key for each arm: letters, digits, ``_``, ``.`` and ``-`` stay, the rest becomes ``_``.

    A name of dots alone, which MLflow would take for a folder, gets ``_`` in front; of two arms that would share a
    key, the later one has its place behind it.
    """
    keys: dict[str, str] = {}
    for place, arm in enumerate(arms, 1):
        key = re.sub(r"[^A-Za-z0-9_.-]", "_", arm)[:MAX_KEY]
        key = key if key.strip(".") else f"_{key}"
        keys[arm] = f"{key}_{place}" if key in keys.values() else key
    return keys


def describe_result(findings: Findings) -> str:
    """The verdict, the arms and where to read on, as Markdown for the run's page."""
    name = _code(findings.record.name)
    lines = [_plain(findings.verdict), ""]
    if (findings.table["num_seeds"] > 0).any():
        lines += [*_arm_rows(findings), ""]
    lines += [
        f"**Report:** `report.html` on the tab *Artifacts*; again with `python -m analysis.report --study {name}`.",
        "",
        f"**Trials:** `tags.study = '{name}' and tags.phase = 'confirm'` in the search box of the runs' table.",
        "",
        "Accuracy: of the test split, mean over seeds. Difference: paired by seed, in points. [95% interval].",
    ]
    if "report" in findings.record.protocol:
        lines += ["", "**Claims:** what the reports said, tested one by one: `claims.md` on the tab *Artifacts*."]
    return "\n".join(lines)[:MAX_NOTE]


def _arm_rows(findings: Findings) -> list[str]:
    comparisons = {str(row["arm"]): row for row in findings.comparisons.to_dict("records")}
    rows = ["| arm | accuracy % | difference | Holm p | seeds |", "|---|---|---|---|---|"]
    for row in findings.table.head(MAX_ROWS).to_dict("records"):
        arm = str(row["arm"])
        cells = [_interval(".2f", *(row[key] * POINTS for key in ("accuracy", "accuracy_low", "accuracy_high")))]
        if arm in comparisons:
            other = comparisons[arm]
            keys = ("difference_points", "low_points", "high_points")
            cells += [_interval("+.2f", *(other[key] for key in keys)), _number(other["p_holm"], ".3f")]
        else:
            cells += ["baseline" if arm == findings.baseline else MISSING, ""]
        diverged = f" ({row['num_diverged']} diverged)" if row["num_diverged"] else ""
        rows.append(" | ".join([f"| `{_code(arm)}`", *cells, f"{row['num_seeds']}{diverged} |"]))
    left = len(findings.table) - MAX_ROWS
    return [*rows, "", f"{left} more arms: `arms.csv` on the tab *Artifacts*."] if left > 0 else rows


def _interval(form: str, mean: float, low: float, high: float) -> str:
    if not math.isfinite(low):
        return _number(mean, form)
    return f"{mean:{form}} [{low:{form}}, {high:{form}}]"


def _number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else MISSING


def _code(name: str) -> str:
    """A name inside a code span of a table, short."""
    plain = re.sub(r"[`|\s]", "_", name)
    return plain if len(plain) <= MAX_NAME else f"{plain[: MAX_NAME - 1]}…"


def _plain(text: str) -> str:
    """A text in which nothing is markup."""
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", html.escape(" ".join(text.split()), quote=False))
