"""Four compactors race appends, deletes and merges on a Delta table; every row is accounted for."""

from __future__ import annotations

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.program import start
from tests.catalog.delta.test_commit_race import Race, check, run
from tests.delta_tables import unreferenced_files
from tests.judges.delta_engines import READERS, read_ids_with_duckdb
from tests.judges.spark_session import SparkSession

SECONDS = 120
COMPACTORS = 4
WRITERS = ("append", "append", "delete", "merge")

pytestmark = [pytest.mark.slow, pytest.mark.interop, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Raced:
    """A race that is over.

    Attributes:
        race: the table, and what its writers were told.
        reports: what each compaction reported.
    """

    race: Race
    reports: list[dict[str, Any]]

    @property
    def path(self) -> str:
        return str(self.race.lake.directory)


def compact_until(end: float, table: Path, compactors: int) -> list[dict[str, Any]]:
    """Have so many compactions run at any time; return what they report."""
    running: dict[int, subprocess.Popen[str]] = {}
    reports: list[dict[str, Any]] = []
    while time.monotonic() < end or running:
        for number in range(compactors):
            process = running.get(number)
            if process is None and time.monotonic() < end:
                running[number] = _compaction(table, number)
            elif process is not None and process.poll() is not None:
                stdout, stderr = process.communicate()
                # Succeeded, partial, or every group lost to the others.
                assert process.returncode in {0, 3, 11}, stderr
                reports.append(json.loads(stdout) | {"compactor": number})
                del running[number]
        time.sleep(0.05)
    return reports


def _compaction(table: Path, number: int) -> subprocess.Popen[str]:
    # Each has a job store of its own, as on machines that do not know of each other.
    return start(
        table.parent,
        *("run", str(table), "--yes", "--json", "--min-input-files", "2", "--workers", "1"),
        extra={"XDG_STATE_HOME": str(table.parent / f"state-{number}")},
    )


def raced(directory: Path, writers: tuple[str, ...], compactors: int, seconds: float) -> Raced:
    table = directory / "lake"
    with ThreadPoolExecutor(1) as pool:
        racing = pool.submit(run, directory, seconds, writers)
        while not (table / "_delta_log" / f"{24:020}.json").exists():
            time.sleep(0.1)
        reports = compact_until(time.monotonic() + seconds, table, compactors)
        return Raced(racing.result(), reports)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Raced:
    return raced(tmp_path_factory.mktemp("crowd"), WRITERS, COMPACTORS, SECONDS)


def test_every_row_is_accounted_for(crowd: Raced) -> None:
    check(crowd.race)


def test_every_engine_reads_them(crowd: Raced, spark: SparkSession) -> None:
    expected = sorted(crowd.race.expected())
    for read in READERS.values():
        assert sorted(read(crowd.path)["id"].to_pylist()) == expected
    assert sorted(read_ids_with_duckdb(crowd.path)["id"].to_pylist()) == expected
    found = spark.rows(f"SELECT id FROM delta.`{crowd.path}`")
    assert sorted(found["id"].to_pylist()) == expected


def test_everyone_made_progress(crowd: Raced) -> None:
    # A merge by copy on write may lose to everybody for as long as it is so crowded.
    progressed = {name.split()[0] for name, told in crowd.race.told.items() if told}
    assert {"append", "delete"} <= progressed
    assert sum(report["groups"]["committed"] for report in crowd.reports) >= COMPACTORS


def test_those_who_have_met_keep_apart(crowd: Raced) -> None:
    """In the first job of each all plan the same; from then on most of what is begun commits."""
    met: set[int] = set()
    committed = lost = 0
    for report in crowd.reports:
        if report["compactor"] in met:
            committed += report["groups"]["committed"]
            lost += report["conflicts"]
        met.add(report["compactor"])
    assert committed >= lost


def test_no_group_was_lost_to_a_delete(crowd: Raced) -> None:
    problems = [one for report in crowd.reports for one in report["problems"]]
    assert not [one for one in problems if "deleted" in one["reason"]]


def test_the_compactions_left_no_orphan(crowd: Raced) -> None:
    jobs = [report["job"] for report in crowd.reports if report["job"]]
    # What deltalake's losers leave behind is theirs; ours carries the id of its job.
    left = unreferenced_files(Path(crowd.path))
    assert [one for one in left if any(job in one for job in jobs)] == []


def test_most_groups_of_a_hot_table_are_committed(tmp_path: Path) -> None:
    hot = raced(tmp_path, ("append", "append", "delete", "delete"), 1, 30)
    check(hot.race)
    committed = sum(report["groups"]["committed"] for report in hot.reports)
    lost = sum(report["conflicts"] for report in hot.reports)
    assert committed > 0
    assert committed >= lost
