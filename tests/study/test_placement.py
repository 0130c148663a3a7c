"""What each trial asks Ray for, and what it learns from those before it."""

from types import SimpleNamespace

import pytest
from ray.tune import PlacementGroupFactory

from study import nodes, placement
from study.failures import CROWDED, ENDED, LOST, OWN, REFUSED, Failure
from study.ledger import SEARCH, Ledger, Request
from study.placement import Placement
from tests.study.test_preflight import an_options
from trainables.environment import OtherEnvironmentError
from trainables.memory import GpuMemoryError

BAD = "ab" * 28
WORSE = "cd" * 28
DIED = "The actor died unexpectedly before finishing this task.\nThe actor is dead because its worker process has died."


@pytest.fixture
def stage(monkeypatch):
    """A ledger with two trials, and nodes that are there."""
    ledger, alive, said = Ledger(), ["here"], []
    for number in range(2):
        ledger.open(Request("mse", SEARCH, number, {"epochs": 4}))
    monkeypatch.setattr(nodes, "alive", lambda: [nodes.Node(name, name, 1, 1, {}) for name in alive])

    def place(**flags):
        return Placement(an_options(address="auto", device="cpu", **flags), ledger, said.append)

    first, second = ledger.records
    return SimpleNamespace(ledger=ledger, alive=alive, said=said, place=place, first=first, second=second)


def fail(stage, place, text, node="", key=None):
    """A trial fails, as the scheduler and then the searcher hear of it."""
    key = key or stage.first
    place.failed(key, f"Failure # 1 (occurred at now)\n{text}\n", node)
    return stage.ledger.fail(key)


def resources(request):
    (bundle,) = request.bundles
    return bundle.get("CPU"), bundle.get("GPU", 0.0)


def test_a_trial_asks_for_what_the_flags_say(stage):
    assert resources(stage.place(cpus_per_trial=2).request(stage.first)) == (2, 0)
    assert stage.place(gpus_per_trial=0.25).request(stage.first) == PlacementGroupFactory([{"CPU": 1, "GPU": 0.25}])


def test_a_trial_that_found_no_gpu_memory_has_a_whole_gpu_next_and_no_other_has(stage):
    place = stage.place(gpus_per_trial=0.25)
    assert fail(stage, place, f"trainables.memory.{GpuMemoryError.__name__}: 2 GB", "here") == [
        Failure(CROWDED, "here")
    ]
    assert resources(place.request(stage.first)) == (1, 1)
    assert resources(place.request(stage.second)) == (1, 0.25)
    assert resources(stage.place(gpus_per_trial=2.0).request(stage.first)) == (1, 2)


def test_gpus_are_shared_by_what_trials_report(stage):
    place = stage.place(gpus_per_trial=1.0, share_gpus=True)
    place.reported("mse", {"epoch": 1})
    assert resources(place.request(stage.second)) == (1, 1)
    place.reported("mse", {"gpu_peak_bytes": 3, "gpu_total_bytes": 16})
    assert resources(place.request(stage.second)) == (1, 0.25)
    fail(stage, place, f"{GpuMemoryError.__name__}: ", key=stage.first)
    assert resources(place.request(stage.first)) == (1, 1)


def test_no_trial_is_placed_on_a_node_that_refused_one_which_is_said_once(stage):
    place = stage.place()
    reasons = [
        f"The node {name} ({node}) cannot run this study's trials: x." for name, node in (("b", BAD), ("w", WORSE))
    ]
    for reason in (reasons[0], reasons[0], reasons[1]):
        fail(stage, place, f"ray.RayTaskError\ntrainables.environment.{OtherEnvironmentError.__name__}: {reason}")
    assert [failure.kind for failure in stage.ledger.records[stage.first].failures] == [REFUSED] * 3
    assert stage.said == [f"{reason} Trials run elsewhere." for reason in reasons]
    elsewhere = PlacementGroupFactory(
        [{"CPU": 1}], bundle_label_selector=[{placement.NODE_ID_LABEL: f"!in({BAD},{WORSE})"}]
    )
    assert place.request(stage.second) == elsewhere


def test_a_process_that_ended_is_its_nodes_failure_once_that_is_gone(stage):
    place = stage.place()
    assert fail(stage, place, DIED, "here") == [Failure(ENDED, "here")]
    stage.alive.clear()
    assert fail(stage, place, "ValueError: no gradient") == [Failure(LOST, "here"), Failure(OWN)]
    assert fail(stage, place, DIED, "gone", stage.second) == [Failure(LOST, "gone")]
