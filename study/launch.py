"""``python -m study.launch``: one command from a question to an answer with its uncertainty."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from analysis.address import redact, resolve_tracking_uri
from search_spaces.arms import Study
from search_spaces.reported import BOTH, REGIMES, Reported
from search_spaces.table import SPACES, load_space
from study.options import DEFAULT_PRECISION, DEFAULT_SCHEDULE, OneLineParser, Options, parse_duration
from trainables.config import PRECISIONS, SCHEDULES, InputError

DESCRIPTION = """\
Runs a study: does this training choice matter, by how much, and how sure are we?

Every arm (say, every loss) is tuned with the same budget by its own Optuna study, weak trials are stopped
within their arm by ASHA, each arm's winner is retrained on fresh seeds and then scored once on the test
split, every trial is recorded in MLflow, and the answer is printed and written to report.html.
"""
EPILOG = """\
examples:
  python -m study.launch --space smoke                      the whole path in half a minute
  python -m study.launch --space full                       ten losses on scikit-learn's digits
  python -m study.launch --space full --dataset fashion-mnist --time-budget 30m
  python -m study.launch --space full --arms cross_entropy,focal,my_module:poly --seeds 20
  python -m study.launch --space full --model convnet --dataset cifar10 --gpus-per-trial 0.25 --precision bf16
  python -m study.launch --space full --dry-run             what would run, and how long it would take

your own parts, given as package.module:name (imported from the working directory or the environment):
  a loss       f(logits, labels, **params) -> per-example values        --arms my_module:poly
  a model      build(input_shape, num_classes, **params) -> nn.Module    --model my_module:build
  a dataset    load() -> a dict like an npz file                         --dataset my_module:load
  a space      a search_spaces.arms.Study                                --space my_module:STUDY or --space file.py
Code is loaded from these names and from nowhere else.

environment, below the flags: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, RAY_ADDRESS
exit codes: 0 done, 1 every trial failed or no report, 2 bad input (one line says what), 130 interrupted
"""
#: Characters of a dataset's name in a study's.
MAX_LABEL = 40
DEFAULT_STORAGE = "runs"


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="python -m study.launch",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    question = parser.add_argument_group("the question")
    question.add_argument("--space", metavar="NAME", help=f"{', '.join(SPACES)}, module:STUDY or file.py")
    question.add_argument(
        "--arms",
        metavar="A,B,...",
        help="only these arms, or a new one as module:name; in a reported study also patterns such as 'gelu-*-one'",
    )
    question.add_argument(
        "--baseline", metavar="ARM", help="the arm the others are compared with (default: the space's)"
    )
    question.add_argument(
        "--delta",
        type=float,
        metavar="POINTS",
        help="the smallest accuracy difference that matters (default: by dataset)",
    )
    question.add_argument("--name", help="of the study: letters, digits, '.', '_', '-' (default: space-dataset-time)")

    question.add_argument(
        "--resume", metavar="STUDY", help="go on with a reported study where it was stopped; its flags are on record"
    )

    data = parser.add_argument_group("the data and the model")
    data.add_argument(
        "--dataset",
        metavar="NAME",
        help="digits (embedded; the default, except for a reported study: its own), fashion-mnist, mnist, kmnist, cifar10, cifar100, svhn, npz:FILE, folder:DIR or module:name",
    )
    data.add_argument("--data-dir", metavar="DIR", help="where datasets are looked for and downloaded to")
    data.add_argument("--classes", metavar="0,6,...", help="only these classes")
    data.add_argument("--train-size", type=int, metavar="N", help="a stratified subset of the training images")
    data.add_argument(
        "--imbalance", type=float, metavar="RATIO", help="long-tailed training images: commonest class to rarest"
    )
    data.add_argument("--augment", action="store_true", help="random crops and flips")
    data.add_argument("--model", metavar="NAME", help="mlp, convnet, resnet18 or module:name (default: the space's)")
    data.add_argument("--precision", choices=PRECISIONS, default=DEFAULT_PRECISION, help="bf16: autocast to bfloat16")
    data.add_argument(
        "--schedule", choices=SCHEDULES, default=DEFAULT_SCHEDULE, help="learning rate over a trial's epochs"
    )

    budget = parser.add_argument_group("the budget")
    budget.add_argument("--trials", type=int, metavar="N", help="search trials per arm (default: the space's)")
    budget.add_argument(
        "--seeds", type=int, metavar="N", help="fresh seeds per arm in the confirmation (default: the space's)"
    )
    budget.add_argument(
        "--regime",
        choices=(*REGIMES, BOTH),
        help="of a reported study: as stated, with tuned learning rates, or both (default)",
    )
    budget.add_argument(
        "--epochs-scale",
        type=float,
        metavar="SHARE",
        help="of a reported study: this share of its epochs, at least 1 (default: 1)",
    )
    budget.add_argument("--seed", type=int, default=0, metavar="N", help="fixes the whole study")
    budget.add_argument("--time-budget", metavar="TIME", help="for the whole study, such as 90s, 30m, 1h30m")
    budget.add_argument(
        "--mode", choices=("arms", "joint"), help="joint: one search over all arms, for importances (default: arms)"
    )
    budget.add_argument(
        "--search", choices=("tpe", "random", "grid"), help="grid: every point of a finite space (default: tpe)"
    )
    budget.add_argument(
        "--stopping", choices=("asha", "none"), help="none: every search trial trains to its end (default: asha)"
    )

    where = parser.add_argument_group("where it runs and what it leaves")
    where.add_argument("--max-concurrent", type=int, metavar="N", help="trials at once (default: as many as fit)")
    where.add_argument("--cpus-per-trial", type=float, default=1.0, metavar="N", help="default: 1")
    where.add_argument(
        "--gpus-per-trial", type=float, metavar="N", help="may be a fraction (default: 0, or 1 with --device cuda)"
    )
    where.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where trials have a GPU")
    where.add_argument(
        "--address", metavar="ADDRESS", help="of a running Ray cluster, or 'auto' (default: Ray in this process)"
    )
    where.add_argument("--storage-path", metavar="DIR", help="holds a folder per study (default: runs)")
    where.add_argument(
        "--tracking-uri", metavar="URI", help="of MLflow (default: sqlite mlflow.db in the working directory)"
    )
    where.add_argument("--experiment-name", metavar="NAME", help="in MLflow (default: the space's name)")
    where.add_argument(
        "--dry-run", action="store_true", help="print the plan and an estimate of its hours; start nothing"
    )
    where.add_argument("--quiet", action="store_true", help="only the answer")
    return parser


def parse_options(argv: list[str]) -> tuple[Options, Study]:
    """The flags, checked, and the space they name.

    Raises:
        InputError: If a flag breaks a rule.
    """
    arguments = build_parser().parse_args(argv)
    if arguments.resume is not None:
        return _resumed(arguments)
    if arguments.space is None:
        raise InputError("The following arguments are required: --space")
    space = load_space(arguments.space)
    dataset, classes = _data_of(space, arguments)
    gpus = arguments.gpus_per_trial
    if gpus is None:
        gpus = 1.0 if arguments.device == "cuda" else 0.0
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
        device=arguments.device or ("cuda" if gpus > 0 else "cpu"),
        cpus_per_trial=arguments.cpus_per_trial,
        gpus_per_trial=gpus,
        max_concurrent=arguments.max_concurrent,
        address=address,
        storage_path=Path(arguments.storage_path or DEFAULT_STORAGE).resolve(),
        tracking_uri=resolve_tracking_uri(arguments.tracking_uri),
        experiment_name=arguments.experiment_name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or space.name,
        dry_run=arguments.dry_run,
        arguments=tuple(map(redact, argv)),
        quiet=arguments.quiet,
    )
    return options, space


def _resumed(arguments: argparse.Namespace) -> tuple[Options, Study]:
    """The flags of a study on record, from where it is kept now.

    Raises:
        InputError: If it is not on record or cannot be resumed.
    """
    from study.resume import recorded_arguments  # noqa: PLC0415 - reads MLflow

    allowed = {"resume", "tracking_uri", "storage_path", "max_concurrent", "data_dir", "quiet", "address"}
    parser = build_parser()
    given = {key for key, value in vars(arguments).items() if value != parser.get_default(key)} - allowed
    if given:
        flags = ", ".join(f"`--{key.replace('_', '-')}`" for key in sorted(given))
        raise InputError(f"`--resume` takes the study's flags from its record; leave out {flags}.")
    uri = resolve_tracking_uri(arguments.tracking_uri)
    options, space = parse_options(recorded_arguments(arguments.resume, tracking_uri=uri))
    folder = arguments.storage_path
    now = {
        "name": arguments.resume,
        "storage_path": Path(folder).resolve() if folder else options.storage_path,
        "tracking_uri": uri,
        "max_concurrent": arguments.max_concurrent or options.max_concurrent,
        "data_dir": arguments.data_dir or options.data_dir,
        "address": arguments.address or os.environ.get("RAY_ADDRESS") or None,
        "quiet": arguments.quiet,
        "resume": True,
    }
    return replace(options, **now), space


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
        if value is not None and value is not False and value != DEFAULT_SCHEDULE:
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
    try:
        options, space = parse_options(sys.argv[1:] if argv is None else argv)
        return _run(options, space, started)
    except InputError as error:
        print(f"study.launch: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201 - the message
        return 2
    except KeyboardInterrupt:
        print("study.launch: interrupted.", file=sys.stderr)  # noqa: T201
        return 130


def _run(options: Options, space: Study, started: float) -> int:
    from study import preflight, start  # noqa: PLC0415 - numpy, only after the flags are known to be good
    from study.protocol import resolve_study  # noqa: PLC0415

    study = resolve_study(space, options)
    preflight.check_search(study, options)
    preflight.check_resources(options)
    preflight.check_device(options)
    if options.dry_run:
        from study.plan import print_plan  # noqa: PLC0415 - measures an epoch, so it needs torch

        print_plan(study, options, start.load_data(study, options))
        return 0
    return start.run_study(study, options, started=started)


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
    sys.exit(main())
