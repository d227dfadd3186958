"""What the columns of a file lie between, as the metadata table stores it.  Pure.

The footer of a Parquet file says it. Readers take a file, or a partition, that has no range of a
column for one with nothing but nulls there, and pass it over. So a range that cannot be told is
made as wide as its type.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

if TYPE_CHECKING:
    import pyarrow.parquet as pq

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


def footer_ranges(
    footer: pq.FileMetaData, columns: Collection[str] | None = None
) -> tuple[ColumnRange, ...]:
    """Return the ranges of columns in a Parquet file: of these as far as it has them, or of all."""
    names = [_index_name(footer.schema.column(at).path) for at in range(footer.num_columns)]
    found = []
    for number, name in enumerate(names):
        if columns is not None and name not in columns:
            continue
        empty = replace(_empty_range(footer.schema.column(number)), column=name)
        groups = (footer.row_group(group) for group in range(footer.num_row_groups))
        ranges = [_chunk_range(group.column(number), empty) for group in groups]
        found.append(merge_ranges(ranges, empty))
    return tuple(found)


def merge_ranges(ranges: Iterable[ColumnRange], target: ColumnRange) -> ColumnRange:
    """Return what holds for all rows of one column, of several files or row groups.

    Args:
        ranges: of the column, whose type may have been widened since.
        target: has the name of the column and the type of the result.
    """
    parts = [_widened(one, target) for one in ranges]
    lows: list[Any] = [part.minimum for part in parts if part.minimum is not None]
    highs: list[Any] = [part.maximum for part in parts if part.maximum is not None]
    return replace(
        target,
        minimum=min(lows) if lows else None,
        maximum=_highest(highs) if highs else None,
        null_count=sum(part.null_count for part in parts),
        value_count=sum(part.value_count for part in parts),
        size_bytes=sum(part.size_bytes for part in parts),
        uncompressed_bytes=sum(part.uncompressed_bytes for part in parts),
    )


def unbounded(found: ColumnRange) -> ColumnRange:
    """Return a range that every value of its type lies in."""
    if found.value_type is ValueType.DECIMAL:
        highest = 10**found.precision - 1
        return replace(found, minimum=-highest, maximum=highest)
    low, high = _BOUNDS.get(found.value_type, (None, None))
    return replace(found, minimum=low, maximum=high)


def _highest(values: list[Any]) -> Value:
    """Return the highest value, where no number stands above all others."""
    nothing = next((value for value in values if value != value), None)
    highest: Value = max(values) if nothing is None else nothing
    return highest


_INT_MAX, _TEXT_MAX = (1 << 31) - 1, "\U0010ffff" * 8
# The years that dates can be written in: readers compute with them.
_YEARS_MILLISECONDS = (-62_135_596_800_000, 253_402_300_799_999)
_DAY_MILLISECONDS = 86_400_000
_BOUNDS: Mapping[ValueType, tuple[Value, Value]] = {
    ValueType.BOOLEAN: (False, True),
    ValueType.INT: (-_INT_MAX - 1, _INT_MAX),
    ValueType.LONG: (-(1 << 63), (1 << 63) - 1),
    ValueType.FLOAT: (float("-inf"), float("nan")),
    ValueType.DOUBLE: (float("-inf"), float("nan")),
    ValueType.STRING: ("", _TEXT_MAX),
    ValueType.BYTES: (b"", b"\xff" * 32),
    ValueType.FIXED: (b"", b"\xff" * 32),
    ValueType.UUID: (str(UUID(int=0)), str(UUID(int=(1 << 128) - 1))),
    ValueType.DATE: (-719_162, 2_932_896),
    ValueType.TIME_MILLIS: (0, _DAY_MILLISECONDS - 1),
    ValueType.TIME_MICROS: (0, _DAY_MILLISECONDS * 1000 - 1),
    ValueType.TIMESTAMP_MILLIS: _YEARS_MILLISECONDS,
    ValueType.LOCAL_TIMESTAMP_MILLIS: _YEARS_MILLISECONDS,
    ValueType.TIMESTAMP_MICROS: (_YEARS_MILLISECONDS[0] * 1000, _YEARS_MILLISECONDS[1] * 1000),
    ValueType.LOCAL_TIMESTAMP_MICROS: (
        _YEARS_MILLISECONDS[0] * 1000,
        _YEARS_MILLISECONDS[1] * 1000,
    ),
    ValueType.TIMESTAMP_NANOS: (-(1 << 63), (1 << 63) - 1),
    ValueType.LOCAL_TIMESTAMP_NANOS: (-(1 << 63), (1 << 63) - 1),
}


def _index_name(path: str) -> str:
    return path.replace(_LIST_IN_PARQUET, _LIST_IN_INDEX)


_PHYSICAL = {
    "BOOLEAN": ValueType.BOOLEAN,
    "INT32": ValueType.INT,
    "INT64": ValueType.LONG,
    "INT96": ValueType.TIMESTAMP_MICROS,
    "FLOAT": ValueType.FLOAT,
    "DOUBLE": ValueType.DOUBLE,
    "BYTE_ARRAY": ValueType.BYTES,
    "FIXED_LEN_BYTE_ARRAY": ValueType.FIXED,
}
_LOGICAL = {"STRING": ValueType.STRING, "DATE": ValueType.DATE}
_UNITS = {"milliseconds": "MILLIS", "microseconds": "MICROS", "nanoseconds": "NANOS"}


def _empty_range(column: pq.ColumnSchema) -> ColumnRange:
    """Return a range without values of a column's type."""
    empty = ColumnRange("", _PHYSICAL[column.physical_type], None, None, 0, 0, 0, 0)
    logical = column.logical_type.type
    if logical == "DECIMAL":
        return replace(
            empty, value_type=ValueType.DECIMAL, precision=column.precision, scale=column.scale
        )
    if logical in _LOGICAL:
        return replace(empty, value_type=_LOGICAL[logical])
    if logical in ("TIME", "TIMESTAMP"):
        said = json.loads(column.logical_type.to_json())
        is_local = logical == "TIMESTAMP" and not said["isAdjustedToUTC"]
        name = f"{'LOCAL_' if is_local else ''}{logical}_{_UNITS[said['timeUnit']]}"
        return replace(empty, value_type=ValueType.__members__.get(name, empty.value_type))
    return empty


def _chunk_range(chunk: pq.ColumnChunkMetaData, empty: ColumnRange) -> ColumnRange:
    """Return the range of a column chunk, as wide as its type where the footer does not say it."""
    found = replace(
        empty,
        value_count=chunk.num_values,
        size_bytes=chunk.total_compressed_size,
        uncompressed_bytes=chunk.total_uncompressed_size,
    )
    statistics = chunk.statistics if chunk.is_stats_set else None
    if chunk.num_values == 0:
        return found
    if statistics is None or not statistics.has_null_count:
        # No filter for nulls, or for anything else, may pass it over.
        counts = max(2, chunk.num_values)
        return unbounded(replace(found, null_count=counts - 1, value_count=counts))
    found = replace(found, null_count=statistics.null_count)
    if statistics.null_count == chunk.num_values:
        return found
    # Texts may be too long for statistics, and not all numbers have an order.
    if not statistics.has_min_max or chunk.physical_type == "INT96":
        return unbounded(found)
    try:
        minimum, maximum = (
            _value(raw, empty.value_type) for raw in (statistics.min_raw, statistics.max_raw)
        )
    except UnicodeDecodeError:
        # What would stand for the bytes that are no text lies elsewhere in the order.
        return unbounded(found)
    return replace(found, minimum=minimum, maximum=maximum)


def _value(raw: Any, value_type: ValueType) -> Value:
    """Return a value of statistics as a range holds it.

    Raises:
        UnicodeDecodeError: a text is none.
    """
    if isinstance(raw, bytes) and value_type is ValueType.STRING:
        return raw.decode()
    if isinstance(raw, bytes) and value_type is ValueType.DECIMAL:
        return int.from_bytes(raw, "big", signed=True)
    value: Value = raw
    return value


_WHOLE = frozenset((ValueType.INT, ValueType.DATE, ValueType.TIME_MILLIS))
_FRACTIONS = frozenset((ValueType.FLOAT, ValueType.DOUBLE))
_OTHERS = frozenset(
    (
        ValueType.NULL,
        ValueType.BOOLEAN,
        ValueType.STRING,
        ValueType.BYTES,
        ValueType.FIXED,
        ValueType.DECIMAL,
        ValueType.UUID,
    )
)
_LONG = frozenset(ValueType) - _WHOLE - _FRACTIONS - _OTHERS


def _widened(one: ColumnRange, target: ColumnRange) -> ColumnRange:
    """Return a range in the type of another, to which the column's type was widened."""
    found = replace(
        one,
        column=target.column,
        value_type=target.value_type,
        precision=target.precision,
        scale=target.scale,
    )
    if one.minimum is None or one.maximum is None:
        return found
    values = (one.minimum, one.maximum)
    if target.value_type is ValueType.DECIMAL is one.value_type:
        scaled = [_rescaled(int(value), one.scale, target.scale) for value in values]
        return replace(found, minimum=scaled[0][0], maximum=scaled[1][1])
    kinds = (one.value_type, target.value_type)
    if kinds[0] is kinds[1] or _is_same_storage(*kinds):
        return found
    if kinds[1] in _FRACTIONS and kinds[0] in _WHOLE | _LONG | _FRACTIONS:
        return replace(found, minimum=float(values[0]), maximum=float(values[1]))
    return unbounded(found)


def _is_same_storage(one: ValueType, target: ValueType) -> bool:
    if target in _LONG:
        return one in _WHOLE | _LONG
    return target in _WHOLE and one in _WHOLE


def _rescaled(value: int, scale: int, target: int) -> tuple[int, int]:
    """Return a decimal with another scale, rounded down and up."""
    if target >= scale:
        exact = value * 10 ** (target - scale)
        return exact, exact
    divisor = 10 ** (scale - target)
    return value // divisor, -(-value // divisor)
