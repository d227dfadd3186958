"""Jobs that put rows in order, from the policy to what every reader finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.expressions import EqualTo
from pyiceberg.schema import Schema
from pyiceberg.table import Table as PyIcebergTable
from pyiceberg.transforms import DayTransform, IdentityTransform, Transform
from pyiceberg.types import LongType, NestedField, StringType, StructType, TimestampType

from catalog.errors import UnsupportedTableError
from catalog.iceberg.table import IcebergTable
from compactor.clustering import SortKey, Strategy, parse_sort_keys
from compactor.errors import SettingsError
from compactor.jobs.compaction import apply_plan, compact_table
from compactor.jobs.events import Event, GroupFinished, JobPlanned
from compactor.jobs.options import JobOptions
from compactor.jobs.planning import plan_table
from compactor.jobs.report import JobReport
from compactor.jobs.runner import JobEnvironment
from compactor.jobs.state import JobState
from compactor.jobs.store import open_store
from compactor.jobs.verification import verify_snapshots
from compactor.planner.plan import Plan
from compactor.planner.planfile import encode_plan, load_plan
from compactor.planner.policy import Policy
from compactor.rewrite.task import Proof
from runtime import Runtime
from runtime.connect import connect
from tests.iceberg_tables import data_files, delete_positions, make_table, sql_catalog
from tests.judges.engines import READERS, Reader

SCHEMA = Schema(
    NestedField(1, "n", LongType(), required=True),
    NestedField(2, "city", StringType()),
    NestedField(3, "at", TimestampType()),
    NestedField(4, "where", StructType(NestedField(5, "zip", LongType()))),
)
ROWS = 4_000
SORT = Policy(strategy=Strategy.SORT, sort_by=parse_sort_keys("city desc, where.zip, n"))
SMALL = "60000"
JUDGED = (pytest.mark.slow, pytest.mark.interop)


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with connect("inline", memory_bytes=1 << 30) as opened:
        yield opened


@pytest.fixture
def table(tmp_path: Path) -> PyIcebergTable:
    return filled(make_table(tmp_path, SCHEMA, properties={"write.target-file-size-bytes": SMALL}))


def filled(made: PyIcebergTable, files: int = 4) -> PyIcebergTable:
    for number in range(files):
        made.append(batch(number, made.schema().as_arrow()))
    return made


def batch(number: int, schema: pa.Schema) -> pa.Table:
    chance = np.random.default_rng(number)
    columns: dict[str, Any] = {
        "n": np.arange(ROWS) + number * ROWS,
        "city": [None if one < 1 else f"city {one:03}" for one in chance.integers(0, 90, ROWS)],
        "at": chance.integers(0, 1 << 50, ROWS),
        "where": [{"zip": None if one < 2 else int(one)} for one in chance.integers(0, 50, ROWS)],
    }
    return pa.table([pa.array(columns[one.name], one.type) for one in schema], schema=schema)


def opened(directory: Path) -> IcebergTable:
    return IcebergTable("lake.ns.t", sql_catalog(directory), ("ns", "t"))


def environment_of(directory: Path, runtime: Runtime, events: list[Event]) -> Any:
    store = open_store(f"sqlite:///{directory}/state/jobs.db")
    return JobEnvironment(runtime, store, events.append)


def compact(directory: Path, runtime: Runtime, policy: Policy = SORT) -> tuple[JobReport, Plan]:
    """Run a job; planning again right after finds nothing."""
    events: list[Event] = []
    environment = environment_of(directory, runtime, events)
    options = JobOptions(proof=Proof.FULL)
    with environment.store:
        report = compact_table(opened(directory), policy, environment=environment, options=options)
    assert (report.status, report.verified) == (JobState.SUCCEEDED, True)
    assert not plan_table(opened(directory), policy, now_ms=0).groups
    return report, next(event.plan for event in events if isinstance(event, JobPlanned))


def content(table: PyIcebergTable) -> list[dict[str, Any]]:
    """Read every row, in an order that does not depend on the files."""
    found: list[dict[str, Any]] = table.refresh().scan().to_arrow().sort_by("n").to_pylist()
    return found


def in_order(table: PyIcebergTable, order: str) -> bool:
    """Tell whether DuckDB finds the rows of the files, one after the other, in an order."""
    paths = [file.file_path.removeprefix("file://") for file in data_files(table)]
    found = duckdb.sql(f"select n from read_parquet({paths}) ").fetchall()
    wanted = duckdb.sql(f"select n from read_parquet({paths}) order by {order}").fetchall()
    return found == wanted


def test_rows_are_sorted_over_all_files_and_stay_the_same(
    table: PyIcebergTable, tmp_path: Path, runtime: Runtime
) -> None:
    delete_positions(table, data_files(table)[0], [0, 3, 17])
    before, given = content(table), len(data_files(table))
    report, plan = compact(tmp_path, runtime)
    assert content(table) == before
    assert in_order(table, '"city" desc nulls last, "where".zip nulls first, n')
    assert len(data_files(table)) >= 2
    assert report.order is not None
    assert report.order.after is not None
    assert report.order.after.files < report.order.before.files <= given
    assert plan.cluster is not None
    assert plan.groups[0].reason == f"{given} small, {given} out of order"
    same = verify_snapshots(
        opened(tmp_path), report.snapshot_before, report.snapshot_after, runtime=runtime
    )
    assert same.is_equal


@pytest.mark.parametrize("strategy", [Strategy.ZORDER, Strategy.HILBERT])
def test_a_curve_serves_every_column(
    table: PyIcebergTable, tmp_path: Path, runtime: Runtime, strategy: Strategy
) -> None:
    before = content(table)
    policy = Policy(30_000, strategy=strategy, sort_by=parse_sort_keys("city, at"))
    report, _ = compact(tmp_path, runtime, policy)
    assert content(table) == before
    assert report.order is not None
    assert report.order.after is not None
    files = len(data_files(table))
    assert report.order.after.files < files
    assert all(file.sort_order_id is None for file in data_files(table))
    some = {task.file.file_path for task in table.scan(EqualTo("city", "city 040")).plan_files()}
    assert len(some) < files


def test_only_what_is_new_is_put_in_order(
    table: PyIcebergTable, tmp_path: Path, runtime: Runtime
) -> None:
    compact(tmp_path, runtime)
    before = {file.file_path for file in data_files(table)}
    filled(table, files=2)
    appended = {file.file_path for file in data_files(table)} - before
    _, plan = compact(tmp_path, runtime)
    assert set(plan.groups[0].files.files["path"].to_pylist()) == appended
    assert before < {file.file_path for file in data_files(table)}
    for _ in range(3):
        filled(table, files=1)
        compact(tmp_path, runtime)
    # Beyond the depth that is borne, runs are put in order together.
    filled(table, files=1)
    report, plan = compact(tmp_path, runtime, replace(SORT, overlap_depth_max=2))
    assert report.bytes_kept < sum(file.file_size_in_bytes for file in data_files(table)) / 2
    assert len(content(table)) == 10 * ROWS


def test_rows_appended_along_the_order_leave_the_rest_alone(
    table: PyIcebergTable, tmp_path: Path, runtime: Runtime
) -> None:
    policy = Policy(strategy=Strategy.SORT, sort_by=(SortKey("n"),), overlap_depth_max=1)
    compact(tmp_path, runtime, policy)
    for number in range(4, 8):
        before = {file.file_path for file in data_files(table)}
        table.append(batch(number, table.schema().as_arrow()))
        appended = {file.file_path for file in data_files(table)} - before
        _, plan = compact(tmp_path, runtime, policy)
        taken = set(plan.groups[0].files.files["path"].to_pylist())
        assert appended <= taken
        # The small tail of the run before may come along, nothing else.
        assert len(taken - appended) <= 1


def test_groups_of_bounded_size_come_to_an_end(
    table: PyIcebergTable, tmp_path: Path, runtime: Runtime
) -> None:
    filled(table, files=8)
    policy = replace(SORT, max_group_bytes=150_000, overlap_depth_max=3)
    events: list[Event] = []
    environment = environment_of(tmp_path, runtime, events)
    with environment.store:
        for _ in range(6):
            report = compact_table(
                opened(tmp_path), policy, environment=environment, options=JobOptions()
            )
            if not report.groups.committed:
                break
        else:
            raise AssertionError("every job finds something")
    assert len(content(table)) == 12 * ROWS


def with_order(table: PyIcebergTable, transform: Transform[Any, Any], column: str) -> None:
    with table.update_sort_order() as update:
        update.desc(column, transform)


def test_the_tables_own_order_is_the_default_and_is_recorded(
    table: PyIcebergTable, tmp_path: Path, runtime: Runtime
) -> None:
    with_order(table, IdentityTransform(), "city")
    before = content(table)
    compact(tmp_path, runtime, Policy(strategy=Strategy.SORT))
    files = data_files(table)
    assert {file.sort_order_id for file in files} == {table.sort_order().order_id}
    assert content(table) == before
    # More columns are an order by the first of them, too; another direction is not.
    compact(tmp_path, runtime, SORT)
    assert {file.sort_order_id for file in data_files(table)} == {table.sort_order().order_id}
    compact(tmp_path, runtime, Policy(strategy=Strategy.SORT, sort_by=(SortKey("city"),)))
    assert {file.sort_order_id for file in data_files(table)} == {None}


@pytest.mark.parametrize("strategy", [Strategy.SORT, Strategy.HILBERT])
def test_without_columns_there_is_no_order(
    table: PyIcebergTable, tmp_path: Path, strategy: Strategy
) -> None:
    with pytest.raises(SettingsError, match="no columns to order rows by"):
        plan_table(opened(tmp_path), Policy(strategy=strategy), now_ms=0)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [("nope", "no column 'nope'"), ("where", "'where'.*no order"), ("city.x", "'city' is a")],
)
def test_columns_that_cannot_be_ordered_are_refused_by_name(
    table: PyIcebergTable, tmp_path: Path, columns: str, reason: str
) -> None:
    policy = Policy(strategy=Strategy.SORT, sort_by=parse_sort_keys(columns))
    with pytest.raises(UnsupportedTableError, match=reason):
        plan_table(opened(tmp_path), policy, now_ms=0)


def test_an_order_by_a_transform_is_refused(table: PyIcebergTable, tmp_path: Path) -> None:
    with_order(table, DayTransform(), "at")
    with pytest.raises(UnsupportedTableError, match="by day of 'at'"):
        plan_table(opened(tmp_path), Policy(strategy=Strategy.SORT), now_ms=0)


def test_a_saved_plan_of_an_order_is_applied(
    table: PyIcebergTable, tmp_path: Path, runtime: Runtime
) -> None:
    policy = Policy(strategy=Strategy.HILBERT, sort_by=parse_sort_keys("city, n"))
    text = encode_plan(plan_table(opened(tmp_path), policy, now_ms=0))
    target = opened(tmp_path)
    plan = load_plan(text, target.inventory(target.snapshot()))
    environment = environment_of(tmp_path, runtime, [])
    with environment.store:
        report = apply_plan(target, plan, environment=environment, options=JobOptions())
    assert report.status is JobState.SUCCEEDED
    assert not plan_table(opened(tmp_path), policy, now_ms=0).groups


def test_a_job_that_was_interrupted_is_taken_up_in_its_order(
    table: PyIcebergTable, tmp_path: Path, runtime: Runtime
) -> None:
    class _KilledError(Exception):
        pass

    def kill(event: Event) -> None:
        if isinstance(event, GroupFinished):
            raise _KilledError

    before = content(table)
    environment = replace(environment_of(tmp_path, runtime, []), on_event=kill)
    with environment.store, pytest.raises(_KilledError):
        compact_table(opened(tmp_path), SORT, environment=environment, options=JobOptions())
    events: list[Event] = []
    environment = environment_of(tmp_path, runtime, events)
    with environment.store:
        report = compact_table(
            opened(tmp_path), SORT, environment=environment, options=JobOptions()
        )
    assert report.is_resumed
    assert report.status is JobState.SUCCEEDED
    assert content(table) == before
    assert in_order(table, '"city" desc nulls last, "where".zip nulls first, n')


def test_a_conflict_drops_the_group_and_it_is_planned_again(
    table: PyIcebergTable, tmp_path: Path, runtime: Runtime
) -> None:
    def delete(event: Event) -> None:
        if isinstance(event, GroupFinished) and len(content(table)) == 4 * ROWS:
            delete_positions(table, data_files(table)[0], [1])

    environment = replace(environment_of(tmp_path, runtime, []), on_event=delete)
    with environment.store:
        report = compact_table(
            opened(tmp_path), SORT, environment=environment, options=JobOptions()
        )
    assert (report.status, report.conflicts) == (JobState.SUCCEEDED, 1)
    assert len(content(table)) == 4 * ROWS - 1
    assert in_order(table, '"city" desc nulls last, "where".zip nulls first, n')


def test_bin_packing_afterwards_takes_the_stamp_away(
    table: PyIcebergTable, tmp_path: Path, runtime: Runtime
) -> None:
    compact(tmp_path, runtime)
    bigger = Policy(target_file_size_bytes=1 << 20, min_input_files=2)
    compact(tmp_path, runtime, bigger)
    (file,) = data_files(table)
    metadata = pq.read_metadata(file.file_path.removeprefix("file://")).metadata
    assert b"compactor.clustering" not in (metadata or {})


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=JUDGED if name in ("spark", "duckdb") else ())
     for name in READERS],
)  # fmt: skip
def test_every_engine_reads_the_same_rows(
    table: PyIcebergTable, tmp_path: Path, runtime: Runtime, name: str
) -> None:
    reader: Reader = READERS[name]
    compact(tmp_path, runtime)
    table.refresh()
    snapshot = table.current_snapshot()
    assert snapshot is not None
    found = reader(table.metadata_location, snapshot.snapshot_id, tmp_path)
    expected = pa.concat_tables(batch(number, SCHEMA.as_arrow()) for number in range(4))
    for column in ("n", "city"):
        assert sorted(map(str, found[column].to_pylist())) == sorted(
            map(str, expected[column].to_pylist())
        )
