"""The clusters' files: Ray takes them, EC2's double starts what they say, and seventeen mistakes are each refused."""

import copy
import os
from pathlib import Path

import boto3
import pytest
import yaml
from moto import mock_aws, settings
from moto.ec2.models import amis

from study import cluster_account, cluster_check

ROOT = Path(__file__).parents[2]
FILES = sorted(path.name for path in ROOT.glob("cluster*.yaml"))
BUCKET = "bucket-of-mine"


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    """An account with what the file needs, in a double of EC2 that refuses what EC2 would."""
    image = {"ami_id": image_of(filled_in("cluster.yaml")), "name": "with a driver", "owner_id": "898082745236"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        home = tmp_path_factory.mktemp("home")
        patch.setenv("HOME", str(home))
        (home / ".ssh").mkdir()
        (home / ".ssh" / "id_ed25519").touch()  # cluster.local.yaml opens the machines with it
        for key in [key for key in os.environ if key.startswith("AWS_")]:
            patch.delenv(key)
        for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(key, "testing")
        for name in ("EC2_ENABLE_INSTANCE_TYPE_VALIDATION", "ENABLE_KEYPAIR_VALIDATION", "ENABLE_AMI_VALIDATION"):
            patch.setattr(settings, name, True)
        patch.setattr(amis, "AMIS", [{**image, "architecture": "x86_64", "public": True, "state": "available"}])
        with mock_aws():
            list(cluster_account.prepare(filled_in("cluster.yaml")))
            yield


@pytest.fixture(scope="module")
def machines(aws):
    """The file as Ray completes it, and one machine of each type, as EC2 describes it."""
    config, provider = through_ray(filled_in("cluster.yaml"))
    return config, started(config, provider)


def filled_in(name):
    """A file's content with what a user must say."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return yaml.safe_load(text.replace("your-bucket", BUCKET).replace("your-", "my-"))


def image_of(config):
    (image,) = {node["node_config"]["ImageId"] for node in config["available_node_types"].values()}
    return image


def written(config, tmp_path):
    path = tmp_path / "edited.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def refusals(config, tmp_path, capsys):
    """What the command says of a file; nothing if it accepts it."""
    code = cluster_check.main([str(written(config, tmp_path))])
    said = capsys.readouterr().err.splitlines()
    assert code == (2 if said else 0)
    return said


def through_ray(config):
    """What `ray up` makes of a file before it starts a machine, and the provider that would start it."""
    from ray.autoscaler._private.providers import _NODE_PROVIDERS
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(copy.deepcopy(config))
    provider = _NODE_PROVIDERS[config["provider"]["type"]](config["provider"])
    config = provider.fillout_available_node_types_resources(config)
    validate_config(config)
    config = provider.bootstrap_config(config)
    return config, provider(config["provider"], config["cluster_name"])


def started(config, provider):
    """One machine of each type, as EC2 describes it."""
    ec2 = boto3.client("ec2", region_name=config["provider"]["region"])
    found = {}
    for kind, node in config["available_node_types"].items():
        tags = {"ray-node-kind": kind, "ray-launch-config": "x", "ray-user-node-type": kind}
        (name,) = provider.create_node(node["node_config"], tags, 1)
        found[kind] = ec2.describe_instances(InstanceIds=[name])["Reservations"][0]["Instances"][0]
    return found


def test_the_file_says_what_to_edit_in_four_lines():
    text = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
    below = text.split("Edit these four lines")[1].split("metadata:\n")[1]
    edited = below.split("\n\n")[0].splitlines()
    assert [line.split(":")[0].strip() for line in edited] == ["place", "bucket", "workers", "most_workers"]
    config = filled_in("cluster.yaml")
    region, image = config["metadata"]["place"]
    assert (config["provider"]["region"], image_of(config)) == (region, image)
    worker = config["available_node_types"]["gpu"]
    assert worker["node_config"]["InstanceType"] == config["metadata"]["workers"]
    assert worker["max_workers"] == config["max_workers"] == config["metadata"]["most_workers"]


def test_what_must_be_filled_in_is_asked_for(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert cluster_check.main(["cluster.yaml"]) == 2
    assert capsys.readouterr().err == ("cluster.yaml: `metadata.bucket` must be said by you; got 'your-bucket'.\n")


def test_every_machine_of_ones_own_must_be_named(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cluster_check.main(["cluster.local.yaml"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "cluster.local.yaml: `provider.head_ip` must be said by you; got 'your-head'.",
        "cluster.local.yaml: `provider.worker_ips` must be said by you; got 'your-worker'.",
        "cluster.local.yaml: `provider.worker_ips` must be said by you; got 'your-other-worker'.",
        "cluster.local.yaml: `auth.ssh_private_key`: there is no ~/.ssh/id_ed25519.",
    ]


def test_ec2_starts_what_the_file_says(machines):
    config, machines = machines
    resources = {kind: node["resources"] for kind, node in config["available_node_types"].items()}
    assert resources["head"]["CPU"] == 0
    assert (resources["gpu"]["CPU"], resources["gpu"]["GPU"]) == (4, 1)
    assert config["provider"]["cache_stopped_nodes"] is False
    head, worker = machines["head"], machines["gpu"]
    assert (head["InstanceType"], worker["InstanceType"]) == ("m6i.xlarge", "g5.xlarge")
    assert ("InstanceLifecycle" in head, worker["InstanceLifecycle"]) == (False, "spot")
    for kind, machine, profile in (("head", head, "head"), ("gpu", worker, "worker")):
        assert machine["ImageId"] == image_of(filled_in("cluster.yaml"))
        assert machine["IamInstanceProfile"]["Arn"].endswith(f":instance-profile/training-choice-study-{profile}")
        assert {"Key": "project", "Value": "training-choice-study"} in machine["Tags"]
        assert {"Key": "ray-cluster-name", "Value": "training-choice-study"} in machine["Tags"]
        assert machine["KeyName"] == "ray-autoscaler_us-east-2"
        assert len(zones_of(config, kind)) > 1


def zones_of(config, kind):
    ec2 = boto3.client("ec2", region_name=config["provider"]["region"])
    subnets = config["available_node_types"][kind]["node_config"]["SubnetIds"]
    return {subnet["AvailabilityZone"] for subnet in ec2.describe_subnets(SubnetIds=subnets)["Subnets"]}


def test_disks_are_encrypted_tagged_and_go_with_their_machine(machines):
    config, machines = machines
    disks = boto3.client("ec2", region_name=config["provider"]["region"]).describe_volumes()["Volumes"]
    assert len(disks) == 2
    for disk in disks:
        assert (disk["Size"], disk["VolumeType"], disk["Encrypted"]) == (120, "gp3", True)
        assert {"Key": "project", "Value": "training-choice-study"} in disk["Tags"]
    for machine in machines.values():
        assert [disk["Ebs"]["DeleteOnTermination"] for disk in machine["BlockDeviceMappings"]] == [True]


def test_nothing_but_ssh_comes_in_from_outside(machines):
    config, _ = machines
    (group,) = {
        group for node in config["available_node_types"].values() for group in node["node_config"]["SecurityGroupIds"]
    }
    ec2 = boto3.client("ec2", region_name=config["provider"]["region"])
    (found,) = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    assert found["GroupName"] == "training-choice-study"
    assert {
        (
            rule["IpProtocol"],
            rule.get("FromPort"),
            tuple(range_["CidrIp"] for range_ in rule["IpRanges"]),
            tuple(pair["GroupId"] for pair in rule["UserIdGroupPairs"]),
        )
        for rule in found["IpPermissions"]
    } == {("-1", rule_port(found), (), (group,)), ("tcp", 22, ("0.0.0.0/0",), ())}


def rule_port(group):
    return next(rule.get("FromPort") for rule in group["IpPermissions"] if rule["IpProtocol"] == "-1")


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_accepted(name, aws, tmp_path, capsys):
    assert refusals(filled_in(name), tmp_path, capsys) == []


def gpu(config):
    return config["available_node_types"]["gpu"]


def rename(mapping, old, new):
    mapping[new] = mapping.pop(old)


def without_autoscaling_config(config):
    starts = config["head_start_ray_commands"]
    starts[-1] = starts[-1].replace("--autoscaling-config=~/ray_bootstrap_config.yaml", "")


MISTAKES = {
    "a typo in a top-level key": (
        lambda c: rename(c, "idle_timeout_minutes", "idle_timeout_minute"),
        "`idle_timeout_minute` is not an option; did you mean 'idle_timeout_minutes'?",
    ),
    "a typo in a node type's key": (
        lambda c: rename(gpu(c), "max_workers", "max_worker"),
        "`available_node_types.gpu.max_worker` is not an option; did you mean 'max_workers'?",
    ),
    "a typo in a provider's key": (
        lambda c: rename(c["provider"], "cache_stopped_nodes", "cache_stoped_nodes"),
        "`provider.cache_stoped_nodes` is not an option; did you mean 'cache_stopped_nodes'?",
    ),
    "a typo in a node_config key": (
        lambda c: rename(gpu(c)["node_config"], "IamInstanceProfile", "IAMInstanceProfile"),
        (
            "`available_node_types.gpu.node_config.IAMInstanceProfile` is not an option of EC2; did you mean"
            " 'IamInstanceProfile'?"
        ),
    ),
    "an unknown instance type": (
        lambda c: gpu(c)["node_config"].update(InstanceType="g5.huge"),
        "`available_node_types.gpu.node_config.InstanceType` has no such value: 'g5.huge'",
    ),
    "an unknown image": (
        lambda c: gpu(c)["node_config"].update(ImageId="ami-0123456789abcdef0"),
        "`available_node_types.gpu.node_config.ImageId`: us-east-2 has no image ami-0123456789abcdef0.",
    ),
    "an unknown region": (
        lambda c: c["provider"].update(region="us-middle-2"),
        "`provider.region` must be a region of EC2; got 'us-middle-2'",
    ),
    "a zone of another region": (
        lambda c: c["provider"].update(availability_zone="us-east-2a,us-west-2b"),
        "`provider.availability_zone` must lie in us-east-2; got 'us-west-2b'.",
    ),
    "a head type that does not exist": (
        lambda c: c.update(head_node_type="haed"),
        "`head_node_type` must be one of head, gpu; got 'haed'.",
    ),
    "an idle timeout as text": (
        lambda c: c.update(idle_timeout_minutes="10m"),
        "`idle_timeout_minutes`: '10m' is not of type 'number'.",
    ),
    "an ssh key without KeyName": (
        lambda c: c["auth"].update(ssh_private_key="README.md"),
        "`available_node_types.head.node_config` must say its KeyName, since `auth.ssh_private_key` is given.",
    ),
    "a missing source of a file mount": (
        lambda c: c["file_mounts"].update({"~/study/data": "no-such-folder"}),
        f"`file_mounts.~/study/data`: there is no no-such-folder in {ROOT}.",
    ),
    "a market that is none": (
        lambda c: gpu(c)["node_config"].update(InstanceMarketOptions={"MarketType": "spott"}),
        (
            "`available_node_types.gpu.node_config.InstanceMarketOptions.MarketType` has no such value: 'spott'; did"
            " you mean 'spot'?"
        ),
    ),
    "more workers at least than at most": (
        lambda c: gpu(c).update(min_workers=3, max_workers=2),
        "`available_node_types.gpu`: `min_workers`, 3, must be at most `max_workers`, 2.",
    ),
    "a head that does not know its file": (
        without_autoscaling_config,
        "`head_start_ray_commands`: the head needs `--autoscaling-config=~/ray_bootstrap_config.yaml`.",
    ),
    "more GPUs than the machine has": (
        lambda c: gpu(c).update(resources={"GPU": 4}),
        "`available_node_types.gpu.resources.GPU`: g5.xlarge has 1; got 4.",
    ),
    "tags for a thing that is none": (
        lambda c: gpu(c)["node_config"].update(TagSpecifications=[{"ResourceType": "instances", "Tags": []}]),
        (
            "`available_node_types.gpu.node_config.TagSpecifications.0.ResourceType` has no such value: 'instances';"
            " did you mean 'instance'?"
        ),
    ),
}


def test_there_are_seventeen():
    assert len(MISTAKES) == 17


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_refused_in_one_line(mistake, aws, tmp_path, capsys):
    plant, expected = MISTAKES[mistake]
    config = editable()
    plant(config)
    first, *others = refusals(config, tmp_path, capsys)
    assert first.startswith(f"{tmp_path}/edited.yaml: {expected}")
    # Without its key both types of node lack a name.
    assert len(others) == (1 if mistake == "an ssh key without KeyName" else 0)


def editable():
    """The file without anchors, so that one node type can be edited alone."""
    return yaml.safe_load(yaml.dump(filled_in("cluster.yaml"), Dumper=Plain, sort_keys=False))


class Plain(yaml.SafeDumper):
    """Writes what is said twice twice."""

    def ignore_aliases(self, data):
        return True


OTHER_MISTAKES = {
    "no provider": (lambda c: c.pop("provider"), "`the file`: 'provider' is a required property."),
    "another cloud": (lambda c: c["provider"].update(type="gpc"), "`provider.type` must be one of aws, gcp, local"),
    "an address for a bucket": (
        lambda c: c["metadata"].update(bucket="s3://mine"),
        "`metadata.bucket` must be the name",
    ),
    "more workers than altogether": (
        lambda c: gpu(c).update(min_workers=9, max_workers=9),
        "`max_workers` must be at least the sum of `min_workers`, 9; got 8.",
    ),
    "a bucket that is not there": (
        lambda c: c["metadata"].update(bucket="another-bucket"),
        "`metadata.bucket`: the account has no bucket 'another-bucket'; make it with `python -m study.",
    ),
    "a profile that is not there": (
        lambda c: gpu(c)["node_config"].update(IamInstanceProfile={"Name": "nobody"}),
        "`available_node_types.gpu`: the account has no instance profile 'nobody'",
    ),
    "a zone that is not there": (
        lambda c: c["provider"].update(availability_zone="us-east-2x"),
        "`provider.availability_zone`: us-east-2 has no us-east-2x, but us-east-2a,",
    ),
    "no image": (
        lambda c: gpu(c)["node_config"].pop("ImageId"),
        "`available_node_types.gpu.node_config` must say its ImageId.",
    ),
    "a number as text": (
        lambda c: gpu(c)["node_config"]["BlockDeviceMappings"][0]["Ebs"].update(VolumeSize="120"),
        "`available_node_types.gpu.node_config.BlockDeviceMappings.0.Ebs.VolumeSize` must be a integer; got '120'.",
    ),
    "an open dashboard": (
        lambda c: c.update(head_start_ray_commands=["ray start --head --autoscaling-config=~/x"]),
        "`head_start_ray_commands`: the dashboard has no login; it needs `--dashboard-host=127.0.0.1`.",
    ),
    "a head without Ray": (
        lambda c: c.update(head_start_ray_commands=["true"]),
        "`head_start_ray_commands` must start Ray",
    ),
    "no set-up": (lambda c: c.pop("setup_commands"), "`setup_commands` must install what a node needs"),
}


@pytest.mark.parametrize("mistake", OTHER_MISTAKES)
def test_other_mistakes_are_refused(mistake, aws, tmp_path, capsys):
    plant, expected = OTHER_MISTAKES[mistake]
    config = editable()
    plant(config)
    assert refusals(config, tmp_path, capsys)[0].startswith(f"{tmp_path}/edited.yaml: {expected}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [", "is not YAML:"),
        ("- a", "must hold keys and values."),
        (None, "cannot be read (No such file or directory)."),
    ],
)
def test_a_file_that_is_none_is_refused(text, expected, tmp_path, capsys):
    path = tmp_path / "edited.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert cluster_check.main([str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path}: {expected}")


def test_without_credentials_it_says_that_nobody_was_asked(aws, tmp_path, capsys, monkeypatch):
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(key)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert cluster_check.main([str(written(filled_in("cluster.yaml"), tmp_path))]) == 0
    assert "AWS was not asked: Unable to locate credentials." in capsys.readouterr().out
