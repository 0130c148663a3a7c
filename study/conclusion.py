"""After the last trial: the arms' best models, the report, the answer on the terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap

from mlflow.exceptions import MlflowException

from analysis.address import mlflow_command
from analysis.report import build_report
from study.cluster import LOG_FILE
from study.confirm import weights_path
from study.ledger import COMPLETED, CONFIRM
from study.models import Candidate, log_best_models
from study.options import Options
from study.phases import Outcome, Store
from trainables.data import Dataset


def conclude(options: Options, dataset: Dataset, outcome: Outcome, store: Store) -> int:
    """Log the arms' best models, write the report, print the answer; returns the exit code."""
    if outcome.all_failed:
        log = options.folder / LOG_FILE
        print(f"Every trial failed; the first error: {outcome.first_error} (all of it: {log})", file=sys.stderr)  # noqa: T201
        return 1
    _log_models(options, dataset, outcome)
    report = build_report(options.name, tracking_uri=options.tracking_uri, output=options.folder)
    for path in (report.path, *report.tables):
        store.client.log_artifact(outcome.record.parent_run_id, str(path))
    verdict = textwrap.fill(report.verdict, shutil.get_terminal_size((100, 24)).columns - 1)
    for line in (report.text, "", verdict, "", f"Report: {report.path}"):
        print(line)  # noqa: T201 - the answer
    print(f"MLflow: {mlflow_command(options.tracking_uri)}")  # noqa: T201
    return 130 if outcome.interrupted else 0


def _log_models(options: Options, dataset: Dataset, outcome: Outcome) -> None:
    folder = options.folder / "models"
    candidates = []
    for trial in outcome.ledger.of_phase(CONFIRM):
        request = trial.request
        path = weights_path(options.folder, request.arm, request.number)
        if path.exists() and trial.stop_reason == COMPLETED:
            run_id = outcome.record.run_ids[request.key]
            candidates.append(Candidate(request.arm, request.number, run_id, request.config, path, trial.val_accuracy))
    if candidates:
        try:
            log_best_models(candidates, dataset=dataset, study=options.name, tracking_uri=options.tracking_uri)
        except MlflowException as error:
            reason = str(error).splitlines()[0]
            print(f"MLflow did not take the models ({reason}); their weights stay in {folder}.", file=sys.stderr)  # noqa: T201
            return
    shutil.rmtree(folder, ignore_errors=True)
