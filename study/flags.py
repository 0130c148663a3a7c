"""The command line of ``study.launch``: its flags and its help."""

from __future__ import annotations

import argparse

from analysis.command import OneLineParser
from search_spaces.reported import BOTH, REGIMES
from search_spaces.table import SPACES
from study.options import DEFAULT_PRECISION, DEFAULT_SCHEDULE
from trainables.config import PRECISIONS, SCHEDULES

#: Of ``--gpus-per-trial``.
AUTO = "auto"

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
  python -m study.launch --list                             the studies on record
  python -m study.launch --resume NAME                      go on after a crash, a reboot, Ctrl-C
  python -m study.launch --extend NAME --trials 16          search longer, then confirm on fresh seeds

your own parts, given as package.module:name (imported from the working directory or the environment):
  a loss       f(logits, labels, **params) -> per-example values        --arms my_module:poly
  a model      build(input_shape, num_classes, **params) -> nn.Module    --model my_module:build
  a dataset    load() -> a dict like an npz file                         --dataset my_module:load
  a space      a search_spaces.arms.Study                                --space my_module:STUDY or --space file.py
Code is loaded from these names and from nowhere else.

environment, below the flags: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, RAY_ADDRESS, STUDY_STORAGE_PATH
STUDY_BACKUP="FILE ADDRESS" copies MLflow's SQLite file to a bucket when the study ends (python -m study.backup --help)
exit codes: 0 done, 1 every trial failed or no report, 2 bad input (one line says what), 130 interrupted
"""


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
        "--resume",
        metavar="STUDY",
        nargs="?",
        const="",
        help="go on with a study where it was stopped; its flags are on record (or: the same command, with --name)",
    )
    question.add_argument(
        "--extend",
        metavar="STUDY",
        nargs="?",
        const="",
        help="add `--trials N` to each arm of a finished study, then confirm its winners on fresh seeds: a second look",
    )
    question.add_argument(
        "--force", action="store_true", help="go on although code or data changed, or another machine may run it"
    )
    question.add_argument("--list", action="store_true", help="show the studies on record and how far each came")

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
    where.add_argument(
        "--max-failures",
        type=int,
        default=2,
        metavar="N",
        help="how often a trial that fails is tried again, from its last checkpoint; that a node was lost does not"
        " count (default: 2)",
    )
    where.add_argument(
        "--hang-timeout",
        default="30m",
        metavar="TIME",
        help="a trial that reports nothing for so long has failed (default: 30m)",
    )
    where.add_argument("--max-concurrent", type=int, metavar="N", help="trials at once (default: as many as fit)")
    where.add_argument(
        "--replicas",
        type=int,
        metavar="N",
        help="train up to N seeds (and learning rates) of an arm as one batched model, which keeps a GPU busy that"
        " small trials do not; mlp and convnet only (default: 1)",
    )
    where.add_argument("--cpus-per-trial", type=float, default=1.0, metavar="N", help="default: 1")
    where.add_argument(
        "--gpus-per-trial",
        type=_number_or_auto,
        metavar="N",
        help="may be a fraction; 'auto': a whole one at first, then the share that the trials' memory takes"
        " (default: 0, or 1 with --device cuda)",
    )
    where.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where trials have a GPU")
    where.add_argument(
        "--address", metavar="ADDRESS", help="of a running Ray cluster, or 'auto' (default: Ray in this process)"
    )
    where.add_argument(
        "--storage-path",
        metavar="PLACE",
        help="holds a folder per study (default: runs); or s3://BUCKET/PREFIX, where machines share no disk",
    )
    where.add_argument(
        "--tracking-uri", metavar="URI", help="of MLflow (default: sqlite mlflow.db in the working directory)"
    )
    where.add_argument("--experiment-name", metavar="NAME", help="in MLflow (default: the space's name)")
    where.add_argument(
        "--dry-run", action="store_true", help="print the plan and an estimate of its hours; start nothing"
    )
    where.add_argument(
        "--no-models", action="store_true", help="keep no models: neither the arms' best in MLflow nor any weights"
    )
    where.add_argument("--quiet", action="store_true", help="only the answer")
    return parser


def _number_or_auto(text: str) -> float | str:
    try:
        return text if text == AUTO else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"invalid float value: {text!r}") from None
