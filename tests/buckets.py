"""A bucket to test with: moto's S3 on loopback, which speaks the protocol of the real one."""

import contextlib
import os
import uuid
from collections.abc import Iterator

import boto3
from moto.server import ThreadedMotoServer

from trainables import bucket


@contextlib.contextmanager
def serving_bucket() -> Iterator[str]:
    """A new bucket, in this process's environment and that of those it starts; its address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    region = "eu-central-1"
    ours = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": region,
    }
    before = {key: os.environ.get(key) for key in ours}
    os.environ.update(ours)
    bucket._store.cache_clear()
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    try:
        boto3.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": region})
        yield f"s3://{name}"
    finally:
        server.stop()
        bucket._store.cache_clear()
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
