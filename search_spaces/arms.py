"""What a question is made of: distributions, arms, studies. Data, checked when it is made."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from trainables.config import InputError, Scalar, TrialConfig

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Float:
    """A real range, both ends included; ``log`` samples its logarithm evenly."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Integer:
    """An integer range, both ends included; ``log`` samples its logarithm evenly."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.low, int) and isinstance(self.high, int)):
            raise InputError(f"An integer range needs integer ends; got {self.low!r} and {self.high!r}.")
        _check_range(self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Categorical:
    """A finite set of values, in the order given."""

    choices: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(self.choices))
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
        if not NAME.fullmatch(self.name):
            raise InputError(f"An arm's name must be letters, digits, '_', '.' or '-'; got {self.name!r}.")
        object.__setattr__(self, "fixed", MappingProxyType(dict(self.fixed)))
        object.__setattr__(self, "parameters", tuple(self.parameters))

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
        if not NAME.fullmatch(self.name):
            raise InputError(f"A space's name must be letters, digits, '_', '.' or '-'; got {self.name!r}.")
        names = [arm.name for arm in self.arms]
        if not names:
            raise InputError(f"The space {self.name!r} has no arms; it needs at least one.")
        if len(set(names)) < len(names):
            raise InputError(f"Arms must have different names; got {', '.join(names)}.")
        if self.baseline not in names:
            raise InputError(f"The baseline {self.baseline!r} is not among the arms {', '.join(names)}.")
        for key, value in (("trials", self.trials), ("seeds", self.seeds)):
            if not isinstance(value, int) or value < 1:
                raise InputError(f"`{key}` must be an integer >= 1; got {value!r}.")
        for arm in self.arms:
            for corner in (_lowest, _highest):
                _check_corner(arm, corner)

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


def with_fixed(study: Study, **fixed: Scalar) -> Study:
    """The study with these values fixed in every arm."""
    return replace(study, arms=tuple(replace(arm, fixed={**arm.fixed, **fixed}) for arm in study.arms))


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


def describe(arm: Arm) -> dict[str, Any]:
    """The arm as plain data, as ``study.json`` records it."""
    parameters = []
    for parameter in arm.parameters:
        kind = type(parameter.distribution).__name__.lower()
        when = {key: list(values) for key, values in parameter.when.items()} or None
        parameters.append({"key": parameter.key, "kind": kind, **vars(parameter.distribution), "when": when})
    return {"name": arm.name, "fixed": dict(arm.fixed), "parameters": parameters}


def _check_range(low: float, high: float, *, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise InputError(f"A range needs finite ends with low <= high; got {low!r} and {high!r}.")
    if log and low <= 0:
        raise InputError(f"A logarithmic range must start above 0; got {low!r}.")


def _lowest(_key: str, distribution: Distribution) -> Scalar:
    return distribution.choices[0] if isinstance(distribution, Categorical) else distribution.low


def _highest(_key: str, distribution: Distribution) -> Scalar:
    return distribution.choices[-1] if isinstance(distribution, Categorical) else distribution.high


def _check_corner(arm: Arm, corner: Callable[[str, Distribution], Scalar]) -> None:
    try:
        TrialConfig.from_flat(arm.sample(corner))
    except InputError as error:
        raise InputError(f"Arm {arm.name!r}: {error}") from error


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
