"""A real MLflow store with one study of two arms, logged once for the tests of this folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from study.models import Candidate, Registered, log_best_models
from trainables.config import TrialConfig
from trainables.data import Dataset, load_dataset
from trainables.loop import load_resident, predict_logits, run_epoch, start_training

FLAT = {
    "loss": "cross_entropy",
    "optimizer": "adam",
    "optimizer.learning_rate": 1e-2,
    "batch_size": 64,
    "epochs": 2,
    "model": "mlp",
    "width": 32,
}


@dataclass(frozen=True)
class Store:
    """A tracking store, and how to add a finished confirm trial to it."""

    uri: str
    client: MlflowClient
    experiment_id: str
    folder: Path
    dataset: Dataset

    def candidate(self, arm, seed, val_accuracy, *, dataset=None, break_weights=False, **flat):
        """A trained trial whose run has ended, and its test logits; a key that is None is left out."""
        torch.set_num_threads(1)
        values = {**FLAT, **flat, "seed": seed}
        config = TrialConfig.from_flat({key: value for key, value in values.items() if value is not None})
        data = load_resident(dataset or self.dataset, torch.device("cpu"))
        state = start_training(config, data)
        for _ in range(config.epochs):
            run_epoch(state, data)
        run = self.client.create_run(self.experiment_id, run_name=f"{arm}-seed-{seed}").info
        self.client.log_metric(run.run_id, "val_accuracy", val_accuracy, step=config.epochs)
        self.client.set_terminated(run.run_id)
        weights = state.model.state_dict()
        if break_weights:
            next(iter(weights.values())).fill_(float("nan"))
        path = self.folder / f"{run.run_id}.pt"
        torch.save(weights, path)
        logits = predict_logits(state, data, data.test_images)
        return Candidate(arm, seed, run.run_id, config.to_flat(), path, val_accuracy), logits


@dataclass(frozen=True)
class LoggedStudy:
    """The study ``digits-study``: focal's seed 2 is the best of all, cross_entropy's seed 1 the best of its arm."""

    store: Store
    candidates: list[Candidate]
    best_logits: torch.Tensor
    registered: Registered


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Store:
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment_id = client.create_experiment("digits", (folder / "artifacts").as_uri())
    return Store(uri, client, experiment_id, folder, load_dataset("digits", train_size=600))


@pytest.fixture(scope="session")
def logged_study(store) -> LoggedStudy:
    made = [
        store.candidate("cross_entropy", 1, 0.93),
        store.candidate("cross_entropy", 2, 0.93),
        store.candidate("focal", 1, 0.91, loss="focal"),
        store.candidate("focal", 2, 0.95, loss="focal"),
    ]
    candidates = [candidate for candidate, _ in made]
    registered = log_best_models(candidates, dataset=store.dataset, study="digits-study", tracking_uri=store.uri)
    assert registered is not None
    return LoggedStudy(store, candidates, made[3][1], registered)


@pytest.fixture
def linked_models(store) -> Callable[[Candidate], list[str]]:
    """The ids of the models that a candidate's run links to."""

    def linked(candidate):
        outputs = store.client.get_run(candidate.run_id).outputs
        return [output.model_id for output in outputs.model_outputs] if outputs else []

    return linked
