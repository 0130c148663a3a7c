"""What one trial is: a frozen configuration, and its flat form.

The flat form is the one schema of the project: a key such as ``optimizer.learning_rate`` is the Optuna
parameter, the MLflow parameter and the frame's column. Standard library only, so that a space, a report or
``--help`` never waits for torch.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, TypeGuard

Scalar = bool | int | float | str

#: Model parameters written without the ``model.`` prefix, since every report varies them.
ARCHITECTURE = ("activation", "hidden_layers", "width")
REDUCTIONS = ("mean", "sum")
SCHEDULES = ("constant", "cosine")
PRECISIONS = ("fp32", "bf16")
#: What may be looked at after each epoch: the test split, and the same images under normal noise.
LOOKS = ("test", "noise")
#: Keys that the flat form leaves out at their default: they came later, and older records stay comparable.
_LEFT_OUT_AT_DEFAULT = ("init_std", "imbalance", "second_optimizer", "switch_epoch")


class InputError(ValueError):
    """What the user gave breaks a rule; the message states the value, then the rule."""


@dataclass(frozen=True)
class Component:
    """A named part of a trial (a loss, an optimizer, a model) and its parameters.

    Args:
        name: A line of the part's table, or ``package.module:name`` for a user's own.
        params: Keyword arguments of the builder behind the name.
    """

    name: str
    params: Mapping[str, Scalar] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", MappingProxyType(dict(sorted(self.params.items()))))

    def __hash__(self) -> int:
        return hash((self.name, tuple(self.params.items())))

    def __reduce__(self) -> tuple[Any, ...]:  # a mapping proxy does not pickle
        return (Component, (self.name, dict(self.params)))


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """Everything that decides a trial's numbers, apart from the data.

    Args:
        loss: A line of ``LOSSES`` and its parameters.
        optimizer: A line of ``OPTIMIZERS``; ``learning_rate`` is required.
        model: A line of ``MODELS`` and its parameters.
        batch_size: Examples per step.
        epochs: Passes over the training split.
        seed: Fixes the split, the initialisation and the batch order.
        reduction: How per-example losses become one: ``mean`` or ``sum``.
        schedule: Learning-rate schedule over the trial's epochs: ``constant`` or ``cosine``.
        precision: ``fp32``, or ``bf16`` for autocast to bfloat16.
        augment: Whether training images are cropped and flipped at random.
        init_std: Standard deviation of the normal distribution that every weight (a parameter of two dimensions or
            more) starts from, biases staying as the model draws them; 0 leaves everything to the model.
        imbalance: Ratio >= 1 of the commonest to the rarest class that the training split is thinned to, along an
            exponential tail; 1 keeps all of it. Validation and test split are never thinned.
        second_optimizer: Takes over from ``optimizer``, with a fresh state, once ``switch_epoch`` epochs are over.
        switch_epoch: Epochs under the first optimizer, from 1 to ``epochs`` − 1; 0 without a second one.

    Raises:
        InputError: If a value breaks its rule.
    """

    loss: Component
    optimizer: Component
    model: Component
    batch_size: int
    epochs: int
    seed: int = 0
    reduction: str = "mean"
    schedule: str = "constant"
    precision: str = "fp32"
    augment: bool = False
    init_std: float = 0.0
    imbalance: float = 1.0
    second_optimizer: Component | None = None
    switch_epoch: int = 0

    def __post_init__(self) -> None:
        for key in ("batch_size", "epochs"):
            value = getattr(self, key)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InputError(f"`{key}` must be an integer >= 1; got {value!r}.")
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise InputError(f"`seed` must be an integer >= 0; got {self.seed!r}.")
        for key, choices in (("reduction", REDUCTIONS), ("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if getattr(self, key) not in choices:
                raise InputError(f"`{key}` must be one of {', '.join(choices)}; got {getattr(self, key)!r}.")
        if not isinstance(self.augment, bool):
            raise InputError(f"`augment` must be True or False; got {self.augment!r}.")
        for key, least in (("init_std", 0), ("imbalance", 1)):
            value = getattr(self, key)
            if not is_number(value) or value < least:
                raise InputError(f"`{key}` must be a finite number >= {least}; got {value!r}.")
        _check_learning_rate("optimizer", self.optimizer)
        self._check_switch()

    def _check_switch(self) -> None:
        switch = self.switch_epoch
        if not isinstance(switch, int) or isinstance(switch, bool) or switch < 0:
            raise InputError(f"`switch_epoch` must be an integer >= 0; got {switch!r}.")
        if self.second_optimizer is None:
            if switch > 0:
                raise InputError(f"`switch_epoch` {switch} needs a `second_optimizer`; got none.")
            return
        if not 1 <= switch < self.epochs:
            rule = f"an integer >= 1 and below `epochs` ({self.epochs})"
            raise InputError(f"`switch_epoch` must be {rule} where there is a `second_optimizer`; got {switch}.")
        _check_learning_rate("second_optimizer", self.second_optimizer)

    def to_flat(self) -> dict[str, Scalar]:
        """The flat form: one scalar per key, components as ``name`` and ``name.parameter``.

        ``init_std``, ``imbalance``, ``second_optimizer`` and ``switch_epoch`` are left out at their defaults.
        """
        flat: dict[str, Scalar] = {}
        for spec in fields(self):
            value = getattr(self, spec.name)
            if spec.name in _LEFT_OUT_AT_DEFAULT and value == spec.default:
                continue
            if not isinstance(value, Component):
                flat[spec.name] = value
                continue
            flat[spec.name] = value.name
            for key, parameter in value.params.items():
                bare = spec.name == "model" and key in ARCHITECTURE
                flat[key if bare else f"{spec.name}.{key}"] = parameter
        return flat

    @classmethod
    def from_flat(cls, flat: Mapping[str, Scalar]) -> TrialConfig:
        """Build a configuration from its flat form.

        Raises:
            InputError: If a key is unknown or missing, or a value breaks its rule.
        """
        names = {spec.name for spec in fields(cls)}
        params: dict[str, dict[str, Scalar]] = {"loss": {}, "optimizer": {}, "second_optimizer": {}, "model": {}}
        plain: dict[str, Any] = {}
        for key, value in flat.items():
            _check_scalar(key, value)
            head, dot, tail = key.partition(".")
            if key in ARCHITECTURE:
                params["model"][key] = value
            elif dot and head in params and tail:
                params[head][tail] = value
            elif not dot and key in names:
                plain[key] = value
            else:
                known = ", ".join([*sorted(names), *ARCHITECTURE, *(f"{part}.*" for part in params)])
                raise InputError(f"Unknown key {key!r} in a trial's configuration; known: {known}.")
        required = ["loss", "optimizer", "model", "batch_size", "epochs"]
        if params["second_optimizer"]:
            required.append("second_optimizer")
        missing = [name for name in required if name not in plain]
        if missing:
            raise InputError(f"A trial's configuration lacks {', '.join(missing)}.")
        for part, parameters in params.items():
            if part in plain:
                if not isinstance(plain[part], str):
                    raise InputError(f"`{part}` must be a name; got {plain[part]!r}.")
                plain[part] = Component(plain[part], parameters)
        return cls(**plain)


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value is a finite number that a float can hold; a truth value is none."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def _check_scalar(key: Any, value: Any) -> None:
    if not isinstance(key, str):
        raise InputError(f"A key of a trial's configuration must be text; got {key!r}.")
    if not isinstance(value, Scalar):
        raise InputError(f"`{key}` must be a number, text, True or False; got a value of type {type(value).__name__}.")


def _check_learning_rate(key: str, component: Component) -> None:
    rate = component.params.get("learning_rate")
    if rate is None:
        raise InputError(f"`{key}.learning_rate` is missing for the optimizer {component.name!r}.")
    if not is_number(rate) or rate <= 0:
        raise InputError(f"`{key}.learning_rate` must be a finite number > 0; got {rate!r}.")


def resolve(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """The entry of ``table`` called ``name``, or the user's own ``package.module:name``.

    Args:
        kind: What the table holds, in the singular, for the message ("loss").
        name: A key of the table or an import path with one colon.
        table: The project's own entries.

    Raises:
        InputError: If there is no such entry or no such attribute to import.
    """
    if name in table:
        return table[name]
    module_name, colon, attribute = name.partition(":")
    if not colon:
        choices = ", ".join(sorted(table))
        raise InputError(f"Unknown {kind} {name!r}; choose from {choices}, or give your own as package.module:name.")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (Exception, SystemExit) as error:  # a user's module may raise anything while it is imported
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError(f"The {kind} {name!r} cannot be imported: {reason}") from error
