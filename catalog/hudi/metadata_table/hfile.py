"""The bytes of an HFile, version 3: what its reader and its writer have in common.  Pure.

A file is a row of blocks and a trailer of fixed size. Data blocks come first, then the blocks that
are loaded when it is opened: the index of the data blocks, the index of meta blocks, the file info.
A block is a head (`BLOCK_HEAD`), its content, compressed as the trailer says, and checksums, four
bytes for each `CHECKSUM_CHUNK_BYTES` on disk.

Specification: "HFile Format" of Hudi's technical specification, which is HBase's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from enum import IntEnum

from catalog.errors import CorruptTableError

DATA_MAGIC = b"DATABLK*"
ROOT_INDEX_MAGIC = b"IDXROOT2"
LEAF_INDEX_MAGIC = b"IDXLEAF2"
INNER_INDEX_MAGIC = b"IDXINTE2"
FILE_INFO_MAGIC = b"FILEINF2"
TRAILER_MAGIC = b'TRABLK"$'
# Before a message of protocol buffers in the file info.
MESSAGE_MAGIC = b"PBUF"

# Magic; bytes on disk and bytes of content, both without the head; offset of the block before it
# of its kind; kind of checksum; bytes that one checksum covers; bytes of head and content on disk.
BLOCK_HEAD = struct.Struct(">8siiqbii")
# Lengths of key and value, length of the row, which is the key proper.
ENTRY_HEAD = struct.Struct(">iih")
# What an entry's key has behind the row: no column family, the latest time, kind "put".
KEY_TAIL = b"\0" + struct.pack(">q", (1 << 63) - 1) + b"\x04"
# The number of a version behind each value: always zero.
ENTRY_TAIL = b"\0"

CHECKSUM_BYTES = 4
CHECKSUM_CHUNK_BYTES = 16 << 10
TRAILER_BYTES = 4096
MAJOR_VERSION = 3


class Codec(IntEnum):
    """How the content of blocks is compressed, as the trailer stores it."""

    LZO = 0
    GZIP = 1
    NONE = 2
    SNAPPY = 3
    LZ4 = 4
    BZIP2 = 5
    ZSTD = 6


class TrailerField(IntEnum):
    """Fields of the message in the trailer."""

    FILE_INFO_OFFSET = 1
    LOAD_ON_OPEN_OFFSET = 2
    DATA_INDEX_BYTES = 3
    CONTENT_BYTES = 4
    DATA_INDEX_COUNT = 5
    META_INDEX_COUNT = 6
    ENTRY_COUNT = 7
    INDEX_LEVELS = 8
    FIRST_DATA_OFFSET = 9
    LAST_DATA_OFFSET = 10
    COMPARATOR = 11
    CODEC = 12


def checksum_bytes(bytes_on_disk: int, chunk_bytes: int = CHECKSUM_CHUNK_BYTES) -> int:
    """Return how long the checksums of a block are; the length includes its head."""
    return -(-bytes_on_disk // chunk_bytes) * CHECKSUM_BYTES


def encode_varint(number: int) -> bytes:
    """Encode a number of protocol buffers."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def decode_varint(data: bytes | memoryview, offset: int) -> tuple[int, int]:
    """Return a number of protocol buffers and the offset behind it.

    Raises:
        CorruptTableError: it does not end.
    """
    value = shift = 0
    while offset < len(data) and shift < 64:
        byte = data[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, offset
        shift += 7
    raise CorruptTableError("a number in an HFile does not end")


def encode_hadoop_length(length: int) -> bytes:
    """Encode a length that is not negative as Hadoop does: in one byte up to 127."""
    if length <= 0x7F:
        return bytes((length,))
    data = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((0x90 - len(data),)) + data


def decode_hadoop_length(data: bytes | memoryview, offset: int) -> tuple[int, int]:
    """Return a length and the offset behind it."""
    first = data[offset]
    if first <= 0x7F:
        return first, offset + 1
    count = 0x90 - first
    if not 1 <= count <= 8:
        raise CorruptTableError(f"an index entry of an HFile begins with {first}")
    end = offset + 1 + count
    return int.from_bytes(data[offset + 1 : end], "big"), end


def encode_message(fields: Mapping[int, int | bytes]) -> bytes:
    """Encode a message of protocol buffers: numbers and texts by their field."""
    parts = []
    for field, value in fields.items():
        if isinstance(value, int):
            parts += [encode_varint(field << 3), encode_varint(value)]
        else:
            parts += [encode_varint(field << 3 | 2), encode_varint(len(value)), value]
    return b"".join(parts)


def decode_message(data: bytes | memoryview) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a message in their order."""
    offset = 0
    while offset < len(data):
        tag, offset = decode_varint(data, offset)
        value, offset = decode_varint(data, offset)
        if tag & 7 == 0:
            yield tag >> 3, value
        elif tag & 7 == 2 and offset + value <= len(data):
            yield tag >> 3, bytes(data[offset : offset + value])
            offset += value
        else:
            raise CorruptTableError(f"a message in an HFile has a field of kind {tag & 7}")
