"""From the MLflow record to the answer: frames, comparisons, figures, the report."""

import os

# MLflow would tell its makers what it is used for, were it not told so before it is imported; a user's own setting wins.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
