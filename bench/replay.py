"""Searches replayed on recorded learning curves: what a strategy would have found, and what it would have cost.

A table of curves stands for training: a search proposes a configuration, gets the recorded one of the same arm that is
nearest and not used yet, and sees its validation accuracy epoch by epoch. So a search takes milliseconds, and
strategies can be compared over hundreds of seeds. The samplers and the stopping rule are the study's own
(``study.search.build_sampler``, Ray's ``ASHAScheduler`` per arm).
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Protocol

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from bench.curves import Curve
from search_spaces.arms import Arm, Categorical, Distribution, Float, Study, joint
from study.schedule import plan_rungs, schedule_of
from study.search import build_sampler, derive_seed
from trainables.config import Scalar

#: Trials at once.
WORKERS = 2
#: Of a parameter that one of two configurations does not have, or that is another category.
APART = 1.0


class Proposer(Protocol):
    """Chooses the next configuration among those that are left."""

    def ask(self, left: Sequence[Curve]) -> Curve: ...

    def tell(self, curve: Curve, epochs: int, state: TrialState) -> None: ...


#: Whether a trial is stopped after an epoch; asked of each epoch of each trial, by the trial's number.
Stopper = Callable[[int, Curve, int], bool]


@dataclass
class Search:
    """What a replayed search came to.

    Args:
        spent: Epochs trained by all trials.
        reached: By arm, the epochs that had been spent when a completed trial reached the arm's goal.
        completed: The curves that were trained to their end.
        stopped: Those that were not.
    """

    spent: int = 0
    reached: dict[str, int] = field(default_factory=dict)
    completed: list[Curve] = field(default_factory=list)
    stopped: list[Curve] = field(default_factory=list)


def replay(
    curves: Sequence[Curve],
    proposer: Proposer,
    stops: Stopper,
    *,
    goals: Mapping[str, float],
    trials: int | None = None,
    workers: int = WORKERS,
) -> Search:
    """Search a table until every goal is reached, the budget is spent, or nothing is left.

    Args:
        curves: The table.
        proposer: Chooses.
        stops: Stops.
        goals: Validation accuracy that a completed trial of an arm must reach, by arm.
        trials: At most so many trials; None for as many as the table holds.
        workers: Trials at once; each trains an epoch in turn.
    """
    left, found = list(curves), Search()
    budget = min(len(left), trials if trials is not None else len(left))
    running: dict[int, tuple[Curve, int]] = {}
    begun = 0
    while True:
        while len(running) < workers and begun < budget:
            curve = proposer.ask(left)
            left.remove(curve)
            running[begun] = (curve, 0)
            begun += 1
        if not running:
            return found
        for key, (curve, before) in list(running.items()):
            epoch = before + 1
            found.spent += 1
            running[key] = (curve, epoch)
            ended = epoch == len(curve.accuracy)
            stopped = stops(key, curve, epoch) and not ended
            if not (ended or stopped):
                continue
            del running[key]
            state = TrialState.PRUNED if stopped else TrialState.COMPLETE
            proposer.tell(curve, epoch, state)
            (found.stopped if stopped else found.completed).append(curve)
            goal = goals.get(curve.arm, np.inf)
            if ended and curve.arm not in found.reached and curve.final >= goal:
                found.reached[curve.arm] = found.spent
                if found.reached.keys() == goals.keys():
                    return found


class AtRandom:
    """Every configuration that is left is as likely."""

    def __init__(self, seed: int) -> None:
        self._generator = random.Random(seed)

    def ask(self, left: Sequence[Curve]) -> Curve:
        return self._generator.choice(left)

    def tell(self, curve: Curve, epochs: int, state: TrialState) -> None:
        pass


class ByOptuna:
    """Optuna proposes; the nearest configuration that is left is taken, and told as what it is.

    Args:
        arm: What may be proposed; of several arms, :func:`search_spaces.arms.joint`.
        trials: The search's budget, by which the study's sampler sets its start.
        seed: Of the sampler.
        factor: The key by which a joint search tells the arms apart; empty where there is one.
        levels: The factor's value of each arm.
    """

    def __init__(
        self, arm: Arm, *, trials: int, seed: int, factor: str = "", levels: Mapping[str, Scalar] | None = None
    ) -> None:
        self._arm, self._trials, self._seed = arm, trials, seed
        self._factor, self._levels = factor, levels or {}
        self.study = optuna.create_study(direction="maximize")
        self._asked = 0

    def ask(self, left: Sequence[Curve]) -> Curve:
        self.study.sampler = build_sampler("tpe", self._trials, derive_seed(self._seed, self._asked))
        self._asked += 1
        trial = self.study.ask()
        wanted = self._arm.sample(lambda key, distribution: _suggest(trial, key, distribution))
        self.study.tell(trial, state=TrialState.FAIL)  # what was taken instead is told when it ends
        return min(left, key=lambda curve: self._distance(wanted, self._values(curve)))

    def tell(self, curve: Curve, epochs: int, state: TrialState) -> None:
        self.study.add_trial(self.frozen(curve, epochs, state))

    def frozen(self, curve: Curve, epochs: int, state: TrialState) -> FrozenTrial:
        """A curve as Optuna knows a trial."""
        distributions: dict[str, optuna.distributions.BaseDistribution] = {}
        values = self._values(curve)

        def note(key: str, distribution: Distribution) -> Scalar:
            distributions[key] = _to_optuna(distribution)
            return values[key]

        self._arm.sample(note)
        return optuna.trial.create_trial(
            state=state,
            value=curve.accuracy[epochs - 1] if state == TrialState.COMPLETE else None,
            params={key: values[key] for key in distributions},
            distributions=distributions,
            intermediate_values={epoch: curve.accuracy[epoch - 1] for epoch in range(1, epochs + 1)},
        )

    def _values(self, curve: Curve) -> dict[str, Scalar]:
        own = {self._factor: self._levels[curve.arm]} if self._factor else {}
        return {**curve.params, **own}

    def _distance(self, wanted: Mapping[str, Scalar], values: Mapping[str, Scalar]) -> float:
        total = 0.0
        for parameter in self._arm.parameters:
            key = parameter.key
            if not parameter.applies(wanted):
                continue
            # Another arm would be another question: its curves are never nearer than those of the arm itself.
            far = 100 * APART if key == self._factor else APART
            total += far * (_apart(parameter.distribution, wanted[key], values[key]) if key in values else 1.0)
        return total


def never(*_: object) -> bool:
    """Every trial is trained to its end."""
    return False


def by_asha(grace_period: int, reduction_factor: float, max_epochs: int) -> Stopper:
    """Ray's ASHA, one per arm, as the study uses it.

    Args:
        grace_period: First rung, in epochs.
        reduction_factor: One of so many goes on at a rung.
        max_epochs: The most that any trial trains.
    """
    of: dict[str, ASHAScheduler] = {}

    def stops(key: int, curve: Curve, epoch: int) -> bool:
        asha = of.setdefault(
            curve.arm,
            ASHAScheduler(
                time_attr="epoch",
                metric="val_accuracy",
                mode="max",
                grace_period=grace_period,
                max_t=max_epochs,
                reduction_factor=reduction_factor,
            ),
        )
        trial = SimpleNamespace(trial_id=str(key))
        if epoch == 1:
            asha.on_trial_add(None, trial)
        result = {"epoch": epoch, "val_accuracy": curve.accuracy[epoch - 1]}
        return bool(asha.on_trial_result(None, trial, result) == TrialScheduler.STOP)

    return stops


def by_pruner(proposer: ByOptuna, pruner: optuna.pruners.BasePruner) -> Stopper:
    """One of Optuna's pruners, on the trials that the search has told."""

    def stops(_key: int, curve: Curve, epoch: int) -> bool:
        return pruner.prune(proposer.study, proposer.frozen(curve, epoch, TrialState.RUNNING))

    return stops


def default_grace(space: Study) -> int:
    """The study's own first rung."""
    plan = plan_rungs(space, stopping="asha", schedule=schedule_of(space))
    assert plan is not None
    return int(plan.grace_period)


def by_arm(curves: Sequence[Curve]) -> dict[str, list[Curve]]:
    """The curves of each arm."""
    arms: dict[str, list[Curve]] = {}
    for curve in curves:
        arms.setdefault(curve.arm, []).append(curve)
    return arms


def joint_proposer(space: Study, *, trials: int, seed: int) -> ByOptuna:
    """One search over all arms, the factor one more categorical."""
    levels = {arm.name: arm.fixed[space.factor] for arm in space.arms}
    return ByOptuna(joint(space), trials=trials, seed=seed, factor=space.factor, levels=levels)


def quiet() -> None:
    """Optuna says nothing."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)


def _suggest(trial: optuna.Trial, key: str, distribution: Distribution) -> Scalar:
    value: Scalar = trial._suggest(key, _to_optuna(distribution))  # noqa: SLF001 - what every suggest_* calls
    return value


def _to_optuna(distribution: Distribution) -> optuna.distributions.BaseDistribution:
    if isinstance(distribution, Categorical):
        return optuna.distributions.CategoricalDistribution(distribution.choices)
    if isinstance(distribution, Float):
        return optuna.distributions.FloatDistribution(distribution.low, distribution.high, log=distribution.log)
    return optuna.distributions.IntDistribution(distribution.low, distribution.high, log=distribution.log)


def _apart(distribution: Distribution, one: Scalar, other: Scalar) -> float:
    """How far two values are from each other, as a share of the range."""
    if isinstance(distribution, Categorical):
        return float(one != other)
    ends = np.array([distribution.low, distribution.high, one, other], dtype=float)
    low, high, a, b = np.log(ends) if distribution.log else ends
    return float(abs(a - b) / (high - low))
