"""Runs the real command line in a folder of its own and reads back what it left."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from tests.end_to_end.mlflow_server import serving

#: A worker more is five seconds of importing torch.
ONE_WORKER = ("--max-concurrent", "1")
#: A reported study that is soon done.
REPORTED = ("--space", "loss_by_activation", "--dataset", "digits", "--epochs-scale", "0.2", "--seeds", "3")


@dataclass(frozen=True)
class Launched:
    folder: Path
    name: str
    code: int
    stdout: str
    stderr: str

    @property
    def client(self):
        return MlflowClient(f"sqlite:///{self.folder}/mlflow.db")

    def runs(self, **tags):
        """Child runs of the study with these tags."""
        client = self.client
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        parent = self.parent.info.run_id
        where = [f"tags.`mlflow.parentRunId` = '{parent}'", *(f"tags.{key} = '{value}'" for key, value in tags.items())]
        return list(client.search_runs(experiments, " and ".join(where), max_results=5000))

    def reasons(self, **tags):
        """How often child runs with these tags ended for which reason."""
        return Counter(run.data.tags["stop_reason"] for run in self.runs(**tags))

    @property
    def parent(self):
        client = self.client
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        (run,) = client.search_runs(experiments, f"tags.study = '{self.name}' and tags.phase = 'study'")
        return run

    def artifact(self, run_id, path):
        return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, tracking_uri=self.uri))

    @property
    def uri(self):
        return f"sqlite:///{self.folder}/mlflow.db"

    def steps(self, run, metric):
        return [point.step for point in self.client.get_metric_history(run.info.run_id, metric)]

    def values(self, run, metric):
        return [point.value for point in self.client.get_metric_history(run.info.run_id, metric)]


def command(folder: Path, *arguments: str, module: str = "study.launch", **environment: str):
    """The arguments of a subprocess that types a command in ``folder``, the user's environment cleaned."""
    ours = ("MLFLOW_", "RAY_", "TUNE_")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return {
        "args": [sys.executable, "-m", module, *arguments],
        "cwd": folder,
        "env": {**clean, **environment},
        "text": True,
        "stdin": subprocess.DEVNULL,
    }


def launch(folder: Path, *arguments: str, name: str = "s", models: bool = False, **environment: str) -> Launched:
    """Run a study to its end; unless its models are asked for, it keeps none, which saves a third of the time."""
    arguments = (*arguments, "--name", name, *(() if models else ("--no-models",)))
    done = subprocess.run(**command(folder, *arguments, **environment), capture_output=True, timeout=400, check=False)
    return Launched(folder, name, done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Server:
    port: int
    uri: str
    database: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """``mlflow server`` over a new database."""
    folder = tmp_path_factory.mktemp("server")
    kept = ("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "kept"))
    with serving(folder, "server", *kept) as port:
        yield Server(port, f"http://127.0.0.1:{port}", folder / "mlflow.db")


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """One smoke study on the digits, shared by the tests that only read it."""
    return launch(tmp_path_factory.mktemp("smoke"), "--space", "smoke", models=True)
