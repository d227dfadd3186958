"""Values out of Avro's binary encoding: a schema compiled into functions that read it.

A reader takes a block and an offset and returns the value and the offset after it. Nothing is read
beyond the block; what cannot be is left to raise `IndexError`, `ValueError` and their like.

Specification: https://avro.apache.org/docs/1.12.0/specification/#binary-encoding
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

# Sixty-four bits take at most ten bytes of seven.
_VARINT_SHIFT_MAX = 63

Schema = Any
Read = Callable[[bytes, int], tuple[Any, int]]
# Compiles the reader of a record from its schema.
OfRecord = Callable[[Schema], Read]


def type_name(kind: Schema) -> str:
    """Return the name of a type: a primitive, a kind of container, or `union`."""
    if isinstance(kind, list):
        return "union"
    return str(kind["type"]) if isinstance(kind, dict) else str(kind)


def map_types(kind: Schema) -> tuple[Schema, Schema] | None:
    """Return key and value type of a map, which Avro spells as an array of pairs for int keys."""
    name = type_name(kind)
    if name == "map":
        return "string", kind["values"]
    if name == "array" and kind.get("logicalType") == "map":
        key, value = kind["items"]["fields"]
        return key["type"], value["type"]
    return None


def reader(kind: Schema, record: OfRecord | None = None) -> Read:
    """Compile the function that reads values of a type whose named types are spelled out.

    Args:
        kind: the type.
        record: compiles the readers of records in it; without it, records are tuples.
    """
    name = type_name(kind)
    if name == "union":
        return read_union(tuple(reader(choice, record) for choice in kind))
    if pair := map_types(kind):
        return read_map(reader(pair[0], record), reader(pair[1], record))
    if name == "array":
        return read_array(reader(kind["items"], record))
    if name == "record":
        return (record or _tuple_reader)(kind)
    if name == "fixed":
        return _read_fixed(int(kind["size"]))
    if name == "enum":
        return _read_enum(tuple(kind["symbols"]))
    return _LEAF_READERS[name]


def _tuple_reader(record: Schema) -> Read:
    return _read_tuple(tuple(reader(field["type"]) for field in record["fields"]))


def read_unsigned(block: bytes, at: int) -> tuple[int, int]:
    """Read a number of variable length as it is written, without its sign."""
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


def read_long(block: bytes, at: int) -> tuple[int, int]:
    """Read an int or a long."""
    byte = block[at]
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), at + 1
    value, at = read_unsigned(block, at)
    return (value >> 1) ^ -(value & 1), at


def read_bytes(block: bytes, at: int) -> tuple[bytes, int]:
    """Read bytes that are preceded by their length."""
    size, at = read_long(block, at)
    end = at + size
    if size < 0 or end > len(block):
        raise ValueError("a value ends outside of its block")
    return block[at:end], end


def read_string(block: bytes, at: int) -> tuple[str, int]:
    """Read text."""
    value, at = read_bytes(block, at)
    return value.decode(), at


def _read_fixed(size: int) -> Read:
    def read(block: bytes, at: int) -> tuple[bytes, int]:
        if at + size > len(block):
            raise ValueError("a value ends outside of its block")
        return block[at : at + size], at + size

    return read


def _read_enum(symbols: tuple[str, ...]) -> Read:
    def read(block: bytes, at: int) -> tuple[str, int]:
        number, at = read_long(block, at)
        if number < 0:
            raise ValueError("an enumeration has no such symbol")
        return symbols[number], at

    return read


def read_union(choices: tuple[Read, ...]) -> Read:
    """Make the reader of a union from those of its branches."""

    def read(block: bytes, at: int) -> tuple[Any, int]:
        choice = block[at]
        if choice & 1 or choice > 0x7F:
            raise ValueError("a union has no such branch")
        return choices[choice >> 1](block, at + 1)

    return read


def _read_tuple(fields: tuple[Read, ...]) -> Read:
    def read(block: bytes, at: int) -> tuple[tuple[Any, ...], int]:
        values = []
        for field in fields:
            value, at = field(block, at)
            values.append(value)
        return tuple(values), at

    return read


def item_run(block: bytes, at: int) -> tuple[int, int, int]:
    """Return count, size in bytes (-1 when not stated) and start of a run of items."""
    count, at = read_long(block, at)
    size = -1
    if count < 0:
        size, at = read_long(block, at)
        if size < 0:
            raise ValueError("a list has a negative size")
    if max(abs(count), at + size) > len(block):  # an item takes a byte at least
        raise ValueError("a list ends outside of its block")
    return abs(count), size, at


def read_array(item: Read) -> Read:
    """Return the reader of an array, given that of its items."""

    def read(block: bytes, at: int) -> tuple[list[Any], int]:
        values = []
        count, _, at = item_run(block, at)
        while count:
            for _ in range(count):
                value, at = item(block, at)
                values.append(value)
            count, _, at = item_run(block, at)
        return values, at

    return read


def read_map(key: Read, value: Read) -> Read:
    """Make the reader of a map from those of its keys and values."""
    pairs = read_array(_read_tuple((key, value)))

    def read(block: bytes, at: int) -> tuple[dict[Any, Any], int]:
        items, at = pairs(block, at)
        return dict(items), at

    return read


def _read_boolean(block: bytes, at: int) -> tuple[bool, int]:
    return block[at] != 0, at + 1


def _read_null(_: bytes, at: int) -> tuple[None, int]:
    return None, at


def _read_struct(layout: str) -> Read:
    unpack, size = struct.Struct(layout).unpack_from, struct.calcsize(layout)

    def read(block: bytes, at: int) -> tuple[float, int]:
        return unpack(block, at)[0], at + size

    return read


_LEAF_READERS: dict[str, Read] = {
    "null": _read_null,
    "boolean": _read_boolean,
    "int": read_long,
    "long": read_long,
    "float": _read_struct("<f"),
    "double": _read_struct("<d"),
    "bytes": read_bytes,
    "string": read_string,
}
