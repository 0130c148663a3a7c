"""Trials that are dealt as one, because they are trained as one batched model."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from typing import Any

from study.ledger import Request
from trainables.batched import shared_part, why_alone


def pack(requests: Iterable[Request], size: int, under_way: Collection[str] = ()) -> Iterator[tuple[Request, ...]]:
    """Requests as they are dealt: by themselves, or up to ``size`` of an arm that can be trained as one model.

    What Optuna asks for depends on what has ended, and may be stopped before its end: that is dealt alone and at once.
    So is a trial of which epochs are on record, which goes on: in a pack it would be begun anew, and the rest of its
    epochs would not be those of the first. What is left is packed when all of it is known, a pack's trials in the order
    of their learning rates.

    Args:
        requests: Of one stage.
        size: The most that a pack holds.
        under_way: Keys of the trials of which epochs are on record.
    """
    waiting: dict[Hashable, list[Request]] = {}
    for request in requests:
        alone = size == 1 or request.group is not None or request.key in under_way
        if alone or why_alone(request.config):
            yield (request,)
        else:
            kind = request.arm, request.phase, request.regime, shared_part(request.config)
            waiting.setdefault(kind, []).append(request)
    for alike in waiting.values():
        alike.sort(key=lambda request: float(request.config["optimizer.learning_rate"]))
        # As even as they can be: a last pack of one would leave the others nothing.
        packs = -(-len(alike) // size)
        yield from (tuple(alike[len(alike) * k // packs : len(alike) * (k + 1) // packs]) for k in range(packs))


def as_one(members: list[dict[str, Any]]) -> dict[str, Any]:
    """The trainable's configuration of a pack, from those of its trials, each with its ``key``."""
    if len(members) == 1:
        return members[0]
    first = members[0]
    shared = {key: first[key] for key in ("key", "arm", "phase", "number")}
    return {**shared, "rungs": [], "members": members}


def keys_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys of the trials that a trainable's configuration is of."""
    return tuple(member["key"] for member in config.get("members", (config,)))


def results_of(config: Mapping[str, Any], result: Mapping[str, Any] | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each trial's own part of what the trainable reports, with its key; of a pack, nothing before it has ended."""
    told = result or {}
    if "members" in config:
        yield from ((member["key"], member) for member in told.get("members", ()))
    else:
        yield config["key"], told
