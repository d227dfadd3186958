"""Values into Avro's binary encoding, and records into object container files.

The counterpart of `read`: a schema is compiled into functions that append a value, in the same
Python form that the reader returns, to a buffer. Unions are those of null and one other type, all
that manifests have.

Specification: https://avro.apache.org/docs/1.12.0/specification/
"""

from __future__ import annotations

import json
import secrets
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from catalog.avro.read import Schema, map_types, type_name
from catalog.avro.schema import defined_once

Write = Callable[[bytearray, Any], None]

_MAGIC = b"Obj\x01"
_SYNC_BYTES = 16
# Large enough to compress well, small enough that readers hold little at a time.
_BLOCK_BYTES = 1 << 16


def writer(kind: Schema) -> Write:
    """Compile the function that appends values of a type.

    Raises:
        ValueError: the type has a union of more than null and one other.
    """
    name = type_name(kind)
    if name == "union":
        return _write_optional(kind)
    if pair := map_types(kind):
        return _write_map(writer(pair[0]), writer(pair[1]))
    if name == "array":
        return _write_array(writer(kind["items"]))
    if name == "record":
        return _write_tuple(tuple(writer(one["type"]) for one in kind["fields"]))
    if name == "fixed":
        return _write_fixed(int(kind["size"]))
    return _LEAF_WRITERS[name]


def write_long(out: bytearray, value: int) -> None:
    """Append an int or a long."""
    rest = (value << 1) ^ (value >> 63)
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)


def write_bytes(out: bytearray, value: bytes) -> None:
    """Append bytes, preceded by their length."""
    write_long(out, len(value))
    out += value


def _write_string(out: bytearray, value: str) -> None:
    write_bytes(out, value.encode())


def _write_optional(choices: list[Schema]) -> Write:
    others = [at for at, choice in enumerate(choices) if type_name(choice) != "null"]
    if len(others) != 1 or len(choices) != 2:
        raise ValueError("a union is not one of null and something")
    (other,) = others
    write_other, branch, nothing = writer(choices[other]), other << 1, (1 - other) << 1

    def write(out: bytearray, value: Any) -> None:
        if value is None:
            out.append(nothing)
        else:
            out.append(branch)
            write_other(out, value)

    return write


def _write_tuple(fields: tuple[Write, ...]) -> Write:
    def write(out: bytearray, value: Any) -> None:
        for one, inner in zip(fields, value, strict=True):
            one(out, inner)

    return write


def _write_array(item: Write) -> Write:
    def write(out: bytearray, value: Any) -> None:
        if value:
            write_long(out, len(value))
            for one in value:
                item(out, one)
        out.append(0)

    return write


def _write_map(key: Write, value: Write) -> Write:
    pairs = _write_array(_write_tuple((key, value)))

    def write(out: bytearray, found: Mapping[Any, Any]) -> None:
        pairs(out, found.items())

    return write


def _write_fixed(size: int) -> Write:
    def write(out: bytearray, value: bytes) -> None:
        if len(value) != size:
            raise ValueError(f"{len(value)} bytes where {size} belong")
        out += value

    return write


def _write_packed(layout: str) -> Write:
    pack = struct.Struct(layout).pack

    def write(out: bytearray, value: float) -> None:
        out += pack(value)

    return write


def _write_boolean(out: bytearray, value: bool) -> None:
    out.append(1 if value else 0)


def _write_null(_: bytearray, __: None) -> None:
    pass


_LEAF_WRITERS: dict[str, Write] = {
    "null": _write_null,
    "boolean": _write_boolean,
    "int": write_long,
    "long": write_long,
    "float": _write_packed("<f"),
    "double": _write_packed("<d"),
    "bytes": write_bytes,
    "string": _write_string,
}


@dataclass(slots=True)
class Container:
    """An object container file in the making.

    Attributes:
        schema: of its records.
        metadata: what its header says besides.
        codec: `null`, `deflate` or `zstandard`.
    """

    schema: Schema
    metadata: Mapping[str, str]
    codec: str = "deflate"
    count: int = 0
    _sync: bytes = field(default_factory=lambda: secrets.token_bytes(_SYNC_BYTES))
    _out: bytearray = field(default_factory=bytearray)
    _block: bytearray = field(default_factory=bytearray)
    _in_block: int = 0

    def __post_init__(self) -> None:
        header = {
            **self.metadata,
            "avro.schema": json.dumps(defined_once(self.schema), separators=(",", ":")),
            "avro.codec": self.codec,
        }
        self._out += _MAGIC
        _write_map(_write_string, _write_string)(self._out, header)
        self._out += self._sync

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
        self._out += self._sync
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
