"""Avro object container files read into columns: wanted fields decoded, the rest stepped over.

A manifest spends most of its bytes on statistics of columns that planning never looks at. The
schema in the file's header is compiled once into a row of steps, `step(block, at) -> at`; a wanted
leaf appends to its column, everything else moves the offset only. Fields are known by their
Iceberg `field-id`, never by name. Input is untrusted: whatever does not decode within the bytes
that are there raises `CorruptTableError`.

Specification: https://avro.apache.org/docs/1.12.0/specification/
"""

from __future__ import annotations

import bz2
import json
import re
import struct
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from catalog.errors import CorruptTableError

_MAGIC = b"Obj\x01"
_SYNC_BYTES = 16
# Sixty-four bits take at most ten bytes of seven.
_VARINT_SHIFT_MAX = 63
# Writers close a block after some 64 KB; a block that inflates beyond this is an attack.
_BLOCK_BYTES_MAX = 1 << 28

Schema = Any
_Step = Callable[[bytes, int], int]
_Read = Callable[[bytes, int], tuple[Any, int]]


@dataclass(frozen=True, slots=True)
class AvroFile:
    """An object container file whose header has been read.

    Attributes:
        schema: the schema that it was written with.
        data: the whole file.
        codec: how its blocks are compressed.
        body: where its blocks begin.
    """

    schema: Schema
    data: bytes
    codec: str
    body: int

    @classmethod
    def parse(cls, data: bytes) -> AvroFile:
        """Read the header.

        Raises:
            CorruptTableError: it is not an Avro file.
        """
        if not data.startswith(_MAGIC):
            raise CorruptTableError("not an Avro file")
        with _Decoding():
            header, at = _read_map(_read_string, _read_bytes)(data, len(_MAGIC))
            schema = json.loads(header["avro.schema"])
            codec = header.get("avro.codec", b"null").decode()
            return cls(schema, data, codec, at + _SYNC_BYTES)

    def columns(self, wanted: Collection[int], *, raw: int = -1) -> dict[int, list[Any]]:
        """Decode the wanted leaf fields of every record, by field id; absent ones have no entry.

        Args:
            wanted: ids of fields, also of records inside records.
            raw: id of a field to be returned as its encoded bytes, for `decoder`.

        Raises:
            CorruptTableError: the file does not decode.
        """
        found: dict[int, list[Any]] = {}
        with _Decoding():
            steps = tuple(_record_steps(self.schema, frozenset(wanted), raw, found))
            for count, block in self._blocks():
                at = 0
                for _ in range(count):
                    for step in steps:
                        at = step(block, at)
                if at != len(block):
                    raise ValueError("a block does not end with its last record")
        return found

    def record_type(self, field_id: int) -> Schema:
        """Return the schema of the record field with this id.

        Raises:
            CorruptTableError: there is none.
        """
        found = _find_field(self.schema, field_id)
        if found is None:
            raise CorruptTableError(f"a manifest has no field {field_id}")
        return found

    def _blocks(self) -> Iterator[tuple[int, bytes]]:
        at, data = self.body, self.data
        sync = data[at - _SYNC_BYTES : at]
        while at < len(data):
            count, at = _read_long(data, at)
            packed, at = _read_bytes(data, at)
            if count < 0 or data[at : at + _SYNC_BYTES] != sync:
                raise ValueError("a block does not end with the file's marker")
            at += _SYNC_BYTES
            block = _inflate(self.codec, packed)
            if count > len(block):
                raise ValueError("a block is shorter than its records")
            yield count, block


def decode_record(schema: Schema, encoded: bytes) -> dict[int, Any]:
    """Decode one record, by field id, from the bytes that `columns` returned as raw.

    Raises:
        CorruptTableError: the bytes do not decode.
    """
    values: dict[int, Any] = {}
    at = 0
    with _Decoding():
        for field in schema["fields"]:
            values[field["field-id"]], at = _reader(field["type"])(encoded, at)
    return values


class _Decoding:
    """Turns the faults of decoding into the one error that they mean."""

    _FAULTS = (
        AttributeError,
        EOFError,
        LookupError,
        OSError,
        OverflowError,
        RecursionError,
        TypeError,
        ValueError,
        struct.error,
        zlib.error,
    )

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, fault: Any, trace: Any) -> None:
        if isinstance(fault, self._FAULTS):
            raise CorruptTableError(f"an Avro file does not decode: {fault}") from fault


def _inflate(codec: str, packed: bytes) -> bytes:
    if codec == "null":
        return packed
    if codec == "deflate":
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        block = inflater.decompress(packed, _BLOCK_BYTES_MAX)
        if not inflater.eof:
            raise ValueError("a block is cut short or too large")
        return block
    if codec == "bzip2":
        return bz2.BZ2Decompressor().decompress(packed, _BLOCK_BYTES_MAX)
    import pyarrow as pa  # lazy: the common codecs need none of it

    if codec == "snappy":  # the last four bytes are a checksum
        size, _ = _read_unsigned(packed, 0)
        if size > _BLOCK_BYTES_MAX:
            raise ValueError("a block is too large")
        return bytes(pa.Codec("snappy").decompress(packed[:-4], size, asbytes=True))
    if codec == "zstandard":
        block = pa.CompressedInputStream(pa.BufferReader(packed), "zstd").read(_BLOCK_BYTES_MAX + 1)
        if len(block) > _BLOCK_BYTES_MAX:
            raise ValueError("a block is too large")
        return bytes(block)
    raise CorruptTableError(f"an Avro file has the unknown codec {codec!r}")


# --- compiling a schema ----------------------------------------------------------------------


def _record_steps(
    record: Schema, wanted: frozenset[int], raw: int, found: dict[int, list[Any]]
) -> Iterator[_Step]:
    """Yield one step per field, in the order they are written; nested records are inlined."""
    for field in record["fields"]:
        field_id, kind = field["field-id"], field["type"]
        if field_id == raw:
            yield _keep_raw(_skipper(kind), found.setdefault(field_id, []).append)
        elif field_id in wanted:
            yield _keep(_reader(kind), found.setdefault(field_id, []).append)
        elif isinstance(kind, dict) and kind["type"] == "record":
            yield from _record_steps(kind, wanted, raw, found)
        else:
            yield _skipper(kind)


def _find_field(record: Schema, field_id: int) -> Schema | None:
    for field in record["fields"]:
        kind = field["type"]
        if field["field-id"] == field_id:
            return kind
        if isinstance(kind, dict) and kind["type"] == "record":
            found = _find_field(kind, field_id)
            if found is not None:
                return found
    return None


def _keep(read: _Read, append: Callable[[Any], None]) -> _Step:
    def step(block: bytes, at: int) -> int:
        value, at = read(block, at)
        append(value)
        return at

    return step


def _keep_raw(skip: _Step, append: Callable[[Any], None]) -> _Step:
    def step(block: bytes, at: int) -> int:
        end = skip(block, at)
        append(block[at:end])
        return end

    return step


def _type_name(kind: Schema) -> str:
    if isinstance(kind, list):
        return "union"
    return str(kind["type"]) if isinstance(kind, dict) else str(kind)


def _map_types(kind: Schema) -> tuple[Schema, Schema] | None:
    """Return key and value type of a map, which Avro spells as an array of pairs for int keys."""
    name = _type_name(kind)
    if name == "map":
        return "string", kind["values"]
    if name == "array" and kind.get("logicalType") == "map":
        key, value = kind["items"]["fields"]
        return key["type"], value["type"]
    return None


def _reader(kind: Schema) -> _Read:
    name = _type_name(kind)
    if name == "union":
        return _read_union(tuple(_reader(choice) for choice in kind))
    if pair := _map_types(kind):
        return _read_map(_reader(pair[0]), _reader(pair[1]))
    if name == "array":
        return _read_array(_reader(kind["items"]))
    if name == "record":
        return _read_tuple(tuple(_reader(field["type"]) for field in kind["fields"]))
    if name == "fixed":
        return _read_fixed(int(kind["size"]))
    return _LEAF_READERS[name]


def _skipper(kind: Schema) -> _Step:
    name = _type_name(kind)
    if name == "union":
        return _skip_union(tuple(_skipper(choice) for choice in kind))
    if name in ("array", "map"):
        pair = _map_types(kind)
        items = pair or (kind["items"],)
        return _skip_items(items)
    if name == "record":
        return _skip_all(tuple(_skipper(field["type"]) for field in kind["fields"]))
    if name in _FIXED_BYTES or name == "fixed":
        size = _FIXED_BYTES.get(name) or int(kind["size"]) if name != "null" else 0
        return lambda block, at: at + size
    return _LEAF_SKIPPERS[name]


# --- reading ---------------------------------------------------------------------------------


def _read_unsigned(block: bytes, at: int) -> tuple[int, int]:
    byte = block[at]
    at += 1
    value = byte & 0x7F
    shift = 7
    while byte > 0x7F:
        if shift > _VARINT_SHIFT_MAX:
            raise ValueError("a number is too long")
        byte = block[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
    return value, at


def _read_long(block: bytes, at: int) -> tuple[int, int]:
    byte = block[at]
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), at + 1
    value, at = _read_unsigned(block, at)
    return (value >> 1) ^ -(value & 1), at


def _read_bytes(block: bytes, at: int) -> tuple[bytes, int]:
    size, at = _read_long(block, at)
    end = at + size
    if size < 0 or end > len(block):
        raise ValueError("a value ends outside of its block")
    return block[at:end], end


def _read_string(block: bytes, at: int) -> tuple[str, int]:
    value, at = _read_bytes(block, at)
    return value.decode(), at


def _read_fixed(size: int) -> _Read:
    def read(block: bytes, at: int) -> tuple[bytes, int]:
        if at + size > len(block):
            raise ValueError("a value ends outside of its block")
        return block[at : at + size], at + size

    return read


def _read_union(choices: tuple[_Read, ...]) -> _Read:
    def read(block: bytes, at: int) -> tuple[Any, int]:
        choice = block[at]
        if choice & 1 or choice > 0x7F:
            raise ValueError("a union has no such branch")
        return choices[choice >> 1](block, at + 1)

    return read


def _read_tuple(fields: tuple[_Read, ...]) -> _Read:
    def read(block: bytes, at: int) -> tuple[tuple[Any, ...], int]:
        values = []
        for field in fields:
            value, at = field(block, at)
            values.append(value)
        return tuple(values), at

    return read


def _item_blocks(block: bytes, at: int) -> tuple[int, int, int]:
    """Return count, size in bytes (-1 when not stated) and start of a run of items."""
    count, at = _read_long(block, at)
    size = -1
    if count < 0:
        size, at = _read_long(block, at)
        if size < 0:
            raise ValueError("a list has a negative size")
    if max(abs(count), at + size) > len(block):  # an item takes a byte at least
        raise ValueError("a list ends outside of its block")
    return abs(count), size, at


def _read_array(item: _Read) -> _Read:
    def read(block: bytes, at: int) -> tuple[list[Any], int]:
        values = []
        count, _, at = _item_blocks(block, at)
        while count:
            for _ in range(count):
                value, at = item(block, at)
                values.append(value)
            count, _, at = _item_blocks(block, at)
        return values, at

    return read


def _read_map(key: _Read, value: _Read) -> _Read:
    pairs = _read_array(_read_tuple((key, value)))

    def read(block: bytes, at: int) -> tuple[dict[Any, Any], int]:
        items, at = pairs(block, at)
        return dict(items), at

    return read


def _read_boolean(block: bytes, at: int) -> tuple[bool, int]:
    return block[at] != 0, at + 1


def _read_null(_: bytes, at: int) -> tuple[None, int]:
    return None, at


def _read_struct(layout: str) -> _Read:
    unpack, size = struct.Struct(layout).unpack_from, struct.calcsize(layout)

    def read(block: bytes, at: int) -> tuple[float, int]:
        return unpack(block, at)[0], at + size

    return read


_LEAF_READERS: dict[str, _Read] = {
    "null": _read_null,
    "boolean": _read_boolean,
    "int": _read_long,
    "long": _read_long,
    "float": _read_struct("<f"),
    "double": _read_struct("<d"),
    "bytes": _read_bytes,
    "string": _read_string,
}


# --- stepping over ---------------------------------------------------------------------------


def _skip_long(block: bytes, at: int) -> int:
    while block[at] > 0x7F:
        at += 1
    return at + 1


def _skip_bytes(block: bytes, at: int) -> int:
    size = block[at]
    if size < 0x80 and not size & 1:
        return at + 1 + (size >> 1)
    size, at = _read_long(block, at)
    if size < 0:
        raise ValueError("a value has a negative length")
    return at + size


def _skip_union(choices: tuple[_Step, ...]) -> _Step:
    def skip(block: bytes, at: int) -> int:
        choice = block[at]
        if choice & 1 or choice > 0x7F:
            raise ValueError("a union has no such branch")
        return choices[choice >> 1](block, at + 1)

    return skip


def _skip_all(steps: tuple[_Step, ...]) -> _Step:
    def skip(block: bytes, at: int) -> int:
        for step in steps:
            at = step(block, at)
        return at

    return skip


def _skip_items(items: tuple[Schema, ...]) -> _Step:
    names = tuple(_type_name(item) for item in items)
    if set(names) <= {"int", "long"}:
        skip_run = _skip_longs(len(items))
    elif names in (("int", "bytes"), ("long", "bytes")):
        skip_run = _skip_bounds
    else:
        skip_run = _skip_each(_skip_all(tuple(_skipper(item) for item in items)))

    def skip(block: bytes, at: int) -> int:
        while count := block[at]:
            if count < 0x80 and not count & 1:  # a small positive number, nearly always
                at = skip_run(block, at + 1, count >> 1)
            else:
                count, size, at = _item_blocks(block, at)
                at = skip_run(block, at, count) if size < 0 else at + size
        return at + 1

    return skip


def _skip_each(item: _Step) -> Callable[[bytes, int, int], int]:
    def skip_run(block: bytes, at: int, count: int) -> int:
        for _ in range(count):
            at = item(block, at)
        return at

    return skip_run


def _skip_longs(per_item: int) -> Callable[[bytes, int, int], int]:
    def skip_run(block: bytes, at: int, count: int) -> int:
        found = _longs_pattern(count * per_item).match(block, at)
        if found is None:
            raise ValueError("a list ends outside of its block")
        return found.end()

    return skip_run


@lru_cache(maxsize=256)
def _longs_pattern(count: int) -> re.Pattern[bytes]:
    """Match `count` numbers: the expression engine walks them many times faster than a loop."""
    return re.compile(rb"(?:[\x80-\xff]*+[\x00-\x7f]){%d}" % count)


def _skip_bounds(block: bytes, at: int, count: int) -> int:
    """Step over pairs of a number and bytes; written out, for here readers spend their time."""
    for _ in range(count):
        while block[at] > 0x7F:
            at += 1
        size = block[at + 1]
        if size > 0x7F or size & 1:
            at = _skip_bytes(block, at + 1)
        else:
            at += 2 + (size >> 1)
    return at


_FIXED_BYTES = {"null": 0, "boolean": 1, "float": 4, "double": 8}
_LEAF_SKIPPERS: dict[str, _Step] = {
    "int": _skip_long,
    "long": _skip_long,
    "bytes": _skip_bytes,
    "string": _skip_bytes,
}
