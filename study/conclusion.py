"""After the last trial: the report, and the answer on the terminal."""

from __future__ import annotations

import contextlib
import logging
import shlex
import shutil
import sys
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from typing import Any

from mlflow.exceptions import MlflowException

from analysis.address import LOCAL_SERVER, mlflow_command, redact, short_reason
from analysis.plain import needs_ascii, plain, to_ascii, wrap
from analysis.report import build_report
from search_spaces.arms import Study
from search_spaces.reported import Reported
from study.cluster import LOG_FILE
from study.conduct import JOURNAL_FILE
from study.confirm import MODELS
from study.options import Options
from study.phases import Outcome, Store
from study.storage import remove_weights, share_report
from study.summary import log_summary
from trainables.config import InputError

logger = logging.getLogger(__name__)

#: What is measured after the trials may take so long before a line says so.
SILENT_SECONDS = 2.0


def conclude(study: Study, options: Options, outcome: Outcome, store: Store, work: Future[Any] | None) -> int:
    """See the arms' best models (of a reported study: its exact tests) on record, write the report, print the answer.

    Args:
        study: The question, flags applied.
        options: The flags.
        outcome: How the trials ended.
        store: Where the record is.
        work: What :func:`study.apart.begin` began.

    Returns:
        The exit code.
    """
    if outcome.all_failed:
        log = options.folder / LOG_FILE
        with contextlib.suppress(MlflowException):
            log_summary(store.client, outcome.record.parent_run_id, outcome.ledger.records.values(), None)
        why = f"Every trial failed; the first error: {outcome.first_error} (all of it: {log})"
        print(plain(redact(why)), file=sys.stderr)  # noqa: T201
        return 1
    try:
        if isinstance(study, Reported) and work is not None:
            log_measurements(study, options, outcome, store, work)
        report = build_report(options.name, tracking_uri=options.tracking_uri, output=options.folder)
        parent = outcome.record.parent_run_id
        for path in (report.path, *report.tables):
            store.client.log_artifact(parent, str(path))
        place = share_report(options, [report.path, *report.tables])
        log_summary(store.client, parent, outcome.ledger.records.values(), report.findings)
    except (InputError, MlflowException) as error:
        print(plain(f"The trials are done, the report is not: {short_reason(error)}"), file=sys.stderr)  # noqa: T201
        print(f"Build it with: python -m analysis.report --study {options.name}", file=sys.stderr)  # noqa: T201
        return 1
    if not isinstance(study, Reported):
        _settle_models(options, work)
    claims = (*report.claims.splitlines(), "") if report.claims else ()
    lines = [
        *report.text.splitlines(),
        "",
        *wrap(plain(report.verdict), shutil.get_terminal_size((100, 24)).columns - 1),
    ]
    lines += ["", *claims, f"Report: {place}", *where_to_look(options, store.experiment_id, parent)]
    if outcome.interrupted:
        lines.append(f"Go on with: {options.resume_command}")
    shown = "".join(f"{plain(line)}\n" for line in lines)
    sys.stdout.write(to_ascii(shown) if needs_ascii(sys.stdout) else shown)
    return 130 if outcome.interrupted else 0


def where_to_look(options: Options, experiment_id: str, run_id: str) -> list[str]:
    """How to open the study's page in MLflow, and its search in optuna-dashboard where that is installed."""
    # Without its kind of work, MLflow 3.17 shows the page it has for language models.
    page = f"#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"
    uri = options.tracking_uri
    if uri.startswith(("http://", "https://")):
        lines = [f"MLflow: {redact(uri).rstrip('/')}/{page}"]
    else:
        lines = [f"MLflow: {mlflow_command(uri)}", f"        then {LOCAL_SERVER}/{page}"]
    journal = options.folder / JOURNAL_FILE
    # On a cluster the folder goes with the job.
    if options.bucket is None and journal.is_file() and find_spec("optuna_dashboard"):
        lines.append(f"Search: optuna-dashboard {shlex.quote(str(journal))}")
    return lines


def _settle_models(options: Options, models: Future[str] | None) -> None:
    """Wait for the logging of models, which went on beside the report; their weights are of no use then."""
    try:
        refusal = models.result() if models else ""
    except (BrokenProcessPool, OSError) as error:
        refusal = "the process that logs them died" if isinstance(error, BrokenProcessPool) else short_reason(error)
    if refusal:
        why = f"The models are not in MLflow ({refusal}); their weights stay in {options.shared}/{MODELS}."
        print(plain(why), file=sys.stderr)  # noqa: T201
    else:
        remove_weights(options)


def log_measurements(
    study: Reported, options: Options, outcome: Outcome, store: Store, measurements: Future[dict[str, Any]]
) -> None:
    """Put the exact tests and the diagnostics on record; the trials stand without them."""
    if wait([measurements], SILENT_SECONDS).not_done:
        names = ", ".join(name.replace("_", " ") for name in study.diagnostics)
        what = f"{names} on {study.seeds} seeds" if names else "exact tests"
        print(f"Measuring {plain(what)}; the report comes after.", file=sys.stderr)  # noqa: T201
    try:
        measured = measurements.result()
    except Exception as error:  # whatever it is, the report is written
        logger.exception("The exact tests and diagnostics failed")
        why = f"The exact tests are not on record ({short_reason(error)}); `--resume {options.name}` tries again."
        print(plain(why), file=sys.stderr)  # noqa: T201
        return
    for name, content in measured.items():
        store.client.log_dict(outcome.record.parent_run_id, content, name)
