"""Where a trial runs and on how much of a machine; what it learns from trials that failed or took too much."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray.tune import PlacementGroupFactory

from study import nodes
from study.failures import CROWDED, REFUSED, find_lost, read_failure
from study.ledger import Ledger
from study.memory import GpuMemory
from study.options import Options

#: Ray gives every node this label.
NODE_ID_LABEL = "ray.io/node-id"


class Placement:
    """The resources of each trial, as they are known when it is dealt.

    Args:
        options: The flags.
        ledger: Which trials failed, and why.
        say: Shows a line to the user.
    """

    def __init__(self, options: Options, ledger: Ledger, say: Callable[[str], None]) -> None:
        self._options = options
        self._ledger = ledger
        self._say = say
        self._memory = GpuMemory(None if options.share_gpus else options.gpus_per_trial, say)
        self._refusing: set[str] = set()

    def request(self, key: str) -> PlacementGroupFactory:
        """What a trial asks Ray for: on no node that cannot run trials, and alone on a GPU if it found one crowded."""
        resources = {"CPU": self._options.cpus_per_trial, "GPU": self._gpus(key)}
        if not self._refusing:
            return PlacementGroupFactory([resources])
        elsewhere = {NODE_ID_LABEL: f"!in({','.join(sorted(self._refusing))})"}
        return PlacementGroupFactory([resources], bundle_label_selector=[elsewhere])

    def reported(self, arm: str, result: Mapping[str, Any]) -> None:
        """Take over what a trial says of its GPU."""
        if "gpu_peak_bytes" in result:
            self._memory.observe(arm, result["gpu_peak_bytes"], result["gpu_total_bytes"])

    def failed(self, key: str, text: str, node: str) -> None:
        """Note why a trial failed, and of its earlier failures which were those of a node that is gone by now.

        Args:
            key: The trial's.
            text: What Tune keeps of its failures.
            node: Ray's id of the node where it last reported; empty if it has not.
        """
        alive = {machine.node_id for machine in nodes.alive()}
        record = self._ledger.records[key]
        *before, now = find_lost([*record.failures, read_failure(text, node)], alive)
        record.failures[:] = before
        self._ledger.note_failure(key, now)
        if now.kind == REFUSED and now.node not in {"", *self._refusing}:
            self._refusing.add(now.node)
            self._say(f"{now.reason} Trials run elsewhere.")

    def _gpus(self, key: str) -> float:
        given = self._memory.share if self._options.share_gpus else self._options.gpus_per_trial
        crowded = any(failure.kind == CROWDED for failure in self._ledger.records[key].failures)
        return max(1.0, given) if crowded else given
