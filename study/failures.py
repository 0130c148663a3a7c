"""Why a trial failed, and whether it may be tried again: a machine's failure is not the trial's own.

What Ray says of a failure is text by the time the study hears of it; nothing that Tune writes is unpickled.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from trainables.environment import OtherEnvironmentError
from trainables.memory import GpuMemoryError

OWN, ENDED, LOST, REFUSED, CROWDED = "own", "process ended", "node lost", "node refused", "GPU memory"
#: How often machines may fail one trial: spot nodes vanish often, but not for ever.
MAX_LOSSES = 20
#: Tune appends each failure of a trial to one file, under such a line.
HEADING = "Failure # "
#: How Ray begins when it was not the trial's code that raised.
ENDED_BY_ITSELF = "The actor died unexpectedly before finishing this task"
NODE_DIED = "its node has died"
#: Of a node that went without a word: Ray takes it for dead some fifteen seconds later, or for alive again.
UNREACHABLE = re.compile(r"The actor \w+ is unavailable: ")
NODE_ID = re.compile(r"\b[0-9a-f]{56}\b")


@dataclass(frozen=True)
class Failure:
    """One failure of a trial.

    Args:
        kind: ``OWN``: its code raised; ``ENDED``: its process ended; ``LOST``: so did its node; ``REFUSED``: its node
            came with other versions; ``CROWDED``: there was too little memory left on its GPU.
        node: Ray's id of the node, empty if that is not known.
        reason: What a node that refused said.
    """

    kind: str = OWN
    node: str = ""
    reason: str = ""


def read_failure(text: str, node: str = "") -> Failure:
    """What the text says that Tune keeps of a trial's failures.

    Args:
        text: All of it; the last failure counts.
        node: Where the trial was when it last reported.
    """
    last = text.rpartition(HEADING)[2].partition("\n")[2] or text
    if UNREACHABLE.match(last):
        return Failure(LOST, node)
    if last.startswith(ENDED_BY_ITSELF):
        return Failure(LOST if NODE_DIED in last else ENDED, node)
    if (raised := f"{OtherEnvironmentError.__name__}: ") in last:
        reason = last.rpartition(raised)[2].partition("\n")[0]
        named = NODE_ID.findall(reason)
        return Failure(REFUSED, named[0] if named else node, reason)
    return Failure(CROWDED if f"{GpuMemoryError.__name__}: " in last else OWN, node)


def find_lost(failures: Sequence[Failure], alive: Collection[str]) -> list[Failure]:
    """The failures as they look now: where a machine goes down, its processes may go first.

    Args:
        failures: Of one trial.
        alive: Ray's ids of the nodes that are there.
    """
    return [
        Failure(LOST, failure.node) if failure.kind == ENDED and failure.node and failure.node not in alive else failure
        for failure in failures
    ]


def may_be_tried_again(failures: Sequence[Failure], max_failures: int) -> bool:
    """Whether a trial that failed is dealt again.

    Its own failures count against ``--max-failures``. That its GPU was too crowded does not, once: then it is alone on
    one, and if that is too small the trial is.
    """
    kinds = [failure.kind for failure in failures]
    own, crowded = sum(kind in (OWN, ENDED) for kind in kinds), kinds.count(CROWDED)
    return own <= max_failures and crowded <= 1 and len(kinds) - own - crowded <= MAX_LOSSES
