"""A table as streaming writers leave it: thousands of small files, evolved twice, with deletes.

Some 2,250 files over 30 days; written under three schemas (added, renamed, widened and dropped
columns) and two partition specs; position deletes on every twentieth file, some files hit twice.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import BucketTransform, DayTransform
from pyiceberg.types import (
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
    StructType,
    TimestamptzType,
)

from tests.iceberg_tables import commit_deletes, data_files, make_table, write_position_deletes

DAYS = 30
APPENDS_BY_DAY = 35
APPENDS_BY_BUCKET = 10
BUCKETS = 4
ROWS_PER_APPEND = 3_000
FIRST_DAY = np.datetime64("2026-10-01T00:00:00", "us")

SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=True),
    NestedField(2, "ts", TimestamptzType(), required=True),
    NestedField(3, "region", StringType()),
    NestedField(4, "amount", DecimalType(10, 2)),
    NestedField(5, "count", IntegerType()),
    NestedField(6, "ratio", FloatType()),
    NestedField(7, "obsolete", StringType()),
    NestedField(8, "born", DateType()),
)
BY_DAY = PartitionSpec(PartitionField(2, 1000, DayTransform(), "day"))


def build(directory: Path) -> Table:
    """Make `ns.events` in the SQL catalog of a directory and return it."""
    table = make_table(directory, SCHEMA, name="events", spec=BY_DAY)
    for number in range(APPENDS_BY_DAY):
        if number == 20:
            _evolve_schema(table)
        table.append(_rows(table, number))
    with table.update_spec() as update:
        update.add_field("id", BucketTransform(BUCKETS), "bucket")
    _delete_some(table, every=40)
    for number in range(APPENDS_BY_DAY, APPENDS_BY_DAY + APPENDS_BY_BUCKET):
        table.append(_rows(table, number))
    _delete_some(table, every=20)
    return table.refresh()


def _evolve_schema(table: Table) -> None:
    with table.update_schema() as update:
        update.rename_column("region", "area")
        update.update_column("count", LongType())
        update.update_column("ratio", DoubleType())
        update.update_column("amount", DecimalType(18, 2))
        update.delete_column("obsolete")
        update.add_column("tags", ListType(100, StringType(), element_required=False))
        update.add_column(
            "device",
            StructType(NestedField(101, "name", StringType()), NestedField(102, "os", LongType())),
        )


def _rows(table: Table, number: int) -> pa.Table:
    random = np.random.default_rng(number)
    size = ROWS_PER_APPEND
    ids = np.arange(size) + number * size
    moments = FIRST_DAY + (ids % DAYS) * np.timedelta64(1, "D") + random.integers(0, 86_399, size)
    amounts = [None if n % 17 == 0 else Decimal(int(n)).scaleb(-2) for n in ids]
    columns: dict[str, pa.Array] = {
        "id": pa.array(ids),
        "ts": pa.array(moments, pa.timestamp("us", "UTC")),
        "region": pa.array([None if n % 11 == 0 else f"r{n % 7}" for n in ids]),
        "amount": pa.array(amounts, pa.decimal128(18, 2)),
        "count": pa.array(random.integers(0, 1000, size)),
        "ratio": pa.array(random.random(size).astype(np.float32)),
        "obsolete": pa.array(["old"] * size),
        "born": pa.array([None if n % 5 == 0 else int(n % 20_000) for n in ids], pa.date32()),
        "tags": pa.array([None if n % 3 == 0 else [f"t{n % 5}", None] for n in ids]),
        "device": pa.array(
            [None if n % 4 == 0 else {"name": f"d{n % 9}", "os": int(n)} for n in ids]
        ),
    }
    columns["area"] = columns["region"]
    schema = table.schema().as_arrow()
    return pa.table([columns[name].cast(schema.field(name).type) for name in schema.names], schema)


def _delete_some(table: Table, every: int) -> None:
    # One delete file may hit several data files of one partition, as merge-on-read writers do.
    by_partition: dict[str, list] = {}
    for file in data_files(table)[::every]:
        by_partition.setdefault(f"{file.spec_id} {file.partition}", []).append(file)
    written = [
        write_position_deletes(
            table,
            {file.file_path: range(0, file.record_count, every // 10) for file in files},
            like=files[0],
        )
        for files in by_partition.values()
    ]
    commit_deletes(table, *written)
