"""``python -m study.launch``: one command from a question to an answer with its uncertainty."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from analysis.address import redact, resolve_tracking_uri, short_reason
from analysis.command import check_text, leave, refusal
from search_spaces.arms import Study
from search_spaces.reported import BOTH, Reported
from search_spaces.table import load_space
from study.cluster import LOG_FILE
from study.flags import AUTO, build_parser
from study.options import DEFAULT_SCHEDULE, Options, parse_duration
from trainables.bucket import SCHEMES
from trainables.config import InputError

#: Characters of a dataset's name in a study's.
MAX_LABEL = 40
DEFAULT_STORAGE = "runs"
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
BUCKET = re.compile(rf"({'|'.join(SCHEMES)})://[a-z0-9][a-z0-9._-]+(/[\w.=-]+)*/?", re.ASCII)


def parse_options(argv: list[str]) -> tuple[Options, Study]:
    """The flags, checked, and the space they name.

    Raises:
        InputError: If a flag breaks a rule.
    """
    arguments = build_parser().parse_args(argv)
    if arguments.resume is not None or arguments.extend is not None:
        return _resumed(arguments)
    if arguments.force:
        raise InputError("`--force` is for a study that is resumed; it needs `--resume NAME` or `--extend NAME`.")
    if arguments.space is None:
        raise InputError("The following arguments are required: --space")
    space = load_space(arguments.space)
    dataset, classes = _data_of(space, arguments)
    address = arguments.address or os.environ.get("RAY_ADDRESS") or None
    options = Options(
        command=shlex.join(["python", "-m", "study.launch", *map(redact, argv)]),
        name=arguments.name if arguments.name is not None else _default_name(space.name, dataset),
        space=arguments.space,
        arms=_names(arguments.arms),
        baseline=arguments.baseline,
        mode=arguments.mode or "arms",
        search=arguments.search or "tpe",
        stopping=arguments.stopping or "asha",
        regime=_regime(space, arguments),
        epochs_scale=1.0 if arguments.epochs_scale is None else arguments.epochs_scale,
        trials=arguments.trials,
        seeds=arguments.seeds,
        seed=arguments.seed,
        delta=arguments.delta,
        time_budget=None if arguments.time_budget is None else parse_duration(arguments.time_budget),
        dataset=dataset,
        data_dir=arguments.data_dir,
        classes=classes,
        train_size=arguments.train_size,
        imbalance=arguments.imbalance,
        augment=arguments.augment,
        model=arguments.model,
        precision=arguments.precision,
        schedule=arguments.schedule,
        cpus_per_trial=arguments.cpus_per_trial,
        **_device(arguments),
        max_concurrent=arguments.max_concurrent,
        replicas=1 if arguments.replicas is None else arguments.replicas,
        address=address,
        **_storage(arguments.storage_path),
        tracking_uri=resolve_tracking_uri(arguments.tracking_uri),
        experiment_name=arguments.experiment_name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or space.name,
        max_failures=arguments.max_failures,
        hang_timeout=parse_duration(arguments.hang_timeout, "--hang-timeout"),
        dry_run=arguments.dry_run,
        arguments=tuple(map(redact, argv)),
        no_models=arguments.no_models,
        quiet=arguments.quiet,
    )
    return options, space


def _resumed(arguments: argparse.Namespace) -> tuple[Options, Study]:
    """The flags of a study on record, which is resumed or extended, from where it is kept now.

    Raises:
        InputError: If it is not on record, cannot go on, or was begun with other flags.
    """
    flag = "--resume" if arguments.extend is None else "--extend"
    if arguments.resume is not None and arguments.extend is not None:
        raise InputError("`--resume` goes on with a study, `--extend` adds to one that is finished; give one of them.")
    name = arguments.resume or arguments.extend or arguments.name
    if name is None:
        raise InputError(f"`{flag}` needs the name of a study: `{flag} NAME`.")
    extend = None
    if arguments.extend is not None:
        extend, arguments.trials = arguments.trials, None
        if extend is None:
            raise InputError("`--extend` needs the number of trials to add to each arm: `--trials N`.")
    from study.looks import check_extendable  # noqa: PLC0415 - reads MLflow, as the next
    from study.resume import recorded_arguments  # noqa: PLC0415

    uri = resolve_tracking_uri(arguments.tracking_uri)
    recorded = recorded_arguments(name, tracking_uri=uri)
    _check_flags(arguments, recorded, name)
    options, space = parse_options(recorded)
    now = {
        "name": name,
        **(_storage(arguments.storage_path) if arguments.storage_path else {}),
        "tracking_uri": uri,
        **(_device(arguments) if arguments.device or arguments.gpus_per_trial is not None else {}),
        "replicas": options.replicas if arguments.replicas is None else arguments.replicas,
        "max_concurrent": arguments.max_concurrent or options.max_concurrent,
        "data_dir": arguments.data_dir or options.data_dir,
        "address": arguments.address or os.environ.get("RAY_ADDRESS") or None,
        "max_failures": arguments.max_failures,
        "hang_timeout": parse_duration(arguments.hang_timeout, "--hang-timeout"),
        "quiet": arguments.quiet,
        "force": arguments.force,
        "resume": True,
        "extend": extend,
    }
    options = replace(options, **now)
    if extend is not None:
        check_extendable(space, options)
    return options, space


def _check_flags(arguments: argparse.Namespace, recorded: Sequence[str], name: str) -> None:
    """Flags that are given again say what they said; where a study runs and is kept may change.

    Raises:
        InputError: If one contradicts the record.
    """
    free = {"resume", "extend", "name", "tracking_uri", "storage_path", "max_concurrent", "data_dir", "address"}
    free |= {"max_failures", "hang_timeout", "quiet", "force", "device", "gpus_per_trial", "replicas"}
    parser = build_parser()
    known = vars(parser.parse_args(recorded))
    for key, value in vars(arguments).items():
        if key in free or value in (parser.get_default(key), known[key]):
            continue
        flag = "--" + key.replace("_", "-")
        given = flag if value is True else f"{flag} {value}"
        was = "without it" if known[key] == parser.get_default(key) else f"with `{flag} {known[key]}`"
        raise InputError(f"`{given}` contradicts the record: the study {name!r} was begun {was}.")


def _regime(space: Study, arguments: argparse.Namespace) -> str:
    """The regime, once it is known that the flags fit the kind of space.

    Raises:
        InputError: If a flag belongs to the other kind.
    """
    reported = isinstance(space, Reported)
    foreign = (
        ("trials", "mode", "search", "stopping", "time_budget", "model", "schedule", "augment")
        if reported
        else ("regime", "epochs_scale")
    )
    for key in foreign:
        value = getattr(arguments, key)
        # Zero is a value that was given, though it equals False.
        if value is not None and value is not False and (key, value) != ("schedule", DEFAULT_SCHEDULE):
            why = "is fixed by the report" if reported else "is for the reported studies"
            raise InputError(
                f"`--{key.replace('_', '-')} {value}` does not apply to the space {space.name!r}: it {why}."
            )
    return (arguments.regime or BOTH) if reported else "search"


def _data_of(space: Study, arguments: argparse.Namespace) -> tuple[str, tuple[int, ...] | None]:
    """The data set and its classes: the flags', else those of the space.

    Raises:
        InputError: If the space compares some classes and does not know which of this data set.
    """
    classes = _integers(arguments.classes, "--classes")
    if not isinstance(space, Reported):
        return arguments.dataset or "digits", classes
    dataset = arguments.dataset or space.dataset
    if classes is None and space.classes:
        classes = space.classes.get(dataset)
        if classes is None:
            raise InputError(f"The space {space.name!r} needs `--classes A,B` for the data set {dataset!r}.")
    return dataset, classes


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    started = time.monotonic()
    argv = sys.argv[1:] if argv is None else argv
    try:
        check_text(argv)
        arguments = build_parser().parse_args(argv)
        if arguments.list:
            return _list(arguments)
        options, space = parse_options(argv)
        return _run(options, space, started)
    except InputError as error:
        print(f"study.launch: {refusal(error)}", file=sys.stderr)  # noqa: T201 - the message
        return 2
    except KeyboardInterrupt:
        print("study.launch: interrupted.", file=sys.stderr)  # noqa: T201
        return 130


def _list(arguments: argparse.Namespace) -> int:
    parser = build_parser()
    given = {key for key, value in vars(arguments).items() if value != parser.get_default(key)}
    for key in sorted(given - {"list", "tracking_uri"}):
        raise InputError(f"`--list` shows the studies on record; leave out `--{key.replace('_', '-')}`.")
    from analysis.plain import needs_ascii, to_ascii  # noqa: PLC0415 - rich
    from study.listing import list_studies  # noqa: PLC0415 - reads MLflow

    lines = list_studies(resolve_tracking_uri(arguments.tracking_uri))
    shown = "".join(f"{line}\n" for line in lines)
    sys.stdout.write(to_ascii(shown) if needs_ascii(sys.stdout) else shown)
    return 0


def _log_internal_error(options: Options, error: Exception) -> None:
    """The traceback goes to the study's log, one line to whoever typed the command.

    Raises:
        Exception: The error, where there is no log: before the study has a folder.
    """
    from analysis.plain import plain  # noqa: PLC0415 - only needed here
    from study.disk import full_disk  # noqa: PLC0415 - only needed here
    from study.preflight import is_begun  # noqa: PLC0415 - numpy

    log = options.folder / LOG_FILE
    full = full_disk(error, options)
    try:
        with log.open("a", encoding="utf-8") as file:
            file.write(redact("".join(traceback.format_exception(error))))
    except OSError:
        if not full:
            raise error from None
    why = full or f"{type(error).__name__}: {short_reason(error)} (all of it: {log})"
    print(plain(f"study.launch: {why}"), file=sys.stderr)  # noqa: T201
    if is_begun(options.folder):
        print(f"Go on with: {options.resume_command}", file=sys.stderr)  # noqa: T201


def _run(options: Options, space: Study, started: float) -> int:
    from study import apart, preflight, start  # noqa: PLC0415 - numpy, only after the flags are known to be good
    from study.backup import copy_at_the_end  # noqa: PLC0415 - with them
    from study.protocol import resolve_study  # noqa: PLC0415

    study = resolve_study(space, options)
    preflight.check_search(study, options)
    preflight.check_resources(options)
    preflight.check_device(options)
    if options.dry_run:
        dataset = start.load_data(options)
        apart.try_parts(preflight.parts_to_try(study, options), dataset.num_classes, dataset.input_shape)
        from study.plan import print_plan  # noqa: PLC0415 - measures an epoch, so it needs torch

        print_plan(study, options, dataset)
        return 0
    copy_record = copy_at_the_end()
    try:
        return start.run_study(study, options, started=started)
    except InputError:
        raise
    except KeyboardInterrupt:
        more = f" Go on with: {options.resume_command}" if preflight.is_begun(options.folder) else ""
        print(f"study.launch: interrupted.{more}", file=sys.stderr)  # noqa: T201
        return 130
    except Exception as error:  # noqa: BLE001 - whatever it is, what is on record stands
        _log_internal_error(options, error)
        return 1
    finally:
        copy_record()


def _device(arguments: argparse.Namespace) -> dict[str, Any]:
    """The fields of ``--device`` and ``--gpus-per-trial``, each of which follows from the other."""
    share_gpus = arguments.gpus_per_trial == AUTO
    gpus = 1.0 if share_gpus else arguments.gpus_per_trial
    if gpus is None:
        gpus = 1.0 if arguments.device == "cuda" else 0.0
    device = arguments.device or ("cuda" if gpus > 0 else "cpu")
    return {"device": device, "gpus_per_trial": gpus, "share_gpus": share_gpus}


def _storage(given: str | None) -> dict[str, Any]:
    """The fields of ``--storage-path``: a folder, or a bucket beside the folder of the driver's own files.

    Raises:
        InputError: If it is neither.
    """
    place = given or os.environ.get("STUDY_STORAGE_PATH") or DEFAULT_STORAGE
    bucket = None
    if SCHEME.match(place):
        if not BUCKET.fullmatch(place):
            raise InputError(
                "`--storage-path` must be a folder or s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, its credentials in the"
                f" environment; got {redact(place)!r}."
            )
        place, bucket = DEFAULT_STORAGE, place.rstrip("/")
    try:
        return {"storage_path": Path(place).resolve(), "bucket": bucket}
    except RuntimeError as error:
        raise InputError(f"`--storage-path` must not be a link to itself; got {place!r}.") from error


def _default_name(space: str, dataset: str) -> str:
    label = "".join(c if c.isalnum() or c in "._-" else "-" for c in Path(dataset).name if c.isascii())
    label = label[:MAX_LABEL].strip("-.") or "data"
    return f"{space}-{label}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"


def _names(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise InputError(f"`--arms` must be names separated by commas; got {text!r}.")
    return names


def _integers(text: str | None, flag: str) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"`{flag}` must be integers separated by commas; got {text!r}.") from None


if __name__ == "__main__":
    leave(main())
