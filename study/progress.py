"""The terminal while a study runs: a live table where there is a terminal, plain lines where there is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Self, TextIO

from ray.tune import Callback
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search_spaces.arms import Study
from study.ledger import CONFIRM, SEARCH, Ledger, TrialRecord, choose_winner

REFRESH_SECONDS = 0.5
LINE_SECONDS = 10.0
COLUMNS = ("arm", "search", "confirm", "epochs", "best val %", "learning rate", "optimizer")


class Progress(Callback):  # type: ignore[misc]
    """Shows the ledger while Tune runs.

    Args:
        study: The question.
        ledger: What has happened so far.
        seconds_left: The estimate of the time left, None while there is nothing to estimate from.
        budgets: Trials of each search, by arm; one search over all arms has a name of its own.
        totals: Trials of each stage; by default the searches' and one confirm trial per arm, control and seed.
        num_seeds: Of all confirmations, for the default of ``totals``; one confirmation's by default.
        quiet: Show nothing.
        stream: Where to write; standard error, since standard output is for the answer.
    """

    def __init__(
        self,
        study: Study,
        ledger: Ledger,
        *,
        seconds_left: Callable[[], float | None],
        budgets: Mapping[str, int],
        totals: Mapping[str, int] | None = None,
        num_seeds: int | None = None,
        quiet: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        super().__init__()
        self._study, self._ledger, self._budgets = study, ledger, budgets
        arms = len(study.arms) + len(study.controls)
        self._totals = totals or {SEARCH: sum(budgets.values()), CONFIRM: arms * (num_seeds or study.seeds)}
        self._seconds_left = seconds_left
        self._quiet = quiet
        self._console = Console(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._started = time.monotonic()
        self._shown = self._started

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune pickles its callbacks; a terminal does not pickle."""
        return (dict, ())

    def __enter__(self) -> Self:
        """Begin to show."""
        if not self._quiet and self._console.is_terminal:
            self._live = Live(self._table(), console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, line: str) -> None:
        """One plain line, above the live view where there is one."""
        if not self._quiet:
            self._console.print(Text(line))

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Refresh at most every half second, or write a line at most every ten."""
        now = time.monotonic()
        if self._quiet or now - self._shown < (REFRESH_SECONDS if self._live else LINE_SECONDS):
            return
        self._shown = now
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
        else:
            self._console.print(Text(self._status()))

    def _status(self) -> str:
        done: dict[str, int] = {}
        epochs = 0
        for record in self._ledger.records.values():
            epochs += record.trained
            stage = record.request.stage
            done[stage] = done.get(stage, 0) + (record.stop_reason is not None)
        parts = [f"{stage} {count}/{self._totals[stage]} trials" for stage, count in done.items()]
        left = self._seconds_left()
        times = f"{_clock(time.monotonic() - self._started)} elapsed"
        return ", ".join(
            [*parts, f"{epochs} epochs", times, *([f"about {_clock(left)} left"] if left is not None else [])]
        )

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in COLUMNS:
            table.add_column(column, justify="left" if column in ("arm", "optimizer") else "right")
        of_arm: dict[str, list[TrialRecord]] = {}
        for record in self._ledger.records.values():
            of_arm.setdefault(record.request.arm, []).append(record)
        for arm in self._study.arms:
            records = of_arm.get(arm.name, [])
            search = [r for r in records if r.request.phase == SEARCH]
            ended = sum(r.stop_reason is not None for r in search)
            confirmed = sum(r.stop_reason is not None for r in records) - ended
            best = choose_winner(search)
            config = best.request.config if best else {}
            table.add_row(
                Text(arm.name),
                f"{ended}/{self._budgets[arm.name]}" if arm.name in self._budgets else str(ended),
                str(confirmed),
                str(sum(r.trained for r in records)),
                f"{100 * best.val_accuracy:.2f}" if best else "",
                f"{config['optimizer.learning_rate']:.2g}" if best else "",
                Text(str(config.get("optimizer", ""))),
            )
        return Group(table, Text(self._status(), style="dim"))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
