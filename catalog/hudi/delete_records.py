"""Delete blocks of logs: keys whose rows are gone, each with the time of the deletion if known."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from catalog.avro.read import Read, item_run, read_long, read_string, reader
from catalog.avro.schema import spelled_out
from catalog.avro.write import Branch
from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.hudi.avro_schemas import Kind, schema
from catalog.hudi.avro_writing import record_body

_FRONT = struct.Struct(">ii")
_CONTENT_VERSION = 3
_FAULTS = (IndexError, ValueError, struct.error)


class Ordering(IntEnum):
    """The kind of an ordering value, as it is stored."""

    NONE = 0
    BOOLEAN = 1
    INT = 2
    LONG = 3
    FLOAT = 4
    DOUBLE = 5
    BYTES = 6
    STRING = 7
    DATE = 8
    DECIMAL = 9
    TIME_MICROS = 10
    TIMESTAMP_MICROS = 11
    SEVERAL = 12


@dataclass(frozen=True, slots=True)
class DeletedKey:
    """One entry of a delete block.

    Attributes:
        key: of the record that is gone.
        partition_path: of the record.
        kind: of the ordering value.
        value: the ordering value as Avro has it; of several, a pair of kind and value for each.
    """

    key: str
    partition_path: str
    kind: Ordering = Ordering.NONE
    value: Any = None


def encode_deletes(deletes: Iterable[DeletedKey]) -> bytes:
    """Return the content of a delete block."""
    body = record_body(Kind.DELETES, {"deleteRecordList": [_record(one) for one in deletes]})
    return _FRONT.pack(_CONTENT_VERSION, len(body)) + body


def read_deletes(content: bytes) -> Iterator[DeletedKey]:
    """Yield the entries of a delete block.

    Raises:
        CorruptTableError: it does not decode.
        UnsupportedTableError: it is of a version that only Java can read.
    """
    if len(content) < _FRONT.size:
        raise CorruptTableError("a delete block of a log is too short")
    version, length = _FRONT.unpack_from(content)
    if version != _CONTENT_VERSION:
        raise UnsupportedTableError(f"a delete block of a log has version {version}")
    body = content[_FRONT.size : _FRONT.size + length]
    try:
        yield from _entries(body)
    except _FAULTS as fault:
        raise CorruptTableError(f"a delete block of a log does not decode: {fault}") from fault


def _record(one: DeletedKey) -> dict[str, Any]:
    value: Any = None if one.kind is Ordering.NONE else Branch(one.kind, {"value": one.value})
    if one.kind is Ordering.SEVERAL:
        wrapped = [
            None if kind is Ordering.NONE else Branch(kind, {"value": inner})
            for kind, inner in one.value
        ]
        value = Branch(one.kind, {"wrappedValues": wrapped})
    return {"recordKey": one.key, "partitionPath": one.partition_path, "orderingVal": value}


def _entries(body: bytes) -> Iterator[DeletedKey]:
    orderings = _ordering_readers()
    at = 0
    count, _, at = item_run(body, at)
    while count:
        for _ in range(count):
            key, at = _text(body, at)
            partition_path, at = _text(body, at)
            number, at = read_long(body, at)
            kind = Ordering(number)
            value, at = orderings[kind](body, at)
            yield DeletedKey(key, partition_path, kind, value)
        count, _, at = item_run(body, at)
    if at != len(body):
        raise ValueError("it does not end with its last entry")


def _text(body: bytes, at: int) -> tuple[str, int]:
    branch = body[at]
    return read_string(body, at + 1) if branch else ("", at + 1)


def _ordering_readers() -> list[Read]:
    """Return the reader of each branch: records of one field are as that field is."""
    entry = spelled_out(schema(Kind.DELETES))["fields"][0]["type"]["items"]
    kinds = next(one["type"] for one in entry["fields"] if one["name"] == "orderingVal")
    single = [_unwrapped(kind) for kind in kinds[: Ordering.SEVERAL]]
    if len(kinds) <= Ordering.SEVERAL:
        return single
    (several,) = kinds[Ordering.SEVERAL]["fields"]
    (items,) = (one for one in several["type"] if one != "null")
    return [*single, _several([_unwrapped(kind) for kind in items["items"]])]


def _unwrapped(kind: Any) -> Read:
    if kind == "null":
        return lambda _, at: (None, at)
    (field,) = kind["fields"]
    inner = field["type"]
    return reader(inner["type"] if isinstance(inner, dict) else inner)


def _several(kinds: list[Read]) -> Read:
    def read(body: bytes, at: int) -> tuple[list[tuple[Ordering, Any]], int]:
        values: list[tuple[Ordering, Any]] = []
        branch, at = read_long(body, at)
        if not branch:
            return values, at
        count, _, at = item_run(body, at)
        while count:
            for _ in range(count):
                number, at = read_long(body, at)
                kind = Ordering(number)
                value, at = kinds[kind](body, at)
                # Only here local dates have a number of their own, behind all others.
                values.append((Ordering.DATE if kind is Ordering.SEVERAL else kind, value))
            count, _, at = item_run(body, at)
        return values, at

    return read
