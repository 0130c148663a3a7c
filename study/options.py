"""The flags as one checked value."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from analysis.address import redact, resolve_tracking_uri
from analysis.plain import plain
from search_spaces.arms import MAX_COUNT, is_name
from trainables.bucket import Place
from trainables.config import InputError

NUMBER = r"\d+(?:\.\d+)?"
DURATION = re.compile(rf"(?:({NUMBER})h)?(?:({NUMBER})m)?(?:({NUMBER})s)?")
MAX_NAME = 100
#: MLflow takes no more.
MAX_EXPERIMENT_NAME = 500
#: Ray counts in these.
SMALLEST_SHARE = 1e-4
DEFAULT_PRECISION = "fp32"
DEFAULT_SCHEDULE = "constant"
#: A report is a share of a second or one epoch; the longest epoch in sight is far shorter.
DEFAULT_HANG_SECONDS = 1800.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asked for; every path and address absolute.

    ``share_gpus`` is ``--gpus-per-trial auto``: trials begin with a whole GPU each.

    Raises:
        InputError: If a value breaks its rule.
    """

    command: str
    name: str
    space: str
    arms: tuple[str, ...] | None = None
    baseline: str | None = None
    mode: str = "arms"
    search: str = "tpe"
    stopping: str = "asha"
    trials: int | None = None
    seeds: int | None = None
    seed: int = 0
    delta: float | None = None
    time_budget: float | None = None
    regime: str = "search"
    epochs_scale: float = 1.0
    dataset: str = "digits"
    data_dir: str | None = None
    classes: tuple[int, ...] | None = None
    train_size: int | None = None
    imbalance: float | None = None
    augment: bool = False
    model: str | None = None
    precision: str = DEFAULT_PRECISION
    schedule: str = DEFAULT_SCHEDULE
    device: str = "cpu"
    cpus_per_trial: float = 1.0
    gpus_per_trial: float = 0.0
    share_gpus: bool = False
    max_concurrent: int | None = None
    replicas: int = 1
    address: str | None = None
    storage_path: Path
    bucket: str | None = None
    tracking_uri: str
    experiment_name: str
    max_failures: int = 2
    hang_timeout: float = DEFAULT_HANG_SECONDS
    dry_run: bool = False
    resume: bool = False
    force: bool = False
    extend: int | None = None
    arguments: tuple[str, ...] = ()
    no_models: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        if not is_name(self.name) or len(self.name) > MAX_NAME:
            raise InputError(
                f"`--name` must be at most {MAX_NAME} letters, digits, '.', '_' or '-', not starting with '.' or '-';"
                f" got {self.name!r}."
            )
        counts = (
            ("trials", self.trials, 1),
            ("trials", self.extend, 1),
            ("seeds", self.seeds, 1),
            ("max-concurrent", self.max_concurrent, 1),
            ("replicas", self.replicas, 1),
            ("max-failures", self.max_failures, 0),
        )
        for flag, value, least in counts:
            if value is not None and value < least:
                raise InputError(f"`--{flag}` must be >= {least}; got {value}.")
            if value is not None and value > MAX_COUNT:
                raise InputError(f"`--{flag}` must be at most {MAX_COUNT}; got {value}.")
        if not 0 <= self.seed < 2**31:
            raise InputError(f"`--seed` must lie in [0, 2147483648); got {self.seed}.")
        if self.delta is not None and not (math.isfinite(self.delta) and self.delta > 0):
            raise InputError(f"`--delta` must be a number of accuracy points > 0; got {self.delta:g}.")
        self._check_resources()
        visible = plain(self.experiment_name) == self.experiment_name
        if not (visible and 0 < len(self.experiment_name) <= MAX_EXPERIMENT_NAME):
            raise InputError(
                f"`--experiment-name` must be at most {MAX_EXPERIMENT_NAME} characters that can be seen;"
                f" got {self.experiment_name!r}."
            )
        if self.search == "grid" and self.trials is not None:
            raise InputError(f"`--search grid` runs every point of the grid; leave out `--trials {self.trials}`.")
        if self.arms is not None and len(set(self.arms)) < len(self.arms):
            raise InputError(f"`--arms` must name each arm once; got {','.join(self.arms)}.")

    def _check_resources(self) -> None:
        if self.replicas > 1 and self.time_budget is not None:
            raise InputError(
                f"`--replicas {self.replicas}` trains at once the seeds that `--time-budget` counts one by one; leave"
                " out one of them."
            )
        cpus, gpus = self.cpus_per_trial, self.gpus_per_trial
        if not (math.isfinite(cpus) and cpus > 0):
            raise InputError(f"`--cpus-per-trial` must be > 0; got {cpus:g}.")
        if not (math.isfinite(gpus) and gpus >= 0):
            raise InputError(f"`--gpus-per-trial` must be >= 0; got {gpus:g}.")
        for flag, value in (("cpus", cpus), ("gpus", gpus)):
            if 0 < value < SMALLEST_SHARE:
                raise InputError(f"`--{flag}-per-trial` must be at least {SMALLEST_SHARE:g}; got {value:g}.")
        if gpus > 1 and not gpus.is_integer():
            raise InputError(f"`--gpus-per-trial` above 1 must be a whole number; got {gpus:g}.")

    @property
    def folder(self) -> Path:
        """The study's own folder, on the driver's machine."""
        return self.storage_path / self.name

    @property
    def shared(self) -> Place:
        """Where the study's workers write, and what must outlive the driver's machine: a bucket, or the folder."""
        return self.folder if self.bucket is None else f"{self.bucket}/{self.name}"

    @property
    def resume_command(self) -> str:
        """What goes on with the study, typed in this working directory and environment."""
        elsewhere = self.tracking_uri != resolve_tracking_uri()
        where = ["--tracking-uri", redact(self.tracking_uri)] if elsewhere else []
        return shlex.join(["python", "-m", "study.launch", "--resume", self.name, *where])

    @property
    def dataset_label(self) -> str:
        """The dataset with what was done to it, as the record names it."""
        parts = [self.dataset]
        if self.classes is not None:
            parts.append("classes=" + ",".join(map(str, self.classes)))
        if self.train_size is not None:
            parts.append(f"train-size={self.train_size}")
        if self.imbalance is not None:
            parts.append(f"imbalance={self.imbalance:g}")
        return " ".join(parts)


def parse_duration(text: str, flag: str = "--time-budget") -> float:
    """Seconds of ``90``, ``90s``, ``30m``, ``1h30m``, given with a flag.

    Raises:
        InputError: If it is none of these or not above zero.
    """
    bare = re.fullmatch(NUMBER, text.strip())
    match = DURATION.fullmatch(f"{text.strip()}s" if bare else text.strip())
    parts = [float(part or 0) for part in match.groups()] if match else []
    seconds = sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    if not 0 < seconds < math.inf:
        raise InputError(f"`{flag}` must be a time such as 90s, 30m or 1h30m; got {text!r}.")
    return seconds
