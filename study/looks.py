"""The looks of a study: each confirmation on seeds of its own, and how many trials had been searched before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.arms import Study
from search_spaces.reported import Reported
from study.confirm import confirm_seeds
from study.options import Options
from trainables.config import InputError

FINISHED = "finished"


@dataclass(frozen=True)
class Look:
    """One confirmation.

    Args:
        trials: Search trials per arm until then, those of earlier looks included.
        seeds: Its seeds, which no other look and no search has seen.
    """

    trials: int
    seeds: tuple[int, ...]


def plan_looks(study: Study, options: Options, protocol: Mapping[str, Any]) -> list[Look]:
    """The looks on record, or the first of a study that begins; and one more if it is extended.

    Args:
        study: The question, flags applied.
        options: The flags.
        protocol: Its ``study.json``; empty if it begins.
    """
    looks = [Look(int(look["trials_per_arm"]), tuple(look["confirm_seeds"])) for look in protocol.get("looks") or ()]
    looks = looks or [Look(study.trials, tuple(confirm_seeds(options.seed, study.seeds)))]
    if options.extend is not None:
        last = looks[-1]
        looks.append(Look(last.trials + options.extend, tuple(confirm_seeds(last.seeds[-1], study.seeds))))
    return looks


def recorded_winners(protocol: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What each look on record confirmed."""
    return [look["winners"] for look in protocol.get("looks") or [protocol]]


def describe_looks(looks: Iterable[Look], winners: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """The looks as plain data for ``study.json``, and what it says of the last one.

    Args:
        looks: In their order.
        winners: What each confirmed, as far as it has begun.
    """
    described = [{"trials_per_arm": look.trials, "confirm_seeds": list(look.seeds), "winners": {}} for look in looks]
    for look, confirmed in zip(described, winners, strict=False):
        look["winners"] = dict(confirmed)
    return {
        "trials_per_arm": described[-1]["trials_per_arm"],
        "confirm_seeds": described[-1]["confirm_seeds"],
        "looks": described,
    }


def check_extendable(study: Study, options: Options) -> None:
    """Refuse a study to which no trials can be added.

    Raises:
        InputError: If its protocol leaves no room for more.
    """
    why = ""
    if isinstance(study, Reported):
        why = "a report fixes its trials"
    elif options.search == "grid":
        why = "its grid has no more points"
    elif options.time_budget is not None:
        why = "it was given a time, which is spent"
    if why:
        raise InputError(f"The study {options.name!r} cannot be extended: {why}.")


def check_finished(options: Options, state: str) -> None:
    """Refuse to extend a study that has not come to its end; ``state`` is as ``--list`` shows it.

    Raises:
        InputError: If it is in another state.
    """
    if state != FINISHED:
        raise InputError(
            f"The study {options.name!r} is not finished ({state}); go on with it: {options.resume_command}"
        )
