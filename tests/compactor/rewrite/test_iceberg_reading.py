"""What we read of evolved Iceberg tables is what PyIceberg reads of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import (
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    UUIDType,
)

from catalog.iceberg.schema import arrow_schema
from catalog.model import TableSchema
from compactor.rewrite.group import rewrite_group
from compactor.rewrite.read import SliceReader
from tests.compactor.rewrite.tables import LocalTable, inventory, make_task
from tests.iceberg_tables import data_files, make_table

INNER = StructType(NestedField(11, "x", IntegerType()), NestedField(12, "y", StringType()))
SCHEMA = Schema(
    NestedField(1, "id", IntegerType(), required=True),
    NestedField(2, "price", DecimalType(9, 2)),
    NestedField(3, "ratio", FloatType()),
    NestedField(4, "at", TimestamptzType()),
    NestedField(5, "local", TimestampType()),
    NestedField(6, "key", UUIDType()),
    NestedField(7, "code", FixedType(4)),
    NestedField(8, "place", INNER),
    NestedField(9, "tags", ListType(10, StringType(), element_required=False)),
    NestedField(13, "more", MapType(14, StringType(), 15, INNER, value_required=False)),
    NestedField(16, "gone", StringType()),
)


def rows(start: int, schema: Schema, **renamed: str) -> pa.Table:
    arrow = schema.as_arrow()
    values: list[dict[str, Any]] = [
        {
            "id": start + i,
            "price": i,
            "ratio": 0.1 * i,
            "at": i,
            "local": None,
            "key": bytes([i]) * 16,
            "code": b"abcd",
            "place": {"x": i, "y": "y"} if i % 2 else None,
            "tags": ["a", None][: i % 3],
            "more": [("k", {"x": 1, "y": None}), ("n", None)][: i % 3],
            "gone": "g",
        }
        for i in range(10)
    ]
    named = [{renamed.get(k, k): v for k, v in row.items()} for row in values]
    return pa.Table.from_pylist(named, arrow)


def evolved(directory: Path) -> Table:
    """Make a table with one file before and one after every kind of schema change."""
    table = make_table(directory, SCHEMA)
    table.append(rows(0, table.schema()))
    with table.update_schema() as update:
        update.update_column("id", LongType())
        update.update_column("price", DecimalType(18, 2))
        update.update_column("ratio", DoubleType())
        update.update_column(("place", "x"), LongType())
        update.rename_column("tags", "labels")
        update.rename_column(("place", "y"), "why")
        update.rename_column(("more", "value", "y"), "why")
        update.delete_column("gone")
        update.add_column("added", StringType())
        update.add_column(("place", "added"), DoubleType())
        update.add_column(("more", "added"), LongType())
        update.move_first("price")
    return table


def local_table(table: Table, directory: Path) -> LocalTable:
    return LocalTable(str(directory), TableSchema(arrow_schema(table.schema())))


def paths(table: Table) -> list[str]:
    return [file.file_path.removeprefix("file://") for file in data_files(table)]


@pytest.mark.filterwarnings("ignore")
def test_an_evolved_table_reads_as_pyiceberg_reads_it(tmp_path: Path) -> None:
    table = evolved(tmp_path)
    ours = local_table(table, tmp_path)
    files = inventory(paths(table))
    reader = SliceReader.of(ours, files)
    batches = [batch for file in files.slices() for batch in reader.batches(file)]
    found = pa.Table.from_batches(batches)
    found.validate(full=True)
    expected = table.scan().to_arrow()
    assert found.num_rows == 10
    assert found.schema.names == expected.schema.names
    assert found.to_pylist() == expected.to_pylist()


@pytest.mark.filterwarnings("ignore")
def test_outputs_are_what_pyiceberg_itself_would_write(tmp_path: Path) -> None:
    table = make_table(tmp_path, SCHEMA)
    table.append(rows(0, table.schema()))
    (path,) = paths(table)
    (output,) = rewrite_group(make_task(local_table(table, tmp_path), [path])).outputs
    theirs, ours = (
        str(pq.ParquetFile(one).schema).partition("\n")[2] for one in (path, output.path)
    )
    assert ours == theirs
