"""The arms' best models, logged to MLflow after the confirm phase; the study's best is registered.

A model is stored as an exported graph (``torch.export``, "pt2"): whoever loads it needs neither this project nor
the dataset's mean and deviation, and nothing is unpickled on the way.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from torch import Tensor, nn

from analysis.address import short_reason
from study.confirm import Candidate
from study.registry import ALIAS, MODEL_NAME, find_logged_model, load_graph, strict_and_quiet
from trainables.config import TrialConfig
from trainables.data import Dataset
from trainables.models import build_model

logger = logging.getLogger(__name__)

#: Test images stored as the input example; more than one, or the exporter would fix the batch size.
NUM_EXAMPLES = 3
#: How far the logits of the stored graph may lie from the model's; kernels may sum in another order.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Registered:
    """The study's best as MLflow's registry holds it: ``models:/<name>/<version>``."""

    name: str
    version: int
    arm: str
    seed: int
    run_id: str
    model_id: str


class _ExportError(Exception):
    """A model cannot be captured as a graph; the message is one line."""


class PixelClassifier(nn.Module):
    """A trained model behind its normalisation, computed as in training: raw pixels in, logits out.

    Args:
        model: Takes normalised images of shape ``(batch, C, H, W)``.
        mean: Per channel, on [0, 1].
        std: Likewise.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        deviation = torch.tensor(std).view(1, -1, 1, 1)
        self.register_buffer("scale", 1 / (255 * deviation))
        self.register_buffer("shift", -torch.tensor(mean).view(1, -1, 1, 1) / deviation)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits, shape ``(batch, num_classes)``, of pixels in [0, 255], float32, shape ``(batch, C, H, W)``."""
        logits: Tensor = self.model(torch.addcmul(self.shift, pixels, self.scale))
        return logits


def log_best_models(
    candidates: Sequence[Candidate], *, dataset: Dataset, study: str, tracking_uri: str
) -> Registered | None:
    """Log each arm's best model to the run that trained it, and register the study's best.

    Calling it again for the same runs changes nothing. An arm whose weights are not finite for any seed has no
    model; neither has one whose model ``torch.export`` cannot capture, which is said in a warning, and its weights
    are kept as the run's artifact ``weights.pt``.

    Args:
        candidates: The confirm trials; their runs may have ended.
        dataset: The data they were trained on.
        study: The study's name, also that of the registered model.
        tracking_uri: Of the MLflow store.

    Returns:
        The study's best, or None if its model cannot be stored.

    Raises:
        MlflowException: If the store does not answer.
    """
    ranked = sorted(candidates, key=lambda candidate: (-candidate.val_accuracy, candidate.seed))
    logged: dict[str, tuple[Candidate, LoggedModel | None]] = {}
    failures: dict[str, str] = {}
    registered = None
    with strict_and_quiet():
        client = MlflowClient(tracking_uri)
        for candidate in ranked:
            if candidate.arm in logged:
                continue
            found = find_logged_model(client, candidate.run_id)
            if found is None:
                model = _rebuild(candidate, dataset)
                if model is None:
                    continue
                try:
                    found = _log(client, candidate, model, dataset, study)
                except _ExportError as error:
                    _keep_weights(client, candidate)
                    failures[candidate.arm] = str(error)
            logged[candidate.arm] = (candidate, found)
        # The first arm of `logged` holds the best of all candidates.
        best, best_model = next(iter(logged.values()), (None, None))
        if best is not None and best_model is not None:
            registered = _register_once(client, best, best_model, study, dataset)
    for arm, reason in failures.items():
        logger.warning("The model of the arm %s cannot be stored as a graph and is kept as weights.pt: %s", arm, reason)
    return registered


def _rebuild(candidate: Candidate, dataset: Dataset) -> PixelClassifier | None:
    """The trained model, or None if training left weights that are not finite."""
    weights = torch.load(candidate.weights, map_location="cpu", weights_only=True)
    if not all(torch.isfinite(tensor).all() for tensor in weights.values()):
        return None
    config = TrialConfig.from_flat(candidate.config)
    model = build_model(config.model, dataset.input_shape, dataset.num_classes)
    model.load_state_dict(weights)
    return PixelClassifier(model, dataset.mean, dataset.std).eval()


def _log(
    client: MlflowClient, candidate: Candidate, model: PixelClassifier, dataset: Dataset, study: str
) -> LoggedModel:
    tags = _tags(candidate, dataset, study)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / MODEL_NAME
        try:
            description = _save(model, folder, dataset, {**tags, "class_names": list(dataset.class_names)})
            _check_saved(model, folder, dataset)
        except Exception as error:  # a user's own model may fail in the exporter in any way
            raise _ExportError(short_reason(error)) from error
        params = {key: str(value) for key, value in candidate.config.items()}
        logged = client.create_logged_model(
            client.get_run(candidate.run_id).info.experiment_id,
            MODEL_NAME,
            candidate.run_id,
            tags,
            params,
            "classifier",
        )
        # Only now has the model an id; its description must carry it.
        description.model_id = description.model_uuid = logged.model_id
        description.run_id, description.artifact_path = candidate.run_id, logged.artifact_location
        description.save(str(folder / "MLmodel"))
        client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    # The link comes last: a run that has it has a whole model.
    client.log_outputs(candidate.run_id, [LoggedModelOutput(logged.model_id, step=int(candidate.config["epochs"]))])
    return logged


def _tags(candidate: Candidate, dataset: Dataset, study: str) -> dict[str, str]:
    return {
        "study": study,
        "arm": candidate.arm,
        "seed": str(candidate.seed),
        "dataset": dataset.name,
        "val_accuracy": repr(float(candidate.val_accuracy)),
    }


def _save(model: PixelClassifier, folder: Path, dataset: Dataset, metadata: Mapping[str, Any]) -> Model:
    pixels = np.dtype(np.float32)
    signature = ModelSignature(
        inputs=Schema([TensorSpec(pixels, (-1, *dataset.input_shape))]),
        outputs=Schema([TensorSpec(pixels, (-1, dataset.num_classes))]),
    )
    description = Model(metadata=dict(metadata))
    mlflow.pytorch.save_model(
        model,
        str(folder),
        mlflow_model=description,
        signature=signature,
        input_example=_examples(dataset),
        # Named here, since inferring them starts a process and takes seconds.
        pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}", f"numpy=={np.__version__}"],
        serialization_format="pt2",
    )
    return description


def _examples(dataset: Dataset) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Test images as the model takes them; repeated where the dataset has fewer."""
    chosen = np.arange(NUM_EXAMPLES) % len(dataset.test_images)
    return dataset.test_images[chosen].astype(np.float32)


@torch.inference_mode()
def _check_saved(model: PixelClassifier, folder: Path, dataset: Dataset) -> None:
    """Read the graph back on another batch size, since the exporter may fix the one it saw without a word."""
    pixels = torch.from_numpy(_examples(dataset))[:1]
    stored, expected = load_graph(folder)(pixels), model(pixels)
    if not torch.allclose(stored, expected, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
        raise ValueError(f"the stored graph computes {stored.tolist()}; the model computes {expected.tolist()}")


def _keep_weights(client: MlflowClient, candidate: Candidate) -> None:
    if "weights.pt" in {file.path for file in client.list_artifacts(candidate.run_id)}:
        return
    with tempfile.TemporaryDirectory() as scratch:
        client.log_artifact(candidate.run_id, shutil.copy(candidate.weights, Path(scratch) / "weights.pt"))


def _register_once(
    client: MlflowClient, best: Candidate, logged: LoggedModel, study: str, dataset: Dataset
) -> Registered:
    try:
        client.create_registered_model(study, tags={"study": study})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    versions = client.search_model_versions(f"name = '{study}'")
    known = [int(version.version) for version in versions if version.source == logged.artifact_location]
    if known:
        number = known[0]
    else:
        # A source "models:/<id>" would be looked up in the process's global store, not in the client's.
        version = client.create_model_version(
            study,
            logged.artifact_location,
            run_id=best.run_id,
            tags=_tags(best, dataset, study),
            model_id=logged.model_id,
        )
        number = int(version.version)
    client.set_registered_model_alias(study, ALIAS, str(number))
    return Registered(study, number, best.arm, best.seed, best.run_id, logged.model_id)
