"""Changes of Iceberg tables: what only this format has to get right."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFileContent, ManifestContent
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform, Transform
from pyiceberg.types import IcebergType, LongType, NestedField, UUIDType

from catalog.commits import Rewrite, Watermark
from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.iceberg.delete_writing import FILE_PATH_ID
from catalog.iceberg.table import IcebergTable
from catalog.model import Inventory
from tests.catalog.changes import Change, change_commit, plan_change
from tests.catalog.conformance import expected, fill
from tests.catalog.groups import outputs, pick, write_output
from tests.catalog.iceberg.lakes import IcebergLake, WireCatalog
from tests.catalog.iceberg.test_commit_partitions import CASES, IDS, partitions
from tests.catalog.iceberg.test_commit_partitions import fill as fill_typed
from tests.iceberg_tables import (
    catalog_properties,
    commit_deletes,
    make_table,
    rows,
    sql_catalog,
    write_equality_deletes,
)

CHANGE = Change([(3, "a", "new"), (14, "b", "new"), (100, "a", "new")], deletes=[21, 7])


@pytest.fixture
def lake(tmp_path: Path) -> IcebergLake:
    return IcebergLake(tmp_path, 2)


def ours(directory: Path) -> IcebergTable:
    return IcebergTable("lake.ns.t", sql_catalog(directory), ("ns", "t"))


def insert(table: IcebergTable, new: pa.Table) -> None:
    """Commit new rows, which nothing was looked for."""
    snapshot = table.snapshot()
    files = table.files(snapshot)
    keys = np.array(files.partition_keys(new).to_pylist())
    rewrites = [
        Rewrite(
            f"g{number}",
            Inventory.empty(),
            (write_output(files, key, new.filter(pa.array(keys == key))),),
            0,
            rows_added=int((keys == key).sum()),
            partition_key=key,
        )
        for number, key in enumerate(dict.fromkeys(keys.tolist()))
    ]
    assert table.commit(change_commit(snapshot, *rewrites)).conflicts == ()


# Values that are spelled in ways of their own; all the others take longer than they tell.
QUICK = ("identity(string)", "identity(decimal(9, 2))", "day(timestamp)", "identity(binary)")


@pytest.mark.parametrize(
    ("kind", "transform", "values"),
    [
        pytest.param(*case, id=name, marks=() if name in QUICK else pytest.mark.slow)
        for case, name in zip(CASES, IDS, strict=True)
    ],
)
def test_new_rows_come_into_the_partitions_that_others_put_them_in(
    tmp_path: Path, kind: IcebergType, transform: Transform[Any, Any], values: list[Any]
) -> None:
    schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "key", kind))
    spec = PartitionSpec(PartitionField(2, 1000, transform, "p"))
    table = make_table(tmp_path, schema, spec=spec)
    fill_typed(table, values)
    before, where = rows(table), partitions(table)
    again = table.scan().to_arrow().cast(table.schema().as_arrow())
    insert(ours(tmp_path), again)
    assert partitions(table) == where
    assert rows(table) == sorted(before * 2, key=lambda row: repr(sorted(row.items())))


def test_new_rows_of_an_empty_table_are_partitioned_by_uuid(tmp_path: Path) -> None:
    schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "key", UUIDType()))
    spec = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "p"))
    table = make_table(tmp_path, schema, spec=spec)
    keys = [uuid.UUID(int=1), uuid.UUID(int=2)]
    arrow = ours(tmp_path).files(ours(tmp_path).snapshot()).schema.arrow
    storage = [one.bytes for one in keys]
    kind = arrow.field("key").type
    column = pa.array(storage, pa.binary(16))
    column = column.cast(kind) if kind != column.type else column
    insert(ours(tmp_path), pa.table([pa.array([1, 2]), column], schema=arrow))
    assert sorted(row["id"] for row in rows(table)) == [1, 2]
    files = [task.file for task in table.refresh().scan().plan_files()]
    assert {str(file.partition[0]) for file in files} == {str(one) for one in keys}


def delete_files(lake: IcebergLake) -> list[Any]:
    """Return the entries of live delete files as PyIceberg reads them."""
    table = lake.other
    return [
        entry
        for manifest in table.current_snapshot().manifests(table.io)
        if manifest.content == ManifestContent.DELETES
        for entry in manifest.fetch_manifest_entry(table.io)
    ]


def test_marks_are_position_delete_files_as_the_specification_has_them(lake: IcebergLake) -> None:
    files = fill(lake)
    lake.table.commit(plan_change(lake.table, CHANGE, marks=True))
    head = lake.other.current_snapshot()
    found = {entry.data_file.partition[0]: entry for entry in delete_files(lake)}
    assert found.keys() == {"a", "b"}
    for entry in found.values():
        file = entry.data_file
        assert file.content == DataFileContent.POSITION_DELETES
        assert entry.sequence_number == head.sequence_number
        content = pq.read_table(file.file_path.removeprefix("file://"))
        assert [int(one.metadata[b"PARQUET:field_id"]) for one in content.schema] == [
            FILE_PATH_ID,
            FILE_PATH_ID - 1,
        ]
        assert content.schema.types == [pa.string(), pa.int64()]
        pairs = list(zip(*content.to_pydict().values(), strict=True))
        assert pairs == sorted(pairs)
        assert file.record_count == len(pairs)
        paths, positions = zip(*pairs, strict=True)
        for bounds, choose in ((file.lower_bounds, min), (file.upper_bounds, max)):
            assert bounds[FILE_PATH_ID].decode() == choose(paths)
            assert from_bytes(LongType(), bounds[FILE_PATH_ID - 1]) == choose(positions)
    one = found["b"].data_file
    assert one.lower_bounds[FILE_PATH_ID] == one.upper_bounds[FILE_PATH_ID]
    assert one.lower_bounds[FILE_PATH_ID].decode() == files["b"][0]


@pytest.mark.parametrize("marks", [False, True], ids=["rewritten", "marked"])
def test_the_summary_counts_what_was_done(lake: IcebergLake, marks: bool) -> None:
    fill(lake)
    before = lake.other.current_snapshot().summary.additional_properties
    commit = plan_change(lake.table, CHANGE, marks=marks)
    lake.table.commit(commit)
    summary = lake.other.current_snapshot().summary
    found = summary.additional_properties
    added = sum(file.row_count for one in commit.rewrites for file in one.added)
    assert summary.operation.value == "overwrite"
    assert found["added-records"] == str(added)
    assert found.get("deleted-records", "0") == ("0" if marks else "30")
    assert found.get("added-position-deletes", "0") == ("4" if marks else "0")
    assert found.get("added-position-delete-files", "0") == ("2" if marks else "0")
    difference = added if marks else added - 30
    assert int(found["total-records"]) == int(before["total-records"]) + difference
    for change, operation in (
        (Change([(500, "a", "x")]), "append"),
        (Change(deletes=[500]), "delete"),
    ):
        lake.table.commit(plan_change(lake.table, change, marks=marks))
        assert lake.other.current_snapshot().summary.operation.value == operation


def test_new_files_have_the_new_sequence_number_and_metrics(lake: IcebergLake) -> None:
    """An older equality delete does not hit them, and readers skip by their bounds."""
    fill(lake)
    commit = plan_change(lake.table, CHANGE)
    lake.table.commit(commit)
    head = lake.table.snapshot()
    inventory = lake.table.inventory(head)
    new = pick(inventory, *sorted(outputs(commit.rewrites)))
    assert set(new.files["sequence_number"].to_pylist()) == {head.sequence_number}
    for path in outputs(commit.rewrites):
        file = lake.data_file(path)
        assert set(file.lower_bounds) == set(file.upper_bounds) == {1, 2, 3}
        assert sum(file.value_counts.values()) == 3 * file.record_count
    assert lake.other.scan("id = 100").to_arrow()["text"].to_pylist() == ["new"]


def test_equality_deletes_since_the_base_are_a_conflict(tmp_path: Path) -> None:
    schema = Schema(NestedField(1, "id", LongType()))
    table = make_table(tmp_path, schema)
    for first in (0, 10):
        table.append(pa.table({"id": list(range(first, first + 10))}))
    snapshot = ours(tmp_path).snapshot()
    commit = change_commit(snapshot)
    commit_deletes(table, write_equality_deletes(table, "id", [3]))
    # Nothing but the watermark is to be committed: it could still be told otherwise.
    assert ours(tmp_path).commit(commit).snapshot is None
    assert ours(tmp_path).watermark("orders") is None


def test_rows_that_others_add_to_partitions_without_our_keys_are_walked_over(
    lake: IcebergLake,
) -> None:
    fill(lake)
    change = Change([(3, "a", "x"), (300, "a", "y")])
    keys = lake.table.inventory(lake.table.snapshot()).files["partition_key"].unique().to_pylist()
    (ours_only,) = (one for one in keys if json.loads(one)[1] == "a")
    commits = [
        replace(plan_change(lake.table, change), partitions=frozenset({key}))
        for key in (ours_only, ours_only.replace("[0,", "[1,"))
    ]
    lake.append(range(200, 210), "b")
    before = lake.rows()
    # A key of another spec tells nothing of this one's.
    assert lake.table.commit(commits[1]).snapshot is None
    assert lake.table.commit(commits[0]).conflicts == ()
    assert lake.rows() == change.apply(before)
    late = replace(plan_change(lake.table, change), partitions=frozenset({ours_only}))
    lake.append(range(210, 220), "a")
    assert lake.table.commit(replace(late, watermarks=())).snapshot is None


def test_a_table_that_is_rolled_back_has_the_watermark_of_its_rows(lake: IcebergLake) -> None:
    fill(lake)
    ids = []
    for value in "12":
        change = replace(CHANGE, watermarks=(Watermark("orders", value),))
        lake.table.commit(plan_change(lake.table, change))
        ids.append(lake.other.current_snapshot().snapshot_id)
    lake.other.manage_snapshots().rollback_to_snapshot(ids[0]).commit()
    assert lake.table.watermark("orders") == "1"
    lake.append(range(200, 210))
    others = {one.snapshot_id for one in lake.other.snapshots()} - {ids[1]}
    others -= {lake.other.metadata.current_snapshot_id}
    lake.other.maintenance.expire_snapshots().by_ids(list(others)).commit()
    with pytest.raises(CorruptTableError, match="rolled back"):
        lake.table.watermark("orders")


def test_the_first_change_of_an_empty_table_that_was_filled_and_expired(lake: IcebergLake) -> None:
    """The oldest snapshot that is left has no parent, and yet it is not the first."""
    commit = plan_change(lake.table, Change([(300, "a", "x")]))
    fill(lake)
    path = lake.append(range(400, 410))
    lake.remove(path)
    lake.expire()
    before = lake.rows()
    assert lake.table.commit(commit).snapshot is None
    assert lake.rows() == before


def test_marks_are_refused_where_the_format_has_none(tmp_path: Path) -> None:
    lake = IcebergLake(tmp_path, 1)
    files = fill(lake, parts="a")
    commit = plan_change(lake.table, Change(deletes=[3]), marks=True)
    assert commit.rewrites[0].marks.keys() == {files["a"][0]}
    assert not lake.table.can_mark
    with pytest.raises(UnsupportedTableError, match="version 1"):
        lake.table.commit(commit)
    assert lake.table.snapshot() == commit.base


def test_a_change_survives_the_wire_of_a_rest_catalog(tmp_path: Path) -> None:
    sql_catalog(tmp_path)
    lake = IcebergLake(tmp_path, 2, WireCatalog("lake", **catalog_properties(tmp_path)))
    change = Change(expected(range(3)))
    assert lake.table.commit(plan_change(lake.table, change)).conflicts == ()
    second = replace(CHANGE, watermarks=(Watermark("orders", "2"),))
    assert lake.table.commit(plan_change(lake.table, second, marks=True)).conflicts == ()
    assert lake.rows() == second.apply(change.apply([]))
    assert lake.table.watermark("orders") == "2"
