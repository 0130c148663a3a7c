"""The looks that a study takes: its first confirmation, and one more for each extension, on seeds of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.earlier import Look, looks_of
from search_spaces.arms import Study
from search_spaces.reported import Reported
from study.confirm import confirm_seeds
from study.options import Options
from trainables.config import InputError

FINISHED = "finished"


def plan_looks(study: Study, options: Options, protocol: Mapping[str, Any]) -> list[Look]:
    """The looks on record, or the first of a study that begins; and one more if it is extended.

    Args:
        study: The question, flags applied.
        options: The flags.
        protocol: Its ``study.json``; empty if it begins.
    """
    first = Look(study.trials, tuple(confirm_seeds(options.seed, study.seeds)), protocol.get("winners") or {})
    looks = looks_of(protocol) or [first]
    if options.extend is not None:
        last = looks[-1]
        seeds = tuple(confirm_seeds(last.seeds[-1], study.seeds))
        looks.append(Look(last.trials_per_arm + options.extend, seeds, {}))
    return looks


def describe_looks(looks: Sequence[Look]) -> dict[str, Any]:
    """The looks as plain data for ``study.json``, and what it says of the last one."""
    described = [
        {"trials_per_arm": look.trials_per_arm, "confirm_seeds": list(look.seeds), "winners": dict(look.winners)}
        for look in looks
    ]
    last = described[-1]
    return {"trials_per_arm": last["trials_per_arm"], "confirm_seeds": last["confirm_seeds"], "looks": described}


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
