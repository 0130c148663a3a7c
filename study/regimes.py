"""The protocol of a reported study: every arm as the report states it, and again with its learning rate tuned."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from search_spaces.reported import (
    BOTH,
    FAIR,
    LEARNING_RATES,
    REGIMES,
    SEARCH_SEEDS,
    STATED,
    Reported,
    rate_in_mean,
    with_rate,
)
from study.conduct import Conduct, Results, dealt_at_once
from study.confirm import checkpoint_path, confirm_seeds, search_seeds
from study.dealing import Dealer, Stage
from study.ledger import COMPLETED, CONFIRM, DIVERGED, SEARCH, Ledger, Request, TrialRecord
from study.options import Options
from study.progress import Progress
from study.schedule import ArmScheduler
from trainables.config import TrialConfig


def regimes_of(options: Options) -> tuple[str, ...]:
    """The regimes that ``--regime`` asks for."""
    return REGIMES if options.regime == BOTH else (options.regime,)


def plan_stated(study: Reported, seeds: Sequence[int]) -> Iterator[Request]:
    """Every arm as stated on every seed, seed by seed, so that a study that is cut short stays paired."""
    for seed in seeds:
        for arm in study.arms:
            yield Request(arm.name, CONFIRM, seed, _config(arm.fixed, seed), regime=STATED)


def plan_grid(study: Reported, seeds: Sequence[int]) -> Iterator[Request]:
    """Every learning rate of the common grid on every search seed, for every arm that is tuned."""
    for place, seed in enumerate(seeds):
        for step, rate in enumerate(LEARNING_RATES):
            for arm in study.arms_of(FAIR):
                if not arm.rate_of:
                    number = place * len(LEARNING_RATES) + step
                    config = _config(with_rate(arm.fixed, rate), seed)
                    yield Request(arm.name, SEARCH, number, config, regime=FAIR)


def best_rates(study: Reported, ledger: Ledger) -> dict[str, tuple[float, float] | None]:
    """Each arm's learning rate (for a mean over the batch) with the highest mean validation accuracy, and that mean.

    A diverged trial counts with its chance-level accuracy. A rate counts only if all its trials ended by themselves;
    ties go to the smaller rate. None where no rate counts.
    """
    scores: dict[str, dict[float, list[TrialRecord]]] = {}
    for record in ledger.of_phase(SEARCH):
        rate = _on_grid(rate_in_mean(record.request.config))
        scores.setdefault(record.request.arm, {}).setdefault(rate, []).append(record)
    best: dict[str, tuple[float, float] | None] = {}
    for arm in study.arms_of(FAIR):
        if arm.rate_of:
            continue
        means = {
            rate: statistics.fmean(record.val_accuracy for record in records)
            for rate, records in sorted(scores.get(arm.name, {}).items())
            if len(records) == SEARCH_SEEDS and all(r.stop_reason in (COMPLETED, DIVERGED) for r in records)
        }
        best[arm.name] = max(means.items(), key=lambda item: (item[1], -item[0]), default=None)
    return {arm.name: best[arm.rate_of or arm.name] for arm in study.arms_of(FAIR)}


def plan_fair(
    study: Reported, rates: Mapping[str, tuple[float, float] | None], seeds: Sequence[int]
) -> Iterator[Request]:
    """Every arm at its tuned rate on every fresh seed, seed by seed; arms without a rate are left out."""
    for seed in seeds:
        for arm in study.arms_of(FAIR):
            chosen = rates[arm.name]
            if chosen is not None:
                yield Request(arm.name, CONFIRM, seed, _config(with_rate(arm.fixed, chosen[0]), seed), regime=FAIR)


def conduct_regimes(
    study: Reported,
    options: Options,
    ledger: Ledger,
    *,
    slots: int,
    recalled: Results,
    under_way: Collection[str] = (),
) -> Conduct:
    """Stated runs and the fair search side by side, then the fair confirmation.

    Args:
        study: The reported study, flags applied.
        options: The flags.
        ledger: Where requests and results are kept.
        slots: Trials that can run at once.
        recalled: Results on record, if the study is resumed.
        under_way: Keys of trials of which some epochs are on record, likewise.
    """
    regimes = regimes_of(options)
    seeds = confirm_seeds(options.seed, study.seeds)

    def first() -> Iterator[Request]:
        if STATED in regimes:
            yield from plan_stated(study, seeds)
        if FAIR in regimes:
            yield from plan_grid(study, search_seeds(options.seed))

    def confirmation() -> Iterator[Request]:
        rates = best_rates(study, ledger)
        for line in rate_lines(rates):
            progress.say(line)
        return plan_fair(study, rates, seeds)

    stages: list[Stage] = [first, confirmation] if FAIR in regimes else [first]
    planned = planned_epochs(study, regimes)
    progress = Progress(
        study,
        ledger,
        seconds_left=lambda: seconds_left(ledger, sum(planned.values()), slots, recalled or {}),
        budgets={arm.name: len(LEARNING_RATES) * SEARCH_SEEDS for arm in study.arms_of(FAIR) if not arm.rate_of}
        if FAIR in regimes
        else {},
        totals=planned_trials(study, regimes),
        quiet=options.quiet,
    )
    return Conduct(
        dealer=Dealer(
            stages,
            ledger,
            max_concurrent=dealt_at_once(options, slots),
            max_failures=options.max_failures,
            replicas=options.replicas,
            under_way=under_way,
            to_config=lambda request: _ray_config(request, study, options),
            recalled=recalled,
        ),
        scheduler=ArmScheduler(ledger, None, lambda _phase: False),
        progress=progress,
        out_of_time=lambda: False,
        conclusion=lambda: {
            "winners": _winners(study, best_rates(study, ledger)) if FAIR in regimes else {},
            "notes": _notes(study, ledger, regimes, planned_trials(study, regimes)),
        },
    )


def planned_trials(study: Reported, regimes: Sequence[str]) -> dict[str, int]:
    """Trials of each stage."""
    trials = {}
    if STATED in regimes:
        trials["stated confirm"] = len(study.arms) * study.seeds
    if FAIR in regimes:
        tuned = sum(not arm.rate_of for arm in study.arms_of(FAIR))
        trials["fair search"] = tuned * len(LEARNING_RATES) * SEARCH_SEEDS
        trials["fair confirm"] = len(study.arms_of(FAIR)) * study.seeds
    return trials


def planned_epochs(study: Reported, regimes: Sequence[str]) -> dict[str, int]:
    """Epochs of each regime, if nothing diverges."""
    epochs = {}
    if STATED in regimes:
        epochs[STATED] = study.seeds * sum(int(arm.fixed["epochs"]) for arm in study.arms)
    if FAIR in regimes:
        fair = study.arms_of(FAIR)
        tuned = sum(int(arm.fixed["epochs"]) for arm in fair if not arm.rate_of)
        confirmed = sum(int(arm.fixed["epochs"]) for arm in fair)
        epochs[FAIR] = tuned * len(LEARNING_RATES) * SEARCH_SEEDS + confirmed * study.seeds
    return epochs


def seconds_left(ledger: Ledger, planned: int, slots: int, recalled: Collection[str] = ()) -> float | None:
    """Estimated from what an epoch has taken so far; None before the first.

    Args:
        ledger: What has been spent so far, trial by trial.
        planned: Epochs of the whole study.
        slots: Trials that run at once.
        recalled: Keys of trials that ended before the study was resumed. They may have been trained on another device:
            they are asked only as long as no other has been trained.
    """
    trained = [record for record in ledger.records.values() if record.trained]
    if not trained:
        return None
    # A trial that diverged has none of its other epochs before it.
    ended = [record for record in ledger.records.values() if record.stop_reason is not None]
    spared = sum(int(record.request.config["epochs"]) - record.epoch for record in ended)
    here = [record for record in trained if record.request.key not in recalled] or trained
    epoch_seconds = sum(record.seconds for record in here) / sum(record.trained for record in here)
    return (planned - spared - sum(record.trained for record in trained)) * epoch_seconds / slots


def rate_lines(rates: Mapping[str, tuple[float, float] | None]) -> list[str]:
    """One line per arm: its tuned learning rate, or that it has none."""
    lines = ["Tuned learning rates, for a mean over the batch (validation accuracy chose them; it is not a result):"]
    width = max(map(len, rates), default=0)
    for arm, chosen in rates.items():
        text = "none: no rate ended all its trials" if chosen is None else f"{chosen[0]:<9.3g} {100 * chosen[1]:6.2f}%"
        lines.append(f"  {arm:<{width}}  {text}")
    return lines


def _config(fixed: Mapping[str, Any], seed: int) -> dict[str, Any]:
    return TrialConfig.from_flat({**fixed, "seed": seed}).to_flat()


def _on_grid(rate: float) -> float:
    """The grid's rate that a configuration's is, multiplied and divided by its batch size."""
    return min(LEARNING_RATES, key=lambda known: abs(known - rate))


def _ray_config(request: Request, study: Reported, options: Options) -> dict[str, Any]:
    return {
        "config": dict(request.config),
        "arm": request.arm,
        "phase": request.phase,
        "number": request.number,
        "rungs": [],
        "watch": list(study.watch) if request.regime == STATED else [],
        "model_path": None,
        "checkpoint": checkpoint_path(options.shared, request.key),
    }


def _winners(study: Reported, rates: Mapping[str, tuple[float, float] | None]) -> dict[str, dict[str, Any] | None]:
    winners: dict[str, dict[str, Any] | None] = {}
    for arm in study.arms_of(FAIR):
        chosen = rates[arm.name]
        winners[arm.name] = chosen and {
            "number": LEARNING_RATES.index(chosen[0]),
            "val_accuracy": chosen[1],
            "config": with_rate(arm.fixed, chosen[0]),
        }
    return winners


def _notes(study: Reported, ledger: Ledger, regimes: Sequence[str], planned: Mapping[str, int]) -> list[str]:
    notes = []
    if FAIR in regimes:
        without = [arm for arm, chosen in best_rates(study, ledger).items() if chosen is None]
        notes += [f"Arm {arm} has no tuned learning rate: no rate ended all its trials." for arm in without]
    for stage, count in planned.items():
        ended = sum(
            r.request.stage == stage and r.stop_reason in (COMPLETED, DIVERGED) for r in ledger.records.values()
        )
        if ended < count:
            notes.append(f"The {stage} stage ended after {ended} of {count} trials.")
    return notes
