"""``cluster.yaml`` on EC2's double: the README's lines, a study in the bucket, a spot node taken back on the way.

Substituted are the bucket and the idle time. The set-up commands that would fetch uv, Python and the packages from the
internet are replaced by a link to this environment, at the place where they would make theirs. There is no GPU: Ray is
told of as many as the instance type has, and trials that ask for one train on the CPU.
"""

import re
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from tests.cluster import readme
from tests.cluster.aws.cloud import Cloud, environment
from tests.cluster.lab import HOME, ROOT, SHARED, Lab, Timeline, wait_until
from tests.end_to_end import whole_record

BUCKET, NAME = "bucket-of-mine", "s"
FILE = f"{HOME}/cluster.yaml"
STUDY = ("--space", "smoke", "--dataset", "fashion-mnist", "--arms", "cross_entropy,kl_div", "--stopping", "none")
BUDGET = ("--trials", "3", "--seeds", "3")
PLACES = ("--gpus-per-trial", "1", "--device", "cpu", "--max-concurrent", "2", "--name", NAME)
WENT_ON = re.compile(r"went on from its checkpoint, after epoch (\d+)")


def cluster_file():
    """The project's, with a bucket's name and no wish for the internet."""
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    config["metadata"]["bucket"] = BUCKET
    config["idle_timeout_minutes"] = 0.4
    from_internet = [command for command in config["setup_commands"] if "uv" in command]
    rest = [command for command in config["setup_commands"] if command not in from_internet]
    assert (len(from_internet), len(rest)) == (3, 1)
    config["setup_commands"] = [f"ln -sfn {sys.prefix} ~/env", *rest]
    return config


class Person:
    """Who types the README's lines at the laptop."""

    def __init__(self, lab, cloud, timeline):
        self.lab, self.cloud, self.timeline = lab, cloud, timeline
        self.lines = readme.commands()
        self.log = (lab.folder / "job.log").open("w")

    def type(self, line, *more, timeout=300):
        done = self.lab.laptop.run([*self._words(line), *more], timeout=timeout, folder=str(ROOT))
        (self.lab.folder / f"{line}.log").write_text(done.stdout)
        assert done.returncode == 0, done.stdout
        self.timeline.mark(" ".join(self.lines[line][:4]))
        return done.stdout

    def start(self, line, *more):
        self.timeline.mark(" ".join(self.lines[line][:4]))
        return self.lab.laptop.start([*self._words(line), *more], folder=str(ROOT), stdout=self.log, stderr=self.log)

    def open_ports(self):
        self.start("ui")
        jobs = ["curl", "-sf", "http://127.0.0.1:8265/api/version"]
        wait_until(lambda: self.lab.laptop.run(jobs, timeout=10).returncode == 0, 60, self.said)

    def look(self, command):
        """What a command on the head says."""
        ray = ["ray", "exec", FILE, f". ~/study.sh && cd ~/study && {command}"]
        return self.lab.laptop.run(ray, timeout=120, folder=str(ROOT)).stdout.replace("\r", "")

    def said(self):
        self.log.flush()
        return (self.lab.folder / "job.log").read_text()

    def _words(self, line):
        words = self.lines[line]
        if line == "ui":  # the environment is made already, and is another one
            words = [*words, "-o", ".venv/installed", f"BIN={Path(sys.executable).parent}", f"CLUSTER={FILE}"]
        if line == "submit":
            words = [*words[: words.index("study.launch") + 1]]
        return [{"cluster.yaml": FILE, "NAME": NAME}.get(word, word) for word in words]

    @property
    def head(self):
        (head,) = [i for i in self.cloud.instances() if kind(i) == "head"]
        return self.lab.machines[self.cloud.host(head)]

    def trials(self, head):
        """On record so far, by key."""
        folder = head.folder / "home" / "ubuntu"
        if not (folder / "mlflow.db").exists():
            return {}
        return {trial["tags"]["trial_id"]: trial for trial in whole_record.read(folder, NAME)[1]}

    def half_way(self, head):
        """A trial that runs, has a checkpoint in the bucket and four epochs to go; where it runs, how far it is."""
        for key, trial in self.trials(head).items():
            done = len(trial["values"].get("val_accuracy", ()))
            addresses = [address for address, method in self.cloud.requests(f"{key}.pt") if method == "PUT"]
            if trial["status"] == "RUNNING" and addresses and 0 < done <= int(trial["params"]["epochs"]) - 4:
                return key, addresses[-1], done
        return None

    def fetch_bucket(self):
        """All that outlives the cluster, in the folder where it is put; the studies' place is called as on a laptop."""
        code = f"""
            from pathlib import Path
            answer = []
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket={BUCKET!r}):
                for key in (found["Key"] for found in page.get("Contents", ()) if found["Size"]):
                    path = Path({SHARED!r}) / "bucket" / ("runs" + key[7:] if key.startswith("studies/") else key)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    s3.download_file({BUCKET!r}, key, str(path))
                    answer.append(key)
            """
        return self.cloud.ask(textwrap.dedent(code)), self.lab.shared / "bucket"


def kind(instance):
    return {tag["Key"]: tag["Value"] for tag in instance["Tags"]}["ray-user-node-type"]


@pytest.fixture
def person(tmp_path, request):
    timeline = Timeline(request.node.name)
    config = cluster_file()
    region, image = config["metadata"]["place"]
    ours = {**environment(region), "RAY_DEDUP_LOGS": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    with Lab(tmp_path, environment=ours) as lab:
        cloud = Cloud(lab, timeline, region=region, image=image)
        try:
            lab.laptop.write(FILE, yaml.safe_dump(config, sort_keys=False))
            timeline.mark("lab up")
            person = Person(lab, cloud, timeline)
            yield person
            person.log.close()
        finally:
            cloud.close()


@pytest.mark.timeout(2400)
def test_a_study_on_spot_nodes_survives_one_that_is_taken_back(person):
    cloud, timeline = person.cloud, person.timeline
    person.type("account")
    assert "AWS has its image, instance types, profiles and bucket" in person.type("check")
    person.type("up", "-y")
    person.open_ports()
    job = person.start("submit", *STUDY, *BUDGET, *PLACES)
    head = person.head

    def runs():
        assert cloud.trouble is None
        assert job.poll() is None, person.said()
        return person.half_way(head)

    key, address, done = wait_until(runs, 300, person.said)
    victim = cloud.take_back(address)
    timeline.mark(f"{key}, after epoch {done} on {victim}, lost its node")
    wait_until(lambda: job.poll() is not None or cloud.trouble, 400, person.said)
    assert (job.returncode, cloud.trouble) == (0, None), person.said()
    timeline.mark("study done")

    person.type("report", "--output", f"{HOME}/report")
    assert (person.lab.laptop.folder / HOME.removeprefix("/") / "report" / "report.html").stat().st_size > 100_000
    started = cloud.instances()
    assert_as_the_file_says(cloud, started)
    wait_until(lambda: not running(cloud, "gpu"), 120, "A node that is idle stays.")
    timeline.mark("idle nodes are gone")
    assert len(running(cloud, "head")) == 1
    person.type("down", "-y")
    wait_until(lambda: cloud.trouble or set(person.lab.machines) == {"laptop"}, 30, "A machine is left.")
    assert cloud.trouble is None
    assert {i["State"]["Name"] for i in cloud.instances()} == {"terminated"}
    assert len(cloud.instances()) == len(started)

    objects, folder = person.fetch_bucket()
    timeline.mark(f"{len(objects)} objects fetched from the bucket")
    trials, epochs = whole_record.check(folder, NAME)
    timeline.mark(f"record whole: {trials} trials, {epochs} epochs, each once")
    record = {trial["tags"]["trial_id"]: trial["tags"] for trial in whole_record.read(folder, NAME)[1]}
    assert {tags["node"] for tags in record.values()} <= {cloud.host(i) for i in started if kind(i) == "gpu"}
    assert record[key]["failures"] == "1"
    resumed_after = int(WENT_ON.search(record[key]["notice"])[1])
    readers = {place for place, method in cloud.requests(f"{key}.pt") if method == "GET"}
    assert resumed_after > 0
    assert readers
    assert address not in readers
    assert record[key]["node"] != victim
    timeline.mark(f"{key} went on after epoch {resumed_after} on {record[key]['node']}")

    person.type("up", "-y")
    assert re.search(rf"^{NAME} .* finished ", person.look("python -m study.launch --list"), re.MULTILINE)
    timeline.mark("a new head knows the study")
    person.type("down", "-y")
    assert [i["State"]["Name"] for i in cloud.instances()] == ["terminated"] * (len(started) + 1)


def running(cloud, of_kind):
    return [i for i in cloud.instances() if kind(i) == of_kind and i["State"]["Name"] == "running"]


def assert_as_the_file_says(cloud, instances):
    """Types, spot, zones, image, rights and what comes in, of the machines that really were started."""
    (head,) = [i for i in instances if kind(i) == "head"]
    workers = [i for i in instances if kind(i) == "gpu"]
    assert len(workers) >= 2
    region, image = cluster_file()["metadata"]["place"]
    for instance, type_, profile in [(head, "m6i.xlarge", "head"), *((i, "g5.xlarge", "worker") for i in workers)]:
        assert (instance["InstanceType"], instance["ImageId"]) == (type_, image)
        if instance["State"]["Name"] == "running":  # EC2's double forgets the rest of those that are gone
            assert instance["IamInstanceProfile"]["Arn"].endswith(f":instance-profile/training-choice-study-{profile}")
        assert {"Key": "project", "Value": "training-choice-study"} in instance["Tags"]
    assert "InstanceLifecycle" not in head
    assert {worker["InstanceLifecycle"] for worker in workers} == {"spot"}
    # The zone that is asked first has no GPU, so the next one was.
    assert head["Placement"]["AvailabilityZone"] == f"{region}c"
    assert {worker["Placement"]["AvailabilityZone"] for worker in workers} == {f"{region}b"}
    (group,) = {group["GroupId"] for i in instances for group in i["SecurityGroups"]}
    rules = cloud.ask(
        f"answer = ec2.describe_security_groups(GroupIds=[{group!r}])['SecurityGroups'][0]['IpPermissions']"
    )
    (inside,) = [rule for rule in rules if rule["IpProtocol"] == "-1"]
    assert ([pair["GroupId"] for pair in inside["UserIdGroupPairs"]], inside["IpRanges"]) == ([group], [])
    (ssh,) = [rule for rule in rules if rule is not inside]
    assert (ssh["IpProtocol"], ssh["FromPort"], ssh["ToPort"], ssh["UserIdGroupPairs"]) == ("tcp", 22, 22, [])
