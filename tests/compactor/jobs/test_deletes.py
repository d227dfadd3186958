"""Deletes recorded anew beside data files: keys become positions, many delete files become one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from catalog.commits import Commit, CommitResult
from catalog.errors import UnsupportedTableError
from catalog.memory import MemoryTable
from catalog.table import Table as OurTable
from compactor.jobs.compaction import compact_table
from compactor.jobs.options import JobOptions
from compactor.jobs.planning import plan_table
from compactor.jobs.report import JobReport
from compactor.jobs.runner import JobEnvironment
from compactor.jobs.store import JobStore, open_store
from compactor.planner.plan import Plan, Rung
from compactor.planner.planfile import encode_plan, load_plan
from compactor.planner.policy import Policy
from compactor.proof import Proof
from compactor.sort_keys import Strategy
from runtime import Runtime
from runtime.connect import connect
from tests.catalog.groups import plan_all
from tests.catalog.iceberg.keyed import delete_keys, kept_rows, live_files, ours, streamed
from tests.catalog.iceberg.lakes import SCHEMA, rows_of
from tests.iceberg_tables import (
    commit_deletes,
    data_files,
    delete_positions,
    make_table,
    rows,
    write_equality_deletes,
    write_key_deletes,
    write_position_deletes,
)

CONVERT = Policy(strategy=Strategy.CONVERT_DELETES)
POSITIONS = Policy(strategy=Strategy.POSITION_DELETES)


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with connect("inline") as opened:
        yield opened


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    with open_store(f"sqlite:///{tmp_path}/jobs.db") as opened:
        yield opened


@pytest.fixture
def environment(runtime: Runtime, store: JobStore) -> JobEnvironment:
    return JobEnvironment(runtime, store)


def run(
    table: OurTable, policy: Policy, environment: JobEnvironment, proof: Proof = Proof.FULL
) -> JobReport:
    return compact_table(table, policy, environment=environment, options=JobOptions(proof=proof))


def planned(table: OurTable, policy: Policy) -> Plan:
    return plan_table(table, policy, now_ms=0)


def delete_paths(table: OurTable) -> list[str]:
    found: list[str] = table.inventory(table.snapshot()).delete_files["path"].to_pylist()
    return found


def data_paths(table: OurTable) -> set[str]:
    return set(table.inventory(table.snapshot()).files["path"].to_pylist())


def test_keys_become_positions_and_no_data_is_rewritten(
    tmp_path: Path, environment: JobEnvironment
) -> None:
    table = streamed(tmp_path)
    before, files = kept_rows(ours(tmp_path)), data_paths(ours(tmp_path))
    plan = planned(ours(tmp_path), CONVERT)
    assert [group.rung for group in plan.groups] == [Rung.DELETES] * 2
    assert plan.kept_files == 0
    assert plan.totals().delete_files == 6
    inventory = ours(tmp_path).inventory(plan.snapshot)
    assert load_plan(encode_plan(plan), inventory) == plan

    report = run(ours(tmp_path), CONVERT, environment)

    assert (report.status, report.verified, report.groups.committed) == ("succeeded", True, 2)
    assert data_paths(ours(tmp_path)) == files
    # Read by a library that takes no table with equality deletes.
    assert sorted(map(repr, rows(table))) == kept_rows(ours(tmp_path)) == before
    summary = table.refresh().current_snapshot().summary
    assert summary.operation.value == "delete"
    assert summary["total-equality-deletes"] == "0"
    assert summary["removed-equality-delete-files"] == summary["added-position-delete-files"] == "6"
    assert planned(ours(tmp_path), CONVERT).groups == ()


def test_a_table_may_want_delete_files_for_whole_partitions(
    tmp_path: Path, environment: JobEnvironment
) -> None:
    table = streamed(tmp_path)
    with table.transaction() as transaction:
        transaction.set_properties({"write.delete.granularity": "partition"})
    before = kept_rows(ours(tmp_path))
    run(ours(tmp_path), CONVERT, environment)
    assert sorted(map(repr, rows(table))) == kept_rows(ours(tmp_path)) == before
    assert len(delete_paths(ours(tmp_path))) == 2


def test_position_deletes_that_were_there_are_taken_up(
    tmp_path: Path, environment: JobEnvironment
) -> None:
    table = make_table(tmp_path, SCHEMA)
    for number in range(2):
        table.append(rows_of(range(number * 10, number * 10 + 10), "a"))
    first, second = data_files(table)
    delete_positions(table, first, [1])
    shared = {first.file_path: [2, 3], second.file_path: [0]}
    commit_deletes(table, write_position_deletes(table, shared, like=first, bounds=False))
    (value,) = rows_like(table, first)[5:6]
    commit_deletes(table, write_equality_deletes(table, "id", [value, 999]))
    before = kept_rows(ours(tmp_path))
    assert len(before) == 15

    run(ours(tmp_path), CONVERT, environment)

    assert kept_rows(ours(tmp_path)) == sorted(map(repr, rows(table))) == before
    # The second file was hit by the keys, too, as far as anybody knew: each has one of its own.
    assert len(delete_paths(ours(tmp_path))) == 2


def rows_like(table: object, file: object) -> list[int]:
    import pyarrow.parquet as pq

    path = file.file_path.removeprefix("file://")  # type: ignore[attr-defined]
    found: list[int] = pq.read_table(path)["id"].to_pylist()
    return found


def test_what_cannot_hit_is_not_read_and_hinders_nobody(
    tmp_path: Path, environment: JobEnvironment
) -> None:
    """Bounds of the keys and of the data files tell them apart."""
    table = make_table(tmp_path, SCHEMA)
    for number in range(4):
        table.append(rows_of(range(number * 10, number * 10 + 10), "a"))
    keys = pa.table({"id": [13, 14], "text": ["text 13", "nothing"]})
    commit_deletes(table, write_key_deletes(table, keys.select(["id"]), has_bounds=True))
    before = kept_rows(ours(tmp_path))
    assert len(before) == 38
    plan = planned(ours(tmp_path), CONVERT)
    assert [group.files.file_count for group in plan.groups] == [1]

    run(ours(tmp_path), CONVERT, environment)

    assert kept_rows(ours(tmp_path)) == sorted(map(repr, rows(table))) == before
    (left,) = ours(tmp_path).inventory(ours(tmp_path).snapshot()).delete_files.to_pylist()
    assert left["equality_ids"] is None
    assert left["row_count"] == 2


def test_nulls_are_in_no_bounds(tmp_path: Path, environment: JobEnvironment) -> None:
    table = make_table(tmp_path, SCHEMA)
    kinds = rows_of([1], "a").schema
    table.append(pa.table({"id": [1, None], "part": ["a", "a"], "text": ["x", "y"]}, kinds))
    table.append(rows_of(range(5), "a"))
    keys = pa.table({"id": pa.array([None, 100], pa.int64())})
    commit_deletes(table, write_key_deletes(table, keys, has_bounds=True))
    assert len(kept_rows(ours(tmp_path))) == 6
    run(ours(tmp_path), CONVERT, environment)
    assert len(rows(table)) == 6
    assert len(delete_paths(ours(tmp_path))) == 1


def test_keys_that_are_deleted_meanwhile_stay(tmp_path: Path, environment: JobEnvironment) -> None:
    table = streamed(tmp_path)
    raced = _Raced(ours(tmp_path), lambda: delete_keys(table, pa.table({"id": [25]}), "ab"))
    report = run(raced, CONVERT, environment)
    assert (report.status, report.conflicts) == ("succeeded", 0)
    assert len(kept_rows(ours(tmp_path))) == 2 * (30 - 5)
    found = ours(tmp_path).inventory(ours(tmp_path).snapshot()).delete_files["equality_ids"]
    assert [one for one in found.to_pylist() if one] == [[1], [1]]
    run(ours(tmp_path), CONVERT, environment)
    assert sorted(map(repr, rows(table))) == kept_rows(ours(tmp_path))


def test_a_rewrite_from_before_the_keys_loses_against_their_positions(
    tmp_path: Path, environment: JobEnvironment
) -> None:
    """It ignores keys that are younger than its base; as positions it must not."""
    table = make_table(tmp_path, SCHEMA)
    for number in range(3):
        table.append(rows_of(range(number * 10, number * 10 + 10), "a"))
    old = plan_all(ours(tmp_path))
    commit_deletes(table, write_equality_deletes(table, "id", [5, 15]))
    run(ours(tmp_path), CONVERT, environment)
    before = kept_rows(ours(tmp_path))
    result = ours(tmp_path).commit(old)
    assert result.committed == ()
    assert "were deleted by" in result.conflicts[0].reason
    assert kept_rows(ours(tmp_path)) == sorted(map(repr, rows(table))) == before
    assert len(before) == 28


def test_outputs_of_a_rewrite_from_before_keep_the_keys_alive(
    tmp_path: Path, environment: JobEnvironment
) -> None:
    """They come with an old number while the conversion is at work."""
    table = make_table(tmp_path, SCHEMA)
    for number in range(3):
        table.append(rows_of(range(number * 10, number * 10 + 10), "a"))
    old = plan_all(ours(tmp_path))
    commit_deletes(table, write_equality_deletes(table, "id", [5, 15]))
    raced = _Raced(ours(tmp_path), lambda: ours(tmp_path).commit(old))
    report = run(raced, CONVERT, environment)
    assert report.conflicts == 1
    assert len(kept_rows(ours(tmp_path))) == len(rows(table)) == 28


def test_a_data_file_that_is_gone_is_a_conflict(
    tmp_path: Path, environment: JobEnvironment
) -> None:
    table = streamed(tmp_path, parts="a")
    victim = live_files(table)[0]

    def remove() -> None:
        with table.refresh().transaction() as one, one.update_snapshot().overwrite() as update:
            update.delete_data_file(victim)

    raced = _Raced(ours(tmp_path), remove)
    report = run(raced, CONVERT, environment)
    assert report.status == "succeeded"
    assert report.conflicts == 1
    assert sorted(map(repr, rows(table))) == kept_rows(ours(tmp_path))


def test_many_position_delete_files_become_one(tmp_path: Path, environment: JobEnvironment) -> None:
    table = make_table(tmp_path, SCHEMA)
    for number in range(3):
        table.append(rows_of(range(number * 10, number * 10 + 10), "a"))
    first, second, third = data_files(table)
    for position in range(4):
        delete_positions(table, first, [position])
    delete_positions(table, second, [0])
    delete_positions(table, third, [0])
    commit_deletes(
        table,
        write_position_deletes(
            table, {second.file_path: [1], third.file_path: [1]}, like=first, bounds=False
        ),
    )
    before, files = kept_rows(ours(tmp_path)), data_paths(ours(tmp_path))
    run(ours(tmp_path), POSITIONS, environment)
    assert len(delete_paths(ours(tmp_path))) == 3
    assert kept_rows(ours(tmp_path)) == sorted(map(repr, rows(table))) == before
    assert data_paths(ours(tmp_path)) == files
    assert table.refresh().current_snapshot().summary.operation.value == "replace"
    assert planned(ours(tmp_path), POSITIONS).groups == ()


def test_keys_of_all_partitions_leave_however_small_the_commits_are(
    tmp_path: Path, environment: JobEnvironment
) -> None:
    """No later plan can tell what was recorded already: all of it is committed at once."""
    table = make_table(tmp_path, SCHEMA)
    with table.update_spec() as update:
        update.add_identity("part")
    for part in "abc":
        table.append(rows_of(range(10), part))
    everywhere = write_key_deletes(table, pa.table({"id": [3, 4]}))
    everywhere.spec_id = 0
    commit_deletes(table, everywhere)
    before = kept_rows(ours(tmp_path))
    assert len(before) == 24
    options = JobOptions(commit_groups_max=1, in_flight_max=1)
    report = compact_table(ours(tmp_path), CONVERT, environment=environment, options=options)
    assert (report.groups.committed, report.commits.made) == (3, 1)
    assert sorted(map(repr, rows(table))) == kept_rows(ours(tmp_path)) == before
    assert planned(ours(tmp_path), CONVERT).groups == ()


def test_a_lost_reply_commits_once(tmp_path: Path, environment: JobEnvironment) -> None:
    table = streamed(tmp_path)
    before = kept_rows(ours(tmp_path))
    handle = ours(tmp_path)
    plan = planned(handle, CONVERT)
    committed: list[Commit] = []
    raced = _Raced(handle, lambda: None, committed)
    assert run(raced, CONVERT, environment).snapshot_before == plan.snapshot.snapshot_id
    snapshots = len(table.refresh().snapshots())
    again = ours(tmp_path).commit(committed[0])
    assert again.committed == ("0001", "0002")
    found = ours(tmp_path).find_commit(committed[0])
    assert found is not None
    assert found.committed == again.committed
    assert len(table.refresh().snapshots()) == snapshots
    assert kept_rows(ours(tmp_path)) == before


def test_formats_without_delete_files_are_refused(
    tmp_path: Path, environment: JobEnvironment
) -> None:
    field = pa.field("n", pa.int64(), metadata={"PARQUET:field_id": "1"})
    (tmp_path / "table").mkdir()
    table = MemoryTable(tmp_path / "table", pa.schema([field]))
    table.append(pa.table({"n": [1]}), "a")
    for policy in (CONVERT, POSITIONS):
        with pytest.raises(UnsupportedTableError, match="no delete files"):
            run(table, policy, environment)


class _Raced:
    """A table whose first commit comes after another writer's."""

    def __init__(
        self, table: OurTable, other: object, committed: list[Commit] | None = None
    ) -> None:
        self._table = table
        self._other = other
        self._committed = committed

    def __getattr__(self, name: str) -> object:
        return getattr(self._table, name)

    def commit(self, commit: Commit) -> CommitResult:
        other, self._other = self._other, None
        if other is not None:
            other()  # type: ignore[operator]
        if self._committed is not None:
            self._committed.append(commit)
        return self._table.commit(commit)


# --- what is due by itself ---------------------------------------------------------------------

# Files of the wanted size, so that only their deletes are to be done something about.
AUTO = Policy(
    strategy=Strategy.AUTO, target_file_size_bytes=1600, delete_files_min=2, delete_ratio=1.0
)


def test_what_is_due_is_done_until_nothing_is(tmp_path: Path, environment: JobEnvironment) -> None:
    table = streamed(tmp_path, parts="a")
    for number in range(4):
        delete_positions_of(table, number)
    before = kept_rows(ours(tmp_path))
    plan = planned(ours(tmp_path), AUTO)
    assert plan.groups
    assert plan.considered[-1].groups == len(plan.groups)
    assert load_plan(encode_plan(plan), ours(tmp_path).inventory(plan.snapshot)) == plan

    report = run(ours(tmp_path), AUTO, environment)

    assert (report.status, report.verified) == ("succeeded", True)
    again = planned(ours(tmp_path), AUTO)
    assert again.groups == ()
    assert [one.strategy for one in again.considered] == [
        Strategy.BINPACK,
        Strategy.CONVERT_DELETES,
        Strategy.POSITION_DELETES,
    ]
    assert kept_rows(ours(tmp_path)) == before
    deletes = ours(tmp_path).inventory(ours(tmp_path).snapshot())
    for one in deletes.slices():
        kinds = [delete.equality_ids is None for delete in one.deletes]
        assert kinds.count(True) < 2
        assert kinds.count(False) < AUTO.delete_files_min


def delete_positions_of(table: object, position: int) -> None:
    file = live_files(table)[0]  # type: ignore[arg-type]
    commit_deletes(
        table,  # type: ignore[arg-type]
        write_position_deletes(table, {file.file_path: [position]}, like=file),  # type: ignore[arg-type]
    )
