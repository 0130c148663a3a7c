"""Which look a run belongs to: each confirmation of a study that was extended has seeds of its own.

The answer of a report is the last look's, so the runs of earlier ones get phases of their own when a record is read:
whatever asks for ``confirm`` has the last look alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

CONFIRM, CONTROL = "confirm", "control"
#: The phases of a confirmation → what they are called in a look that is not the last.
EARLIER = {CONFIRM: "earlier confirm", CONTROL: "earlier control"}
CONFIRMATIONS = tuple(EARLIER)
CONTROLS = (CONTROL, EARLIER[CONTROL])


@dataclass(frozen=True)
class Look:
    """One confirmation, as ``study.json`` holds it.

    Args:
        trials_per_arm: Search trials per arm that had been made before it, those before earlier looks included.
        seeds: Its seeds, which no other look has and no search has seen.
        winners: What it confirmed: arm → ``number``, ``val_accuracy``, ``config``, or None; empty until it has begun.
    """

    trials_per_arm: int
    seeds: tuple[int, ...]
    winners: Mapping[str, Mapping[str, Any] | None]


def looks_of(protocol: Mapping[str, Any]) -> list[Look]:
    """The looks on record, in order; none of a study older than they are or of a reported one."""
    return [
        Look(int(look["trials_per_arm"]), tuple(map(int, look["confirm_seeds"])), look.get("winners") or {})
        for look in protocol.get("looks") or []
    ]


def mark_earlier(trials: pd.DataFrame, protocol: Mapping[str, Any]) -> pd.DataFrame:
    """The trials with the phases of earlier looks told apart.

    Args:
        trials: A study's ``trials``, phases as they are on record.
        protocol: Its ``study.json``.

    Returns:
        The same, where a confirm or control run of a seed of any look but the last has the phase ``earlier confirm`` or
        ``earlier control``.
    """
    looks = looks_of(protocol)
    if len(looks) < 2:  # noqa: PLR2004 - the only one is the last
        return trials
    earlier = trials["phase"].isin(CONFIRMATIONS) & (_places(trials, looks) < len(looks) - 1)
    return trials.assign(phase=trials["phase"].mask(earlier, trials["phase"].map(EARLIER)))


def at_each_look(trials: pd.DataFrame, protocol: Mapping[str, Any]) -> list[tuple[Look, pd.DataFrame]]:
    """Every look with the trials as if it were the study's only one: its own confirmation, and the whole search.

    Args:
        trials: A study's ``trials``, marked by :func:`mark_earlier`.
        protocol: Its ``study.json``.
    """
    looks = looks_of(protocol)
    phase = trials["phase"].replace({earlier: recorded for recorded, earlier in EARLIER.items()})
    confirming, places = phase.isin(CONFIRMATIONS), _places(trials, looks)
    recorded = trials.assign(phase=phase)
    return [(look, recorded[~confirming | (places == place)]) for place, look in enumerate(looks)]


def _places(trials: pd.DataFrame, looks: list[Look]) -> pd.Series[int]:
    """The place of each run's look, from 0; a seed of none is taken for the last one's."""
    of_seed = {seed: place for place, look in enumerate(looks) for seed in look.seeds}
    last = len(looks) - 1
    return pd.Series([last if pd.isna(seed) else of_seed.get(int(seed), last) for seed in trials["seed"]], trials.index)
