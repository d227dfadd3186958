"""The listing and the indexes of tables that Spark has made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc
import pytest

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.hudi.listing import list_files
from catalog.hudi.metadata_table.building import indexed_columns
from catalog.hudi.metadata_table.reading import slice_versions
from catalog.hudi.metadata_table.record_reader import decode_place
from catalog.hudi.metadata_table.table import (
    MetadataTable,
    Operation,
    open_metadata_table,
)
from catalog.hudi.metadata_table.view import read_view
from tests.catalog.hudi.metadata_table.committing import Opened
from tests.judges.make_hudi_fixtures import unpack

KEYS = [("partition_path", "ascending"), ("name", "ascending")]
TABLES = (
    "v6_cow",
    "v6_mor_written_while_compaction_pending",
    "v8_mor",
    "v9_mor_archived",
    "v9_mor_clustering_pending",
    "v9_mor_unpartitioned_commit_time",
)


@pytest.mark.parametrize("name", TABLES)
def test_the_listing_is_that_of_the_storage(name: str, tmp_path: Path) -> None:
    opened = Opened.at(unpack(name, tmp_path))
    listed = list_files(opened.storage, opened.root)
    is_data = pc.invert(pc.starts_with(listed["name"], pattern=".hoodie"))
    wanted = listed.filter(is_data).sort_by(KEYS)
    assert opened.listing().to_pylist() == wanted.to_pylist()
    assert wanted.num_rows


def test_what_is_pending_in_the_table_is_passed_over(tmp_path: Path) -> None:
    opened = Opened.at(unpack("v9_mor", tmp_path))
    before = opened.listing()
    last = opened.timeline().latest
    assert last is not None
    (opened.path / ".hoodie" / "timeline" / last.file_name).unlink()
    after = opened.listing()
    gone = set(before["name"].to_pylist()) - set(after["name"].to_pylist())
    assert gone
    assert all(last.time in name for name in gone)


def test_places_of_records_are_those_of_the_rows(tmp_path: Path) -> None:
    opened = Opened.at(unpack("v8_mor_record_index", tmp_path))
    view = read_view(opened.metadata, opened.timeline())
    found = {}
    for one in view.slices("record_index"):
        for key, versions in slice_versions(view, one):
            last = versions[-1]
            if last.record is not None:
                found[key.decode()] = decode_place(last.record, last.schema)
    listed = {name.partition("_")[0] for name in opened.listing()["name"].to_pylist()}
    assert {"a1", "b1", "c1"} <= set(found)
    assert all(place is not None and place.file_id in listed for place in found.values())


def test_columns_with_statistics_are_found_where_they_are_not_noted(tmp_path: Path) -> None:
    opened = Opened.at(unpack("v6_mor", tmp_path))
    view = read_view(replace(opened.metadata, definitions={}), opened.timeline())
    meta = ("_hoodie_commit_time", "_hoodie_partition_path", "_hoodie_record_key")
    assert indexed_columns(view, opened.schema()) == (*meta, "id", "ts", "part", "amount")
    noted = Opened.at(unpack("v9_mor", tmp_path / "noted"))
    view = read_view(noted.metadata, noted.timeline())
    assert set(indexed_columns(view, noted.schema())) == {*meta, "id", "ts", "part", "amount"}


def _with(table: MetadataTable, *partitions: str, building: str = "") -> MetadataTable:
    config = replace(
        table.table_config,
        metadata_partitions=partitions,
        metadata_partitions_inflight=(building,) if building else (),
    )
    return replace(table, table_config=config)


def test_indexes_that_cannot_be_kept_are_named(tmp_path: Path) -> None:
    table = Opened.at(unpack("v9_cow", tmp_path)).metadata
    for operation in Operation:
        table.require_writable(operation)
        with pytest.raises(UnsupportedTableError, match="expr_index_amount"):
            _with(table, "files", "expr_index_amount").require_writable(operation)
        with pytest.raises(UnsupportedTableError, match="record_index of the table is being built"):
            _with(table, "files", building="record_index").require_writable(operation)
        with pytest.raises(UnsupportedTableError, match="no listing"):
            _with(table, "column_stats").require_writable(operation)
    secondary = _with(table, "files", "secondary_index_amount")
    secondary.require_writable(Operation.COMPACTION)
    secondary.require_writable(Operation.CLUSTERING)
    with pytest.raises(UnsupportedTableError, match="secondary_index_amount"):
        secondary.require_writable(Operation.UPSERT)


def test_definitions_are_found_where_the_table_was_moved_from_elsewhere(tmp_path: Path) -> None:
    opened = Opened.at(unpack("v9_mor", tmp_path))
    pairs = dict(opened.config.properties)
    pairs["hoodie.table.index.defs.path"] = "s3a://old/place/.hoodie/.index_defs/index.json"
    config = replace(opened.config, properties=tuple(sorted(pairs.items())))
    found = open_metadata_table(opened.storage, opened.root, config)
    assert found is not None
    assert found.definitions == opened.metadata.definitions
    assert found.index_version() == 2


def test_tables_without_a_metadata_table(tmp_path: Path) -> None:
    opened = Opened.at(unpack("v9_mor", tmp_path))
    (opened.path / ".hoodie" / "metadata" / ".hoodie" / "hoodie.properties").unlink()
    with pytest.raises(CorruptTableError, match="it is gone"):
        open_metadata_table(opened.storage, opened.root, opened.config)
    config = _with(opened.metadata).table_config
    assert open_metadata_table(opened.storage, opened.root, config) is None
