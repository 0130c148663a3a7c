"""What a cluster needs of an account is made once, and is no more than it needs."""

import json
from pathlib import Path

import boto3
import pytest
import yaml
from moto import mock_aws

from study import cluster_account

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "testing")
    path = tmp_path / "cluster.yaml"
    path.write_text((ROOT / "cluster.yaml").read_text(encoding="utf-8").replace("your-bucket", "mine"))
    with mock_aws():
        yield path


def policy_of(role):
    policy = boto3.client("iam").get_role_policy(RoleName=role, PolicyName=cluster_account.POLICY)["PolicyDocument"]
    policy = policy if isinstance(policy, dict) else json.loads(policy)
    return {(action, *_listed(rule["Resource"])) for rule in policy["Statement"] for action in _listed(rule["Action"])}


def _listed(value):
    return [value] if isinstance(value, str) else value


def test_everything_is_made_once(file, capsys):
    assert cluster_account.main([str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "made the bucket mine",
        "made the right to use spot instances",
        "made the role training-choice-study-worker",
        "made the instance profile training-choice-study-worker",
        "made the role training-choice-study-head",
        "made the instance profile training-choice-study-head",
    ]
    assert cluster_account.main([str(file)]) == 0
    assert capsys.readouterr().out == "everything was there\n"


def test_workers_may_use_the_bucket_and_nothing_else(file):
    cluster_account.main([str(file)])
    assert {resource for _, *resources in policy_of("training-choice-study-worker") for resource in resources} == {
        "arn:aws:s3:::mine",
        "arn:aws:s3:::mine/*",
    }


def test_the_head_may_start_machines_and_hand_them_the_workers_role_alone(file):
    cluster_account.main([str(file)])
    rights = policy_of("training-choice-study-head")
    assert policy_of("training-choice-study-worker") < rights
    assert {right[0] for right in rights if right[1:] == ("*",)} == set(cluster_account.OF_THE_HEAD)
    ((_, *handed_on),) = [right for right in rights if right[0] == "iam:PassRole"]
    (worker,) = handed_on
    assert worker.endswith(":role/training-choice-study-worker")


def test_the_bucket_is_in_the_region_and_closed_to_the_public(file):
    cluster_account.main([str(file)])
    s3 = boto3.client("s3", region_name="us-east-2")
    assert s3.get_bucket_location(Bucket="mine")["LocationConstraint"] == "us-east-2"
    assert all(s3.get_public_access_block(Bucket="mine")["PublicAccessBlockConfiguration"].values())


def test_in_the_oldest_region_too(file):
    config = yaml.safe_load(file.read_text())
    config["provider"]["region"] = "us-east-1"
    assert "the bucket mine" in list(cluster_account.prepare(config))


def test_somebody_elses_bucket_is_aws_word_in_one_line(file, capsys, monkeypatch):
    monkeypatch.setenv("MOTO_ACCOUNT_ID", "222222222222")
    boto3.client("s3", region_name="us-east-2").create_bucket(
        Bucket="mine", CreateBucketConfiguration={"LocationConstraint": "us-east-2"}
    )
    monkeypatch.delenv("MOTO_ACCOUNT_ID")
    assert cluster_account.main([str(file)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("study.cluster_account: ")
    assert "BucketAlreadyExists" in line


def test_a_file_with_mistakes_makes_nothing(file, capsys):
    assert cluster_account.main(["cluster.yaml"]) == 2
    assert capsys.readouterr().err == "cluster.yaml: `metadata.bucket` must be said by you; got 'your-bucket'.\n"
    assert boto3.client("s3").list_buckets()["Buckets"] == []


def test_another_clouds_file_makes_nothing(file, capsys, tmp_path):
    path = tmp_path / "gcp.yaml"
    path.write_text((ROOT / "cluster.gcp.yaml").read_text(encoding="utf-8").replace("your-", "my-"))
    assert cluster_account.main([str(path)]) == 2
    assert capsys.readouterr().err == f"{path}: must be of the provider aws and name its `metadata.bucket`.\n"
