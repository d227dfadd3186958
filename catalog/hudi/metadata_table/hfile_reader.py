"""Read HFiles block by block: all entries in the order of their keys, or those of a few prefixes.

Whatever wrote the file: block indexes of several levels, bloom filters and other meta blocks (left
alone), contents that are packed by gzip or not at all. Memory holds the index and one data block.
"""

from __future__ import annotations

import bisect
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, NoReturn

import pyarrow as pa

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.hudi.metadata_table.hfile import (
    BLOCK_HEAD,
    CHECKSUM_BYTES,
    DATA_MAGIC,
    ENTRY_HEAD,
    FILE_INFO_MAGIC,
    INNER_INDEX_MAGIC,
    LEAF_INDEX_MAGIC,
    MAJOR_VERSION,
    MESSAGE_MAGIC,
    ROOT_INDEX_MAGIC,
    TRAILER_BYTES,
    TRAILER_MAGIC,
    Codec,
    TrailerField,
    checksum_bytes,
    decode_hadoop_length,
    decode_message,
    decode_varint,
)

_GZIP_WINDOW_BITS = 31
_CRC32 = 1
_INDEX_ENTRY = struct.Struct(">qi")


class _Indexed(NamedTuple):
    """Where a block is and the first key that can be in it."""

    first_key: bytes
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class HFile:
    """An open HFile; the file that it reads from is its opener's to close.

    Attributes:
        file: where its bytes come from.
        codec: how its blocks are compressed.
        entry_count: number of its entries.
        index: its data blocks in the order of their keys.
        info: what its writer noted, among it `schema`, the Avro schema of the records.
    """

    file: pa.NativeFile
    codec: Codec
    entry_count: int
    index: tuple[_Indexed, ...]
    info: dict[bytes, bytes]

    @property
    def schema(self) -> str:
        """The Avro schema of the values; empty where the writer did not note it."""
        return self.info.get(b"schema", b"").decode()

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield key and value of every entry, keys rising.

        Raises:
            CorruptTableError: a block is not what its head says.
        """
        for block in self.index:
            yield from _entries(self._data(block))

    def entries_with_prefixes(self, prefixes: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
        """Yield the entries whose key begins with one of these; blocks without any are not read.

        Raises:
            CorruptTableError: a block is not what its head says.
        """
        wanted = sorted(set(prefixes))
        shortest = min(map(len, wanted), default=0)
        firsts = [block.first_key for block in self.index]
        touched: dict[int, None] = {}
        for prefix in wanted:
            # Entries may begin in the block before the first whose first key reaches the prefix.
            number = max(0, bisect.bisect_left(firsts, prefix) - 1)
            while number < len(firsts) and firsts[number][: len(prefix)] <= prefix:
                touched[number] = None
                number += 1
        known = set(wanted)
        lengths = sorted({len(prefix) for prefix in wanted})
        for number in sorted(touched):
            for key, value in _entries(self._data(self.index[number])):
                if len(key) >= shortest and any(key[:length] in known for length in lengths):
                    yield key, value

    def _data(self, block: _Indexed) -> bytes:
        return _read_block(self.file, block.offset, DATA_MAGIC, self.codec)[0]


def open_hfile(file: pa.NativeFile) -> HFile:
    """Read what an HFile says of itself; content in memory is `pa.BufferReader(data)`.

    Raises:
        CorruptTableError: it is not an HFile.
        UnsupportedTableError: its version or its compression is not known.
    """
    size_bytes = file.size()
    if size_bytes < TRAILER_BYTES:
        raise CorruptTableError(f"an HFile has {size_bytes} bytes, fewer than its trailer")
    trailer = _trailer(_read(file, size_bytes - TRAILER_BYTES, TRAILER_BYTES))
    codec = _codec(trailer.get(TrailerField.CODEC, Codec.NONE))
    index = _data_index(file, trailer, codec)
    info_offset = trailer.get(TrailerField.FILE_INFO_OFFSET, 0)
    info, _ = _read_block(file, info_offset, FILE_INFO_MAGIC, codec)
    return HFile(
        file, codec, trailer.get(TrailerField.ENTRY_COUNT, 0), tuple(index), _file_info(info)
    )


def _trailer(data: bytes) -> dict[int, int]:
    if data[: len(TRAILER_MAGIC)] != TRAILER_MAGIC:
        raise CorruptTableError("an HFile has no trailer")
    # The byte before the three of the major version is the minor one.
    major = int.from_bytes(data[-3:], "big")
    if major != MAJOR_VERSION:
        raise UnsupportedTableError(f"an HFile has version {major}; 3 is supported")
    length, start = decode_varint(data, len(TRAILER_MAGIC))
    fields = decode_message(data[start : start + length])
    return {number: value for number, value in fields if isinstance(value, int)}


def _codec(number: int) -> Codec:
    try:
        codec = Codec(number)
    except ValueError as error:
        raise UnsupportedTableError(f"an HFile is compressed by method {number}") from error
    if codec not in (Codec.GZIP, Codec.NONE):
        raise UnsupportedTableError(f"an HFile is compressed by {codec.name.lower()}")
    return codec


def _data_index(file: pa.NativeFile, trailer: dict[int, int], codec: Codec) -> list[_Indexed]:
    offset = trailer.get(TrailerField.LOAD_ON_OPEN_OFFSET, 0)
    root, _ = _read_block(file, offset, ROOT_INDEX_MAGIC, codec)
    found = _root_index(root, trailer.get(TrailerField.DATA_INDEX_COUNT, 0))
    for level in range(trailer.get(TrailerField.INDEX_LEVELS, 1) - 1, 0, -1):
        magic = INNER_INDEX_MAGIC if level > 1 else LEAF_INDEX_MAGIC
        blocks = (_read_block(file, block.offset, magic, codec)[0] for block in found)
        found = [entry for block in blocks for entry in _leaf_index(block)]
    return found


def _root_index(data: bytes, count: int) -> list[_Indexed]:
    found = []
    at = 0
    for _ in range(count):
        offset, size_bytes = _unpacked(_INDEX_ENTRY, data, at)
        length, start = decode_hadoop_length(data, at + _INDEX_ENTRY.size)
        at = start + length
        found.append(_Indexed(_row(data[start:at]), offset, size_bytes))
    return found


def _leaf_index(data: bytes) -> list[_Indexed]:
    """Read a block of an index: count, offset of each entry and of their end, then the entries."""
    (count,) = _unpacked(struct.Struct(">i"), data, 0)
    offsets = _unpacked(struct.Struct(f">{count + 1}i"), data, 4)
    start = 4 * (count + 2)
    found = []
    for first, end in pairwise(offsets):
        offset, size_bytes = _unpacked(_INDEX_ENTRY, data, start + first)
        key = data[start + first + _INDEX_ENTRY.size : start + end]
        found.append(_Indexed(_row(key), offset, size_bytes))
    return found


def _row(key: bytes) -> bytes:
    """Return the row of a stored key, which is what Hudi calls the key."""
    length = int.from_bytes(key[:2], "big")
    if length > len(key) - 2:
        _refuse("the index of an HFile has a key that is cut off")
    return key[2 : 2 + length]


def _file_info(data: bytes) -> dict[bytes, bytes]:
    if data[: len(MESSAGE_MAGIC)] != MESSAGE_MAGIC:
        _refuse("the file info of an HFile is not a message")
    length, start = decode_varint(data, len(MESSAGE_MAGIC))
    found = {}
    for _, pair in decode_message(data[start : start + length]):
        parts = dict(decode_message(pair)) if isinstance(pair, bytes) else {}
        key, value = parts.get(1), parts.get(2)
        if isinstance(key, bytes) and isinstance(value, bytes):
            found[key] = value
    return found


def _entries(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of a data block."""
    unpack, head_bytes, end = ENTRY_HEAD.unpack_from, ENTRY_HEAD.size, len(data)
    at = 0
    while at < end:
        if at + head_bytes > end:
            _refuse("a block of an HFile ends within an entry")
        key_bytes, value_bytes, row_bytes = unpack(data, at)
        row = at + head_bytes
        value = at + 8 + key_bytes
        # Behind the value stands one byte, the number of a version, which Hudi does not use.
        at = value + value_bytes + 1
        if at > end or row + row_bytes > value or value_bytes < 0:
            _refuse("a block of an HFile ends within an entry")
        yield data[row : row + row_bytes], data[value : at - 1]


def _read_block(file: pa.NativeFile, offset: int, magic: bytes, codec: Codec) -> tuple[bytes, int]:
    """Return the content of the block at an offset, unpacked, and its length on disk."""
    front = _read(file, offset, BLOCK_HEAD.size)
    found, disk_bytes, content_bytes, _, kind, chunk_bytes, data_bytes = BLOCK_HEAD.unpack(front)
    if found != magic:
        _refuse(f"an HFile has a block {found!r} where {magic!r} must be")
    if not chunk_bytes > 0 or not BLOCK_HEAD.size <= data_bytes <= BLOCK_HEAD.size + disk_bytes:
        _refuse("the head of a block of an HFile contradicts itself")
    body = _read(file, offset + BLOCK_HEAD.size, disk_bytes)
    packed = body[: data_bytes - BLOCK_HEAD.size]
    if kind == _CRC32:
        checksums = body[len(packed) :]
        _check(front + packed, checksums, chunk_bytes)
    content = packed if codec is Codec.NONE else _unpacked_gzip(packed, max(content_bytes, 0))
    if len(content) != content_bytes:
        _refuse(f"a block of an HFile has {len(content)} bytes, not {content_bytes}")
    return content, BLOCK_HEAD.size + disk_bytes


def _unpacked_gzip(packed: bytes, content_bytes: int) -> bytes:
    """Unpack a block, no further than it should be long: a few bytes may stand for very many."""
    if not packed:
        return b""
    unpacking = zlib.decompressobj(_GZIP_WINDOW_BITS)
    try:
        content = unpacking.decompress(packed, content_bytes + 1)
    except zlib.error as error:
        raise CorruptTableError(f"a block of an HFile cannot be unpacked: {error}") from error
    if len(content) == content_bytes and not unpacking.eof:
        _refuse("a block of an HFile is cut")
    return content


def _check(data: bytes, checksums: bytes, chunk_bytes: int) -> None:
    """Compare the checksums of a block; those of gzip hold for packed contents besides."""
    if len(checksums) < checksum_bytes(len(data), chunk_bytes):
        _refuse("a block of an HFile lacks checksums")
    for number, start in enumerate(range(0, len(data), chunk_bytes)):
        at = number * CHECKSUM_BYTES
        stored = int.from_bytes(checksums[at : at + CHECKSUM_BYTES], "big")
        if zlib.crc32(data[start : start + chunk_bytes]) != stored:
            _refuse("a checksum of an HFile does not hold")


def _read(file: pa.NativeFile, offset: int, length: int) -> bytes:
    if offset < 0 or length < 0:
        _refuse("an HFile names bytes that cannot be")
    if offset + length > file.size():
        _refuse("an HFile ends too early")
    file.seek(offset)
    data: bytes = file.read(length)
    if len(data) != length:
        _refuse("an HFile ends too early")
    return data


def _unpacked(form: struct.Struct, data: bytes, offset: int) -> tuple[int, ...]:
    try:
        return form.unpack_from(data, offset)
    except struct.error as error:
        raise CorruptTableError("the index of an HFile ends too early") from error


def _refuse(text: str) -> NoReturn:
    raise CorruptTableError(text)
