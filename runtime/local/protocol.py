"""What driver and worker say to each other, over one socket pair per worker.

A frame is its length and a pickle. The driver sends `Hello` once and then one `Task` at a time;
the worker answers each with one `Done`. The end of the stream means that the other side is gone.
"""

import os
import pickle
import struct
from typing import Any, NamedTuple

from runtime.local.store import Packed
from runtime.memory import Usage

FUNCTIONS_MAX = 256
"""Functions a worker keeps. Both sides forget all of them when one more would exceed it."""

_HEADER = struct.Struct("<Q")
_READ_BYTES = 256 << 10


class Hello(NamedTuple):
    """How to be like the driver."""

    sys_path: tuple[str, ...]
    python_path: str | None
    session: str


class Task(NamedTuple):
    """One attempt.

    `function` is None when the worker has it already; `inputs` are the arguments in their order.
    `stored_at` is the file for a result too large for the pipe.
    """

    id: int
    function_id: int
    function: Packed | None
    inputs: tuple[Packed, ...]
    granted_bytes: int
    cpus: int
    stored_at: str


class Done(NamedTuple):
    """How an attempt ended; a failure comes encoded, since only the task knows its classes."""

    id: int
    result: Packed | None
    failure: tuple[bytes, ...] | None
    usage: Usage
    retained_bytes: int


def send(fd: int, message: Hello | Task | Done) -> None:
    """Write one frame.

    Raises:
        OSError: The other side is gone.
    """
    body = pickle.dumps(message, protocol=5)
    view = memoryview(_HEADER.pack(len(body)) + body)
    while view:
        view = view[os.write(fd, view) :]


def receive(fd: int) -> Any:
    """Read one frame; None at the end of the stream."""
    header = _read(fd, _HEADER.size)
    body = _read(fd, _HEADER.unpack(header)[0]) if header else None
    return pickle.loads(body) if body else None  # noqa: S301 - one trust domain


def _read(fd: int, size_bytes: int) -> bytes | None:
    chunks: list[bytes] = []
    while size_bytes:
        try:
            chunk = os.read(fd, min(size_bytes, _READ_BYTES))
        except ConnectionResetError:
            return None
        if not chunk:
            return None
        chunks.append(chunk)
        size_bytes -= len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
