"""Payloads: values in the form in which Ray stores, ships and maps them.

Ray keeps NumPy arrays out of its pickle stream and gives them back as views of shared memory, so
each large part travels as an array of bytes. A payload is returned by tasks, never put by them:
what a task returned is made again by Ray when the node that held it dies.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from runtime.api import Segments
from runtime.attempt import rebuild_failure
from runtime.errors import RuntimeFailure
from runtime.serialization import Buffer, decode, encode, in_memory

IN_STREAM_BYTES_MAX = 4 << 10
"""Parts up to this size are cheaper inside the pickle stream."""

Bytes = bytes | npt.NDArray[np.uint8]


class Payload(NamedTuple):
    """A value, the segments of one, or the failure of the task that should have made it.

    Attributes:
        segments: The parts of each segment; a plain value is the only one.
        is_segmented: Whether the value is the list of them.
        is_failure: Whether the value is a failure: a task that is run again for a lost object
            may fail where it did not before.
    """

    segments: tuple[tuple[Bytes, ...], ...]
    is_segmented: bool = False
    is_failure: bool = False

    @property
    def size_bytes(self) -> int:
        """Size of all parts."""
        return sum(len(part) for parts in self.segments for part in parts)


def pack(value: object) -> Payload:
    """Encode a value.

    Raises:
        Exception: Whatever the value's own pickling raises.
    """
    return Payload((_parts(value),))


def pack_segments(segments: Segments) -> Payload:
    """Encode values that are read one by one."""
    return Payload(tuple(map(_parts, segments.values)), is_segmented=True)


def pack_failure(failure: RuntimeFailure) -> Payload:
    """Encode why there is no value."""
    return Payload((_parts(failure),), is_failure=True)


def unpack(payload: Payload, segment: int | None = None) -> Any:
    """Rebuild a value, or one segment of it; large contents stay views of shared memory.

    Raises:
        RuntimeFailure: There is none.
    """
    if payload.is_failure:
        raise failure_of(payload)
    if segment is not None and payload.is_segmented:
        return _value(payload.segments[segment])
    values = [_value(parts) for parts in payload.segments]
    return values if payload.is_segmented else values[0]


def failure_of(payload: Payload) -> RuntimeFailure:
    """Rebuild a failure."""
    return rebuild_failure(lambda: _value(payload.segments[0]))


def _parts(value: object) -> tuple[Bytes, ...]:
    return tuple(map(_bytes, in_memory(encode(value))))


def _bytes(part: bytes) -> Bytes:
    return part if len(part) <= IN_STREAM_BYTES_MAX else np.frombuffer(part, np.uint8)


def _value(parts: Sequence[Bytes]) -> Any:
    buffers: list[Buffer] = [
        part if isinstance(part, bytes) else memoryview(part)  # type: ignore[arg-type]  # an array
        for part in parts
    ]
    return decode(buffers)
