"""What a study's end needs torch for, in a process apart: the driver stays small, and its report is made meanwhile.

Such a process begins by importing this module, so nothing heavy is imported above.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.address import short_reason
from analysis.plain import plain
from search_spaces.arms import Study
from search_spaces.reported import Reported
from study.cluster import log_to_file
from study.confirm import Candidate, confirm_seeds, weights_path
from study.ledger import COMPLETED, CONFIRM
from study.options import Options
from study.storage import fetch_weights
from trainables.config import Scalar
from trainables.data import Dataset

if TYPE_CHECKING:
    from study.phases import Outcome


@contextlib.contextmanager
def process_apart() -> Iterator[Executor]:
    """A process that starts when it is given its first work, and has ended when the block has."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


def begin(executor: Executor, study: Study, options: Options, dataset: Dataset, outcome: Outcome) -> Future[Any] | None:
    """Begin what comes after the trials.

    Returns:
        Of a tuned space, the logging of its models: why they are not in MLflow, or nothing. Of a reported study, its
        exact tests and diagnostics: the content of each file. None where there is nothing to do.
    """
    if outcome.all_failed or outcome.undelivered:
        return None
    try:
        if isinstance(study, Reported):
            if outcome.interrupted:
                return None
            return executor.submit(_measure, options, *_diagnostics(study, options, dataset))
        candidates = find_candidates(options, outcome)
        return executor.submit(_log_models, options, dataset, candidates) if candidates else None
    except OSError as error:  # no process to be had; the trials and their report stand all the same
        failed: Future[Any] = Future()
        failed.set_exception(error)
        return failed


def find_candidates(options: Options, outcome: Outcome) -> list[Candidate]:
    """The completed confirm trials that left their weights."""
    try:
        fetch_weights(options)
    except OSError as error:
        print(plain(f"Models cannot be fetched from {options.bucket}: {short_reason(error)}"), file=sys.stderr)  # noqa: T201
    found = []
    for trial in outcome.ledger.of_phase(CONFIRM):
        request = trial.request
        path = Path(weights_path(options.folder, request.arm, request.number))
        if path.exists() and trial.stop_reason == COMPLETED:
            run_id = outcome.record.run_ids[request.key]
            found.append(Candidate(request.arm, request.number, run_id, request.config, path, trial.val_accuracy))
    return found


def _diagnostics(
    study: Reported, options: Options, dataset: Dataset
) -> tuple[dict[str, list[str]], dict[str, dict[str, Scalar]], Dataset | None, list[int]]:
    """What to measure on which arms; the images stay here where nothing is."""
    diagnostics = {name: list(arms) for name, arms in study.diagnostics.items()}
    configs = {arm.name: dict(arm.fixed) for arm in study.arms}
    return diagnostics, configs, dataset if diagnostics else None, confirm_seeds(options.seed, study.seeds)


def _measure(
    options: Options,
    diagnostics: Mapping[str, Sequence[str]],
    configs: Mapping[str, Mapping[str, Scalar]],
    dataset: Dataset | None,
    seeds: Sequence[int],
) -> dict[str, Any]:
    log_to_file(options)
    from trainables.diagnostics import measure_diagnostics  # noqa: PLC0415 - torch
    from trainables.identities import measure_identities  # noqa: PLC0415 - torch

    made: Mapping[str, Any] = {"seeds": list(seeds), "arms": {}}
    if dataset is not None:
        made = measure_diagnostics(diagnostics, configs, dataset, seeds)
    return {"identities": measure_identities(), "diagnostics": made}


def _log_models(options: Options, dataset: Dataset, candidates: Sequence[Candidate]) -> str:
    log_to_file(options)
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - seconds

    from study.models import log_best_models  # noqa: PLC0415 - torch

    try:
        log_best_models(candidates, dataset=dataset, study=options.name, tracking_uri=options.tracking_uri)
    except MlflowException as error:
        return short_reason(error)
    return ""
