"""The clock of ``--time-budget``: what is spent, what the confirmation still needs, whether a round fits."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

from search_spaces.arms import Study
from study.confirm import find_winners
from study.ledger import COMPLETED, SEARCH, Ledger, Request

# What a trial costs beside its epochs: dealing it out, and the test metrics of a confirm trial.
OVERHEAD_SECONDS = 0.1
FINAL_SECONDS = 0.5
# The reserve is an estimate on a machine that may get busier.
SAFETY = 1.3
RESERVE_SHARE = 0.6
# Start-up is over and the report is still to come when the phases are timed.
REPORT_SECONDS = 10.0


class TimeBudget:
    """Decides what may still start; without a limit, everything may.

    Args:
        limit: Seconds for the whole study, or None.
        study: The question.
        ledger: What has been spent so far, trial by trial.
        seeds: Seeds of the confirmation.
        slots: Trials that run at once.
        started: When the command was typed, on ``clock``.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        limit: float | None,
        study: Study,
        ledger: Ledger,
        *,
        seeds: int,
        slots: int,
        started: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._study, self._ledger, self._seeds, self._slots = study, ledger, seeds, slots
        self._started, self._clock = started, clock

    @property
    def left(self) -> float:
        """Seconds until the limit, the report's share taken off."""
        if self._limit is None:
            return float("inf")
        return self._started + self._limit - REPORT_SECONDS - self._clock()

    def confirmation_seconds(self) -> float:
        """Estimated cost of the confirmation of the winners so far; arms without one count as the costliest."""
        completed = [r.seconds for r in self._ledger.of_phase(SEARCH) if r.stop_reason == COMPLETED]
        if not completed:
            return 0.0
        # The next trial may win and may be longer than today's winner.
        usual = statistics.fmean(completed)
        winners = [winner for winner in find_winners(self._study, self._ledger).values() if winner is not None]
        costs = [max(winner.seconds, usual) for winner in winners]
        arms = len(self._study.arms) + len(self._study.controls)
        total = sum(costs) + (arms - len(costs)) * max(costs) + arms * (OVERHEAD_SECONDS + FINAL_SECONDS)
        return SAFETY * total * self._seeds / self._slots

    def reserve(self) -> float:
        """What the search leaves to the confirmation: its estimate, but no more than a share of the whole.

        Where all seeds would eat the search, fewer seeds of better winners answer more.
        """
        limit = float("inf") if self._limit is None else self._limit
        return min(self.confirmation_seconds(), RESERVE_SHARE * limit)

    def round_seconds(self) -> float:
        """Estimated cost of one more trial of every arm."""
        spent = [record.seconds for record in self._ledger.of_phase(SEARCH) if record.stop_reason is not None]
        per_trial = statistics.fmean(spent) + OVERHEAD_SECONDS if spent else 0.0
        return per_trial * len(self._study.arms) / self._slots

    def seconds_left(self, trials: int) -> float | None:
        """Estimated seconds until the report, None before any trial has ended; ``trials`` in the whole search."""
        spent = [record for record in self._ledger.of_phase(SEARCH) if record.stop_reason is not None]
        if not spent:
            return None
        search = (trials - len(spent)) * self.round_seconds() / len(self._study.arms)
        confirmed = sum(r.stop_reason is not None for r in self._ledger.records.values()) - len(spent)
        share = confirmed / (self._seeds * (len(self._study.arms) + len(self._study.controls)))
        return min(self.left, max(0.0, search) + (1 - share) * self.confirmation_seconds())

    def search_round_fits(self) -> bool:
        """Whether one more round of the search leaves the confirmation its time."""
        return self._limit is None or self.left >= self.round_seconds() + self.reserve()

    def confirm_round_fits(self, requests: Sequence[Request]) -> bool:
        """Whether one more seed of every arm fits."""
        if self._limit is None:
            return True
        winners = find_winners(self._study, self._ledger)
        known = {arm: winner.seconds for arm, winner in winners.items() if winner is not None}
        costs = [known.get(request.arm, max(known.values())) + FINAL_SECONDS for request in requests if known]
        return self.left >= SAFETY * sum(costs) / self._slots

    def expired(self, phase: str) -> bool:
        """Whether a running trial of this phase must end: the search gives way to the confirmation's reserve.

        It does so only once every arm has a winner: a confirmation without all arms would not answer the question.
        """
        # No reserve is larger: until then nobody needs to look at all the trials.
        if self._limit is None or self.left > RESERVE_SHARE * self._limit:
            return False
        gives_way = phase == SEARCH and None not in find_winners(self._study, self._ledger).values()
        return self.left <= (self.reserve() if gives_way else 0.0)
