"""The grid with Optuna, as its documentation has a user write it.

From Optuna's tutorials "Easy Parallelization" (the same script started once per process, all on one storage,
``load_if_exists``) and its PyTorch example (an objective that builds, trains and scores, with ``trial.report``), and
MLflow's tutorial "Hyperparameter Tuning & Deployment" (a run per trial, metrics logged with their step). The grid is a
``GridSampler``'s. An epoch is logged with one ``log_metrics``, not with a call per metric.

    python -m bench.peers.optuna_idiom --dataset fashion-mnist --data DIR --epochs 5
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import optuna
import torch
from optuna.study import MaxTrialsCallback

from bench.peers import task

PROCESSES = min(2, os.cpu_count() or 1)
STORAGE = "sqlite:///optuna.db"
NAME = "optuna_idiom"


def build_objective(arguments: argparse.Namespace) -> Callable[[optuna.Trial], float]:
    """What Optuna calls for each trial."""
    split = task.load_data(arguments.dataset, Path(arguments.data))

    def objective(trial: optuna.Trial) -> float:
        torch.manual_seed(0)
        if arguments.random_trials:
            loss, name = "cross_entropy", "sgd"
            rate = trial.suggest_float("learning_rate", 1e-3, 1e-1, log=True)
        else:
            loss = trial.suggest_categorical("loss", task.LOSSES)
            name, rate = trial.suggest_categorical("optimizer", task.OPTIMIZERS), None
        train_loader, val_loader, test_loader = task.loaders(split)
        model = task.build_model(arguments.dataset)
        optimizer = task.build_optimizer(name, model, rate)
        with mlflow.start_run(run_name=f"trial-{trial.number}"):
            mlflow.log_params({**trial.params, "epochs": arguments.epochs, "batch_size": task.BATCH_SIZE})
            for epoch in range(1, arguments.epochs + 1):
                started = time.perf_counter()
                row = task.train_epoch(model, train_loader, loss, optimizer)
                row |= task.evaluate(model, val_loader, loss, "val")
                row["epoch_seconds"] = time.perf_counter() - started
                if epoch == arguments.epochs:
                    row |= task.evaluate(model, test_loader, loss, "test")
                mlflow.log_metrics(row, step=epoch)
                trial.report(row["val_accuracy"], epoch)
        return row["val_accuracy"]

    return objective


def work(arguments: argparse.Namespace) -> None:
    """One of the processes."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    mlflow.set_tracking_uri(f"sqlite:///{Path.cwd()}/mlflow.db")
    mlflow.set_experiment(NAME)
    grid = {"loss": list(task.LOSSES), "optimizer": list(task.OPTIMIZERS)}
    count = arguments.random_trials or len(task.LOSSES) * len(task.OPTIMIZERS)
    sampler = optuna.samplers.RandomSampler() if arguments.random_trials else optuna.samplers.GridSampler(grid)
    study = optuna.load_study(study_name=NAME, storage=STORAGE, sampler=sampler)
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.RUNNING)
    study.optimize(build_objective(arguments), callbacks=[MaxTrialsCallback(count, states=states)])


def main() -> None:
    """The command: makes the study and the database, then starts itself once per process."""
    parser = task.build_parser()
    parser.add_argument("--worker", action="store_true", help="be one of the processes")
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments)
        return
    optuna.create_study(study_name=NAME, storage=STORAGE, direction="maximize")
    mlflow.set_tracking_uri(f"sqlite:///{Path.cwd()}/mlflow.db")
    mlflow.set_experiment(NAME)
    command = [sys.executable, "-m", "bench.peers.optuna_idiom", *sys.argv[1:], "--worker"]
    workers = [subprocess.Popen(command) for _ in range(PROCESSES)]
    codes = [worker.wait() for worker in workers]
    if any(codes):
        sys.exit(f"a worker ended with exit code {max(codes)}")
    study = optuna.load_study(study_name=NAME, storage=STORAGE)
    print(f"best: {study.best_params}, validation accuracy {study.best_value:.4f}")


if __name__ == "__main__":
    main()
