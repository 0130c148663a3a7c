"""The searcher that deals trials to Tune, stage by stage, and notes what comes back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from ray.tune.search import Searcher

from study.failures import may_be_tried_again
from study.ledger import INTERRUPTED, Ledger, Request, TrialRecord
from study.packs import as_one, keys_of, pack, results_of

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
        max_failures: How often a trial that failed by its own fault is dealt again. Tune's own retries leave out one
            whose worker died between two trials.
        replicas: How many trials may be dealt as one, see :func:`study.packs.pack`. If they fail they are dealt again
            one by one, so that none fails for another's fault.
        under_way: Keys of trials of which some epochs are on record, if the study is resumed.

    ``dealt`` counts the trials; ``exhausted`` is whether every one of every stage has been dealt and has ended.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        ledger: Ledger,
        *,
        max_concurrent: int | None,
        to_config: Callable[[Request], dict[str, Any]],
        recalled: Mapping[str, Mapping[str, Any]] | None = None,
        max_failures: int = 0,
        replicas: int = 1,
        under_way: Collection[str] = (),
    ) -> None:
        super().__init__(metric="val_accuracy", mode="max")
        self._stages = list(stages)
        self._ledger = ledger
        self._max_concurrent = max_concurrent
        self._to_config = to_config
        self.recalled = dict(recalled or {})
        self.dealt = 0
        self.exhausted = False
        self._max_failures = max_failures
        self._replicas = replicas
        self._under_way = under_way
        self._failed: list[tuple[Request, ...]] = []
        self._configs: dict[str, dict[str, Any]] = {}
        self._dealing: Iterator[tuple[Request, ...]] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune pickles its searcher; ours is rebuilt from the record, so the pickle holds nothing."""
        return (dict, ())

    def reported(self, record: TrialRecord) -> None:
        """A trial came further."""

    def ended(self, record: TrialRecord) -> None:
        """A trial has ended; its stop reason is known."""

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial; None to be asked again later."""
        if self._max_concurrent is not None and len(self._configs) >= self._max_concurrent:
            return None
        requests = self._failed.pop(0) if self._failed else self._next()
        if requests is None:
            self.exhausted = not self._configs
            return str(Searcher.FINISHED) if self.exhausted else None
        for request in requests:
            if request.key not in self._ledger.records:
                self.dealt += 1
                self._ledger.open(request)
        config = as_one([{**self._to_config(request), "key": request.key} for request in requests])
        self._configs[trial_id] = config | {"index": len(self._ledger.records)}
        return self._configs[trial_id]

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note an epoch."""
        config = self._configs[trial_id]
        keys, told = keys_of(config), dict(results_of(config, result))
        for key in keys:
            if key in told:
                self._note(key, told[key])
            else:
                self._ledger.note_untold(key, int(result["epoch"]), float(result["trial_seconds"]) / len(keys))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Note the end of a trial, or deal it again if it failed and may be tried again."""
        config = self._configs.pop(trial_id)
        told = dict(results_of(config, result))
        for key in keys_of(config):
            if error and may_be_tried_again(self._ledger.fail(key), self._max_failures):
                self._failed.append((self._ledger.records[key].request,))
                continue
            if "epoch" in told.get(key, {}):
                self._note(key, told[key])
            self.ended(self._ledger.close(key, failed=error))

    def finish(self) -> list[TrialRecord]:
        """Note every trial that Tune left running (Ctrl-C) as interrupted; returns them.

        To whoever asked for them they have not ended: they go on when the study is resumed.
        """
        left = self._ledger.running()
        for record in left:
            self._ledger.note_end(record.request.key, INTERRUPTED)
        self._configs.clear()
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

    def _next(self) -> tuple[Request, ...] | None:
        while self._stages:
            if self._dealing is None:
                if self._configs or self._failed:  # a stage builds on the results of the one before
                    return None
                self._dealing = pack(self._left_of(self._stages[0]()), self._replicas, self._under_way)
            requests = next(self._dealing, None)
            if requests is not None:
                return requests
            self._dealing = None
            del self._stages[0]
        return None

    def _left_of(self, stage: Iterator[Request]) -> Iterator[Request]:
        """What is not on record of a stage; what is, is taken over."""
        for request in stage:
            if request.key in self.recalled:
                self._ledger.adopt(request, self.recalled[request.key])
            else:
                yield request
