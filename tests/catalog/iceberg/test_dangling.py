"""Delete files that delete nothing leave the table, whatever made them so; no other does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from catalog.iceberg.dangling import DanglingDeletes
from catalog.iceberg.table import IcebergTable
from catalog.upkeep import UpkeepOrder
from tests.catalog.iceberg.keyed import kept_rows, live_files, ours
from tests.catalog.iceberg.lakes import BY_PART, SCHEMA, rows_of
from tests.iceberg_tables import (
    commit_deletes,
    make_table,
    rows,
    sql_catalog,
    write_key_deletes,
    write_position_deletes,
)


def opened(directory: Path) -> IcebergTable:
    table = ours(directory)
    assert isinstance(table, IcebergTable)
    return table


@pytest.fixture
def lake(tmp_path: Path) -> Any:
    """Two live files, and one that is gone with the deletes of it still there."""
    table = make_table(tmp_path, SCHEMA, spec=BY_PART)
    for number in range(3):
        table.append(rows_of(range(number * 10, number * 10 + 10), "a"))
    return table


def remove(table: Any, path: str) -> None:
    with table.refresh().transaction() as change, change.update_snapshot().overwrite() as update:
        update.delete_data_file(next(one for one in live_files(table) if one.file_path == path))


def test_what_no_file_needs_leaves_and_the_rest_stays(tmp_path: Path, lake: Any) -> None:
    first, second, third = live_files(lake)
    one, shared = {first.file_path: [1]}, {first.file_path: [2], second.file_path: [3]}
    both_gone = {first.file_path: [4], third.file_path: [4]}
    commit_deletes(
        lake,
        write_position_deletes(lake, one, like=first),
        write_position_deletes(lake, shared, like=first, bounds=False),
        write_position_deletes(lake, both_gone, like=first, bounds=False),
        write_key_deletes(lake, pa.table({"id": [5000]}), like=first, has_bounds=True),
        write_key_deletes(lake, pa.table({"id": [6]}), like=first, has_bounds=True),
    )
    for file in (first, third):
        remove(lake, file.file_path)
    before = kept_rows(ours(tmp_path))
    operation = DanglingDeletes(opened(tmp_path))

    assert operation.run(UpkeepOrder(is_dry_run=True)).files == 3 + (6 not in ids_of(second))
    result = operation.run(UpkeepOrder())

    left = ours(tmp_path).inventory(ours(tmp_path).snapshot()).delete_files
    assert result.files == 5 - left.num_rows >= 3
    assert kept_rows(ours(tmp_path)) == before
    summary = lake.refresh().current_snapshot().summary
    assert summary.operation.value == "replace"
    assert operation.run(UpkeepOrder()).files == 0


def ids_of(file: Any) -> list[int]:
    import pyarrow.parquet as pq

    found: list[int] = pq.read_table(file.file_path.removeprefix("file://"))["id"].to_pylist()
    return found


def test_a_file_of_an_old_number_that_comes_meanwhile_keeps_its_deletes(
    tmp_path: Path, lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head is looked at anew when another writer was quicker."""
    (first, *others) = live_files(lake)
    for file in others:
        remove(lake, file.file_path)
    commit_deletes(
        lake,
        write_position_deletes(lake, {others[0].file_path: [1]}, like=first),
        write_key_deletes(lake, pa.table({"id": [first.record_count, 5]}), like=first),
    )
    before = kept_rows(ours(tmp_path))
    target = opened(tmp_path)
    operation = DanglingDeletes(target)
    proposed = DanglingDeletes._proposed
    raced: list[int] = []

    def late(self: DanglingDeletes, *given: Any) -> Any:
        snapshot = proposed(self, *given)
        if not raced:
            raced.append(1)
            lake.refresh().append(rows_of([900], "a"))
        return snapshot

    monkeypatch.setattr(DanglingDeletes, "_proposed", late)
    assert operation.run(UpkeepOrder()).files == 1
    assert len(kept_rows(ours(tmp_path))) == len(before) + 1


def test_a_table_without_deletes_gets_no_snapshot(tmp_path: Path, lake: Any) -> None:
    first = live_files(lake)[0]
    commit_deletes(lake, write_position_deletes(lake, {first.file_path: [1]}, like=first))
    snapshots = len(lake.refresh().snapshots())
    assert DanglingDeletes(opened(tmp_path)).run(UpkeepOrder()).files == 0
    empty = sql_catalog(tmp_path).create_table("ns.empty", SCHEMA)
    assert empty.current_snapshot() is None
    assert len(lake.refresh().snapshots()) == snapshots
    assert len(rows(lake)) == 29
