"""Avro object container files, which instants and plans are, read into dictionaries by name."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from catalog.avro.read import (
    Read,
    Schema,
    read_array,
    read_bytes,
    read_long,
    read_map,
    read_string,
    read_union,
    reader,
    type_name,
)
from catalog.avro.schema import spelled_out
from catalog.avro.skip import skipper
from catalog.errors import CorruptTableError, UnsupportedTableError

MAGIC = b"Obj\x01"
_SYNC_BYTES = 16
_FAULTS = (
    LookupError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

Record = Mapping[str, Any]


def read_records(
    name: str, data: bytes, *, unwanted: frozenset[str] = frozenset()
) -> list[dict[str, Any]]:
    """Decode all records of a file.

    Args:
        name: what the file is called in errors.
        data: the whole file.
        unwanted: names of fields, at any depth, that are stepped over: None stands for them.

    Raises:
        CorruptTableError: the file does not decode.
        UnsupportedTableError: it is compressed in a way that nobody writes here.
    """
    try:
        return list(_records(data, unwanted))
    except _FAULTS as fault:
        raise CorruptTableError(f"{name} does not decode: {fault}") from fault


def record_reader(schema: Schema, *, unwanted: frozenset[str] = frozenset()) -> Read:
    """Compile the reader of values of a type whose named types are spelled out.

    Args:
        schema: of the values.
        unwanted: names of fields, at any depth, that are stepped over: None stands for them.
    """
    return _named(schema, unwanted)


def _records(data: bytes, unwanted: frozenset[str]) -> Iterator[dict[str, Any]]:
    if not data.startswith(MAGIC):
        raise ValueError("it is not an Avro file")
    header, at = read_map(read_string, read_bytes)(data, len(MAGIC))
    read = _named(spelled_out(json.loads(header["avro.schema"])), unwanted)
    codec = header.get("avro.codec", b"null").decode()
    at += _SYNC_BYTES
    while at < len(data):
        count, at = read_long(data, at)
        block, at = read_bytes(data, at)
        at += _SYNC_BYTES
        block, position = _inflated(codec, block), 0
        for _ in range(count):
            record, position = read(block, position)
            yield record


def _inflated(codec: str, block: bytes) -> bytes:
    if codec == "null":
        return block
    if codec == "deflate":
        return zlib.decompress(block, wbits=-zlib.MAX_WBITS)
    raise UnsupportedTableError(f"an instant is compressed as {codec}")


def _named(kind: Schema, unwanted: frozenset[str]) -> Read:
    """Compile the reader of a type that returns records by the names of their fields."""
    name = type_name(kind)
    if isinstance(kind, dict) and isinstance(kind["type"], dict | list):
        return _named(kind["type"], unwanted)
    if name == "union":
        return read_union(tuple(_named(choice, unwanted) for choice in kind))
    if name == "map":
        return read_map(read_string, _named(kind["values"], unwanted))
    if name == "array":
        return read_array(_named(kind["items"], unwanted))
    if name == "record":
        return _record(kind["fields"], unwanted)
    if name == "enum":
        return _enum(tuple(kind["symbols"]))
    return reader(kind)


def _record(fields: list[Any], unwanted: frozenset[str]) -> Read:
    steps: tuple[tuple[str, Read], ...] = tuple(
        (field["name"], _stepping_over(field["type"]))
        if field["name"] in unwanted
        else (field["name"], _named(field["type"], unwanted))
        for field in fields
    )

    def read(block: bytes, at: int) -> tuple[dict[str, Any], int]:
        found = {}
        for name, step in steps:
            found[name], at = step(block, at)
        return found, at

    return read


def _stepping_over(kind: Schema) -> Read:
    skip = skipper(kind)
    return lambda block, at: (None, skip(block, at))


def _enum(symbols: tuple[str, ...]) -> Read:
    def read(block: bytes, at: int) -> tuple[str, int]:
        number, at = read_long(block, at)
        if number < 0:
            raise ValueError("an enumeration has no such symbol")
        return symbols[number], at

    return read
