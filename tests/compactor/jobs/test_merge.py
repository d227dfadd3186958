"""Merges into a table in memory: exact, once, whatever other writers do, and nothing is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import compactor.merge.group as group
from catalog.errors import StorageError
from catalog.location import Location
from catalog.memory import MemoryTable
from catalog.storage import Storage
from compactor.errors import ChangesRefusedError, VerificationError
from compactor.jobs import merge_changes, merge_planning, merge_rounds
from compactor.jobs.events import BatchCommitted, Event, GroupFinished, JobPlanned
from compactor.jobs.merge import merge_into, plan_merge
from compactor.jobs.merge_changes import MergeRequest
from compactor.jobs.merge_planning import Writing
from compactor.jobs.options import JobOptions
from compactor.jobs.report import JobReport
from compactor.jobs.runner import JobEnvironment
from compactor.jobs.state import JobState
from compactor.jobs.store import JobStore, open_store
from compactor.merge.choice import WriteMode
from compactor.merge.finding import Found
from compactor.merge.rules import MergeRules, Mode
from compactor.merge.source_arrow import ArrowSource
from compactor.merge.source_files import FileSource
from compactor.planner.plan import ChangeCounts
from compactor.planner.policy import Policy
from compactor.proof import Proof
from compactor.rewrite.read import SliceReader
from runtime.connect import connect
from tests.compactor.rewrite.tables import with_ids

SCHEMA = with_ids(pa.schema([("id", pa.int64()), ("v", pa.string()), ("at", pa.int64())]))
BY_ID = MergeRules(("id",), op_column="op")


def rows_of(ids: range, text: str = "old") -> pa.Table:
    return pa.table([[*ids], [f"{text} {n}" for n in ids], [0] * len(ids)], schema=SCHEMA)


def changes_of(upserts: range | list[int], deletes: range | list[int] = ()) -> pa.Table:
    ids = [*upserts, *deletes]
    ops = ["U"] * len(upserts) + ["D"] * len(deletes)
    return pa.table({"id": ids, "v": [f"new {n}" for n in ids], "at": ids, "op": ops})


@dataclass
class World:
    """A table, its changes, and everything that merges need."""

    directory: Path
    table: MemoryTable
    store: JobStore
    events: list[Event] = field(default_factory=list)
    meanwhile: Callable[[Event], None] = lambda event: None

    @property
    def prefix(self) -> Path:
        return self.directory / "changes"

    def arrive(self, name: str, rows: pa.Table, prefix: str = "changes") -> None:
        place = self.directory / prefix / name
        place.parent.mkdir(exist_ok=True)
        pq.write_table(rows, place)

    def source(self, prefix: str = "changes") -> FileSource:
        return FileSource(Storage(), Location.parse(str(self.directory / prefix)))

    def merge(self, request: MergeRequest | None = None, **options: Any) -> JobReport:
        def watch(event: Event) -> None:
            self.events.append(event)
            self.meanwhile(event)

        with connect("inline") as runtime:
            return merge_into(
                self.table,
                request or MergeRequest(BY_ID, self.source()),
                writing=Writing(Policy(), Proof.FULL, WriteMode.COPY_ON_WRITE),
                environment=JobEnvironment(runtime, self.store, watch),
                options=JobOptions(proof=Proof.FULL, **options),
            )

    def rows(self) -> dict[int, str]:
        snapshot = self.table.snapshot()
        files, inventory = self.table.files(snapshot), self.table.inventory(snapshot)
        reader = SliceReader.of(files, inventory, files.schema)
        found = [
            row
            for file in inventory.slices()
            for batch in reader.batches(file)
            for row in batch.to_pylist()
        ]
        assert len({row["id"] for row in found}) == len(found)
        return {row["id"]: row["v"] for row in found}

    def orphans(self) -> set[str]:
        stored = {path.name for path in (self.directory / "t").rglob("*.parquet")}
        return stored - {Path(path).name for one in self.table._states for path in one.files}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "changes").mkdir()
    table = MemoryTable(tmp_path / "t", SCHEMA)
    for start in (0, 10, 20):
        table.append(rows_of(range(start, start + 10)))
    with open_store(f"sqlite:///{tmp_path}/jobs.db") as store:
        yield World(tmp_path, table, store)


def old(*but: int) -> dict[int, str]:
    return {n: f"old {n}" for n in range(30) if n not in but}


def test_changes_are_merged_once_and_later_ones_when_they_come(world: World) -> None:
    world.arrive("1.parquet", changes_of([3, 100], [4, 999]))
    world.arrive("2.parquet", changes_of([4]))
    report = world.merge()
    assert (report.status, report.verified) == (JobState.SUCCEEDED, True)
    assert world.rows() == old(3, 4) | {n: f"new {n}" for n in (3, 4, 100)}
    assert report.change is not None
    assert report.change.counts == ChangeCounts(
        upserts=3, deletes=2, superseded=1, inserted=1, updated=2, unchanged=1
    )
    assert [(one.name, one.files, one.rows) for one in report.change.stages] == [
        ("stored", 3, 30),
        ("row groups", 1, 10),
        ("filters", 1, 10),
        ("keys", 1, 2),
    ]
    assert (report.rows_before, report.rows_dropped, report.rows_added) == (30, 2, 3)
    assert report.rows_after == 31
    before = world.table.snapshot()
    again = world.merge()
    assert (again.status, again.groups.committed) == (JobState.SUCCEEDED, 0)
    assert again.change is not None
    assert [one.value for one in again.change.watermarks] == ["2.parquet"]
    assert world.table.snapshot() == before
    world.arrive("3.parquet", changes_of([], [100]))
    assert world.merge().groups.committed == 1
    assert 100 not in world.rows()
    assert world.orphans() == set()


def test_changes_without_effect_are_read_once_as_well(world: World) -> None:
    world.arrive("1.parquet", changes_of([], [999]))
    before = world.table.inventory(world.table.snapshot())
    report = world.merge()
    assert report.status is JobState.SUCCEEDED
    assert world.table.watermark(world.source().name) == "1.parquet"
    assert world.table.inventory(world.table.snapshot()).files.equals(before.files)
    world.table.append(rows_of(range(999, 1000)))
    assert world.merge().groups.committed == 0
    assert 999 in world.rows()


def test_a_plan_touches_nothing(world: World) -> None:
    world.arrive("1.parquet", changes_of([3, 15, 100], [4]))
    before = world.table.snapshot()
    with connect("inline") as runtime:
        request = MergeRequest(BY_ID, world.source())
        writing = Writing(Policy(), Proof.COUNTS, WriteMode.COPY_ON_WRITE)
        plan = plan_merge(world.table, request, writing=writing, runtime=runtime).plan
    assert world.table.snapshot() == before
    assert plan.change is not None
    assert plan.change.counts.updated == 2
    assert (plan.kept_files, plan.totals().files) == (1, 2)
    assert world.orphans() == set()


def test_a_table_without_rows_is_loaded(tmp_path: Path) -> None:
    table = MemoryTable(tmp_path / "t", SCHEMA)
    with open_store(f"sqlite:///{tmp_path}/jobs.db") as store:
        world = World(tmp_path, table, store)
        world.arrive("1.parquet", changes_of(range(50), [7]))
        world.arrive("2.parquet", changes_of(range(40, 60)))
        assert world.merge().status is JobState.SUCCEEDED
        assert world.rows() == {n: f"new {n}" for n in range(60) if n != 7}


def test_the_same_rows_come_in_once_under_a_name(world: World) -> None:
    request = MergeRequest(BY_ID, ArrowSource("orders", changes_of([100]), "batch 1"))
    assert world.merge(request).rows_added == 1
    world.table.append(rows_of(range(200, 201)))
    assert world.merge(request).groups.committed == 0
    assert world.table.watermark("orders") == "batch 1"
    second = ArrowSource("orders", changes_of([], [200]), "batch 2")
    assert world.merge(replace(request, changes=second)).rows_dropped == 1


@contextmanager
def once(world: World, kind: type[Event], action: Callable[[], None]) -> Iterator[None]:
    """Do something when an event of a kind comes for the first time."""
    waiting = [action]

    def watch(event: Event) -> None:
        if isinstance(event, kind) and waiting:
            waiting.pop()()

    world.meanwhile = watch
    yield
    assert not waiting


@pytest.mark.parametrize("moment", [JobPlanned, GroupFinished])
def test_rows_that_others_add_meanwhile_are_matched_as_well(
    world: World, moment: type[Event]
) -> None:
    world.arrive("1.parquet", changes_of([3, 100], [4]))
    with once(world, moment, lambda: world.table.append(rows_of(range(100, 102)))):
        report = world.merge()
    assert (report.status, report.conflicts, report.groups.committed) == (JobState.SUCCEEDED, 1, 1)
    expected = {3: "new 3", 100: "new 100", 101: "old 101"}
    assert world.rows() == old(3, 4) | expected
    assert report.change is not None
    assert (report.change.counts.updated, report.change.counts.inserted) == (2, 0)
    assert world.orphans() == set()
    with open_store(f"sqlite:///{world.directory}/jobs.db") as store:
        assert [job.state for job in store.jobs()] == [JobState.SUCCEEDED, JobState.FAILED]


def test_who_always_loses_says_so_and_leaves_nothing(world: World) -> None:
    world.arrive("1.parquet", changes_of([3]))
    numbers = iter(range(1000, 2000))

    def disturb(event: Event) -> None:
        if isinstance(event, JobPlanned):
            start = next(numbers)
            world.table.append(rows_of(range(start, start + 1)))

    world.meanwhile = disturb
    report = world.merge(merge_attempts_max=2)
    assert (report.status, report.conflicts, report.exit_code) == (JobState.FAILED, 2, 11)
    assert report.change is not None
    assert (report.change.counts, report.change.watermarks) == (ChangeCounts(), ())
    assert world.orphans() == set()
    world.meanwhile = lambda event: None
    assert world.merge().status is JobState.SUCCEEDED
    assert world.rows()[3] == "new 3"


def test_another_merge_of_the_same_changes_is_not_repeated(world: World) -> None:
    world.arrive("1.parquet", changes_of([3]))

    def other() -> None:
        with open_store(f"sqlite:///{world.directory}/other.db") as store:
            assert World(world.directory, world.table, store).merge().groups.committed == 1

    with once(world, GroupFinished, other):
        report = world.merge()
    assert (report.status, report.conflicts, report.groups.committed) == (JobState.SUCCEEDED, 1, 0)
    assert world.rows() == old(3) | {3: "new 3"}
    assert world.orphans() == set()


def test_changes_that_come_while_a_merge_runs_are_merged_by_the_next(world: World) -> None:
    world.arrive("1.parquet", changes_of([3]))
    with once(world, GroupFinished, lambda: world.arrive("2.parquet", changes_of([5]))):
        world.merge()
    assert world.rows() == old(3) | {3: "new 3"}
    world.merge()
    assert world.rows() == old(3, 5) | {3: "new 3", 5: "new 5"}


def test_a_group_that_fails_ends_the_merge_and_leaves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.arrive("1.parquet", changes_of([3, 15, 100]))
    broken = world.table.inventory(world.table.snapshot()).files["path"][1].as_py()
    real = group.merge_group

    def failing(task: group.MergeTask) -> object:
        if broken in task.rewrite.files.files["path"].to_pylist():
            raise StorageError("the disk is gone")
        return real(task)

    monkeypatch.setattr(group, "merge_group", failing)
    report = world.merge(attempts_max=1)
    assert (report.status, report.exit_code) == (JobState.FAILED, 1)
    assert world.rows() == old()
    assert world.orphans() == set()
    assert world.table.watermark(world.source().name) is None


def test_deletes_and_changes_stand_in_the_order_of_their_names(world: World) -> None:
    world.arrive("1.parquet", changes_of([3, 4]).drop_columns("op"))
    world.arrive("2.parquet", pa.table({"id": [3, 5], "more": ["x", "y"]}), "deletes")
    world.arrive("3.parquet", changes_of([5]).drop_columns("op"))
    request = MergeRequest(MergeRules(("id",)), world.source(), world.source("deletes"))
    report = world.merge(request)
    assert world.rows() == old(3, 4, 5) | {4: "new 4", 5: "new 5"}
    assert report.change is not None
    assert {one.value for one in report.change.watermarks} == {"2.parquet", "3.parquet"}
    assert world.merge(request).groups.committed == 0


def test_deletes_alone_are_keyed_on_any_columns(world: World) -> None:
    world.arrive("1.parquet", pa.table({"v": ["old 3", "old 29", "none"]}), "deletes")
    request = MergeRequest(MergeRules(("id",)), None, world.source("deletes"), delete_by=("v",))
    report = world.merge(request)
    assert world.rows() == old(3, 29)
    assert report.change is not None
    assert report.change.counts == ChangeCounts(deletes=3, deleted=2)
    missing = MergeRequest(MergeRules(("id",)), None, world.source("deletes"))
    with pytest.raises(ChangesRefusedError, match="no column 'id' to delete by"):
        world.merge(replace(missing, deletes=ArrowSource("x", pa.table({"v": ["a"]}))))


def test_appended_rows_may_have_keys_that_are_there(world: World) -> None:
    world.arrive("1.parquet", changes_of([3, 3]).drop_columns("op"))
    rules = MergeRules((), mode=Mode.APPEND)
    report = world.merge(MergeRequest(rules, world.source()))
    assert (report.rows_added, report.rows_dropped, report.rows_after) == (2, 0, 32)
    assert report.change is not None
    assert report.change.counts == ChangeCounts(upserts=2, inserted=2)


def test_by_event_time_older_changes_do_nothing(world: World) -> None:
    world.arrive("1.parquet", changes_of([3, 100]))
    rules = MergeRules(("id",), ("at",), op_column="op", is_event_time=True)
    world.merge(MergeRequest(rules, world.source()))
    late = changes_of([3, 100])
    late = late.set_column(2, "at", pa.array([4, 99])).set_column(1, "v", pa.array(["x", "y"]))
    world.arrive("2.parquet", late)
    report = world.merge(MergeRequest(rules, world.source()))
    assert world.rows() == old(3) | {3: "x", 100: "new 100"}
    assert report.change is not None
    assert (report.change.counts.updated, report.change.counts.unchanged) == (1, 1)


def test_what_cannot_be_merged_is_refused_before_anything_is_written(world: World) -> None:
    world.arrive("1.parquet", changes_of([3]).append_column("extra", pa.array([1])))
    with pytest.raises(ChangesRefusedError, match="the table lacks: 'extra'"):
        world.merge()
    assert world.rows() == old()
    with open_store(f"sqlite:///{world.directory}/jobs.db") as store:
        assert store.jobs() == ()


class Killed(Exception):  # noqa: N818 - what ends a process
    """Stands for the end of the driver: what an event's watcher raises ends the run."""


def test_a_merge_in_rounds_goes_on_where_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge_rounds, "rounds_needed", lambda *_: 4)
    world.arrive("1.parquet", changes_of(range(5, 45), range(5)).drop_columns("op"))
    world.arrive("2.parquet", changes_of(range(40, 60)).drop_columns("op"))
    world.arrive("2.parquet", pa.table({"v": ["old 29", "new 5", "new 45"]}), "deletes")
    rules = MergeRules(("id",))
    request = MergeRequest(rules, world.source(), world.source("deletes"), delete_by=("v",))
    expected = {n: f"new {n}" for n in range(60)}
    del expected[5]
    commits = []

    def die(event: Event) -> None:
        if isinstance(event, BatchCommitted):
            commits.append(event)
            if len(commits) == 2:
                raise Killed

    world.meanwhile = die
    with pytest.raises(Killed):
        world.merge(request)
    assert 0 < len(set(world.rows().values()) & set(expected.values())) < len(expected)
    assert world.table.watermark(world.source().name) is None
    # What comes now waits until the rounds that were begun are done.
    world.arrive("3.parquet", changes_of([5]).drop_columns("op"))
    world.meanwhile = lambda event: None
    with pytest.raises(ChangesRefusedError, match="begun with another key"):
        world.merge(replace(request, rules=MergeRules(("v",))))
    with pytest.raises(ChangesRefusedError, match="other sources"):
        world.merge(replace(request, deletes=None, delete_by=()))
    report = world.merge(request)
    assert (report.status, report.verified) == (JobState.SUCCEEDED, True)
    assert world.rows() == expected
    assert world.table.watermark(world.source().name) == "2.parquet"
    assert world.merge(request).rows_added == 1
    assert world.rows()[5] == "new 5"
    assert world.orphans() == set()


def test_a_full_proof_finds_a_stored_row_that_was_not_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.arrive("1.parquet", changes_of([3, 15], [4]))
    real = merge_planning.search

    def blind(*arguments: Any, **options: Any) -> Found:
        found = real(*arguments, **options)
        hits = {path: hits for path, hits in found.hits.items() if path != min(found.hits)}
        return replace(found, hits=hits)

    monkeypatch.setattr(merge_planning, "search", blind)
    with pytest.raises(VerificationError, match="does not hold what snapshot"):
        world.merge()


def test_a_full_proof_finds_the_wrong_change_of_a_key(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.arrive("1.parquet", changes_of([3]))
    world.arrive("2.parquet", changes_of([], [3]))
    monkeypatch.setattr(merge_changes, "latest", lambda changes, *_: changes.take(np.array([0])))
    with pytest.raises(VerificationError):
        world.merge()
