"""`compact serve` over a table that is written to all the time: it stays compact, and no row moves.

The service and its jobs are killed meanwhile: every trigger that was accepted is served, and every
job commits once.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation
from sqlalchemy.exc import OperationalError

from tests.acceptance.served import Served, wait_for
from tests.iceberg_tables import data_files, make_table, rows
from tests.judges.postgres import Postgres

TARGET = "lake.ns.t"
SECONDS = float(os.environ.get("COMPACT_SERVICE_SECONDS", "120"))
OPTIONS = 'debounce = "0.2s"\ndebounce_max = "1s"\nsweep_every = "2s"\nretry_delay = "0.5s"\n'
TABLES = (
    f'[[tables]]\ntarget = "{TARGET}"\nschedule = "every 5s"\npolicy = {{ min_input_files = 3 }}\n'
)
# What has come in since the last job, and what comes in while the next one is on its way.
FILES_MAX = 40
# What a writer is told when another one was first: nothing of its commit is in the table.
LOST = (CommitFailedException, OperationalError, ValueError)


class Writer:
    """Appends a row again and again."""

    def __init__(self, table: Table, pause_seconds: float) -> None:
        self.appended = 0
        self._table = table
        self._pause_seconds = pause_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _write(self) -> None:
        while not self._ended.wait(self._pause_seconds):
            try:
                self._table.refresh().append(pa.table({"id": [self.appended]}))
            except LOST:
                continue
            self.appended += 1


@pytest.fixture
def table(tmp_path: Path) -> Table:
    made = make_table(tmp_path, pa.schema([("id", pa.int64())]))
    for number in range(4):
        made.append(pa.table({"id": [-1 - number]}))
    return made


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    service = Served(tmp_path, OPTIONS, TABLES)
    yield service
    end(service)


def end(service: Served) -> None:
    """End whatever a test has left running."""
    if service.process is None:
        return
    if service.process.poll() is None:
        service.kill()
    for process in service.jobs_running():
        process.kill()


def commits_of(table: Table) -> list[str]:
    """Return the job of every snapshot that a job has made."""
    summaries = [one.summary for one in table.refresh().metadata.snapshots if one.summary]
    ours = [one for one in summaries if one.operation is Operation.REPLACE]
    return [str(one.additional_properties["compactor.job"]) for one in ours]


def serve_last(served: Served) -> None:
    """Send a last hook and wait until it is served: all before it are as well by then."""
    last = served.hook(TARGET, "last").json()["triggers"][0]
    query = f"SELECT 1 FROM triggers WHERE trigger_id = {last} AND state = 'done'"
    wait_for(lambda: served.rows(query), 120, "the last trigger is served")


def check(table: Table, served: Served, appended: int) -> None:
    ids = sorted(row["id"] for row in rows(table))
    assert ids == [*range(-4, 0), *range(appended)]
    # Every job of these tables makes one commit: it has one group.
    assert set(Counter(commits_of(table)).values()) == {1}
    ended = served.rows("SELECT job_id FROM triggers WHERE status = 'succeeded' AND job_id != ''")
    assert {job for (job,) in ended} <= set(commits_of(table))
    lost = served.rows(
        "SELECT reason FROM triggers WHERE state IN ('dead', 'failed')"
        " AND reason NOT LIKE '%goes on%'"
    )
    assert lost == []


def test_a_hook_a_schedule_and_crashes(table: Table, served: Served) -> None:
    served.start()
    first = served.hook(TARGET, "one")
    assert (first.status_code, first.json()["result"]) == (202, "accepted")
    again = served.hook(TARGET, "one")
    assert (again.status_code, again.json()["triggers"]) == (200, first.json()["triggers"])
    wait_for(served.jobs_running, 30, "a job runs")
    for process in served.jobs_running():
        process.kill()
    served.kill()
    served.start()
    wait_for(lambda: len(data_files(table)) == 1, 60, "the table is compact")
    wait_for(
        lambda: served.rows("SELECT 1 FROM triggers WHERE source = 'schedule' AND state = 'done'"),
        60,
        "the schedule has begun a job",
    )
    assert served.stop() == 0
    check(table, served, 0)
    # Our own commits are no reason for anything.
    assert served.rows("SELECT 1 FROM triggers WHERE source = 'sweep'") == []


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_a_table_that_is_written_to_stays_compact(table: Table, served: Served) -> None:
    served.start()
    ends_at, sizes, hooks = time.monotonic() + SECONDS, [], 0
    with Writer(table, 1.0) as writer:
        while time.monotonic() < ends_at:
            hooks += served.hook(TARGET, f"h{writer.appended}").status_code in (200, 202)
            time.sleep(2)
            sizes.append(len(data_files(table)))
    serve_last(served)
    assert served.stop() == 0
    assert hooks > 0
    assert max(sizes[5:]) < FILES_MAX
    check(table, served, writer.appended)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Served]]:
    """Two instances on one store."""
    url = ""
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_server").new_database()
    made = [Served(tmp_path, OPTIONS, TABLES, url) for _ in range(2)]
    yield made
    for one in made:
        end(one)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_two_instances_that_are_killed_again_and_again(table: Table, pair: list[Served]) -> None:
    served = pair[0]
    for one in pair:
        one.start()
    ends_at, accepted = time.monotonic() + SECONDS / 2, []
    with Writer(table, 0.5) as writer:
        number = 0
        while time.monotonic() < ends_at:
            number += 1
            victim, stays = pair[number % 2], pair[(number + 1) % 2]
            answer = stays.hook(TARGET, f"k{number}")
            accepted += [number] if answer.status_code in (200, 202) else []
            time.sleep(1.5)
            for process in served.jobs_running()[: number % 3 == 0]:
                process.kill()
            victim.kill()
            victim.start()
    serve_last(served)
    assert [one.stop() for one in pair] == [0, 0]
    kept = served.rows("SELECT delivery_id FROM deliveries")
    assert {f"k{one}" for one in accepted} <= {key for (key,) in kept}
    check(table, served, writer.appended)


@pytest.mark.slow
@pytest.mark.postgres
def test_a_database_that_goes_away_comes_back(
    table: Table, postgres_server: Postgres, tmp_path: Path
) -> None:
    service = Served(tmp_path, OPTIONS, TABLES, postgres_server.new_database())
    service.start()
    try:
        postgres_server.stop()
        try:
            assert service.hook(TARGET, "away").status_code == 503
            assert not service.is_ready()
        finally:
            postgres_server.start()
        wait_for(lambda: service.hook(TARGET, "back").status_code in (200, 202), 60, "it is back")
        wait_for(service.is_ready, 60, "it is ready again")
        wait_for(lambda: len(data_files(table)) == 1, 60, "the table is compact")
        serve_last(service)
        assert service.stop() == 0
        check(table, service, 0)
    finally:
        end(service)


@pytest.mark.ray
@pytest.mark.timeout(400)
def test_a_job_runs_on_ray_where_its_table_says_so(table: Table, tmp_path: Path) -> None:
    on_ray = f'{TABLES}runtime = "ray"\n'.replace("every 5s", "every 1h")
    service = Served(tmp_path, OPTIONS, on_ray)
    service.start()
    try:
        assert service.hook(TARGET, "one").status_code == 202
        wait_for(lambda: len(data_files(table)) == 1, 240, "the table is compact")
        assert service.stop() == 0
        check(table, service, 0)
    finally:
        end(service)
