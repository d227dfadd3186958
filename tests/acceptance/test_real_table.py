"""Thousands of small files through the command line; every engine reads the same afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.table import Table

from tests.acceptance.program import compact
from tests.acceptance.real_table import build
from tests.judges.engines import READERS, normalised
from tests.orphans import unreferenced_files

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Compacted:
    directory: Path
    table: Table
    before: int
    after: int
    files_before: int
    expected: pa.Table
    run: dict


def _snapshot_id(table: Table) -> int:
    snapshot = table.refresh().current_snapshot()
    assert snapshot is not None
    return snapshot.snapshot_id


@pytest.fixture(scope="module")
def compacted(tmp_path_factory: pytest.TempPathFactory) -> Compacted:
    directory = tmp_path_factory.mktemp("real")
    table = build(directory)
    before = _snapshot_id(table)
    files_before = len(list(table.scan().plan_files()))
    schema = table.schema().as_arrow()
    expected = normalised(table.scan().to_arrow(), schema, "id")
    run = compact(directory, "run", "lake.ns.events", "--verify", "full", "--yes")
    after = _snapshot_id(table)
    return Compacted(directory, table, before, after, files_before, expected, run)


def test_the_table_is_as_large_as_promised(compacted: Compacted) -> None:
    assert compacted.files_before >= 2_000
    assert (
        len({str(s["partition"]) for s in compacted.table.inspect.partitions().to_pylist()}) >= 30
    )


@pytest.mark.parametrize("engine", READERS)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_every_engine_reads_the_same_rows(
    compacted: Compacted, engine: str, moment: str, tmp_path: Path
) -> None:
    rows = READERS[engine](compacted.table.metadata_location, getattr(compacted, moment), tmp_path)
    schema = compacted.table.schema().as_arrow()
    assert normalised(rows, schema, "id").equals(compacted.expected)


def test_the_run_reports_what_it_did(compacted: Compacted) -> None:
    run = compacted.run
    assert run["status"] == "succeeded"
    assert run["verified"] is True
    assert run["files_before"] == compacted.files_before
    assert run["files_after"] == len(list(compacted.table.scan().plan_files()))
    assert run["files_after"] <= 200
    assert run["rows_before"] == run["rows_after"] == compacted.expected.num_rows


def test_no_delete_file_and_no_orphan_is_left(compacted: Compacted) -> None:
    assert compacted.table.inspect.delete_files().num_rows == 0
    assert unreferenced_files(compacted.table) == []


def test_planning_again_finds_nothing(compacted: Compacted) -> None:
    plan = compact(compacted.directory, "plan", "lake.ns.events")
    assert plan["groups"] == []


def test_verify_proves_the_two_snapshots_equal(compacted: Compacted) -> None:
    verified = compact(
        compacted.directory,
        "verify",
        "lake.ns.events",
        "--from",
        str(compacted.before),
        "--to",
        str(compacted.after),
    )
    assert verified["equal"] is True
