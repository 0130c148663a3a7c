"""The searcher that deals trials to Tune, stage by stage, and notes what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ray.tune.search import Searcher

from study.ledger import Ledger, Request, TrialRecord

#: Yields the requests of one stage, lazily; called when every trial of the stage before has ended.
Stage = Callable[[], Iterator[Request]]


class Dealer(Searcher):  # type: ignore[misc]
    """Deals the requests of its stages in order, all in one Tune run: the same actors serve every stage.

    Args:
        stages: What to run, in order.
        ledger: Where requests and results are kept.
        max_concurrent: Trials at once at most; None for as many as resources allow.
        to_config: Turns a request into the trainable's Ray configuration.
        recalled: Results of trials that ended before the study was resumed, by key; they are not run again.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        ledger: Ledger,
        *,
        max_concurrent: int | None,
        to_config: Callable[[Request], dict[str, Any]],
        recalled: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(metric="val_accuracy", mode="max")
        self._stages = list(stages)
        self._ledger = ledger
        self._max_concurrent = max_concurrent
        self._to_config = to_config
        self._recalled = dict(recalled or {})
        self.dealt = 0
        self._keys: dict[str, str] = {}
        self._dealing: Iterator[Request] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune pickles its searcher; ours is rebuilt from the record, so the pickle holds nothing."""
        return (dict, ())

    def reported(self, record: TrialRecord) -> None:
        """A trial came further."""

    def ended(self, record: TrialRecord) -> None:
        """A trial has ended; its stop reason is known."""

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial; None to be asked again later."""
        if self._max_concurrent is not None and len(self._keys) >= self._max_concurrent:
            return None
        request = self._next()
        if request is None:
            return None if self._keys else str(Searcher.FINISHED)
        self.dealt += 1
        self._ledger.open(request)
        self._keys[trial_id] = request.key
        return {**self._to_config(request), "key": request.key, "index": len(self._ledger.records)}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note an epoch."""
        self._note(self._keys[trial_id], result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Note the end of a trial."""
        key = self._keys.pop(trial_id)
        if result and "epoch" in result:
            self._note(key, result)
        self.ended(self._ledger.close(key, failed=error))

    def finish(self) -> list[TrialRecord]:
        """End every trial that Tune left running (Ctrl-C) as interrupted; returns them."""
        left = self._ledger.running()
        for record in left:
            self._ledger.interrupt(record.request.key)
            self.ended(record)
        self._keys.clear()
        return left

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the record is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the record is the state."""

    def _note(self, key: str, result: Mapping[str, Any]) -> None:
        """Take over a result; one that came before is not told again."""
        known = self._ledger.records[key].epoch
        record = self._ledger.update(key, result)
        if record.epoch > known:
            self.reported(record)

    def _next(self) -> Request | None:
        while self._stages:
            if self._dealing is None:
                if self._keys:  # a stage builds on the results of the one before
                    return None
                self._dealing = self._stages[0]()
            for request in self._dealing:
                if request.key not in self._recalled:
                    return request
                self._ledger.adopt(request, self._recalled[request.key])
            self._dealing = None
            del self._stages[0]
        return None
