"""The machines of a cluster: how many trials fit on them, and whether each can run this study's."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.address import short_reason
from analysis.plain import plain
from search_spaces.arms import Study, corners
from study.options import Options
from trainables.config import InputError, resolve
from trainables.environment import describe_environment, differences

#: A node has to start a process and import what it needs; a busy disk takes a minute for torch.
ANSWER_SECONDS = 180.0
#: Shares are decimal fractions: ten of 0.1 are a whole.
ROUNDING = 1e-9
#: Where ``ray up`` leaves on the head what the cluster may grow to.
AUTOSCALER_FILE = "~/ray_bootstrap_config.yaml"
#: Ray's label of a node that an autoscaler has started.
AUTOSCALER_LABEL = "ray.io/node-group"


@dataclass(frozen=True)
class Node:
    """A machine of the cluster.

    Args:
        node_id: Ray's name for it, in hexadecimal.
        name: Its host name and address, for people.
        cpus: Of all trials.
        gpus: Likewise.
        labels: Ray's and the user's.
    """

    node_id: str
    name: str
    cpus: float
    gpus: float
    labels: Mapping[str, str]


def alive() -> list[Node]:
    """The nodes of the cluster that this process is connected to, in the order of their names."""
    import ray  # noqa: PLC0415 - after the environment is prepared

    found = [
        Node(
            node["NodeID"],
            f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})",
            node["Resources"].get("CPU", 0.0),
            node["Resources"].get("GPU", 0.0),
            dict(node.get("Labels") or {}),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    return sorted(found, key=lambda node: (node.name, node.node_id))


def count_slots(options: Options, machines: Sequence[Node]) -> int:
    """Trials that run at once: what fits on each machine, summed, and at most ``--max-concurrent``.

    A cluster without room for any trial counts as one: it may grow.

    Raises:
        InputError: If the study has this machine alone and it cannot run a single trial.
    """
    slots = sum(trials_on(node, options.cpus_per_trial, options.gpus_per_trial) for node in machines)
    if slots < 1 and options.address is None:
        cpus, gpus = (sum(getattr(node, kind) for node in machines) for kind in ("cpus", "gpus"))
        raise InputError(
            f"A trial needs {options.cpus_per_trial:g} CPUs and {options.gpus_per_trial:g} GPUs; this machine has"
            f" {cpus:g} and {gpus:g}."
        )
    return max(1, min(slots, options.max_concurrent or slots))


def trials_on(node: Node, cpus: float, gpus: float) -> int:
    """How many trials fit on a node at once; a share of a GPU is one GPU's, never of two."""
    fits = int(node.cpus / cpus + ROUNDING)
    if gpus <= 0:
        return fits
    per_gpu = int(node.gpus) * int(1 / gpus + ROUNDING) if gpus < 1 else int(node.gpus / gpus + ROUNDING)
    return min(fits, per_gpu)


def check_nodes(study: Study, options: Options) -> None:
    """Every node of a cluster could run this study's trials: before any is, and before anything is on record.

    A cluster without a node that has room for a trial is waited for if it may grow, which is said in one line.

    Raises:
        InputError: If a node could not, or no node ever will.
    """
    machines = alive()
    _check_room(options, machines)
    _probe(study, options, machines)


def _check_room(options: Options, machines: Sequence[Node]) -> None:
    if any(trials_on(node, options.cpus_per_trial, options.gpus_per_trial) for node in machines):
        return
    needs = f"{options.cpus_per_trial:g} CPUs and {options.gpus_per_trial:g} GPUs"
    if any(node.cpus for node in machines) and not _may_grow(machines):
        has = "; ".join(f"{node.name} has {node.cpus:g} and {node.gpus:g}" for node in machines)
        raise InputError(f"`--address {options.address}`: a trial needs {needs} on one node: {has}.")
    if not options.quiet:
        line = f"No node can run a trial yet (it needs {needs}); the study waits for one."
        print(plain(line), file=sys.stderr)  # noqa: T201


def _may_grow(machines: Iterable[Node]) -> bool:
    """Whether an autoscaler may start nodes of other kinds."""
    return any(AUTOSCALER_LABEL in node.labels for node in machines) or Path(AUTOSCALER_FILE).expanduser().is_file()


def own_parts(study: Study) -> list[str]:
    """The user's own parts, ``package.module:name``, that trials import by themselves."""
    found = {value for arm in study.arms for values in corners(arm) for value in values.values()}
    return sorted(value for value in found if isinstance(value, str) and ":" in value)


def _probe(study: Study, options: Options, machines: Sequence[Node]) -> None:
    import ray  # noqa: PLC0415 - after the environment is prepared
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415 - likewise

    storage, name = Probes(str(options.shared)), f"probe-{uuid.uuid4().hex}"
    question = {
        "storage": str(options.shared),
        "probe": name,
        "environment": describe_environment(),
        "parts": own_parts(study),
        "cuda": options.device == "cuda",
    }
    # A process of its own per node, which goes when it has answered: it may have imported torch.
    ask = ray.remote(num_cpus=0, max_calls=1, max_retries=0)(examine)
    storage.write(name)
    try:
        there = [NodeAffinitySchedulingStrategy(node.node_id, soft=False) for node in machines]
        answers = [
            ask.options(scheduling_strategy=strategy).remote(question, node.node_id, has_gpu=node.gpus > 0)
            for node, strategy in zip(machines, there, strict=True)
        ]
        for node, answer in zip(machines, answers, strict=True):
            trouble = _answer(answer) or storage.unseen(f"{name}-{node.node_id}")
            if trouble and node.node_id in {left.node_id for left in alive()}:  # one that is gone runs no trials
                raise InputError(f"The node {node.name} cannot run this study's trials: {trouble}.")
    finally:
        storage.remove([name, *(f"{name}-{node.node_id}" for node in machines)])


def _answer(answer: Any) -> str:
    import ray  # noqa: PLC0415 - after the environment is prepared

    try:
        return str(ray.get(answer, timeout=ANSWER_SECONDS))
    except ray.exceptions.GetTimeoutError:
        return f"it has not answered within {ANSWER_SECONDS:g} seconds"
    except ray.exceptions.RayError as error:
        # Without the project's code there, Ray cannot even read the question.
        lines = [line.strip() for line in str(error).splitlines() if "Error" in line]
        return f"it could not answer ({lines[-1] if lines else type(error).__name__})"


def examine(question: Mapping[str, Any], node_id: str, *, has_gpu: bool) -> str:
    """Why the node that this runs on cannot run a study's trials; empty if it can.

    Args:
        question: ``environment`` of the driver, ``storage`` and the name of the driver's ``probe`` there, the user's
            own ``parts``, and whether trials use ``cuda``.
        node_id: The node's, to sign what it writes.
        has_gpu: Whether Ray counts a GPU there.
    """
    if other := differences(question["environment"], describe_environment()):
        return f"{other}; all nodes need the same versions and the same code"
    storage, probe = Probes(question["storage"]), question["probe"]
    if trouble := storage.unseen(probe) or storage.write_trouble(f"{probe}-{node_id}"):
        return trouble
    for part in question["parts"]:
        try:
            resolve("part", part, {})
        except InputError as error:
            return str(error).rstrip(".")
    if question["cuda"] and has_gpu:
        import torch  # noqa: PLC0415 - only where GPUs are to be used

        if torch.version.cuda is None:
            return f"its torch {torch.__version__} is built without CUDA"
    return ""


class Probes:
    """Files by which two machines find out whether a place is the same for both.

    Args:
        address: A folder, or any address that pyarrow knows a file system for.
    """

    def __init__(self, address: str) -> None:
        from pyarrow import fs  # noqa: PLC0415 - needed on a cluster only

        self._address = address
        self._files, self._root = fs.FileSystem.from_uri(address)

    def write(self, name: str) -> None:
        """Leave a file.

        Raises:
            OSError: If that cannot be done.
        """
        with self._files.open_output_stream(f"{self._root}/{name}") as file:
            file.write(name.encode())

    def unseen(self, name: str) -> str:
        """What is wrong if a file that another machine left is not here; empty if it is."""
        try:
            with self._files.open_input_file(f"{self._root}/{name}") as file:
                if file.read() == name.encode():
                    return ""
        except FileNotFoundError:
            pass
        except OSError as error:
            return f"it cannot read the storage {self._address} ({_reason(error)})"
        return (
            f"it does not share the storage {self._address} with this process; `--storage-path` must lead to a place"
            " that all nodes see"
        )

    def write_trouble(self, name: str) -> str:
        """Leave a file; why that cannot be done, empty if it is."""
        try:
            self.write(name)
        except OSError as error:
            return f"it cannot write to the storage {self._address} ({_reason(error)})"
        return ""

    def remove(self, names: Iterable[str]) -> None:
        """Take files away; any may be missing."""
        for name in names:
            try:
                self._files.delete_file(f"{self._root}/{name}")
            except OSError:
                continue


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else short_reason(error)
