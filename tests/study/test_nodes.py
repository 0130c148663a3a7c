"""How many trials fit on a cluster's machines, and that one which could not run them is named before any is run."""

import os
import socket

import pytest

from search_spaces.smoke import STUDY as SMOKE
from study import nodes
from study.nodes import Node, check_nodes, count_slots, own_parts, trials_on
from study.protocol import resolve_study
from tests.buckets import serving_bucket
from tests.raylets import a_cluster
from tests.study.test_preflight import an_options
from trainables.bucket import list_objects
from trainables.config import InputError
from trainables.environment import describe_environment

pytestmark = pytest.mark.raylets


def a_node(cpus=8.0, gpus=0.0, name="n", **labels):
    return Node(name, name, cpus, gpus, {"ray.io/node-id": name, **labels})


@pytest.fixture(scope="module")
def cluster():
    with a_cluster({"num_cpus": 1}) as made:
        yield made


@pytest.fixture
def another(cluster):
    """Adds a worker whose environment differs; it is gone when the test is."""
    added = []

    def add(**environment):
        added.append(cluster.add_node(num_cpus=1, env_vars=environment))
        return added[-1]

    yield add
    for node in added:
        cluster.remove_node(node)


def a_study(**flags):
    options = an_options(address="auto", space="smoke", quiet=True, **flags)
    options.folder.mkdir(parents=True)
    return resolve_study(SMOKE, options), options


def files_of(options):
    return sorted(path.name for path in options.folder.iterdir())


@pytest.mark.parametrize(
    ("node", "cpus", "gpus", "fit"),
    [
        (a_node(8), 1, 0, 8),
        (a_node(8), 0.5, 0, 16),
        (a_node(1), 0.1, 0, 10),
        (a_node(7), 2, 0, 3),
        (a_node(16, 1), 1, 0.25, 4),
        (a_node(16, 1), 1, 0.1, 10),
        (a_node(16, 2), 1, 0.6, 2),  # by the sum it would be three: a trial is on one GPU
        (a_node(16, 3), 1, 0.4, 6),
        (a_node(16, 3), 1, 1, 3),
        (a_node(16, 3), 1, 2, 1),
        (a_node(2, 4), 1, 0.25, 2),  # CPUs are short
        (a_node(16, 0), 1, 0.25, 0),
        (a_node(0, 4), 1, 0.25, 0),
    ],
)
def test_trials_fit_on_a_node_by_what_is_short_and_share_no_gpu_of_two(node, cpus, gpus, fit):
    assert trials_on(node, cpus, gpus) == fit


def test_slots_are_summed_over_nodes_and_not_divided_from_the_sum():
    machines = [a_node(0), a_node(3), a_node(3), a_node(16, 1), a_node(2, 8)]
    assert count_slots(an_options(address="auto", cpus_per_trial=2), machines) == 0 + 1 + 1 + 8 + 1
    on_gpus = {"gpus_per_trial": 0.25, "device": "cuda"}
    assert count_slots(an_options(address="auto", **on_gpus), machines) == 4 + 2
    assert count_slots(an_options(address="auto", max_concurrent=5, **on_gpus), machines) == 5


def test_a_cluster_without_room_counts_as_one_and_a_machine_without_room_is_refused():
    assert count_slots(an_options(address="auto", gpus_per_trial=1), [a_node(0)]) == 1
    with pytest.raises(InputError, match=r"A trial needs 9 CPUs and 0 GPUs; this machine has 8 and 0\."):
        count_slots(an_options(cpus_per_trial=9), [a_node(8)])


def test_a_cluster_that_cannot_grow_is_refused_and_one_that_can_is_waited_for(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(nodes, "AUTOSCALER_FILE", str(tmp_path / "none.yaml"))
    options = an_options(address="auto", gpus_per_trial=0.25)
    nodes._check_room(options, [a_node(4, 1)])
    with pytest.raises(InputError, match=r"`--address auto`: a trial needs 1 CPUs and 0.25 GPUs on one node: a has 4 "):
        nodes._check_room(options, [a_node(4, name="a"), a_node(0, 1, name="b")])
    assert capsys.readouterr().err == ""
    told = "No node can run a trial yet (it needs 1 CPUs and 0.25 GPUs); the study waits for one.\n"
    nodes._check_room(options, [a_node(0)])  # a head, and no worker yet
    assert capsys.readouterr().err == told
    (tmp_path / "some.yaml").write_text("")
    monkeypatch.setattr(nodes, "AUTOSCALER_FILE", str(tmp_path / "some.yaml"))
    nodes._check_room(options, [a_node(4)])
    assert capsys.readouterr().err == told


def test_parts_of_the_users_own_are_those_that_trials_import():
    model = resolve_study(SMOKE, an_options(space="smoke", model="mine.parts:build", arms=("focal", "mine:poly")))
    assert own_parts(model) == ["mine.parts:build", "mine:poly"]
    assert own_parts(SMOKE) == []


def test_a_cluster_whose_nodes_are_alike_passes_and_nothing_is_left(cluster, another, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    another()
    study, options = a_study()
    check_nodes(study, options)
    assert files_of(options) == []
    names = [node.name for node in nodes.alive()]
    assert len(names) == 3
    assert all(name.startswith(f"{socket.gethostname()} (") for name in names)


def test_a_node_with_another_version_is_named(another, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    installed = tmp_path / "installed" / "optuna-0.1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: optuna\nVersion: 0.1\n")
    another(PYTHONPATH=os.pathsep.join([str(installed.parent), os.environ.get("PYTHONPATH", "")]))
    study, options = a_study()
    mine = describe_environment()["optuna"]
    with pytest.raises(InputError, match=rf"^The node \S+ \(\S+\) cannot .*: its optuna is 0\.1 and not {mine}; all"):
        check_nodes(study, options)
    assert files_of(options) == []


def test_a_node_without_the_users_part_is_named_with_the_reason(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study, options = a_study(model="only_here:build")
    with pytest.raises(InputError, match=r"The part 'only_here:build' cannot be imported: ModuleNotFoundError"):
        check_nodes(study, options)


def test_storage_that_nodes_do_not_share_is_refused(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # that of the nodes is another
    study, options = a_study()
    monkeypatch.setattr(type(options), "folder", property(lambda _: nodes.Path("/proc/self/cwd/runs/s")))
    with pytest.raises(InputError, match="does not share the storage /proc/self/cwd/runs/s with this process"):
        check_nodes(study, options)
    assert files_of(options) == []


def test_storage_that_a_node_cannot_write_or_that_swallows_files_is_said(tmp_path):
    assert nodes.Probes(str(tmp_path / "gone")).write_trouble("probe").endswith("gone (No such file or directory)")
    storage = nodes.Probes(str(tmp_path))
    assert storage.write_trouble("probe") == ""
    assert storage.unseen("probe") == ""
    (tmp_path / "probe").write_text("another's")
    assert "does not share" in storage.unseen("probe")
    storage.remove(["probe", "gone"])
    assert "does not share" in storage.unseen("probe")


def test_a_bucket_is_probed_as_a_folder_is_and_one_that_a_node_may_not_read_is_said(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with serving_bucket() as bucket:
        storage = nodes.Probes(f"{bucket}/s")
        assert storage.write_trouble("probe") == ""
        question = {"environment": describe_environment(), "storage": f"{bucket}/s", "probe": "probe", "parts": []}
        assert nodes.examine({**question, "cuda": False}, "a", has_gpu=False) == ""
        assert sorted(list_objects(bucket)) == ["s/probe", "s/probe-a"]
        storage.remove(["probe", "probe-a", "gone"])
        study, options = a_study(bucket=bucket)
        with pytest.raises(InputError, match=r"^The node \S+ \(\S+\) cannot run this study's trials: it "):
            check_nodes(study, options)  # its processes began before the credentials were there
        assert list(list_objects(bucket)) == []


@pytest.mark.parametrize("built", ["13.0", None])
def test_cuda_is_refused_where_a_node_with_a_gpu_has_a_torch_without_it(tmp_path, monkeypatch, built):
    import torch

    monkeypatch.setattr(torch.version, "cuda", built)
    nodes.Probes(str(tmp_path)).write("probe")
    question = {"environment": describe_environment(), "storage": str(tmp_path), "probe": "probe", "parts": []}
    assert nodes.examine({**question, "cuda": False}, "a", has_gpu=True) == ""
    assert nodes.examine({**question, "cuda": True}, "b", has_gpu=False) == ""  # the head
    assert ("is built without CUDA" in nodes.examine({**question, "cuda": True}, "c", has_gpu=True)) == (not built)
