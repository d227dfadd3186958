"""The values that storage takes and returns: ranges, object facts, retry limits and tallies."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from catalog.errors import CorruptTableError
from catalog.location import Location


class ByteRange(NamedTuple):
    """A stretch of an object, in bytes."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store knows of an object without reading it.

    Attributes:
        location: where it is.
        size_bytes: its length.
        modified_at: when it was last written, by the clock of the store, with time zone.
        etag: changes with every write; pass it to `Storage.put_if_match` as it is.
    """

    location: Location
    size_bytes: int
    modified_at: datetime
    etag: str


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How passing faults of a remote store are retried, with exponential back-off and jitter.

    Attributes:
        retries_max: further tries of one request after its first.
        timeout_seconds: no try of a request begins later than this after its first.
        backoff_initial_seconds: the pause before the first retry.
        backoff_max_seconds: the longest pause.
        connect_timeout_seconds: limit of opening a connection.
        request_timeout_seconds: limit of one request, its body included.
    """

    retries_max: int = 8
    timeout_seconds: float = 90.0
    backoff_initial_seconds: float = 0.1
    backoff_max_seconds: float = 10.0
    connect_timeout_seconds: float = 5.0
    request_timeout_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class StorageTally:
    """What was done through a `Storage`; retries inside the client are not counted.

    Attributes:
        requests: calls to the store.
        bytes_read: bytes that came to this process.
        bytes_written: bytes that went out of it.
        bytes_copied: bytes that the store copied by itself; they are in neither of the others.
    """

    requests: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    bytes_copied: int = 0

    @property
    def bytes_out(self) -> int:
        """Bytes that came into being in the store, whoever moved them."""
        return self.bytes_written + self.bytes_copied

    def __add__(self, other: StorageTally) -> StorageTally:
        """Sum two tallies, such as those of two workers."""
        return StorageTally(
            self.requests + other.requests,
            self.bytes_read + other.bytes_read,
            self.bytes_written + other.bytes_written,
            self.bytes_copied + other.bytes_copied,
        )


class Meter:
    """A tally that grows, shared by threads; a pickled copy starts from zero."""

    __slots__ = ("_lock", "_tally")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tally = StorageTally()

    def __reduce__(self) -> tuple[type[Meter], tuple[()]]:
        """Start anew in the process that unpickles: each one reports its own use."""
        return (Meter, ())

    def add(
        self,
        *,
        requests: int = 0,
        bytes_read: int = 0,
        bytes_written: int = 0,
        bytes_copied: int = 0,
    ) -> None:
        """Count what has just happened."""
        with self._lock:
            self._tally += StorageTally(requests, bytes_read, bytes_written, bytes_copied)

    def read(self) -> StorageTally:
        """Return the counts so far."""
        with self._lock:
            return self._tally


def require_length(location: Location, wanted: ByteRange, found_bytes: int) -> None:
    """Refuse a range that reaches past the end of its object.

    Raises:
        CorruptTableError: the object is shorter than its metadata says.
    """
    if found_bytes != wanted.length:
        raise CorruptTableError(
            f"{location} is truncated: {wanted.length} bytes expected at {wanted.offset},"
            f" {found_bytes} found"
        )
