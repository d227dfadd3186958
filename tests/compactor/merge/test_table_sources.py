"""Another table as the source of changes: what was appended, or what its feed tells."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable as PeerTable
from deltalake import write_deltalake

from catalog.commits import Commit
from catalog.delta.table import DeltaTable
from catalog.errors import HistoryError
from catalog.history import CHANGE_TYPE
from catalog.location import Location
from compactor.errors import ChangesRefusedError
from compactor.merge.changes import change_set, joined
from compactor.merge.kinds import DELETE
from compactor.merge.latest import latest
from compactor.merge.rules import MergeRules
from compactor.merge.source_opening import open_source
from compactor.merge.source_table import TableSource
from compactor.merge.sources import Arrivals, rules_for
from tests.catalog.delta.lakes import WITH_VECTORS, DeltaLake
from tests.catalog.groups import partitions, rewrite
from tests.catalog.iceberg.lakes import IcebergLake
from tests.compactor.rewrite.tables import with_ids

FED = {"delta.enableChangeDataFeed": "true"}
TARGET = with_ids(pa.schema([("id", pa.int64()), ("part", pa.string()), ("text", pa.string())]))


def rows_in(arrivals: Arrivals) -> list[dict[str, Any]]:
    parts = pickle.loads(pickle.dumps(arrivals.parts))
    return [row for part in parts for one in part.read() for row in one.rows.to_pylist()]


def ids_in(arrivals: Arrivals) -> list[int]:
    return sorted(row["id"] for row in rows_in(arrivals))


class Mirror:
    """What a dictionary holds that takes every change of a source in its turn."""

    def __init__(self, source: TableSource, key: tuple[str, ...] = ("id",)) -> None:
        self.source, self.key = source, key
        self.watermark: str | None = None
        self.rows: dict[tuple[Any, ...], dict[str, Any]] = {}

    def follow(self) -> None:
        arrivals = self.source.arrivals(self.watermark)
        rules = rules_for(arrivals, MergeRules(self.key))
        found = [change_set(one, TARGET, rules) for part in arrivals.parts for one in part.read()]
        self.watermark = arrivals.watermark
        if not found:
            return
        last = latest(joined(found), rules, TARGET)
        for row, kind in zip(last.rows.to_pylist(), last.kinds, strict=True):
            key = tuple(row[name] for name in self.key)
            self.rows.pop(key, None)
            if kind != DELETE:
                self.rows[key] = row

    @property
    def sorted(self) -> list[dict[str, Any]]:
        return sorted(self.rows.values(), key=lambda row: row["id"])


def test_rows_appended_to_an_iceberg_table_since_a_watermark(tmp_path: Path) -> None:
    lake = IcebergLake(tmp_path, 2)
    source = TableSource(lake.table)
    empty = source.arrivals(None)
    assert (empty.is_empty, empty.watermark) == (True, "")
    first = lake.append([1, 2], "a")
    lake.append([3], "b")
    lake.delete({first: [0]})
    whole = source.arrivals(None)
    assert (ids_in(whole), whole.op_column, whole.schema.names) == (
        [2, 3],
        None,
        ["id", "part", "text"],
    )
    assert source.arrivals(whole.watermark).is_empty
    lake.append([4], "a")
    lake.append([5, 6], "b")
    later = source.arrivals(whole.watermark)
    assert ids_in(later) == [4, 5, 6]
    streams = [one.stream for part in later.parts for one in part.read()]
    assert streams == sorted(streams)
    assert len(set(streams)) == 2
    assert later.parts[-1].watermark == later.watermark


def test_a_compaction_is_no_change_and_hides_none(tmp_path: Path) -> None:
    lake = IcebergLake(tmp_path, 2)
    lake.append([1])
    source = TableSource(lake.table)
    watermark = source.arrivals(None).watermark
    lake.append([2])
    table, snapshot = lake.table, lake.table.snapshot()
    (group,) = partitions(table.inventory(snapshot)).values()
    result = table.commit(Commit("c-1", snapshot, (rewrite(table, snapshot, group),)))
    assert result.committed
    lake.append([3])
    assert ids_in(source.arrivals(watermark)) == [2, 3]
    assert ids_in(source.arrivals(None)) == [1, 2, 3]


def test_removed_rows_without_a_feed_are_refused_by_name(tmp_path: Path) -> None:
    lake = IcebergLake(tmp_path, 2)
    path = lake.append([1, 2])
    source = TableSource(lake.table)
    watermark = source.arrivals(None).watermark
    lake.append([3])
    lake.delete({path: [0]})
    with pytest.raises(HistoryError, match="removed or replaced rows"):
        source.arrivals(watermark)
    with pytest.raises(HistoryError, match="is not, or no longer"):
        source.arrivals("12345")


def delta(directory: Path, **configuration: str) -> DeltaLake:
    return DeltaLake(directory, configuration={**WITH_VECTORS, **configuration})


def test_rows_appended_to_a_delta_table_since_a_watermark(tmp_path: Path) -> None:
    lake = delta(tmp_path)
    source = open_source(str(lake.directory))
    assert source.name == str(lake.directory)
    first = lake.append([1, 2], "a")
    lake.delete({first: [0]})
    whole = source.arrivals(None)
    assert (ids_in(whole), whole.op_column) == ([2], None)
    lake.append([4], "a")
    lake.append([5, 6], "b")
    before = source.arrivals(whole.watermark)
    lake.peer.optimize.compact()
    later = source.arrivals(whole.watermark)
    assert ids_in(before) == ids_in(later) == [4, 5, 6]
    assert {row["part"] for row in rows_in(later)} == {"a", "b"}
    assert source.arrivals(later.watermark).is_empty
    lake.remove(lake.append([7]))
    with pytest.raises(HistoryError, match=r"version \d+ removed or replaced rows \(DELETE\)"):
        source.arrivals(later.watermark)


def test_another_delta_table_at_the_same_place_is_told(tmp_path: Path) -> None:
    lake = delta(tmp_path)
    lake.append([1])
    source = TableSource(lake.table)
    watermark = source.arrivals(None).watermark
    shutil.rmtree(lake.directory)
    lake = delta(tmp_path)
    for number in range(3):
        lake.append([number])
    with pytest.raises(HistoryError, match="another table"):
        TableSource(lake.table).arrivals(watermark)


def test_commits_that_were_cleaned_are_missed(tmp_path: Path) -> None:
    lake = delta(tmp_path)
    source = TableSource(lake.table)
    watermark = source.arrivals(None).watermark
    lake.append([1])
    lake.append([2])
    lake.peer.create_checkpoint()
    (lake.directory / "_delta_log" / f"{1:020}.json").unlink()
    with pytest.raises(HistoryError, match="version 1 was cleaned"):
        source.arrivals(watermark)


def test_a_change_feed_keeps_a_mirror_exact(tmp_path: Path) -> None:
    directory = tmp_path / "t"
    rows = pa.table({"id": [*range(20)], "part": ["a", "b"] * 10, "text": ["old"] * 20})
    write_deltalake(str(directory), rows, partition_by=["part"], configuration=FED)
    source = TableSource(DeltaTable("t", Location.parse(str(directory)), {}))
    mirror = Mirror(source)
    mirror.follow()
    peer = PeerTable(str(directory))
    for step in _edits(peer, directory):
        del step
        mirror.follow()
        assert mirror.sorted == stored(peer)
    fresh = Mirror(source)
    fresh.follow()
    assert fresh.sorted == mirror.sorted


def test_a_change_feed_is_followed_over_many_versions_at_once(tmp_path: Path) -> None:
    directory = tmp_path / "t"
    rows = pa.table({"id": [*range(20)], "part": ["a", "b"] * 10, "text": ["old"] * 20})
    write_deltalake(str(directory), rows, partition_by=["part"], configuration=FED)
    source = TableSource(DeltaTable("t", Location.parse(str(directory)), {}))
    mirror = Mirror(source)
    mirror.follow()
    peer = PeerTable(str(directory))
    list(_edits(peer, directory))
    arrivals = source.arrivals(mirror.watermark)
    assert arrivals.op_column == CHANGE_TYPE
    with pytest.raises(ChangesRefusedError, match="event time"):
        rules_for(arrivals, MergeRules(("id",), ("text",), is_event_time=True))
    with pytest.raises(ChangesRefusedError, match="a feed"):
        rules_for(arrivals, MergeRules(("id",), op_column="op"))
    mirror.follow()
    assert mirror.sorted == stored(peer)


def _edits(peer: PeerTable, directory: Path) -> Iterator[str]:
    peer.update(predicate="id % 3 = 0", updates={"text": "'new'"})
    yield "update"
    peer.delete("id = 4 or id = 6")
    yield "delete"
    # The key itself changes, and the row moves to another partition.
    peer.update(predicate="id = 7", updates={"id": "700", "part": "'c'"})
    yield "move"
    source = pa.table({"id": [8, 100], "part": ["a", "c"], "text": ["merged", "merged"]})
    (
        peer.merge(source, "s.id = t.id", source_alias="s", target_alias="t")
        .when_matched_update_all()
        .when_not_matched_insert_all()
        .execute()
    )
    yield "merge"
    more = pa.table({"id": [200], "part": ["a"], "text": ["appended"]})
    write_deltalake(str(directory), more, mode="append")
    peer.update_incremental()
    yield "append"
    peer.optimize.compact()
    yield "compaction"
    write_deltalake(str(directory), more, mode="overwrite")
    peer.update_incremental()
    yield "overwrite"


def stored(peer: PeerTable) -> list[dict[str, Any]]:
    table = pa.table(peer.to_pyarrow_table()).select(TARGET.names)
    return sorted(table.to_pylist(), key=lambda row: row["id"])


def test_deletion_vectors_are_changes_of_a_feed(tmp_path: Path) -> None:
    lake = delta(tmp_path, **FED)
    path = lake.append([1, 2, 3])
    lake.delete({path: [0]})
    mirror = Mirror(TableSource(lake.table))
    mirror.follow()
    lake.delete({path: [0, 2]})
    arrivals = mirror.source.arrivals(mirror.watermark)
    found = [(row["id"], row[CHANGE_TYPE]) for row in rows_in(arrivals)]
    assert found == [(3, "delete")]
    mirror.follow()
    assert [row["id"] for row in mirror.sorted] == [2]
    add = lake.add_of(path)
    bare = {name: add[name] for name in add if name != "deletionVector"}
    lake.commit([{"remove": lake.remove_of(path)}, {"add": bare}])
    mirror.follow()
    assert [row["id"] for row in mirror.sorted] == [1, 2, 3]


def test_a_feed_that_begins_later_tells_nothing_of_before(tmp_path: Path) -> None:
    lake = delta(tmp_path)
    path = lake.append([1, 2])
    source = TableSource(lake.table)
    watermark = source.arrivals(None).watermark
    lake.remove(path)
    first = json.loads(
        (lake.directory / "_delta_log" / f"{0:020}.json").read_text().splitlines()[2]
    )
    first["metaData"]["configuration"] |= FED
    lake.commit([first])
    with pytest.raises(HistoryError, match="no change data feed"):
        source.arrivals(watermark)
