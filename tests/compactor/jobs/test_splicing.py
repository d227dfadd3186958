"""Jobs that copy what they need not encode, on Iceberg tables; planning again finds nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table as PyIcebergTable
from pyiceberg.types import (
    DecimalType,
    DoubleType,
    LongType,
    NestedField,
    StringType,
    TimestamptzType,
)

from catalog.iceberg.table import IcebergTable
from compactor.jobs.compaction import compact_table
from compactor.jobs.options import JobOptions
from compactor.jobs.planning import plan_table
from compactor.jobs.report import JobReport
from compactor.jobs.runner import JobEnvironment
from compactor.jobs.state import JobState
from compactor.jobs.store import open_store
from compactor.planner.plan import Rung
from compactor.planner.policy import Policy
from compactor.rewrite.fitting import OTHER_CODEC
from compactor.rewrite.ladder import TOUCHED
from compactor.rewrite.task import Proof
from compactor.splicing import Effort
from runtime import Runtime
from runtime.connect import connect
from tests.iceberg_tables import data_files, delete_positions, make_table, rows, sql_catalog

POLICY = Policy(
    min_input_files=2, splice_row_group_bytes_min=1, splice_chunk_bytes_min=1, delete_ratio=0
)
SCHEMA = Schema(
    NestedField(1, "n", LongType(), required=True),
    NestedField(2, "text", StringType()),
    NestedField(3, "price", DecimalType(12, 2)),
    NestedField(4, "at", TimestamptzType()),
)
FILES, ROWS = 4, 300


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    with connect("inline") as opened:
        yield opened


@pytest.fixture
def table(tmp_path: Path) -> PyIcebergTable:
    properties = {"write.parquet.row-group-limit": "100"}
    made = make_table(tmp_path, SCHEMA, properties=properties)
    for number in range(FILES):
        made.append(batch(number * ROWS, made.schema().as_arrow()))
    return made


def batch(start: int, schema: pa.Schema) -> pa.Table:
    numbers = range(start, start + ROWS)
    columns = {
        "n": list(numbers),
        "text": [None if n % 7 == 0 else f"text {n}" for n in numbers],
        "price": pa.array(list(numbers), pa.decimal128(12, 2)),
        "at": [n * 1_000_000 for n in numbers],
    }
    return pa.table([pa.array(columns[one.name], one.type) for one in schema], schema=schema)


def compact(directory: Path, runtime: Runtime, policy: Policy = POLICY) -> JobReport:
    table = IcebergTable("lake.ns.t", sql_catalog(directory), ("ns", "t"))
    with open_store(f"sqlite:///{directory}/state/jobs.db") as store:
        environment = JobEnvironment(runtime, store, lambda event: None)
        options = JobOptions(proof=Proof.FULL)
        report = compact_table(table, policy, environment=environment, options=options)
    assert report.status is JobState.SUCCEEDED
    assert report.verified
    again = plan_table(table, policy, now_ms=0)
    assert again.groups == ()
    return report


def test_only_what_deletes_have_touched_is_encoded(
    table: PyIcebergTable, runtime: Runtime, tmp_path: Path
) -> None:
    path = data_files(table)[1].file_path
    (file,) = [one for one in data_files(table) if one.file_path == path]
    delete_positions(table, file, [120, 130])
    expected = sorted(row["n"] for row in rows(table.refresh()))
    report = compact(tmp_path, runtime)
    assert report.splice.row_groups == FILES * 3 - 1
    assert report.splice.reasons == ((TOUCHED, 1),)
    assert 0 < report.bytes_spliced <= report.bytes_written
    table = table.refresh()
    assert sorted(row["n"] for row in rows(table)) == expected
    (output,) = data_files(table)
    found = duckdb.sql(f"SELECT count(*), sum(n) FROM '{output.file_path}'").fetchall()
    assert found == [(len(expected), sum(expected))]
    assert len(output.split_offsets or ()) == FILES * 3
    lower, upper = (output.lower_bounds or {}), (output.upper_bounds or {})
    assert (lower[1], upper[1]) == (bytes(8), (FILES * ROWS - 1).to_bytes(8, "little"))
    assert output.null_value_counts is not None
    assert output.null_value_counts[2] == sum(n % 7 == 0 for n in expected)


def test_a_filtered_scan_finds_rows_of_copied_and_of_encoded_row_groups(
    table: PyIcebergTable, runtime: Runtime, tmp_path: Path
) -> None:
    delete_positions(table, data_files(table)[0], [0])
    compact(tmp_path, runtime)
    found = table.refresh().scan("n >= 95 and n < 305").to_arrow()
    live = {row["n"] for row in rows(table)}
    assert set(found["n"].to_pylist()) == {n for n in range(95, 305) if n in live}


def test_the_plan_says_what_is_copied(table: PyIcebergTable, tmp_path: Path) -> None:
    opened = IcebergTable("lake.ns.t", sql_catalog(tmp_path), ("ns", "t"))
    (group,) = plan_table(opened, POLICY, now_ms=0).groups
    assert group.rung is Rung.SPLICE
    assert group.price.splice_bytes_estimate == group.price.input_bytes
    delete_positions(table, data_files(table)[0], [0])
    (group,) = plan_table(opened, POLICY, now_ms=0).groups
    assert group.rung is Rung.MIXED
    deep = replace(POLICY, effort=Effort.DEEP)
    (group,) = plan_table(opened, deep, now_ms=0).groups
    assert group.rung is Rung.TRANSCODE


def test_the_table_may_have_changed_its_codec(
    table: PyIcebergTable, runtime: Runtime, tmp_path: Path
) -> None:
    with table.transaction() as transaction:
        transaction.set_properties({"write.parquet.compression-codec": "snappy"})
    report = compact(tmp_path, runtime)
    assert report.bytes_spliced == 0
    assert report.splice.reasons == ((OTHER_CODEC, FILES * 3),)
    (output,) = data_files(table.refresh())
    path = output.file_path.removeprefix("file://")
    assert pq.read_metadata(path).row_group(0).column(0).compression == "SNAPPY"


def test_a_changed_schema_is_brought_up_to_date_by_encoding_what_is_new(
    table: PyIcebergTable, runtime: Runtime, tmp_path: Path
) -> None:
    with table.update_schema() as update:
        update.add_column("more", LongType())
    expected = sorted(rows(table.refresh()), key=lambda row: row["n"])
    report = compact(tmp_path, runtime, replace(POLICY, effort=Effort.BYTES))
    assert (report.splice.row_groups, report.splice.row_groups_patched) == (0, FILES * 3)
    assert report.bytes_spliced > 0
    assert sorted(rows(table.refresh()), key=lambda row: row["n"]) == expected


@pytest.mark.parametrize(("nan", "left"), [(0, {1, 2}), (1, {1})])
def test_what_is_copied_has_bounds_only_where_no_nan_hides(
    runtime: Runtime, tmp_path: Path, nan: int, left: set[int]
) -> None:
    """Writers leave NaN out of bounds and count it: readers take what has no count for none."""
    schema = Schema(NestedField(1, "n", LongType()), NestedField(2, "d", DoubleType()))
    table = make_table(tmp_path, schema)
    for number in range(2):
        table.append(pa.table({"n": [number, 9], "d": [math.nan if nan else 0.5, 1.5]}))
    counted = [_with_nan_count(one, nan) for one in data_files(table)]
    with table.transaction() as change, change.update_snapshot().overwrite() as overwrite:
        for one, other in zip(data_files(table), counted, strict=True):
            overwrite.delete_data_file(one)
            overwrite.append_data_file(other)
    report = compact(tmp_path, runtime)
    assert report.bytes_spliced > 0
    (file,) = data_files(table)
    assert set(file.lower_bounds) == set(file.upper_bounds) == left
    assert file.nan_value_counts == ({} if nan else {2: 0})


def _with_nan_count(file: DataFile, nan: int) -> DataFile:
    counted = DataFile(*(file[place] for place in range(len(file))))
    counted[9], counted.spec_id = {2: nan}, file.spec_id
    return counted
