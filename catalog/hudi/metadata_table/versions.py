"""Versions of a key: what the base file and the logs of a slice say of it, oldest first.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Version(NamedTuple):
    """What a base file or a log says of a key.

    Attributes:
        key: of the record.
        order: its place among all that the slice says of the key.
        record: None where the key is deleted.
        schema: the Avro schema of the record.
    """

    key: bytes
    order: int
    record: bytes | None
    schema: str


def since_deleted(versions: Sequence[Version]) -> Sequence[Version]:
    """Return the versions after the last one that deletes the key."""
    for number in range(len(versions) - 1, -1, -1):
        if versions[number].record is None:
            return versions[number + 1 :]
    return versions
