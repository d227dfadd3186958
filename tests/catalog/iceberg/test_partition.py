"""Partition keys identify partitions exactly; labels read as the reference implementation's."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.transforms import parse_transform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    IcebergType,
    IntegerType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
)

from catalog.iceberg.partition import (
    Spec,
    SpecField,
    Value,
    decode_key,
    directory,
    encode_key,
    from_avro,
    label,
)
from catalog.location import Location

SCALE = 3
DIGITS = st.integers(1 - 10**38, 10**38 - 1)
DECIMALS = DIGITS.map(lambda unscaled: Decimal(f"{unscaled}E-{SCALE}"))
VALUES: st.SearchStrategy[Value] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(),
    st.binary(),
    DECIMALS,
    st.uuids(),
)


def _identity(value: Value) -> tuple[Any, ...]:
    """What tells partition values apart: all NaN are one, the zeros are two, types never meet."""
    if isinstance(value, float):
        return (float, "nan") if math.isnan(value) else (float, value, math.copysign(1, value))
    return (type(value), value)


@given(st.integers(0, 1000), st.lists(VALUES, max_size=4))
def test_a_key_gives_back_what_it_was_made_from(spec_id: int, values: list[Value]) -> None:
    spec_again, values_again = decode_key(encode_key(spec_id, values))

    assert spec_again == spec_id
    assert list(map(_identity, values_again)) == list(map(_identity, values))


@given(st.lists(VALUES, max_size=3), st.lists(VALUES, max_size=3))
def test_keys_are_equal_exactly_when_partitions_are(one: list[Value], two: list[Value]) -> None:
    same = list(map(_identity, one)) == list(map(_identity, two))

    assert (encode_key(1, one) == encode_key(1, two)) == same
    assert encode_key(1, one) != encode_key(2, one)


@given(DIGITS, st.integers(0, 4))
def test_a_decimal_is_the_same_in_any_width(unscaled: int, spare: int) -> None:
    width = 16 + spare
    kind = {"type": "fixed", "size": width, "logicalType": "decimal", "precision": 38, "scale": 3}
    value = from_avro(["null", kind], unscaled.to_bytes(width, "big", signed=True))

    assert isinstance(value, Decimal)
    assert value.as_tuple() == Decimal(f"{unscaled}E-{SCALE}").as_tuple()
    assert decode_key(encode_key(0, [value])) == (0, [value])


def test_uuids_and_nulls_keep_their_meaning() -> None:
    value = UUID(int=77)
    kind = {"type": "fixed", "size": 16, "logicalType": "uuid"}

    assert from_avro(kind, value.bytes) == value
    assert from_avro(["null", kind], None) is None


MICROSECONDS = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1)).map(
    lambda one: (one - dt.datetime(1970, 1, 1)) // dt.timedelta(microseconds=1)
)
# As PyIceberg shows them: (transform, column type, values).
SHOWN: list[tuple[str, IcebergType, st.SearchStrategy[Any]]] = [
    ("identity", StringType(), st.text()),
    ("identity", IntegerType(), st.integers(-(2**31), 2**31 - 1)),
    ("identity", BooleanType(), st.booleans()),
    ("identity", DateType(), st.integers(-100000, 100000)),
    ("identity", BinaryType(), st.binary()),
    ("identity", DecimalType(38, SCALE), DECIMALS),
    ("bucket[16]", LongType(), st.integers(0, 15)),
    ("truncate[10]", LongType(), st.integers(-1000, 1000)),
    ("truncate[3]", StringType(), st.text(max_size=3)),
    ("year", DateType(), st.integers(-60, 200)),
    ("month", DateType(), st.integers(-700, 2000)),
    ("day", TimestampType(), st.integers(-20000, 70000)),
    ("hour", TimestamptzType(), st.integers(-100000, 2000000)),
    ("void", StringType(), st.none()),
]


@pytest.mark.parametrize(("transform", "kind", "values"), SHOWN)
@given(data=st.data())
def test_labels_are_those_of_the_library(
    transform: str, kind: IcebergType, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    value = data.draw(st.none() | values)
    spec = Spec(0, (SpecField(1000, "p", 1, transform, str(kind)),))

    assert label(spec, [value]) == "p=" + parse_transform(transform).to_human_string(kind, value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (TimestampType(), "2026-11-20T13:14:15.000016"),
        (TimestamptzType(), "2026-11-20T13:14:15.000016+00:00"),
        (TimeType(), "13:14:15.000016"),
    ],
)
def test_times_are_shown_in_full(kind: IcebergType, text: str) -> None:
    moment = dt.datetime(2026, 11, 20, 13, 14, 15, 16)
    start = dt.datetime(2026, 11, 20) if isinstance(kind, TimeType) else dt.datetime(1970, 1, 1)
    spec = Spec(0, (SpecField(1000, "at", 1, "identity", str(kind)),))

    assert label(spec, [(moment - start) // dt.timedelta(microseconds=1)]) == f"at={text}"


def test_dates_beyond_the_calendar_of_python_are_shown() -> None:
    spec = Spec(0, (SpecField(1000, "day", 1, "day", "date"),))

    assert label(spec, [5_000_000]) == "day=15659-07-15"


@given(st.text(min_size=1, max_size=20), st.none() | st.text(max_size=50))
def test_any_partition_has_a_directory(name: str, value: str | None) -> None:
    spec = Spec(0, (SpecField(1000, name, 1, "identity", "string"),) * 2)
    location = Location.parse("s3://bucket/data")
    inner = location.child(directory(spec, [value, value]), "f.parquet")

    assert inner.is_within(location)
    assert len(inner.segments) == 4


def test_several_fields_and_none() -> None:
    fields = (
        SpecField(1000, "day", 1, "day", "date"),
        SpecField(1001, "region", 2, "identity", "string"),
    )

    assert label(Spec(0, fields), [20777, "eu/1"]) == "day=2026-11-20/region=eu/1"
    assert directory(Spec(0, fields), [20777, "eu/1"]) == "day=2026-11-20/region=eu%2F1"
    assert label(Spec(0, ()), []) == directory(Spec(0, ()), []) == ""
    assert Spec(0, fields).order({1001: "eu"}) == [None, "eu"]
