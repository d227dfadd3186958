"""Columns that files have and commits do not name: what happened to a row of a change stream."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.hudi.reading import latest_schema
from catalog.hudi.schema import OPERATION
from catalog.hudi.simple_writer import NewTable, SimpleWriter
from catalog.hudi.stored_schema import stored_schema
from catalog.hudi.table import HudiTable
from catalog.location import Location
from catalog.model import FileSlice
from compactor.jobs.state import JobState
from compactor.rewrite.read import SliceReader
from tests.catalog.hudi.compacting import compact

COLUMNS = pa.schema([pa.field("id", pa.string()), pa.field(OPERATION, pa.string())])


@pytest.fixture
def writer(tmp_path: Path) -> SimpleWriter:
    made = NewTable("stream", COLUMNS, key="id", version=6)
    return SimpleWriter.create(Location.parse(str(tmp_path / "stream")), made)


def test_rows_that_say_they_are_gone_do_not_come_back(writer: SimpleWriter, tmp_path: Path) -> None:
    (path,) = writer.insert(_rows(("a", "I"), ("b", "I"), ("c", "I"), ("d", None)))
    (file,) = _slices(writer.table)
    writer.update(file, _rows(("a", "U"), ("b", "D"), ("c", "-U"), ("e", "D"), ("f", "I")))
    _unnamed_in_commits(writer.table.root)
    expected = [("a", "U"), ("d", None), ("f", "I")]
    assert _read(writer.table) == expected
    assert compact(writer.table, tmp_path).status is JobState.SUCCEEDED
    assert _names(latest_schema(writer.table.source())) == ["id"]
    assert _read(writer.table) == expected
    (file,) = _slices(writer.table)
    assert file.path != path
    # Where the newest files do not have it, Hudi takes the rows of older ones for what they say.
    assert OPERATION in pq.read_schema(file.path).names


def test_the_newest_file_with_rows_tells(writer: SimpleWriter) -> None:
    (path,) = writer.insert(_rows(("a", "I")))
    _unnamed_in_commits(writer.table.root)
    assert _names(stored_schema(writer.table.source())) == [OPERATION, "id"]
    Path(path).unlink()
    assert _names(stored_schema(writer.table.source())) == ["id"]


def _rows(*rows: tuple[str, str | None]) -> pa.Table:
    return pa.table([list(column) for column in zip(*rows, strict=True)], schema=COLUMNS)


def _names(avro: str) -> list[str]:
    return [one["name"] for one in json.loads(avro)["fields"]]


def _slices(table: HudiTable) -> list[FileSlice]:
    return list(table.inventory(table.snapshot()).slices())


def _read(table: HudiTable) -> list[tuple[str, str | None]]:
    snapshot = table.snapshot()
    reader = SliceReader.of(table.files(snapshot), table.inventory(snapshot))
    found = [
        row for one in _slices(table) for batch in reader.batches(one) for row in batch.to_pylist()
    ]
    return sorted((row["id"], row[OPERATION]) for row in found)


def _unnamed_in_commits(root: Location) -> None:
    """Have commits say of the rows what Hudi's writers do: what users have."""
    for file in Path(root.path, ".hoodie").glob("*commit"):
        commit = json.loads(file.read_text())
        avro = json.loads(commit["extraMetadata"]["schema"])
        avro["fields"] = [one for one in avro["fields"] if one["name"] != OPERATION]
        commit["extraMetadata"]["schema"] = json.dumps(avro)
        file.write_text(json.dumps(commit))
