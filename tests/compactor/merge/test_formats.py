"""Merges of partitioned Iceberg and Delta tables write files that hold what a dictionary holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import BucketTransform, IdentityTransform
from pyiceberg.types import LongType, NestedField, StringType

from catalog.delta.row_delta import delete_rows
from catalog.delta.table import DeltaTable
from catalog.iceberg.table import IcebergTable
from catalog.location import Location
from catalog.model import Inventory
from catalog.table import Table, TableFiles
from compactor.merge.changes import Source, change_set, changeable, joined
from compactor.merge.completing import completed
from compactor.merge.finding import find_hits
from compactor.merge.group import merge_group
from compactor.merge.latest import latest
from compactor.merge.matching import Matcher
from compactor.merge.outcome import settle
from compactor.merge.rules import MergeRules
from compactor.merge.tasks import MergeOptions, merge_tasks
from compactor.rewrite.read import SliceReader
from compactor.rewrite.task import Proof
from tests.catalog.delta.lakes import WITH_VECTORS, create_table
from tests.compactor.merge import model
from tests.compactor.rewrite.tables import MIB, described
from tests.iceberg_tables import data_files, delete_positions, make_table, sql_catalog

COLUMNS = ["id", "part", "text"]


def rows_of(ids: range, part: str, text: str) -> pa.Table:
    return pa.table({"id": [*ids], "part": [part] * len(ids), "text": [text] * len(ids)})


def iceberg(directory: Path) -> Table:
    """Return a table whose row 5 was deleted."""
    schema = Schema(
        NestedField(1, "id", LongType(), required=True),
        NestedField(2, "part", StringType()),
        NestedField(3, "text", StringType()),
    )
    spec = PartitionSpec(
        PartitionField(2, 1000, IdentityTransform(), "part"),
        PartitionField(1, 1001, BucketTransform(2), "bucket"),
    )
    peer = make_table(directory, schema, spec=spec, properties={"format-version": "2"})
    arrow = peer.schema().as_arrow()
    for part, start in (("a", 0), ("b", 100)):
        peer.append(rows_of(range(start, start + 20), part, "old").cast(arrow))
    for file in data_files(peer):
        path = Location.parse(file.file_path).path
        found = pq.ParquetFile(path).read(columns=["id"])["id"].to_pylist()
        if 5 in found:
            delete_positions(peer, file, [found.index(5)])
            break
    return IcebergTable("lake.ns.t", sql_catalog(directory), ("ns", "t"))


def delta(directory: Path) -> Table:
    """Return a table whose row 5 was deleted."""
    path = directory / "t"
    create_table(path, configuration=WITH_VECTORS)
    for part, start in (("a", 0), ("b", 100)):
        write_deltalake(str(path), rows_of(range(start, start + 20), part, "old"), mode="append")
    table = DeltaTable("t", Location.parse(str(path)), {})
    delete_rows_of(table)
    return table


def delete_rows_of(table: DeltaTable) -> None:
    snapshot = table.snapshot()
    side = table.files(snapshot)
    reader = SliceReader.of(side, table.inventory(snapshot), side.schema)
    for file in table.inventory(snapshot).slices():
        ids = [row["id"] for batch in reader.batches(file) for row in batch.to_pylist()]
        if 5 in ids:
            delete_rows(table, {file.path: np.array([ids.index(5)])})


def rows_in(side: TableFiles, files: Inventory) -> list[dict[str, Any]]:
    reader = SliceReader.of(side, files, side.schema)
    found = [batch for file in files.slices() for batch in reader.batches(file)]
    return [row for batch in found for row in batch.to_pylist()]


@pytest.mark.parametrize("make", [iceberg, delta])
@pytest.mark.parametrize("lacking", [False, True])
def test_updates_moves_inserts_and_deletes(
    make: Callable[[Path], Table], lacking: bool, tmp_path: Path
) -> None:
    table = make(tmp_path)
    snapshot = table.snapshot()
    side, inventory = table.files(snapshot), table.inventory(snapshot)
    base = rows_in(side, inventory)
    assert len(base) == 39
    schema, rules = changeable(side.schema), MergeRules(("id",), op_column="op")
    updates = {"id": [1, 101, 102, 5, 900], "part": ["a", "b", "a", "a", "c"], "op": ["U"] * 5}
    if not lacking:
        updates["text"] = ["new"] * 5
    steps = [updates, {"id": [3, 119, 4000], "op": ["D"] * 3}]
    sets = [
        change_set(Source(pa.table(rows), f"{at}", stream=at), schema, rules)
        for at, rows in enumerate(steps)
    ]
    last = latest(joined(sets), rules, schema)
    outcome = settle(last, find_hits(side, inventory, Matcher(last, [], rules)).hits)
    rows = completed(side, last, outcome, inventory)
    options = MergeOptions("job-1-a", 64 * MIB, Proof.FULL)
    found = []
    for task in merge_tasks(side, inventory, outcome, rows, options=options):
        outputs = merge_group(task).outputs
        files = described([(one.path, one.size_bytes, one.row_count) for one in outputs])
        keys = pa.array([task.rewrite.partition_key] * files.file_count).dictionary_encode()
        place = files.files.schema.get_field_index("partition_key")
        field = files.files.schema.field(place)
        files = Inventory(files.files.set_column(place, field, keys), files.delete_files)
        written = rows_in(side, files)
        table_rows = pa.Table.from_pylist(written, side.schema.arrow)
        assert set(side.partition_keys(table_rows).to_pylist()) == {task.rewrite.partition_key}
        found += written
    paths = inventory.files["path"].to_pylist()
    is_kept = np.array([path not in outcome.dropped for path in paths])
    found += rows_in(side, inventory.take(np.flatnonzero(is_kept)))
    expected = model.merged(
        base,
        [
            model.Change(row, stream, 0, at, None if row["op"] == "U" else ("id",))
            for stream, step in enumerate(steps)
            for at, row in enumerate(pa.table(step).to_pylist())
        ],
        columns=COLUMNS,
        key=["id"],
    )
    assert model.as_bag({name: row[name] for name in COLUMNS} for row in found) == model.as_bag(
        expected
    )
