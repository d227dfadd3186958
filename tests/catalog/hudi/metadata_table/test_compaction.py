"""The metadata table compacted: the same for readers, and smaller; only when it is due and safe."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog.hudi.archive_writers import archived_already
from catalog.hudi.instants import InstantWriter
from catalog.hudi.locking import NoLock
from catalog.hudi.metadata_table.change import MetadataChange
from catalog.hudi.metadata_table.column_ranges import ColumnRange, ValueType
from catalog.hudi.metadata_table.combining import combined
from catalog.hudi.metadata_table.compaction import DELTACOMMITS_MAX, compact_metadata
from catalog.hudi.metadata_table.keys import ALL_PARTITIONS
from catalog.hudi.metadata_table.record_reader import decode_files, decode_stats
from catalog.hudi.metadata_table.record_schema import RECORD_SCHEMA
from catalog.hudi.metadata_table.records import (
    FileInfo,
    FileStats,
    RecordKind,
    encode_files,
    encode_stats,
)
from catalog.hudi.metadata_table.table import Operation
from catalog.hudi.metadata_table.upkeep import (
    archive_metadata,
    clean_metadata,
    maintain_metadata,
)
from catalog.hudi.metadata_table.versions import Version
from catalog.hudi.metadata_table.view import completed_since_compaction, read_view
from catalog.hudi.metadata_table.writing import write_metadata
from catalog.hudi.reading import Source
from catalog.hudi.scheduling import next_time
from catalog.hudi.timeline import Action, timeline_of
from tests.catalog.hudi.metadata_table.committing import Opened, clustering
from tests.catalog.hudi.metadata_table.test_writing import opened_with_rows, spoken_of


def _fill(opened: Opened) -> None:
    """Commit until a compaction is due: cleanings, which write no files of the table."""
    commits = len(completed_since_compaction(opened.metadata.timeline()))
    for _ in range(DELTACOMMITS_MAX - commits):
        _commit(opened)


def _commit(opened: Opened) -> None:
    writer = InstantWriter(opened.storage, opened.root, opened.config)
    timeline = opened.timeline()
    time = next_time(Source(opened.storage, opened.root, opened.config, timeline))
    inflight = writer.begin(writer.request(time, Action.CLEAN))
    name = f"gone_0-0-0_{time}.parquet"
    change = MetadataChange(Operation.CLEAN, deleted={"p1": (name,)}, schema=opened.schema())
    write_metadata(opened.metadata, opened.timeline(), instant=time, change=change)
    writer.complete(inflight, b"", opened.timeline())


def _all(opened: Opened) -> dict[str, dict[str, bytes]]:
    return {name: spoken_of(opened, name) for name in opened.metadata.partitions if name != "files"}


@pytest.mark.parametrize("name", ["v6_cow", "v8_mor_record_index"])
def test_readers_see_the_same(name: str, tmp_path: Path) -> None:
    opened, rows = opened_with_rows(name, tmp_path)
    _fill(opened)
    listing, records = opened.listing(), _all(opened)
    assert compact_metadata(opened.metadata, opened.timeline())
    assert opened.listing().equals(listing)
    assert _all(opened) == records
    view = read_view(opened.metadata, opened.timeline())
    for partition in opened.metadata.partitions:
        for one in view.slices(partition):
            assert not one.logs
            assert one.base is not None
    assert not compact_metadata(opened.metadata, opened.timeline())
    prepared = clustering(opened, rows)
    prepared.write_metadata()
    prepared.complete()
    names = {one.name for one in prepared.change.added}
    assert set(opened.listing()["name"].to_pylist()) == {*listing["name"].to_pylist(), *names}


def test_what_the_table_has_not_committed_stays_out(tmp_path: Path) -> None:
    opened, rows = opened_with_rows("v9_cow", tmp_path)
    _fill(opened)
    prepared = clustering(opened, rows)
    prepared.write_metadata()
    assert not compact_metadata(opened.metadata, opened.timeline())
    prepared.complete()
    assert compact_metadata(opened.metadata, opened.timeline())


class _DiedError(Exception):
    pass


def test_a_compaction_that_died_is_carried_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, rows = opened_with_rows("v9_cow", tmp_path)
    _fill(opened)
    listing = opened.listing()

    def die(*_: object) -> None:
        raise _DiedError

    with monkeypatch.context() as dying:
        dying.setattr(InstantWriter, "complete", die)
        with pytest.raises(_DiedError):
            compact_metadata(opened.metadata, opened.timeline())
    assert opened.listing().equals(listing)
    prepared = clustering(opened, rows)
    prepared.write_metadata()
    prepared.complete()
    listing = opened.listing()
    assert compact_metadata(opened.metadata, opened.timeline())
    assert opened.listing().equals(listing)
    assert not opened.metadata.timeline().pending()


def test_compactions_of_others_are_left_to_them(tmp_path: Path) -> None:
    opened, _ = opened_with_rows("v9_cow", tmp_path)
    _fill(opened)
    metadata = opened.metadata
    writer = InstantWriter(metadata.storage, metadata.root, metadata.config)
    writer.request("29990101000000000", Action.LOGCOMPACTION)
    assert not compact_metadata(metadata, opened.timeline())


def _versions(*records: bytes | None, key: bytes = b"k") -> list[Version]:
    return [Version(key, at, record, RECORD_SCHEMA) for at, record in enumerate(records)]


def _listed(**files: tuple[int, bool]) -> bytes:
    found = {name: FileInfo(*info) for name, info in files.items()}
    return encode_files(RecordKind.FILES, found)


def test_listings_are_combined() -> None:
    parts = (_listed(a=(1, False), b=(2, False)), _listed(a=(0, True), c=(3, False)))
    record = combined("files", _versions(*parts), index_version=2)
    assert record is not None
    assert set(decode_files(record, RECORD_SCHEMA)) == {"b", "c"}
    assert combined("files", _versions(*parts, None), index_version=2) is None
    record = combined("files", _versions(parts[0], None, parts[1]), index_version=2)
    assert record is not None
    assert set(decode_files(record, RECORD_SCHEMA)) == {"c"}
    known = encode_files(RecordKind.PARTITION_LIST, {"p": FileInfo(0, False)})
    key = ALL_PARTITIONS.encode()
    assert combined("files", _versions(known, known, key=key), index_version=2) == known


def _stats(low: int, high: int, *, is_tight: bool, is_deleted: bool = False) -> bytes:
    found = ColumnRange("c", ValueType.LONG, low, high, 0, 1, 1, 1)
    stats = FileStats("p", found, is_deleted, is_tight)
    return encode_stats(RecordKind.PARTITION_STATS, stats, index_version=2)


@pytest.mark.parametrize(
    ("records", "wanted"),
    [
        ([_stats(1, 2, is_tight=True), _stats(5, 6, is_tight=True)], (5, 6)),
        ([_stats(1, 2, is_tight=False), _stats(5, 6, is_tight=False)], (1, 6)),
        (
            [
                _stats(0, 9, is_tight=False),
                _stats(1, 2, is_tight=True),
                _stats(5, 6, is_tight=False),
            ],
            (1, 6),
        ),
        (
            [
                _stats(0, 9, is_tight=False),
                _stats(0, 9, is_tight=False, is_deleted=True),
                _stats(5, 6, is_tight=False),
            ],
            (5, 6),
        ),
        ([_stats(0, 9, is_tight=False), _stats(0, 9, is_tight=True, is_deleted=True)], None),
    ],
)
def test_statistics_are_combined(records: list[bytes], wanted: tuple[int, int] | None) -> None:
    record = combined("partition_stats", _versions(*records), index_version=2)
    if wanted is None:
        assert record is None
        return
    assert record is not None
    stats = decode_stats(record, RECORD_SCHEMA)
    assert stats is not None
    assert (stats.column_range.minimum, stats.column_range.maximum) == wanted


def test_older_slices_are_deleted(tmp_path: Path) -> None:
    opened, _ = opened_with_rows("v9_cow", tmp_path)
    folder = opened.path / ".hoodie" / "metadata" / "files"
    begun = {one.name for one in folder.iterdir() if one.name != ".hoodie_partition_metadata"}
    bases = []
    for _ in range(2):
        _fill(opened)
        assert compact_metadata(opened.metadata, opened.timeline())
        bases.append({one.name for one in folder.glob("*.hfile")} - begun - set().union(*bases))
    assert clean_metadata(opened.metadata, opened.timeline()) == 0
    for _ in range(3):
        _commit(opened)
    listing, records = opened.listing(), _all(opened)
    maintain_metadata(opened.metadata, opened.timeline(), NoLock())
    left = {one.name for one in folder.iterdir()}
    assert begun.isdisjoint(left)
    assert all(names <= left for names in bases)
    assert opened.listing().equals(listing)
    assert _all(opened) == records
    assert clean_metadata(opened.metadata, opened.timeline()) == 0


@pytest.mark.parametrize("name", ["v6_cow", "v9_cow"])
def test_folded_instants_are_archived(name: str, tmp_path: Path) -> None:
    opened, _ = opened_with_rows(name, tmp_path)
    metadata = opened.metadata
    for _ in range(3):
        _fill(opened)
        assert compact_metadata(metadata, opened.timeline())
    # By what the table tells of, it is told what may be taken back.
    first = opened.timeline().instants[0].time
    begun = [one for one in metadata.timeline().completed() if one.time < first]
    _commit(opened)
    assert archive_metadata(metadata, opened.timeline(), NoLock()) == len(begun)
    for _ in begun:
        _commit(opened)
    listing, records = opened.listing(), _all(opened)
    before = metadata.timeline()
    later = timeline_of(opened.timeline().completed(Action.CLEAN), layout=before.layout)
    count = archive_metadata(metadata, later, NoLock())
    after = metadata.timeline()
    assert count == len(before.completed()) - len(after.completed()) > 0
    assert len(after.completed()) >= 21
    gone = [one for one in before.completed() if one not in after.completed()]
    source = Source(metadata.storage, metadata.root, metadata.config, before)
    assert archived_already(source, gone) == set(gone)
    assert opened.listing().equals(listing)
    assert _all(opened) == records
    assert archive_metadata(metadata, later, NoLock()) == 0
