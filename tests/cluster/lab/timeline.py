"""When what happened, printed while it does: a run that takes minutes shows where it is."""

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
#: How much longer than it should take something may take on a busy computer; what goes well waits for nothing.
SLACK = 5


class Timeline:
    """Seconds since it was made."""

    def __init__(self, title: str) -> None:
        self._started = time.monotonic()
        print(f"\n{title}", flush=True)  # noqa: T201 - the tests' output, which the documents quote

    def mark(self, event: str) -> None:
        """It happened now."""
        print(f"{time.monotonic() - self._started:7.1f} s  {event}", flush=True)  # noqa: T201


def wait_until(condition: Callable[[], Found], seconds: float, what: Callable[[], str] | str) -> Found:
    """What the condition returns when that is true.

    Args:
        condition: Asked again and again.
        seconds: How long on an idle computer.
        what: What to say if it never is.

    Raises:
        AssertionError: If it is not in time.
    """
    end = time.monotonic() + SLACK * seconds
    while not (found := condition()):
        assert time.monotonic() < end, what if isinstance(what, str) else what()
        time.sleep(0.1)
    return found
