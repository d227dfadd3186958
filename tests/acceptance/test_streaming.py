"""An upsert writer commits every second beside continuous compaction: no row is lost or doubled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import LongType, NestedField, StringType

from catalog.iceberg.dangling import DanglingDeletes
from catalog.upkeep import UpkeepOrder
from compactor.jobs.compaction import compact_table
from compactor.jobs.options import JobOptions
from compactor.jobs.runner import JobEnvironment
from compactor.jobs.store import open_store
from compactor.planner.policy import Policy
from compactor.sort_keys import Strategy
from runtime.connect import connect
from tests.acceptance.program import ROOT, environment
from tests.catalog.iceberg.keyed import ours
from tests.iceberg_tables import make_table, rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SECONDS = float(os.environ.get("COMPACT_STREAM_SECONDS", "90"))
SCHEMA = Schema(
    NestedField(1, "id", LongType()),
    NestedField(2, "part", StringType()),
    NestedField(3, "version", LongType()),
)
BY_PART = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "part"))
PROPERTIES = {
    "commit.retry.num-retries": "20",
    "commit.retry.min-wait-ms": "20",
    "commit.retry.max-wait-ms": "500",
    "write.target-file-size-bytes": str(8 << 20),
}
AUTO = Policy(strategy=Strategy.AUTO, delete_files_min=5, min_input_files=5)
CONVERT = Policy(strategy=Strategy.CONVERT_DELETES)
# Delete files that a writer adds with each commit at most: of keys and of positions, per partition.
_PER_COMMIT = 4
# What may be there when a round has ended, besides what came in while it ran: a few of each kind
# for each data file, of which packing leaves fewer than are worth packing.
_LEFT_MAX = 60


def _written(notes: Path) -> dict[str, Any]:
    lines = [line for line in notes.read_text().splitlines() if line.endswith("}")]
    found: dict[str, Any] = json.loads(lines[-1]) if lines else {"commits": 0, "versions": {}}
    return found


def test_rows_are_exact_and_delete_files_are_bounded(tmp_path: Path) -> None:
    table = make_table(tmp_path, SCHEMA, spec=BY_PART, properties=PROPERTIES)
    notes, stop = tmp_path / "notes", tmp_path / "stop"
    command = [sys.executable, "-m", "tests.acceptance.upsert_writer", tmp_path, stop]
    with (
        notes.open("w") as sink,
        open_store(f"sqlite:///{tmp_path}/jobs.db") as store,
        connect("inline") as runtime,
        subprocess.Popen(command, env=environment(tmp_path), cwd=ROOT, stdout=sink) as writer,
    ):
        place = JobEnvironment(runtime, store)
        try:
            left = _compact_until(time.monotonic() + SECONDS, tmp_path, notes, place)
        finally:
            stop.touch()
            writer.wait(timeout=120)
        compact_table(ours(tmp_path), CONVERT, environment=place, options=JobOptions())
    _check(table, notes, left)


def _compact_until(
    end: float, directory: Path, notes: Path, environment: JobEnvironment
) -> list[tuple[int, int]]:
    """Compact again and again; return how many delete files were live, and might have been."""
    left = []
    while time.monotonic() < end:
        before = _written(notes)["commits"]
        # Both alternately: what is due, and every key at once.
        policy = CONVERT if len(left) % 2 else AUTO
        compact_table(
            ours(directory), policy, environment=environment, options=JobOptions(rounds_max=2)
        )
        table = ours(directory)
        DanglingDeletes(table).run(UpkeepOrder())  # type: ignore[arg-type]
        live = table.inventory(table.snapshot()).delete_files.num_rows
        came = _written(notes)["commits"] - before + 1
        left.append((live, came * _PER_COMMIT + _LEFT_MAX))
        time.sleep(0.05)
    return left


def _check(table: Table, notes: Path, left: list[tuple[int, int]]) -> None:
    written = _written(notes)
    found = {row["id"]: row["version"] for row in rows(table)}
    assert len(found) == len(rows(table))
    assert found == {int(key): version for key, version in written["versions"].items()}
    sys.stdout.write(f"{written['commits']} commits; delete files after each round: {left}\n")
    assert written["commits"] >= min(20, SECONDS / 20)
    assert left
    for live, most in left:
        assert live <= most
