"""The job store on a real PostgreSQL server: races, crashes of ours, crashes of the server's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text, update

from compactor.errors import JobFailedError, SettingsError, TableBusyError
from compactor.jobs import database
from compactor.jobs import lease as leases
from compactor.jobs.compaction import compact_table
from compactor.jobs.events import Event, GroupFinished
from compactor.jobs.failpoints import Failpoint
from compactor.jobs.journal import Journal
from compactor.jobs.lease import claim
from compactor.jobs.options import JobOptions
from compactor.jobs.retention import forget_old_jobs
from compactor.jobs.runner import JobEnvironment
from compactor.jobs.schema import ATTEMPTS, LEASES, SCHEMA_VERSION
from compactor.jobs.state import JobState
from compactor.jobs.store import JobStore, open_store
from runtime.connect import connect
from tests.compactor.jobs.crashes import COMMIT_ANSWERED
from tests.compactor.jobs.killing import ROOT, Driven, kill_and_finish
from tests.compactor.jobs.lake import PARTITIONS, POLICY, STORE_URL, lake_of
from tests.judges import postgres

pytestmark = pytest.mark.postgres
CLAIMS = 40


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Postgres]:
    programs = postgres.programs()
    if programs is None and postgres.REQUIRED not in os.environ:
        pytest.skip(f"{postgres.PACKAGE} is not installed (`make test-postgres` installs it)")
    assert programs is not None, f"it has to be there: apt-get install {postgres.PACKAGE}"
    with postgres.postgres_server(programs) as running:
        yield running


@pytest.fixture
def url(server: postgres.Postgres) -> str:
    return server.new_database()


@pytest.fixture
def store(url: str) -> Iterator[JobStore]:
    with open_store(url) as opened:
        yield opened


def cut_all_connections(store: JobStore) -> None:
    with (
        open_store(store.engine.url.render_as_string()) as other,
        other.transaction() as connection,
    ):
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


def test_the_tables_are_made_once_by_many(url: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        for opened in pool.map(open_store, [url] * 8):
            assert opened.jobs() == ()
            opened.close()


def test_a_store_of_an_earlier_version_is_changed_once_by_many(url: str) -> None:
    with open_store(url) as store, store.transaction() as connection:
        connection.execute(text("ALTER TABLE attempts DROP COLUMN predicted_bytes"))
        connection.execute(text("ALTER TABLE jobs ADD COLUMN plan BYTEA NOT NULL DEFAULT ''"))
        connection.execute(text("DROP TABLE plans"))
        connection.execute(text("DROP INDEX jobs_by_time"))
        connection.execute(text("UPDATE compactor_schema SET version = 1"))
    with ThreadPoolExecutor(8) as pool:
        for opened in pool.map(open_store, [url] * 8):
            with opened.transaction() as connection:
                found = connection.execute(text("SELECT version FROM compactor_schema"))
                assert found.scalars().all() == [SCHEMA_VERSION]
                connection.execute(text("SELECT predicted_bytes FROM attempts"))
                connection.execute(text("SELECT plan FROM plans"))
            opened.close()


def test_a_database_that_is_not_there_says_so(server: postgres.Postgres) -> None:
    missing = f"postgresql://{postgres.USER}@/nowhere?host={server.directory}"
    with pytest.raises(SettingsError, match='database "nowhere" does not exist'):
        open_store(missing)


def test_processes_that_claim_a_table_are_alone_and_their_fences_rise(
    url: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.compactor.jobs.claimants"]
    children = [
        subprocess.Popen(
            [*command, url, str(tmp_path / "marker"), str(CLAIMS)],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    answers = [json.loads(child.communicate("go\n", timeout=90)[0]) for child in children]
    assert all(fences == sorted(fences) for fences in answers)
    assert sorted(answers[0] + answers[1]) == list(range(1, 2 * CLAIMS + 1))


def test_threads_that_take_over_an_expired_claim_get_it_once(url: str, store: JobStore) -> None:
    with claim(store, "lake.t") as lost, ThreadPoolExecutor(6) as pool:
        with store.transaction() as connection:
            connection.execute(update(LEASES).values(expires_at_ms=0))
        is_over, gate = threading.Event(), threading.Barrier(6)

        def take(_: int) -> int | None:
            with open_store(url) as own:
                gate.wait()
                try:
                    with claim(own, "lake.t") as held:
                        is_over.wait(30)
                        return held.fence
                except TableBusyError:
                    return None

        futures = [pool.submit(take, number) for number in range(6)]
        while sum(future.done() for future in futures) < 5:
            time.sleep(0.05)
        is_over.set()
        fences = [fence for future in futures if (fence := future.result()) is not None]
        assert fences == [lost.fence + 1]


def test_who_lost_a_table_takes_no_further_step(store: JobStore) -> None:
    with claim(store, "lake.t") as held:
        late = Journal(store, held.job_id, fence=held.fence)
        late.discarded("an attempt")
        with store.transaction() as connection:
            connection.execute(update(LEASES).values(expires_at_ms=0))
        with claim(store, "lake.t"), pytest.raises(JobFailedError, match="lost the claim"):
            late.discarded("an attempt")


@pytest.mark.slow
def test_a_claim_outlives_a_crash_of_the_server(
    server: postgres.Postgres, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEWALS_PER_TTL", 200)
    with claim(store, "lake.t") as held:
        server.restart()
        Journal(store, held.job_id, fence=held.fence).discarded("an attempt")
        renewed_at = held._renewed_at
        for _ in range(100):
            if held._renewed_at > renewed_at:
                break
            time.sleep(0.1)
        assert held._renewed_at > renewed_at
    with claim(store, "lake.t") as again:
        assert again.fence == held.fence + 1


def test_messages_with_a_character_0_are_kept_readable(store: JobStore) -> None:
    values = {"attempt_id": "a", "job_id": "j", "group_id": "g", "number": 1, "state": "failed"}
    with store.transaction() as connection:
        connection.execute(insert(ATTEMPTS).values(values | {"error": "a\0b", "started_at_ms": 1}))
        assert connection.execute(select(ATTEMPTS.c.error)).scalar_one() == r"a\0b"


def test_a_connection_cut_between_steps_is_made_anew(store: JobStore) -> None:
    assert store.jobs() == ()
    cut_all_connections(store)
    assert store.jobs() == ()


def test_a_connection_cut_in_a_step_undoes_it_and_says_how_to_go_on(store: JobStore) -> None:
    def step() -> None:
        with store.transaction() as connection:
            connection.execute(text("INSERT INTO fences VALUES ('lake.t', 7)"))
            cut_all_connections(store)
            connection.execute(text("SELECT 1"))

    with pytest.raises(JobFailedError, match="the job store failed") as failed:
        step()
    assert "the same command continues the job" in failed.value.hint
    with store.transaction() as connection:
        assert connection.execute(text("SELECT count(*) FROM fences")).scalar_one() == 0


@pytest.mark.slow
def test_a_server_that_stays_away_is_not_waited_for_forever(
    server: postgres.Postgres, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "RECONNECT_SECONDS", 0.5)
    server.stop()
    try:
        with pytest.raises(JobFailedError, match="the job store failed"):
            store.jobs()
        with pytest.raises(SettingsError, match="cannot open the job store"):
            open_store(store.engine.url.render_as_string())
    finally:
        server.start()
    assert store.jobs() == ()


@pytest.mark.slow
def test_a_job_goes_on_over_crashes_of_the_server(
    server: postgres.Postgres, store: JobStore, tmp_path: Path
) -> None:
    lake = lake_of("iceberg", tmp_path)
    lake.make()
    before = lake.contents()
    finished: list[Event] = []

    def crash(event: Event) -> None:
        if isinstance(event, GroupFinished):
            finished.append(event)
            if len(finished) in (1, 3):
                server.restart()

    with connect("inline") as runtime:
        environment = JobEnvironment(runtime, store, crash)
        options = JobOptions(commit_groups_max=2)
        report = compact_table(lake.open(), POLICY, environment=environment, options=options)
    assert (report.status, report.verified) == (JobState.SUCCEEDED, True)
    assert lake.contents() == before
    assert lake.orphans() == []
    [job] = store.jobs()
    assert (job.state, job.groups_committed) == (JobState.SUCCEEDED, PARTITIONS)
    detail = store.job(job.job[:12])
    assert detail is not None
    assert {attempt.state for attempt in detail.attempts} == {"written"}
    assert forget_old_jobs(store, 3600) == 0
    assert forget_old_jobs(store, 0.001) == 1
    assert store.job(job.job) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "crashes",
    [
        [Failpoint.RESULT_JOURNALED],
        [Failpoint.ATTEMPT_SUBMITTED, Failpoint.DISCARD_BEGUN],
        [COMMIT_ANSWERED, Failpoint.JOB_ENDING],
    ],
    ids="+".join,
)
def test_a_killed_job_is_finished_by_the_same_command(
    url: str, tmp_path: Path, crashes: list[str]
) -> None:
    (tmp_path / STORE_URL).write_text(url)
    lake = lake_of("iceberg", tmp_path)
    lake.make()
    kill_and_finish(Driven("iceberg", tmp_path, lake), crashes)
