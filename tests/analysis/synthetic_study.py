"""A study on record whose truth is known: what the launcher would leave in MLflow, made without training."""

import json
import math
import runpy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

FINAL = runpy.run_path(str(Path(__file__).with_name("synthetic_final.py")))
RANGES = {"sgd": (1e-3, 1.0), "adam": (1e-5, 1e-1)}
NUM_CLASSES = 10
NUM_TEST = 360
MAX_EPOCHS = 8


@dataclass
class Truth:
    """What the study should say.

    ``effects`` are differences to the baseline in accuracy points that every seed shows but for ``noise``, an SD in
    points; every arm and seed also moves by a seed effect common to all arms, which pairing removes.
    ``drops`` are the points that an arm loses at the strongest severity of every corruption, by default 20;
    ``overconfidence`` is its confidence minus its accuracy in points, by default 2; ``extra_errors`` are images per
    seed, ``(true, predicted, count)``, that an arm confuses beside those of its accuracy.
    """

    name: str = "truth"
    effects: dict[str, float] = field(
        default_factory=lambda: {"cross_entropy": 0.0, "focal": 1.5, "hinge": 0.0, "l1": -6.0}
    )
    noise: float = 0.3
    num_trials: int = 6
    seeds: tuple[int, ...] = tuple(range(1, 11))
    baseline: str = "cross_entropy"
    base_accuracy: float = 0.9
    delta: float = 1.0
    diverged: tuple[tuple[str, int], ...] = ()
    drops: dict[str, float] = field(default_factory=dict)
    overconfidence: dict[str, float] = field(default_factory=dict)
    extra_errors: dict[str, tuple[tuple[int, int, int], ...]] = field(default_factory=dict)
    class_names: tuple[str, ...] = tuple(str(digit) for digit in range(NUM_CLASSES))
    control: float | None = 0.0
    edge_arm: str | None = None
    no_winner: tuple[str, ...] = ()
    mode: str = "arms"
    confirm: bool = True
    state: str = "finished"
    write_protocol: bool = True

    def score(self, arm: str, seed: int) -> float:
        """The test accuracy of a confirm run, in (0, 1)."""
        shared = np.random.default_rng(seed).normal(0, 1)
        own = np.random.default_rng([seed, *arm.encode()]).normal(0, self.noise) if arm != self.baseline else 0.0
        return self.base_accuracy + (shared + self.effects[arm] + own) / 100

    def protocol(self, winners: dict) -> dict:
        return {
            "schema": 1,
            "study": self.name,
            "space": "full",
            "question": "Does the loss matter?",
            "factor": "loss",
            "baseline": self.baseline,
            "mode": self.mode,
            "arms": [describe_arm(arm) for arm in self.effects],
            "delta": self.delta,
            "seed": 0,
            "confirm_seeds": list(self.seeds),
            "trials_per_arm": self.num_trials,
            "dataset": {
                "name": "digits",
                "num_train": 1437,
                "num_val": 240,
                "num_test": NUM_TEST,
                "num_classes": NUM_CLASSES,
                "class_names": list(self.class_names),
                "input_shape": [1, 8, 8],
                "sha256": "c0ffee" * 10 + "feed",
            },
            "search": "tpe",
            "stopping": "asha",
            "grace_period": 2,
            "reduction_factor": 3,
            "rungs": [2, 6],
            "time_attribute": "epoch",
            "winners": winners,
            "versions": {"python": "3.11.7", "mlflow": "3.17.2"},
            "command": f"python -m study.launch --space full --name {self.name}",
            "git_commit": "0123456789abcdef",
            "git_dirty": False,
            "notes": [],
        }


def describe_arm(arm: str) -> dict:
    rates = [
        {
            "key": "optimizer.learning_rate",
            "kind": "float",
            "low": low,
            "high": high,
            "log": True,
            "when": {"optimizer": [name]},
        }
        for name, (low, high) in RANGES.items()
    ]
    choice = {"key": "optimizer", "kind": "categorical", "choices": list(RANGES), "when": None}
    return {"name": arm, "fixed": {"loss": arm, "model": "mlp"}, "parameters": [choice, *rates]}


def curve(last: float, num_epochs: int) -> list[float]:
    """Accuracies that rise from chance to ``last``."""
    rise = [1 - math.exp(-1.5 * epoch) for epoch in range(1, num_epochs + 1)]
    return [0.1 + (last - 0.1) * step / rise[-1] for step in rise]


class Writer:
    """Writes runs as the schema says."""

    def __init__(self, uri: str, artifacts: Path, truth: Truth) -> None:
        self.client = MlflowClient(uri)
        self.truth = truth
        existing = self.client.get_experiment_by_name("full")
        self.experiment = (
            existing.experiment_id
            if existing
            else self.client.create_experiment("full", artifact_location=artifacts.absolute().as_uri())
        )
        self.clock = 1_700_000_000_000
        self.parent = ""

    def open_study(self, winners: dict) -> None:
        truth = self.truth
        tags = {
            "study": truth.name,
            "space": "full",
            "dataset": "digits",
            "regime": "search",
            "phase": "study",
            "state": truth.state,
        }
        tags["command"] = f"python -m study.launch --space full --name {truth.name}"
        self.parent = self.client.create_run(self.experiment, tags=tags, run_name=truth.name).info.run_id
        if truth.write_protocol:
            self.client.log_text(self.parent, json.dumps(truth.protocol(winners)), "study.json")

    def write_run(self, arm, phase, *, number, seed, stop_reason, parameters, rows, last=None, final=None) -> str:
        """One child run: ``rows`` are metrics per epoch from 1, ``last`` the metrics logged once at the end."""
        tags = {
            "mlflow.parentRunId": self.parent,
            "study": self.truth.name,
            "space": "full",
            "dataset": "digits",
            "phase": phase,
            "regime": "search",
            "node": "host-a",
            "arm": arm,
            "seed": str(seed),
            "trial_id": f"{arm}/{phase}/{number}",
            "stop_reason": stop_reason,
        }
        name = f"{arm}-{number:03d}" if phase == "search" else f"{arm}-seed-{seed}"
        self.clock += 1000
        run_id = self.client.create_run(self.experiment, tags=tags, run_name=name, start_time=self.clock).info.run_id
        metrics = []
        for epoch, row in enumerate(rows, start=1):
            self.clock += 10
            metrics += [Metric(key, value, self.clock, epoch) for key, value in row.items()]
        metrics += [Metric(key, value, self.clock, len(rows)) for key, value in (last or {}).items()]
        params = [Param(key, str(value)) for key, value in parameters.items()]
        self.client.log_batch(run_id, metrics=metrics, params=params, tags=[RunTag("arm", arm)])
        if final:
            self.client.log_text(run_id, json.dumps(final), "final.json")
        status = {"completed": "FINISHED", "diverged": "FINISHED", "failed": "FAILED"}.get(stop_reason, "KILLED")
        self.client.set_terminated(run_id, status, end_time=self.clock)
        return run_id


def flat(arm: str, optimizer: str, rate: float, seed: int) -> dict:
    values = {
        "loss": arm,
        "optimizer": optimizer,
        "optimizer.learning_rate": rate,
        "batch_size": 64,
        "epochs": MAX_EPOCHS,
    }
    values |= {"model": "mlp", "hidden_layers": 2, "width": 128, "activation": "relu", "seed": seed}
    values |= {"reduction": "mean", "schedule": "constant", "precision": "fp32", "augment": False}
    return (
        values
        | ({"loss.gamma": 1.5} if arm == "focal" else {})
        | ({"optimizer.momentum": 0.9} if optimizer == "sgd" else {})
    )


def epoch_rows(accuracies: list[float], *, diverged: bool = False) -> list[dict]:
    rows = [
        {
            "train_loss": 1 - accuracy,
            "train_accuracy": accuracy,
            "val_loss": 1.1 - accuracy,
            "val_accuracy": accuracy,
            "val_nll": 1.2 - accuracy,
            "epoch_seconds": 2.0 if epoch == 0 else 0.5,
            "diverged": 0.0,
        }
        for epoch, accuracy in enumerate(accuracies)
    ]
    if diverged:  # a loss that is not finite is not logged
        rows.append({"val_accuracy": 1 / NUM_CLASSES, "epoch_seconds": 0.5, "diverged": 1.0})
    return rows


def plan_search(truth: Truth, arm: str) -> list[tuple[str, float, str, int, float]]:
    """Optimizer, learning rate, stop reason, epochs and last accuracy of each trial; the first but one wins."""
    plan = []
    for number in range(truth.num_trials):
        optimizer = list(RANGES)[number % 2]
        low, high = RANGES[optimizer]
        rate = low * (high / low) ** ((number + 1.5) / (truth.num_trials + 2))
        reason, epochs = [("completed", MAX_EPOCHS), ("completed", MAX_EPOCHS), ("pruned", 2), ("pruned", 6)][
            number % 4
        ]
        accuracy = truth.base_accuracy + (truth.effects[arm] - (0 if number == 1 else number + 1)) / 100
        if number == 1 and arm == truth.edge_arm:
            rate = high * 0.99
        plan.append((optimizer, rate, reason, epochs, accuracy))
    return plan


def write_study(uri: str, artifacts: Path, truth: Truth) -> Writer:
    """Put a study on record.

    Args:
        uri: MLflow's tracking URI.
        artifacts: A folder for the experiment's artifacts.
        truth: What the study should say.
    """
    writer = Writer(uri, artifacts, truth)
    plans = {arm: plan_search(truth, arm) for arm in truth.effects}
    winners = {arm: None if arm in truth.no_winner else describe_winner(arm, plans[arm]) for arm in truth.effects}
    writer.open_study(winners)
    for number in range(truth.num_trials):
        for arm, plan in plans.items():
            optimizer, rate, reason, epochs, accuracy = plan[number]
            parameters = flat(arm, optimizer, rate, seed=0)
            rows = epoch_rows(curve(accuracy, epochs))
            writer.write_run(arm, "search", number=number, seed=0, stop_reason=reason, parameters=parameters, rows=rows)
    for arm, winner in winners.items() if truth.confirm else ():
        if winner:
            for seed in truth.seeds:
                write_confirm(writer, arm, winner["config"], seed)
    if truth.confirm and truth.control is not None and winners.get(truth.baseline):
        for seed in truth.seeds:
            shift = truth.control if seed == truth.seeds[-1] else 0.0
            config = winners[truth.baseline]["config"]
            score = truth.score(truth.baseline, seed) + shift
            write_scored(
                writer, "kl_div", "control", config=config | {"loss": "kl_div", "seed": seed}, seed=seed, score=score
            )
    if truth.state != "running":
        writer.client.set_terminated(writer.parent, "FINISHED")
    return writer


def describe_winner(arm: str, plan: list) -> dict:
    number = min(1, len(plan) - 1)
    optimizer, rate, _, _, accuracy = plan[number]
    return {"number": number, "val_accuracy": accuracy, "config": flat(arm, optimizer, rate, seed=0)}


def write_confirm(writer: Writer, arm: str, config: dict, seed: int) -> None:
    truth = writer.truth
    if (arm, seed) in truth.diverged:
        rows = epoch_rows(curve(0.5, 2), diverged=True)
        parameters = config | {"seed": seed}
        writer.write_run(
            arm,
            "confirm",
            number=seed - 1,
            seed=seed,
            stop_reason="diverged",
            parameters=parameters,
            rows=rows,
            last={"test_accuracy": 1 / NUM_CLASSES},
            final={"class_names": list(truth.class_names)},
        )
        return
    write_scored(writer, arm, "confirm", config=config | {"seed": seed}, seed=seed, score=truth.score(arm, seed))


def write_scored(writer: Writer, arm: str, phase: str, *, config: dict, seed: int, score: float) -> None:
    truth = writer.truth
    drop, overconfidence = truth.drops.get(arm, 20.0) / 100, truth.overconfidence.get(arm, 2.0) / 100
    last = {"test_accuracy": score, "test_nll": 1.2 - score, "test_f1_macro": score - 0.01}
    last |= {"test_ece": abs(overconfidence), "test_corruption_area": FINAL["corruption_area"](drop)}
    final = FINAL["final_record"](
        score,
        num_classes=NUM_CLASSES,
        num_test=NUM_TEST,
        drop=drop,
        overconfidence=overconfidence,
        extra_errors=truth.extra_errors.get(arm, ()),
        class_names=truth.class_names,
    )
    writer.write_run(
        arm,
        phase,
        number=seed - 1,
        seed=seed,
        stop_reason="completed",
        parameters=config,
        rows=epoch_rows(curve(score, MAX_EPOCHS)),
        last=last,
        final=final,
    )
