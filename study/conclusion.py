"""After the last trial: the arms' best models, the report, the answer on the terminal."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import shlex
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException

from analysis.address import LOCAL_SERVER, mlflow_command, redact, short_reason
from analysis.plain import needs_ascii, plain, to_ascii, wrap
from analysis.report import Report, build_report
from search_spaces.arms import Study
from search_spaces.reported import Reported
from study.cluster import LOG_FILE, log_to_file
from study.conduct import JOURNAL_FILE
from study.confirm import MODELS, Candidate, confirm_seeds, weights_path
from study.ledger import COMPLETED, CONFIRM
from study.options import Options
from study.phases import Outcome, Store
from study.storage import fetch_weights, remove_weights, share_report
from study.summary import log_summary
from trainables.config import InputError, Scalar
from trainables.data import Dataset

logger = logging.getLogger(__name__)


def conclude(study: Study, options: Options, dataset: Dataset, outcome: Outcome, store: Store) -> int:
    """Log the arms' best models (of a reported study: its exact tests), write the report, print the answer.

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
        if isinstance(study, Reported):
            if not outcome.interrupted:
                log_measurements(study, options, dataset, outcome, store)
            report = build_report(options.name, tracking_uri=options.tracking_uri, output=options.folder)
        else:
            report = _report_beside_models(options, dataset, outcome)
        parent = outcome.record.parent_run_id
        for path in (report.path, *report.tables):
            store.client.log_artifact(parent, str(path))
        place = share_report(options, [report.path, *report.tables])
        log_summary(store.client, parent, outcome.ledger.records.values(), report.findings)
    except (InputError, MlflowException) as error:
        print(plain(f"The trials are done, the report is not: {short_reason(error)}"), file=sys.stderr)  # noqa: T201
        print(f"Build it with: python -m analysis.report --study {options.name}", file=sys.stderr)  # noqa: T201
        return 1
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


def _report_beside_models(options: Options, dataset: Dataset, outcome: Outcome) -> Report:
    try:
        fetch_weights(options)
    except OSError as error:
        print(plain(f"Models cannot be fetched from {options.bucket}: {short_reason(error)}"), file=sys.stderr)  # noqa: T201
    candidates = _candidates(options, outcome)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as beside:
        logging_models = beside.submit(_log_models, options, dataset, candidates) if candidates else None
        report = build_report(options.name, tracking_uri=options.tracking_uri, output=options.folder)
        try:
            refusal = logging_models.result() if logging_models else ""
        except BrokenProcessPool:
            refusal = "the process that logs them died"
    if refusal:
        why = f"The models are not in MLflow ({refusal}); their weights stay in {options.shared}/{MODELS}."
        print(plain(why), file=sys.stderr)  # noqa: T201
    else:
        remove_weights(options)
    return report


def log_measurements(study: Reported, options: Options, dataset: Dataset, outcome: Outcome, store: Store) -> None:
    """Decide the exact tests, make the diagnostics on the now idle machine, and put both on record.

    They need torch, so they run in a process of their own, as the models do.
    """
    seeds = confirm_seeds(options.seed, study.seeds)
    configs = {arm.name: dict(arm.fixed) for arm in study.arms}
    diagnostics = {name: list(arms) for name, arms in study.diagnostics.items()}
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as beside:
            measured = beside.submit(_measure, options, diagnostics, configs, dataset, seeds).result()
    except Exception as error:  # whatever it is, the trials stand and their report is written
        logger.exception("The exact tests and diagnostics failed")
        why = f"The exact tests are not on record ({short_reason(error)}); `--resume {options.name}` tries again."
        print(plain(why), file=sys.stderr)  # noqa: T201
        return
    for name, content in measured.items():
        store.client.log_dict(outcome.record.parent_run_id, content, f"{name}.json")


def _measure(
    options: Options,
    diagnostics: dict[str, list[str]],
    configs: dict[str, dict[str, Scalar]],
    dataset: Dataset,
    seeds: list[int],
) -> dict[str, dict[str, Any]]:
    log_to_file(options)
    from trainables.diagnostics import measure_diagnostics  # noqa: PLC0415 - torch
    from trainables.identities import measure_identities  # noqa: PLC0415 - torch

    return {
        "identities": measure_identities(),
        "diagnostics": measure_diagnostics(diagnostics, configs, dataset, seeds),
    }


def _log_models(options: Options, dataset: Dataset, candidates: list[Candidate]) -> str:
    """Runs in a process of its own, so that the driver stays small; returns why it failed, or nothing."""
    log_to_file(options)
    from study.models import log_best_models  # noqa: PLC0415 - torch

    try:
        log_best_models(candidates, dataset=dataset, study=options.name, tracking_uri=options.tracking_uri)
    except MlflowException as error:
        return short_reason(error)
    return ""


def _candidates(options: Options, outcome: Outcome) -> list[Candidate]:
    """The completed confirm trials that left their weights."""
    found = []
    for trial in outcome.ledger.of_phase(CONFIRM):
        request = trial.request
        path = Path(weights_path(options.folder, request.arm, request.number))
        if path.exists() and trial.stop_reason == COMPLETED:
            run_id = outcome.record.run_ids[request.key]
            found.append(Candidate(request.arm, request.number, run_id, request.config, path, trial.val_accuracy))
    return found
