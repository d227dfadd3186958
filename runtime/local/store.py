"""Objects: small ones travel in the pipe, large ones are files of shared memory.

Files are created with write(2), so a full file system is an error of whoever writes and never a
signal to whoever reads, and mapped read-only; a file that is unlinked while mapped stays
readable, so the last reference may go at any time.

A file holds the parts of one or more segments (values), then an index, then the index's length.
A file that was spilled lies under `spill/` in the same directory, with an index of its own.
"""

import ctypes
import errno
import functools
import mmap
import os
import weakref
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from runtime.api import Segments
from runtime.errors import Lost
from runtime.serialization import (
    ALIGNMENT_BYTES,
    ArrowStream,
    Buffer,
    Encoded,
    decode,
    encode,
    in_memory,
    write_parts,
)

INLINE_BYTES_MAX = 64 << 10
"""Objects up to this size go through the pipe: cheaper than a file of their own."""

PLAIN, ARROW, LZ4, FREED = range(4)
"""What a part is: bytes, an IPC stream, bytes as an LZ4 frame, or given back."""

_WORD_BYTES = 8
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class PartSpan(NamedTuple):
    """Where a part lies in its file; `raw_bytes` is its size before compression."""

    offset: int
    length: int
    kind: int
    raw_bytes: int


class Inline(NamedTuple):
    """An object as the parts of its segments; one that is no list has one segment."""

    segments: tuple[tuple[bytes, ...], ...]
    is_list: bool = False

    @property
    def size_bytes(self) -> int:
        """Size of all segments."""
        return sum(len(part) for parts in self.segments for part in parts)

    def segment_bytes(self, segment: int) -> int:
        """Size of one segment."""
        return sum(map(len, self.segments[segment]))


class Stored(NamedTuple):
    """An object in a file: segment i lies between bounds i and i + 1 (unsigned 64-bit words)."""

    path: str
    bounds: bytes
    is_list: bool = False

    @property
    def size_bytes(self) -> int:
        """Size of all segments."""
        words = memoryview(self.bounds).cast("Q")
        return words[-1] - words[0]

    def extent(self, segment: int) -> tuple[int, int]:
        """Return (offset, length) of a segment."""
        words = memoryview(self.bounds).cast("Q")
        return words[segment], words[segment + 1] - words[segment]

    def segment_bytes(self, segment: int) -> int:
        """Size of one segment."""
        return self.extent(segment)[1]


Packed = Inline | Stored


class Piece(NamedTuple):
    """An argument on its way to a task: an object, or one segment of it (None: all of it)."""

    packed: Packed
    segment: int | None = None

    @property
    def size_bytes(self) -> int:
        """Size of what the task will read."""
        if self.segment is None:
            return self.packed.size_bytes
        return self.packed.segment_bytes(self.segment)

    def trimmed(self) -> "Piece":
        """Return it without what the task does not read."""
        packed, segment = self
        if segment is None:
            return self
        if isinstance(packed, Inline):
            return Piece(Inline((packed.segments[segment],)))
        start, end = segment * _WORD_BYTES, (segment + 2) * _WORD_BYTES
        return Piece(packed._replace(bounds=packed.bounds[start:end]), segment)


class Pieces(NamedTuple):
    """An argument that is the list of several."""

    pieces: tuple[Piece, ...]


def segment_count(packed: Packed) -> int:
    """Return the number of segments of an object."""
    if isinstance(packed, Inline):
        return len(packed.segments)
    return len(packed.bounds) // _WORD_BYTES - 1


def encode_result(value: object) -> tuple[list[Encoded], bool]:
    """Encode what a task returned as segments; returns them and whether they make a list."""
    if isinstance(value, Segments):
        return [encode(segment) for segment in value.values], True
    return [encode(value)], False


def pack(segments: Sequence[Encoded], path: str, *, is_list: bool = False) -> Packed:
    """Make an object of encoded values; a large one is written to `path`.

    Where shared memory is full it is written to where spilled ones lie.

    Raises:
        OSError: The store is full, and so is the disk. Nothing is left behind.
    """
    size_bytes = sum(encoded.size_bytes for encoded in segments)
    if size_bytes <= INLINE_BYTES_MAX:
        return Inline(tuple(tuple(in_memory(encoded)) for encoded in segments), is_list)
    for place in (path, spilled_path(path)):
        bounds = _write_whole(segments, place)
        if bounds is not None:
            return Stored(path, bounds, is_list)
    raise OSError(errno.ENOSPC, f"the object store is full ({size_bytes} bytes wanted)", path)


def unpack(piece: Piece) -> Any:
    """Rebuild a value, or one segment of it; what was stored refers to its mapped file.

    Raises:
        Lost: The file is gone with its runtime, or the segment was given back.
    """
    packed, segment = piece
    if isinstance(packed, Inline):
        chosen: list[Sequence[Buffer]] = list(packed.segments)
        chosen = chosen if segment is None else [chosen[segment]]
    else:
        chosen = _stored_segments(packed.path, segment)
    if packed.is_list and segment is None:
        return [decode(parts) for parts in chosen]
    return decode(chosen[0])


def unpack_argument(argument: Piece | Pieces) -> Any:
    """Rebuild an argument of a task."""
    if isinstance(argument, Pieces):
        return [unpack(piece) for piece in argument.pieces]
    return unpack(argument)


def mapped_bytes(argument: Piece | Pieces) -> int:
    """Return how much shared memory a task may map for an argument."""
    pieces = argument.pieces if isinstance(argument, Pieces) else (argument,)
    return sum(piece.packed.size_bytes for piece in pieces if isinstance(piece.packed, Stored))


def spilled_path(path: str) -> str:
    """Return where a stored object lies once it was spilled."""
    directory, _, name = path.rpartition("/")
    return f"{directory}/spill/{name}"


def remove(path: str) -> None:
    """Remove the file of an object wherever it lies."""
    for place in (path, spilled_path(path)):
        try:
            os.unlink(place)  # noqa: PTH108 - finalizers call this
        except (FileNotFoundError, NotADirectoryError):
            continue


def read_index(whole: memoryview) -> list[list[PartSpan]]:
    """Return where the parts of each segment of a file lie."""
    (index_bytes,) = whole[-_WORD_BYTES:].cast("Q")
    words = iter(whole[-_WORD_BYTES - index_bytes : -_WORD_BYTES].cast("Q"))
    return [[_next_span(words) for _ in range(count)] for count in words]


def _next_span(words: Iterator[int]) -> PartSpan:
    return PartSpan(next(words), next(words), next(words), next(words))


def index_of(spans: Sequence[Sequence[PartSpan]]) -> bytes:
    """Return the index, with its length, that ends a file."""
    words = array("Q")
    for segment in spans:
        words.append(len(segment))
        for span in segment:
            words.extend(span)
    words.append(len(words) * _WORD_BYTES)
    return words.tobytes()


def map_file(path: str) -> memoryview:
    """Map a file read-only until the last view of it is gone.

    Not with mmap.mmap, which holds a descriptor per mapping, nor with Arrow, which asks the kernel
    for all pages at once: 3 ms for a GiB that may never be looked at.
    """
    fd = os.open(path, os.O_RDONLY)
    try:
        size_bytes = os.fstat(fd).st_size
        address = _libc().mmap(None, size_bytes, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    finally:
        os.close(fd)
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), f"{path} cannot be mapped")
    view = (ctypes.c_char * size_bytes).from_address(address)
    weakref.finalize(view, _libc().munmap, address, size_bytes).atexit = False
    return memoryview(view).cast("B").toreadonly()


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return libc


def _stored_segments(path: str, segment: int | None) -> list[Sequence[Buffer]]:
    try:
        whole = map_file(path)
    except FileNotFoundError:
        whole = _map_spilled(path)
    index = read_index(whole)
    chosen = index if segment is None else [index[segment]]
    return [list(_parts(whole, spans)) for spans in chosen]


def _map_spilled(path: str) -> memoryview:
    try:
        return map_file(spilled_path(path))
    except FileNotFoundError as error:
        raise Lost("the object is gone: its runtime was shut down") from error


def _parts(whole: memoryview, spans: Sequence[PartSpan]) -> Iterator[Buffer]:
    for span in spans:
        part = whole[span.offset : span.offset + span.length]
        if span.kind == FREED:
            raise Lost("this segment was given back by the task that used it")
        if span.kind == LZ4:
            import pyarrow as pa

            codec = pa.Codec("lz4")
            yield memoryview(codec.decompress(part, decompressed_size=span.raw_bytes))
        else:
            yield part


def _write_whole(segments: Sequence[Encoded], path: str) -> bytes | None:
    """Write a file, all of it or none; None where there is no room."""
    try:
        return _write(segments, path)
    except BaseException as error:  # interruptions too: half a file is no object
        Path(path).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _FULL:
            return None
        raise


def _write(segments: Sequence[Encoded], path: str) -> bytes:
    """Write a file; returns the bounds of its segments."""
    if any(encoded.has_arrow for encoded in segments):
        import pyarrow as pa

        with pa.OSFile(path, "wb") as sink:
            return _write_segments(segments, sink)
    with open(path, "xb") as sink:  # noqa: PTH123 - per object
        return _write_segments(segments, sink)


def _write_segments(segments: Sequence[Encoded], sink: Any) -> bytes:
    bounds, index = array("Q", [0]), []
    for encoded in segments:
        spans = write_parts(encoded, sink)
        pairs = zip(encoded.parts, spans, strict=True)
        index.append([_span(part, offset, length) for part, (offset, length) in pairs])
        bounds.append(sink.tell())
    sink.write(b"\0" * (-sink.tell() % ALIGNMENT_BYTES))
    sink.write(index_of(index))
    return bounds.tobytes()


def _span(part: object, offset: int, length: int) -> PartSpan:
    return PartSpan(offset, length, ARROW if isinstance(part, ArrowStream) else PLAIN, length)
