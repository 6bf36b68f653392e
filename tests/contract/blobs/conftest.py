"""The stores of blobs that the contract runs against."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from moto.server import ThreadedMotoServer
from obstore.store import S3Store

from stenobird.storage.blobs import BlobStore, open_blobs
from tests.support.free_port import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUCKET = "uploads-bucket"


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 of our own on loopback, with one bucket."""
    import boto3  # type: ignore[import-untyped]  # noqa: PLC0415  # slow to load, needed here only

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        ).create_bucket(Bucket=BUCKET)
        yield endpoint
    finally:
        server.stop()


@pytest.fixture(params=["folder", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BlobStore:
    """An empty store of each kind."""
    if request.param == "folder":
        return open_blobs(tmp_path / "blobs")
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    endpoint: str = request.getfixturevalue("s3_endpoint")
    prefix = tmp_path.name
    store = open_blobs(tmp_path, f"s3://{BUCKET}/{prefix}", endpoint=endpoint)
    assert isinstance(store._store, S3Store)
    return store
