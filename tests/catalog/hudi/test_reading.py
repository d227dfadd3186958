"""Tables that Spark made have the rows that Spark reads: every fixture, exactly."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.hudi.config import parse_properties, table_config
from catalog.hudi.inventory import read_inventory
from catalog.hudi.listing import list_files
from catalog.hudi.log_scan import LogScope
from catalog.hudi.merging import Merging, SliceFiles, StoredFile, merge_slice
from catalog.hudi.protocol import merge_rule, require_readable
from catalog.hudi.reading import Source, latest_schema, read_slices
from catalog.hudi.schema import FILE_NAME, table_schema
from catalog.hudi.timeline import Action, read_timeline
from catalog.location import Location
from catalog.model import DeleteFile, FileSlice
from catalog.storage import Storage
from tests.judges.make_hudi_fixtures import FIXTURES, unpack

# What is refused, and by which name.
REFUSED = {
    "v6_mor_custom_payload": r"the payload class .*OverwriteNonDefaultsWithLatestAvroPayload",
    "v9_mor_hfile_logs": "a block of hfile data",
    "v9_mor_no_meta_fields": "virtual keys",
}
NAMES = sorted(path.name.removesuffix(".tar.xz") for path in FIXTURES.glob("*.tar.xz"))
# Spark shows the partition column of tables with this key generator as text.
SHOWN_AS_TEXT = {"v9_mor_timestamp_keys": "part"}


def opened(table: Path) -> Source:
    storage, root = Storage(), Location.parse(str(table))
    text = storage.read(root.child(".hoodie/hoodie.properties")).decode()
    config = table_config(parse_properties(text))
    require_readable(config)
    return Source(storage, root, config, read_timeline(storage, root, config))


def stored(one: FileSlice | DeleteFile) -> StoredFile:
    return StoredFile(Location.parse(one.path), one.size_bytes)


def rows(source: Source) -> list[dict[str, object]]:
    """Read the table through its inventory, as a rewrite does."""
    inventory = read_inventory(source, read_slices(source, list_files(source.storage, source.root)))
    schema = table_schema(latest_schema(source)).arrow
    latest = source.timeline.latest
    assert latest is not None
    scope = LogScope(latest.time, source.timeline)
    found = []
    for one in inventory.slices():
        is_base = one.row_count > 0 or one.path.endswith(".parquet")
        if is_base:
            assert pq.read_metadata(one.path).num_rows == one.row_count
        files = SliceFiles(stored(one) if is_base else None, tuple(map(stored, one.deletes)))
        merging = Merging(schema, merge_rule(source.config), scope)
        selection = merge_slice(source.storage, files, merging) if one.deletes else None
        if is_base:
            table = pq.read_table(one.path, partitioning=None)
            kept = None if selection is None else selection.kept(0, table.num_rows)
            found += (table if kept is None else table.filter(pa.array(kept))).to_pylist()
        if selection is not None:
            found += [row for b in selection.tail.batches(schema.names) for row in b.to_pylist()]
    return found


def comparable(found: list[dict[str, object]], names: list[str]) -> list[str]:
    return sorted(str([row.get(name) for name in names if name != FILE_NAME]) for row in found)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in REFUSED])
def test_rows_are_those_that_spark_reads(name, tmp_path):
    source = opened(unpack(name, tmp_path))
    expected = pq.read_table(tmp_path / "snapshot.parquet")
    found = rows(source)
    if column := SHOWN_AS_TEXT.get(name):
        found = [{**row, column: str(row[column])} for row in found]
    names = expected.column_names
    assert comparable(found, names) == comparable(expected.to_pylist(), names)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_not_handled_is_refused_by_name(name, tmp_path):
    with pytest.raises(UnsupportedTableError, match=REFUSED[name]):
        rows(opened(unpack(name, tmp_path)))


def test_columns_that_go_by_ids_are_refused(tmp_path):
    table = unpack("v6_cow", tmp_path)
    newest = max(table.glob(".hoodie/*.commit"))
    commit = json.loads(newest.read_bytes())
    commit["extraMetadata"]["latest_schema"] = '{"max_column_id":9}'
    newest.write_text(json.dumps(commit))
    with pytest.raises(UnsupportedTableError, match="renamed or dropped"):
        rows(opened(table))


def test_an_earlier_snapshot_is_read_by_its_instant(tmp_path):
    source = opened(unpack("v9_mor", tmp_path))
    first = source.timeline.completed(Action.DELTACOMMIT)[0].time
    earlier = Source(source.storage, source.root, source.config, source.timeline.until(first))
    assert len(rows(earlier)) == 8
    assert {row["_hoodie_commit_time"] for row in rows(earlier)} == {first}


def test_base_files_of_failed_attempts_are_told_by_the_commit(tmp_path):
    table = unpack("v9_cow", tmp_path)
    before = comparable(rows(opened(table)), ["id", "ts", "amount"])
    newest = max(table.glob("p1/*.parquet"), key=lambda path: path.name.split("_")[2])
    file_id, _, instant = newest.name.split("_")
    newest.with_name(f"{file_id}_9-9-9_{instant}").write_bytes(newest.read_bytes())
    assert comparable(rows(opened(table)), ["id", "ts", "amount"]) == before


def test_rivals_that_no_commit_tells_apart_are_refused(tmp_path):
    table = unpack("v9_cow", tmp_path)
    for path in [*table.glob("p1/*.parquet")]:
        file_id, _, instant = path.name.split("_")
        path.with_name(f"{file_id}_9-9-9_{instant}").write_bytes(path.read_bytes())
        path.rename(path.with_name(f"{file_id}_8-8-8_{instant}"))
    with pytest.raises(CorruptTableError, match="several base files"):
        rows(opened(table))
