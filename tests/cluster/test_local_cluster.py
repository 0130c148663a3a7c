"""``cluster.local.yaml`` on three machines of the lab: the whole path, a worker lost, the head lost.

Substituted are addresses, user, key and folder. The set-up commands that would fetch uv, Python and the packages are
replaced by a link to this environment, at the place where they would make theirs: there is no internet here.
"""

import json
import re
import sys
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from study.confirm import checkpoint_path
from tests.cluster.lab import HOME, KEY, ROOT, SHARED, Lab, Timeline, wait_until
from tests.end_to_end import whole_record

HEAD, NEW_HEAD = "10.77.0.2", "10.77.0.3"
WORKERS = {"worker-1": "10.77.0.11", "worker-2": "10.77.0.12"}
#: Without this environment in it: that `ray` is found at all is the work of the set-up commands.
BARE = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
#: Ray counts the processors of the whole computer on each of the machines.
ONE_CPU = {**BARE, "RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": 1})}
ENVIRONMENT = {"RAY_DEDUP_LOGS": "0", "RAY_USAGE_STATS_ENABLED": "0"}
JOBS = "http://127.0.0.1:8265"
#: Where the machines keep it, under the names that the driver and its record use.
WHERE = ("--address", "auto", "--storage-path", f"{SHARED}/runs", "--tracking-uri", "http://127.0.0.1:5000")
STUDY = ("--space", "smoke", "--dataset", "fashion-mnist", "--arms", "cross_entropy,kl_div", "--stopping", "none")
NAME = "s"
FILE = f"{HOME}/cluster.local.yaml"
WENT_ON = re.compile(r"went on from its checkpoint, after epoch (\d+)")

pytestmark = pytest.mark.timeout(2400)


class Cluster:
    """Machines that are up, the cluster file that names them, and what a person at the laptop does."""

    def __init__(self, lab, timeline):
        self.lab, self.timeline = lab, timeline
        self.log = (lab.folder / "job.log").open("w")
        lab.add("head", HEAD, environment=BARE)
        for name, address in WORKERS.items():
            lab.add(name, address, environment=ONE_CPU)
        timeline.mark("lab up")

    def write_file(self, head):
        """The cluster file with this lab's addresses; the rest of it is what a user has."""
        cluster = yaml.safe_load((ROOT / "cluster.local.yaml").read_text())
        cluster["metadata"]["shared"] = SHARED
        cluster["provider"] |= {"head_ip": head, "worker_ips": list(WORKERS.values())}
        cluster["auth"] = {"ssh_user": "ubuntu", "ssh_private_key": KEY}
        from_internet = [command for command in cluster["setup_commands"] if "uv" in command]
        rest = [command for command in cluster["setup_commands"] if command not in from_internet]
        assert (len(from_internet), len(rest)) == (3, 1)
        cluster["setup_commands"] = [f"ln -sfn {sys.prefix} ~/env", *rest]
        self.lab.laptop.write(FILE, yaml.safe_dump(cluster))

    def type(self, *command, timeout=240):
        done = self.lab.laptop.run(command, timeout=timeout, folder=str(ROOT))
        assert done.returncode == 0, done.stdout
        return done.stdout

    def up(self):
        self.type("ray", "up", "-y", FILE)
        self.timeline.mark("ray up")
        forward = ["ray", "dashboard", FILE]
        self.lab.laptop.start(forward, stdout=self.log, stderr=self.log)
        jobs = ["curl", "-sf", f"{JOBS}/api/version"]
        wait_until(lambda: self.lab.laptop.run(jobs, timeout=10).returncode == 0, 60, self.said)

    def submit(self, *arguments):
        command = ["ray", "job", "submit", "--address", JOBS, "--working-dir", ".", "--"]
        study = ["python", "-m", "study.launch", *arguments, *WHERE]
        return self.lab.laptop.start([*command, *study], folder=str(ROOT), stdout=self.log, stderr=self.log)

    def down(self):
        self.type("ray", "down", "-y", FILE)
        self.timeline.mark("ray down")
        wait_until(lambda: not self.ray_processes(), 240, lambda: str(self.ray_processes()))
        self.timeline.mark("no process of Ray or MLflow left on any machine")

    def ray_processes(self):
        """On the head and the workers."""
        found = {}
        for name, machine in self.lab.machines.items():
            listed = machine.run(["ps", "-eo", "args", "--no-headers"], timeout=20).stdout.splitlines()
            ours = [line for line in listed if re.search(r"\bray|raylet|gcs_server|mlflow", line)]
            if ours and name != "laptop":
                found[name] = ours
        return found

    def trials(self):
        """On record so far, by key."""
        if not (self.lab.shared / "mlflow.db").exists():
            return {}
        return {trial["tags"]["trial_id"]: trial for trial in whole_record.read(self.lab.shared, NAME)[1]}

    def half_way(self):
        """How many epochs are on record of each trial that runs, has a checkpoint, and has at least two to go."""
        return {
            key: epochs
            for key, trial in self.trials().items()
            if trial["status"] == "RUNNING"
            and 0 < (epochs := epochs_of(trial)) <= int(trial["params"]["epochs"]) - 2
            and Path(checkpoint_path(self.lab.shared / "runs" / NAME, key)).is_file()
        }

    def said(self):
        self.log.flush()
        return (self.lab.folder / "job.log").read_text()


def epochs_of(trial):
    return len(trial["values"].get("val_accuracy", ()))


def signal_trial(machine, signal):
    """Whether there is a trial on the machine, which gets the signal."""
    return machine.run(["pkill", f"-{signal}", "-f", "^ray::[A-Za-z_]*Trainable"], timeout=20).returncode == 0


def resumed_from(trial):
    """The epoch after which a trial went on from its checkpoint; 0 if it did not."""
    found = WENT_ON.search(trial["tags"].get("notice", ""))
    return int(found[1]) if found else 0


@pytest.fixture
def cluster(tmp_path, request):
    with Lab(tmp_path, environment=ENVIRONMENT) as lab:
        cluster = Cluster(lab, Timeline(request.node.name))
        with closing(cluster.log):
            yield cluster


def test_a_worker_lost_in_mid_study_costs_epochs_and_nothing_of_the_record_and_is_used_when_it_is_back(cluster):
    cluster.write_file(HEAD)
    cluster.up()
    job = cluster.submit(*STUDY, "--trials", "3", "--seeds", "6", "--name", NAME)
    wait_until(cluster.trials, 120, cluster.said)
    cluster.timeline.mark("first trial on record")

    # Each worker has one processor and each trial takes one: of two that run, one is on each.
    before = wait_until(lambda: len(found := cluster.half_way()) == 2 and found, 200, cluster.said)
    lost = cluster.lab.machines["worker-1"]
    cluster.lab.remove("worker-1")
    cluster.timeline.mark(f"worker-1 killed; on record of the two trials that ran: {sorted(before.values())} epochs")

    wait_until(lambda: all(cluster.trials()[key]["status"] == "FINISHED" for key in before), 200, cluster.said)
    # It ran on the machine that was lost, since it failed; it went on, not from the start, on the other.
    ((key, failed),) = [(key, cluster.trials()[key]) for key in before if "failures" in cluster.trials()[key]["tags"]]
    assert resumed_from(failed) >= 1
    assert failed["tags"]["node"] == "worker-2"
    cluster.timeline.mark(f"both have ended; {key} went on on worker-2, after epoch {resumed_from(failed)}")
    known = set(cluster.trials())
    # On a fast computer the study could be over before Ray has missed the worker and started it again.
    survivor = cluster.lab.machines["worker-2"]
    wait_until(lambda: signal_trial(survivor, "STOP"), 60, cluster.said)
    back = cluster.lab.add("worker-1", WORKERS["worker-1"], environment=ONE_CPU, disk=lost.folder)
    cluster.timeline.mark("worker-1 switched on again; the trial on worker-2 is made to wait")
    wait_until(lambda: signal_trial(back, "CONT"), 240, cluster.said)
    cluster.timeline.mark("worker-1 has a trial; that on worker-2 may go on")
    assert signal_trial(survivor, "CONT")
    assert job.wait(400) == 0, cluster.said()
    cluster.timeline.mark("study done")

    trials, epochs = whole_record.check(cluster.lab.shared, NAME)
    cluster.timeline.mark(f"record whole: {trials} trials, {epochs} epochs, each once")
    assert trials == 2 * 3 + 3 * 6  # kl_div is confirmed a second time, as a control
    ended = cluster.trials()
    assert {trial["tags"]["node"] for trial in ended.values()} == set(WORKERS)
    assert [key] == [key for key, trial in ended.items() if "failures" in trial["tags"]]
    assert any(trial["tags"]["node"] == "worker-1" for key, trial in ended.items() if key not in known)
    cluster.down()


def test_the_head_lost_in_mid_study_is_replaced_by_another_machine_and_the_study_goes_on(cluster):
    cluster.write_file(HEAD)
    cluster.up()
    job = cluster.submit(*STUDY, "--trials", "3", "--seeds", "2", "--name", NAME)
    before = wait_until(cluster.half_way, 200, cluster.said)
    cluster.lab.remove("head")
    cluster.timeline.mark("head killed, the driver and MLflow with it")
    job.kill()

    cluster.lab.add("new-head", NEW_HEAD, environment=BARE)
    cluster.write_file(NEW_HEAD)
    cluster.up()
    # Nobody but a person knows that the process of another machine is no more.
    job = cluster.submit("--resume", NAME, "--force")
    assert job.wait(400) == 0, cluster.said()
    cluster.timeline.mark("study done")

    trials, epochs = whole_record.check(cluster.lab.shared, NAME)
    cluster.timeline.mark(f"record whole: {trials} trials, {epochs} epochs, each once")
    assert trials == 2 * 3 + 3 * 2
    ended = cluster.trials()
    went_on = {key: resumed_from(ended[key]) for key in before}
    cluster.timeline.mark(f"trials that ran when the head was lost went on after epoch {sorted(went_on.values())}")
    assert max(went_on.values()) >= 1
    cluster.down()
