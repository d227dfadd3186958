"""Values into Avro's binary encoding: a schema compiled into functions that write it.

The counterpart of `read`: such a function appends a value, in the same Python form that the reader
returns, to a buffer. In unions of null and one other type None is null; of others, a `Branch` says
which type is meant.

Specification: https://avro.apache.org/docs/1.12.0/specification/#binary-encoding
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from catalog.avro.read import Schema, map_types, type_name

Write = Callable[[bytearray, Any], None]
# Compiles the writer of a record from its schema.
OfRecord = Callable[[Schema], Write]

_LONG_END = 1 << 64


@dataclass(frozen=True, slots=True)
class Branch:
    """A value of a union with several types of value.

    Attributes:
        number: which branch, counted from 0.
        value: what it holds.
    """

    number: int
    value: Any


def writer(kind: Schema, record: OfRecord | None = None) -> Write:
    """Compile the function that appends values of a type whose named types are spelled out.

    Args:
        kind: the type.
        record: compiles the writers of records in it; without it, records are tuples.
    """
    name = type_name(kind)
    if name == "union":
        return _write_union(kind, tuple(writer(choice, record) for choice in kind))
    if pair := map_types(kind):
        return write_map(writer(pair[0], record), writer(pair[1], record))
    if name == "array":
        return _write_array(writer(kind["items"], record))
    if name == "record":
        return (record or _tuple_writer)(kind)
    if name == "fixed":
        return _write_fixed(int(kind["size"]))
    if name == "enum":
        symbols = tuple(kind["symbols"])
        return lambda out, value: write_long(out, symbols.index(value))
    return _LEAF_WRITERS[name]


def _tuple_writer(record: Schema) -> Write:
    return _write_tuple(tuple(writer(one["type"]) for one in record["fields"]))


def write_long(out: bytearray, value: int) -> None:
    """Append an int or a long.

    Raises:
        ValueError: it has more than 64 bits.
    """
    rest = (value << 1) ^ (value >> 63)
    if rest > 0x7F:  # few are: here writers of manifests spend their time
        if rest >= _LONG_END:
            raise ValueError(f"{value} exceeds 64 bits")
        while rest > 0x7F:
            out.append(rest & 0x7F | 0x80)
            rest >>= 7
    out.append(rest)


def write_bytes(out: bytearray, value: bytes) -> None:
    """Append bytes, preceded by their length."""
    write_long(out, len(value))
    out += value


def write_string(out: bytearray, value: str) -> None:
    """Append text."""
    write_bytes(out, value.encode())


def _write_union(kinds: list[Schema], writers: tuple[Write, ...]) -> Write:
    names = [type_name(kind) for kind in kinds]
    null = names.index("null") if "null" in names else -1
    if null >= 0 and len(kinds) == 2:
        return _write_optional(writers[1 - null], null)

    def write(out: bytearray, value: Any) -> None:
        if value is None and null >= 0:
            write_long(out, null)
        elif isinstance(value, Branch):
            write_long(out, value.number)
            writers[value.number](out, value.value)
        else:
            raise ValueError(f"{value!r} does not say of which type of a union it is")

    return write


def _write_optional(write_other: Write, null: int) -> Write:
    branch, nothing = (1 - null) << 1, null << 1

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


def write_map(key: Write, value: Write) -> Write:
    """Make the writer of a map from those of its keys and values."""
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
    "string": write_string,
}
