"""Partition values: text to scalar and back to the same group, whatever the text."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.delta.partition import Partition, PartitionColumn
from catalog.errors import CorruptTableError
from catalog.location import Location

UTC = dt.UTC
ROOT = Location.parse("/lake/orders")


def column(kind: pa.DataType) -> PartitionColumn:
    return PartitionColumn("k", "col-7", 1, kind)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (pa.string(), "a b/ü", "a b/ü"),
        (pa.int8(), "-128", -128),
        (pa.int16(), "7", 7),
        (pa.int32(), "2147483647", 2147483647),
        (pa.int64(), "-9223372036854775808", -9223372036854775808),
        (pa.float32(), "0.5", 0.5),
        (pa.float64(), "-Infinity", float("-inf")),
        (pa.bool_(), "true", True),
        (pa.bool_(), "False", False),
        (pa.date32(), "2026-02-28", dt.date(2026, 2, 28)),
        (pa.date32(), "0001-01-01", dt.date(1, 1, 1)),
        (pa.decimal128(10, 2), "-12345678.90", Decimal("-12345678.90")),
        (pa.decimal128(38, 0), "9" * 38, Decimal("9" * 38)),
        (pa.decimal128(5, 2), "1.5", Decimal("1.50")),
        (pa.binary(), "\x01\x02é", b"\x01\x02\xc3\xa9"),
        (pa.timestamp("us"), "2020-01-01 01:02:03", dt.datetime(2020, 1, 1, 1, 2, 3)),
        (pa.timestamp("us"), "2020-01-01 00:00:00.1", dt.datetime(2020, 1, 1, 0, 0, 0, 100000)),
    ],
)
def test_values_of_each_type(kind: pa.DataType, text: str, value: object) -> None:
    found = column(kind).scalar(text)
    assert (found.type, found.as_py()) == (kind, value)


@pytest.mark.parametrize(
    "text",
    [
        "2020-01-01 10:00:00",
        "2020-01-01 10:00:00.000000",
        "2020-01-01T10:00:00.000000Z",
        "2020-01-01 12:00:00+02:00",
        "2020-01-01T10:00:00+0000",
    ],
)
def test_points_in_time_in_every_spelling(text: str) -> None:
    found = column(pa.timestamp("us", "UTC")).scalar(text)
    assert found.as_py() == dt.datetime(2020, 1, 1, 10, tzinfo=UTC)


def test_not_a_number() -> None:
    assert str(column(pa.float64()).scalar("NaN")) == "nan"


@pytest.mark.parametrize("kind", [pa.string(), pa.int64(), pa.binary(), pa.date32()])
@pytest.mark.parametrize("text", [None, ""])
def test_empty_text_is_null(kind: pa.DataType, text: str | None) -> None:
    assert not column(kind).scalar(text).is_valid


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (pa.int8(), "300"),
        (pa.int64(), "1.5"),
        (pa.bool_(), "yes"),
        (pa.date32(), "yesterday"),
        (pa.decimal128(5, 2), "1.234"),
        (pa.decimal128(5, 2), "1234.5"),
        (pa.decimal128(5, 2), "NaN"),
        (pa.timestamp("us"), "2020"),
        (pa.timestamp("us", "UTC"), "2020-13-01 00:00:00"),
        (pa.list_(pa.int64()), "1"),
    ],
)
def test_what_is_no_value_is_refused_by_name(kind: pa.DataType, text: str) -> None:
    with pytest.raises(CorruptTableError, match="'k' has the value"):
        column(kind).scalar(text)


VALUES = st.lists(st.none() | st.text(min_size=1), max_size=3).map(tuple)


@given(VALUES, st.booleans())
def test_a_key_names_one_partition(values: tuple[str | None, ...], is_foreign: bool) -> None:
    partition = Partition(values, is_foreign)
    assert Partition.of(partition.key) == partition


@given(VALUES, VALUES)
def test_different_partitions_have_different_keys(
    one: tuple[str | None, ...], other: tuple[str | None, ...]
) -> None:
    assert (Partition(one).key == Partition(other).key) == (one == other)
    assert Partition(one).key != Partition(other, is_foreign=True).key


@given(st.lists(st.none() | st.text(st.characters(codec="utf-8"), min_size=1), max_size=3))
def test_directories_stay_within_the_table(values: list[str | None]) -> None:
    columns = [column(pa.string())] * len(values)
    names = Partition(tuple(values)).directories(columns)
    if any(ord(c) in range(0x80, 0xA0) for value in values for c in value or ""):
        return
    assert ROOT.child(*names, "x.parquet").is_within(ROOT)
    assert len(names) == len(values)


def test_directories_and_labels_of_people() -> None:
    columns = [column(pa.string()), PartitionColumn("day", "day", 2, pa.date32())]
    partition = Partition(("a b/c%", None))

    assert partition.directories(columns) == (
        "col-7=a%20b%2Fc%25",
        "day=__HIVE_DEFAULT_PARTITION__",
    )
    assert partition.label(columns) == "k=a b/c%/day=null"


@pytest.mark.parametrize(
    ("value", "directory"),
    [
        (None, "col-7=__HIVE_DEFAULT_PARTITION__"),
        ("", "col-7="),
        ("..", "col-7=.."),
        ("a..b", "col-7=a..b"),
        ("../a", "col-7=__%2Fa"),
        ("..\\a", "col-7=__%5Ca"),
        ("a/./b", "col-7=a%2F_%2Fb"),
        ("a/%2e/b", "col-7=a%2F_2e%2Fb"),
        ("a%2F.%2Fb", "col-7=a_2F__2Fb"),
        ("a/b.txt", "col-7=a%2Fb.txt"),
    ],
)
def test_directories_tell_values_apart_and_lead_nowhere(value: str | None, directory: str) -> None:
    assert Partition((value,)).directories([column(pa.string())]) == (directory,)
    assert ROOT.child(directory, "x.parquet").is_within(ROOT)


@given(st.text(min_size=1, max_size=20), st.integers(1, 40))
def test_directories_have_names_that_file_systems_take(text: str, times: int) -> None:
    (found,) = Partition((text * times,)).directories([column(pa.string())])
    assert len(found.encode()) <= 255
    assert not re.search("%(?![0-9A-F]{2})", found)
    assert Location.parse("/lake").child(found).name == found


def test_long_values_that_begin_alike_have_directories_apart() -> None:
    found = {
        Partition(("x" * 300 + end,)).directories([column(pa.string())])[0] for end in ("a", "b")
    }
    assert len(found) == 2


def test_many_long_values_leave_room_for_the_key_of_an_object() -> None:
    columns = [column(pa.string())] * 5
    found = Partition(("ü" * 300,) * 5).directories(columns)
    assert sum(len(one.encode()) + 1 for one in found) <= 645
