"""The grid with Ray Tune, as its documentation has a user write it.

From "Getting Started with Ray Tune" and "Hyperparameter tuning with Ray Tune and PyTorch" (a function that trains,
reads its configuration and calls ``tune.report`` after each epoch; ``tune.with_resources``; a ``Tuner`` over
``grid_search``) and "Using MLflow with Tune" (``MLflowLoggerCallback``). Unlike the tutorial it saves no checkpoints:
that would only cost it time.

    python -m bench.peers.ray_idiom --dataset fashion-mnist --data DIR --epochs 5
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch
from ray import init, tune
from ray.air.integrations.mlflow import MLflowLoggerCallback

from bench.peers import task


def train(config: dict[str, Any]) -> None:
    """One trial."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    train_loader, val_loader, test_loader = task.loaders(task.load_data(config["dataset"], Path(config["data"])))
    model = task.build_model(config["dataset"])
    optimizer = task.build_optimizer(config["optimizer"], model, config["learning_rate"])
    for epoch in range(1, config["epochs"] + 1):
        started = time.perf_counter()
        row = task.train_epoch(model, train_loader, config["loss"], optimizer)
        row |= task.evaluate(model, val_loader, config["loss"], "val")
        row["epoch_seconds"] = time.perf_counter() - started
        if epoch == config["epochs"]:
            row |= task.evaluate(model, test_loader, config["loss"], "test")
        tune.report(row)


def main() -> None:
    """The command."""
    arguments = task.build_parser().parse_args()
    here = Path.cwd()
    init("local", num_cpus=min(2, os.cpu_count() or 1), include_dashboard=False)
    space = {
        "dataset": arguments.dataset,
        "data": str(Path(arguments.data).absolute()),
        "epochs": arguments.epochs,
        "loss": tune.grid_search(list(task.LOSSES)),
        "optimizer": tune.grid_search(list(task.OPTIMIZERS)),
        "learning_rate": None,
    }
    samples = 1
    if arguments.random_trials:
        space |= {"loss": "cross_entropy", "optimizer": "sgd", "learning_rate": tune.loguniform(1e-3, 1e-1)}
        samples = arguments.random_trials
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(metric="val_accuracy", mode="max", num_samples=samples),
        run_config=tune.RunConfig(
            name="ray_idiom",
            storage_path=str(here / "ray_results"),
            callbacks=[MLflowLoggerCallback(tracking_uri=f"sqlite:///{here}/mlflow.db", experiment_name="ray_idiom")],
        ),
    )
    best = tuner.fit().get_best_result()
    print(f"best: {best.config}, test accuracy {best.metrics['test_accuracy']:.4f}")


if __name__ == "__main__":
    main()
