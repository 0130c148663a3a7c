"""``study.launch --list``: the studies on record, how far each came, and what it takes to go on."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from analysis.address import redact
from analysis.load import find_children, find_studies
from analysis.plain import fit, plain
from analysis.store import check_store, one_line
from study.ledger import SEARCH
from study.process import host_of, is_alive
from study.resume import DRIVER, RUNNING

HEADINGS = ("study", "space", "dataset", "state", "search", "confirm", "begun")
MAX_WIDTH = 40
#: State of a study whose process is gone without a word.
KILLED = "killed"


def list_studies(tracking_uri: str) -> list[str]:
    """A table of the studies on record, newest first, as lines.

    Args:
        tracking_uri: Where MLflow keeps its record.

    Raises:
        InputError: If there is no such store, or it does not answer.
    """
    check_store(tracking_uri)
    with one_line(tracking_uri):
        client = MlflowClient(tracking_uri)
        rows = [
            describe(parent, find_children(client, parent.info.experiment_id, parent.info.run_id))
            for parent in find_studies(client)
        ]
    if not rows:
        return [f"No study is on record in {redact(tracking_uri)}."]
    return align([HEADINGS, *rows])


def describe(parent: Run, children: Iterable[Run]) -> tuple[str, ...]:
    """One row of the table: trials that ended, and of how many that began."""
    tags = parent.data.tags
    begun: Counter[bool] = Counter()
    ended: Counter[bool] = Counter()
    for child in children:
        searches = child.data.tags.get("phase") == SEARCH
        begun[searches] += 1
        ended[searches] += child.info.status == "FINISHED" or child.data.tags.get("stop_reason") in ("pruned", "failed")
    counts = [f"{ended[searches]}/{begun[searches]}" if begun[searches] else "-" for searches in (True, False)]
    time = datetime.fromtimestamp(parent.info.start_time / 1000, UTC)
    names = [plain(tags.get(key, "-")) for key in ("study", "space", "dataset")]
    return (*names, state_of(tags), *counts, f"{time:%Y-%m-%d %H:%M} UTC")


def state_of(tags: Mapping[str, str]) -> str:
    """``running``, ``finished``, ``interrupted`` or ``failed``; of one that says that it runs, whether it does."""
    state, driver = tags.get("state", "-"), tags.get(DRIVER, "")
    if state != RUNNING or is_alive(driver):
        return plain(state)
    # What runs on another machine cannot be seen from here.
    return KILLED if host_of(driver) in ("", socket.gethostname()) else plain(f"on {host_of(driver)}")


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, columns below each other."""
    widths = [min(MAX_WIDTH, max(len(row[place]) for row in rows)) for place in range(len(rows[0]))]
    return ["  ".join(fit(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
