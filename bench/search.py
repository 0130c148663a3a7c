"""What a search costs until it has found what an arm can do, by replay of recorded curves (``bench/recorded``).

The cost is epochs trained until a trial that was trained to its end is within delta of the arm's best recorded one. A
search that never gets there, because it stopped the good ones, is charged the whole table. No clock is read: what this
prints does not depend on the machine.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
from statsmodels.stats.proportion import proportion_confint

from bench.curves import Curve, read_curves
from bench.measure import Figure, Measurement, Result
from bench.replay import AtRandom, ByOptuna, Search, by_arm, by_asha, by_pruner, default_grace, never, quiet, replay
from search_spaces.arms import Arm, Study
from search_spaces.arms import joint as all_arms
from search_spaces.full import STUDY as FULL
from study.schedule import REDUCTION_FACTOR
from study.search import derive_seed

RECORDED = Path(__file__).parent / "recorded"
#: Recorded table → delta, in accuracy, of its data set.
TABLES = {"full-digits": 0.01, "full-fashion-mnist-6000": 0.005}
#: Replays of each arm under each strategy.
SEEDS = 30
#: Of the joint search, which is ten times as long.
JOINT_SEEDS = 10
GRACE_PERIODS = (1, 2, 3, 5, 8, 10)
REDUCTION_FACTORS = (2, 3, 4)
MAX_RATIO, MAX_STOPPED = 1 / 3, 0.10
OURS, RANDOM = "TPE + ASHA per arm (ours)", "random, none stopped"


@dataclass(frozen=True)
class Cost:
    """What a strategy took, by arm and seed.

    Args:
        epochs: Until the goal, or of the whole table, shape ``(arms, seeds)``.
        reached: Whether it got there, likewise.
    """

    epochs: np.ndarray
    reached: np.ndarray


def measure(seeds: int = SEEDS) -> Result:
    """Every strategy on every table, and how often the stopping rule stops the best trial."""
    quiet()
    figures: list[Figure] = []
    raw: list[Measurement] = []
    for table, delta in TABLES.items():
        curves = read_curves(RECORDED / f"{table}.parquet")
        goals = {arm: max(curve.final for curve in own) - delta for arm, own in by_arm(curves).items()}
        costs = {name: cost_of(run, curves, goals, seeds) for name, run in strategies(FULL).items()}
        costs["joint TPE, MedianPruner"] = joint_cost(FULL, curves, goals, min(seeds, JOINT_SEEDS))
        for name, cost in costs.items():
            figures.append(_against_random(table, name, cost, costs[RANDOM]))
            raw += [
                Measurement(f"{table}: {name}", number, float(total), "epochs")
                for number, total in enumerate(cost.epochs.sum(axis=0), start=1)
            ]
        for grace in GRACE_PERIODS:
            for factor in REDUCTION_FACTORS:
                stopped, lost, share = best_stopped(curves, grace, factor, seeds=seeds)
                low, high = proportion_confint(sum(stopped), len(stopped), method="wilson")
                ours = (grace, factor) == (default_grace(FULL), REDUCTION_FACTOR)
                said = f"[{low:.3f}, {high:.3f}], {100 * lost:.2f} points lost, {share:.2f} of the epochs"
                name = f"best of 16 stopped, grace {grace}, factor {factor}: {said}"
                bound = MAX_STOPPED if ours else None
                figures.append(Figure(name=f"{table}: {name}", ours=statistics.fmean(stopped), unit="", at_most=bound))
    return Result(figures, raw)


def strategies(space: Study) -> Mapping[str, Callable[[Arm, Sequence[Curve], Mapping[str, float], int], Search]]:
    """The strategies that search each arm by itself."""
    grace, most = default_grace(space), space.max_epochs

    def by(propose: str, stop: str) -> Callable[[Arm, Sequence[Curve], Mapping[str, float], int], Search]:
        def run(arm: Arm, curves: Sequence[Curve], goals: Mapping[str, float], seed: int) -> Search:
            proposer = AtRandom(seed) if propose == "random" else ByOptuna(arm, trials=space.trials, seed=seed)
            stops = by_asha(grace, REDUCTION_FACTOR, most) if stop == "asha" else never
            if stop == "median" and isinstance(proposer, ByOptuna):
                stops = by_pruner(proposer, optuna.pruners.MedianPruner())
            return replay(curves, proposer, stops, goals=goals)

        return run

    return {
        RANDOM: by("random", "none"),
        "random + ASHA": by("random", "asha"),
        "TPE, none stopped": by("tpe", "none"),
        "TPE + MedianPruner": by("tpe", "median"),
        OURS: by("tpe", "asha"),
    }


def cost_of(
    run: Callable[[Arm, Sequence[Curve], Mapping[str, float], int], Search],
    curves: Sequence[Curve],
    goals: Mapping[str, float],
    seeds: int,
) -> Cost:
    """Epochs to each arm's goal, arm by arm, seed by seed."""
    epochs, reached = [], []
    for name, own in by_arm(curves).items():
        arm, goal = FULL.arm(name), {name: goals[name]}
        found = [run(arm, own, goal, derive_seed(name, number)) for number in range(seeds)]
        epochs.append([_charged(search, name, own) for search in found])
        reached.append([name in search.reached for search in found])
    return Cost(np.array(epochs, dtype=float), np.array(reached))


def joint_cost(space: Study, curves: Sequence[Curve], goals: Mapping[str, float], seeds: int) -> Cost:
    """One search over all arms, until the last of them has reached its goal; by arm, when it did.

    The epochs of an arm are those that it took more than the arms before it, so that their sum is the search's.
    """
    levels = {arm.name: arm.fixed[space.factor] for arm in space.arms}
    epochs, reached = [], []
    for number in range(seeds):
        proposer = ByOptuna(
            all_arms(space),
            trials=space.trials * len(space.arms),
            seed=derive_seed("joint", number),
            factor=space.factor,
            levels=levels,
        )
        found = replay(curves, proposer, by_pruner(proposer, optuna.pruners.MedianPruner()), goals=goals)
        whole = sum(len(curve.accuracy) for curve in curves)
        times = sorted(found.reached.get(arm, whole) for arm in goals)
        epochs.append(np.diff([0, *times]))
        reached.append([arm in found.reached for arm in goals])
    return Cost(np.array(epochs, dtype=float).T, np.array(reached).T)


def _charged(search: Search, arm: str, curves: Sequence[Curve]) -> int:
    return search.reached.get(arm, sum(len(curve.accuracy) for curve in curves))


def _against_random(table: str, name: str, cost: Cost, reference: Cost) -> Figure:
    """A strategy's epochs, all arms together, as a share of random search's."""
    ours, theirs = cost.epochs.sum(axis=0), reference.epochs.sum(axis=0)
    ratio = float(ours.mean() / theirs.mean())
    return Figure(
        name=f"{table}: {name}, reached {100 * cost.reached.mean():.0f}%",
        ours=float(ours.mean()),
        reference=float(theirs.mean()),
        ratio=ratio,
        unit="epochs",
        at_most=MAX_RATIO if name == OURS else None,
    )


def best_stopped(
    curves: Sequence[Curve], grace: int, factor: float, *, seeds: int, trials: int = 16
) -> tuple[list[bool], float, float]:
    """How often an arm's best of ``trials`` configurations, drawn at random, is stopped.

    Returns:
        For each arm and seed whether it was; the mean validation accuracy that the best of those not stopped lacks,
        in [0, 1]; and the epochs trained as a share of those without stopping.
    """
    stopped, lost, spent, whole = [], [], 0, 0
    for name, own in by_arm(curves).items():
        for number in range(seeds):
            draw = np.random.default_rng(derive_seed("draw", name, number)).permutation(len(own))[:trials]
            drawn = [own[place] for place in draw]
            search = replay(drawn, AtRandom(number), by_asha(grace, factor, FULL.max_epochs), goals={name: np.inf})
            best = max(curve.final for curve in drawn)
            lost.append(best - max((curve.final for curve in search.completed), default=0.0))
            stopped.append(lost[-1] > 0)
            spent += search.spent
            whole += sum(len(curve.accuracy) for curve in drawn)
    return stopped, statistics.fmean(lost), spent / whole
