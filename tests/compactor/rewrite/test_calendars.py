"""What Spark notes of the calendar of a file's dates stays true of what is made of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.errors import UnsupportedTableError
from catalog.hudi.simple_writer import NewTable, SimpleWriter
from catalog.layout import SortField
from catalog.location import Location
from catalog.schema import TableSchema
from compactor.clustering import Clustering
from compactor.jobs.state import JobState
from compactor.planner.policy import Policy
from compactor.rewrite.calendars import VERSION, common_version
from compactor.rewrite.cluster.group import cluster_group
from compactor.rewrite.group import rewrite_group
from compactor.rewrite.repartition import repartition_group
from compactor.rewrite.task import RewriteResult, RewriteTask
from compactor.sort_keys import SortKey, Strategy
from compactor.splicing import SpliceLimits
from tests.catalog.hudi.compacting import compact
from tests.compactor.rewrite.tables import LocalTable, make_task, with_ids

ANCIENT = dt.datetime(1, 1, 1, tzinfo=dt.UTC)
MODERN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
LEGACY = "org.apache.spark.legacyDateTime"
COLUMNS = with_ids(pa.schema([("id", pa.int64()), ("at", pa.timestamp("us", "UTC"))]))
ANYTHING = SpliceLimits(0, 0, 1 << 40, 1000, 1 << 30, keeps_layout=False)


def spliced(task: RewriteTask) -> RewriteResult:
    return rewrite_group(replace(task, splice=ANYTHING))


def in_order(task: RewriteTask) -> RewriteResult:
    return cluster_group(task, Clustering(Strategy.SORT, (SortField(1, ("id",)),)), 1 << 20)


WAYS = {"read": rewrite_group, "copied": spliced, "sorted": in_order, "parted": repartition_group}


@pytest.mark.parametrize("way", WAYS)
def test_outputs_say_what_all_inputs_say(way: str, tmp_path: Path) -> None:
    """Where nobody says it, Spark 3 reads no such times; where it is wrong, other ones."""
    told = [
        _written(tmp_path / "0", {VERSION: "3.5.9"}),
        _written(tmp_path / "1", {VERSION: "4.0.0"}),
    ]
    silent = _written(tmp_path / "2", {})
    modern = _written(tmp_path / "3", {VERSION: "3.5.9", LEGACY: ""}, at=MODERN)
    assert _said(tmp_path, way, told) == {"3.5.9"}
    assert _said(tmp_path, way, [*told, silent]) == {""}
    assert _said(tmp_path, way, [*told, modern]) == {""}


@pytest.mark.parametrize("way", WAYS)
def test_dates_of_the_older_calendar_are_refused(way: str, tmp_path: Path) -> None:
    path = _written(tmp_path / "0", {VERSION: "3.5.9", LEGACY: ""})
    with pytest.raises(UnsupportedTableError, match="old releases of Spark"):
        _said(tmp_path, way, [path])
    assert not list((tmp_path / "out").glob("*"))


DAY, HOUR, PAST = dt.date(1582, 10, 14), dt.datetime(1899, 12, 31), dt.datetime(1900, 1, 1)
EARLY = {
    "day": pa.array([DAY]),
    "milliseconds": pa.array([HOUR], pa.timestamp("ms")),
    "microseconds": pa.array([HOUR], pa.timestamp("us", "UTC")),
    "nested": pa.array([[DAY]], pa.list_(pa.date32())),
}
ALIKE = {
    "day": pa.array([dt.date(1582, 10, 15), None]),
    "time": pa.array([PAST, None], pa.timestamp("us")),
    "zoned": pa.array([PAST, None], pa.timestamp("us", "UTC")),
    "nothing": pa.nulls(2, pa.date32()),
    "number": pa.array([-(10**9), None]),
}
STORED = [{}, {"write_statistics": False}, {"use_deprecated_int96_timestamps": True}]


@pytest.mark.parametrize("stored", STORED, ids=str)
@pytest.mark.parametrize("kind", EARLY)
def test_early_values_are_found_however_they_are_stored(
    kind: str, stored: Mapping[str, bool], tmp_path: Path
) -> None:
    for notes in ({VERSION: "3.5.9", LEGACY: ""}, {VERSION: "3.0.3"}):
        path = _stored(tmp_path / "0", pa.table({"c": EARLY[kind]}), notes, stored)
        with pytest.raises(UnsupportedTableError, match="old releases of Spark"):
            _said(tmp_path, "read", [path], with_ids(pa.schema([("c", EARLY[kind].type)])))


@pytest.mark.parametrize("stored", STORED, ids=str)
def test_where_calendars_agree_none_is_refused(stored: Mapping[str, bool], tmp_path: Path) -> None:
    schema = with_ids(pa.table(ALIKE).schema)
    path = _stored(tmp_path / "0", pa.table(ALIKE, schema), {VERSION: "3.0.3"}, stored)
    assert _said(tmp_path, "read", [path], schema) == {""}


def test_all_files_must_say_it() -> None:
    assert common_version({"3.10.0", "3.5.9"}) == "3.5.9"
    assert common_version({"3.5.9", ""}) == ""
    assert common_version(set()) == ""


@pytest.mark.parametrize("noted", ["3.5.9", ""])
@pytest.mark.parametrize("is_sorted", [False, True])
def test_a_new_base_file_of_hudi_says_who_wrote_the_old_one(
    tmp_path: Path, noted: str, is_sorted: bool
) -> None:
    columns = pa.schema([("id", pa.string()), ("at", pa.timestamp("us", "UTC"))])
    made = NewTable("old", columns, key="id")
    writer = SimpleWriter.create(Location.parse(str(tmp_path / "old")), made)
    for keys in ("ab", "cd") if is_sorted else ("ab",):
        (path,) = writer.insert(pa.table([list(keys), [ANCIENT] * 2], columns))
        if noted:
            said = pq.read_metadata(path).metadata
            notes = {k.decode(): v.decode() for k, v in said.items() if k != b"ARROW:schema"}
            _stored(Path(path), pq.read_table(path), notes | {VERSION: noted}, {})
    (file, *_) = writer.table.inventory(writer.table.snapshot()).slices()
    if not is_sorted:
        writer.update(file, pa.table([["b", "c"], [ANCIENT] * 2], columns))
    sort = Policy(min_input_files=2, strategy=Strategy.SORT, sort_by=(SortKey("at"),))
    policy = sort if is_sorted else Policy(min_input_files=2)
    assert compact(writer.table, tmp_path, policy).status is JobState.SUCCEEDED
    (file,) = writer.table.inventory(writer.table.snapshot()).slices()
    assert file.path != path
    assert pq.read_metadata(file.path).metadata.get(VERSION.encode(), b"").decode() == noted
    assert set(pq.read_table(file.path)["at"].to_pylist()) == {ANCIENT}


def _written(path: Path, notes: Mapping[str, str], at: dt.datetime = ANCIENT) -> str:
    return _stored(path, pa.table([[1, 2], [at] * 2], COLUMNS), notes, {})


def _stored(
    path: Path, rows: pa.Table, notes: Mapping[str, str], stored: Mapping[str, bool]
) -> str:
    """Write a file with these notes in its footer."""
    with pq.ParquetWriter(path, rows.schema, store_schema=False, **stored) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata(dict(notes))
    return str(path)


def _said(directory: Path, way: str, paths: list[str], schema: pa.Schema = COLUMNS) -> set[str]:
    """Rewrite files, and return the versions of Spark that the outputs name."""
    for path in (directory / "out").glob("*"):
        path.unlink()
    (directory / "out").mkdir(exist_ok=True)
    table = LocalTable(str(directory), TableSchema(schema))
    outputs = WAYS[way](make_task(table, paths)).outputs
    return {
        pq.read_metadata(one.path).metadata.get(VERSION.encode(), b"").decode() for one in outputs
    }
