"""What a driver needs torch for, in a process apart, so that it stays small and goes on with something else meanwhile.

Before the trials, parts of the user's own are tried; after them, models are logged, exact tests decided, diagnostics
made. The process begins by importing this module, so nothing heavy is imported above.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
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
from trainables.config import InputError, Scalar, TrialConfig
from trainables.data import Dataset
from trainables.importing import importing

if TYPE_CHECKING:
    from study.phases import Outcome

#: What is measured of a reported study lies in these on the study's run.
IDENTITIES_FILE = "identities.json"
DIAGNOSTICS_FILE = "diagnostics.json"


@contextlib.contextmanager
def process_apart() -> Iterator[Executor]:
    """A process that starts when it is given its first work, and has ended when the block has."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_wait_for_work) as executor:
        yield executor


def _wait_for_work() -> None:
    """Between its works, Ctrl-C is not for this process; it ends with the driver, were that killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    # Registered first, called last: PyTorch's modules would take a second to be taken apart.
    atexit.register(os._exit, 0)


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    assert driver is not None
    connection.wait([driver.sentinel])
    os._exit(1)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def try_parts(
    parts: Sequence[tuple[str, Mapping[str, Scalar]]], num_classes: int, input_shape: tuple[int, int, int]
) -> None:
    """Build the loss, the model and the optimizers of configurations once.

    Args:
        parts: Name of an arm and a flat configuration of it.
        num_classes: Of the data.
        input_shape: Channels, height and width of its images.

    Raises:
        InputError: If a part is unknown, does not import, or does not fit the data.
    """
    with importing():
        from trainables import losses, models, optimizers  # noqa: PLC0415 - torch

    for arm, values in parts:
        config = TrialConfig.from_flat(values)
        try:
            losses.build_loss(config.loss, num_classes=num_classes)
            model = models.build_model(config.model, input_shape, num_classes)
            for optimizer in (config.optimizer, config.second_optimizer):
                if optimizer is not None:
                    optimizers.build_optimizer(optimizer, model.parameters())
        except InputError as error:
            raise InputError(f"Arm {arm!r}: {error}") from error


def get_ready(executor: Executor, study: Study, options: Options) -> None:
    """Have imported what :func:`begin` will need, while the driver still writes the record."""
    imports = _import_measures if isinstance(study, Reported) else _import_models
    if imports is _import_measures or not options.no_models:
        with contextlib.suppress(OSError, BrokenProcessPool):  # `begin` will say so
            executor.submit(imports)


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
            if outcome.interrupted or (not outcome.new and _measured(study, options, outcome)):
                return None
            return executor.submit(_measure, options, *_diagnostics(study, options, dataset))
        candidates = find_candidates(options, outcome)
        return executor.submit(_log_models, options, dataset, candidates) if candidates else None
    except (
        OSError,
        BrokenProcessPool,
    ) as error:  # none to be had, or killed; the report is made
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


def _measured(study: Reported, options: Options, outcome: Outcome) -> bool:
    """Whether what is measured on these seeds is on record; of some spaces it takes minutes."""
    from mlflow import MlflowClient  # noqa: PLC0415 - heavy, imported long since
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - likewise

    from analysis.artifacts import read_json  # noqa: PLC0415 - likewise

    uri = options.tracking_uri
    try:
        run = MlflowClient(uri).get_run(outcome.record.parent_run_id)
        identities, diagnostics = (read_json(uri, run, name) for name in (IDENTITIES_FILE, DIAGNOSTICS_FILE))
    except MlflowException:
        return False
    seeds = confirm_seeds(options.seed, study.seeds)
    return identities is not None and diagnostics is not None and diagnostics.get("seeds") == seeds


def _diagnostics(
    study: Reported, options: Options, dataset: Dataset
) -> tuple[dict[str, list[str]], dict[str, dict[str, Scalar]], Dataset | None, list[int]]:
    """What to measure on which arms; the images stay here where nothing is."""
    diagnostics = {name: list(arms) for name, arms in study.diagnostics.items()}
    configs = {arm.name: dict(arm.fixed) for arm in study.arms}
    return diagnostics, configs, dataset if diagnostics else None, confirm_seeds(options.seed, study.seeds)


def _import_measures() -> None:
    with importing():
        import trainables.diagnostics  # noqa: PLC0415 - torch
        import trainables.identities  # noqa: F401, PLC0415 - torch


def _import_models() -> None:
    with importing():
        import torch._dynamo  # noqa: F401, PLC0415 - exporting a model imports it

        import study.models  # noqa: F401, PLC0415 - torch and MLflow


def _measure(
    options: Options,
    diagnostics: Mapping[str, Sequence[str]],
    configs: Mapping[str, Mapping[str, Scalar]],
    dataset: Dataset | None,
    seeds: Sequence[int],
) -> dict[str, Any]:
    log_to_file(options)
    _import_measures()
    from trainables.diagnostics import measure_diagnostics  # noqa: PLC0415 - torch
    from trainables.identities import measure_identities  # noqa: PLC0415 - torch

    with _interruptible():
        made: Mapping[str, Any] = {"seeds": list(seeds), "arms": {}}
        if dataset is not None:
            made = measure_diagnostics(diagnostics, configs, dataset, seeds)
        return {IDENTITIES_FILE: measure_identities(), DIAGNOSTICS_FILE: made}


def _log_models(options: Options, dataset: Dataset, candidates: Sequence[Candidate]) -> str:
    log_to_file(options)
    _import_models()
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - seconds

    from study.models import log_best_models  # noqa: PLC0415 - torch

    try:
        with _interruptible():
            log_best_models(candidates, dataset=dataset, study=options.name, tracking_uri=options.tracking_uri)
    except MlflowException as error:
        return short_reason(error)
    return ""
