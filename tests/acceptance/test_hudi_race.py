"""A Spark writer and our compactors race on a Hudi table under its lock; every row is told."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from catalog.location import Location
from catalog.storage import Storage
from tests.acceptance.hudi_judged import Judged, metadata_is_true
from tests.acceptance.program import start
from tests.catalog.storage.s3_server import new_bucket, s3_properties
from tests.judges.environment import ROOT
from tests.judges.hudi_declared import TABLES
from tests.judges.hudi_session import hudi_session_on_s3, shared_hudi_session
from tests.judges.hudi_tables import HudiTable, Write, changes
from tests.judges.moto_process import moto_server
from tests.judges.spark_process import SparkError

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(2400)]

COMPACTORS = 2
# However busy the machine is.
WRITES_MIN = 4
LOCKED = {
    "hoodie.write.concurrency.mode": "optimistic_concurrency_control",
    "hoodie.clean.failed.writes.policy": "LAZY",
    "hoodie.write.lock.wait_time_ms_between_retry": "200",
    "hoodie.write.lock.num_retries": "100",
    "hoodie.compact.inline": "false",
}
_PROVIDERS = "org.apache.hudi.client.transaction.lock"
BY_FILE = {**LOCKED, "hoodie.write.lock.provider": f"{_PROVIDERS}.FileSystemBasedLockProvider"}
BY_OBJECT = {**LOCKED, "hoodie.write.lock.provider": f"{_PROVIDERS}.StorageBasedLockProvider"}
_MOTO = ROOT / "tests" / "judges" / "moto_with_conditions.py"
_KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}


@dataclass(frozen=True)
class Place:
    """A table where Spark and we have it, and how Spark locks it."""

    table: Judged
    path: Path | str
    target: str
    options: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=dict)

    def amounts(self) -> dict[str, float]:
        """Return what Spark reads, each key once."""
        rows = self.table.spark.read(self.path).to_pylist()
        found = {row["id"]: row["amount"] for row in rows}
        assert len(found) == len(rows)
        return found

    def start(self, number: int) -> subprocess.Popen[str]:
        """Start a compaction with the job store of that number."""
        # As on machines that do not know of each other.
        store = {"XDG_STATE_HOME": str(self.table.directory / f"state-{number}")}
        return start(
            self.table.directory,
            *("run", self.target, "--yes", "--json", "--min-input-files", "2", "--workers", "1"),
            extra={**self.environment, **store},
        )

    def has_true_metadata(self) -> bool:
        """Ask Spark to compare what the metadata table says of files with what is there."""
        listed = self.table.call("validate_metadata_table_files", self.path, verbose=True)
        return bool(listed) and all(one["fs_size"] == one["metadata_size"] for one in listed)


@dataclass
class Writer:
    """Upserts and deletes rows, and remembers what must be there."""

    place: Place
    expected: dict[str, float]
    # A compaction of version 6 begins only while nobody is in the middle of a write.
    rests: bool = False
    writes: int = 0
    conflicts: int = 0
    is_through: bool = False

    def write_until(self, ended: threading.Event) -> None:
        """Write until the race has ended: a write that lost is not in the table."""
        try:
            number = 100
            while not ended.is_set():
                number += 1
                self._write_some(number, ended)
        finally:
            self.is_through = True

    def _write_some(self, number: int, ended: threading.Event) -> None:
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
        write = Write(changes(*values), operation, self.place.options)
        table = self.place.table
        try:
            table.spark.write(write, table.declared, self.place.path)
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


def compact_while(lasts: Callable[[], bool], place: Place) -> list[dict[str, Any]]:
    """Have so many compactions run at any time; return what they report."""
    running: dict[int, subprocess.Popen[str]] = {}
    reports: list[dict[str, Any]] = []
    while lasts() or running:
        for number in range(COMPACTORS):
            process = running.get(number)
            if process is None and lasts():
                running[number] = place.start(number)
            elif process is not None and process.poll() is not None:
                stdout, stderr = process.communicate()
                # Succeeded, partial, or every group lost to the other.
                assert process.returncode in {0, 3, 11}, f"{stdout}\n{stderr}"
                reports.append(json.loads(stdout))
                del running[number]
        time.sleep(0.05)
    return reports


def race(place: Place, seconds: float) -> None:
    """Race on a table: every row must be told, and both sides must have come through."""
    rests = place.table.declared.options["hoodie.write.table.version"] == "6"
    writer = Writer(place, place.amounts(), rests)
    end = time.monotonic() + seconds
    with writing(writer):
        reports = compact_while(
            lambda: (
                not writer.is_through and (time.monotonic() < end or writer.writes < WRITES_MIN)
            ),
            place,
        )
    assert place.amounts() == writer.expected
    assert place.has_true_metadata()
    last = place.start(0)
    stdout, stderr = last.communicate(timeout=600)
    assert last.returncode == 0, f"{stdout}\n{stderr}"
    assert place.amounts() == writer.expected
    assert place.has_true_metadata()
    folded = sum(report["groups"]["committed"] for report in reports)
    print(  # noqa: T201
        f"{writer.writes} writes and {writer.conflicts} conflicts of Spark's,"
        f" {len(reports)} runs of ours with {folded} groups, {len(writer.expected)} rows"
    )
    assert folded >= COMPACTORS
    assert writer.writes > writer.conflicts


def named(name: str) -> HudiTable:
    return next(one for one in TABLES if one.name == name)


LONG = 120.0
SHORT = 30.0


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("v9_mor", SHORT),
        pytest.param("v9_mor", LONG, marks=pytest.mark.thorough),
        pytest.param("v6_mor", LONG, marks=pytest.mark.thorough),
    ],
)
def test_every_row_is_accounted_for(name: str, seconds: float, tmp_path: Path) -> None:
    table = Judged.of(shared_hudi_session(), named(name), tmp_path)
    race(Place(table, table.path, "table/", BY_FILE), seconds)
    metadata_is_true(table)


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("v9_mor", SHORT),
        pytest.param("v9_mor", LONG, marks=pytest.mark.thorough),
        pytest.param("v6_mor", LONG, marks=pytest.mark.thorough),
    ],
)
def test_every_row_is_accounted_for_in_an_object_store(
    name: str, seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in _KEYS.items():
        monkeypatch.setenv(key, value)
    with moto_server(_MOTO) as endpoint, hudi_session_on_s3(tmp_path, endpoint) as spark:
        bucket = new_bucket(endpoint).authority
        place = Place(
            Judged(spark, named(name), tmp_path),
            f"s3a://{bucket}/table",
            f"s3://{bucket}/table",
            BY_OBJECT,
            {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1", **_KEYS},
        )
        for step in named(name).steps:
            spark.take(step, named(name), place.path)
        race(place, seconds)
        lock = Location.parse(f"{place.target}/.hoodie/.locks/table_lock.json")
        assert json.loads(Storage.from_properties(s3_properties(endpoint)).read(lock))["expired"]
