"""From the MLflow record to the answer: frames, comparisons, figures, the report."""

import os

# Unless told so before it is imported, MLflow tells its makers what it is used for; a user's own setting wins.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
