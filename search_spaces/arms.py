"""What a question is made of: distributions, arms, studies. Data, checked when it is made."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from search_spaces.checks import check_range, check_scalars, type_of
from trainables.config import InputError, Scalar, TrialConfig

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
#: More trials or seeds than any machine will see, and few enough to be listed.
MAX_COUNT = 1_000_000


@dataclass(frozen=True)
class Float:
    """A real range, both ends included; ``log`` samples its logarithm evenly."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        check_range(self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Integer:
    """An integer range, both ends included; ``log`` samples its logarithm evenly."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        if not all(isinstance(end, int) and not isinstance(end, bool) for end in (self.low, self.high)):
            raise InputError(f"An integer range needs integer ends; got {self.low!r} and {self.high!r}.")
        check_range(self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Categorical:
    """A finite set of values, in the order given."""

    choices: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(self.choices))
        check_scalars("A choice", self.choices)
        if not self.choices or len(set(self.choices)) < len(self.choices):
            raise InputError(f"Choices must be given and differ; got {self.choices!r}.")


Distribution = Float | Integer | Categorical


@dataclass(frozen=True)
class Parameter:
    """One searched key.

    Args:
        key: A key of the flat ``TrialConfig``.
        distribution: What to sample from.
        when: Earlier keys (searched or fixed) and the values under which this one exists; empty for always.
            The same key may stand twice under conditions that exclude each other.
    """

    key: str
    distribution: Distribution
    when: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.distribution, Distribution):
            raise InputError(
                f"`{self.key}` needs a Float, an Integer or a Categorical; got {type_of(self.distribution)}."
            )
        for key, values in self.when.items():
            if not isinstance(values, (tuple, list)):
                raise InputError(f"`when` of `{self.key}` needs a tuple of values of `{key}`; got {type_of(values)}.")
            check_scalars(f"A value of `{key}` in `when`", values)
        object.__setattr__(self, "when", MappingProxyType({key: tuple(values) for key, values in self.when.items()}))

    def applies(self, values: Mapping[str, Scalar]) -> bool:
        """Whether the condition holds for the values chosen so far."""
        return all(key in values and values[key] in allowed for key, allowed in self.when.items())


@dataclass(frozen=True)
class Arm:
    """One value of the scientific factor.

    Args:
        name: Letters, digits, ``_``, ``.``, ``-``.
        fixed: Keys of the flat ``TrialConfig`` that do not vary within the arm.
        parameters: The nuisance hyperparameters, searched with the arm's budget.
    """

    name: str
    fixed: Mapping[str, Scalar] = field(default_factory=dict)
    parameters: tuple[Parameter, ...] = ()

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise InputError(f"An arm's name must be letters, digits, '_', '.' or '-'; got {self.name!r}.")
        object.__setattr__(self, "fixed", MappingProxyType(dict(self.fixed)))
        object.__setattr__(self, "parameters", tuple(self.parameters))
        check_scalars(f"A fixed value of arm {self.name!r}", self.fixed.values())
        known = set(self.fixed)
        for parameter in self.parameters:
            if not isinstance(parameter, Parameter):
                raise InputError(f"What arm {self.name!r} searches must be a Parameter; got {type_of(parameter)}.")
            if unknown := [key for key in parameter.when if key not in known]:
                raise InputError(
                    f"`{parameter.key}` of arm {self.name!r} depends on `{unknown[0]}`, which is neither fixed nor"
                    " searched before it."
                )
            known.add(parameter.key)

    def sample(self, suggest: Callable[[str, Distribution], Scalar]) -> dict[str, Scalar]:
        """One flat configuration; ``suggest`` is asked for each parameter whose condition holds, in order."""
        values: dict[str, Scalar] = dict(self.fixed)
        for parameter in self.parameters:
            if parameter.applies(values):
                values[parameter.key] = suggest(parameter.key, parameter.distribution)
        return values

    def grid(self) -> Iterator[dict[str, Scalar]]:
        """Every configuration of an arm whose parameters are all finite.

        Raises:
            InputError: If a parameter is a real range.
        """
        yield from _grid(dict(self.fixed), self.parameters, self.name)


@dataclass(frozen=True)
class Study:
    """A question: which value of one factor, everything else tuned fairly or held fixed.

    Args:
        name: The space's name.
        question: One sentence, printed with the answer.
        factor: The flat key that tells the arms apart ("loss").
        arms: At least one; names differ.
        baseline: The arm every other is compared with.
        controls: ``arm: like``: that arm is retrained with the winner of ``like`` on the same seeds, where
            theory says that nothing may change.
        trials: Trials per arm in the search.
        seeds: Fresh seeds per arm in the confirmation.
    """

    name: str
    question: str
    factor: str
    arms: tuple[Arm, ...]
    baseline: str
    controls: Mapping[str, str] = field(default_factory=dict)
    trials: int = 16
    seeds: int = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "arms", tuple(self.arms))
        object.__setattr__(self, "controls", MappingProxyType(dict(self.controls)))
        if not is_name(self.name):
            raise InputError(f"A space's name must be letters, digits, '_', '.' or '-'; got {self.name!r}.")
        for key, text in (("question", self.question), ("factor", self.factor)):
            if not isinstance(text, str):
                raise InputError(f"`{key}` of the space {self.name!r} must be text; got {type_of(text)}.")
        self._check_arms()
        for key, value in (("trials", self.trials), ("seeds", self.seeds)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"`{key}` must be an integer >= 1; got {value!r}.")
            if value > MAX_COUNT:
                raise InputError(f"`{key}` must be at most {MAX_COUNT}; got {value}.")

    def _check_arms(self) -> None:
        for arm in self.arms:
            if not isinstance(arm, Arm):
                raise InputError(f"Every arm of the space {self.name!r} must be an Arm; got {type_of(arm)}.")
        names = [arm.name for arm in self.arms]
        if not names:
            raise InputError(f"The space {self.name!r} has no arms; it needs at least one.")
        if len(set(names)) < len(names):
            raise InputError(f"Arms must have different names; got {', '.join(names)}.")
        if self.baseline not in names:
            raise InputError(f"The baseline {self.baseline!r} is not among the arms {', '.join(names)}.")
        for name, like in self.controls.items():
            if not (isinstance(name, str) and isinstance(like, str)):
                raise InputError(f"`controls` takes names of arms; got {name!r}: {like!r}.")
        for arm in self.arms:
            _check_corners(arm)

    def arm(self, name: str) -> Arm:
        """The arm called ``name``.

        Raises:
            InputError: If there is none.
        """
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise InputError(f"Unknown arm {name!r}; choose from {', '.join(arm.name for arm in self.arms)}.")

    @property
    def max_epochs(self) -> int:
        """The most epochs any trial may train."""
        return max(int(_extreme(arm, "epochs", max)) for arm in self.arms)

    @property
    def min_epochs(self) -> int:
        """The fewest epochs any trial may train."""
        return min(int(_extreme(arm, "epochs", min)) for arm in self.arms)

    @property
    def searches_epochs_as_factor(self) -> bool:
        """Whether epochs is what the arms differ in; then early stopping would decide the answer."""
        return self.factor == "epochs"


def is_name(value: Any) -> bool:
    """Whether a value may name a study, a space or an arm."""
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def with_fixed(study: Study, **fixed: Scalar) -> Study:
    """The study with these values fixed in every arm, and no longer searched."""
    arms = tuple(
        replace(
            arm,
            fixed={**arm.fixed, **fixed},
            parameters=tuple(parameter for parameter in arm.parameters if parameter.key not in fixed),
        )
        for arm in study.arms
    )
    return replace(study, arms=arms)


def joint(study: Study) -> Arm:
    """One arm that searches the factor itself beside every arm's parameters (for importances).

    An arm is recognised afterwards by the factor's value, so values must differ between arms.

    Raises:
        InputError: If two arms share the factor's value, or an arm fixes something no other arm does.
    """
    values = tuple(arm.fixed.get(study.factor) for arm in study.arms)
    if None in values or len(set(values)) < len(values):
        raise InputError(f"`--mode joint` needs arms that each fix their own `{study.factor}`; got {values!r}.")
    own = [{k: v for k, v in arm.fixed.items() if k != study.factor} for arm in study.arms]
    if any(fixed != own[0] for fixed in own):
        raise InputError("`--mode joint` needs arms that fix the same values apart from the factor.")
    merged: dict[tuple[str, Distribution, tuple[Any, ...]], list[Scalar]] = {}
    for arm in study.arms:
        for parameter in arm.parameters:
            same = (parameter.key, parameter.distribution, tuple(sorted(parameter.when.items())))
            merged.setdefault(same, []).append(arm.fixed[study.factor])
    parameters = [Parameter(study.factor, Categorical(tuple(arm.fixed[study.factor] for arm in study.arms)))]
    for (key, distribution, when), levels in merged.items():
        only = {} if len(levels) == len(study.arms) else {study.factor: tuple(levels)}
        parameters.append(Parameter(key, distribution, {**dict(when), **only}))
    return Arm("joint", own[0], tuple(parameters))


def lowest(arm: Arm) -> dict[str, Scalar]:
    """The configuration at the low end of every range."""
    return arm.sample(_lowest)


def corners(arm: Arm) -> Iterator[dict[str, Scalar]]:
    """Configurations that show what an arm may ask for: both ends of every range, and every choice once."""
    yield lowest(arm)
    yield arm.sample(_highest)
    choices = [p.distribution.choices for p in arm.parameters if isinstance(p.distribution, Categorical)]
    for place in range(1, max(map(len, choices), default=0) - 1):
        yield arm.sample(functools.partial(_choice, place))


def describe(arm: Arm) -> dict[str, Any]:
    """The arm as plain data, as ``study.json`` records it."""
    parameters = []
    for parameter in arm.parameters:
        kind = type(parameter.distribution).__name__.lower()
        when = {key: list(values) for key, values in parameter.when.items()} or None
        parameters.append({"key": parameter.key, "kind": kind, **vars(parameter.distribution), "when": when})
    return {"name": arm.name, "fixed": dict(arm.fixed), "parameters": parameters}


def _lowest(_key: str, distribution: Distribution) -> Scalar:
    return distribution.choices[0] if isinstance(distribution, Categorical) else distribution.low


def _highest(_key: str, distribution: Distribution) -> Scalar:
    return distribution.choices[-1] if isinstance(distribution, Categorical) else distribution.high


def _choice(place: int, key: str, distribution: Distribution) -> Scalar:
    if not isinstance(distribution, Categorical):
        return _lowest(key, distribution)
    return distribution.choices[min(place, len(distribution.choices) - 1)]


def _check_corners(arm: Arm) -> None:
    try:
        arm.sample(_once())
        for values in corners(arm):
            TrialConfig.from_flat(values)
    except InputError as error:
        raise InputError(f"Arm {arm.name!r}: {error}") from error


def _once() -> Callable[[str, Distribution], Scalar]:
    """Suggests the lowest values, each key once: Optuna refuses a second range for a key in the middle of a study."""
    asked: set[str] = set()

    def suggest(key: str, distribution: Distribution) -> Scalar:
        if key in asked:
            raise InputError(f"`{key}` is searched twice under the same conditions.")
        asked.add(key)
        return _lowest(key, distribution)

    return suggest


def _extreme(arm: Arm, key: str, choose: Callable[[Sequence[Any]], Any]) -> Scalar:
    """The smallest or largest value that ``key`` can take in the arm."""
    values: list[Scalar] = [arm.fixed[key]] if key in arm.fixed else []
    for parameter in arm.parameters:
        if parameter.key == key:
            ends = parameter.distribution
            values += ends.choices if isinstance(ends, Categorical) else (ends.low, ends.high)
    chosen: Scalar = choose(values)
    return chosen


def _grid(values: dict[str, Scalar], parameters: Sequence[Parameter], arm: str) -> Iterator[dict[str, Scalar]]:
    if not parameters:
        yield values
        return
    first, rest = parameters[0], parameters[1:]
    if not first.applies(values):
        yield from _grid(values, rest, arm)
        return
    distribution = first.distribution
    if isinstance(distribution, Float) and distribution.low < distribution.high:
        raise InputError(
            f"`--search grid` needs finite choices; `{first.key}` of arm {arm!r} is the range"
            f" {distribution.low:g} to {distribution.high:g}."
        )
    choices: Sequence[Scalar]
    if isinstance(distribution, Categorical):
        choices = distribution.choices
    elif isinstance(distribution, Integer):
        choices = range(distribution.low, distribution.high + 1)
    else:
        choices = (distribution.low,)
    yield from itertools.chain.from_iterable(_grid({**values, first.key: value}, rest, arm) for value in choices)
