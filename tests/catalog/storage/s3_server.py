"""A real S3 protocol on loopback: moto's server, its buckets, and a storage that talks to it."""

from __future__ import annotations

import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from catalog.location import Location
from catalog.storage import RetryPolicy, Storage

QUICK_RETRY = RetryPolicy(
    retries_max=4, timeout_seconds=10, backoff_initial_seconds=0.01, backoff_max_seconds=0.05
)


@contextmanager
def s3_server() -> Iterator[str]:
    """Run the server; yields its endpoint."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def s3_properties(endpoint: str) -> Mapping[str, str]:
    return {
        "s3.endpoint": endpoint,
        "s3.region": "us-east-1",
        "s3.access-key-id": "test",
        "s3.secret-access-key": "test-secret",
    }


def s3_storage(endpoint: str) -> Storage:
    return Storage.from_properties(s3_properties(endpoint), retry=QUICK_RETRY)


def new_bucket(endpoint: str) -> Location:
    """Create a bucket of its own and return its root."""
    name = f"bucket-{uuid.uuid4().hex}"
    # The server does not check signatures; creating a bucket is a plain PUT.
    request = urllib.request.Request(f"{endpoint}/{name}", method="PUT")
    with urllib.request.urlopen(request) as reply:
        assert reply.status == 200
    return Location.parse(f"s3://{name}")
