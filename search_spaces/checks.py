"""What every part of a space checks about the values it is given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trainables.config import InputError, is_number

#: An integer of 64 bits with its sign lies below.
MAX_INTEGER = 2**63


def check_range(low: float, high: float, *, log: bool) -> None:
    """Refuse ends that nothing can be drawn between.

    Raises:
        InputError: If an end is not finite, they are upside down, or a logarithm does not exist.
    """
    if not (is_number(low) and is_number(high) and low <= high):
        raise InputError(f"A range needs finite ends with low <= high; got {low!r} and {high!r}.")
    if log and low <= 0:
        raise InputError(f"A logarithmic range must start above 0; got {low!r}.")


def check_scalars(what: str, values: Iterable[Any]) -> None:
    """Refuse what a flat configuration, Optuna and MLflow cannot all hold.

    Raises:
        InputError: With what the value is for.
    """
    for value in values:
        number = is_number(value) and (isinstance(value, float) or abs(value) < MAX_INTEGER)
        if not isinstance(value, (str, bool)) and not number:
            raise InputError(f"{what} must be text, True, False or a finite number of 64 bits; got {type_of(value)}.")


def type_of(value: Any) -> str:
    """A value for a message: a number that is not finite as it is, anything else by its type."""
    return str(value) if isinstance(value, float) else f"a value of type {type(value).__name__}"
