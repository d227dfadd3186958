"""What driver and worker say to each other, over one socket pair per worker.

A frame is its length and a pickle. The driver sends `Hello` once and then lists of `Task`; the
worker runs them in order and answers with lists of `Done`. Before it starts one it takes a token
that came with it: tokens that the driver takes back are tasks that will not start. The end of the
stream means that the other side is gone.
"""

import os
import pickle
import struct
from typing import Any, NamedTuple

from runtime.local.store import Packed, Piece, Pieces
from runtime.memory import Usage

FUNCTIONS_MAX = 256
"""Functions a worker keeps. Both sides forget all of them when one more would exceed it."""

_HEADER = struct.Struct("<Q")
_READ_BYTES = 256 << 10


class Hello(NamedTuple):
    """How to be like the driver."""

    sys_path: tuple[str, ...]
    environment: dict[str, str]
    directory: str
    session: str


class Task(NamedTuple):
    """One attempt.

    `function` is None when the worker has it already; `inputs` are the arguments in their order
    or, if `is_spread`, one tuple of them. `returns` is the number of results with a ref of their
    own, None for one. `stored_at` is the file for a result too large for the pipe.
    """

    id: int
    function_id: int
    function: Packed | None
    inputs: tuple[Piece | Pieces, ...]
    granted_bytes: int
    cpus: int
    stored_at: str
    returns: int | None
    is_spread: bool


class Done(NamedTuple):
    """How an attempt ended; a failure comes encoded, since only the task knows its classes."""

    id: int
    result: Packed | None
    failure: tuple[bytes, ...] | None
    usage: Usage
    input_rows: int
    output_rows: int
    retained_bytes: int


def send(fd: int, message: Hello | list[Task] | list[Done]) -> None:
    """Write one frame.

    Raises:
        OSError: The other side is gone.
    """
    body = pickle.dumps(message, protocol=5)
    view = memoryview(_HEADER.pack(len(body)) + body)
    while view:
        view = view[os.write(fd, view) :]


class Inbox:
    """Reads frames from a descriptor, as many at once as are there."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = bytearray()

    def receive(self) -> Any:
        """Wait for one frame; None at the end of the stream."""
        while not (messages := self._take(1)):
            if not self._fill():
                return None
        return messages[0]

    def available(self) -> list[Any] | None:
        """Read once and return what is complete; None at the end of the stream."""
        return self._take(None) if self._fill() else None

    def _fill(self) -> bool:
        try:
            chunk = os.read(self._fd, _READ_BYTES)
        except ConnectionResetError:
            return False
        self._buffer += chunk
        return bool(chunk)

    def _take(self, count: int | None) -> list[Any]:
        """Take complete frames from the buffer, so many at most."""
        messages: list[Any] = []
        start, have = 0, len(self._buffer)
        while have - start >= _HEADER.size and len(messages) != count:
            body = start + _HEADER.size
            end = body + _HEADER.unpack_from(self._buffer, start)[0]
            if have < end:
                break
            messages.append(pickle.loads(self._buffer[body:end]))  # noqa: S301 - one trust domain
            start = end
        del self._buffer[:start]
        return messages
