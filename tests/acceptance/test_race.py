"""Eight writers race two compactions; at the end every row is accounted for exactly."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import LongType, NestedField, StringType

from tests.acceptance.program import ROOT, environment, start
from tests.acceptance.writer import ENOUGH, is_over
from tests.iceberg_tables import make_table
from tests.judges.engines import READERS, normalised
from tests.orphans import unreferenced_files

SECONDS = 60
WRITERS = ("append",) * 3 + ("overwrite",) * 2 + ("delete",) * 2 + ("delete_positions",)
SCHEMA = Schema(
    NestedField(1, "writer", LongType(), required=True),
    NestedField(2, "id", LongType(), required=True),
    NestedField(3, "value", StringType()),
)
PARTITIONED = PartitionSpec(PartitionField(1, 1000, IdentityTransform(), "writer"))
# A minute of a table that is hammered by ten processes needs patience in every commit.
PROPERTIES = {
    "commit.retry.num-retries": "20",
    "commit.retry.min-wait-ms": "20",
    "commit.retry.max-wait-ms": "500",
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def _writer(directory: Path, kind: str, number: int) -> subprocess.Popen[str]:
    program = [sys.executable, "-m", "tests.acceptance.writer"]
    return subprocess.Popen(
        [*program, directory, kind, str(number), str(SECONDS)],
        env=environment(directory),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def _compaction(directory: Path, number: int) -> subprocess.Popen[str]:
    # Each has a job store of its own, as on two machines that do not know of each other.
    return start(
        directory,
        *("run", "lake.ns.race", "--yes", "--json", "--min-input-files", "3"),
        extra={"XDG_STATE_HOME": str(directory / f"state-{number}")},
    )


def _compact_until_over(directory: Path) -> list[dict[str, Any]]:
    begun = time.monotonic()
    running: dict[int, subprocess.Popen[str]] = {}
    reports: list[dict[str, Any]] = []
    while (racing := not is_over(directory, begun, SECONDS, has_won=True)) or running:
        for number in (0, 1):
            process = running.get(number)
            if process is None and racing:
                running[number] = _compaction(directory, number)
            elif process is not None and process.poll() is not None:
                stdout, stderr = process.communicate()
                # Succeeded, partial, or every group lost to the writers.
                assert process.returncode in {0, 3, 11}, stderr
                reports.append(json.loads(stdout))
                if reports[-1].get("groups", {}).get("committed"):
                    (directory / ENOUGH).touch()
                del running[number]
        time.sleep(0.05)
    return reports


def _expected(finished: list[dict[str, Any]]) -> pa.Table:
    rows = [
        {"writer": report["number"], "id": int(key), "value": value}
        for report in finished
        for key, value in report["content"].items()
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA.as_arrow())


def _keyed(rows: pa.Table) -> pa.Table:
    """Give rows a single key to be ordered by."""
    keys = pc.add(pc.multiply(rows["writer"], 1_000_000_000), rows["id"])
    return rows.append_column("key", keys)


@pytest.fixture(scope="module")
def race(tmp_path_factory: pytest.TempPathFactory) -> tuple[Table, list[Any], list[Any]]:
    directory = tmp_path_factory.mktemp("race")
    table = make_table(directory, SCHEMA, name="race", spec=PARTITIONED, properties=PROPERTIES)
    writers = [_writer(directory, kind, number) for number, kind in enumerate(WRITERS)]
    reports = _compact_until_over(directory)
    finished = []
    for writer in writers:
        stdout, _ = writer.communicate(timeout=500)
        assert writer.returncode == 0
        finished.append(json.loads(stdout))
    return table.refresh(), finished, reports


@pytest.mark.parametrize("engine", ["pyiceberg", "duckdb"])
def test_every_row_is_accounted_for(race: tuple, engine: str, tmp_path: Path) -> None:
    table, finished, _ = race
    head = table.current_snapshot()
    assert head is not None
    rows = READERS[engine](table.metadata_location, head.snapshot_id, tmp_path)
    expected = _keyed(_expected(finished))
    found = _keyed(rows.select(["writer", "id", "value"]))
    assert found.num_rows == expected.num_rows
    assert normalised(found, expected.schema, "key").equals(
        normalised(expected, expected.schema, "key")
    )


def test_no_replace_snapshot_changed_a_row(race: tuple) -> None:
    table, _, _ = race
    replaced = [s for s in table.snapshots() if s.summary.operation.value == "replace"]
    for snapshot in replaced[:: max(1, len(replaced) // 10)]:
        before, after = (
            _keyed(table.scan(snapshot_id=key).to_arrow())
            for key in (snapshot.parent_snapshot_id, snapshot.snapshot_id)
        )
        assert normalised(after, before.schema, "key").equals(
            normalised(before, before.schema, "key")
        )


def test_everyone_made_progress(race: tuple) -> None:
    table, finished, reports = race
    assert all(report["won"] > 0 for report in finished)
    assert any(s.summary.operation.value == "replace" for s in table.snapshots())
    assert sum(report.get("groups", {}).get("committed", 0) for report in reports) > 0


def test_the_compactions_left_no_orphan(race: tuple) -> None:
    table, _, reports = race
    jobs = [report["job"] for report in reports if "job" in report]
    # PyIceberg's own losers leave data files behind; ours carry the id of their job.
    ours = [p for p in unreferenced_files(table) if any(job in p for job in jobs)]
    assert ours == []
