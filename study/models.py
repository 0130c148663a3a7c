"""The arms' best models in MLflow: logged after the confirm phase, loaded again to predict.

A model is stored as an exported graph (``torch.export``, "pt2"): whoever loads it needs neither this project nor
the dataset's mean and deviation, and nothing is unpickled on the way.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from sqlalchemy.exc import SQLAlchemyError
from torch import Tensor, nn

from trainables.config import InputError, Scalar, TrialConfig
from trainables.data import Dataset
from trainables.models import build_model

logger = logging.getLogger(__name__)

MODEL_NAME = "model"
#: The registered model's alias for the version that a prediction uses.
ALIAS = "best"
#: Test images stored as the input example; more than one, or the exporter would fix the batch size.
NUM_EXAMPLES = 3
#: How far the logits of the stored graph may lie from the model's; kernels may sum in another order.
TOLERANCE = 1e-3
_ENVIRONMENT = {
    # MLflow unpickles unless told otherwise.
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


@dataclass(frozen=True)
class Candidate:
    """A confirm trial whose weights are at hand.

    Args:
        arm: Its arm.
        seed: Its seed.
        run_id: Its MLflow run.
        config: Its flat ``TrialConfig``.
        weights: A state dict written by ``torch.save``.
        val_accuracy: On the validation split at the last epoch, in [0, 1]; the test split chooses nothing.
    """

    arm: str
    seed: int
    run_id: str
    config: Mapping[str, Scalar]
    weights: Path
    val_accuracy: float


@dataclass(frozen=True)
class Registered:
    """The study's best as MLflow's registry holds it: ``models:/<name>/<version>``."""

    name: str
    version: int
    arm: str
    seed: int
    run_id: str
    model_id: str


@dataclass(frozen=True)
class StoredModel:
    """A model loaded from MLflow.

    Args:
        module: Raw pixels, float32 in [0, 255], shape ``(batch, *input_shape)``, to logits ``(batch, num_classes)``.
        input_shape: Channels, height, width.
        class_names: One per logit.
        study: The study it comes from.
        arm: Its arm.
        seed: Its confirm seed.
    """

    module: nn.Module
    input_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    study: str
    arm: str
    seed: int


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
    with _strict_and_quiet():
        client = MlflowClient(tracking_uri)
        logged: dict[str, tuple[Candidate, LoggedModel | None]] = {}
        for candidate in ranked:
            if candidate.arm in logged:
                continue
            model = _rebuild(candidate, dataset)
            if model is not None:
                logged[candidate.arm] = (candidate, _log_once(client, candidate, model, dataset, study))
        # The first arm of `logged` holds the best of all candidates.
        best, logged_model = next(iter(logged.values()), (None, None))
        if best is None or logged_model is None:
            return None
        return _register_once(client, best, logged_model, study, dataset)


def load_stored_model(study: str, *, arm: str | None = None, tracking_uri: str) -> StoredModel:
    """Load a study's registered winner, or the best model of one of its arms.

    Args:
        study: The study's name.
        arm: The arm, or None for the winner.
        tracking_uri: Of a store that exists and answers.

    Raises:
        InputError: If there is no such study or arm, or its model cannot be loaded.
    """
    try:
        with _strict_and_quiet(), tempfile.TemporaryDirectory() as folder:
            client = MlflowClient(tracking_uri)
            logged = _find_winner(client, study, tracking_uri)
            if arm is not None:
                logged = _find_arm(client, study, arm, logged.experiment_id)
            # A store on this machine gives its own folder, a server a copy.
            path = mlflow.artifacts.download_artifacts(
                artifact_uri=logged.artifact_location, dst_path=folder, tracking_uri=tracking_uri
            )
            return _load_folder(Path(path), f"The model of the study {study!r}")
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise InputError(f"The model of the study {study!r} cannot be read: {_line(error)}") from error


@contextmanager
def _strict_and_quiet() -> Iterator[None]:
    """No unpickling, and no word from MLflow or the exporter; as it was afterwards."""
    noisy = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [log.level for log in noisy]
    before = {key: os.environ.get(key) for key in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    for log in noisy:
        log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(noisy, levels, strict=True):
            log.setLevel(level)
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def _rebuild(candidate: Candidate, dataset: Dataset) -> PixelClassifier | None:
    """The trained model, or None if training left weights that are not finite."""
    weights = torch.load(candidate.weights, map_location="cpu", weights_only=True)
    if not all(torch.isfinite(tensor).all() for tensor in weights.values()):
        return None
    config = TrialConfig.from_flat(candidate.config)
    model = build_model(config.model, dataset.input_shape, dataset.num_classes)
    model.load_state_dict(weights)
    return PixelClassifier(model, dataset.mean, dataset.std).eval()


def _log_once(
    client: MlflowClient, candidate: Candidate, model: PixelClassifier, dataset: Dataset, study: str
) -> LoggedModel | None:
    run = client.get_run(candidate.run_id)
    for output in run.outputs.model_outputs if run.outputs else []:
        found = client.get_logged_model(output.model_id)
        if found.name == MODEL_NAME and found.status == LoggedModelStatus.READY:
            return found
    tags = _tags(candidate, dataset, study)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / MODEL_NAME
        try:
            description = _save(model, folder, dataset, {**tags, "class_names": list(dataset.class_names)})
            _check_saved(model, folder, dataset)
        except Exception as error:  # noqa: BLE001 - a user's own model may fail in the exporter in any way
            logger.warning(
                "The model of the arm %s cannot be stored as a graph and is kept as weights.pt: %s",
                candidate.arm,
                _line(error),
            )
            _keep_weights(client, candidate, Path(scratch))
            return None
        params = {key: str(value) for key, value in candidate.config.items()}
        logged = client.create_logged_model(
            run.info.experiment_id, MODEL_NAME, candidate.run_id, tags, params, "classifier"
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
    stored, expected = _load_graph(folder)(pixels), model(pixels)
    if not torch.allclose(stored, expected, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
        raise ValueError(f"the stored graph computes {stored.tolist()}; the model computes {expected.tolist()}")


def _keep_weights(client: MlflowClient, candidate: Candidate, scratch: Path) -> None:
    if "weights.pt" not in {file.path for file in client.list_artifacts(candidate.run_id)}:
        copy = scratch / "weights.pt"
        copy.write_bytes(candidate.weights.read_bytes())
        client.log_artifact(candidate.run_id, str(copy))


def _register_once(
    client: MlflowClient, best: Candidate, logged: LoggedModel, study: str, dataset: Dataset
) -> Registered:
    try:
        client.create_registered_model(study, tags={"study": study})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    versions = client.search_model_versions(f"name = '{study}' AND run_id = '{best.run_id}'")
    known = [int(version.version) for version in versions if version.model_id == logged.model_id]
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


def _find_winner(client: MlflowClient, study: str, tracking_uri: str) -> LoggedModel:
    try:
        version = client.get_model_version_by_alias(study, ALIAS)
        return client.get_logged_model(version.model_id)
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
    models = client.search_registered_models(order_by=["last_updated_timestamp DESC"])
    known = [model.name for model in models if "study" in model.tags]
    choices = f"studies with a registered model, newest first: {', '.join(known[:10])}" if known else "none has one"
    more = f" and {len(known) - 10} more" if len(known) > 10 else ""  # noqa: PLR2004 - a line, not a page
    raise InputError(f"No registered model of a study {study!r} in {tracking_uri}; {choices}{more}.")


def _find_arm(client: MlflowClient, study: str, arm: str, experiment_id: str) -> LoggedModel:
    models: list[LoggedModel] = []
    token = None
    while True:
        page = client.search_logged_models([experiment_id], f"tags.study = '{study}'", page_token=token)
        models += [model for model in page if model.status == LoggedModelStatus.READY]
        token = page.token
        if not token:
            break
    # The study may have been extended and its arm's best be a newer one; the same order as in logging.
    models.sort(key=lambda model: (-float(model.tags["val_accuracy"]), int(model.tags["seed"])))
    for model in models:
        if model.tags["arm"] == arm:
            return model
    known = ", ".join(dict.fromkeys(model.tags["arm"] for model in models))
    raise InputError(f"The study {study!r} has no model of an arm {arm!r}; choose from {known}.")


def _load_folder(folder: Path, origin: str) -> StoredModel:
    description = Model.load(str(folder))
    metadata = description.metadata or {}
    missing = [key for key in ("study", "arm", "seed", "class_names") if key not in metadata]
    if description.signature is None:
        missing.append("signature")
    if missing:
        raise InputError(f"{origin} was not logged by a study: its description lacks {', '.join(missing)}.")
    _, channels, height, width = description.signature.inputs.inputs[0].shape
    try:
        module = _load_graph(folder)
    except Exception as error:
        raise InputError(f"{origin} cannot be loaded: {_line(error)}") from error
    return StoredModel(
        module,
        (channels, height, width),
        tuple(map(str, metadata["class_names"])),
        str(metadata["study"]),
        str(metadata["arm"]),
        int(metadata["seed"]),
    )


def _load_graph(folder: Path) -> nn.Module:
    """The stored graph; MLflow refuses a file that would have to be unpickled."""
    module: nn.Module = mlflow.pytorch.load_model(str(folder))
    return module


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}…"  # noqa: PLR2004 - a line, not a page
