"""Files that runs carry, read from wherever MLflow keeps them; one request a file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

NUM_CONNECTIONS = 8


def read_artifact(tracking_uri: str, run: Run, name: str) -> bytes | None:
    """A file at the top of a run's artifacts; None if it is not there or cannot be read.

    Args:
        tracking_uri: Where MLflow keeps its record.
        run: The run that carries the file.
        name: Of the file.
    """
    address = urlsplit(run.info.artifact_uri)
    try:
        if address.scheme in {"", "file"}:
            folder = unquote(address.path) if address.scheme else run.info.artifact_uri
            return (Path(folder) / name).read_bytes()
        # The client's own download asks what the file is first, shows a bar of its progress, and takes twice as long.
        repository = get_artifact_repository(run.info.artifact_uri, tracking_uri)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            repository._download_file(name, str(path))  # noqa: SLF001
            return path.read_bytes()
    except (OSError, MlflowException):  # an interrupted run has none yet
        return None


def read_json(tracking_uri: str, run: Run, name: str) -> dict[str, Any] | None:
    """An artifact that is one JSON object; None if there is no such file or something else is in it."""
    try:
        content = json.loads(read_artifact(tracking_uri, run, name) or b"")
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def read_json_of_each(tracking_uri: str, runs: Sequence[Run], name: str) -> dict[str, dict[str, Any]]:
    """The JSON artifact ``name`` of each run that has it, by run id."""
    with ThreadPoolExecutor(NUM_CONNECTIONS) as pool:
        contents = pool.map(lambda run: read_json(tracking_uri, run, name), runs)
        return {run.info.run_id: content for run, content in zip(runs, contents, strict=True) if content is not None}
