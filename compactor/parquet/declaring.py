"""Footers that declare the columns of another file than the one they were written for."""

from __future__ import annotations

from collections.abc import Iterable

from compactor.parquet.footer import (
    COLUMN_ORDERS,
    CREATED_BY,
    KEY_VALUES,
    MAGIC,
    ROW_GROUPS,
    ROWS,
    SCHEMA,
    VERSION,
    Footer,
    parse_footer,
)
from compactor.parquet.making import struct
from compactor.parquet.thrift import (
    BINARY,
    LIST,
    STRUCT,
    binary_bytes,
    corrupt,
    field_bytes,
    fields,
    list_bytes,
    signed_bytes,
)

# How columns are declared and how their statistics are to be read belong together.
_DECLARING = frozenset((VERSION, SCHEMA, COLUMN_ORDERS, CREATED_BY))
_EMPTY = {ROWS: signed_bytes(0), ROW_GROUPS: list_bytes(0, STRUCT)}
_TRAILER_BYTES = 8


def declared_as(like: Footer, other: Footer) -> Footer:
    """Return `like` without row groups, its columns declared as `other` declares them.

    Raises:
        CorruptTableError: a footer is damaged.
    """
    taken = [(one, like) for one in like.fields if one.number not in _DECLARING]
    taken += [(one, other) for one in other.fields if one.number in _DECLARING]
    data = bytearray()
    last = 0
    for one, owner in sorted(taken, key=lambda pair: pair[0].number):
        data += field_bytes(one.number, one.kind, last)
        data += _EMPTY.get(one.number) or owner.data[one.start : one.end]
        last = one.number
    data.append(0)
    size_bytes = len(MAGIC) + len(data) + _TRAILER_BYTES
    return parse_footer(like.location, bytes(data), size_bytes=size_bytes)


def noted(like: Footer, pairs: Iterable[tuple[str, str]]) -> Footer:
    """Return a footer without row groups with more key-value metadata.

    Raises:
        CorruptTableError: its own key-value metadata is damaged.
    """
    own = like.key_values().items()
    every = [*own, *((key.encode(), value.encode()) for key, value in pairs)]
    entries = [
        struct(
            (1, BINARY, binary_bytes(key)),
            *([] if value is None else [(2, BINARY, binary_bytes(value))]),
        )
        for key, value in every
    ]
    found = [one for one in like.fields if one.number != KEY_VALUES]
    values = {one.number: (one.kind, like.data[one.start : one.end]) for one in found}
    if entries:
        values[KEY_VALUES] = LIST, list_bytes(len(entries), STRUCT) + b"".join(entries)
    data = struct(*((number, *values[number]) for number in sorted(values)))
    size_bytes = len(MAGIC) + len(data) + _TRAILER_BYTES
    return parse_footer(like.location, data, size_bytes=size_bytes)


def redeclared(data: bytes, schema: bytes) -> bytes:
    """Return a serialised footer with another schema.

    Args:
        data: the footer.
        schema: the list of schema elements, of which each leaf is stored as the one in its place.

    Raises:
        CorruptTableError, IndexError: it is no footer.
    """
    found = next((one for one in fields(data, 0) if one.number == SCHEMA), None)
    if found is None:
        corrupt("the footer has no schema")
    return b"".join((data[: found.start], schema, data[found.end :]))
