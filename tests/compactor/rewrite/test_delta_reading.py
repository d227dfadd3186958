"""Which columns of a data file become which of a Delta table, by the rules of column mapping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.delta.table import DeltaTable
from catalog.location import Location
from compactor.rewrite.read import SliceReader
from tests.catalog.delta.logs import HandWritten, add, column, features, metadata

TRACKING = {
    "delta.enableRowTracking": "true",
    "delta.rowTracking.materializedRowIdColumnName": "_row-id",
    "delta.rowTracking.materializedRowCommitVersionColumnName": "_row-version",
}


def mapped(name: str, number: int, kind: Any = "long") -> dict[str, Any]:
    named = {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": f"col-{number}"}
    return {**column(name, kind), "metadata": named}


def stored(name: str, number: int | None, kind: pa.DataType | None = None) -> pa.Field:
    """Return a column of a file; None for one without field id."""
    tag = None if number is None else {"PARQUET:field_id": str(number)}
    return pa.field(name, kind or pa.int64(), metadata=tag)


def read(
    directory: Path, fields: list[pa.Field], mode: str, **configuration: str
) -> list[dict[str, Any]]:
    """Read a file of one row, its columns holding 1, 2, 3 and so on, as the mode says."""
    rows = pa.table(
        [pa.array([at], one.type) for at, one in enumerate(fields, 1)], pa.schema(fields)
    )
    pq.write_table(rows, directory / "a.parquet")
    size_bytes = (directory / "a.parquet").stat().st_size
    said = {"baseRowId": 40, "defaultRowCommitVersion": 2}
    properties = {"delta.columnMapping.mode": mode, **configuration}
    HandWritten(directory).commit(
        0,
        features("rowTracking", "domainMetadata", readers=["columnMapping"]),
        metadata(mapped("a", 1), mapped("b", 2), configuration=properties),
        add("a.parquet", rows=1, size=size_bytes, **said),
    )
    table = DeltaTable("t", Location.parse(str(directory)), {})
    snapshot = table.snapshot()
    files, inventory = table.files(snapshot), table.inventory(snapshot)
    reader = SliceReader.of(files, inventory, files.schema)
    return [
        row
        for one in inventory.slices()
        for batch in reader.batches(one)
        for row in batch.to_pylist()
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([stored("col-2", 2), stored("col-1", 1)], {"col-1": 2, "col-2": 1}),
        ([stored("col-1", None), stored("col-2", None)], {"col-1": 1, "col-2": 2}),
        ([stored("col-1", 2), stored("col-2", 1)], {"col-1": 1, "col-2": 2}),
        ([stored("x", 1), stored("col-2", 7)], {"col-1": None, "col-2": 2}),
    ],
    ids=["in order of their own", "without ids", "ids exchanged", "an id without its name"],
)
def test_by_name_the_ids_of_files_mean_nothing(
    tmp_path: Path, fields: list[pa.Field], expected: dict[str, Any]
) -> None:
    assert read(tmp_path, fields, "name") == [expected]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([stored("x", 2), stored("y", 1)], {"col-1": 2, "col-2": 1}),
        ([stored("col-1", 2), stored("col-2", 1)], {"col-1": 2, "col-2": 1}),
    ],
    ids=["other names", "names exchanged"],
)
def test_by_id_the_names_of_files_mean_nothing(
    tmp_path: Path, fields: list[pa.Field], expected: dict[str, Any]
) -> None:
    assert read(tmp_path, fields, "id") == [expected]


@pytest.mark.parametrize("mode", ["name", "id"])
@pytest.mark.parametrize("is_stored", [True, False])
def test_ids_of_rows_go_by_name_in_either_mode(tmp_path: Path, mode: str, is_stored: bool) -> None:
    fields = [stored("col-1", 1), stored("col-2", 2)]
    fields += [stored("_row-version", None), stored("_row-id", None)] if is_stored else []
    (row,) = read(tmp_path, fields, mode, **TRACKING)

    assert (row["col-1"], row["col-2"]) == (1, 2)
    assert (row["_row-id"], row["_row-version"]) == ((4, 3) if is_stored else (40, 2))
