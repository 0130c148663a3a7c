"""From checked flags to the exit code: Ray starts in the main thread while everything else gets ready beside it."""

from __future__ import annotations

import sys
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

from analysis.plain import plain
from search_spaces.arms import Study
from search_spaces.reported import Reported
from study import apart, cluster, nodes, preflight
from study.options import Options
from study.storage import check_bucket, fetch_files
from trainables.config import InputError
from trainables.data import Dataset, load_dataset
from trainables.importing import importing

if TYPE_CHECKING:
    from study.phases import Outcome, Store


def run_study(study: Study, options: Options, *, started: float) -> int:
    """Search, confirm and report.

    Args:
        study: The question, flags applied.
        options: The flags.
        started: When the command was typed, on ``time.monotonic``.

    Returns:
        The exit code: 0, 1 if every trial failed or no report could be built, 130 if interrupted.

    Raises:
        InputError: If something the user gave cannot work; nothing is left behind.
    """
    cluster.prepare_environment(alone=options.address is None)
    with apart.process_apart() as process:
        outcome, store, work = _trials(study, options, process, started=started)
        if outcome.undelivered:
            return 1  # the report is built from what MLflow holds
        # From here on nothing takes the study's folder away again.
        with importing():
            from study.conclusion import conclude  # noqa: PLC0415 - statistics and figures, needed now, not before

        return conclude(study, options, outcome, store, work)


def _trials(
    study: Study, options: Options, process: Executor, *, started: float
) -> tuple[Outcome, Store, Future[Any] | None]:
    """The trials, and what was begun apart when they had ended."""
    with preflight.claimed_folder(options):
        preflight.check_store(options)
        check_bucket(options)
        with ThreadPoolExecutor(1) as beside:
            # Ray takes two seconds to start, the imports, the data and a new database as long. Joining a cluster may
            # fail, and then no database shall be left, so that goes first.
            early = beside.submit(_prepare, study, options, process) if options.address is None else None
            with cluster.connected(options) as slots:
                if options.address is not None:
                    nodes.check_nodes(study, options)
                preparing = early or beside.submit(_prepare, study, options, process)
                phases, dataset, store, recalled = preparing.result()

                def ended() -> None:
                    # Both take seconds, in which a thread writes the record's rest.
                    apart.get_ready(process, study, options)
                    cluster.disconnect()

                outcome = phases.run_trials(
                    study,
                    options,
                    dataset,
                    store,
                    slots=slots,
                    started=started,
                    recalled=recalled,
                    ended=ended,
                )
                return outcome, store, apart.begin(process, study, options, dataset, outcome)


def load_data(options: Options) -> Dataset:
    """The dataset of the flags.

    Raises:
        InputError: If it cannot be had.
    """
    return load_dataset(
        options.dataset,
        data_dir=options.data_dir,
        classes=options.classes,
        train_size=options.train_size,
        imbalance=options.imbalance,
        seed=options.seed,
    )


@importing()
def _prepare(study: Study, options: Options, process: Executor) -> tuple[ModuleType, Dataset, Any, Any]:
    dataset = load_data(options)
    parts = preflight.parts_to_try(study, options)
    trying = process.submit(apart.try_parts, parts, dataset.num_classes, dataset.input_shape) if parts else None
    # A sign of life while Ray starts, once nothing is left to refuse but what only Ray and MLflow know.
    outline = [] if options.resume else _outline(study, options)
    if trying is None:
        _show(outline, options)
    from study import phases  # noqa: PLC0415 - ray.tune, optuna and mlflow, imported while Ray starts

    if trying is not None:
        try:
            trying.result()
        except BrokenProcessPool as error:
            raise InputError("The space's own parts cannot be tried: the process that did so ended.") from error
        _show(outline, options)
    recalled = None
    if options.resume:
        recalled = phases.deliver(study, options, _recall(options, dataset))
        how = "going on" if options.extend is None else f"{options.extend} more trials per arm, then fresh seeds"
        _show([f"{options.name}: {how}, on {options.dataset_label}"], options)
    return phases, dataset, phases.open_store(options, recalled), recalled


def _recall(options: Options, dataset: Dataset) -> Any:
    from study.conduct import JOURNAL_FILE  # noqa: PLC0415 - optuna, imported while Ray starts
    from study.listing import state_of  # noqa: PLC0415 - likewise
    from study.looks import check_finished  # noqa: PLC0415 - likewise
    from study.protocol import code_sha256  # noqa: PLC0415 - mlflow, imported while Ray starts
    from study.resume import objections, recall  # noqa: PLC0415 - likewise
    from study.spool import SPOOL_FILE  # noqa: PLC0415 - likewise

    recalled = recall(options.name, tracking_uri=options.tracking_uri)
    if options.extend is not None:
        check_finished(options, state_of(recalled.tags))
    fetch_files(options, JOURNAL_FILE, (SPOOL_FILE,))
    # Without a trial on record, it was killed before its journal was made.
    if "report" not in recalled.protocol and recalled.runs and not (options.folder / JOURNAL_FILE).is_file():
        raise InputError(
            f"The search of the study {options.name!r} is not in {options.bucket or options.storage_path}; give its"
            " `--storage-path`."
        )
    found = objections(recalled, dataset, code_sha256(options))
    if found and not options.force:
        raise InputError(
            f"The study {options.name!r} cannot simply go on. {' '.join(found)} To go on all the same, add `--force`."
        )
    before = [recalled.tags["forced"]] if "forced" in recalled.tags else []
    return replace(recalled, forced=(*before, *found))


def _show(lines: list[str], options: Options) -> None:
    for line in lines if not options.quiet else ():
        print(plain(line), file=sys.stderr)  # noqa: T201


def _outline(study: Study, options: Options) -> list[str]:
    arms = f"{len(study.arms)} arms"
    if not isinstance(study, Reported):
        plan = f"{arms} x {study.trials} trials, then {study.seeds} seeds each"
        return [f"{options.name}: {plan}, on {options.dataset_label}"]
    lines = [f"{options.name}: report {study.report}, {arms}, {study.seeds} seeds, on {options.dataset_label}"]
    return [*lines, *(f"  assumed: {assumption}" for assumption in study.assumptions)]
