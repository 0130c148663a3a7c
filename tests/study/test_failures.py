"""Why a trial failed is read from what Ray says of it, which is made here by Ray itself, and judged again later."""

import os

import pytest
import ray
from ray.exceptions import RayError

from study.failures import (
    CROWDED,
    ENDED,
    LOST,
    MAX_LOSSES,
    OWN,
    REFUSED,
    Failure,
    find_lost,
    may_be_tried_again,
    read_failure,
)
from tests.raylets import a_cluster
from trainables.environment import OtherEnvironmentError
from trainables.memory import GpuMemoryError

pytestmark = pytest.mark.raylets

NODE = "ab" * 28


@ray.remote(num_cpus=1)
class Actor:
    def __init__(self, error=None):
        if error is not None:
            raise error

    def node(self):
        return ray.get_runtime_context().get_node_id()

    def fail(self, error):
        raise error

    def die(self):
        os._exit(1)

    def wait(self):
        import time

        time.sleep(600)


@pytest.fixture(scope="module")
def cluster():
    with a_cluster({"num_cpus": 1}) as made:
        yield made


def kept_by_tune(reference):
    """What Tune writes down when a call fails, below an older failure."""
    with pytest.raises(RayError) as caught:
        ray.get(reference, timeout=60)
    older = f"Failure # 1 (occurred at then)\n{GpuMemoryError.__name__}: old\n"
    return f"{older}Failure # 1 (occurred at now)\n{caught.value}\n"


def test_an_error_of_the_code_is_the_trials_own(cluster):
    actor = Actor.remote()
    text = kept_by_tune(actor.fail.remote(ValueError("its node has died, says the user")))
    assert read_failure(text, NODE) == Failure(OWN, NODE)
    assert read_failure(kept_by_tune(Actor.remote(error=ValueError("in setup")).node.remote())) == Failure(OWN)
    assert read_failure("no such heading") == Failure(OWN)


def test_too_little_gpu_memory_is_told(cluster):
    assert read_failure(kept_by_tune(Actor.remote().fail.remote(GpuMemoryError("2 GB"))), NODE) == Failure(
        CROWDED, NODE
    )


def test_a_node_that_refuses_is_named_with_its_reason(cluster):
    reason = f"The node spot-1 ({NODE}) cannot run this study's trials: its torch is 1 and not 2."
    text = kept_by_tune(Actor.remote().fail.remote(OtherEnvironmentError(reason)))
    assert read_failure(text) == Failure(REFUSED, NODE, reason)


def test_a_process_that_ended_is_told_from_a_node_that_is_lost(cluster):
    assert read_failure(kept_by_tune(Actor.remote().die.remote()), NODE) == Failure(ENDED, NODE)
    for graceful in (True, False):
        node = cluster.add_node(num_cpus=1, resources={"spot": 1})
        actor = Actor.options(resources={"spot": 1}).remote()
        assert ray.get(actor.node.remote()) == node.node_id
        waiting = actor.wait.remote()
        cluster.remove_node(node, allow_graceful=graceful)
        assert read_failure(kept_by_tune(waiting), node.node_id) == Failure(LOST, node.node_id)


def test_a_process_that_ended_just_before_its_node_was_lost_with_it():
    failures = [Failure(ENDED, "a"), Failure(ENDED, "b"), Failure(ENDED), Failure(OWN, "a")]
    assert find_lost(failures, {"b"}) == [Failure(LOST, "a"), *failures[1:]]


def test_own_failures_count_against_the_flag_and_those_of_machines_have_a_bound_of_their_own():
    lost = [Failure(LOST)] * MAX_LOSSES
    assert may_be_tried_again([*lost, Failure(OWN), Failure(ENDED)], 2)
    assert not may_be_tried_again([*lost, *[Failure(OWN)] * 3], 2)
    assert not may_be_tried_again([*lost, Failure(REFUSED)], 2)
    assert may_be_tried_again([*lost, Failure(CROWDED)], 0)
    assert not may_be_tried_again([Failure(CROWDED), Failure(CROWDED)], 2)
