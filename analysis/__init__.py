"""From the MLflow record to the answer: frames, comparisons, figures, the report."""

import os

from analysis import command  # noqa: F401 - before any large library: what it registers for the exit shall run last

# Unless told so before it is imported, MLflow tells its makers what it is used for; a user's own setting wins.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
