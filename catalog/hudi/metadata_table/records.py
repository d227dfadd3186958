"""Records of the metadata table: what they say, and the bytes they are written as.  Pure.

The key of a record stands in the HFile and is empty in the record. There are few kinds of records,
and tables have millions of them, so each kind is put together from ready pieces.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from catalog.errors import UnsupportedTableError
from catalog.hudi.metadata_table.column_ranges import ColumnRange, Value, ValueType
from catalog.hudi.metadata_table.record_schema import META_FIELDS, WRAPPERS

_ABSENT, _PRESENT = b"\x00", b"\x02"
# Records begin with the meta fields, all absent, and an empty key.
RECORD_FRONT = _ABSENT * len(META_FIELDS) + b"\x00"
_FALSE, _TRUE = b"\x00", b"\x01"
_DOUBLE, _FLOAT = struct.Struct("<d"), struct.Struct("<f")
# All decimals in the first version of statistics.
DECIMAL_PRECISION, DECIMAL_SCALE = 30, 15


class RecordKind(IntEnum):
    """What a record is, as it is stored."""

    PARTITION_LIST = 1
    FILES = 2
    COLUMN_STATS = 3
    BLOOM_FILTER = 4
    RECORD_INDEX = 5
    PARTITION_STATS = 6
    SECONDARY_INDEX = 7


class FileInfo(NamedTuple):
    """A file of a listing, or a partition in the list of partitions."""

    size_bytes: int
    is_deleted: bool


@dataclass(frozen=True, slots=True)
class FileStats:
    """A column's statistics in a file or a partition.

    Attributes:
        file_name: the file, or the path of the partition.
        column_range: what the column lies between.
        is_deleted: whether it takes back what was said before.
        is_tight: whether it replaces what was said before, instead of widening it.
    """

    file_name: str
    column_range: ColumnRange
    is_deleted: bool = False
    is_tight: bool = False


@dataclass(frozen=True, slots=True)
class RecordPlace:
    """Where a row is.

    Attributes:
        partition: name of its partition.
        file_id: its file group.
        instant_milliseconds: when it came there, since 1970.
    """

    partition: str
    file_id: str
    instant_milliseconds: int


def encode_files(kind: RecordKind, files: Mapping[str, FileInfo]) -> bytes:
    """Encode a listing: of a partition's files or, without sizes, of the partitions."""
    parts = [RECORD_FRONT, _long(kind), _PRESENT]
    if files:
        parts.append(_long(len(files)))
        for name, (size_bytes, is_deleted) in files.items():
            text = name.encode()
            parts += (_long(len(text)), text, _long(size_bytes), _TRUE if is_deleted else _FALSE)
    parts += (_ABSENT, _ABSENT * 4)
    return b"".join(parts)


def encode_stats(kind: RecordKind, stats: FileStats, *, index_version: int) -> bytes:
    """Encode a column's statistics.

    Args:
        kind: of a file or of a partition.
        stats: what to encode.
        index_version: 1 for values whose type is told by their wrapper alone, 2 for named types.

    Raises:
        UnsupportedTableError: version 1 has no form for values of this type.
    """
    found = stats.column_range
    wrap = _wrapped if index_version > 1 else _wrapped_by_kind
    return b"".join(
        (
            RECORD_FRONT,
            _long(kind),
            _ABSENT * 2,
            _PRESENT,
            _PRESENT + _text(stats.file_name),
            _PRESENT + _text(found.column),
            wrap(found, found.minimum),
            wrap(found, found.maximum),
            _PRESENT + _long(found.value_count),
            _PRESENT + _long(found.null_count),
            _PRESENT + _long(found.size_bytes),
            _PRESENT + _long(found.uncompressed_bytes),
            _TRUE if stats.is_deleted else _FALSE,
            _TRUE if stats.is_tight else _FALSE,
            _value_type(found) if index_version > 1 else _ABSENT,
            _ABSENT * 2,
        )
    )


def encode_bloom_filter(filter_text: str, *, type_code: str, instant: str) -> bytes:
    """Encode the bloom filter of a file, which comes as the text of its footer."""
    return b"".join(
        (
            RECORD_FRONT,
            _long(RecordKind.BLOOM_FILTER),
            _ABSENT,
            _PRESENT,
            _text(type_code),
            _text(instant),
            _text(filter_text),
            _FALSE,
            _ABSENT * 3,
        )
    )


def encode_place(place: RecordPlace) -> bytes:
    """Encode where a row is; the same bytes serve all rows of a file.

    A file id that is a UUID and a number is stored as numbers, any other one as text.
    """
    high, low, index, text = _file_id_parts(place.file_id)
    return b"".join(
        (
            RECORD_FRONT,
            _long(RecordKind.RECORD_INDEX),
            _ABSENT * 3,
            _PRESENT,
            _PRESENT + _text(place.partition),
            _PRESENT + _long(high),
            _PRESENT + _long(low),
            _PRESENT + _long(index),
            _PRESENT + _text(text),
            _PRESENT + _long(place.instant_milliseconds),
            _long(1 if text else 0),
            _ABSENT,
            _ABSENT,
        )
    )


def _long(number: int) -> bytes:
    number = number << 1 ^ number >> 63
    if number < 0x80:
        return _BYTES[number]
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


_BYTES = tuple(bytes((number,)) for number in range(256))


def _data(value: bytes) -> bytes:
    return _long(len(value)) + value


def _text(value: str) -> bytes:
    return _data(value.encode())


def _value_type(found: ColumnRange) -> bytes:
    """Encode what the values are; Hudi names no type where there is not one value."""
    if found.value_type is ValueType.DECIMAL:
        more = _PRESENT + _text(f"{found.precision},{found.scale}")
    else:
        more = _ABSENT
    return _PRESENT + _long(found.value_type) + more


def _wrap(name: str, payload: bytes) -> bytes:
    return _BYTES[2 * WRAPPERS.index(name)] + payload


def _signed_bytes(number: int) -> bytes:
    """Return a number as the fewest bytes that Java makes of it."""
    length = (number + (number < 0)).bit_length() // 8 + 1
    return number.to_bytes(length, "big", signed=True)


_LONGS = frozenset(
    kind
    for kind in ValueType
    if kind is ValueType.LONG or "MICROS" in kind.name or "NANOS" in kind.name
) | {ValueType.TIMESTAMP_MILLIS, ValueType.LOCAL_TIMESTAMP_MILLIS}
_INTS = frozenset((ValueType.INT, ValueType.DATE, ValueType.TIME_MILLIS))


def _wrapped(found: ColumnRange, value: Value | None) -> bytes:
    """Encode a value of version 2: by the kind that stores its type."""
    if value is None:
        return _ABSENT
    kind = found.value_type
    if isinstance(value, bytes):
        return _wrap("Bytes", _data(value))
    if isinstance(value, str):
        return _wrap("String", _text(value))
    if kind is ValueType.BOOLEAN:
        return _wrap("Boolean", _TRUE if value else _FALSE)
    if kind is ValueType.DOUBLE:
        return _wrap("Double", _DOUBLE.pack(value))
    if kind is ValueType.FLOAT:
        return _wrap("Float", _FLOAT.pack(value))
    if kind is ValueType.DECIMAL:
        return _wrap("Bytes", _data(_signed_bytes(int(value))))
    if kind in _INTS:
        return _wrap("Int", _long(int(value)))
    if kind in _LONGS:
        return _wrap("Long", _long(int(value)))
    raise UnsupportedTableError(f"statistics of the type {kind.name} cannot be written")


def _wrapped_by_kind(found: ColumnRange, value: Value | None) -> bytes:
    """Encode a value of version 1: dates and decimals have wrappers of their own."""
    if value is None:
        return _ABSENT
    if found.value_type is ValueType.DATE:
        return _wrap("Date", _long(int(value)))
    if found.value_type is ValueType.DECIMAL:
        scaled = int(value) * 10 ** (DECIMAL_SCALE - found.scale)
        if found.scale > DECIMAL_SCALE or abs(scaled) >= 10**DECIMAL_PRECISION:
            raise UnsupportedTableError(
                f"statistics of {found.column}, a decimal with {found.precision} digits, "
                "cannot be written in this version of the index"
            )
        return _wrap("Decimal", _data(_signed_bytes(scaled)))
    return _wrapped(found, value)


def _file_id_parts(file_id: str) -> tuple[int, int, int, str]:
    """Return both halves of the UUID, the number behind it, and the text where it is no UUID."""
    name, _, index = file_id[36:].rpartition("-")
    try:
        halves = struct.unpack(">qq", uuid.UUID(file_id[:36]).bytes)
        if str(uuid.UUID(file_id[:36])) != file_id[:36] or name:
            raise ValueError(file_id)
        number = int(index) if len(file_id) > 36 else -1
    except ValueError:
        return -1, -1, -1, file_id
    if number >= 0 and f"{file_id[:36]}-{number}" != file_id:
        return -1, -1, -1, file_id
    return halves[0], halves[1], number, ""


def combine_files(parts: Iterable[Mapping[str, FileInfo]]) -> dict[str, FileInfo]:
    """Put listings over each other, oldest first.

    A deleted file that an older listing has is gone; one that no listing has stays as deleted.
    Files only grow, so of two sizes the larger one holds.
    """
    found: dict[str, FileInfo] = {}
    for part in parts:
        for name, info in part.items():
            old = found.get(name)
            if old is None:
                found[name] = info
            elif not info.is_deleted:
                found[name] = FileInfo(max(old.size_bytes, info.size_bytes), False)
            elif not old.is_deleted:
                del found[name]
    return found
