"""The data of a study as MLflow's dataset inputs: what a run trained on, chose by and was scored on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.dataset_source import DatasetSource
from mlflow.data.schema import TensorDatasetSchema
from mlflow.data.sources import LocalArtifactDatasetSource
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.types import Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from study.ledger import SEARCH, Request

TRAIN, VALIDATION, TEST = "train", "validation", "test"
#: What the seeds split into training and validation, each in its own way.
POOL = "train and validation"
#: Of a digest, as much as the page has room for; MLflow takes 36.
DIGEST_LENGTH = 12
MAX_NAME = 500
# Characters of where the data are from: a path has no more, and JSON may take six times as many.
MAX_SOURCE = 5000
LOADER = "trainables.data.load_dataset"


def study_inputs(dataset: Mapping[str, Any]) -> list[DatasetInput]:
    """What a study works on: the images that every seed splits anew, and the test split.

    Args:
        dataset: ``dataset`` of ``study.json``.
    """
    pool = dataset["num_train"] + dataset["num_val"]
    return [
        _input(dataset, POOL, str(dataset["sha256"])[:DIGEST_LENGTH], num_images=pool),
        _input(dataset, TEST, _digest(dataset, TEST), num_images=dataset["num_test"]),
    ]


def trial_inputs(dataset: Mapping[str, Any], request: Request) -> list[DatasetInput]:
    """What a trial works on: its seed's two splits, and the test split unless it only searches.

    Trials of one seed have the same splits, whatever their arm, and so the same digests.

    Args:
        dataset: ``dataset`` of ``study.json``.
        request: The trial.
    """
    seed, imbalance = request.config["seed"], request.config.get("imbalance", 1.0)
    split = {"split_seed": seed}
    # A thinned split has fewer images than the protocol counts.
    train = split | ({"num_images": dataset["num_train"]} if imbalance == 1 else {"imbalance": imbalance})
    inputs = [
        _input(dataset, TRAIN, _digest(dataset, TRAIN, seed, imbalance), **train),
        _input(dataset, VALIDATION, _digest(dataset, VALIDATION, seed), num_images=dataset["num_val"], **split),
    ]
    if request.phase != SEARCH:
        inputs.append(_input(dataset, TEST, _digest(dataset, TEST), num_images=dataset["num_test"]))
    return inputs


def _digest(dataset: Mapping[str, Any], *parts: object) -> str:
    """Of a part of the data: what it is drawn from and how, which fixes every byte of it."""
    text = json.dumps([dataset["sha256"], *parts])
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def _input(dataset: Mapping[str, Any], context: str, digest: str, **profile: Any) -> DatasetInput:
    source = _source(dataset)
    shape = [int(size) for size in dataset["input_shape"]]
    schema = TensorDatasetSchema(
        features=Schema([TensorSpec(np.dtype(np.uint8), (-1, *shape))]),
        targets=Schema([TensorSpec(np.dtype(np.int64), (-1,))]),
    )
    profile |= {
        "input_shape": shape,
        "num_classes": dataset["num_classes"],
        "class_names": list(dataset["class_names"]),
        "dataset_sha256": dataset["sha256"],
    }
    name = str(dataset["name"])
    if "split_seed" in profile:
        name = f"{name[: MAX_NAME - 20]}, seed {profile['split_seed']}"
    entity = Dataset(
        name=name[:MAX_NAME],
        digest=digest,
        source_type=source._get_source_type(),  # noqa: SLF001 - MLflow's own constructors do the same
        source=source.to_json(),
        schema=json.dumps(schema.to_dict()),
        profile=json.dumps(profile),
    )
    return DatasetInput(entity, [InputTag(MLFLOW_DATASET_CONTEXT, context)])


def _source(dataset: Mapping[str, Any]) -> DatasetSource:
    """A file or folder where the user gave one, else the call that reads the data."""
    origin: Mapping[str, Any] = dataset.get("source") or {"name": dataset["name"]}
    name = str(origin["name"])
    prefix, _, path = name.partition(":")
    if prefix in {"npz", "folder"} and len(path) < MAX_SOURCE:
        return LocalArtifactDatasetSource(path)
    arguments = ", ".join(f"{key}={value!r}" for key, value in origin.items() if key != "name" and value is not None)
    call = f"{LOADER}({name!r}{', ' if arguments else ''}{arguments})"
    return CodeDatasetSource({"mlflow.source.type": "LOCAL", "mlflow.source.name": call[:MAX_SOURCE]})
