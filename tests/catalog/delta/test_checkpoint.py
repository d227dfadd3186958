"""Checkpoints hold what the log says, for every reader, and compacted commits do."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.commits import Commit
from catalog.delta.checkpoint import Checkpoint, is_due, write_checkpoint
from catalog.delta.log_compaction import LogCompaction
from catalog.errors import CorruptTableError, StorageError, UnsupportedTableError
from catalog.upkeep import UpkeepOrder
from tests.catalog.conformance import fill
from tests.catalog.delta.lakes import WITH_VECTORS, DeltaLake, commits, create_table
from tests.catalog.delta.logs import HandWritten
from tests.catalog.delta.tracked import TrackedLake
from tests.catalog.groups import plan_all

DO = UpkeepOrder()


@pytest.fixture
def lake(tmp_path: Path) -> DeltaLake:
    return DeltaLake(tmp_path)


def busy(lake: DeltaLake) -> None:
    """Append, delete, remove, compact: everything that leaves traces in a log."""
    files = fill(lake)
    lake.delete({files["a"][0]: [1, 2], files["a"][1]: [3]})
    lake.remove(files["b"][0])
    lake.table.commit(plan_all(lake.table))
    files = fill(lake)
    lake.delete({files["b"][2]: [9]})


def checkpoint(lake: DeltaLake) -> Path:
    segment, state = lake.table.load()
    write_checkpoint(lake.table, segment, state)
    return lake.directory / "_delta_log" / f"{segment.version:020}.checkpoint.parquet"


def forget_commits(lake: DeltaLake) -> None:
    """Leave nothing to read but the checkpoint."""
    for path in (lake.directory / "_delta_log").glob("*[0-9].json"):
        path.unlink()


def told(lake: DeltaLake) -> Mapping[str, Any]:
    """Everything that a reader learns from the log."""
    table = lake.table
    _, state = table.load()
    inventory = table.inventory(table.snapshot())
    commit = Commit("c", table.snapshot(), ())
    assert table.find_commit(commit) is None
    files = sorted(inventory.files.to_pylist(), key=lambda one: str(one["path"]))
    vectors = inventory.delete_files.to_pylist()
    for one in files:
        one["deletes"] = [vectors[index] for index in one["deletes"]]
    return {
        "files": files,
        "protocol": state.protocol,
        "metadata": state.metadata,
        "domains": state.domain_metadata,
        "txns": state.txns,
        "rows": lake.rows(),
    }


def test_a_checkpoint_alone_tells_what_the_log_told(lake: DeltaLake) -> None:
    busy(lake)
    before = told(lake)
    checkpoint(lake)
    assert told(lake) == before
    forget_commits(lake)
    assert told(lake) == before


def test_checkpoints_on_checkpoints(lake: DeltaLake) -> None:
    for number in range(3):
        busy(lake)
        before = told(lake)
        if number == 1:
            lake.peer.create_checkpoint()
        else:
            checkpoint(lake)
        assert told(lake) == before


def test_row_ids_domains_and_clocks_are_kept(tmp_path: Path) -> None:
    lake = TrackedLake(tmp_path)
    busy(lake)
    before, lineage = told(lake), lake.lineage()
    checkpoint(lake)
    forget = sorted((lake.directory / "_delta_log").glob("*[0-9].json"))[:-1]
    for path in forget:
        path.unlink()
    assert told(lake) == before
    assert lake.lineage() == lineage
    assert lake.table.load()[1].row_id_high_water_mark is not None


def test_the_hint_names_it_and_counts_are_right(lake: DeltaLake) -> None:
    busy(lake)
    path = checkpoint(lake)
    hint = json.loads((lake.directory / "_delta_log" / "_last_checkpoint").read_text())
    found = pq.read_table(path)
    adds = found["add"].combine_chunks().drop_null()
    assert hint == {
        "version": int(path.name[:20]),
        "size": found.num_rows,
        "sizeInBytes": path.stat().st_size,
        "numOfAddFiles": len(adds),
    }
    assert len(adds) == len(lake.paths())
    assert set(pa.compute.struct_field(adds, "dataChange").to_pylist()) == {False}
    assert [one.name for one in path.parent.iterdir() if one.name.endswith(".tmp")] == []


def test_a_newer_hint_is_left_alone(lake: DeltaLake) -> None:
    busy(lake)
    hint = lake.directory / "_delta_log" / "_last_checkpoint"
    hint.write_text('{"version":4000,"size":1}')
    segment, state = lake.table.load()
    write_checkpoint(lake.table, segment, state)
    assert json.loads(hint.read_text())["version"] == 4000


def test_removals_are_kept_within_the_retention_alone(tmp_path: Path) -> None:
    configuration = {"delta.deletedFileRetentionDuration": "interval 0 seconds"}
    for retention, count in ((WITH_VECTORS, 3), (configuration, 0)):
        lake = DeltaLake(tmp_path / str(count), configuration=retention)
        fill(lake, parts="a")
        lake.table.commit(plan_all(lake.table))
        time.sleep(0.01)
        removes = pq.read_table(checkpoint(lake))["remove"].combine_chunks().drop_null()
        assert len(removes) == count


def test_a_file_that_came_back_is_live_and_not_removed(lake: DeltaLake) -> None:
    path = fill(lake, parts="a")["a"][0]
    add = lake.add_of(path)
    lake.remove(path)
    checkpoint(lake)
    lake.commit([{"add": add}])
    before = told(lake)
    found = pq.read_table(checkpoint(lake))
    assert len(found["remove"].combine_chunks().drop_null()) == 0
    assert len(found["add"].combine_chunks().drop_null()) == 3
    assert told(lake) == before


def test_it_is_written_after_a_commit_when_it_is_due(lake: DeltaLake) -> None:
    for _ in range(2):
        fill(lake, files=3)
    lake.table.commit(plan_all(lake.table))
    log = lake.directory / "_delta_log"
    assert [one.name for one in log.glob("*.checkpoint.parquet")] == [
        f"{13:020}.checkpoint.parquet"
    ]
    lake.append(range(100, 110))
    lake.table.commit(plan_all(lake.table))
    assert len(list(log.glob("*.checkpoint.parquet"))) == 1
    segment, state = lake.table.load()
    assert not is_due(segment, state)


def test_the_interval_of_the_table_counts(tmp_path: Path) -> None:
    for interval, is_written in (("1", True), ("100", False), ("nonsense", True)):
        configuration = {"delta.checkpointInterval": interval}
        lake = DeltaLake(tmp_path / interval, configuration=configuration)
        fill(lake, files=5)
        lake.table.commit(plan_all(lake.table))
        found = list((lake.directory / "_delta_log").glob("*.checkpoint.parquet"))
        assert bool(found) is is_written


def test_a_commit_does_not_fail_over_its_checkpoint(
    lake: DeltaLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StorageError("no space for a checkpoint")

    fill(lake, files=6)
    commit = plan_all(lake.table)
    monkeypatch.setattr("catalog.storage.storage.Storage.copy", refuse)
    assert lake.table.commit(commit).conflicts == ()
    names = [one.name for one in (lake.directory / "_delta_log").iterdir()]
    assert not [name for name in names if "checkpoint" in name]


def test_a_table_that_wants_statistics_as_columns_alone_is_left_to_others(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path, configuration={"delta.checkpoint.writeStatsAsJson": "false"})
    fill(lake, files=6)
    with pytest.raises(UnsupportedTableError, match="statistics"):
        checkpoint(lake)
    assert lake.table.commit(plan_all(lake.table)).conflicts == ()


def test_upkeep_writes_one_when_it_is_due_and_tells_so(lake: DeltaLake) -> None:
    fill(lake, files=2)
    assert Checkpoint(lake.table).run(DO).files == 0
    fill(lake, files=4)
    assert Checkpoint(lake.table).run(replace(DO, is_dry_run=True)).files == 1
    log = lake.directory / "_delta_log"
    assert not list(log.glob("*.checkpoint.parquet"))
    assert Checkpoint(lake.table).run(DO).files == 1
    assert len(list(log.glob("*.checkpoint.parquet"))) == 1


@pytest.mark.parametrize(("form", "sidecars"), [("json", 2), ("parquet", 2), ("json", 0)])
def test_a_checkpoint_of_a_table_with_v2_checkpoints(
    tmp_path: Path, form: str, sidecars: int
) -> None:
    lake = DeltaLake(tmp_path, creates=False)
    create_table(lake.directory, configuration={}, features=("v2Checkpoint",))
    fill(lake, parts="a")
    before, version = told(lake), int(lake.table.snapshot().snapshot_id)
    first = [one for one in commits(lake.directory)[0] if "commitInfo" not in one]
    adds = [{"add": lake.add_of(path)} for path in sorted(lake.paths())]
    log = HandWritten(lake.directory)
    log.v2_checkpoint(version, *first, *adds, form=form, sidecars=sidecars)
    assert told(lake) == before
    lake.append(range(100, 110))
    now = told(lake)
    path = checkpoint(lake)
    assert told(lake) == now
    metadata = pq.read_table(path)["checkpointMetadata"].combine_chunks().drop_null()
    assert metadata.to_pylist() == [{"version": version + 1, "tags": None}]
    forget_commits(lake)
    assert told(lake) == now


def test_compacted_commits_tell_the_same(lake: DeltaLake) -> None:
    busy(lake)
    checkpoint(lake)
    busy(lake)
    before = told(lake)
    first = LogCompaction(lake.table).run(replace(DO, is_dry_run=True))
    log = lake.directory / "_delta_log"
    assert not list(log.glob("*.compacted.json"))
    assert LogCompaction(lake.table).run(DO) == first
    assert len(list(log.glob("*.compacted.json"))) == 1
    segment, _ = lake.table.load()
    assert len(segment.commits) == 1
    assert told(lake) == before
    commit = plan_all(lake.table)
    rows = lake.rows()
    assert lake.table.commit(commit).conflicts == ()
    assert lake.rows() == rows
    assert LogCompaction(lake.table).run(DO).files in (0, 1)
    assert lake.rows() == rows


def test_a_single_commit_is_not_compacted(lake: DeltaLake) -> None:
    assert LogCompaction(lake.table).run(DO).files == 0


def test_a_large_checkpoint_is_written_in_row_groups(
    lake: DeltaLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catalog.delta.checkpoint._GROUP_ROWS", 4)
    busy(lake)
    before = told(lake)
    assert pq.read_metadata(checkpoint(lake)).num_row_groups > 2
    assert told(lake) == before
    monkeypatch.setattr("catalog.delta.checkpoints._BATCH_ROWS", 3)
    lake.append(range(100, 110))
    before = told(lake)
    checkpoint(lake)
    assert told(lake) == before


def test_statistics_that_stand_in_columns_alone_are_never_lost(lake: DeltaLake) -> None:
    fill(lake, parts="a")
    path = checkpoint(lake)
    rows = pq.read_table(path)
    adds = rows["add"].combine_chunks()
    names = [field.name for field in adds.type if field.name != "stats"]
    parsed = pa.array([{"numRecords": 10}] * len(adds), pa.struct({"numRecords": pa.int64()}))
    columns = [pa.compute.struct_field(adds, name) for name in names]
    without = pa.StructArray.from_arrays(
        [*columns, parsed], [*names, "stats_parsed"], mask=adds.is_null()
    )
    pq.write_table(rows.set_column(rows.column_names.index("add"), "add", without), path)
    assert len(told(lake)["files"]) == 3
    lake.append(range(100, 110))
    with pytest.raises(UnsupportedTableError, match="statistics"):
        checkpoint(lake)


def test_a_field_of_another_type_is_refused_and_the_commit_stands(lake: DeltaLake) -> None:
    path = fill(lake, parts="a", files=6)["a"][0]
    fill(lake, parts="b", files=6)
    lake.commit([{"add": {**lake.add_of(path), "tags": 7}}])
    with pytest.raises(CorruptTableError, match="malformed add"):
        checkpoint(lake)
    commit = plan_all(lake.table)
    kept = tuple(one for one in commit.rewrites if "b" in one.group_id)
    assert lake.table.commit(replace(commit, rewrites=kept)).conflicts == ()


def test_a_checkpoint_that_is_there_stays_and_a_stale_checksum_does_not(lake: DeltaLake) -> None:
    busy(lake)
    stale = lake.directory / "_delta_log" / "._last_checkpoint.crc"
    stale.write_bytes(b"of another hint")
    path = checkpoint(lake)
    assert not stale.exists()
    written = path.stat().st_ino
    assert checkpoint(lake).stat().st_ino == written
