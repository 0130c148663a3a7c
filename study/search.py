"""One Optuna study per arm, and the searcher that deals trials to them in turn: search, then confirm."""

from __future__ import annotations

import copy
import hashlib
import itertools
import warnings
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import optuna
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from search_spaces.arms import Arm, Categorical, Distribution, Float, Study, joint
from study.dealing import Dealer, Stage
from study.ledger import COMPLETED, DIVERGED, FAILED, SEARCH, Ledger, Request, TrialRecord
from trainables.config import Scalar, TrialConfig

JOINT = "joint"
#: What a proposal costs grows with the trials it is made from: 3 ms at 50, 20 at 1,000. It is made from the last ones.
REMEMBERED = 256


class _Recent(optuna.study.Study):
    """A study of which samplers see the last trials only."""

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        # From the end: to look at every trial's state, some ten times a proposal, would cost more with each of them.
        wanted = (trial for trial in reversed(self.all_trials) if states is None or trial.state in states)
        recent = list(itertools.islice(wanted, REMEMBERED))[::-1]
        return copy.deepcopy(recent) if deepcopy else recent

    @property
    def all_trials(self) -> list[FrozenTrial]:
        """Every trial, by its number; not to be changed."""
        return self._storage.get_all_trials(self._study_id, deepcopy=False)


@dataclass(frozen=True)
class Asked:
    """A trial that Optuna's journal holds.

    Args:
        number: Its number in its Optuna study.
        config: Its flat ``TrialConfig``.
        reports: Validation accuracy by epoch, as told.
        stop_reason: What it ended as; None if it has not.
    """

    number: int
    config: Mapping[str, Scalar]
    reports: Mapping[int, float]
    stop_reason: str | None


class ArmSearch:
    """An Optuna study that proposes configurations of one arm (or of all, in joint mode).

    Its state is its storage: made again on the storage of a process that died, it goes on with the next trial, and
    proposes what that process would have proposed.

    Args:
        label: The arm's name, or ``joint``.
        arm: What may be proposed.
        storage: Optuna storage that all arms share, so that optuna-dashboard compares them.
        study_name: The study's name, a prefix of the Optuna study's.
        sampler: ``tpe``, ``random`` or ``grid``.
        trials: How many to propose, as long as nobody raises it; a grid proposes all its points.
        seed: The study's seed.
        fixed: Keys added to every configuration (the search's seed).
    """

    def __init__(
        self, label: str, arm: Arm, storage: BaseStorage, study_name: str, *, sampler: str, trials: int, seed: int,
        fixed: Mapping[str, Scalar],
    ) -> None:  # fmt: skip
        self.label = label
        self.arm = arm
        self._sampler, self._seed, self._fixed = sampler, seed, fixed
        self._optuna = optuna.create_study(
            storage=storage, study_name=f"{study_name}/{label}", direction="maximize", load_if_exists=True
        )
        # Asking takes several writes: they go to memory, and the journal gets the whole trial in one. Killed at any
        # time, it holds all of a trial or nothing.
        memory = InMemoryStorage()
        self._memory = _Recent(optuna.create_study(storage=memory, direction="maximize").study_name, memory)
        self._memory.add_trials(self._optuna.get_trials(deepcopy=False))
        self.asked = len(self._memory.all_trials)
        self._points = list(arm.grid()) if sampler == "grid" else []
        self.trials = len(self._points) or trials

    def ask(self) -> tuple[int, dict[str, Scalar]]:
        """The next trial's number and flat configuration."""
        # A sampler per trial, seeded by what the trial is: the proposal then depends on the recorded trials alone,
        # not on how often this process asked before.
        self._memory.sampler = build_sampler(
            self._sampler, self.trials, derive_seed(self._seed, self.label, self.asked)
        )
        if self._points:
            self._memory.enqueue_trial(
                {key: value for key, value in self._points[self.asked].items() if key not in self.arm.fixed}
            )
        trial = self._memory.ask()
        values = self.arm.sample(lambda key, distribution: _suggest(trial, key, distribution))
        self._optuna.add_trial(self._memory.all_trials[trial.number])
        self.asked += 1
        return trial.number, TrialConfig.from_flat({**values, **self._fixed}).to_flat()

    def recorded(self) -> list[Asked]:
        """The trials on record, in the order in which they were asked for."""
        return [
            Asked(
                trial.number,
                self._config(trial.params),
                dict(sorted(trial.intermediate_values.items())),
                str(trial.user_attrs.get("stop_reason", FAILED)) if trial.state.is_finished() else None,
            )
            for trial in self._memory.all_trials
        ]

    def report(self, record: TrialRecord) -> None:
        """Tell one epoch's validation accuracy; one that was told before stays as it was."""
        trial = self._memory.all_trials[record.request.number]
        if not trial.state.is_finished() and record.epoch not in trial.intermediate_values:
            for storage, trial_id in self._places(record):
                storage.set_trial_intermediate_value(trial_id, record.epoch, record.val_accuracy)

    def tell(self, record: TrialRecord) -> None:
        """End a trial as what it was: a stopped trial is PRUNED, not complete with an early value."""
        number = record.request.number
        if self._memory.all_trials[number].state.is_finished():
            return
        for storage, trial_id in self._places(record):
            storage.set_trial_user_attr(trial_id, "stop_reason", record.stop_reason)
            storage.set_trial_user_attr(trial_id, "arm", record.request.arm)
        for study in (self._optuna, self._memory):
            if record.stop_reason in (COMPLETED, DIVERGED):
                study.tell(number, record.val_accuracy)
            else:
                study.tell(number, state=TrialState.FAIL if record.stop_reason == FAILED else TrialState.PRUNED)

    def _places(self, record: TrialRecord) -> list[tuple[BaseStorage, int]]:
        """Where a trial is kept, the record first, and its id there."""
        places = []
        for study in (self._optuna, self._memory):
            storage = study._storage  # noqa: SLF001 - what a trial of one's own reports through
            study_id = storage.get_study_id_from_name(study.study_name)
            places.append((storage, storage.get_trial_id_from_study_id_trial_number(study_id, record.request.number)))
        return places

    def _config(self, params: Mapping[str, Any]) -> dict[str, Scalar]:
        values = self.arm.sample(lambda key, _distribution: cast("Scalar", params[key]))
        return TrialConfig.from_flat({**values, **self._fixed}).to_flat()


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
        recalled: Results on record, if the study is resumed: of trials that are not dealt again.
        arm_of: The arm that a configuration, proposed under a label, belongs to.
        plan_confirmation: Called once after the search; yields the requests of the confirmation, lazily.
        extensions: Of a finished study: the trials that each search gets beside, and the confirmation after them.
        may_start_round: Asked before each round (one trial per arm); False ends the search.
        max_concurrent: Trials at once at most; None for as many as resources allow.
        max_failures: How often a trial that failed is tried again.
        replicas: How many trials of the confirmation may be dealt as one.
        under_way: Keys of trials of which some epochs are on record, if the study is resumed.
        to_config: Turns a request into the trainable's Ray configuration.

    ``untold`` holds the trials that ended before the study was resumed and that MLflow has not heard of: the last epoch
    and the reason, by key.
    """

    def __init__(
        self,
        searches: Sequence[ArmSearch],
        ledger: Ledger,
        *,
        recalled: Mapping[str, Mapping[str, Any]],
        arm_of: Callable[[str, Mapping[str, Scalar]], str],
        plan_confirmation: Callable[[], Iterator[Request]],
        may_start_round: Callable[[], bool],
        max_concurrent: int | None,
        max_failures: int = 0,
        replicas: int = 1,
        under_way: Collection[str] = (),
        to_config: Callable[[Request], dict[str, Any]],
        extensions: Sequence[tuple[int, Stage]] = (),
    ) -> None:
        stages: list[Stage] = [self._deal_search, plan_confirmation]
        for added, confirmation in extensions:
            stages += [partial(self._deal_search, added), confirmation]
        self._searches = {search.label: search for search in searches}
        self._arm_of = arm_of
        # Optuna hears of an end first: what it has not heard of has not ended; what MLflow has not, it must be told.
        asked = {request.key: asked for request, asked in self.recorded()}
        known = {
            key: result
            for key, result in recalled.items()
            if key not in asked or asked[key].stop_reason == result["stop_reason"]
        }
        super().__init__(
            stages,
            ledger,
            max_concurrent=max_concurrent,
            to_config=to_config,
            recalled=known,
            max_failures=max_failures,
            replicas=replicas,
            under_way=under_way,
        )
        self.untold = {
            key: (max(trial.reports, default=0), trial.stop_reason)
            for key, trial in asked.items()
            if trial.stop_reason is not None and key not in known
        }
        self._may_start_round = may_start_round

    def reported(self, record: TrialRecord) -> None:
        """Tell Optuna."""
        if record.request.group is not None:
            self._searches[record.request.group].report(record)

    def ended(self, record: TrialRecord) -> None:
        """Tell Optuna what became of it."""
        if record.request.group is not None:
            self._searches[record.request.group].tell(record)

    def recorded(self) -> list[tuple[Request, Asked]]:
        """What the storage holds, in the order in which it was dealt: the trials of a study that is resumed."""
        dealt = [
            (asked.number / search.trials, place, self._request(search, asked.number, asked.config), asked)
            for place, search in enumerate(self._searches.values())
            for asked in search.recorded()
        ]
        return [(request, asked) for _, _, request, asked in sorted(dealt, key=lambda item: item[:2])]

    def _deal_search(self, added: int | None = None) -> Iterator[Request]:
        dealt = {label: 0 if added is None else search.trials for label, search in self._searches.items()}
        for search in self._searches.values():
            search.trials += added or 0
        for request, asked in self.recorded():
            search = self._searches[str(request.group)]
            if dealt[search.label] <= asked.number < search.trials:  # the others belong to another stage
                yield request
        first = next(iter(self._searches.values()))
        while True:
            search = min(self._searches.values(), key=lambda search: search.asked / search.trials)
            starts_round = search is first  # ties are dealt in the arms' order
            if search.asked >= search.trials or (starts_round and not self._may_start_round()):
                return
            yield self._request(search, *search.ask())

    def _request(self, search: ArmSearch, number: int, config: Mapping[str, Scalar]) -> Request:
        return Request(self._arm_of(search.label, config), SEARCH, number, config, group=search.label)


def _suggest(trial: optuna.trial.Trial, key: str, distribution: Distribution) -> Scalar:
    if isinstance(distribution, Categorical):
        return cast("Scalar", trial.suggest_categorical(key, distribution.choices))
    if isinstance(distribution, Float):
        return trial.suggest_float(key, distribution.low, distribution.high, log=distribution.log)
    return trial.suggest_int(key, distribution.low, distribution.high, log=distribution.log)
