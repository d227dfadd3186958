"""Objects: small ones travel in the pipe, large ones are files of shared memory.

Files are created with write(2), so a full file system is an error of whoever writes and never a
signal to whoever reads, and mapped read-only; a file that is unlinked while mapped stays
readable, so the last reference may go at any time.
"""

import errno
import mmap
import os
import sys
from pathlib import Path
from typing import NamedTuple

from runtime.errors import Lost
from runtime.serialization import Buffer, Encoded, decode, in_memory, write_parts

INLINE_BYTES_MAX = 64 << 10
"""Objects up to this size go through the pipe: cheaper than a file of their own."""


class Inline(NamedTuple):
    """An object as its parts."""

    parts: tuple[bytes, ...]

    @property
    def size_bytes(self) -> int:
        """Size of all parts."""
        return sum(len(part) for part in self.parts)


class Stored(NamedTuple):
    """An object in a file, as (offset, length) of its parts."""

    path: str
    spans: tuple[tuple[int, int], ...]

    @property
    def size_bytes(self) -> int:
        """Size of all parts."""
        return sum(length for _, length in self.spans)


Packed = Inline | Stored


class SharedFile:
    """Owns the file of a stored object: the last reference to it removes the file."""

    __slots__ = ("_path", "_unlink")

    def __init__(self, path: str) -> None:
        self._path = path
        self._unlink = os.unlink  # a finalizer may run when modules are gone already

    def __del__(self) -> None:
        try:
            self._unlink(self._path)
        except FileNotFoundError:
            return  # the whole session is gone


def pack(encoded: Encoded, path: str) -> Packed:
    """Make an object of a value; a large one is written to `path`.

    Raises:
        OSError: The store is full. Nothing is left behind.
    """
    if encoded.size_bytes <= INLINE_BYTES_MAX:
        return Inline(tuple(in_memory(encoded)))
    try:
        return Stored(path, _write(encoded, path))
    except BaseException as error:
        Path(path).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EFBIG):
            raise OSError(
                error.errno, f"the object store is full ({encoded.size_bytes} bytes wanted)", path
            ) from error
        raise


def unpack(packed: Packed) -> object:
    """Rebuild a value; that of a stored object refers to its mapped file.

    Raises:
        Lost: The file is gone with its runtime.
    """
    if isinstance(packed, Inline):
        return decode(packed.parts)
    try:
        whole = _map(packed.path)
    except FileNotFoundError as error:
        raise Lost("the object is gone: its runtime was shut down") from error
    parts: list[Buffer] = [whole[start : start + length] for start, length in packed.spans]
    return decode(parts)


def _map(path: str) -> memoryview:
    """Map a file read-only. Arrow's mapping does not hold a descriptor for its life as mmap's."""
    memory_map = getattr(sys.modules.get("pyarrow"), "memory_map", None)
    if memory_map is not None:
        with memory_map(path) as file:
            return memoryview(file.read_buffer())
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - per object
        return memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))


def _write(encoded: Encoded, path: str) -> tuple[tuple[int, int], ...]:
    if encoded.has_arrow:
        import pyarrow as pa

        with pa.OSFile(path, "wb") as sink:
            return write_parts(encoded, sink)
    with open(path, "xb") as sink:  # noqa: PTH123 - per object
        return write_parts(encoded, sink)
