"""A checkpoint that cannot be read: what is older adds up to the same version, or nothing does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.delta.checkpoints import DamagedCheckpointError
from catalog.delta.table import DeltaTable
from catalog.location import Location
from tests.catalog.conformance import fill
from tests.catalog.delta.lakes import DeltaLake
from tests.catalog.delta.logs import CHECKPOINT, PROTOCOL, HandWritten, add, metadata, remove
from tests.catalog.groups import plan_all

TABLE = metadata()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def rows_lost(path: Path) -> None:
    pq.write_table(CHECKPOINT.empty_table(), path)


def sizes_of_text(path: Path) -> None:
    """Its small facts can be read, its files cannot."""
    rows = pq.read_table(path).to_pylist()
    kinds = [
        pa.field(one.name, pa.string() if one.name == "size" else one.type)
        for one in CHECKPOINT.field("add").type
    ]
    for row in rows:
        if row["add"]:
            row["add"]["size"] = "many"
    place = CHECKPOINT.get_field_index("add")
    schema = CHECKPOINT.set(place, pa.field("add", pa.struct(kinds)))
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


SPOILT = pytest.mark.parametrize("spoil", [truncated, empty, rows_lost, sizes_of_text])


@pytest.fixture
def log(tmp_path: Path) -> HandWritten:
    made = HandWritten(tmp_path)
    made.commit(0, PROTOCOL, TABLE, add("a"))
    made.commit(1, add("b"))
    made.commit(2, remove("a"), add("c"))
    made.commit(3, add("d"))
    return made


def opened(log: HandWritten) -> DeltaTable:
    return DeltaTable("t", Location.parse(str(log.directory)), {})


def names(table: DeltaTable) -> list[str]:
    paths = table.inventory(table.snapshot()).files["path"].to_pylist()
    return sorted(path.rpartition("/")[2] for path in paths)


@SPOILT
def test_the_commits_stand_in_and_people_are_told_once(
    log: HandWritten, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    (path,) = log.checkpoint(2, PROTOCOL, TABLE, add("b"), add("c"))
    spoil(path)
    table = opened(log)
    with caplog.at_level(logging.WARNING):
        assert names(table) == names(table) == ["b", "c", "d"]
    (record,) = caplog.records
    assert "the checkpoint of version 2 was left aside" in record.getMessage()


@SPOILT
def test_an_older_checkpoint_stands_in(log: HandWritten, spoil: Callable[[Path], None]) -> None:
    log.checkpoint(1, PROTOCOL, TABLE, add("a"), add("b"))
    (path,) = log.checkpoint(2, PROTOCOL, TABLE, add("b"), add("c"))
    spoil(path)
    (log.log / f"{0:020}.json").unlink()
    assert names(opened(log)) == ["b", "c", "d"]


@pytest.mark.parametrize("missing", [0, 2])
def test_a_version_that_does_not_add_up_is_refused(log: HandWritten, missing: int) -> None:
    """Also where the newest version is in the checkpoint alone: an older one is another table."""
    (path,) = log.checkpoint(2, PROTOCOL, TABLE, add("b"), add("c"))
    truncated(path)
    (log.log / f"{missing:020}.json").unlink()
    (log.log / f"{3:020}.json").unlink()
    with pytest.raises(DamagedCheckpointError):
        names(opened(log))


@pytest.mark.parametrize("spoil", [truncated, sizes_of_text])
def test_commits_follow_such_a_checkpoint(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    lake = DeltaLake(tmp_path)
    fill(lake)
    before = lake.rows()
    lake.peer.create_checkpoint()
    (path,) = lake.directory.glob("_delta_log/*.checkpoint.parquet")
    spoil(path)
    table = lake.table
    commit = plan_all(table)
    result = table.commit(commit)
    assert result.conflicts == ()
    assert lake.table.find_commit(commit) == result
    # deltalake reads no damaged checkpoint: it is given none.
    path.unlink()
    (lake.directory / "_delta_log" / "_last_checkpoint").unlink()
    assert lake.rows() == before
