"""``--dry-run``: what would run, and how long it would take, judged by one measured epoch per batch size."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterable

import torch

from analysis.address import mlflow_command
from analysis.plain import plain
from search_spaces.arms import Categorical, Distribution, Study, corners
from search_spaces.reported import FAIR, LEARNING_RATES, SEARCH_SEEDS, Reported
from study.budget import FINAL_SECONDS, OVERHEAD_SECONDS
from study.conduct import describe_rungs, stopping_rule
from study.options import Options
from study.protocol import delta_points
from study.regimes import planned_epochs, planned_trials, regimes_of
from trainables.batched import why_alone
from trainables.config import Scalar, TrialConfig
from trainables.data import Dataset
from trainables.loop import load_resident, run_epoch, start_training
from trainables.models import build_model
from trainables.replica_trials import ReplicaTrials, seeded

MEASURED_TRIALS = 3
#: Of a trial under way: its checkpoint, the one before it, and the next one while it is written.
CHECKPOINT_FILES = 3
#: What a checkpoint holds beside numbers: the generators' states, a name and a place per tensor, a row per epoch.
CHECKPOINT_BYTES, TENSOR_BYTES, ROW_BYTES = 30_000, 1_000, 1_500
#: A fifth of a GPU fits into it five times.
ROUNDING = 1e-9
#: Numbers that an optimizer keeps for each weight, at most.
MOMENTS = 2


def print_plan(study: Study, options: Options, dataset: Dataset) -> None:
    """Print arms, parameters, rungs, counts and the estimate; start nothing, leave nothing."""
    for line in plan_lines(study, options, dataset):
        print(plain(line))  # noqa: T201 - the plan


def plan_lines(study: Study, options: Options, dataset: Dataset) -> Iterable[str]:
    """The plan, line by line."""
    splits = f"{len(dataset.train_labels):,} to train and validate, {len(dataset.test_labels):,} to test"
    yield f"{study.question}"
    yield f"study     {options.name} (space {study.name}, mode {options.mode}, seed {options.seed})"
    yield f"dataset   {options.dataset_label}: {splits}, {dataset.num_classes} classes"
    yield f"baseline  {study.baseline}; differences under {delta_points(options):g} points do not matter"
    yield f"record    {options.folder}, {mlflow_command(options.tracking_uri)}"
    yield ""
    if isinstance(study, Reported):
        yield from _reported_lines(study, options, dataset)
        return
    yield "The scientific factor and each arm's fixed values:"
    for arm in study.arms:
        yield f"  {arm.name:<18} " + ", ".join(f"{key} = {value}" for key, value in arm.fixed.items())
    yield "Nuisance hyperparameters, tuned in every arm unless it says where:"
    yield from _parameter_lines(study)
    yield ""
    plan = stopping_rule(study, options)
    rungs = describe_rungs(plan)
    if plan is None:
        yield "stopping  none: every trial trains to its end"
    else:
        unit = "epochs" if plan.time_attribute == "epoch" else "% of a trial's epochs"
        shown = ", ".join(f"{rung:g}" for rung in plan.rungs)
        yield f"stopping  ASHA per arm, reduction factor {rungs['reduction_factor']}, rungs at {shown} {unit}"
    arms, controls = len(study.arms), len(study.controls)
    counts = [len(list(arm.grid())) for arm in study.arms] if options.search == "grid" else [study.trials] * arms
    each = str(counts[0] if len(set(counts)) == 1 else counts)
    confirmations = (arms + controls) * study.seeds
    yield f"search    {sum(counts)} trials: {arms} arms x {each} ({options.search})"
    yield f"confirm   {confirmations} trials: {study.seeds} seeds x ({arms} arms + {controls} controls)"
    yield from _estimate_lines(study, options, dataset, sum(counts))
    yield _disk_line(study, options, dataset)


def _reported_lines(study: Reported, options: Options, dataset: Dataset) -> Iterable[str]:
    """What a reported study would run, and what was assumed where the report is silent."""
    yield f"Report {study.report}. Assumed, where it does not say:"
    yield from (f"  {assumption}" for assumption in study.assumptions)
    common = set.intersection(*(set(arm.fixed.items()) for arm in study.arms))
    yield "All arms: " + ", ".join(f"{key} = {value}" for key, value in sorted(common))
    for arm in study.reported_arms:
        own = ", ".join(f"{key} = {value}" for key, value in arm.fixed.items() if (key, value) not in common)
        tuned = "" if arm.in_fair else "; stated regime only"
        tuned = f"; at the rate tuned for {arm.rate_of}" if arm.rate_of else tuned
        yield f"  {arm.name:<36} {own}{tuned}"
    regimes = regimes_of(options)
    if FAIR in regimes:
        rates = ", ".join(f"{rate:.3g}" for rate in LEARNING_RATES)
        yield f"fair      learning rates {rates} (mean over the batch), {SEARCH_SEEDS} search seeds each"
    for stage, trials in planned_trials(study, regimes).items():
        yield f"{stage:<9} {trials} trials"
    epochs = sum(planned_epochs(study, regimes).values())
    seconds = _epoch_seconds(study, options, dataset, options.replicas)
    slots = _slots(options)
    hours = epochs * seconds / slots / 3600
    at_once = (
        f"{slots} trials at once" if options.replicas == 1 else f"{slots} models of up to {options.replicas} trials"
    )
    yield f"estimate  {epochs:,} epochs at {seconds:.3g} s (measured on the baseline), {at_once}:"
    yield f"          about {_show_hours(hours)}"
    yield _disk_line(study, options, dataset)


def disk_bytes(study: Study, options: Options, dataset: Dataset) -> tuple[int, int]:
    """The most that a study's folder holds while it runs: bytes of a checkpoint, and of all files that go at its end.

    Those are the checkpoints of the trials under way and, of a tuned space, the weights of every confirm trial, until
    the arms' best are in MLflow. The journal and the record, some 2 KB an epoch, stay.
    """
    configs = [TrialConfig.from_flat(values) for arm in study.arms for values in corners(arm)]
    models = {config.model for config in configs}
    weights = max(
        sum(parameter.numel() * parameter.element_size() + TENSOR_BYTES for parameter in model.parameters())
        for model in (build_model(component, dataset.input_shape, dataset.num_classes) for component in models)
    )
    epochs = max(config.epochs for config in configs)
    checkpoint = (1 + MOMENTS) * weights + CHECKPOINT_BYTES + ROW_BYTES * epochs
    keeps = not (isinstance(study, Reported) or options.no_models)
    kept = len(study.arms) * study.seeds * (weights + CHECKPOINT_BYTES) if keeps else 0
    return checkpoint, _slots(options) * CHECKPOINT_FILES * checkpoint + kept


def _disk_line(study: Study, options: Options, dataset: Dataset) -> str:
    _, most = disk_bytes(study, options, dataset)
    return f"disk      at most {most / 1e6:,.0f} MB of checkpoints and weights while it runs, none of them at its end"


def _parameter_lines(study: Study) -> Iterable[str]:
    arms_of: dict[tuple[str, str, str], list[str]] = {}
    for arm in study.arms:
        for parameter in arm.parameters:
            if not all(arm.fixed[key] in values for key, values in parameter.when.items() if key in arm.fixed):
                continue
            searched = {key: values for key, values in parameter.when.items() if key not in arm.fixed}
            when = " and ".join(f"{key} = {' or '.join(map(str, values))}" for key, values in searched.items())
            arms_of.setdefault((parameter.key, _show(parameter.distribution), when), []).append(arm.name)
    for (key, shown, when), arms in arms_of.items():
        where = "" if len(arms) == len(study.arms) else f"  [only {', '.join(arms)}]"
        yield f"  {key:<24} {shown}{f'  if {when}' if when else ''}{where}"


def _show(distribution: Distribution) -> str:
    if isinstance(distribution, Categorical):
        return "{" + ", ".join(map(str, distribution.choices)) + "}"
    return f"{distribution.low:g} to {distribution.high:g}{' (log)' if distribution.log else ''}"


def _estimate_lines(study: Study, options: Options, dataset: Dataset, search_trials: int) -> Iterable[str]:
    seconds = _epoch_seconds(study, options, dataset)
    slots = _slots(options)
    epochs = (study.min_epochs + study.max_epochs) / 2
    confirmations = (len(study.arms) + len(study.controls)) * study.seeds
    search = search_trials * (epochs * seconds + OVERHEAD_SECONDS)
    confirm = confirmations * (study.max_epochs * seconds + FINAL_SECONDS)
    hours = (search + confirm) / slots / 3600
    yield f"estimate  {seconds:.3g} s an epoch (measured, mean over configurations), {slots} trials at once:"
    yield f"          at most about {_show_hours(hours)}; stopping makes the search shorter"


def _slots(options: Options) -> int:
    if options.max_concurrent is not None:
        return options.max_concurrent
    slots = (os.cpu_count() or 1) / options.cpus_per_trial
    if options.gpus_per_trial > 0:
        slots = min(slots, torch.cuda.device_count() / options.gpus_per_trial)
    return max(1, int(slots + ROUNDING))


def _show_hours(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{hours:.2f} hours ({60 * hours:.0f} minutes)"


def _epoch_seconds(study: Study, options: Options, dataset: Dataset, replicas: int = 1) -> float:
    """Mean seconds of an epoch over the middle configuration of the baseline at its extreme batch sizes.

    With ``replicas`` an equal share of those that so many trials take as one model, once it has been captured.
    """
    torch.set_num_threads(max(1, int(options.cpus_per_trial)))
    data = load_resident(dataset, torch.device(options.device))
    arm = study.arm(study.baseline)
    measured = []
    for trial in range(MEASURED_TRIALS):
        share = trial / (MEASURED_TRIALS - 1)
        config = TrialConfig.from_flat(arm.sample(functools.partial(_at, share)))
        run: Callable[[], object] = functools.partial(run_epoch, start_training(config, data), data)
        together = 1 if why_alone(config.to_flat()) else replicas
        if together > 1:
            run = ReplicaTrials(seeded(config, range(together)), data, graph=True).run_epoch
            run()
        started = time.perf_counter()
        run()
        measured.append((time.perf_counter() - started) / together)
    return sum(measured) / len(measured)


def _at(share: float, _key: str, distribution: Distribution) -> Scalar:
    """The value that lies ``share`` of the way through a distribution."""
    if isinstance(distribution, Categorical):
        return distribution.choices[round(share * (len(distribution.choices) - 1))]
    value = distribution.low + share * (distribution.high - distribution.low)
    return round(value) if isinstance(distribution.low, int) else value
