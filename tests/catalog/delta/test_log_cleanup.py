"""Versions leave the log when the table wants no longer to know of them, and not before."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from catalog.delta.checkpoint import write_checkpoint
from catalog.delta.log_cleanup import LogCleanup
from catalog.errors import CorruptTableError, SnapshotNotFoundError
from catalog.upkeep import UpkeepOrder, UpkeepResult
from tests.catalog.conformance import fill
from tests.catalog.delta.lakes import DeltaLake, commits, create_table
from tests.catalog.delta.logs import HandWritten
from tests.catalog.groups import plan_all

DO = UpkeepOrder()


@pytest.fixture
def lake(tmp_path: Path) -> DeltaLake:
    lake = DeltaLake(tmp_path)
    fill(lake)
    return lake


def checkpoint(lake: DeltaLake) -> int:
    segment, state = lake.table.load()
    write_checkpoint(lake.table, segment, state)
    return segment.version


def age(lake: DeltaLake, *, below: int, days: float = 40) -> None:
    """Make what the log has of the versions below one older."""
    then = time.time() - days * 86_400
    for path in (lake.directory / "_delta_log").iterdir():
        if path.name[:20].isdecimal() and int(path.name[:20]) < below:
            os.utime(path, (then, then))


def names(lake: DeltaLake) -> set[str]:
    return {path.name for path in (lake.directory / "_delta_log").iterdir()}


def run(lake: DeltaLake, order: UpkeepOrder = DO) -> UpkeepResult:
    return LogCleanup(lake.table).run(order)


def test_versions_before_an_outdated_checkpoint_go(lake: DeltaLake) -> None:
    first = checkpoint(lake)
    fill(lake)
    lake.table.commit(plan_all(lake.table))
    rows, head = lake.rows(), lake.table.snapshot()
    before, at_first = names(lake), lake.rows(str(first))
    age(lake, below=first + 2)
    told = run(lake, replace(DO, is_dry_run=True))
    assert names(lake) == before
    assert (told.files, told.note) == (first, f"kept from version {first}")
    assert run(lake) == told
    assert before - names(lake) == {f"{version:020}.json" for version in range(first)}
    assert lake.rows() == rows
    assert lake.table.snapshot() == head
    assert lake.rows(str(first)) == at_first
    with pytest.raises(SnapshotNotFoundError):
        lake.table.snapshot(str(first - 1))
    assert run(lake).files == 0


def test_nothing_goes_without_an_outdated_checkpoint(lake: DeltaLake) -> None:
    before = names(lake)
    age(lake, below=100)
    assert run(lake).files == 0
    assert names(lake) == before
    checkpoint(lake)  # of the newest version, which is outdated as well
    assert run(lake).files == 6


def test_young_versions_stay(lake: DeltaLake) -> None:
    checkpoint(lake)
    before = names(lake)
    age(lake, below=100, days=29)
    assert run(lake).files == 0
    assert run(lake, UpkeepOrder(retention_seconds=0, is_forced=True)).files == 0
    assert names(lake) == before


def test_a_young_version_keeps_all_that_follow(lake: DeltaLake) -> None:
    checkpoint(lake)
    age(lake, below=100)
    os.utime(lake.directory / "_delta_log" / f"{2:020}.json")
    assert run(lake).files == 0


def test_a_checkpoint_that_cannot_be_read_makes_nothing_dispensable(lake: DeltaLake) -> None:
    version = checkpoint(lake)
    path = lake.directory / "_delta_log" / f"{version:020}.checkpoint.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    age(lake, below=100)
    before = names(lake)
    with pytest.raises(CorruptTableError):
        run(lake)
    assert names(lake) == before


def test_a_table_may_keep_all_versions(tmp_path: Path, lake: DeltaLake) -> None:
    kept = DeltaLake(tmp_path / "k", configuration={"delta.enableExpiredLogCleanup": "false"})
    fill(kept)
    (protocol,) = (one["protocol"] for one in commits(lake.directory)[0] if "protocol" in one)
    features = [*protocol["writerFeatures"], "checkpointProtection"]
    lake.commit([{"protocol": {**protocol, "writerFeatures": features}}])
    for one, reason in ((kept, "keeps all versions"), (lake, "protects its checkpoints")):
        checkpoint(one)
        age(one, below=100)
        found = run(one)
        assert found.files == 0
        assert reason in found.note


def test_the_retention_of_the_table_counts_and_other_files_stay(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path, configuration={"delta.logRetentionDuration": "interval 1 day"})
    fill(lake)
    log, version = lake.directory / "_delta_log", checkpoint(lake)
    others = {f"{1:020}.json.bak", "notes.json", "_last_checkpoint", "00000000000000000001"}
    gone = {f"{1:020}.crc", f"{0:020}.{2:020}.compacted.json"}
    for name in others | gone:
        (log / name).touch()
    age(lake, below=100, days=2)
    (log / f"{0:020}.{2:020}.compacted.json").unlink()
    run(lake)
    kept = {f"{version:020}.json", f"{version:020}.checkpoint.parquet"}
    assert names(lake) == others | kept


def test_sidecars_go_with_the_last_checkpoint_that_names_them(tmp_path: Path) -> None:
    lake = DeltaLake(tmp_path, creates=False)
    create_table(lake.directory, configuration={}, features=("v2Checkpoint",))
    fill(lake, parts="a", files=2)
    log = HandWritten(lake.directory)
    first = [one for one in commits(lake.directory)[0] if "commitInfo" not in one]
    adds = [{"add": lake.add_of(path)} for path in sorted(lake.paths())]
    log.v2_checkpoint(1, *first, adds[0], form="json", sidecars=1)
    (old,) = (log.log / "_sidecars").iterdir()
    log.v2_checkpoint(2, *first, *adds, form="parquet", sidecars=2)
    rows = lake.rows()
    age(lake, below=100)
    found = run(lake)
    assert found.note == "kept from version 2"
    assert old.name in found.examples
    assert len(list((log.log / "_sidecars").iterdir())) == 2
    assert not old.exists()
    assert lake.rows() == rows
