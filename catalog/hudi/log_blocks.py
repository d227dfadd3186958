"""The framing of Hudi log files: blocks found in bytes and made into bytes, contents untouched.

A block is `#HUDI#`, the length of what follows (8 bytes), the version of the format (4), the kind
of the block (4), the header, the length of the content (8), the content, the footer, and the length
of the whole from `#HUDI#` up to here (8); all numbers are big endian. Header and footer are maps:
their size, then key, length and text of each entry.

Writers that die leave torn blocks behind, and others append after them. What is no block runs up to
the next `#HUDI#` and is handed out as a corrupt block, exactly where Hudi's own reader sees one.
Specification: "Log File Format" of Hudi's technical specification, format version 1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

import pyarrow as pa

from catalog.errors import CorruptTableError, UnsupportedTableError

MAGIC = b"#HUDI#"
_FORMAT_VERSION = 1
# The magic and the length behind it.
_FRONT_BYTES = 14
_SEARCH_BYTES = 1 << 20
# Most headers are a schema: read at first, and as often again as a header turns out longer.
_HEADER_BYTES = 16 << 10


class BlockKind(IntEnum):
    """What a block holds, as it is stored."""

    COMMAND = 0
    DELETE = 1
    CORRUPT = 2
    AVRO_DATA = 3
    HFILE_DATA = 4
    PARQUET_DATA = 5
    CDC_DATA = 6


class HeaderKey(IntEnum):
    """What an entry of a header is, as it is stored."""

    INSTANT_TIME = 0
    TARGET_INSTANT_TIME = 1
    SCHEMA = 2
    COMMAND_BLOCK_TYPE = 3
    COMPACTED_BLOCK_TIMES = 4
    RECORD_POSITIONS = 5
    BLOCK_IDENTIFIER = 6
    IS_PARTIAL = 7
    BASE_FILE_INSTANT_TIME_OF_RECORD_POSITIONS = 8


@dataclass(frozen=True, slots=True)
class LogBlock:
    """A block of a log file, its content left where it is.

    Attributes:
        kind: what the content is; `CORRUPT` for bytes that are no block.
        header: what its writer said of it; empty for a corrupt block.
        content_offset: where in the file the content begins.
        content_bytes: its length.
        end_offset: where in the file the next block begins.
    """

    kind: BlockKind
    header: Mapping[HeaderKey, str]
    content_offset: int
    content_bytes: int
    end_offset: int

    @property
    def instant_time(self) -> str:
        """The instant that wrote the block; empty where its header does not say."""
        return self.header.get(HeaderKey.INSTANT_TIME, "")

    @property
    def target_instant_time(self) -> str:
        """The instant whose blocks a command takes back."""
        return self.header.get(HeaderKey.TARGET_INSTANT_TIME, "")

    @property
    def compacted_instants(self) -> tuple[str, ...]:
        """The instants whose blocks this one, made by log compaction, stands for."""
        text = self.header.get(HeaderKey.COMPACTED_BLOCK_TIMES)
        return tuple(text.split(",")) if text is not None else ()

    @property
    def is_partial(self) -> bool:
        """Whether its records have the updated columns only."""
        return self.header.get(HeaderKey.IS_PARTIAL, "").lower() == "true"

    def read_content(self, file: pa.NativeFile) -> pa.Buffer:
        """Read the content out of the file that the block was found in."""
        file.seek(self.content_offset)
        content = file.read_buffer(self.content_bytes)
        if content.size != self.content_bytes:
            raise CorruptTableError("a log file became shorter while it was read")
        return content


def read_blocks(file: pa.NativeFile) -> Iterator[LogBlock]:
    """Yield the blocks of a log file in their order, corrupt ones as such.

    A file in memory is `pa.BufferReader(data)`; others are read piece by piece, contents not at
    all.

    Raises:
        CorruptTableError: the file does not begin with a block, or a block that is whole by its
            lengths does not hold what it must.
        UnsupportedTableError: a block has a version, a kind or a header entry that is not known.
    """
    size_bytes = file.size()
    offset = 0
    while offset + len(MAGIC) <= size_bytes:
        if _bytes(file, offset, len(MAGIC)) != MAGIC:
            raise CorruptTableError(f"no log block begins at byte {offset}, where one must")
        block = _block(file, offset, size_bytes)
        yield block
        offset = block.end_offset


def encode_block(kind: BlockKind, header: Mapping[HeaderKey, str], content: bytes) -> bytes:
    """Return the bytes of a block, ready to be appended to a log file."""
    body = b"".join(
        (
            struct.pack(">ii", _FORMAT_VERSION, kind),
            _encoded_map(header),
            struct.pack(">q", len(content)),
            content,
            _encoded_map({}),
        )
    )
    whole_bytes = _FRONT_BYTES + len(body)
    return b"".join((MAGIC, struct.pack(">q", len(body) + 8), body, struct.pack(">q", whole_bytes)))


def _encoded_map(entries: Mapping[HeaderKey, str]) -> bytes:
    parts = [struct.pack(">i", len(entries))]
    for key, value in entries.items():
        text = value.encode()
        parts += [struct.pack(">ii", key, len(text)), text]
    return b"".join(parts)


def _bytes(file: pa.NativeFile, offset: int, length: int) -> bytes:
    file.seek(offset)
    data: bytes = file.read(length)
    return data


def _block(file: pa.NativeFile, offset: int, size_bytes: int) -> LogBlock:
    """Read the block that begins at `offset`, whose magic was seen."""
    end = _end(file, offset, size_bytes)
    if end is None:
        behind = offset + len(MAGIC)
        end = _next_magic(file, behind, size_bytes)
        return LogBlock(BlockKind.CORRUPT, {}, behind, end - behind, end)
    start = offset + _FRONT_BYTES
    head = _Head(file, start, end)
    version, kind = head.integer(), head.integer()
    if version != _FORMAT_VERSION:
        raise UnsupportedTableError(f"a log block has version {version} of the format")
    header = _header(head)
    content_bytes = head.long()
    content_offset = start + head.position
    # The footer has four bytes at least, and the length behind it eight.
    if not 0 <= content_bytes <= end - content_offset - 12:
        raise CorruptTableError(f"the content of a log block is {content_bytes} bytes long")
    return LogBlock(_kind(kind), header, content_offset, content_bytes, end)


def _end(file: pa.NativeFile, offset: int, size_bytes: int) -> int | None:
    """Return where the block at `offset` ends; None when what is there is not a whole block."""
    front = _bytes(file, offset + len(MAGIC), 8)
    if len(front) < 8:
        return None
    length = struct.unpack(">q", front)[0]
    end = offset + _FRONT_BYTES + length
    # Version, kind, two empty maps and two lengths.
    if length < 32 or end > size_bytes:
        return None
    back = _bytes(file, end - 8, 8 + len(MAGIC))
    if struct.unpack(">q", back[:8])[0] != end - 8 - offset:
        return None
    is_followed = len(back) < 8 + len(MAGIC) or back[8:] == MAGIC
    return end if is_followed else None


def _next_magic(file: pa.NativeFile, offset: int, size_bytes: int) -> int:
    while offset < size_bytes:
        data = _bytes(file, offset, _SEARCH_BYTES)
        found = data.find(MAGIC)
        if found >= 0:
            return offset + found
        if offset + len(data) >= size_bytes:
            break
        offset += len(data) - len(MAGIC)
    return size_bytes


def _header(head: _Head) -> Mapping[HeaderKey, str]:
    header = {}
    for _ in range(head.integer()):
        key, length = head.integer(), head.integer()
        if key not in _HEADER_KEYS:
            raise UnsupportedTableError(f"a log block has an unknown entry {key} in its header")
        header[HeaderKey(key)] = head.text(length)
    return header


_HEADER_KEYS = frozenset(HeaderKey)
_KINDS = frozenset(BlockKind)


def _kind(number: int) -> BlockKind:
    if number not in _KINDS:
        raise UnsupportedTableError(f"a log block is of an unknown kind {number}")
    return BlockKind(number)


class _Head:
    """The front of a block, read on as it is needed."""

    def __init__(self, file: pa.NativeFile, start: int, end: int) -> None:
        self._file = file
        self._start = start
        self._limit_bytes = end - start
        self._data = b""
        self.position = 0

    def integer(self) -> int:
        """Return the next 4 bytes as a number."""
        return int.from_bytes(self._take(4), "big", signed=True)

    def long(self) -> int:
        """Return the next 8 bytes as a number."""
        return int.from_bytes(self._take(8), "big", signed=True)

    def text(self, length_bytes: int) -> str:
        """Return the next bytes as text."""
        try:
            return self._take(length_bytes).decode()
        except UnicodeDecodeError as error:
            raise CorruptTableError("the header of a log block is not text") from error

    def _take(self, length_bytes: int) -> bytes:
        end = self.position + length_bytes
        if length_bytes < 0 or end > self._limit_bytes:
            raise CorruptTableError("the header of a log block does not fit into the block")
        if end > len(self._data):
            wanted = min(max(end, len(self._data) + _HEADER_BYTES), self._limit_bytes)
            self._data += _bytes(
                self._file, self._start + len(self._data), wanted - len(self._data)
            )
        part = self._data[self.position : end]
        self.position = end
        return part
