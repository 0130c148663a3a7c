"""A store with a few studies, as small as what reads them allows, and models that nobody trained."""

import json
from pathlib import Path

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.models import Model
from mlflow.models.signature import ModelSignature
from mlflow.types import Schema, TensorSpec

#: Study → factor, arms, regime, whether it confirmed.
STUDIES = {
    "tuned": ("loss", ("mse", "l1"), "", True),
    "other": ("model", ("mlp", "convnet"), "", True),
    "searching": ("loss", ("mse", "l1"), "", False),
    "stated": ("loss", ("mse", "l1"), "stated", True),
    "apart": ("loss", ("focal", "hinge"), "", True),
}
#: Studies with a registered model: of which the description is whole, lacks everything, is whole but nothing else is.
MODELS = ("tuned", "apart", "other")


def write_record(folder: Path) -> str:
    """Make the store in a folder; its address."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("studies", (folder / "artifacts").as_uri())
    client.delete_experiment(client.create_experiment("gone", (folder / "artifacts").as_uri()))
    for name, (factor, arms, regime, confirmed) in STUDIES.items():
        tags = {"study": name, "phase": "study", "state": "finished", "space": "own"}
        parent = client.create_run(experiment, tags=tags, run_name=name).info.run_id
        protocol = {"study": name, "factor": factor, "baseline": arms[0], "arms": [{"name": arm} for arm in arms]}
        report = {"report": "003"} if regime else {}
        client.log_text(parent, json.dumps({**protocol, **report, "dataset": {"name": "digits"}}), "study.json")
        for arm in arms:
            for seed in (1, 2):
                own = {"arm": arm, "phase": "confirm" if confirmed else "search", "regime": regime, "seed": str(seed)}
                own |= {"trial_id": f"{arm}/confirm/{seed}", "mlflow.parentRunId": parent, "stop_reason": "completed"}
                run = client.create_run(experiment, tags=own).info.run_id
                for metric in ("val_accuracy", "test_accuracy"):
                    client.log_metric(run, metric, 0.9, step=1)
                client.set_terminated(run)
        if name in MODELS:
            _register(client, experiment, name, run)
        client.set_terminated(parent)
    return uri


def _register(client: MlflowClient, experiment: str, study: str, run: str) -> None:
    tags = {"study": study, "arm": "mse", "seed": "1", "val_accuracy": "0.9"}
    model = client.create_logged_model(experiment, "model", source_run_id=run, tags=tags)
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.log_outputs(run, [LoggedModelOutput(model.model_id, 0)])
    folder = Path(model.artifact_location.removeprefix("file://"))
    folder.mkdir(parents=True)
    images = Schema([TensorSpec(np.dtype(np.float32), (-1, 1, 4, 5))])
    metadata = {"study": study, "arm": "mse", "seed": 1, "class_names": ["a", "b", "c"]}
    whole = Model(metadata=metadata, signature=ModelSignature(inputs=images)) if study != "apart" else Model()
    whole.save(str(folder / "MLmodel"))
    client.create_registered_model(study, tags={"study": study})
    version = client.create_model_version(study, model.artifact_location, run, model_id=model.model_id)
    client.set_registered_model_alias(study, "best", version.version)
