"""A bucket of a real S3 service on this machine."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def object_store():
    """An S3 service on this machine."""
    pytest.importorskip("moto")
    import boto3
    import fsspec
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in keys.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").clear_instance_cache()
        boto3.client("s3").create_bucket(Bucket="spacex")
        yield "s3://spacex"
        _close()
    server.stop()


def _close() -> None:
    """Close the connections of zarr's asynchronous file systems, which nobody else closes, and forget them."""
    import s3fs
    from zarr.core.sync import sync

    for system in list(s3fs.S3FileSystem._cache.values()):
        creator = getattr(system, "_s3creator", None)
        if system.asynchronous and creator is not None:
            sync(creator.__aexit__(None, None, None))
    s3fs.S3FileSystem.clear_instance_cache()
