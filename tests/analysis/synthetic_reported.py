"""A reported study whose truth is known: what the launcher would leave in MLflow, made without training.

``build_record`` makes the record in memory, through the same functions as ``load_study``; ``write_record`` puts the
same runs into an MLflow store.
"""

import json
import math
import runpy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunData, RunInfo, RunTag

from analysis.histories import COLUMNS
from analysis.load import StudyRecord, add_last_epoch, build_epochs, build_trials

FINAL = runpy.run_path(str(Path(__file__).with_name("synthetic_final.py")))
#: Evenly spaced, as the fair regime's grid.
RATES = tuple(10 ** (-5 + 6 * step / 11) for step in range(12))
BATCH_SIZE = 100


@dataclass(frozen=True)
class SimulatedRun:
    """One child run: ``rows`` are metrics per epoch from 1, ``last`` those logged once at the end."""

    regime: str
    phase: str
    arm: str
    number: int
    seed: int
    stop_reason: str
    rate: float
    rows: list
    last: dict = field(default_factory=dict)
    final: dict | None = None


@dataclass
class ReportedTruth:
    """What the study should say.

    Args:
        effects: Arm → difference to the baseline in points, every seed's but for ``noise`` (an SD in points).
        fair_effects: The same in the fair regime; by default no arm differs.
        best_rates: Arm → log10 of the learning rate at which its fair search peaks, by default -2; its validation
            accuracy falls by ``fall`` points times the squared distance.
        diverged: ``(regime, arm, seed)`` of confirm trials that diverge in their third epoch.
        diverging_rates: Arm → log10 of the learning rate from which its search trials diverge.
        seconds: Arm → seconds per epoch, by default 1.
        scored: Further metrics of the last confirm epoch: name → (arm, seed) → value.
    """

    name: str = "reported"
    report: str = "003"
    effects: dict = field(default_factory=lambda: {"cross_entropy": 0.0, "focal": -5.0, "hinge": 2.0})
    fair_effects: dict = field(default_factory=dict)
    baseline: str = "cross_entropy"
    noise: float = 0.3
    base_accuracy: float = 0.8
    delta: float = 0.5
    epochs: int = 10
    seeds: tuple = tuple(range(1, 11))
    search_seeds: tuple = (101, 102, 103)
    regimes: tuple = ("stated", "fair")
    not_in_fair: tuple = ()
    best_rates: dict = field(default_factory=dict)
    fall: float = 8.0
    diverging_rates: dict = field(default_factory=dict)
    diverged: tuple = ()
    seconds: dict = field(default_factory=dict)
    dataset: str = "fashion-mnist"
    report_dataset: str = "mnist"
    epochs_scale: float = 1.0
    num_classes: int = 10
    num_test: int = 10_000
    reduction: str = "mean"
    watch_noise: bool = False
    identities: dict = field(default_factory=dict)
    diagnostics: dict = field(default_factory=dict)
    scored: dict = field(default_factory=dict)

    def score(self, regime: str, arm: str, seed: int) -> float:
        """The test accuracy of a confirm run; what is common to all arms of a seed is what pairing removes."""
        effects = self.effects if regime == "stated" else dict.fromkeys(self.effects, 0.0) | self.fair_effects
        shared = np.random.default_rng(seed).normal(0, 1)
        own = np.random.default_rng([seed, *arm.encode(), *regime.encode()]).normal(0, self.noise)
        return self.base_accuracy + (shared + effects[arm] + own) / 100

    def arms_of(self, regime: str) -> list[str]:
        return [arm for arm in self.effects if regime == "stated" or arm not in self.not_in_fair]

    def protocol(self) -> dict:
        return {
            "schema": 1,
            "study": self.name,
            "space": "loss_by_activation",
            "factor": "loss",
            "baseline": self.baseline,
            "mode": "arms",
            "arms": [
                {"name": arm, "fixed": self.config(1e-2), "parameters": [], "in_fair": arm not in self.not_in_fair}
                | {"rate_of": ""}
                for arm in self.effects
            ],
            "delta": self.delta,
            "confirm_seeds": list(self.seeds),
            "search_seeds": list(self.search_seeds),
            "learning_rates": list(RATES),
            "dataset": {
                "name": self.dataset,
                "num_classes": self.num_classes,
                "num_train": 50_000,
                "num_val": self.num_test,
                "num_test": self.num_test,
                "class_names": [str(label) for label in range(self.num_classes)],
            },
            "report": self.report,
            "regimes": list(self.regimes),
            "epochs_scale": self.epochs_scale,
            "report_dataset": self.report_dataset,
            "stand_in": self.dataset != self.report_dataset,
            "assumptions": [],
        }

    def config(self, rate: float) -> dict:
        own = rate / BATCH_SIZE if self.reduction == "sum" else rate
        fixed = {"epochs": self.epochs, "batch_size": BATCH_SIZE, "reduction": self.reduction, "optimizer": "sgd"}
        return fixed | {"optimizer.learning_rate": own}


def climb(chance: float, end: float, epochs: int) -> list[float]:
    """Accuracies that rise from chance to ``end``."""
    shares = [1 - math.exp(-4 * epoch / epochs) for epoch in range(1, epochs + 1)]
    return [chance + (end - chance) * share / shares[-1] for share in shares]


def simulate(truth: ReportedTruth) -> list[SimulatedRun]:
    runs = []
    for regime in truth.regimes:
        for arm in truth.arms_of(regime):
            runs += [simulate_confirm(truth, regime, arm, seed) for seed in truth.seeds]
            if regime == "fair":
                runs += simulate_search(truth, arm)
    return runs


def simulate_search(truth: ReportedTruth, arm: str) -> list[SimulatedRun]:
    runs = []
    for place, seed in enumerate(truth.search_seeds):
        for step, rate in enumerate(RATES):
            distance = math.log10(rate) - truth.best_rates.get(arm, -2.0)
            chance = 1 / truth.num_classes
            end = max(chance, truth.base_accuracy - truth.fall * distance**2 / 100)
            diverges = math.log10(rate) >= truth.diverging_rates.get(arm, math.inf)
            rows = epoch_rows(truth, arm, climb(chance, end, truth.epochs), diverges=diverges)
            reason, number = "diverged" if diverges else "completed", place * len(RATES) + step
            runs.append(SimulatedRun("fair", "search", arm, number, seed, reason, rate, rows))
    return runs


def simulate_confirm(truth: ReportedTruth, regime: str, arm: str, seed: int) -> SimulatedRun:
    chance, end = 1 / truth.num_classes, truth.score(regime, arm, seed)
    diverges = (regime, arm, seed) in truth.diverged
    rows = epoch_rows(truth, arm, climb(chance, end, truth.epochs), watched=regime == "stated", diverges=diverges)
    if diverges:
        last, final = {"test_accuracy": chance}, {"class_names": [str(label) for label in range(truth.num_classes)]}
        return SimulatedRun(regime, "confirm", arm, seed, seed, "diverged", 1e-2, rows, last, final)
    last = {f"test_{name}": end - 0.01 for name in ("precision_macro", "recall_macro", "f1_macro", "f1_weighted")}
    last |= {"test_accuracy": end, "test_nll": 1.2 - end, "test_loss": 1.1 - end, "test_ece": 0.02, "test_brier": 0.3}
    last |= {"test_recall_weighted": end, "test_precision_weighted": end}
    last |= {"train_eval_accuracy": end + 0.03, "train_eval_nll": 1.1 - end, "train_eval_loss": 1.0 - end}
    last["test_corruption_area"] = FINAL["corruption_area"](0.2)
    last |= {name: value_of[arm, seed] for name, value_of in truth.scored.items() if (arm, seed) in value_of}
    final = FINAL["final_record"](end, num_classes=truth.num_classes, num_test=truth.num_test)
    return SimulatedRun(regime, "confirm", arm, seed, seed, "completed", 1e-2, rows, last, final)


def epoch_rows(
    truth, arm: str, accuracies: list[float], *, watched: bool = False, diverges: bool = False
) -> list[dict]:
    rows = []
    for epoch, accuracy in enumerate(accuracies, start=1):
        row = {"diverged": 0.0, "epoch_seconds": truth.seconds.get(arm, 1.0) * (3 if epoch == 1 else 1)}
        row |= {"train_accuracy": accuracy + 0.02, "train_loss": 1 - accuracy}
        row |= {"val_accuracy": accuracy, "val_loss": 1.1 - accuracy, "val_nll": 1.2 - accuracy}
        if watched:
            row |= {"test_accuracy": accuracy, "test_loss": 1.1 - accuracy, "test_nll": 1.2 - accuracy}
        if watched and truth.watch_noise:
            row["noisy_test_accuracy"] = accuracy - 0.1
        rows.append(row)
    if diverges:  # a loss that is not finite is not logged
        rows = [*rows[:2], {"val_accuracy": 1 / truth.num_classes, "epoch_seconds": 1.0, "diverged": 1.0}]
    return rows


def tags_of(truth: ReportedTruth, run: SimulatedRun) -> dict[str, str]:
    """As :mod:`study.tracking` sets them."""
    return {
        "study": truth.name,
        "dataset": truth.dataset,
        "regime": run.regime,
        "phase": run.phase,
        "arm": run.arm,
        "seed": str(run.seed),
        "trial_id": f"{run.arm}/{run.regime}-{run.phase}/{run.number}",
        "stop_reason": run.stop_reason,
    }


def values_of(run: SimulatedRun) -> list[tuple[str, int, float]]:
    """Metric, epoch, value."""
    rows = [*run.rows[:-1], run.rows[-1] | run.last]
    return [(name, epoch, value) for epoch, row in enumerate(rows, start=1) for name, value in row.items()]


def build_record(truth: ReportedTruth, metrics=None) -> StudyRecord:
    """The record as ``load_study`` returns it, without a store; ``metrics`` as there."""
    children, finals, values = [], {}, []
    for index, run in enumerate(simulate(truth)):
        run_id = f"run-{index:05d}"
        info = RunInfo(
            run_id=run_id, experiment_id="1", user_id="", status="FINISHED", start_time=index * 1000,
            end_time=index * 1000 + 500, lifecycle_stage="active",
        )  # fmt: skip
        own = values_of(run)
        latest = {name: Metric(name, value, epoch, epoch) for name, epoch, value in own}
        params = [Param(key, str(value)) for key, value in (truth.config(run.rate) | {"seed": run.seed}).items()]
        tags = [RunTag(key, value) for key, value in tags_of(truth, run).items()]
        children.append(Run(info, RunData(list(latest.values()), params, tags)))
        kept = metrics or latest.keys()
        values += [(run_id, name, epoch, value, index * 1000 + epoch) for name, epoch, value in own if name in kept]
        if run.final:
            finals[run_id] = run.final
    trials = build_trials(children)
    epochs = build_epochs(pd.DataFrame.from_records(values, columns=list(COLUMNS)), trials)
    return StudyRecord(
        name=truth.name,
        run_id="parent",
        experiment_id="1",
        tracking_uri="memory",
        tags={"study": truth.name, "space": "loss_by_activation", "phase": "study", "state": "finished"},
        protocol=truth.protocol(),
        trials=add_last_epoch(trials, epochs),
        epochs=epochs,
        finals=finals,
        identities=truth.identities,
        diagnostics=truth.diagnostics,
    )


def write_record(uri: str, artifacts: Path, truth: ReportedTruth) -> str:
    """Put the study into a store; returns the parent's run id."""
    client = MlflowClient(uri)
    found = client.get_experiment_by_name("loss_by_activation")
    experiment = (
        found.experiment_id
        if found
        else client.create_experiment("loss_by_activation", artifact_location=artifacts.absolute().as_uri())
    )
    tags = {"study": truth.name, "space": "loss_by_activation", "phase": "study", "state": "finished"}
    parent = client.create_run(experiment, tags=tags, run_name=truth.name).info.run_id
    contents = {"study": truth.protocol(), "identities": truth.identities, "diagnostics": truth.diagnostics}
    for name, content in contents.items():
        if content:
            client.log_text(parent, json.dumps(content), f"{name}.json")
    for run in simulate(truth):
        tags = tags_of(truth, run) | {"mlflow.parentRunId": parent}
        run_id = client.create_run(experiment, tags=tags, run_name=f"{run.arm}-{run.number}").info.run_id
        params = [Param(key, str(value)) for key, value in (truth.config(run.rate) | {"seed": run.seed}).items()]
        client.log_batch(run_id, [Metric(name, value, epoch, epoch) for name, epoch, value in values_of(run)], params)
        if run.final:
            client.log_text(run_id, json.dumps(run.final), "final.json")
        client.set_terminated(run_id, "FINISHED")
    client.set_terminated(parent, "FINISHED")
    return parent
