"""Avro object container files in the making.

Specification: https://avro.apache.org/docs/1.12.0/specification/#object-container-files
"""

from __future__ import annotations

import json
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from catalog.avro.container import MAGIC, SYNC_BYTES
from catalog.avro.read import Schema
from catalog.avro.schema import defined_once
from catalog.avro.write import write_bytes, write_long, write_map, write_string

# Large enough to compress well, small enough that readers hold little at a time.
_BLOCK_BYTES = 1 << 16


@dataclass(slots=True)
class Container:
    """An object container file in the making.

    Attributes:
        schema: of its records.
        metadata: what its header says besides.
        codec: `null`, `deflate` or `zstandard`.
        sync: ends each block.
        count: records so far.
    """

    schema: Schema
    metadata: Mapping[str, str]
    codec: str = "deflate"
    sync: bytes = field(default_factory=lambda: secrets.token_bytes(SYNC_BYTES))
    count: int = 0
    _out: bytearray = field(default_factory=bytearray)
    _block: bytearray = field(default_factory=bytearray)
    _in_block: int = 0

    def __post_init__(self) -> None:
        header = {
            **self.metadata,
            "avro.schema": json.dumps(defined_once(self.schema), separators=(",", ":")),
            "avro.codec": self.codec,
        }
        self._out += MAGIC
        write_map(write_string, write_string)(self._out, header)
        self._out += self.sync

    @property
    def size_bytes(self) -> int:
        """What the file takes so far; what is not compressed yet counts as it is."""
        return len(self._out) + len(self._block)

    def append(self, record: bytes | bytearray) -> None:
        """Add a record that is encoded."""
        self._block += record
        self._in_block += 1
        self.count += 1
        if len(self._block) >= _BLOCK_BYTES:
            self._close_block()

    def finish(self) -> bytes:
        """Return the file."""
        self._close_block()
        return bytes(self._out)

    def _close_block(self) -> None:
        if not self._in_block:
            return
        write_long(self._out, self._in_block)
        write_bytes(self._out, _deflate(self.codec, bytes(self._block)))
        self._out += self.sync
        self._block.clear()
        self._in_block = 0


def _deflate(codec: str, block: bytes) -> bytes:
    if codec == "null":
        return block
    if codec == "deflate":
        return zlib.compress(block, wbits=-zlib.MAX_WBITS)
    import pyarrow as pa  # lazy: seldom

    if codec == "zstandard":
        return bytes(pa.Codec("zstd").compress(block, asbytes=True))
    raise ValueError(f"the codec {codec!r} is not known")
