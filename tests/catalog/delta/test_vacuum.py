"""Vacuums remove what nobody refers to any more, and nothing else."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from catalog.delta.intervals import interval_seconds
from catalog.delta.log import LogSegment
from catalog.delta.state import TableState
from catalog.delta.vacuum import RETENTION, Vacuum, is_removable
from catalog.errors import UnsupportedTableError
from catalog.upkeep import UpkeepOrder, UpkeepResult
from tests.catalog.conformance import fill
from tests.catalog.delta.lakes import WITH_VECTORS, DeltaLake
from tests.catalog.groups import plan_all

NOW = UpkeepOrder(retention_seconds=0, is_forced=True)
HOUR_MS = 3_600_000


@pytest.fixture
def lake(tmp_path: Path) -> DeltaLake:
    lake = DeltaLake(tmp_path)
    fill(lake)
    return lake


def age(lake: DeltaLake, days: float = 30) -> None:
    """Make everything in the directory older."""
    for path in lake.directory.rglob("*"):
        if path.is_file() and "_delta_log" not in path.parts:
            then = time.time() - days * 86_400
            os.utime(path, (then, then))


def run(lake: DeltaLake, order: UpkeepOrder = NOW, *, is_lite: bool = False) -> UpkeepResult:
    return Vacuum(lake.table, is_lite).run(order)


def data_files(lake: DeltaLake) -> set[str]:
    return {
        str(path) for path in lake.directory.rglob("*.parquet") if "_delta_log" not in path.parts
    }


@pytest.mark.parametrize("is_lite", [False, True])
def test_replaced_files_are_removed(lake: DeltaLake, is_lite: bool) -> None:
    before, inputs = lake.rows(), data_files(lake)
    lake.table.commit(plan_all(lake.table))
    time.sleep(0.05)
    told = run(lake, replace(NOW, is_dry_run=True), is_lite=is_lite)
    assert inputs <= data_files(lake)
    sizes = sum(Path(path).stat().st_size for path in inputs)
    assert (told.files, told.bytes) == (len(inputs), sizes)
    assert {str(lake.directory / one) for one in told.examples} == inputs
    assert run(lake, is_lite=is_lite) == told
    assert data_files(lake) == lake.paths()
    assert lake.rows() == before
    if not is_lite:
        assert run(lake).files == 0


def test_nothing_is_removed_within_the_retention(lake: DeltaLake) -> None:
    lake.table.commit(plan_all(lake.table))
    age(lake)
    before = data_files(lake)
    for is_lite in (False, True):
        assert run(lake, UpkeepOrder(), is_lite=is_lite).files == 0
    assert data_files(lake) == before


def test_a_young_file_that_no_version_names_stays(lake: DeltaLake) -> None:
    orphan = lake.directory / "part=a" / "attempt-00000.parquet"
    orphan.write_bytes(b"being written")
    assert run(lake, UpkeepOrder()).files == 0
    age(lake, days=8)
    assert run(lake, UpkeepOrder(), is_lite=True).files == 0
    found = run(lake, UpkeepOrder())
    assert (found.files, found.bytes) == (1, len(b"being written"))
    assert not orphan.exists()


def test_live_deletion_vectors_are_never_removed(tmp_path: Path) -> None:
    """Files of vectors are shared, and old: the last live vector keeps the file."""
    lake = DeltaLake(tmp_path)
    files = fill(lake, parts="a")["a"]
    lake.delete({files[0]: [1], files[1]: [2]})
    lake.delete({files[0]: [3]})
    lake.peer.create_checkpoint()
    age(lake)
    before = lake.rows()
    assert len(list(lake.directory.glob("*.bin"))) == 2
    for is_lite in (True, False):
        run(lake, is_lite=is_lite)
        assert lake.rows() == before
        assert len(list(lake.directory.glob("*.bin"))) == 2
    lake.table.commit(plan_all(lake.table))
    time.sleep(0.05)
    run(lake)
    assert list(lake.directory.glob("*.bin")) == []
    assert lake.rows() == before


def test_vectors_of_removed_files_stay_within_the_retention(lake: DeltaLake) -> None:
    path = min(lake.paths())
    lake.delete({path: [1]})
    lake.table.commit(plan_all(lake.table))
    age(lake)
    run(lake, UpkeepOrder())
    assert len(list(lake.directory.glob("*.bin"))) == 1
    version = int(lake.table.snapshot().snapshot_id)
    assert len(lake.rows(str(version - 1))) == 59


def test_less_than_the_table_says_must_be_insisted_on(lake: DeltaLake) -> None:
    lake.table.commit(plan_all(lake.table))
    age(lake)
    for is_lite in (False, True):
        with pytest.raises(UnsupportedTableError, match="168"):
            run(lake, UpkeepOrder(retention_seconds=3600), is_lite=is_lite)
    assert run(lake, UpkeepOrder(retention_seconds=30 * 86_400)).files == 0


def test_the_retention_of_the_table_counts(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path, configuration={**WITH_VECTORS, RETENTION: "interval 0 seconds"})
    fill(lake)
    lake.table.commit(plan_all(lake.table))
    time.sleep(0.05)
    assert run(lake, UpkeepOrder()).files == 6


def test_old_change_files_are_removed_and_what_is_hidden_or_foreign_is_not(lake: DeltaLake) -> None:
    names = {
        "_change_data/part=a/cdc-1.parquet": False,
        "_change_data/cdc-2.parquet": False,
        "_mine/x.parquet": True,
        ".tmp/x.parquet": True,
        "part=a/.x.parquet": True,
        "part=a/_x.parquet": True,
        "_p=1/x.parquet": False,
        "README.md": True,
        "notes.bin": True,
        "_delta_log/00000000000000000003.checkpoint.parquet.bak": True,
    }
    for name in names:
        path = lake.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    age(lake)
    run(lake, UpkeepOrder())
    assert {name: (lake.directory / name).exists() for name in names} == names


def test_a_lite_vacuum_also_takes_what_a_checkpoint_has_forgotten(lake: DeltaLake) -> None:
    inputs = data_files(lake)
    lake.table.commit(plan_all(lake.table))
    time.sleep(0.05)
    lake.peer.create_checkpoint()
    checkpoint = next((lake.directory / "_delta_log").glob("*.checkpoint.parquet"))
    assert checkpoint.exists()
    assert run(lake, is_lite=True).files == len(inputs)
    assert data_files(lake) == lake.paths()


def test_many_files_in_little_memory(tmp_path: Path) -> None:
    """The listing is streamed: what is held is a hash per live file."""
    lake = DeltaLake(tmp_path)
    kept = lake.append(range(3))
    for number in range(5000):
        (lake.directory / "part=a" / f"{number}.parquet").touch()
    age(lake)
    found = run(lake, UpkeepOrder())
    assert (found.files, len(found.examples)) == (5000, 20)
    assert data_files(lake) == {kept}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("interval 1 week", 604_800),
        ("INTERVAL 2 Days", 172_800),
        ("interval 1 day 6 hours", 108_000),
        ("36 hours", 129_600),
        ("interval 90 minutes", 5_400),
        ("interval 1500 milliseconds", 1.5),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert interval_seconds({"x": text}, "x", 1) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "interval", "1 month", "interval 1 week and more", "7"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UnsupportedTableError, match="no duration"):
        interval_seconds({"x": text}, "x", 1)


def test_no_duration_is_the_default() -> None:
    assert interval_seconds({}, "x", 17) == 17


def test_paths_elsewhere_are_not_removable() -> None:
    assert not is_removable("/other/x.parquet")
    assert not is_removable("s3://bucket/x.parquet")
    assert is_removable("x.parquet")
    assert is_removable("ab/deletion_vector_61d16c75-6994-46b7-a15b-8b538852e50e.bin")


def test_hashes_of_a_million_names_take_eight_bytes_each() -> None:
    from catalog.sweeping import Names

    names = Names.of(str(number) for number in range(100_000))
    assert names.hashes.nbytes == 800_000
    assert names.holds(["17", "x"]).tolist() == [True, False]
    assert np.all(names.holds([str(number) for number in range(1000)]))


def test_what_dead_processes_left_unfinished_is_removed(lake: DeltaLake) -> None:
    log, mark = lake.directory / "_delta_log", "0123456789abcdef"
    vector = "deletion_vector_61d16c75-6994-46b7-a15b-8b538852e50e.bin"
    stale = [
        log / f".{3:020}.json.{mark}.part",
        log / f".{3:020}.checkpoint.parquet.{mark}.tmp",
        log / f"._last_checkpoint.{mark}.part",
        lake.directory / f".{vector}.{mark}.part",
    ]
    others = [log / f".{3:020}.json.crc", log / f"{3:020}.json.{mark}.part", log / ".mine.tmp"]
    for path in [*stale, *others]:
        path.touch()
    assert run(lake, UpkeepOrder()).files == 0
    for path in [*stale, *others]:
        os.utime(path, (1, 1))
    assert run(lake, UpkeepOrder()).files == len(stale)
    assert not any(path.exists() for path in stale)
    assert all(path.exists() for path in others)


def test_a_table_within_the_directory_is_left_alone(lake: DeltaLake) -> None:
    inner = DeltaLake(lake.directory / "ab")
    fill(inner)
    inner.table.commit(plan_all(inner.table))
    orphan = lake.directory / "ab" / "x.parquet"
    orphan.touch()
    rows = inner.rows()
    age(lake)
    assert run(lake, UpkeepOrder()).files == 1
    assert not orphan.exists()
    assert len(list(inner.directory.rglob("*.parquet"))) == 8
    assert inner.rows() == rows


def test_what_is_committed_while_it_runs_is_live_whatever_the_retention(
    lake: DeltaLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = lake.table
    load = table.load

    def overtaken(version: int | None = None) -> tuple[LogSegment, TableState]:
        loaded = load(version)
        lake.append(range(100, 110))
        return loaded

    monkeypatch.setattr(table, "load", overtaken)
    Vacuum(table).run(NOW)
    assert [row[0] for row in lake.rows()][-10:] == [*range(100, 110)]
