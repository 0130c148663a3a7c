"""From the MLflow record to the answer: frames, comparisons, figures, the report."""
