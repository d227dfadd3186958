"""Jobs of stores that know nothing of each other keep apart, and drop what others have done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from catalog.errors import StorageError
from catalog.memory import MemoryTable
from compactor.jobs.compaction import compact_table
from compactor.jobs.contention import Lookout, in_small_steps, scattered, without_others
from compactor.jobs.events import Event, GroupFinished
from compactor.jobs.lease import new_job_id
from compactor.jobs.options import JobOptions
from compactor.jobs.planning import plan_table
from compactor.jobs.report import JobReport
from compactor.jobs.runner import JobEnvironment
from compactor.jobs.state import JobState
from compactor.jobs.store import JobStore, open_store
from compactor.planner.plan import Plan
from compactor.planner.policy import Policy
from runtime import Runtime
from runtime.connect import connect

POLICY = Policy(min_input_files=2)
SCHEMA = pa.schema([pa.field("n", pa.int64(), nullable=False, metadata={"PARQUET:field_id": "1"})])
PARTITIONS = ("a", "b", "c")


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with connect("inline") as opened:
        yield opened


@pytest.fixture
def table(tmp_path: Path) -> MemoryTable:
    (tmp_path / "table").mkdir()
    made = MemoryTable(tmp_path / "table", SCHEMA)
    append(made)
    append(made)
    return made


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[JobStore, JobStore]]:
    with (
        open_store(f"sqlite:///{tmp_path}/one.db") as one,
        open_store(f"sqlite:///{tmp_path}/other.db") as other,
    ):
        yield one, other


def append(table: MemoryTable) -> None:
    for partition in PARTITIONS:
        table.append(pa.table({"n": range(10)}, schema=SCHEMA), partition)


def plan(table: MemoryTable) -> Plan:
    return plan_table(table, POLICY, now_ms=0)


def compact(
    table: MemoryTable, environment: JobEnvironment, options: JobOptions | None = None
) -> JobReport:
    options = options or JobOptions(rounds_max=1)
    return compact_table(table, POLICY, environment=environment, options=options)


def lose(table: MemoryTable, runtime: Runtime, store: JobStore, rival: JobStore) -> JobReport:
    """Have another store's job commit everything before the first job of a store does."""

    def interfere(event: Event) -> None:
        if isinstance(event, GroupFinished) and event.partition == PARTITIONS[-1]:
            compact(table, JobEnvironment(runtime, rival))

    return compact(table, JobEnvironment(runtime, store, interfere))


def test_groups_that_others_have_done_are_not_begun(
    table: MemoryTable, runtime: Runtime, stores: tuple[JobStore, JobStore]
) -> None:
    done: list[str] = []

    def interfere(event: Event) -> None:
        if isinstance(event, GroupFinished) and not done:
            done.append(event.partition)
            theirs = Policy(min_input_files=2, partitions=(PARTITIONS[2],))
            compact_table(
                table,
                theirs,
                environment=JobEnvironment(runtime, stores[1]),
                options=JobOptions(),
            )

    environment = JobEnvironment(runtime, stores[0], interfere)
    one_by_one = JobOptions(rounds_max=1, in_flight_max=1)
    report = compact(table, environment, one_by_one)
    assert report.status is JobState.PARTIAL
    assert (report.groups.committed, report.groups.dropped, report.conflicts) == (2, 1, 0)
    assert "before work on it began" in report.problems[0].reason
    assert table.inventory(table.snapshot()).file_count == len(PARTITIONS)


def test_whoever_has_lost_leaves_partitions_to_whoever_has_won(
    table: MemoryTable, runtime: Runtime, stores: tuple[JobStore, JobStore]
) -> None:
    loser, winner = stores
    lost = lose(table, runtime, loser, winner)
    assert (lost.conflicts, lost.exit_code) == (len(PARTITIONS), 11)
    append(table)
    again = compact(table, JobEnvironment(runtime, loser))
    assert (again.status, again.groups.committed, again.conflicts) == (JobState.SUCCEEDED, 0, 0)
    ours = compact(table, JobEnvironment(runtime, winner))
    assert ours.groups.committed == len(PARTITIONS)


def test_what_is_left_to_others_stays_in_the_plan_as_skipped(table: MemoryTable) -> None:
    before = plan(table)
    files = table.inventory(table.snapshot())
    now_ms = 1_000_000
    job = new_job_id()
    path = f"x/{job}-0001-1-00000.parquet"
    columns = files.files.to_pydict()
    columns["path"][0], columns["written_at_ms"] = path, [now_ms - 1000] * files.file_count
    inventory = replace(files, files=pa.table(columns, schema=files.files.schema))
    left = without_others(before, inventory, (), now_ms)
    assert [group.partition for group in left.groups] == list(PARTITIONS[1:])
    assert [(one.partition, one.files) for one in left.skipped] == [(PARTITIONS[0], 2)]
    assert left.kept_bytes == before.kept_bytes + before.groups[0].files.size_bytes
    assert without_others(before, inventory, (job,), now_ms) == before
    assert without_others(before, inventory, (), now_ms + 120_000) == before


def test_orders_of_jobs_differ_and_are_their_own(table: MemoryTable) -> None:
    made = plan(table)
    orders = {
        tuple(group.group_id for group in scattered(made, f"job {number}").groups)
        for number in range(50)
    }
    assert len(orders) == 6
    assert scattered(made, "x") == scattered(made, "x")


def test_small_steps_follow_the_slots_of_the_runtime(runtime: Runtime) -> None:
    slots = runtime.stats().total.cpus
    small = in_small_steps(JobOptions(), runtime)
    assert (small.in_flight_max, small.commit_groups_max) == (min(32, slots), slots)
    assert in_small_steps(JobOptions(in_flight_max=1, commit_groups_max=1), runtime) == JobOptions(
        in_flight_max=1, commit_groups_max=1
    )


def test_a_table_that_cannot_be_read_now_is_no_reason_to_drop_anything(
    table: MemoryTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(table)
    groups = [group.group_id for group in made.groups]
    assert Lookout(table, made, map).taken(groups) == {}

    def fail(*_: object) -> None:
        raise StorageError("not now")

    monkeypatch.setattr(MemoryTable, "snapshot", fail)
    assert Lookout(table, made, map).taken(groups) == {}
