"""Ranges of columns from footers: what can be told, and what is as wide as its type."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, time
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.hudi.metadata_table.column_ranges import (
    ColumnRange,
    Value,
    ValueType,
    footer_ranges,
    merge_ranges,
    unbounded,
)


def ranges_of(table: pa.Table, *, rows: int = 1000) -> dict[str, ColumnRange]:
    target = io.BytesIO()
    pq.write_table(table, target, row_group_size=rows, store_decimal_as_integer=True)
    return {one.column: one for one in footer_ranges(pq.read_metadata(target))}


MOMENT = datetime(2020, 1, 1, tzinfo=UTC)
CASES = [
    (pa.array([True, False]), ValueType.BOOLEAN, False, True),
    (pa.array([3, None, -1], pa.int32()), ValueType.INT, -1, 3),
    (pa.array([3, -1], pa.int64()), ValueType.LONG, -1, 3),
    (pa.array([3.5, -1], pa.float32()), ValueType.FLOAT, -1, 3.5),
    (pa.array([3.5, -1], pa.float64()), ValueType.DOUBLE, -1, 3.5),
    (pa.array(["b", "ä"]), ValueType.STRING, "b", "ä"),
    (pa.array([b"b", b"\xff"]), ValueType.BYTES, b"b", b"\xff"),
    (pa.array([b"b1", b"a2"], pa.binary(2)), ValueType.FIXED, b"a2", b"b1"),
    (pa.array([date(1970, 1, 2)]), ValueType.DATE, 1, 1),
    (pa.array([time(0, 0, 1)], pa.time32("ms")), ValueType.TIME_MILLIS, 1000, 1000),
    (pa.array([time(0, 0, 1)], pa.time64("us")), ValueType.TIME_MICROS, 1_000_000, 1_000_000),
    (
        pa.array([MOMENT], pa.timestamp("us", "UTC")),
        ValueType.TIMESTAMP_MICROS,
        1577836800000000,
        1577836800000000,
    ),
    (
        pa.array([MOMENT.replace(tzinfo=None)], pa.timestamp("ms")),
        ValueType.LOCAL_TIMESTAMP_MILLIS,
        1577836800000,
        1577836800000,
    ),
    (
        pa.array([Decimal("1.25"), Decimal("-7.00")], pa.decimal128(20, 2)),
        ValueType.DECIMAL,
        -700,
        125,
    ),
    (pa.array([Decimal("1.25")], pa.decimal128(5, 2)), ValueType.DECIMAL, 125, 125),
]


@pytest.mark.parametrize(("values", "kind", "low", "high"), CASES)
def test_types(values: pa.Array, kind: ValueType, low: Value, high: Value) -> None:
    found = ranges_of(pa.table({"c": values}))["c"]
    assert (found.value_type, found.minimum, found.maximum) == (kind, low, high)
    assert (found.null_count, found.value_count) == (values.null_count, len(values))


def test_all_null_and_empty() -> None:
    found = ranges_of(pa.table({"c": pa.nulls(4, pa.int64())}))["c"]
    assert (found.minimum, found.maximum, found.null_count, found.value_count) == (None, None, 4, 4)
    empty = ranges_of(pa.table({"c": pa.nulls(0, pa.int64())}))["c"]
    assert (empty.minimum, empty.value_count) == (None, 0)


def test_texts_too_long_for_statistics_lie_in_the_widest_range() -> None:
    text = "x" * 9000
    found = ranges_of(pa.table({"c": [text, None, "a"]}))["c"]
    assert found.minimum == ""
    assert isinstance(found.maximum, str)
    assert found.maximum > text
    assert (found.null_count, found.value_count) == (1, 3)


def test_texts_that_are_none_lie_in_the_widest_range() -> None:
    """As `cast(binary as string)` makes them: replaced, one would be greater than it is."""
    texts = pa.Array.from_buffers(pa.string(), 2, pa.array([b"\x80a", b"\xc3"]).buffers())
    found = ranges_of(pa.table({"c": texts}))["c"]
    assert (found.minimum, found.maximum) == ("", "\U0010ffff" * 8)


def test_no_statistics_at_all() -> None:
    target = io.BytesIO()
    pq.write_table(pa.table({"c": [1]}), target, write_statistics=False)
    (found,) = footer_ranges(pq.read_metadata(target))
    assert (found.minimum, found.maximum) == (-(1 << 63), (1 << 63) - 1)
    assert 0 < found.null_count < found.value_count


def test_chosen_columns_and_nested_names() -> None:
    table = pa.table({"s": pa.array([{"x": 1, "y": "a"}]), "z": [1]})
    target = io.BytesIO()
    pq.write_table(table, target)
    footer = pq.read_metadata(target)
    assert [one.column for one in footer_ranges(footer)] == ["s.x", "s.y", "z"]
    assert [one.column for one in footer_ranges(footer, {"s.y", "absent"})] == ["s.y"]


@settings(max_examples=40)
@given(
    st.lists(st.one_of(st.none(), st.integers(-(1 << 62), 1 << 62)), min_size=1), st.integers(1, 5)
)
def test_row_groups_come_to_one_range(values: list[int | None], rows: int) -> None:
    found = ranges_of(pa.table({"c": pa.array(values, pa.int64())}), rows=rows)["c"]
    present = [value for value in values if value is not None]
    assert found.minimum == (min(present) if present else None)
    assert found.maximum == (max(present) if present else None)
    assert found.null_count == len(values) - len(present)
    assert found.value_count == len(values)


def _range(kind: ValueType, low: Value | None, high: Value | None) -> ColumnRange:
    return ColumnRange("c", kind, low, high, 0, 1, 10, 20)


def test_widened_types() -> None:
    old = _range(ValueType.INT, 1, 2)
    new = _range(ValueType.LONG, 5, 1 << 40)
    assert merge_ranges([old, new], new).minimum == 1
    double = _range(ValueType.DOUBLE, 1.5, 1.5)
    assert merge_ranges([old, double], double).maximum == 2.0
    text = _range(ValueType.STRING, "a", "b")
    found = merge_ranges([old, text], text)
    assert (found.minimum, found.maximum) == ("", "\U0010ffff" * 8)
    nothing = _range(ValueType.NULL, None, None)
    assert merge_ranges([nothing, text], text).minimum == "a"


def test_decimals_of_other_scales() -> None:
    old = ColumnRange("c", ValueType.DECIMAL, 15, 25, 0, 1, 0, 0, 30, 15)
    new = ColumnRange("c", ValueType.DECIMAL, 3, 4, 0, 1, 0, 0, 10, 1)
    found = merge_ranges([old, new], new)
    assert (found.minimum, found.maximum, found.scale) == (0, 4, 1)


@pytest.mark.parametrize("kind", [kind for kind in ValueType if kind is not ValueType.NULL])
def test_the_widest_range_of_every_type(kind: ValueType) -> None:
    found = unbounded(ColumnRange("c", kind, None, None, 0, 1, 0, 0, 5, 2))
    assert found.minimum is not None
    assert found.maximum is not None
