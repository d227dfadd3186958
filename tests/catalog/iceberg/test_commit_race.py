"""Writers race our commits; afterwards every row of every snapshot is accounted for."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.expressions import And, EqualTo, In
from pyiceberg.table.snapshots import Operation, ancestors_of

from catalog.commits import Commit, CommitResult
from catalog.errors import CommitConflictError
from tests.catalog.change_race import ChangeRace
from tests.catalog.groups import plan_all
from tests.catalog.iceberg.lakes import IcebergLake, rows_of
from tests.iceberg_tables import (
    commit_deletes,
    data_files,
    sql_catalog,
    write_position_deletes,
)

_LOST = (CommitFailedException, ValidationException)


@dataclass
class Race:
    """What the writers did, as far as they were told that it was done."""

    directory: Path
    lake: IcebergLake
    deadline: float
    numbers: count[int] = field(default_factory=lambda: count(0, 10))
    appended: set[int] = field(default_factory=set)
    deleted: set[int] = field(default_factory=set)
    # A position delete on a file that was replaced just before does nothing: allowed, not required.
    maybe_deleted: set[int] = field(default_factory=set)
    results: list[tuple[Commit, CommitResult]] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def handle(self) -> IcebergLake:
        """Give a thread a catalog of its own."""
        lake = object.__new__(IcebergLake)
        lake.has_deletes, lake.catalog = True, sql_catalog(self.directory)
        return lake

    def until_the_end(self, step: Callable[[IcebergLake], None]) -> threading.Thread:
        def work() -> None:
            lake = self.handle()
            try:
                while time.monotonic() < self.deadline:
                    step(lake)
                    time.sleep(random.uniform(0, 0.05))
            except BaseException as error:  # noqa: BLE001 - reported by the test
                self.errors.append(error)

        return threading.Thread(target=work)

    def append(self, lake: IcebergLake) -> None:
        first = next(self.numbers)
        with suppress(*_LOST):
            lake.other.append(rows_of(range(first, first + 10), random.choice("abc")))
            self.appended |= set(range(first, first + 10))

    def delete_rows(self, lake: IcebergLake) -> None:
        """Copy-on-write, in one partition; position deletes are kept to another."""
        some = self._pick(lake, "a")
        if some:
            with suppress(*_LOST):
                lake.other.delete(And(EqualTo("part", "a"), In("id", some)))
                self.deleted |= set(some)

    def overwrite_rows(self, lake: IcebergLake) -> None:
        some, first = self._pick(lake, "a"), next(self.numbers)
        if some:
            with suppress(*_LOST):
                where = And(EqualTo("part", "a"), In("id", some))
                lake.other.overwrite(rows_of(range(first, first + 10), "a"), where)
                self.deleted |= set(some)
                self.appended |= set(range(first, first + 10))

    def delete_positions(self, lake: IcebergLake) -> None:
        table = lake.other
        files = [file for file in data_files(table) if file.partition[0] == "b"]
        if files:
            file = random.choice(files)
            with table.io.new_input(file.file_path).open() as source:
                row_ids = pq.read_table(source, columns=["id"])["id"].to_pylist()
            position = random.randrange(len(row_ids))
            self.maybe_deleted.add(row_ids[position])
            with suppress(*_LOST):
                deletes = write_position_deletes(table, {file.file_path: [position]}, like=file)
                commit_deletes(table, deletes)

    def compact(self, lake: IcebergLake) -> None:
        commit = plan_all(lake.table)
        if not commit.rewrites:
            return
        time.sleep(random.uniform(0, 0.1))
        with suppress(CommitConflictError):
            self.results.append((commit, lake.table.commit(commit)))

    def _pick(self, lake: IcebergLake, part: str) -> list[int]:
        rows = lake.other.scan(EqualTo("part", part)).to_arrow()["id"].to_pylist()
        return random.sample(rows, min(2, len(rows)))


def run(directory: Path, seconds: float, crowd: int) -> Race:
    race = Race(directory, IcebergLake(directory, 2), time.monotonic() + seconds)
    steps = [race.append, race.delete_rows, race.overwrite_rows, race.delete_positions]
    steps = [steps[index % len(steps)] for index in range(crowd)]
    for number in range(6):
        race.lake.append(range(10**6 + number * 10, 10**6 + number * 10 + 10), "ab"[number % 2])
        race.appended |= set(range(10**6 + number * 10, 10**6 + number * 10 + 10))
    threads = [race.until_the_end(step) for step in [*steps, *[race.compact] * (crowd // 4)]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return race


def check(race: Race) -> None:
    assert race.errors == []
    table = race.lake.other
    current = table.current_snapshot()
    history = list(ancestors_of(current, table.metadata))[::-1]
    states = [race.lake.rows(str(one.snapshot_id)) for one in history]
    for (_, before), (snapshot, after) in pairwise(zip(history, states, strict=True)):
        assert snapshot.summary is not None
        if snapshot.summary.operation == Operation.REPLACE:
            assert after == before, f"snapshot {snapshot.snapshot_id} changed the content"
    ids = [row[0] for row in states[-1]]
    assert len(ids) == len(set(ids))
    must_be_there = race.appended - race.deleted - race.maybe_deleted
    assert must_be_there <= set(ids) <= race.appended - race.deleted
    for commit, result in race.results:
        found = race.lake.table.find_commit(commit)
        if found is None:
            assert result.snapshot is None
        else:
            assert (found.snapshot, found.committed) == (result.snapshot, result.committed)
    landed = [result for _, result in race.results if result.committed]
    replaced = [one for one in history if one.summary.operation == Operation.REPLACE]  # type: ignore[union-attr]
    assert len(landed) == len(replaced)


def test_every_row_is_accounted_for_after_a_race(tmp_path: Path) -> None:
    check(run(tmp_path, seconds=5, crowd=4))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_row_is_accounted_for_after_a_long_race(tmp_path: Path) -> None:
    race = run(tmp_path, seconds=60, crowd=8)
    check(race)
    if not any(result.committed for _, result in race.results):
        # So many writers leave a slow machine no room to commit a rewrite of everything.
        fewer = tmp_path / "fewer"
        fewer.mkdir()
        race = run(fewer, seconds=60, crowd=4)
        check(race)
    assert any(result.committed for _, result in race.results)
    conflicts = sum(len(result.conflicts) for _, result in race.results)
    assert conflicts > 0, "a race without a conflict proves little"


def _appends(lake: IcebergLake, ids: range, part: str) -> bool:
    with suppress(*_LOST):
        lake.other.append(rows_of(ids, part))
        return True
    return False


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_streams_of_changes_an_appender_and_a_compaction_end_exact(tmp_path: Path) -> None:
    lake = IcebergLake(tmp_path, 2)
    race = Race(tmp_path, lake, 0.0)
    ChangeRace(race.handle, _appends).run()
