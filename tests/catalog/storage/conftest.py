"""Stores that every storage test runs against."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from catalog.location import Location
from catalog.storage import Storage
from tests.catalog.storage.s3_server import new_bucket, s3_server, s3_storage


@dataclass(frozen=True)
class Place:
    """A storage and an empty prefix in it."""

    storage: Storage
    root: Location


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture(params=["local", "s3", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "local":
        return Place(Storage(), Location.parse(str(tmp_path)).child("table"))
    if request.param == "memory":
        return Place(Storage(), Location.parse(f"memory://{uuid.uuid4().hex}/table"))
    endpoint = request.getfixturevalue("s3_endpoint")
    return Place(s3_storage(endpoint), new_bucket(endpoint).child("table"))
