"""What we read of evolved Iceberg tables is what PyIceberg reads of them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
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

from catalog.commits import Commit, Rewrite
from catalog.iceberg.schema import arrow_schema
from catalog.iceberg.table import IcebergTable
from catalog.schema import TableSchema
from compactor.rewrite.group import rewrite_group
from compactor.rewrite.read import SliceReader
from compactor.rewrite.task import Proof, RewriteTask
from compactor.rewrite.verify import digest_slices
from tests.compactor.rewrite.tables import LocalTable, inventory, make_task
from tests.iceberg_tables import data_files, delete_positions, make_table, sql_catalog
from tests.iceberg_tables import rows as table_rows

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


@pytest.mark.filterwarnings("ignore")
def test_a_real_table_is_rewritten_through_its_own_files(tmp_path: Path) -> None:
    """Partitions, evolved columns and position deletes: the committed rewrite changes no row."""
    spec = PartitionSpec(PartitionField(16, 1000, IdentityTransform(), "gone"))
    theirs = make_table(tmp_path, SCHEMA, spec=spec)
    for start in range(0, 50, 10):
        theirs.append(rows(start, theirs.schema()))
    delete_positions(theirs, data_files(theirs)[0], [1, 4, 9])
    with theirs.update_schema() as update:
        update.update_column("id", LongType())
        update.rename_column("tags", "labels")
        update.add_column("added", StringType())
    before = table_rows(theirs)
    assert len(before) == 47

    ours = IcebergTable("lake.ns.t", sql_catalog(tmp_path), ("ns", "t"))
    ours.load()
    base = ours.snapshot()
    files = ours.inventory(base)
    (key,) = set(files.files["partition_key"].to_pylist())
    task = RewriteTask(ours.files(base), key, files, "a-1", 1 << 20, Proof.FULL)
    result = rewrite_group(pickle.loads(pickle.dumps(task)))
    assert (result.rows_read, result.rows_dropped, result.rows_written) == (50, 3, 47)
    assert result.digest == digest_slices(ours.files(base), files)

    rewrite = Rewrite("g", files, result.outputs, result.rows_dropped)
    committed = ours.commit(Commit("c-1", base, (rewrite,)))
    assert committed.committed == ("g",)
    assert len(data_files(theirs)) == 1
    assert table_rows(theirs) == before
    after = ours.snapshot()
    assert digest_slices(ours.files(after), ours.inventory(after)) == result.digest
