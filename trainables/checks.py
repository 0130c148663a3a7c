"""What every part of a trial checks about the parameters it is given."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from trainables.config import InputError, Scalar


def keyword_names(function: Callable[..., Any], *, num_positional: int) -> tuple[str, ...]:
    """Names of the parameters a builder takes besides its first ``num_positional``; a final ``**`` means any.

    Raises:
        ValueError: If the callable does not show its signature, as some built-in ones do not.
    """
    names = []
    for name, parameter in list(inspect.signature(function).parameters.items())[num_positional:]:
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(name)
        elif parameter.kind is parameter.VAR_KEYWORD:
            names.append("**")
    return tuple(names)


def check_parameters(kind: str, name: str, function: Any, params: Mapping[str, Scalar], *, num_positional: int) -> None:
    """Refuse parameters that the function behind a name does not take.

    Args:
        kind: What the function makes, for the message ("loss").
        name: How the user called it.
        function: What the name stands for.
        params: The keyword arguments it is about to get.
        num_positional: How many arguments it gets by position before them.

    Raises:
        InputError: If it is not callable or a parameter is unknown.
    """
    if not callable(function):
        raise InputError(f"The {kind} {name!r} must be callable; got {type(function).__name__}.")
    try:
        accepted = keyword_names(function, num_positional=num_positional)
    except ValueError:
        return
    unknown = [key for key in params if key not in accepted]
    if unknown and "**" not in accepted:
        raise InputError(
            f"The {kind} {name!r} has no parameter {unknown[0]!r}; it accepts {', '.join(accepted) or 'none'}."
        )


def check_number(
    name: str, value: Any, *, above: float | None = None, at_least: float | None = None, below: float | None = None
) -> None:
    """Refuse a parameter that is not a finite number within its bounds.

    Raises:
        InputError: With the value and the rule.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if (
        not number
        or (above is not None and value <= above)
        or (at_least is not None and value < at_least)
        or (below is not None and value >= below)
    ):
        bounds = ((">", above), (">=", at_least), ("<", below))
        rule = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)
        raise InputError(f"`{name}` must be a finite number {rule}; got {value!r}.")


def one_line(error: BaseException) -> str:
    """An exception as one line, its type first, since the message alone can be as short as a key."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
