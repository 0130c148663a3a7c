"""``python -m study.cluster_account cluster.yaml``: the bucket and the rights that its machines need, made once."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from analysis.command import leave, refusal
from analysis.plain import plain
from study.cluster_check import check_file, read_command
from trainables.config import InputError

DESCRIPTION = """\
Makes, in the AWS account of your credentials, what the file names and does not exist yet:
  the bucket, closed to the public
  the workers' instance profile: may read and write this bucket, nothing else
  the head's: likewise, and may start, tag and end instances
  the account's right to use spot instances
What exists is left as it is, but for the two roles' policies, which become those of this file.
"""
EPILOG = """\
exit codes: 0 done, 1 AWS refused, 2 bad input (one line each)
"""
POLICY = "training-choice-study"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
#: What Ray's autoscaler asks of EC2 on the head.
OF_THE_HEAD = ("ec2:Describe*", "ec2:RunInstances", "ec2:TerminateInstances", "ec2:CreateTags")


def prepare(config: Mapping[str, Any]) -> Iterator[str]:
    """Make what a file needs; may run again.

    Args:
        config: The file's content, without mistakes.

    Yields:
        One line per thing that was made.
    """
    import boto3  # noqa: PLC0415 - half a second
    from botocore.exceptions import ClientError  # noqa: PLC0415

    session = boto3.session.Session(region_name=config["provider"]["region"])
    iam, bucket = session.client("iam"), config["metadata"]["bucket"]
    with _unless_there_is(ClientError, "BucketAlreadyOwnedByYou"):
        _make_bucket(session.client("s3"), bucket, config["provider"]["region"])
        yield f"the bucket {bucket}"
    with _unless_there_is(ClientError, "InvalidInput", "EntityAlreadyExists"):
        iam.create_service_linked_role(AWSServiceName="spot.amazonaws.com")
        yield "the right to use spot instances"
    workers: list[str] = []
    nodes = config["available_node_types"].items()
    # The head last: it is allowed to hand the workers' roles on.
    for kind, node in sorted(nodes, key=lambda item: item[0] == config["head_node_type"]):
        name = node["node_config"].get("IamInstanceProfile", {}).get("Name")
        if name is None:
            continue
        statements = _use_of(bucket)
        if kind == config["head_node_type"]:
            statements.append({"Effect": "Allow", "Action": list(OF_THE_HEAD), "Resource": "*"})
            if workers:
                statements.append({"Effect": "Allow", "Action": "iam:PassRole", "Resource": workers})
        with _unless_there_is(ClientError, "EntityAlreadyExists"):
            iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))
            yield f"the role {name}"
        policy = {"Version": "2012-10-17", "Statement": statements}
        iam.put_role_policy(RoleName=name, PolicyName=POLICY, PolicyDocument=json.dumps(policy))
        with _unless_there_is(ClientError, "EntityAlreadyExists"):
            iam.create_instance_profile(InstanceProfileName=name)
            iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
            yield f"the instance profile {name}"
        workers.append(iam.get_role(RoleName=name)["Role"]["Arn"])


def _make_bucket(s3: Any, bucket: str, region: str) -> None:
    # The one region that must not be said.
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket=bucket, **where)
    rules = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=dict.fromkeys(rules, True))


def _use_of(bucket: str) -> list[dict[str, Any]]:
    files = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    return [
        {"Effect": "Allow", "Action": files, "Resource": f"arn:aws:s3:::{bucket}/*"},
        {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetBucketLocation"], "Resource": f"arn:aws:s3:::{bucket}"},
    ]


@contextlib.contextmanager
def _unless_there_is(kind: type[Exception], *codes: str) -> Iterator[None]:
    try:
        yield
    except kind as error:
        if getattr(error, "response", {}).get("Error", {}).get("Code") not in codes:
            raise


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    try:
        path = read_command("study.cluster_account", DESCRIPTION, EPILOG, argv)
    except InputError as error:
        print(f"study.cluster_account: {refusal(error)}", file=sys.stderr)  # noqa: T201 - the message
        return 2
    config, mistakes = check_file(path)
    if not mistakes and (config["provider"]["type"] != "aws" or "bucket" not in config.get("metadata", {})):
        mistakes = ["must be of the provider aws and name its `metadata.bucket`."]
    for mistake in mistakes:
        print(plain(f"{path}: {mistake}"), file=sys.stderr)  # noqa: T201 - the messages
    return 2 if mistakes else _prepare(config)


def _prepare(config: Mapping[str, Any]) -> int:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - half a second

    made = 0
    try:
        for what in prepare(config):
            print(plain(f"made {what}"))  # noqa: T201 - the message
            made += 1
    except (BotoCoreError, ClientError) as error:
        print(plain(f"study.cluster_account: {' '.join(str(error).split())}"), file=sys.stderr)  # noqa: T201
        return 1
    if not made:
        print("everything was there")  # noqa: T201 - the message
    return 0


if __name__ == "__main__":
    leave(main())
