"""A Ray cluster of several nodes on this machine, each a raylet of its own, joined by the test's process."""

import contextlib

import pytest
import ray
from ray.cluster_utils import Cluster

from study.cluster import ENVIRONMENT


@contextlib.contextmanager
def a_cluster(*workers, **environment):
    """A head without CPUs and these workers, each the arguments of ``add_node``; Ray as a study would set it."""
    with pytest.MonkeyPatch.context() as patch:
        for key, value in {**ENVIRONMENT, **environment}.items():
            patch.setenv(key, value)
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        try:
            for worker in workers:
                made.add_node(**worker)
            ray.init(address=made.address, log_to_driver=False)
            yield made
        finally:
            ray.shutdown()
            made.shutdown()
