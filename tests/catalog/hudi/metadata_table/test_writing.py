"""Commits to the metadata table: what Spark would have written, whatever died before."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.errors import CorruptTableError
from catalog.hudi.delete_records import read_deletes
from catalog.hudi.instants import InstantWriter
from catalog.hudi.log_blocks import BlockKind, read_blocks
from catalog.hudi.metadata_table.building import indexed_columns, partition_stats_records
from catalog.hudi.metadata_table.change import AddedFile, MetadataChange
from catalog.hudi.metadata_table.column_ranges import footer_ranges
from catalog.hudi.metadata_table.hfile_reader import open_hfile
from catalog.hudi.metadata_table.keys import column_partition_prefix
from catalog.hudi.metadata_table.reading import slice_versions
from catalog.hudi.metadata_table.record_index import instant_milliseconds
from catalog.hudi.metadata_table.record_reader import decode_place, decode_stats
from catalog.hudi.metadata_table.record_schema import RECORD_SCHEMA
from catalog.hudi.metadata_table.records import RecordPlace
from catalog.hudi.metadata_table.removal import remove_instant
from catalog.hudi.metadata_table.table import Operation
from catalog.hudi.metadata_table.versions import since_deleted
from catalog.hudi.metadata_table.view import read_view
from catalog.hudi.metadata_table.writing import write_metadata
from catalog.hudi.timeline import Action
from tests.catalog.hudi.metadata_table.committing import Opened, Prepared, clustering, compaction
from tests.judges.make_hudi_fixtures import unpack

Written = dict[tuple[str, str, str], bytes | None]


def opened_with_rows(name: str, directory: Path) -> tuple[Opened, pa.Table]:
    path = unpack(name, directory)
    return Opened.at(path), pq.read_table(directory / "snapshot.parquet")


def written_at(opened: Opened, instant: str) -> Written:
    """Return what an instant wrote, by partition, file group and key; None for deletes."""
    found: Written = {}
    view = read_view(opened.metadata, opened.timeline())
    view = replace(view, unfinished=frozenset())
    for partition in opened.metadata.partitions:
        for one in view.slices(partition):
            for log in one.logs:
                source = pa.BufferReader(opened.storage.read(log.location))
                for block in read_blocks(source):
                    if block.instant_time == instant:
                        content = block.read_content(source)
                        records = _records(block.kind, content)
                        found |= {
                            (partition, one.file_id, key): record for key, record in records.items()
                        }
    return found


def _records(kind: BlockKind, content: pa.Buffer) -> Mapping[str, bytes | None]:
    if kind is BlockKind.DELETE:
        return {one.key: None for one in read_deletes(content.to_pybytes())}
    return {key.decode(): record for key, record in open_hfile(pa.BufferReader(content)).entries()}


def spoken_of(opened: Opened, partition: str) -> dict[str, bytes]:
    """Return the newest record of each key of a partition."""
    view = read_view(opened.metadata, opened.timeline())
    found = {}
    for one in view.slices(partition):
        for key, versions in slice_versions(view, one):
            left = since_deleted(versions)
            if left:
                found[key.decode()] = left[-1].record or b""
    return found


def as_spark_did(opened: Opened, then: Opened) -> tuple[str, MetadataChange]:
    """Return instant and change of the compaction that Spark carried out in a copy."""
    before = {one.time for one in opened.timeline().completed()}
    (done,) = [one for one in then.timeline().completed(Action.COMMIT) if one.time not in before]
    added = []
    for stat in then.details(done).write_stats:
        shutil.copy(then.path / stat.path, opened.path / stat.path)
        ranges = footer_ranges(pq.read_metadata(opened.path / stat.path))
        file = AddedFile(
            stat.partition_path, stat.name, stat.size_bytes, stat.file_id, None, ranges
        )
        added.append(file)
    live: dict[str, set[str]] = {}
    slices = then.slices()
    logs = slices.logs["name"].to_pylist()
    for one in slices.slices.to_pylist():
        names = {one["base_name"], *(logs[number] for number in one["logs"])} - {None}
        live.setdefault(one["partition_path"], set()).update(names)
    change = MetadataChange(
        Operation.COMPACTION,
        tuple(added),
        live={path: frozenset(names) for path, names in live.items()},
        schema=then.schema(),
    )
    return done.time, change


@pytest.mark.parametrize("name", ["v6_mor_compaction_pending", "v9_mor_compaction_pending"])
def test_a_compaction_writes_what_spark_writes_byte_for_byte(name: str, tmp_path: Path) -> None:
    opened = Opened.at(unpack(name, tmp_path))
    then = Opened.at(tmp_path / "then" / "table")
    time, change = as_spark_did(opened, then)
    write_metadata(opened.metadata, opened.timeline(), instant=time, change=change)
    ours, theirs = written_at(opened, time), written_at(then, time)
    kept = set(opened.metadata.partitions)
    assert ours == {key: record for key, record in theirs.items() if key[0] in kept}
    assert ours


def test_readers_see_a_commit_once_the_table_has_it(tmp_path: Path) -> None:
    opened, rows = opened_with_rows("v9_mor", tmp_path)
    before = opened.listing()
    prepared = compaction(opened, rows)
    prepared.write_metadata()
    assert opened.listing().equals(before)
    prepared.complete()
    names = {one.name for one in prepared.change.added}
    assert set(opened.listing()["name"].to_pylist()) == {*before["name"].to_pylist(), *names}
    assert all(not one["logs"] for one in opened.slices().slices.to_pylist())


def test_a_commit_that_stands_is_not_written_again(tmp_path: Path) -> None:
    opened, rows = opened_with_rows("v9_mor", tmp_path)
    prepared = compaction(opened, rows)
    prepared.write_metadata()
    prepared.complete()
    with pytest.raises(ValueError, match="not pending"):
        prepared.write_metadata()


class _DiedError(Exception):
    pass


def die(*_: object) -> None:
    raise _DiedError


@pytest.mark.parametrize("name", ["v6_mor", "v9_mor"])
@pytest.mark.parametrize("step", ["begin", "complete", ""])
def test_a_second_try_leaves_what_one_try_would(
    name: str, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, rows = opened_with_rows(name, tmp_path)
    before = opened.listing()
    prepared = compaction(opened, rows)
    with monkeypatch.context() as dying:
        if step:
            dying.setattr(InstantWriter, step, die)
            with pytest.raises(_DiedError):
                prepared.write_metadata()
        else:
            prepared.write_metadata()
    assert opened.listing().equals(before)
    # What Hadoop puts beside local files is no log.
    for file in sorted((opened.path / ".hoodie" / "metadata").rglob("*.log.*")):
        (file.parent / f".{file.name}.crc").write_bytes(b"crc")
    prepared.write_metadata()
    once = written_at(opened, prepared.instant.time)
    prepared.complete()
    listed = set(opened.listing()["name"].to_pylist())
    assert listed == {*before["name"].to_pylist(), *(one.name for one in prepared.change.added)}
    assert once
    folder = opened.path / ".hoodie" / "metadata" / "files"
    logs = [file for file in folder.iterdir() if prepared.instant.time.encode() in _head(file)]
    assert len(logs) == 1


def _head(file: Path) -> bytes:
    """Return the name of a log and the head of its first block, which name its instant."""
    is_log = ".log." in file.name and file.suffix != ".crc"
    return file.name.encode() + file.read_bytes()[:20_000] if is_log else b""


def test_an_instant_is_removed_without_a_trace(tmp_path: Path) -> None:
    opened, rows = opened_with_rows("v9_mor", tmp_path)
    files = {one: one.read_bytes() for one in _metadata_files(opened)}
    prepared = clustering(opened, rows)
    prepared.write_metadata()
    assert len(_metadata_files(opened)) > len(files)
    remove_instant(opened.metadata, prepared.instant.time)
    assert {one: one.read_bytes() for one in _metadata_files(opened)} == files
    remove_instant(opened.metadata, prepared.instant.time)


def _metadata_files(opened: Opened) -> list[Path]:
    return sorted(one for one in (opened.path / ".hoodie/metadata").rglob("*") if one.is_file())


def _clustered(opened: Opened, rows: pa.Table) -> Prepared:
    prepared = clustering(opened, rows)
    prepared.write_metadata()
    prepared.complete()
    return prepared


@pytest.mark.parametrize("name", ["v8_mor_record_index", "v9_mor_partitioned_record_index"])
def test_clustering_moves_records(name: str, tmp_path: Path) -> None:
    opened, rows = opened_with_rows(name, tmp_path)
    prepared = _clustered(opened, rows)
    moment = instant_milliseconds(prepared.instant.time, opened.config)
    groups = {one.partition_path: one.file_id for one in prepared.change.added}
    found = spoken_of(opened, "record_index")
    for row in rows.to_pylist():
        place = decode_place(found[row["_hoodie_record_key"]], RECORD_SCHEMA)
        partition = row["_hoodie_partition_path"]
        assert place == RecordPlace(partition, groups[partition], moment)
    if opened.metadata.is_record_index_divided:
        written = written_at(opened, prepared.instant.time)
        owners = {key: group for part, group, key in written if part == "record_index"}
        assert owners["a1"] == "record-index-p1-0000-0"
        assert owners["c1"] == "record-index-p3-0000-0"


def test_partition_statistics_are_those_of_the_files_that_are_left(tmp_path: Path) -> None:
    opened, rows = opened_with_rows("v9_mor", tmp_path)
    _clustered(opened, rows)
    found = [
        decode_stats(record, RECORD_SCHEMA)
        for record in spoken_of(opened, "partition_stats").values()
    ]
    amounts = {
        one.file_name: (one.column_range.minimum, one.column_range.maximum)
        for one in found
        if one is not None and one.column_range.column == "amount"
    }
    wanted: dict[str, list[float]] = {}
    for row in rows.to_pylist():
        wanted.setdefault(row["part"], []).append(row["amount"])
    assert amounts == {part: (min(values), max(values)) for part, values in wanted.items()}
    assert all(one is not None and one.is_tight for one in found)


def test_partition_statistics_leave_room_for_an_earlier_write_that_is_running(
    tmp_path: Path,
) -> None:
    opened, rows = opened_with_rows("v9_mor", tmp_path)
    prepared = clustering(opened, rows)
    earlier = int(prepared.instant.time) - 1
    # That of the table: its metadata table has one, too.
    folder = min(tmp_path.rglob(".hoodie/timeline"), key=lambda path: len(path.parts))
    (folder / f"{earlier}.deltacommit.requested").touch()
    (folder / f"{earlier}.deltacommit.inflight").touch()
    before = set(spoken_of(opened, "partition_stats").values())
    prepared.write_metadata()
    prepared.complete()
    # Its record stands before ours, whenever it comes: ours must widen it, not replace it.
    found = [
        decode_stats(record, RECORD_SCHEMA)
        for record in spoken_of(opened, "partition_stats").values()
        if record not in before
    ]
    assert found
    assert not any(one is None or one.is_tight for one in found)


def test_a_partition_whose_files_are_not_named_is_refused(tmp_path: Path) -> None:
    opened, rows = opened_with_rows("v9_mor", tmp_path)
    prepared = clustering(opened, rows)
    with pytest.raises(CorruptTableError, match="which files"):
        write_metadata(
            opened.metadata,
            opened.timeline(),
            instant=prepared.instant.time,
            change=replace(prepared.change, live={}),
        )
    assert opened.listing().num_rows


def test_files_that_nothing_is_known_of_can_hold_anything(tmp_path: Path) -> None:
    opened, rows = opened_with_rows("v9_mor", tmp_path)
    prepared = clustering(opened, rows)
    live = {path: names | {"unknown.parquet"} for path, names in prepared.change.live.items()}
    replace(prepared, change=replace(prepared.change, live=live)).write_metadata()
    prepared.complete()
    for record in spoken_of(opened, "partition_stats").values():
        stats = decode_stats(record, RECORD_SCHEMA)
        assert stats is not None
        if stats.column_range.column == "part":
            assert (stats.column_range.minimum, stats.column_range.maximum) == (
                "",
                "\U0010ffff" * 8,
            )
        # Neither a filter for nulls nor one for all else passes them over.
        assert 0 < stats.column_range.null_count < stats.column_range.value_count


def test_rows_of_files_without_a_column_are_null_there(tmp_path: Path) -> None:
    """Else a query for nulls passes over a partition with files from before a column came."""
    opened, rows = opened_with_rows("v9_mor", tmp_path)
    prepared = clustering(opened, rows)
    first, *others = prepared.change.added
    older = tuple(one for one in first.ranges if one.column != "amount")
    path, count = first.partition_path, max(one.value_count for one in older)
    newer = replace(first, file_id="", name=f"newer-{first.name}")
    added = (replace(first, ranges=older), newer, *others)
    live = {**prepared.change.live, path: prepared.change.live[path] | {newer.name}}
    change = replace(prepared.change, added=added, live=live)
    view = read_view(opened.metadata, opened.timeline())
    columns = indexed_columns(view, change.schema)
    records = partition_stats_records(view, change, columns, prepared.instant.time).entries
    stats = decode_stats(records[column_partition_prefix("amount", path)], RECORD_SCHEMA)
    assert stats is not None
    assert (stats.column_range.null_count, stats.column_range.value_count) == (count, 2 * count)


@pytest.mark.parametrize("name", ["v6_cow", "v9_cow"])
def test_cleaned_files_leave_listing_and_statistics(name: str, tmp_path: Path) -> None:
    opened, rows = opened_with_rows(name, tmp_path)
    _clustered(opened, rows)
    before = opened.listing().to_pylist()
    gone = [one for one in before if one["partition_path"] == "p1"][:1]
    statistics = len(spoken_of(opened, "column_stats")) if name == "v9_cow" else 0
    writer = InstantWriter(opened.storage, opened.root, opened.config)
    time = "29990101000000000"
    inflight = writer.begin(writer.request(time, Action.CLEAN))
    change = MetadataChange(
        Operation.CLEAN,
        deleted={"p1": (gone[0]["name"],)},
        deleted_partitions=frozenset({"p3"}),
        schema=opened.schema(),
    )
    write_metadata(opened.metadata, opened.timeline(), instant=time, change=change)
    assert opened.listing().to_pylist() == before
    writer.complete(inflight, b"", opened.timeline())
    left = [one for one in before if one not in gone and one["partition_path"] != "p3"]
    assert opened.listing().to_pylist() == left
    if statistics:
        assert len(spoken_of(opened, "column_stats")) == statistics - 7


def test_merges_place_what_came_and_forget_what_is_gone(tmp_path: Path) -> None:
    opened, rows = opened_with_rows("v8_mor_record_index", tmp_path)
    first = _clustered(opened, rows)
    known = {one.partition_path: one for one in first.change.added}
    kept = rows.filter(pa.compute.not_equal(rows["id"], "a1"))
    prepared = clustering(opened, _with_key(kept, "b1", "b1-new"))
    added = tuple(
        replace(one, previous_name=known[one.partition_path].name) for one in prepared.change.added
    )
    change = replace(prepared.change, operation=Operation.UPSERT, added=added)
    replace(prepared, change=change).write_metadata()
    prepared.complete()
    found = spoken_of(opened, "record_index")
    assert "a1" not in found
    assert "b1" not in found
    place = decode_place(found["b1-new"], RECORD_SCHEMA)
    assert place is not None
    assert place.file_id == {one.partition_path: one.file_id for one in added}["p2"]
    stayed = decode_place(found["c1"], RECORD_SCHEMA)
    assert stayed is not None
    assert stayed.file_id == known["p3"].file_id


def _with_key(rows: pa.Table, old: str, new: str) -> pa.Table:
    keys = [new if key == old else key for key in rows["_hoodie_record_key"].to_pylist()]
    at = rows.schema.get_field_index("_hoodie_record_key")
    return rows.set_column(at, rows.schema.field(at), pa.array(keys, pa.string()))
