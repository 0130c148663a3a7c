"""One Optuna study per arm, and the searcher that deals trials to them in turn: search, then confirm."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import optuna

from search_spaces.arms import Arm, Categorical, Distribution, Float, Study, joint
from study.dealing import Dealer
from study.ledger import COMPLETED, DIVERGED, FAILED, SEARCH, Ledger, Request, TrialRecord
from trainables.config import Scalar, TrialConfig

JOINT = "joint"


class ArmSearch:
    """An Optuna study that proposes configurations of one arm (or of all, in joint mode).

    Args:
        label: The arm's name, or ``joint``.
        arm: What may be proposed.
        storage: Optuna storage that all arms share, so that optuna-dashboard compares them.
        study_name: The study's name, a prefix of the Optuna study's.
        sampler: ``tpe``, ``random`` or ``grid``.
        trials: How many to propose; a grid proposes all its points.
        seed: The study's seed.
        fixed: Keys added to every configuration (the search's seed).
    """

    def __init__(
        self, label: str, arm: Arm, storage: Any, study_name: str, *, sampler: str, trials: int, seed: int,
        fixed: Mapping[str, Scalar],
    ) -> None:  # fmt: skip
        self.label = label
        self.arm = arm
        self.asked = 0
        self._sampler, self._seed, self._fixed = sampler, seed, fixed
        self._trials: dict[int, optuna.trial.Trial] = {}
        self._optuna = optuna.create_study(
            storage=storage, study_name=f"{study_name}/{label}", direction="maximize", load_if_exists=True
        )
        self.trials = trials
        if sampler == "grid":
            points = list(arm.grid())
            self.trials = len(points)
            for point in points:
                self._optuna.enqueue_trial({key: value for key, value in point.items() if key not in arm.fixed})

    def ask(self) -> tuple[int, dict[str, Scalar]]:
        """The next trial's number and flat configuration."""
        # A sampler per trial, seeded by what the trial is: the proposal then depends on the recorded trials alone,
        # not on how often this process asked before.
        self._optuna.sampler = build_sampler(
            self._sampler, self.trials, derive_seed(self._seed, self.label, self.asked)
        )
        trial = self._optuna.ask()
        self.asked += 1
        values = self.arm.sample(lambda key, distribution: _suggest(trial, key, distribution))
        self._trials[trial.number] = trial
        return trial.number, TrialConfig.from_flat({**values, **self._fixed}).to_flat()

    def report(self, record: TrialRecord) -> None:
        """Tell one epoch's validation accuracy."""
        self._trials[record.request.number].report(record.val_accuracy, record.epoch)

    def tell(self, record: TrialRecord) -> None:
        """End a trial as what it was: a stopped trial is PRUNED, not complete with an early value."""
        trial = self._trials.pop(record.request.number)
        trial.set_user_attr("stop_reason", record.stop_reason)
        trial.set_user_attr("arm", record.request.arm)
        if record.stop_reason in (COMPLETED, DIVERGED):
            self._optuna.tell(trial, record.val_accuracy)
        else:
            state = optuna.trial.TrialState.FAIL if record.stop_reason == FAILED else optuna.trial.TrialState.PRUNED
            self._optuna.tell(trial, state=state)


def build_sampler(name: str, trials: int, seed: int) -> optuna.samplers.BaseSampler:
    """TPE that models conditional groups jointly, or random; a grid is enqueued and needs no sampler of its own."""
    if name == "tpe":
        # Half of a small budget at random, then model-based; Optuna's own default of ten would leave little of 16.
        startup = min(10, max(1, trials // 2))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # both have been so for years
            return optuna.samplers.TPESampler(multivariate=True, group=True, n_startup_trials=startup, seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)


def derive_seed(*parts: object) -> int:
    """A 32-bit seed from anything printable, the same on every machine."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4], "big")


def build_searches(
    study: Study, storage: Any, name: str, *, mode: str, sampler: str, trials: int, seed: int
) -> list[ArmSearch]:
    """The Optuna studies of a mode: one per arm, or one that holds all arms' trials."""
    arms = [(arm.name, arm, trials) for arm in study.arms]
    if mode == JOINT:
        arms = [(JOINT, joint(study), trials * len(study.arms))]
    return [
        ArmSearch(label, arm, storage, name, sampler=sampler, trials=count, seed=seed, fixed={"seed": seed})
        for label, arm, count in arms
    ]


class StudySearcher(Dealer):
    """Deals search trials to the arms in turn, so that budgets are equal exactly; then deals the confirmation.

    Args:
        searches: The Optuna studies.
        ledger: Where requests and results are kept.
        arm_of: The arm that a configuration, proposed under a label, belongs to.
        plan_confirmation: Called once after the search; yields the requests of the confirmation, lazily.
        may_start_round: Asked before each round (one trial per arm); False ends the search.
        max_concurrent: Trials at once at most; None for as many as resources allow.
        to_config: Turns a request into the trainable's Ray configuration.
    """

    def __init__(
        self,
        searches: Sequence[ArmSearch],
        ledger: Ledger,
        *,
        arm_of: Callable[[str, Mapping[str, Scalar]], str],
        plan_confirmation: Callable[[], Iterator[Request]],
        may_start_round: Callable[[], bool],
        max_concurrent: int | None,
        to_config: Callable[[Request], dict[str, Any]],
    ) -> None:
        stages = (self._deal_search, plan_confirmation)
        super().__init__(stages, ledger, max_concurrent=max_concurrent, to_config=to_config)
        self._searches = {search.label: search for search in searches}
        self._arm_of = arm_of
        self._may_start_round = may_start_round

    def reported(self, record: TrialRecord) -> None:
        """Tell Optuna."""
        if record.request.group is not None:
            self._searches[record.request.group].report(record)

    def ended(self, record: TrialRecord) -> None:
        """Tell Optuna what became of it."""
        if record.request.group is not None:
            self._searches[record.request.group].tell(record)

    def _deal_search(self) -> Iterator[Request]:
        first = next(iter(self._searches.values()))
        while True:
            search = min(self._searches.values(), key=lambda search: search.asked / search.trials)
            starts_round = search is first  # ties are dealt in the arms' order
            if search.asked >= search.trials or (starts_round and not self._may_start_round()):
                return
            number, config = search.ask()
            yield Request(self._arm_of(search.label, config), SEARCH, number, config, group=search.label)


def _suggest(trial: optuna.trial.Trial, key: str, distribution: Distribution) -> Scalar:
    if isinstance(distribution, Categorical):
        return cast("Scalar", trial.suggest_categorical(key, distribution.choices))
    if isinstance(distribution, Float):
        return trial.suggest_float(key, distribution.low, distribution.high, log=distribution.log)
    return trial.suggest_int(key, distribution.low, distribution.high, log=distribution.log)
