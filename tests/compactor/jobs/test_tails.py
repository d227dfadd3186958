"""Slices with rows in logs, compacted: what readers see stays the same, and planning ends."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from catalog.memory import MemoryTable
from catalog.schema import FIELD_ID_KEY
from compactor.jobs.compaction import compact_table
from compactor.jobs.options import JobOptions
from compactor.jobs.planning import plan_table
from compactor.jobs.runner import JobEnvironment
from compactor.jobs.state import JobState
from compactor.jobs.store import open_store
from compactor.jobs.verification import verify_snapshots
from compactor.planner.policy import Policy
from compactor.proof import Proof
from runtime.connect import connect

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False, metadata={FIELD_ID_KEY: b"1"}),
        pa.field("text", pa.string(), metadata={FIELD_ID_KEY: b"2"}),
    ]
)


def rows(start: int, count: int, text: str) -> pa.Table:
    return pa.table([range(start, start + count), [text] * count], SCHEMA)


def test_logs_are_folded_into_data_files(tmp_path: Path) -> None:
    table = MemoryTable(tmp_path / "data", SCHEMA)
    first = table.append(rows(0, 1000, "old"))
    table.update_rows(first, range(100, 300), rows(100, 200, "new"))
    table.update_rows(first, (), rows(5000, 10, "come"))
    table.delete_rows(first, [0, 1])
    before = table.snapshot()

    with connect("inline") as runtime, open_store(f"sqlite:///{tmp_path}/jobs.db") as store:
        environment = JobEnvironment(runtime, store)
        report = compact_table(
            table, Policy(), environment=environment, options=JobOptions(proof=Proof.FULL)
        )
        after = table.snapshot()
        same = verify_snapshots(table, before.snapshot_id, after.snapshot_id, runtime=runtime)

    assert report.status is JobState.SUCCEEDED
    assert report.verified
    assert (report.rows_before, report.rows_after) == (1008, 1008)
    assert same.is_equal
    assert (same.from_digest.row_count, same.to_digest.row_count) == (1008, 1008)
    assert not plan_table(table, Policy(), now_ms=0).groups
    inventory = table.inventory(after)
    assert (inventory.file_count, inventory.delete_files.num_rows) == (1, 0)
