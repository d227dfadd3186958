"""Other engines see the same rows of a table with equality deletes before and after compaction."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import DoubleType, IntegerType, LongType, NestedField, StringType

from tests.acceptance.program import compact
from tests.iceberg_tables import commit_deletes, make_table, write_key_deletes
from tests.judges.engines import READERS, normalised

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(900)]

SCHEMA = Schema(
    NestedField(1, "id", IntegerType()),
    NestedField(2, "part", StringType()),
    NestedField(3, "text", StringType()),
    NestedField(4, "number", DoubleType()),
    NestedField(5, "gone", LongType()),
)
NUMBERS = (0.0, -0.0, math.nan, None, 1.5)
# What is left: see the deletes below.
KEPT = [
    *(one for one in range(1, 100) if one % 5 not in (0, 2, 3) and one not in (6, 11, 21, 31)),
    *range(100, 200, 2),
    *(one for one in range(200, 210) if one != 205),
    205,
]


def _rows(numbers: range, part: str, id_type: pa.DataType) -> dict[str, Any]:
    return {
        "id": pa.array(numbers, id_type),
        "part": [part] * len(numbers),
        "text": [None if one % 31 == 0 else f"text {one}" for one in numbers],
        "number": pa.array([NUMBERS[one % 5] for one in numbers], pa.float64()),
    }


def _build(directory: Path) -> Table:
    table = make_table(directory, SCHEMA)
    some = range(1, 100)
    table.append(pa.table({**_rows(some, "a", pa.int32()), "gone": list(some)}))
    # Zero, but not minus zero; NaN; null; then two columns at once; then one that is dropped.
    numbers = pa.array([0.0, math.nan, None], pa.float64())
    commit_deletes(table, write_key_deletes(table, pa.table({"number": numbers})))
    pairs = {"text": [None, "text 6"], "id": pa.array([31, 6], pa.int32())}
    commit_deletes(table, write_key_deletes(table, pa.table(pairs)))
    commit_deletes(table, write_key_deletes(table, pa.table({"gone": [11]})))
    with table.update_schema() as update:
        update.delete_column("gone")
        update.rename_column("text", "title")
        update.update_column("id", LongType())
    with table.update_spec() as update:
        update.add_identity("part")
    for part, numbers_of in (("b", range(100, 200)), ("c", range(200, 210))):
        rows = _rows(numbers_of, part, pa.int64())
        table.append(pa.table({**rows, "title": rows["text"]}).drop_columns(["text"]))
    (like,) = (one for one in _live(table) if list(one.partition) == ["b"])
    odd = pa.table({"id": [21, *range(101, 300, 2)]})
    commit_deletes(table, write_key_deletes(table, odd, like=like))
    # Those of no partition apply to all.
    everywhere = write_key_deletes(table, pa.table({"id": [21, 205]}))
    everywhere.spec_id = 0
    commit_deletes(table, everywhere)
    table.append(pa.table({"id": [205], "part": ["c"], "title": ["back"], "number": [1.0]}))
    return table


def _live(table: Table) -> list[Any]:
    snapshot = table.refresh().current_snapshot()
    assert snapshot is not None
    return [
        entry.data_file
        for manifest in snapshot.manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io)
        if entry.data_file.content == 0
    ]


APPLIED, CONVERTED = ("--delete-ratio", "0"), ("--strategy", "convert-deletes")


@pytest.fixture(scope="module", params=[APPLIED, CONVERTED], ids=["applied", "converted"])
def compacted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Table, int, int]:
    directory = tmp_path_factory.mktemp("keys")
    table = _build(directory)
    before = table.metadata.current_snapshot_id
    compact(directory, "run", "lake.ns.t", *request.param, "--verify", "full", "--yes")
    after = table.refresh().metadata.current_snapshot_id
    assert before is not None
    assert after is not None
    return table, before, after


def test_the_reference_implementation_sees_no_difference(
    compacted: tuple[Table, int, int], tmp_path: Path
) -> None:
    table, *snapshots = compacted
    schema = table.schema().as_arrow()
    first, second = (
        normalised(READERS["spark"](table.metadata_location, one, tmp_path), schema, "id")
        for one in snapshots
    )
    assert first["id"].to_pylist() == sorted(KEPT)
    assert str(first.to_pylist()) == str(second.to_pylist())


def test_the_deletes_are_gone(
    compacted: tuple[Table, int, int], request: pytest.FixtureRequest
) -> None:
    table, *_ = compacted
    summary = table.refresh().current_snapshot().summary.additional_properties
    assert summary["total-equality-deletes"] == "0"
    is_converted = "converted" in request.node.name
    assert (summary["total-delete-files"] == "0") is not is_converted


@pytest.mark.parametrize("how", [(), CONVERTED], ids=["applied", "converted"])
def test_duckdb_sees_no_difference(tmp_path: Path, how: tuple[str, ...]) -> None:
    """Of a plainer table: its extension crashes on the other one, compacted or not."""
    table = make_table(tmp_path, SCHEMA)
    for start in (0, 100):
        numbers = range(start, start + 100)
        table.append(pa.table({**_rows(numbers, "a", pa.int32()), "gone": list(numbers)}))
        pairs = {"text": [f"text {start + 1}"], "id": pa.array([start + 1], pa.int32())}
        commit_deletes(table, write_key_deletes(table, pa.table(pairs)))
        commit_deletes(table, write_key_deletes(table, pa.table({"gone": [5, 105]})))
    before = table.refresh().metadata.current_snapshot_id
    compact(tmp_path, "run", "lake.ns.t", *how, "--verify", "full", "--yes")
    after = table.refresh().metadata.current_snapshot_id
    for snapshot_id in (before, after):
        assert snapshot_id is not None
        found = READERS["duckdb"](table.metadata_location, snapshot_id, tmp_path)
        gone = {1, 5, 101, 105}
        assert sorted(found["id"].to_pylist()) == [one for one in range(200) if one not in gone]
