"""Read records of the metadata table, whichever release wrote them.  Pure."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.hudi.metadata_table.column_ranges import ColumnRange, Value, ValueType
from catalog.hudi.metadata_table.record_schema import (
    META_FIELDS,
    RECORD_SCHEMA,
    RecordLayout,
    record_layout,
)
from catalog.hudi.metadata_table.records import (
    DECIMAL_PRECISION,
    DECIMAL_SCALE,
    RECORD_FRONT,
    FileInfo,
    FileStats,
    RecordPlace,
)

_TRUE = b"\x01"
_DOUBLE, _FLOAT = struct.Struct("<d"), struct.Struct("<f")


def as_own(record: bytes, schema: str) -> bytes | None:
    """Return a record in our own schema, if its bytes say the same there; else None."""
    layout, own = record_layout(schema), record_layout(RECORD_SCHEMA)
    if layout == own:
        return record
    is_plain = (*META_FIELDS, *layout.fields) == own.fields
    if is_plain and layout == replace(own, fields=layout.fields):
        return RECORD_FRONT[:-1] + record
    return None


def decode_files(record: bytes, schema: str) -> dict[str, FileInfo]:
    """Read a listing; empty where the record has none."""
    reader = _Reader(record)
    if not _enter(reader, record_layout(schema), "filesystemMetadata"):
        return {}
    try:
        return reader.files()
    except UnicodeDecodeError as error:
        raise CorruptTableError(
            "a listing of the metadata table has a name that is none"
        ) from error


def decode_stats(record: bytes, schema: str) -> FileStats | None:
    """Read a column's statistics; None where the record has none."""
    reader = _Reader(record)
    layout = record_layout(schema)
    if not _enter(reader, layout, "ColumnStatsMetadata"):
        return None
    return _stats(reader, layout)


def decode_place(record: bytes, schema: str) -> RecordPlace | None:
    """Read where a row is; None where the record does not say it."""
    reader = _Reader(record)
    layout = record_layout(schema)
    if not _enter(reader, layout, "recordIndexMetadata"):
        return None
    found = {name: _PLACE_FIELDS[name](reader) for name in layout.record_index}
    partition, text = str(found["partitionName"] or ""), str(found.get("fileId") or "")
    time = found["instantTime"] or 0
    if found.get("fileIdEncoding"):
        return RecordPlace(partition, text, int(time))
    mask = (1 << 64) - 1
    high, low = int(found["fileIdHighBits"] or 0), int(found["fileIdLowBits"] or 0)
    name = str(uuid.UUID(int=(high & mask) << 64 | low & mask))
    index = int(found["fileIndex"] if found["fileIndex"] is not None else -1)
    return RecordPlace(partition, name if index < 0 else f"{name}-{index}", int(time))


def decode_secondary(record: bytes, schema: str) -> bool:
    """Read whether an entry of a secondary index takes one back."""
    reader = _Reader(record)
    found = _enter(reader, record_layout(schema), "SecondaryIndexMetadata")
    return found and reader.flag()


_T = TypeVar("_T")


class _Reader:
    """A position in the bytes of a record."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def long(self) -> int:
        data, at = self.data, self.at
        value = shift = 0
        try:
            while True:
                byte = data[at]
                at += 1
                value |= (byte & 0x7F) << shift
                if byte < 0x80:
                    break
                shift += 7
        except IndexError as error:
            raise CorruptTableError("a record of the metadata table is cut off") from error
        self.at = at
        return value >> 1 ^ -(value & 1)

    def data_bytes(self) -> bytes:
        length = self.long()
        return self.take(length)

    def take(self, length: int) -> bytes:
        start, self.at = self.at, self.at + length
        if length < 0 or self.at > len(self.data):
            raise CorruptTableError("a record of the metadata table is cut off")
        return self.data[start : self.at]

    def text(self) -> str:
        return self.data_bytes().decode()

    def flag(self) -> bool:
        return self.take(1) == _TRUE

    def optional(self, read: Callable[[_Reader], _T]) -> _T | None:
        return read(self) if self.long() else None

    def files(self) -> dict[str, FileInfo]:
        found: dict[str, FileInfo] = {}
        while count := self.long():
            if count < 0:
                count = -count
                self.long()
            data, long, at = self.data, self.long, 0
            for _ in range(count):
                length = long()
                at = self.at
                self.at = at + length
                name = data[at : self.at].decode()
                size_bytes = long()
                found[name] = FileInfo(size_bytes, data[self.at : self.at + 1] == _TRUE)
                self.at += 1
            if self.at > len(data):
                raise CorruptTableError("a record of the metadata table is cut off")
        return found


def _enter(reader: _Reader, layout: RecordLayout, wanted: str) -> bool:
    """Go to a part of a record; False where the record does not have it."""
    for name in layout.fields:
        if name == "key":
            reader.data_bytes()
        elif name == "type":
            reader.long()
        elif reader.long():
            if name == wanted:
                return True
            _SKIPS[name](reader, layout)
    return False


def _skip_bloom(reader: _Reader, _: RecordLayout) -> None:
    reader.data_bytes()
    reader.data_bytes()
    reader.data_bytes()
    reader.flag()


def _skip_place(reader: _Reader, layout: RecordLayout) -> None:
    for name in layout.record_index:
        _PLACE_FIELDS[name](reader)


_PLACE_FIELDS: Mapping[str, Callable[[_Reader], str | int | None]] = {
    "partitionName": lambda reader: reader.optional(_Reader.text),
    "fileIdHighBits": lambda reader: reader.optional(_Reader.long),
    "fileIdLowBits": lambda reader: reader.optional(_Reader.long),
    "fileIndex": lambda reader: reader.optional(_Reader.long),
    "fileId": lambda reader: reader.optional(_Reader.text),
    "instantTime": lambda reader: reader.optional(_Reader.long),
    "fileIdEncoding": _Reader.long,
    "position": lambda reader: reader.optional(_Reader.long),
}


def _stats(reader: _Reader, layout: RecordLayout) -> FileStats:
    file_name = reader.optional(_Reader.text) or ""
    column = reader.optional(_Reader.text) or ""
    kinds: list[tuple[str, Value | None]] = [_value(reader, layout) for _ in range(2)]
    counts = [reader.optional(_Reader.long) or 0 for _ in range(4)]
    is_deleted = reader.flag()
    is_tight = "isTightBound" in layout.column_stats and reader.flag()
    ordinal, more = 0, ""
    if "valueType" in layout.column_stats and reader.long():
        ordinal, more = reader.long(), reader.optional(_Reader.text) or ""
    wrapper = next((name for name, value in kinds if value is not None), "Null")
    value_type = ValueType(ordinal) if ordinal else _KINDS[wrapper]
    precision, scale = (int(part) for part in more.split(",")) if more else (0, 0)
    if wrapper == "Decimal":
        precision, scale = DECIMAL_PRECISION, DECIMAL_SCALE
    values = [_decimal(value, value_type) for _, value in kinds]
    value_count, null_count, size_bytes, uncompressed_bytes = counts
    found = ColumnRange(
        column,
        value_type,
        values[0],
        values[1],
        null_count,
        value_count,
        size_bytes,
        uncompressed_bytes,
        precision,
        scale,
    )
    return FileStats(file_name, found, is_deleted, is_tight)


def _decimal(value: Value | None, value_type: ValueType) -> Value | None:
    if value_type is ValueType.DECIMAL and isinstance(value, bytes):
        return int.from_bytes(value, "big", signed=True)
    return value


# What the wrapper of a value says of its type in version 1.
_KINDS = {
    "Null": ValueType.NULL,
    "Boolean": ValueType.BOOLEAN,
    "Int": ValueType.INT,
    "Long": ValueType.LONG,
    "Float": ValueType.FLOAT,
    "Double": ValueType.DOUBLE,
    "Bytes": ValueType.BYTES,
    "String": ValueType.STRING,
    "Date": ValueType.DATE,
    "LocalDate": ValueType.DATE,
    "Decimal": ValueType.DECIMAL,
    "TimeMicros": ValueType.TIME_MICROS,
    "TimestampMicros": ValueType.TIMESTAMP_MICROS,
}


def _value(reader: _Reader, layout: RecordLayout) -> tuple[str, Value | None]:
    """Read a value and the kind of its wrapper."""
    number = reader.long()
    if not 0 <= number < len(layout.wrappers):
        raise CorruptTableError(f"statistics of the metadata table have a value of kind {number}")
    name = layout.wrappers[number]
    if name == "Null":
        return name, None
    if name in ("Bytes", "Decimal"):
        return name, reader.data_bytes()
    if name == "String":
        return name, reader.text()
    if name == "Boolean":
        return name, reader.flag()
    if name == "Double":
        return name, float(_DOUBLE.unpack(reader.take(8))[0])
    if name == "Float":
        return name, float(_FLOAT.unpack(reader.take(4))[0])
    if name == "Array":
        raise UnsupportedTableError("statistics of the metadata table have a list of values")
    return name, reader.long()


def _skip_stats(reader: _Reader, layout: RecordLayout) -> None:
    _stats(reader, layout)


def _skip_files(reader: _Reader, _: RecordLayout) -> None:
    reader.files()


def _skip_secondary(reader: _Reader, _: RecordLayout) -> None:
    reader.flag()


def _skip_text(reader: _Reader, _: RecordLayout) -> None:
    reader.data_bytes()


_SKIPS: Mapping[str, Callable[[_Reader, RecordLayout], None]] = {
    **dict.fromkeys(META_FIELDS, _skip_text),
    "filesystemMetadata": _skip_files,
    "BloomFilterMetadata": _skip_bloom,
    "ColumnStatsMetadata": _skip_stats,
    "recordIndexMetadata": _skip_place,
    "SecondaryIndexMetadata": _skip_secondary,
}
