"""The study as it will be run, resolved from the flags: what is printed, recorded as ``study.json`` and reported on."""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from search_spaces.arms import Arm, Study, describe, with_fixed
from search_spaces.reported import (
    BOTH,
    LEARNING_RATES,
    REGIMES,
    SEARCH_SEEDS,
    Reported,
    describe_arm,
    pick,
    scale_epochs,
)
from study.confirm import search_seeds
from study.options import DEFAULT_PRECISION, DEFAULT_SCHEDULE, Options
from trainables.config import InputError, Scalar
from trainables.data import LOCATIONS, Dataset, split_indices
from trainables.environment import digest_code

SCHEMA = 1
# A flag that was not given leaves to a space what the space fixes itself; these hold where neither says anything.
_DEFAULTS: dict[str, Scalar] = {"precision": DEFAULT_PRECISION, "schedule": DEFAULT_SCHEDULE}
#: The smallest difference that matters, in accuracy points, where the benchmark is nearly solved; else one point.
DELTAS = {"mnist": 0.2, "fashion-mnist": 0.5, "kmnist": 0.5, "svhn": 0.5}
DEFAULT_DELTA = 1.0
VERSIONED = ("ray", "torch", "torchvision", "optuna", "mlflow", "pandas", "numpy", "scipy")
ROOT = Path(__file__).resolve().parent.parent


def resolve_study(space: Study, options: Options) -> Study:
    """The space with the flags applied: arms picked or added, the baseline, budgets, fixed values.

    Raises:
        InputError: If an arm is unknown or a value breaks a rule.
    """
    if isinstance(space, Reported):
        return _resolve_reported(space, options)
    study = space
    if options.arms is not None:
        study = _pick_arms(space, options.arms, options.baseline)
    if options.baseline is not None:
        study = replace(study, baseline=study.arm(options.baseline).name)
    given: dict[str, Scalar | None] = {
        "precision": options.precision if options.precision != DEFAULT_PRECISION else None,
        "schedule": options.schedule if options.schedule != DEFAULT_SCHEDULE else None,
        "augment": options.augment or None,
        "model": options.model,
    }
    study = with_fixed(study, **{key: value for key, value in given.items() if value is not None})
    study = replace(study, arms=tuple(replace(arm, fixed={**_DEFAULTS, **arm.fixed}) for arm in study.arms))
    controls = {
        arm: like
        for arm, like in study.controls.items()
        if {arm, like} <= {known.name for known in study.arms}
    }  # fmt: skip
    return replace(
        study,
        trials=study.trials if options.trials is None else options.trials,
        seeds=study.seeds if options.seeds is None else options.seeds,
        controls=controls,
    )


def _resolve_reported(space: Reported, options: Options) -> Reported:
    """A reported study with the flags applied; what the report fixed stays fixed.

    Raises:
        InputError: If an arm is unknown.
    """
    study = scale_epochs(space, options.epochs_scale)
    names = _matching_arms(space, options.arms) if options.arms is not None else [arm.name for arm in space.arms]
    baseline = space.arm(options.baseline).name if options.baseline is not None else space.baseline
    study = pick(study, names, baseline if baseline in names else names[0])
    arms = tuple(replace(arm, fixed={**_DEFAULTS, "precision": options.precision, **arm.fixed}) for arm in study.arms)
    return replace(study, arms=arms, seeds=study.seeds if options.seeds is None else options.seeds)


def _matching_arms(space: Study, patterns: Sequence[str]) -> list[str]:
    """The space's arms that match a name or a pattern such as ``gelu-*-one``, in the space's order."""
    known = [arm.name for arm in space.arms]
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in known):
            raise InputError(f"No arm matches {pattern!r}; choose from {', '.join(known)}.")
    return [name for name in known if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def delta_points(options: Options) -> float:
    """The smallest difference that matters, in accuracy points."""
    return options.delta if options.delta is not None else DELTAS.get(options.dataset, DEFAULT_DELTA)


def describe_study(
    study: Study, options: Options, dataset: Dataset, looks: Mapping[str, Any], rungs: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of ``study.json``: all that a report needs beside the trials."""
    train, val = split_indices(dataset.train_labels, seed=options.seed)
    commit, dirty = git_state()
    return {
        "schema": SCHEMA,
        "study": options.name,
        "space": study.name,
        "question": study.question,
        "factor": study.factor,
        "baseline": study.baseline,
        "mode": options.mode,
        "arms": [describe(arm) for arm in study.arms],
        "controls": dict(study.controls),
        "delta": delta_points(options),
        "seed": options.seed,
        **looks,
        "dataset": {
            "name": options.dataset_label,
            "num_train": len(train),
            "num_val": len(val),
            "num_test": len(dataset.test_labels),
            "num_classes": dataset.num_classes,
            "class_names": list(dataset.class_names),
            "input_shape": list(dataset.input_shape),
            "sha256": dataset.sha256,
            "source": _source(options),
        },
        "search": options.search,
        "stopping": options.stopping,
        **rungs,
        "winners": {},
        "versions": versions(),
        "command": options.command,
        "arguments": list(options.arguments),
        "code_sha256": code_sha256(options),
        "git_commit": commit,
        "git_dirty": dirty,
        "notes": [],
        **(_describe_report(study, options) if isinstance(study, Reported) else {}),
    }


def _describe_report(study: Reported, options: Options) -> dict[str, Any]:
    """What a reported study's record holds beside; overrides what a tuned space's would say."""
    return {
        "report": study.report,
        "regimes": list(REGIMES) if options.regime == BOTH else [options.regime],
        "epochs_scale": study.epochs_scale,
        "report_dataset": study.dataset,
        "stand_in": not study.own_data or options.dataset != study.dataset,
        "assumptions": list(study.assumptions),
        "arms": [describe_arm(arm) for arm in study.reported_arms],
        "learning_rates": list(LEARNING_RATES),
        "search_seeds": search_seeds(options.seed),
        "trials_per_arm": len(LEARNING_RATES) * SEARCH_SEEDS,
        "looks": [],
        "search": "grid",
        "stopping": "none",
    }


def _source(options: Options) -> dict[str, Any]:
    """The arguments of ``load_dataset`` that give these data, without those at their default."""
    prefix, _, path = options.dataset.partition(":")
    name = f"{prefix}:{Path(path).expanduser().absolute()}" if prefix in LOCATIONS else options.dataset
    cuts = {
        "classes": options.classes and list(options.classes),
        "train_size": options.train_size,
        "imbalance": options.imbalance,
        # It fixes what is drawn, and the test part of a dataset that has none.
        "seed": options.seed or None,
    }
    return {"name": name, **{key: value for key, value in cuts.items() if value is not None}}


def git_state() -> tuple[str, bool]:
    """The commit that runs and whether files differ from it; ``unknown`` outside a checkout."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit, bool(_git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return "unknown", False


def code_sha256(options: Options) -> str:
    """A digest of the code that decides a trial's numbers: the project's, and the user's own parts."""
    return digest_code((options.space, *(options.arms or ()), options.model or ""))


def constraints_sha256() -> str:
    """A digest of the pinned versions, or of the installed ones where the pins are not at hand."""
    pins = ROOT / "constraints.txt"
    content = pins.read_bytes() if pins.is_file() else repr(sorted(versions().items())).encode()
    return hashlib.sha256(content).hexdigest()


def versions() -> dict[str, str]:
    """Python and the packages that decide numbers."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in VERSIONED}


def _pick_arms(space: Study, names: tuple[str, ...], baseline: str | None) -> Study:
    arms = tuple(_added_arm(space, name) if ":" in name else space.arm(name) for name in names)
    kept = [arm.name for arm in arms]
    fallback = space.baseline if space.baseline in kept else kept[0]
    return replace(space, arms=arms, baseline=baseline if baseline in kept else fallback)


def _added_arm(space: Study, name: str) -> Arm:
    """An arm for a user's own value of the factor, searched like the baseline."""
    template = space.arm(space.baseline)
    if space.factor not in template.fixed:
        raise InputError(f"`--arms {name}`: arms of the space {space.name!r} do not differ in one named part.")
    # What only the baseline's own value knows is left out; every optimizer knows a learning rate.
    own = tuple(
        parameter
        for parameter in template.parameters
        if parameter.key == "optimizer.learning_rate" or not parameter.key.startswith(f"{space.factor}.")
    )
    return Arm(name.rpartition(":")[2], {**template.fixed, space.factor: name}, own)


def _git(*arguments: str) -> str:
    done = subprocess.run(  # noqa: S603 - fixed arguments
        ["git", "-C", str(ROOT), *arguments],  # noqa: S607 - the user's git
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return done.stdout.strip()
