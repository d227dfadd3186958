"""What Spark notes of the calendar of a file's dates stays true of what is made of it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.errors import UnsupportedTableError
from catalog.hudi.calendars import VERSION, common_version, writer_version
from catalog.hudi.simple_writer import NewTable, SimpleWriter
from catalog.location import Location
from compactor.jobs.state import JobState
from tests.catalog.hudi.compacting import compact

COLUMNS = pa.schema([pa.field("id", pa.string()), pa.field("at", pa.timestamp("us", "UTC"))])
ANCIENT = dt.datetime(1, 1, 1, tzinfo=dt.UTC)
LEGACY = "org.apache.spark.legacyDateTime"


@pytest.mark.parametrize("noted", ["3.5.9", ""])
def test_a_new_base_file_says_who_wrote_the_old_one(tmp_path: Path, noted: str) -> None:
    """Where nobody says it, Spark 3 reads no such times."""
    made = NewTable("old", COLUMNS, key="id")
    writer = SimpleWriter.create(Location.parse(str(tmp_path / "old")), made)
    (path,) = writer.insert(_rows("a", "b"))
    if noted:
        _note(path, {VERSION: noted})
    (file,) = writer.table.inventory(writer.table.snapshot()).slices()
    writer.update(file, _rows("b", "c"))
    assert compact(writer.table, tmp_path).status is JobState.SUCCEEDED
    (file,) = writer.table.inventory(writer.table.snapshot()).slices()
    footer = pq.read_metadata(file.path)
    assert file.path != path
    assert footer.metadata.get(VERSION.encode(), b"").decode() == noted
    assert pq.read_table(file.path)["at"].to_pylist() == [ANCIENT] * 3


def test_dates_of_the_older_calendar_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    for column in (
        pa.array([dt.date(1582, 10, 14)]),
        pa.array([dt.datetime(1899, 12, 31)], pa.timestamp("ms")),
        pa.array([dt.datetime(1899, 12, 31)], pa.timestamp("us", "UTC")),
    ):
        pq.write_table(pa.table({"c": column}), file)
        for pairs in ({VERSION: "3.5.9", LEGACY: ""}, {VERSION: "3.0.3"}):
            _note(str(file), pairs)
            with pytest.raises(UnsupportedTableError, match="old releases of Spark"):
                writer_version(pq.read_metadata(file))


def test_where_calendars_agree_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    columns = {
        "day": pa.array([dt.date(1582, 10, 15), None]),
        "time": pa.array([dt.datetime(1900, 1, 1), None], pa.timestamp("us")),
        "nothing": pa.nulls(2, pa.date32()),
        "number": pa.array([-(10**9), None]),
    }
    pq.write_table(pa.table(columns), file)
    _note(str(file), {VERSION: "3.5.9", LEGACY: ""})
    assert writer_version(pq.read_metadata(file)) == ""


def test_all_files_must_say_it() -> None:
    assert common_version({"3.10.0", "3.5.9"}) == "3.5.9"
    assert common_version({"3.5.9", ""}) == ""
    assert common_version(set()) == ""


def _rows(*keys: str) -> pa.Table:
    return pa.table([list(keys), [ANCIENT] * len(keys)], schema=COLUMNS)


def _note(path: str, pairs: dict[str, str]) -> None:
    """Say more in the footer of a file."""
    rows = pq.read_table(path)
    said = {k: v for k, v in pq.read_metadata(path).metadata.items() if k != b"ARROW:schema"}
    with pq.ParquetWriter(path, rows.schema, store_schema=False) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata({k.decode(): v.decode() for k, v in said.items()} | pairs)
