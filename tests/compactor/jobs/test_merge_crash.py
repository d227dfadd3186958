"""kill -9 of a merge at every named place, then the same command again: exact, and once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from compactor.jobs.failpoints import VARIABLE, Failpoint, MergeFailpoint
from compactor.jobs.state import JobState
from tests.compactor.jobs.crashes import COMMIT_ANSWERED, COMMIT_STAGED
from tests.compactor.jobs.killing import ROOT
from tests.compactor.jobs.lake import (
    FILES_PER_PARTITION,
    PARTITIONS,
    ROWS_PER_FILE,
    Lake,
    lake_of,
    open_jobs,
)
from tests.compactor.jobs.lake_of_hudi import WORK_BEGUN, WORK_REQUESTED
from tests.compactor.jobs.merge_driver import CHANGES, source_of

ROWS = PARTITIONS * ROWS_PER_FILE * FILES_PER_PARTITION
UPDATED, DELETED = range(1, ROWS, 37), range(2, ROWS, 41)
NEW = range(ROWS, ROWS + 12)
# Places that only a second crash reaches, behind the one that leads there.
LEADS_TO = {
    Failpoint.DISCARD_BEGUN: Failpoint.ATTEMPT_SUBMITTED,
    Failpoint.DISCARD_DONE: Failpoint.ATTEMPT_SUBMITTED,
}
CRASHES: list[list[str]] = [
    *([place] for place in MergeFailpoint),
    *([LEADS_TO[place], place] if place in LEADS_TO else [place] for place in Failpoint),
    [COMMIT_STAGED],
    [COMMIT_ANSWERED],
    [f"{Failpoint.RESULT_JOURNALED}:3", Failpoint.DISCARD_BEGUN, COMMIT_STAGED, COMMIT_ANSWERED],
    [Failpoint.BATCH_ABSENT, COMMIT_STAGED, COMMIT_STAGED, Failpoint.BATCH_COMMITTED],
]
QUICK = [
    ("iceberg", "merge-on-read", [f"{Failpoint.RESULT_JOURNALED}:2", COMMIT_STAGED]),
    ("delta", "auto", [MergeFailpoint.CHANGES_MATCHED, COMMIT_ANSWERED]),
    ("hudi_merge", "auto", [WORK_REQUESTED, COMMIT_STAGED]),
]
# Each format and each mode dies everywhere; the formats in their other modes thoroughly.
WAYS = [
    ("iceberg", "merge-on-read"),
    ("delta", "copy-on-write"),
    ("hudi_merge", "auto"),
    pytest.param("iceberg", "copy-on-write", marks=pytest.mark.thorough),
    pytest.param("delta", "merge-on-read", marks=pytest.mark.thorough),
]

# Each command ends in seconds; where a machine has much else to do, a few of them take minutes.
pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Driven:
    """A table, changes of it, and the command that merges them."""

    kind: str
    mode: str
    directory: Path
    lake: Lake

    def drive(self, failpoint: str = "", runtime: str = "inline") -> subprocess.CompletedProcess:
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "tests.compactor.jobs.merge_driver"]
        return subprocess.run(
            [*command, str(self.directory), runtime, self.kind, self.mode],
            env={**os.environ, "PYTHONPATH": paths, VARIABLE: failpoint},
            capture_output=True,
            text=True,
            timeout=300,
        )

    def finish(self, runtime: str = "inline") -> dict[str, Any]:
        finished = self.drive(runtime=runtime)
        assert finished.returncode == 0, finished.stderr
        report: dict[str, Any] = json.loads(finished.stdout)
        return report


def arrive(directory: Path) -> None:
    """Write changes of rows of every partition in two files."""
    (directory / CHANGES).mkdir()
    for name, ids, op in (("1", UPDATED, "U"), ("2", [*DELETED, *NEW], "")):
        ops = [op or ("D" if n in DELETED else "I") for n in ids]
        days = [n % PARTITIONS for n in ids]
        rows = pa.table({"n": [*ids], "day": days, "text": [f"new {n}" for n in ids], "op": ops})
        pq.write_table(rows, directory / CHANGES / f"{name}.parquet")


def contents(lake: Lake) -> list[dict[str, Any]]:
    return sorted(lake.contents(), key=lambda row: row["n"])


def merged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the rows are once the changes are merged."""
    changed = {n: {"n": n, "day": n % PARTITIONS, "text": f"new {n}"} for n in (*UPDATED, *NEW)}
    kept = {row["n"]: row for row in rows if row["n"] not in DELETED}
    return [
        row
        for _, row in sorted((kept | {n: changed[n] for n in changed if n not in DELETED}).items())
    ]


@pytest.fixture
def driven(tmp_path: Path, kind: str, mode: str) -> Driven:
    lake = lake_of(kind, tmp_path)
    lake.make()
    arrive(tmp_path)
    return Driven(kind, mode, tmp_path, lake)


def kill_and_finish(driven: Driven, crashes: list[str], runtime: str) -> None:
    lake = driven.lake
    before = contents(lake)
    after = merged(before)
    for failpoint in crashes:
        killed = driven.drive(failpoint, runtime)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert contents(lake) in (before, after)
    report = driven.finish(runtime)
    assert contents(lake) == after
    assert lake.orphans() == []
    assert (report["status"], report["verified"]) == (JobState.SUCCEEDED, True)
    assert lake.open().watermark(source_of(driven.directory).name) == "2.parquet"
    snapshot = lake.open().snapshot()
    assert driven.finish()["groups"]["committed"] == 0
    assert lake.open().snapshot() == snapshot
    with open_jobs(driven.directory) as store:
        assert all(job.state.is_final for job in store.jobs())


def named(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "+".join(value)


@pytest.mark.parametrize(("kind", "mode", "crashes"), QUICK, ids=named)
def test_a_killed_merge_is_done_by_the_same_command(driven: Driven, crashes: list[str]) -> None:
    kill_and_finish(driven, crashes, "inline")


@pytest.mark.slow
@pytest.mark.parametrize("crashes", CRASHES, ids=named)
@pytest.mark.parametrize(("kind", "mode"), WAYS)
def test_a_merge_that_is_killed_anywhere_is_done(driven: Driven, crashes: list[str]) -> None:
    kill_and_finish(driven, crashes, "local")


@pytest.mark.slow
@pytest.mark.parametrize("crashes", [[WORK_REQUESTED], [WORK_BEGUN]], ids=named)
@pytest.mark.parametrize(("kind", "mode"), [("hudi_merge", "auto")])
def test_a_merge_that_is_killed_while_it_is_announced_is_done(
    driven: Driven, crashes: list[str]
) -> None:
    kill_and_finish(driven, crashes, "local")
