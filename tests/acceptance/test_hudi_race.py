"""A Spark writer and our compactors race on a Hudi table under its lock; every row is told."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.hudi_judged import Judged, metadata_is_true
from tests.acceptance.program import start
from tests.judges.hudi_declared import TABLES
from tests.judges.hudi_session import shared_hudi_session
from tests.judges.hudi_tables import Write, changes
from tests.judges.spark_process import SparkError

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(900)]

SECONDS = 120
COMPACTORS = 2
LOCKED = {
    "hoodie.write.concurrency.mode": "optimistic_concurrency_control",
    "hoodie.clean.failed.writes.policy": "LAZY",
    "hoodie.write.lock.provider": (
        "org.apache.hudi.client.transaction.lock.FileSystemBasedLockProvider"
    ),
    "hoodie.write.lock.wait_time_ms_between_retry": "200",
    "hoodie.write.lock.num_retries": "100",
    "hoodie.compact.inline": "false",
}


@dataclass
class Writer:
    """Upserts and deletes rows, and remembers what must be there."""

    table: Judged
    # A compaction of version 6 begins only while nobody is in the middle of a write.
    rests: bool = False
    expected: dict[str, float] = field(default_factory=dict)
    writes: int = 0
    conflicts: int = 0

    def write_until(self, ended: threading.Event) -> None:
        """Write until the race has ended: a write that lost is not in the table."""
        number = 100
        while not ended.is_set():
            number += 1
            begun = time.monotonic()
            rows = {f"k{number % 7}": float(number), f"n{number}": float(number)}
            self._write("upsert", number, rows)
            if number % 3 == 0:
                self._write("delete", number, {f"k{(number + 3) % 7}": 0.0})
            if self.rests:
                ended.wait(time.monotonic() - begun)

    def _write(self, operation: str, number: int, rows: dict[str, float]) -> None:
        values = [
            f"('{key}', {number}L, 'p{ord(key[-1]) % 2}', {amount}D)"
            for key, amount in rows.items()
        ]
        write = Write(changes(*values), operation, LOCKED)
        try:
            self.table.spark.write(write, self.table.declared, self.table.path)
        except SparkError as error:
            if "HoodieWriteConflictException" not in str(error):
                raise
            self.conflicts += 1
            return
        self.writes += 1
        for key, amount in rows.items():
            self.expected.pop(key, None)
            if operation == "upsert":
                self.expected[key] = amount


@contextmanager
def writing(writer: Writer) -> Iterator[None]:
    """Have the writer write while the block runs."""
    ended = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(writer.write_until, ended)
        try:
            yield
        finally:
            ended.set()
        written.result()


def compact_until(end: float, table: Judged) -> list[dict[str, Any]]:
    """Have so many compactions run at any time; return what they report."""
    running: dict[int, subprocess.Popen[str]] = {}
    reports: list[dict[str, Any]] = []
    while time.monotonic() < end or running:
        for number in range(COMPACTORS):
            process = running.get(number)
            if process is None and time.monotonic() < end:
                running[number] = _compaction(table, number)
            elif process is not None and process.poll() is not None:
                stdout, stderr = process.communicate()
                # Succeeded, partial, or every group lost to the other.
                assert process.returncode in {0, 3, 11}, f"{stdout}\n{stderr}"
                reports.append(json.loads(stdout))
                del running[number]
        time.sleep(0.05)
    return reports


def _compaction(table: Judged, number: int) -> subprocess.Popen[str]:
    # Each has a job store of its own, as on machines that do not know of each other.
    return start(
        table.directory,
        *("run", "table/", "--yes", "--json", "--min-input-files", "2", "--workers", "1"),
        extra={"XDG_STATE_HOME": str(table.directory / f"state-{number}")},
    )


@pytest.mark.parametrize("name", [pytest.param("v6_mor", marks=pytest.mark.thorough), "v9_mor"])
def test_every_row_is_accounted_for(name: str, tmp_path: Path) -> None:
    declared = next(one for one in TABLES if one.name == name)
    table = Judged.of(shared_hudi_session(), declared, tmp_path)
    found = {row[0]: row[3] for row in table.shown_values()}
    writer = Writer(table, rests=name.startswith("v6"), expected=found)
    with writing(writer):
        reports = compact_until(time.monotonic() + SECONDS, table)
    assert {row[0]: row[3] for row in table.shown_values()} == writer.expected
    metadata_is_true(table)
    assert table.compact()["status"] == "succeeded"
    assert {row[0]: row[3] for row in table.shown_values()} == writer.expected
    metadata_is_true(table)
    assert sum(report["groups"]["committed"] for report in reports) >= COMPACTORS
    assert writer.writes > writer.conflicts
