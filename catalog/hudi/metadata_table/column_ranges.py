"""What the columns of a file lie between, as the metadata table stores it.  Pure.

The footer of a Parquet file says it. A reader of the index takes a file whose range of a column is
not known for one that has nothing but nulls there, and passes it over. So a file that a range
cannot be told for has no ranges at all: readers look into files that the index does not know.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import pyarrow.parquet as pq

# Texts this long have no place in statistics: writers leave the range out instead. No text of a
# table lies outside these.
_LOWEST_TEXT, _HIGHEST_TEXT = "", "\U0010ffff" * 8
_LIST_IN_PARQUET, _LIST_IN_INDEX = ".array", ".list.element"


class ValueType(IntEnum):
    """What the values of a range are, as Hudi's second version of statistics numbers them."""

    NULL = 1
    BOOLEAN = 2
    INT = 3
    LONG = 4
    FLOAT = 5
    DOUBLE = 6
    STRING = 7
    BYTES = 8
    FIXED = 9
    DECIMAL = 10
    UUID = 11
    DATE = 12
    TIME_MILLIS = 13
    TIME_MICROS = 14
    TIMESTAMP_MILLIS = 15
    TIMESTAMP_MICROS = 16
    TIMESTAMP_NANOS = 17
    LOCAL_TIMESTAMP_MILLIS = 18
    LOCAL_TIMESTAMP_MICROS = 19
    LOCAL_TIMESTAMP_NANOS = 20


# Numbers of any kind, logical types as the number that stores them, a decimal without its scale.
Value: TypeAlias = bool | int | float | str | bytes


@dataclass(frozen=True, slots=True)
class ColumnRange:
    """What a column of a file, or of a partition, lies between.

    Attributes:
        column: its name, nested names joined by dots.
        value_type: what `minimum` and `maximum` are.
        minimum: the lowest value; None when all are null.
        maximum: the highest value; None when all are null.
        null_count: how many are null.
        value_count: how many there are, nulls among them.
        size_bytes: their length on disk.
        uncompressed_bytes: their length before compression.
        precision: digits of a decimal.
        scale: digits of a decimal behind its point.
    """

    column: str
    value_type: ValueType
    minimum: Value | None
    maximum: Value | None
    null_count: int
    value_count: int
    size_bytes: int
    uncompressed_bytes: int
    precision: int = 0
    scale: int = 0


def footer_ranges(footer: pq.FileMetaData, columns: Collection[str]) -> tuple[ColumnRange, ...]:
    """Return the ranges of these columns in a Parquet file; none at all if one cannot be told.

    A column that the file lacks has no range, which says that it is null in all rows.
    """
    numbers = {
        number: name
        for number in range(footer.num_columns)
        if (name := _index_name(footer.schema.column(number).path)) in columns
    }
    found = []
    for number, name in numbers.items():
        kind = _value_type(footer.schema.column(number))
        if kind is None:
            return ()
        chunks = (footer.row_group(group).column(number) for group in range(footer.num_row_groups))
        ranges = [_chunk_range(chunk, replace(kind, column=name)) for chunk in chunks]
        known = [one for one in ranges if one is not None]
        if len(known) != len(ranges):
            return ()
        found.append(merge_ranges(known) if known else replace(kind, column=name))
    return tuple(found)


def merge_ranges(ranges: Iterable[ColumnRange]) -> ColumnRange:
    """Return what holds for all rows of one column of several files or row groups.

    The types must be the same, but for ranges without any value.
    """
    parts = list(ranges)
    valued = [part for part in parts if part.minimum is not None and part.maximum is not None]
    lows: list[Any] = [part.minimum for part in valued]
    highs: list[Any] = [part.maximum for part in valued]
    return replace(
        (valued or parts)[0],
        minimum=min(lows) if lows else None,
        maximum=max(highs) if highs else None,
        null_count=sum(part.null_count for part in parts),
        value_count=sum(part.value_count for part in parts),
        size_bytes=sum(part.size_bytes for part in parts),
        uncompressed_bytes=sum(part.uncompressed_bytes for part in parts),
    )


def _index_name(path: str) -> str:
    return path.replace(_LIST_IN_PARQUET, _LIST_IN_INDEX)


def _empty(value_type: ValueType, *, precision: int = 0, scale: int = 0) -> ColumnRange:
    return ColumnRange("", value_type, None, None, 0, 0, 0, 0, precision, scale)


_PHYSICAL = {
    "BOOLEAN": ValueType.BOOLEAN,
    "INT32": ValueType.INT,
    "INT64": ValueType.LONG,
    "FLOAT": ValueType.FLOAT,
    "DOUBLE": ValueType.DOUBLE,
    "BYTE_ARRAY": ValueType.BYTES,
    "FIXED_LEN_BYTE_ARRAY": ValueType.FIXED,
}
_LOGICAL = {"STRING": ValueType.STRING, "DATE": ValueType.DATE}
_UNITS = {"milliseconds": "MILLIS", "microseconds": "MICROS", "nanoseconds": "NANOS"}


def _value_type(column: pq.ColumnSchema) -> ColumnRange | None:
    """Return a range without values of a column's type; None for types that Hudi does not know."""
    logical = column.logical_type.type
    if logical == "NONE":
        physical = _PHYSICAL.get(column.physical_type)
        return _empty(physical) if physical is not None else None
    if logical == "DECIMAL":
        return _empty(ValueType.DECIMAL, precision=column.precision, scale=column.scale)
    if logical in _LOGICAL:
        return _empty(_LOGICAL[logical])
    if logical in ("TIME", "TIMESTAMP"):
        said = json.loads(column.logical_type.to_json())
        is_local = logical == "TIMESTAMP" and not said["isAdjustedToUTC"]
        name = f"{'LOCAL_' if is_local else ''}{logical}_{_UNITS[said['timeUnit']]}"
        return _empty(ValueType[name]) if name in ValueType.__members__ else None
    return None


def _chunk_range(chunk: pq.ColumnChunkMetaData, kind: ColumnRange) -> ColumnRange | None:
    """Return the range of a column chunk; None if the footer does not say it."""
    found = replace(
        kind,
        value_count=chunk.num_values,
        size_bytes=chunk.total_compressed_size,
        uncompressed_bytes=chunk.total_uncompressed_size,
    )
    statistics = chunk.statistics if chunk.is_stats_set else None
    if statistics is None or not statistics.has_null_count:
        return found if chunk.num_values == 0 else None
    found = replace(found, null_count=statistics.null_count)
    if statistics.null_count == chunk.num_values:
        return found
    if not statistics.has_min_max:
        return _unbounded(found)
    minimum, maximum = statistics.min_raw, statistics.max_raw
    return replace(found, minimum=_value(minimum, kind), maximum=_value(maximum, kind))


def _unbounded(found: ColumnRange) -> ColumnRange | None:
    """Return a range that every value lies in: texts may be too long for statistics."""
    if found.value_type is ValueType.STRING:
        return replace(found, minimum=_LOWEST_TEXT, maximum=_HIGHEST_TEXT)
    return None


def _value(raw: Any, kind: ColumnRange) -> Value:
    """Return a value of statistics as a range holds it."""
    if kind.value_type is ValueType.STRING:
        return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
    if kind.value_type is ValueType.DECIMAL and isinstance(raw, bytes):
        return int.from_bytes(raw, "big", signed=True)
    value: Value = raw
    return value


def rescaled(ranges: Iterable[ColumnRange], target: ColumnRange) -> Iterator[ColumnRange] | None:
    """Return ranges of a column whose type was widened, all in the type of `target`.

    None where a type cannot be widened to it without changing what a value means.
    """
    found = []
    for one in ranges:
        widened = _widened(one, target)
        if widened is None:
            return None
        found.append(widened)
    return iter(found)


_WIDENINGS = {
    ValueType.LONG: (ValueType.INT,),
    ValueType.FLOAT: (ValueType.INT, ValueType.LONG),
    ValueType.DOUBLE: (ValueType.INT, ValueType.LONG),
}


def _widened(one: ColumnRange, target: ColumnRange) -> ColumnRange | None:
    kind = (one.value_type, one.precision, one.scale)
    wanted = (target.value_type, target.precision, target.scale)
    if kind == wanted or one.minimum is None:
        return replace(
            one,
            value_type=target.value_type,
            precision=target.precision,
            scale=target.scale,
        )
    if one.value_type not in _WIDENINGS.get(target.value_type, ()):
        return None
    is_whole = target.value_type is ValueType.LONG
    low, high = one.minimum, one.maximum
    if isinstance(low, (str, bytes)) or isinstance(high, (str, bytes)) or high is None:
        return None
    convert = int if is_whole else float
    return replace(one, value_type=target.value_type, minimum=convert(low), maximum=convert(high))
