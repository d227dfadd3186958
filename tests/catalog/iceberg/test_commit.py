"""What a `replace` snapshot looks like inside, and how other engines read it."""

from __future__ import annotations

import uuid
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import ManifestContent, ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot
from pyiceberg.types import LongType

from catalog.errors import CorruptTableError
from catalog.iceberg.table import IcebergTable
from tests.catalog.conformance import fill
from tests.catalog.groups import make_commit, outputs, paths, pick, plan_all, rewrite
from tests.catalog.iceberg.lakes import IcebergLake, WireCatalog, rows_of
from tests.iceberg_tables import (
    catalog_properties,
    commit_deletes,
    data_files,
    make_table,
    rows,
    sql_catalog,
    write_equality_deletes,
    write_position_deletes,
)


@pytest.fixture
def lake(tmp_path: Path) -> IcebergLake:
    return IcebergLake(tmp_path, 2)


def head(lake: IcebergLake) -> Snapshot:
    snapshot = lake.other.current_snapshot()
    assert snapshot is not None
    return snapshot


def totals(table: Table) -> dict[str, int]:
    """Count what the summary of the current snapshot should say."""
    snapshot = table.refresh().current_snapshot()
    assert snapshot is not None
    files = [
        entry.data_file
        for manifest in snapshot.manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io)
    ]
    data = [file for file in files if file.content == 0]
    deletes = [file for file in files if file.content != 0]
    return {
        "total-data-files": len(data),
        "total-delete-files": len(deletes),
        "total-records": sum(file.record_count for file in data),
        "total-position-deletes": sum(file.record_count for file in deletes),
        "total-files-size": sum(file.file_size_in_bytes for file in files),
        "total-equality-deletes": 0,
    }


def test_the_summary_counts_right_and_carries_the_commit(lake: IcebergLake) -> None:
    files = fill(lake)
    lake.delete({files["a"][0]: [0, 1]})
    lake.delete({files["b"][0]: [2]})
    inputs = data_files(lake.other)
    commit = plan_all(lake.table)
    lake.append(range(100, 110))
    lake.table.commit(commit)
    summary = head(lake).summary
    assert summary is not None
    assert summary.operation == Operation.REPLACE
    counted = {name: int(summary[name] or 0) for name in totals(lake.other)}
    assert counted == totals(lake.other)
    written = [output for one in commit.rewrites for output in one.added]
    changed = {
        "added-data-files": 2,
        "added-records": 57,
        "added-files-size": sum(output.size_bytes for output in written),
        "deleted-data-files": 6,
        "deleted-records": 60,
        "removed-delete-files": 2,
        "removed-position-deletes": 3,
        "removed-position-delete-files": 2,
        "changed-partition-count": 2,
    }
    assert {name: int(summary[name] or 0) for name in changed} == changed
    assert int(summary["removed-files-size"]) > sum(file.file_size_in_bytes for file in inputs)
    assert summary["compactor.commit-id"] == commit.commit_id
    assert summary["compactor.job-id"] == "j"


def test_manifests_say_what_happened_to_each_file(lake: IcebergLake) -> None:
    lake.other.append(pa.concat_tables([rows_of(range(10), "a"), rows_of(range(10, 20), "b")]))
    lake.append(range(20, 30), "a")
    lake.append(range(30, 40), "c")
    untouched = head(lake).manifests(lake.other.io)[0].manifest_path
    snapshot = lake.table.snapshot()
    inventory = lake.table.inventory(snapshot)
    chosen = [path for path in paths(inventory) if "part=a" in path]
    (kept,) = [file for file in data_files(lake.other) if "part=b" in file.file_path]
    commit = make_commit(snapshot, rewrite(lake.table, snapshot, pick(inventory, *chosen)))
    lake.append(range(40, 50), "d")
    lake.table.commit(commit)
    entries = {
        entry.data_file.file_path: (entry.status, entry.sequence_number, manifest)
        for manifest in head(lake).manifests(lake.other.io)
        for entry in manifest.fetch_manifest_entry(lake.other.io, discard_deleted=False)
    }
    (output,) = outputs(commit.rewrites)
    status, sequence_number, manifest = entries[output]
    assert (status, sequence_number) == (ManifestEntryStatus.ADDED, 3)
    assert (manifest.sequence_number, manifest.min_sequence_number) == (5, 3)
    for path in chosen:
        assert entries[path][0] == ManifestEntryStatus.DELETED
    status, sequence_number, manifest = entries[kept.file_path]
    assert (status, sequence_number) == (ManifestEntryStatus.EXISTING, 1)
    assert (manifest.sequence_number, manifest.min_sequence_number) == (5, 1)
    assert untouched in {one.manifest_path for one in head(lake).manifests(lake.other.io)}


def test_emptied_manifests_do_not_pile_up(lake: IcebergLake) -> None:
    fill(lake)
    for _ in range(4):
        lake.table.commit(plan_all(lake.table))
    assert len(head(lake).manifests(lake.other.io)) == 2


def test_untouched_partitions_are_not_opened(lake: IcebergLake) -> None:
    fill(lake, parts="abc", files=2)
    snapshot = lake.table.snapshot()
    inventory = lake.table.inventory(snapshot)
    chosen = [path for path in paths(inventory) if "part=a" in path]
    commit = make_commit(snapshot, rewrite(lake.table, snapshot, pick(inventory, *chosen)))
    before = lake.rows()
    hidden = []
    for manifest in head(lake).manifests(lake.other.io):
        entries = manifest.fetch_manifest_entry(lake.other.io)
        if not any("part=a" in entry.data_file.file_path for entry in entries):
            place = Path(manifest.manifest_path.removeprefix("file://"))
            hidden.append((place, place.rename(place.with_suffix(".hidden"))))
    assert len(hidden) == 4
    lake.table.commit(commit)
    for place, away in hidden:
        away.rename(place)
    assert lake.rows() == before


def test_other_engines_read_the_same_rows(
    lake: IcebergLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
    files = fill(lake)
    lake.delete({files["a"][0]: [0, 1, 2]})
    before, old = lake.rows(), lake.table.snapshot()
    lake.table.commit(plan_all(lake.table))
    table = lake.other
    assert lake.rows() == before
    assert lake.rows(old.snapshot_id) == before
    scanned = pl.scan_iceberg(table, reader_override="native").collect()
    assert sorted(scanned.rows()) == before
    places = [
        path.removeprefix("file://") for path in paths(lake.table.inventory(lake.table.snapshot()))
    ]
    query = f"SELECT id, part, text FROM read_parquet({places!r}) ORDER BY ALL"
    assert duckdb.sql(query).fetchall() == before


@pytest.mark.parametrize(
    "predicate", ["id == 5", "id > 1000", "text == 'text 7919'", "part == 'b'"]
)
def test_bounds_prune_no_row_that_matches(lake: IcebergLake, predicate: str) -> None:
    fill(lake)
    before = sorted(map(str, lake.other.scan(predicate).to_arrow().to_pylist()))
    lake.table.commit(plan_all(lake.table))
    assert sorted(map(str, lake.other.scan(predicate).to_arrow().to_pylist())) == before


def test_the_library_resurrects_deleted_rows_and_we_do_not(lake: IcebergLake) -> None:
    """A position delete, then any other commit: the stock conflict check looks past the delete."""
    with lake.other.transaction() as transaction:
        transaction.set_properties({"write.delete.isolation-level": "snapshot"})
    path = lake.append(range(100))
    commit = plan_all(lake.table)
    table = lake.other
    transaction = table.transaction()
    stock = transaction.update_snapshot().overwrite()
    stock.delete_data_file(lake.data_file(path))
    for file in _stock_data_files(table, rows_of(range(100), "a")):
        stock.append_data_file(file)
    stock.commit()
    lake.delete({path: [0, 1, 2]})
    lake.append([500], "b")
    alive = [*range(3, 100), 500]
    assert [row[0] for row in lake.rows()] == alive
    undo = lake.table.snapshot()
    transaction.commit_transaction()
    back = [row[0] for row in lake.rows()]
    assert back == [*range(100), 500], "the library has learned: this scenario can go"
    lake.other.manage_snapshots().rollback_to_snapshot(int(undo.snapshot_id)).commit()
    result = lake.table.commit(commit)
    assert (result.snapshot, len(result.conflicts)) == (None, 1)
    assert [row[0] for row in lake.rows()] == alive


def _stock_data_files(table: Table, content: pa.Table) -> list:
    from pyiceberg.io.pyarrow import _dataframe_to_data_files

    return list(_dataframe_to_data_files(table.metadata, content, table.io, uuid.uuid4()))


def test_a_base_that_was_rolled_back_conflicts(lake: IcebergLake) -> None:
    fill(lake)
    first = lake.table.snapshot()
    lake.append(range(100, 110))
    commit = plan_all(lake.table)
    lake.other.manage_snapshots().rollback_to_snapshot(int(first.snapshot_id)).commit()
    before = lake.rows()
    result = lake.table.commit(commit)
    assert (result.snapshot, len(result.conflicts)) == (None, 2)
    assert lake.rows() == before


def test_an_equality_delete_after_the_base_still_applies_to_the_outputs(lake: IcebergLake) -> None:
    """No reader here applies it, so the numbers that decide are checked: it is the younger one."""
    table = IcebergTable("lake.ns.flat", lake.catalog, ("ns", "flat"))
    flat = lake.catalog.create_table("ns.flat", rows_of([1], "a").schema)
    for one in range(3):
        flat.append(rows_of(range(one * 10, one * 10 + 10), "a"))
    commit = plan_all(table)
    commit_deletes(flat, write_equality_deletes(flat, "id", [5]))
    assert table.commit(commit).conflicts == ()
    snapshot = flat.refresh().current_snapshot()
    assert snapshot is not None
    numbers = {
        entry.data_file.content: entry.sequence_number
        for manifest in snapshot.manifests(flat.io)
        for entry in manifest.fetch_manifest_entry(flat.io)
    }
    assert numbers == {0: 3, 2: 4}


def test_a_delete_file_for_many_files_conflicts_with_those_it_names(lake: IcebergLake) -> None:
    files = fill(lake, parts="a", files=4)["a"]
    snapshot = lake.table.snapshot()
    inventory = lake.table.inventory(snapshot)
    commit = make_commit(
        snapshot,
        rewrite(lake.table, snapshot, pick(inventory, *files[:2]), "first"),
        rewrite(lake.table, snapshot, pick(inventory, *files[2:]), "second"),
    )
    deletes = write_position_deletes(
        lake.other, {files[1]: [0], files[0]: [1]}, like=lake.data_file(files[0]), bounds=False
    )
    commit_deletes(lake.other, deletes)
    before = lake.rows()
    result = lake.table.commit(commit)
    assert ([one.group_id for one in result.conflicts], result.committed) == (
        ["first"],
        ("second",),
    )
    assert lake.rows() == before


@pytest.mark.parametrize("moment", ["before the plan", "after the plan"])
def test_a_delete_filed_under_another_partition_still_drops_the_rows_it_names(
    lake: IcebergLake, moment: str
) -> None:
    files = fill(lake)
    commit = plan_all(lake.table)
    # Readers go by the path in the bounds, whatever the partition says.
    deletes = write_position_deletes(
        lake.other, {files["a"][0]: [0]}, like=lake.data_file(files["b"][0])
    )
    commit_deletes(lake.other, deletes)
    before = lake.rows()
    if moment == "before the plan":
        commit = plan_all(lake.table)
    result = lake.table.commit(commit)
    assert lake.rows() == before
    assert len(result.conflicts) == (0 if moment == "before the plan" else 1)
    left = lake.other.inspect.delete_files().num_rows
    assert left == len(result.conflicts)


def test_dangling_deletes_leave_with_the_next_rewrite_of_their_partition(lake: IcebergLake) -> None:
    files = fill(lake, parts="ab")
    lake.delete({files["a"][0]: [0]})
    lake.delete({files["b"][0]: [0]})
    lake.remove(files["a"][0])
    lake.remove(files["b"][0])
    before, snapshot = lake.rows(), lake.table.snapshot()
    group = pick(lake.table.inventory(snapshot), *files["a"][1:])
    lake.table.commit(make_commit(snapshot, rewrite(lake.table, snapshot, group)))
    left = [
        entry.data_file.partition[0]
        for manifest in head(lake).manifests(lake.other.io)
        if manifest.content == ManifestContent.DELETES
        for entry in manifest.fetch_manifest_entry(lake.other.io)
    ]
    assert left == ["b"]
    assert lake.rows() == before


def test_a_branch_keeps_its_retention(lake: IcebergLake) -> None:
    fill(lake)
    with lake.other.manage_snapshots() as snapshots:
        current = lake.other.metadata.current_snapshot_id
        assert current is not None
        snapshots.create_branch(current, "main", min_snapshots_to_keep=7, max_ref_age_ms=10**12)
    lake.table.commit(plan_all(lake.table))
    main = lake.other.refs()["main"]
    assert (main.min_snapshots_to_keep, main.max_ref_age_ms) == (7, 10**12)
    assert str(main.snapshot_id) == lake.table.snapshot().snapshot_id


def test_old_metadata_is_deleted_where_the_table_wants_it(tmp_path: Path) -> None:
    properties = {
        "write.metadata.delete-after-commit.enabled": "true",
        "write.metadata.previous-versions-max": "3",
    }
    table = make_table(tmp_path, rows_of([1], "a").schema, properties=properties)
    ours = IcebergTable("lake.ns.t", sql_catalog(tmp_path), ("ns", "t"))
    table.append(rows_of([1], "a"))
    for _ in range(6):
        ours.commit(plan_all(ours))
    metadata = tmp_path / "warehouse/ns/t/metadata"
    assert len(list(metadata.glob("*.metadata.json"))) == 4
    assert [row["id"] for row in rows(table)] == [1]


def test_outputs_of_the_schema_of_the_plan_are_fine_after_it_changed(lake: IcebergLake) -> None:
    fill(lake)
    commit = plan_all(lake.table)
    with lake.other.update_schema() as update:
        update.rename_column("text", "words")
        update.add_column("more", LongType())
    before = lake.rows()
    assert lake.table.commit(commit).conflicts == ()
    assert lake.rows() == before
    assert {len(row) for row in before} == {4}


def test_outputs_of_a_schema_before_the_base_are_refused(lake: IcebergLake) -> None:
    lake.append(range(10))
    with lake.other.update_schema() as update:
        update.add_column("more", LongType())
    lake.other.append(rows_of(range(10, 20), "a").append_column("more", [list(range(10))]))
    snapshot = lake.table.snapshot()
    inventory = lake.table.inventory(snapshot)
    newest = max(inventory.slices(), key=lambda one: one.sequence_number).path
    group = pick(inventory, newest)
    commit = make_commit(snapshot, rewrite(lake.table, snapshot, group))
    output = commit.rewrites[0].added[0]
    place = Path(output.path.removeprefix("file://"))
    pq.write_table(pq.ParquetFile(place).read().drop(["more"]), place)
    short = replace(output, size_bytes=place.stat().st_size)
    lossy = replace(commit, rewrites=(replace(commit.rewrites[0], added=(short,)),))
    with pytest.raises(CorruptTableError, match="columns"):
        lake.table.commit(lossy)


def upgrade(lake: IcebergLake) -> None:
    with lake.other.transaction() as transaction:
        transaction.upgrade_table_version(2)


def test_a_table_that_was_upgraded_before_the_plan(tmp_path: Path) -> None:
    lake = IcebergLake(tmp_path, 1)
    files = fill(lake)
    upgrade(lake)
    lake.delete({files["a"][0]: [0]})
    lake.append(range(100, 110))
    before = lake.rows()
    assert lake.table.commit(plan_all(lake.table)).conflicts == ()
    assert lake.rows() == before
    assert lake.table.commit(plan_all(lake.table)).conflicts == ()
    assert lake.rows() == before


def test_a_table_that_was_upgraded_since_the_plan(tmp_path: Path) -> None:
    lake = IcebergLake(tmp_path, 1)
    files = fill(lake)
    commit = plan_all(lake.table)
    upgrade(lake)
    lake.delete({files["a"][0]: [0]})
    before = lake.rows()
    result = lake.table.commit(commit)
    assert (len(result.committed), len(result.conflicts)) == (1, 1)
    assert lake.rows() == before


def test_large_manifests_are_split_along_partitions(lake: IcebergLake) -> None:
    with lake.other.transaction() as transaction:
        transaction.set_properties({"commit.manifest.target-size-bytes": "1"})
    fill(lake, parts="abcdefgh", files=2)
    before = lake.rows()
    lake.table.commit(plan_all(lake.table))
    added = [one for one in head(lake).manifests(lake.other.io) if one.added_files_count]
    assert len(added) == 8
    edges = [one.partitions[0] for one in added if one.partitions]
    assert all(
        first.upper_bound < second.lower_bound
        for first, second in pairwise(sorted(edges, key=lambda edge: edge.lower_bound))
    )
    assert lake.rows() == before


def test_metadata_goes_where_the_table_wants_it(lake: IcebergLake, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    with lake.other.transaction() as transaction:
        transaction.set_properties({"write.metadata.path": f"file://{elsewhere}"})
    fill(lake)
    before, commit = lake.rows(), plan_all(lake.table)
    lake.table.commit(commit)
    names = {path.name for path in elsewhere.iterdir()}
    assert any(name.startswith(commit.commit_id) for name in names)
    assert lake.rows() == before


def test_a_manifest_that_cannot_be_decoded_stops_the_commit(lake: IcebergLake) -> None:
    fill(lake)
    commit = plan_all(lake.table)
    snapshot = lake.table.snapshot()
    place = Path(head(lake).manifests(lake.other.io)[0].manifest_path.removeprefix("file://"))
    content = place.read_bytes()
    place.write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptTableError):
        lake.table.commit(commit)
    place.write_bytes(content)
    assert lake.table.snapshot() == snapshot
    assert not list(place.parent.glob(f"*{commit.commit_id}*"))


@pytest.mark.parametrize("commit_id", ["", "../x", "a/b", "a b", "-"])
def test_a_commit_id_must_do_as_a_file_name(lake: IcebergLake, commit_id: str) -> None:
    fill(lake)
    with pytest.raises(ValueError, match="commit id"):
        lake.table.commit(replace(plan_all(lake.table), commit_id=commit_id))


def test_a_commit_survives_the_way_over_the_wire(tmp_path: Path) -> None:
    sql_catalog(tmp_path)
    lake = IcebergLake(tmp_path, 2, WireCatalog("lake", **catalog_properties(tmp_path)))
    files = fill(lake)
    lake.delete({files["a"][0]: [0]})
    before, commit = lake.rows(), plan_all(lake.table)
    result = lake.table.commit(commit)
    assert (result.conflicts, result.snapshot) == ((), lake.table.snapshot())
    assert lake.rows() == before
    assert lake.table.find_commit(commit) == result
