"""What trials take of their GPUs' memory: whether the share they were given suffices, and which one would."""

from __future__ import annotations

from collections.abc import Callable

#: Of a GPU, largest first: what ``--gpus-per-trial auto`` chooses from. A share is one over the trials side by side.
SHARES = tuple(1 / trials for trials in (1, 2, 3, 4, 6, 8))
#: Another configuration takes more than those seen so far.
MARGIN = 0.2
GIGABYTE = 1e9


class GpuMemory:
    """The most that any trial has taken so far.

    Args:
        share: Of a GPU, that the study's trials were given with ``--gpus-per-trial``; None where it is found here.
        say: Shows a line to the user.
    """

    def __init__(self, share: float | None, say: Callable[[str], None]) -> None:
        self._share = share
        self._say = say
        self._warned = False
        self.peak = 0
        #: Of the smallest GPU seen.
        self.total = 0

    def observe(self, arm: str, peak: int, total: int) -> None:
        """Take over what a trial of an arm reports, in bytes; warn, once, where its share of the GPU is less."""
        self.peak = max(self.peak, peak)
        self.total = min(self.total or total, total)
        if self._share is None or self._warned or self._share * total >= peak:
            return
        self._warned = True
        fits = smallest_share(peak, total)
        self._say(
            f"A trial of the arm {arm} took {peak / GIGABYTE:.1f} GB of its GPU's {total / GIGABYTE:.1f};"
            f" `--gpus-per-trial {self._share:g}` leaves each {self._share * total / GIGABYTE:.1f}."
            + (f" The largest number of trials that fit: `--gpus-per-trial {_as_flag(fits)}`." if fits < 1 else
               " None fits beside it: `--gpus-per-trial 1`.")
        )  # fmt: skip

    @property
    def share(self) -> float:
        """What the next trial gets with ``--gpus-per-trial auto``: a whole GPU until one has been measured."""
        return smallest_share((1 + MARGIN) * self.peak, self.total) if self.peak else SHARES[0]


def smallest_share(peak: float, total: float) -> float:
    """The smallest of ``SHARES`` that holds ``peak`` of ``total`` bytes; a whole GPU where none does."""
    return min((share for share in SHARES if share * total >= peak), default=SHARES[0])


def _as_flag(share: float) -> str:
    """A share as a flag takes it, rounded such that as many trials fit."""
    return f"{int(share * 1000) / 1000:g}"
