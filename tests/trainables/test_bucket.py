"""Objects of a bucket, against a server that speaks S3."""

from pathlib import Path

import boto3
import pytest

from tests.buckets import serving_bucket
from trainables import bucket as bucket_module
from trainables.bucket import is_address, list_objects, read_object, remove_object, remove_objects, write_object


@pytest.fixture(scope="module")
def bucket():
    with serving_bucket() as address:
        yield address


@pytest.mark.parametrize("place", ["s3://bucket", "s3://bucket/key", "gs://bucket/key"])
def test_an_address_is_one(place):
    assert is_address(place)


@pytest.mark.parametrize("place", ["runs", "/runs/s3", "s3:/bucket", "ftp://host/file", "", Path("s3://bucket")])
def test_a_path_is_no_address(place):
    assert not is_address(place)


def test_an_object_is_replaced_read_listed_and_removed(bucket):
    address = f"{bucket}/folder/below/object.pt"
    write_object(address, b"first")
    write_object(address, b"ab", memoryview(b"cd" * 1_000_000))
    assert read_object(address) == b"ab" + b"cd" * 1_000_000
    write_object(f"{bucket}/folder/other", b"")
    assert read_object(f"{bucket}/folder/other") == b""
    assert sorted(list_objects(f"{bucket}/folder")) == ["below/object.pt", "other"]
    remove_object(address)
    assert list(list_objects(f"{bucket}/folder")) == ["other"]


def test_what_is_missing_is_said_listed_as_nothing_and_removed_in_peace(bucket):
    with pytest.raises(FileNotFoundError):
        read_object(f"{bucket}/none/here")
    assert list(list_objects(f"{bucket}/none")) == []
    remove_object(f"{bucket}/none/here")
    remove_objects(f"{bucket}/none")


def test_everything_below_an_address_goes_and_nothing_beside_it(bucket):
    for name in ("going/a", "going/b/c", "going/d/e", "going-too/f"):
        write_object(f"{bucket}/{name}", b"x")
    remove_object(f"{bucket}/going/d/e")
    remove_objects(f"{bucket}/going")
    assert list(list_objects(f"{bucket}/going")) == []
    assert list(list_objects(f"{bucket}/going-too")) == ["f"]
    # Nothing stands for a folder that is gone.
    found = boto3.client("s3").list_objects_v2(Bucket=bucket.removeprefix("s3://"), Prefix="going/")
    assert [entry["Key"] for entry in found.get("Contents", [])] == []


def test_a_bucket_that_does_not_exist_is_an_error_of_the_system(bucket):
    with pytest.raises(OSError, match="bucket"):
        write_object(f"{bucket}-not/object", b"x")
    with pytest.raises(OSError, match="there is no bucket"):
        read_object(f"{bucket}-not/object")


def test_a_store_that_is_gone_is_an_error_of_the_system(monkeypatch):
    with serving_bucket() as address:
        write_object(f"{address}/object", b"x")
        stores = bucket_module._store
        held = stores("s3", address.removeprefix("s3://"))
    monkeypatch.setattr(bucket_module, "_store", lambda scheme, name: held)
    with pytest.raises(OSError, match="connect"):
        write_object(f"{address}/object", b"y")
