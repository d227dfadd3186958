"""Columns as only format version 3 has them: defaults, nanoseconds, columns that hold nothing."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.commits import ChangeScope
from catalog.errors import UnsupportedTableError
from catalog.iceberg.partition import Spec, SpecField, label
from tests.acceptance.program import compact
from tests.catalog.conformance import fill
from tests.catalog.groups import plan_all
from tests.catalog.iceberg.keyed import dropped, live_files
from tests.catalog.iceberg.lakes import rows_of
from tests.catalog.iceberg.version3 import Version3Lake
from tests.iceberg_tables import sql_catalog, write_key_deletes

DAY = date(2026, 11, 20)
KEY = UUID("f79c3e09-677c-4bbd-a479-3f349cb785e7")
ADDED: list[tuple[str, str, Any, Any]] = [
    ("at", "timestamp", "2026-11-20T10:11:12.000001", datetime(2026, 11, 20, 10, 11, 12, 1)),
    ("zoned", "timestamptz", "2026-11-20T00:00:00+00:00", datetime(2026, 11, 20, tzinfo=UTC)),
    ("number", "int", 7, 7),
    ("price", "decimal(9, 2)", "1.25", Decimal("1.25")),
    ("day", "date", "2026-11-20", DAY),
    ("raw", "binary", "00ff", b"\x00\xff"),
    ("key", "uuid", str(KEY), KEY),
    ("text2", "string", "by default", "by default"),
    ("ratio", "float", 0.5, 0.5),
]


def _evolve(lake: Version3Lake) -> None:
    """Add the columns, with defaults, as another engine would; and one that holds nothing."""
    path = Path(lake.other.metadata_location.removeprefix("file://"))
    document = json.loads(path.read_text())
    fields = [
        {"id": number, "name": name, "required": False, "type": kind, "initial-default": default}
        for number, (name, kind, default, _) in enumerate(ADDED, 10)
    ]
    fields[2]["write-default"] = 8
    nothing = {"id": 30, "name": "nothing", "required": False, "type": "unknown"}
    schema = {**document["schemas"][0], "schema-id": 1}
    schema["fields"] = [*schema["fields"], *fields, nothing]
    document["schemas"].append(schema)
    document |= {"current-schema-id": 1, "last-column-id": 30}
    path.write_text(json.dumps(document))


def test_what_files_lack_is_stored_when_they_are_rewritten(tmp_path: Path) -> None:
    lake = Version3Lake(tmp_path)
    fill(lake, parts="a", files=2)
    rows = lake.rows()
    _evolve(lake)
    commit = plan_all(lake.table)
    assert lake.table.commit(commit).conflicts == ()
    (output,) = commit.rewrites[0].added
    stored = pq.ParquetFile(output.path.removeprefix("file://")).read()
    assert "nothing" not in stored.column_names
    for name, _, _, value in ADDED:
        assert set(stored[name].to_pylist()) == {value}, name
    assert [row[:3] for row in lake.rows()] == rows


def test_changes_must_not_lack_what_new_rows_have_a_default_for(tmp_path: Path) -> None:
    lake = Version3Lake(tmp_path)
    fill(lake, parts="a", files=1)
    _evolve(lake)
    lake.table.check_change(ChangeScope(True, False, frozenset({"at"})))
    with pytest.raises(UnsupportedTableError, match="'number'"):
        lake.table.check_change(ChangeScope(True, False, frozenset({"number"})))


def test_a_default_that_the_library_does_not_read_is_refused_by_name(tmp_path: Path) -> None:
    lake = Version3Lake(tmp_path)
    path = Path(lake.other.metadata_location.removeprefix("file://"))
    document = json.loads(path.read_text())
    field = {"id": 9, "name": "x", "required": False, "type": "timestamp_ns"}
    document["schemas"][0]["fields"].append({**field, "initial-default": "2026-11-20T00:00:00"})
    path.write_text(json.dumps(document))
    with pytest.raises(UnsupportedTableError, match="a default of type timestamp_ns"):
        lake.table.load()


def test_nanoseconds_are_kept(tmp_path: Path) -> None:
    """Those of every column, and their bounds."""
    lake = Version3Lake(tmp_path)
    path = Path(lake.other.metadata_location.removeprefix("file://"))
    document = json.loads(path.read_text())
    field = {"id": 9, "name": "at", "required": False, "type": "timestamp_ns"}
    document["schemas"][0]["fields"].append(field)
    path.write_text(json.dumps(document))
    for first in (0, 10):
        rows = lake.as_table(rows_of(range(first, first + 10), "a"))
        times = pa.array(range(first + 1, first + 11), pa.timestamp("ns"))
        field_of = pa.field("at", times.type, metadata={b"PARQUET:field_id": b"9"})
        lake.append_file(rows.append_column(field_of, times), "a")
    before = lake.lineage()
    report = compact(
        tmp_path, "run", "lake.ns.t", "--min-input-files", "2", "--verify", "full", "--yes"
    )
    assert (report["status"], report["files_after"]) == ("succeeded", 1)
    assert lake.lineage() == before
    (file,) = lake.data_files()
    stored = pq.ParquetFile(file.file_path.removeprefix("file://")).read()
    assert sorted(stored["at"].cast(pa.int64()).to_pylist()) == list(range(1, 21))
    bounds = [one[9] for one in (file.lower_bounds, file.upper_bounds)]
    assert [int.from_bytes(one, "little") for one in bounds] == [1, 20]


def test_partitions_by_nanoseconds_are_shown_as_times() -> None:
    spec = Spec(0, (SpecField(1000, "at", 1, "identity", "timestamptz_ns"),))
    assert label(spec, [1_000_000_001]) == "at=1970-01-01T00:00:01.000000001+00:00"


def test_a_column_of_a_reserved_name_is_refused(tmp_path: Path) -> None:
    lake = Version3Lake(tmp_path)
    path = Path(lake.other.metadata_location.removeprefix("file://"))
    document = json.loads(path.read_text())
    document["schemas"][0]["fields"][2]["name"] = "_row_id"
    path.write_text(json.dumps(document))
    with pytest.raises(UnsupportedTableError, match="_row_id"):
        lake.table.load()
    assert sql_catalog(tmp_path).load_table("ns.t").schema().fields[2].name == "_row_id"


def test_rows_are_deleted_by_the_default_of_a_column_that_was_dropped_since(
    tmp_path: Path,
) -> None:
    lake = Version3Lake(tmp_path)
    path = lake.append(range(5))
    _evolve(lake)
    keys = pa.table({"number": pa.array([7], pa.int32())})
    lake.commit([write_key_deletes(lake.other, keys, like=live_files(lake.other)[0])], [])
    assert dropped(lake.table) == {path: [0, 1, 2, 3, 4]}
    metadata = Path(lake.other.metadata_location.removeprefix("file://"))
    document = json.loads(metadata.read_text())
    metadata.write_text(json.dumps(document | {"current-schema-id": 0}))
    assert "number" not in lake.table.load().schema().column_names
    assert dropped(lake.table) == {path: [0, 1, 2, 3, 4]}
    assert lake.table.commit(plan_all(lake.table)).conflicts == ()
    assert lake.table.inventory(lake.table.snapshot()).files.num_rows == 0
