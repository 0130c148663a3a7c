"""The models of a study in MLflow, found and loaded; nothing is unpickled on the way."""

from __future__ import annotations

import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from torch import nn

from analysis.address import redact, short_reason
from analysis.store import one_line
from trainables.config import InputError

MODEL_NAME = "model"
#: The registered model's alias for the version that a prediction uses.
ALIAS = "best"
_ENVIRONMENT = {
    # MLflow unpickles unless told otherwise.
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


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


def load_stored_model(study: str, *, arm: str | None = None, tracking_uri: str) -> StoredModel:
    """Load a study's registered winner, or the best model of one of its arms.

    Args:
        study: The study's name.
        arm: The arm, or None for the winner.
        tracking_uri: Of a store that exists and answers.

    Raises:
        InputError: If there is no such study or arm, or its model cannot be loaded.
    """
    with one_line(tracking_uri), strict_and_quiet(), tempfile.TemporaryDirectory() as folder:
        client = MlflowClient(tracking_uri)
        logged = _find_winner(client, study, tracking_uri)
        if arm is not None:
            logged = _find_arm(client, study, arm, logged.experiment_id)
        # A store on this machine gives its own folder, a server a copy.
        path = mlflow.artifacts.download_artifacts(
            artifact_uri=logged.artifact_location, dst_path=folder, tracking_uri=tracking_uri
        )
        return _load_folder(Path(path), f"The model of the study {study!r}")


@contextmanager
def strict_and_quiet() -> Iterator[None]:
    """No unpickling, and no word from MLflow or the exporter, which log, warn and print; as it was afterwards."""
    before = {key: os.environ.get(key) for key in _ENVIRONMENT}
    disabled = logging.root.manager.disable
    os.environ.update(_ENVIRONMENT)
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def find_logged_model(client: MlflowClient, run_id: str) -> LoggedModel | None:
    """The whole model that is linked to a run, if there is one."""
    run = client.get_run(run_id)
    for output in run.outputs.model_outputs if run.outputs else []:
        found = client.get_logged_model(output.model_id)
        if found.name == MODEL_NAME and found.status == LoggedModelStatus.READY:
            return found
    return None


def _find_winner(client: MlflowClient, study: str, tracking_uri: str) -> LoggedModel:
    try:
        # A SQL store forgets which model a version was made from, but not the run.
        found = find_logged_model(client, client.get_model_version_by_alias(study, ALIAS).run_id)
        if found is not None:
            return found
    except MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
    models = client.search_registered_models(order_by=["last_updated_timestamp DESC"])
    known = [model.name for model in models if "study" in model.tags]
    choices = f"studies with a registered model, newest first: {', '.join(known[:10])}" if known else "none has one"
    more = f" and {len(known) - 10} more" if len(known) > 10 else ""  # noqa: PLR2004 - a line, not a page
    raise InputError(f"No registered model of a study {study!r} in {redact(tracking_uri)}; {choices}{more}.")


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
        module = load_graph(folder)
    except Exception as error:
        raise InputError(f"{origin} cannot be loaded: {short_reason(error)}") from error
    return StoredModel(
        module,
        (channels, height, width),
        tuple(map(str, metadata["class_names"])),
        str(metadata["study"]),
        str(metadata["arm"]),
        int(metadata["seed"]),
    )


def load_graph(folder: Path) -> nn.Module:
    """The stored graph; MLflow refuses a file that would have to be unpickled."""
    module: nn.Module = mlflow.pytorch.load_model(str(folder))
    return module
