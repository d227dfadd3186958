"""Write HFiles: sorted keys and their values, in blocks that Hudi's own reader takes.

Blocks are compressed by gzip and written one by one as they fill: memory holds one of them and the
index. Only the checksum kind "none" is written, because Hudi's reader knows no other.
"""

from __future__ import annotations

import io
import struct
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from catalog.hudi.metadata_table.hfile import (
    BLOCK_HEAD,
    CHECKSUM_CHUNK_BYTES,
    DATA_MAGIC,
    ENTRY_HEAD,
    ENTRY_TAIL,
    FILE_INFO_MAGIC,
    KEY_TAIL,
    MAJOR_VERSION,
    MESSAGE_MAGIC,
    ROOT_INDEX_MAGIC,
    TRAILER_BYTES,
    TRAILER_MAGIC,
    Codec,
    TrailerField,
    checksum_bytes,
    encode_hadoop_length,
    encode_message,
    encode_varint,
)

# Hudi's reader takes the length of the checksums off the end of a block's content before it looks
# for further entries, so the last entry must be longer than they are. A block this small has
# 20 bytes of them, and an entry is never shorter than 21.
_BLOCK_BYTES = 64 << 10
_COMPARATOR = b"org.apache.hudi.io.storage.HoodieHBaseKVComparator"
# Metadata is written often and read once or twice.
_COMPRESSION_LEVEL = 1
_GZIP_WINDOW_BITS = 31
_KEY_BYTES_MAX = (1 << 15) - 1


class Sink(Protocol):
    """Where the bytes go: an `OutputFile` or `io.BytesIO`."""

    def write(self, data: bytes, /) -> int:
        """Append bytes."""
        ...


def encode_hfile(entries: Iterable[tuple[bytes, bytes]], schema: str) -> bytes:
    """Return the bytes of an HFile with these entries, sorted by key.

    Raises:
        ValueError: the keys do not rise.
    """
    target = io.BytesIO()
    write_hfile(target, entries, schema)
    return target.getvalue()


def write_hfile(target: Sink, entries: Iterable[tuple[bytes, bytes]], schema: str) -> int:
    """Write an HFile, whose records are of this Avro schema; return the number of its entries.

    Raises:
        ValueError: the keys do not rise, or one is longer than 32,767 bytes.
    """
    writer = _Writer(target)
    for key, value in entries:
        writer.append(key, value)
    writer.finish(schema)
    return writer.entry_count


@dataclass(slots=True)
class _Writer:
    """An HFile as far as it is written."""

    target: Sink
    offset: int = 0
    entry_count: int = 0
    key_bytes: int = 0
    value_bytes: int = 0
    content_bytes: int = 0
    last_key: bytes | None = None
    last_data_offset: int = 0
    # The block that is being filled: its pieces, their length, its first key.
    parts: list[bytes] = field(default_factory=list)
    filled_bytes: int = 0
    first_key: bytes = b""
    index: list[tuple[bytes, int, int]] = field(default_factory=list)

    def append(self, key: bytes, value: bytes) -> None:
        if self.last_key is not None and key <= self.last_key:
            raise ValueError(f"the key {key!r} of an HFile does not rise above {self.last_key!r}")
        length = len(key)
        if length > _KEY_BYTES_MAX:
            raise ValueError(f"a key of {length} bytes does not fit into an HFile")
        entry_bytes = 21 + length + len(value)
        if self.parts and self.filled_bytes + entry_bytes > _BLOCK_BYTES:
            self._flush()
        if not self.parts:
            self.first_key = key
        head = ENTRY_HEAD.pack(length + 12, len(value), length)
        self.parts += (head, key, KEY_TAIL, value, ENTRY_TAIL)
        self.filled_bytes += entry_bytes
        self.entry_count += 1
        self.key_bytes += length
        self.value_bytes += len(value)
        self.last_key = key

    def finish(self, schema: str) -> None:
        if self.parts:
            self._flush()
        index_offset = self.offset
        index = b"".join(
            struct.pack(">qi", offset, size_bytes) + encode_hadoop_length(len(key) + 2) + _row(key)
            for key, offset, size_bytes in self.index
        )
        self._write_block(ROOT_INDEX_MAGIC, index)
        self._write_block(ROOT_INDEX_MAGIC, b"")
        info_offset = self.offset
        self._write_block(FILE_INFO_MAGIC, self._file_info(schema))
        trailer = encode_message(
            {
                TrailerField.FILE_INFO_OFFSET: info_offset,
                TrailerField.LOAD_ON_OPEN_OFFSET: index_offset,
                TrailerField.DATA_INDEX_BYTES: len(index),
                TrailerField.CONTENT_BYTES: self.content_bytes,
                TrailerField.DATA_INDEX_COUNT: len(self.index),
                TrailerField.META_INDEX_COUNT: 0,
                TrailerField.ENTRY_COUNT: self.entry_count,
                TrailerField.INDEX_LEVELS: 1,
                TrailerField.FIRST_DATA_OFFSET: 0,
                TrailerField.LAST_DATA_OFFSET: self.last_data_offset,
                TrailerField.COMPARATOR: _COMPARATOR,
                TrailerField.CODEC: Codec.GZIP,
            }
        )
        front = TRAILER_MAGIC + encode_varint(len(trailer)) + trailer
        version = struct.pack(">i", MAJOR_VERSION)
        self.target.write(front.ljust(TRAILER_BYTES - len(version), b"\0") + version)

    def _flush(self) -> None:
        self.last_data_offset = self.offset
        size_bytes = self._write_block(DATA_MAGIC, b"".join(self.parts))
        self.index.append((self.first_key, self.last_data_offset, size_bytes))
        self.parts = []
        self.filled_bytes = 0

    def _write_block(self, magic: bytes, content: bytes) -> int:
        """Write one block and return its length on disk."""
        packer = zlib.compressobj(_COMPRESSION_LEVEL, zlib.DEFLATED, _GZIP_WINDOW_BITS)
        packed = packer.compress(content) + packer.flush()
        size_bytes = BLOCK_HEAD.size + len(packed)
        checksums = bytes(checksum_bytes(size_bytes))
        head = BLOCK_HEAD.pack(
            magic,
            len(packed) + len(checksums),
            len(content),
            -1,
            0,
            CHECKSUM_CHUNK_BYTES,
            size_bytes,
        )
        self.target.write(b"".join((head, packed, checksums)))
        self.offset += size_bytes + len(checksums)
        self.content_bytes += len(content)
        return size_bytes + len(checksums)

    def _file_info(self, schema: str) -> bytes:
        entries = max(1, self.entry_count)
        info = {
            b"schema": schema.encode(),
            b"hfile.LASTKEY": _row(self.last_key) if self.last_key is not None else b"",
            b"hfile.AVG_KEY_LEN": struct.pack(">i", self.key_bytes // entries),
            b"hfile.AVG_VALUE_LEN": struct.pack(">i", self.value_bytes // entries),
            b"hfile.CREATE_TIME_TS": struct.pack(">q", int(time.time() * 1000)),
            b"KEY_VALUE_VERSION": struct.pack(">i", 1),
            b"MAX_MEMSTORE_TS_KEY": bytes(8),
        }
        pairs = b"".join(
            encode_message({1: encode_message({1: key, 2: value})}) for key, value in info.items()
        )
        return MESSAGE_MAGIC + encode_varint(len(pairs)) + pairs


def _row(key: bytes) -> bytes:
    return struct.pack(">h", len(key)) + key
