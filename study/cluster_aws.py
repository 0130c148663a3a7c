"""A cluster's file and AWS: what EC2's own description refuses, and what only an account can tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from study.cluster_check import did_you_mean

#: Read by Ray from `node_config` besides the options of EC2's RunInstances.
OF_RAY = {"SubnetIds"}
#: Set by Ray.
SET_BY_RAY = {"MinCount", "MaxCount", "SubnetId"}
ANSWER_SECONDS = 10


class NobodyAskedError(Exception):
    """AWS could not be asked; says why."""


def check_aws(config: Mapping[str, Any]) -> Iterator[str]:
    """The mistakes of a file that has its types, against boto3's description of EC2; no network.

    Args:
        config: The file's content.

    Yields:
        One line per mistake.
    """
    import boto3  # noqa: PLC0415 - half a second
    import botocore.session  # noqa: PLC0415

    region = config["provider"].get("region")
    regions = boto3.session.Session().get_available_regions("ec2")
    if region not in regions:
        yield f"`provider.region` must be a region of EC2; got {region!r}{did_you_mean(str(region), regions)}"
        return
    zones = [zone.strip() for zone in config["provider"].get("availability_zone", "").split(",") if zone.strip()]
    for zone in zones:
        if not zone.startswith(region) or zone == region:
            yield f"`provider.availability_zone` must lie in {region}; got {zone!r}."
    shape = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    for name, node in config["available_node_types"].items():
        where = f"available_node_types.{name}.node_config"
        given = node["node_config"]
        for key in ("InstanceType", "ImageId"):
            if key not in given:
                yield f"`{where}` must say its {key}."
        if "ssh_private_key" in config.get("auth", {}) and not {"KeyName", "UserData"} & set(given):
            yield f"`{where}` must say its KeyName, since `auth.ssh_private_key` is given."
        for key in sorted(SET_BY_RAY & set(given)):
            yield f"`{where}.{key}` is set by Ray; leave it out."
        options = {key: value for key, value in given.items() if key not in OF_RAY}
        yield from _against_shape(options, shape, where)


def _against_shape(value: Any, shape: Any, where: str) -> Iterator[str]:
    """A value against botocore's description, deeper than botocore looks by itself: enumerations too."""
    types = {"structure": dict, "list": list, "string": str, "integer": int, "long": int, "boolean": bool}
    wanted = types.get(shape.type_name)
    if wanted is not None and (not isinstance(value, wanted) or (wanted is int and isinstance(value, bool))):
        yield f"`{where}` must be a {shape.type_name}; got {value!r}."
    elif shape.type_name == "structure":
        for key, inner in value.items():
            if key in shape.members:
                yield from _against_shape(inner, shape.members[key], f"{where}.{key}")
            else:
                yield f"`{where}.{key}` is not an option of EC2{did_you_mean(str(key), sorted(shape.members))}"
    elif shape.type_name == "list":
        for number, inner in enumerate(value):
            yield from _against_shape(inner, shape.member, f"{where}.{number}")
    elif getattr(shape, "enum", None) and value not in shape.enum:
        yield f"`{where}` has no such value: {value!r}{did_you_mean(str(value), shape.enum)}"


def ask_aws(config: Mapping[str, Any]) -> Iterator[str]:
    """What the account and the region do not have. Reads only.

    Args:
        config: A file's content without mistakes of its own.

    Yields:
        One line per thing that is missing.

    Raises:
        NobodyAskedError: Without credentials, the right to look, or a connection.
    """
    import boto3  # noqa: PLC0415 - half a second
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    session = boto3.session.Session(region_name=config["provider"]["region"])
    brief = Config(connect_timeout=ANSWER_SECONDS, read_timeout=ANSWER_SECONDS, retries={"total_max_attempts": 2})
    try:
        yield from _ask(config, lambda service: session.client(service, config=brief))
    except (BotoCoreError, ClientError) as error:
        raise NobodyAskedError(" ".join(str(error).rstrip(".").split())) from error


def _ask(config: Mapping[str, Any], client: Any) -> Iterator[str]:
    ec2, region = client("ec2"), config["provider"]["region"]
    in_region = {zone["ZoneName"] for zone in ec2.describe_availability_zones()["AvailabilityZones"]}
    asked = {zone.strip() for zone in config["provider"].get("availability_zone", "").split(",") if zone.strip()}
    for zone in sorted(asked - in_region):
        yield f"`provider.availability_zone`: {region} has no {zone}, but {', '.join(sorted(in_region))}."
    for name, node in config["available_node_types"].items():
        where, given = f"available_node_types.{name}", node["node_config"]
        if not _found(ec2.describe_images, "InvalidAMIID", ImageIds=[given["ImageId"]]).get("Images"):
            yield f"`{where}.node_config.ImageId`: {region} has no image {given['ImageId']}."
        offers = ec2.describe_instance_type_offerings(
            LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": [given["InstanceType"]]}]
        )["InstanceTypeOfferings"]
        offering = {offer["Location"] for offer in offers} & (asked or in_region)
        if not offering:
            yield f"`{where}.node_config.InstanceType`: no zone asked for in {region} has {given['InstanceType']}."
            continue
        yield from _check_resources(node, ec2, f"{where}.resources")
    yield from _ask_for_rights(config, client)


def _check_resources(node: Mapping[str, Any], ec2: Any, where: str) -> Iterator[str]:
    """More than the machine has would be promised to trials, which then wait for a GPU that is none."""
    instance = node["node_config"]["InstanceType"]
    (known,) = ec2.describe_instance_types(InstanceTypes=[instance])["InstanceTypes"]
    gpus = sum(gpu["Count"] for gpu in known.get("GpuInfo", {}).get("Gpus", ()))
    for resource, has in (("GPU", gpus), ("CPU", known["VCpuInfo"]["DefaultVCpus"])):
        said = node["resources"].get(resource, has)
        if said > has:
            yield f"`{where}.{resource}`: {instance} has {has}; got {said}."


def _ask_for_rights(config: Mapping[str, Any], client: Any) -> Iterator[str]:
    make = "make it with `python -m study.cluster_account`"
    for name, node in config["available_node_types"].items():
        profile = node["node_config"].get("IamInstanceProfile", {}).get("Name")
        if profile and not _found(client("iam").get_instance_profile, "NoSuchEntity", InstanceProfileName=profile):
            yield f"`available_node_types.{name}`: the account has no instance profile {profile!r}; {make}."
    bucket = config.get("metadata", {}).get("bucket")
    # Names of buckets are the world's: 403 is somebody else's.
    if bucket and not _found(client("s3").head_bucket, ("404", "403"), Bucket=bucket):
        yield f"`metadata.bucket`: the account has no bucket {bucket!r}; {make}."


def _found(look: Any, missing: str | tuple[str, ...], **what: Any) -> dict[str, Any]:
    """What a look returns; empty if it says that there is none."""
    from botocore.exceptions import ClientError  # noqa: PLC0415

    try:
        answer: dict[str, Any] = look(**what)
    except ClientError as error:
        if str(error.response["Error"]["Code"]).startswith(missing):
            return {}
        raise
    return answer
