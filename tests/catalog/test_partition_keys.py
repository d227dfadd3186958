"""New rows belong to the partitions that the formats' own writers put them in."""

from __future__ import annotations

import datetime
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import Transform, parse_transform
from pyiceberg.types import (
    DateType,
    DecimalType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
    UUIDType,
)

from catalog.delta.table import DeltaTable
from catalog.errors import UnsupportedTableError
from catalog.iceberg.partition import Spec, SpecField, decode_key
from catalog.iceberg.table import IcebergTable
from catalog.iceberg.transforms import source_values
from catalog.location import Location
from catalog.table import Table
from compactor.rewrite.read import SliceReader
from tests.iceberg_tables import make_table, sql_catalog

UTC = datetime.UTC
TIMES = [
    datetime.datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
    datetime.datetime(1970, 1, 1, tzinfo=UTC),
    datetime.datetime(2026, 11, 22, 23, 30, tzinfo=UTC),
    datetime.datetime(1900, 2, 28, tzinfo=UTC),
    None,
]


def check(table: Table) -> None:
    """Hold the keys of all rows of a table against those of the files they are in."""
    snapshot = table.snapshot()
    side, inventory = table.files(snapshot), table.inventory(snapshot)
    reader = SliceReader.of(side, inventory, side.schema)
    for file in inventory.slices():
        rows = pa.Table.from_batches(list(reader.batches(file)))
        assert set(side.partition_keys(rows).to_pylist()) == {file.partition_key}


def delta(directory: Path, rows: pa.Table, by: list[str]) -> DeltaTable:
    write_deltalake(str(directory / "t"), rows, partition_by=by)
    return DeltaTable("t", Location.parse(str(directory / "t")), {})


def test_delta_tables(tmp_path: Path) -> None:
    rows = pa.table(
        {
            "id": [1, 2, 3],
            "text": ["a", "ü=/ ", None],
            "number": pa.array([-1, 0, None], pa.int32()),
            "day": [datetime.date(1969, 12, 31), datetime.date(2026, 1, 1), None],
            "flag": [True, False, None],
            "price": pa.array([Decimal("1.50"), Decimal("2.25"), None], pa.decimal128(9, 2)),
        }
    )
    check(delta(tmp_path, rows, ["text", "number", "day", "flag", "price"]))


def test_a_delta_table_without_partitions(tmp_path: Path) -> None:
    check(delta(tmp_path, pa.table({"id": [1, 2]}), []))


def test_points_in_time_say_that_they_are_in_utc(tmp_path: Path) -> None:
    rows = pa.table({"id": [1, 2, 3, 4, 5], "at": pa.array(TIMES, pa.timestamp("us", "UTC"))})
    table = delta(tmp_path, rows, ["at"])
    side = table.files(table.snapshot())
    (column,) = side.partitions
    read = [column.scalar(column.text(one)).as_py() for one in TIMES]
    assert read == TIMES


def test_delta_refuses_a_text_that_readers_take_for_null(tmp_path: Path) -> None:
    table = delta(tmp_path, pa.table({"id": [1], "text": ["a"]}), ["text"])
    side = table.files(table.snapshot())
    with pytest.raises(UnsupportedTableError, match="'text' cannot hold the value ''"):
        side.partition_keys(pa.table({"id": [1], "text": [""]}, schema=side.schema.arrow))


SCHEMA = Schema(
    NestedField(1, "at", TimestamptzType()),
    NestedField(2, "day", DateType()),
    NestedField(3, "number", LongType()),
    NestedField(4, "text", StringType()),
    NestedField(5, "price", DecimalType(9, 2)),
    NestedField(6, "key", UUIDType()),
)
VALUES: dict[str, list[Any]] = {
    "at": TIMES,
    "day": [None if one is None else one.date() for one in TIMES],
    "number": [-1, 0, 7, -(2**62), None],
    "text": ["", "abcdef", "ü" * 5, "日本語テキスト", None],
    "price": [Decimal("-0.01"), Decimal("0.00"), Decimal("1.50"), Decimal("-99999.99"), None],
    "key": [b"\x00" * 16, bytes(range(16)), b"\xff" * 16, b"\x80" * 16, None],
}


def iceberg(directory: Path, *fields: tuple[str, str]) -> tuple[IcebergTable, pa.Table]:
    spec = PartitionSpec(
        *(
            PartitionField(
                SCHEMA.find_field(name).field_id, 1000 + at, parse_transform(transform), f"p{at}"
            )
            for at, (name, transform) in enumerate(fields)
        )
    )
    peer = make_table(directory, SCHEMA, spec=spec)
    arrow = peer.schema().as_arrow()
    rows = pa.table([pa.array(VALUES[one.name], one.type) for one in arrow], schema=arrow)
    peer.append(rows)
    return IcebergTable("lake.ns.t", sql_catalog(directory), ("ns", "t")), rows


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [("at", "hour"), ("day", "month")],
        [("day", "identity"), ("text", "identity"), ("price", "identity")],
        [("number", "bucket[16]"), ("text", "truncate[2]"), ("price", "truncate[50]")],
    ],
)
def test_iceberg_tables(fields: list[tuple[str, str]], tmp_path: Path) -> None:
    table, _ = iceberg(tmp_path, *fields)
    check(table)


@pytest.mark.parametrize(
    ("name", "transform"),
    [
        *(("at", one) for one in ("year", "month", "day", "hour", "identity", "bucket[7]")),
        *(("day", one) for one in ("year", "month", "day", "identity", "bucket[7]")),
        *(("number", one) for one in ("identity", "truncate[10]", "bucket[7]", "void")),
        *(("text", one) for one in ("identity", "truncate[3]", "bucket[7]")),
        *(("price", one) for one in ("identity", "truncate[50]", "bucket[7]")),
        *(("key", one) for one in ("identity", "bucket[7]")),
    ],
)
def test_iceberg_transforms_are_those_of_the_specification(
    name: str, transform: str, tmp_path: Path
) -> None:
    table, rows = iceberg(tmp_path)
    side = table.files(table.snapshot())
    kind = SCHEMA.find_type(name)
    field = SpecField(1000, "p", SCHEMA.find_field(name).field_id, transform, str(kind))
    side = replace(side, specs=(Spec(0, (field,)),), spec_id=0)
    found = [decode_key(key)[1][0] for key in side.partition_keys(rows).to_pylist()]
    reference: Transform[Any, Any] = parse_transform(transform)
    apply = reference.transform(kind)
    plain = rows.column(name).combine_chunks()
    values = [None if one is None else apply(counted(one)) for one in plain.to_pylist()]
    assert [getattr(one, "bytes", one) for one in found] == [
        getattr(one, "bytes", one) for one in values
    ]


def counted(value: Any) -> Any:
    """Return a value as Iceberg's transforms take it."""
    if isinstance(value, datetime.datetime):
        return (value - TIMES[1]) // datetime.timedelta(microseconds=1)
    if isinstance(value, datetime.date):
        return (value - datetime.date(1970, 1, 1)).days
    return value


@pytest.mark.parametrize("transform", ["year", "month", "day", "hour", "bucket[1000]"])
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_nanoseconds_are_parted_by_the_microsecond_that_they_are_in(
    transform: str, zone: str | None
) -> None:
    """Rounded down, also before 1970, as the reference implementation does."""
    counts = [-1, -1000, -1001, 0, 999, 1000, -86_400_000_000_001, 1_510_871_468_000_001_001]
    kind = "timestamp" if zone is None else "timestamptz"
    field = SpecField(1000, "p", 1, transform, f"{kind}_ns")
    column = pa.field("at", pa.timestamp("ns", zone), metadata={b"PARQUET:field_id": b"1"})
    values = pa.array([*counts, None], pa.int64()).cast(column.type)
    found = source_values(field, pa.table([values], schema=pa.schema([column])))
    of_microseconds = parse_transform(transform).transform(
        TimestamptzType() if zone else TimestampType()
    )
    assert found.to_pylist() == [*(of_microseconds(one // 1000) for one in counts), None]
