"""Stores of earlier programs: brought up to date when opened, once, or left as they were."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import inspect, select, update

from compactor.errors import SettingsError
from compactor.jobs import migrations
from compactor.jobs.journal import Journal
from compactor.jobs.lease import claim
from compactor.jobs.retention import forget_old_jobs
from compactor.jobs.schema import SCHEMA_VERSION, VERSION
from compactor.jobs.store import JobStore, open_store

ROOT = Path(__file__).resolve().parents[3]
# Written by the program of then, killed in the middle of a job: two of five groups are written.
DUMP = ROOT / "tests" / "fixtures" / "job_stores" / "version_1.sql"
JOB = "1a205cd03b00f389e45"
TABLE = "lake.ns.t"


@pytest.fixture
def old_store(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(DUMP.read_text(encoding="utf-8"))
    return path


def with_plans_among_jobs(path: Path) -> None:
    """Turn it into a store of the first programs of version 1."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ALTER TABLE jobs ADD COLUMN plan BLOB NOT NULL DEFAULT x''")
        connection.execute("UPDATE jobs SET plan = (SELECT plan FROM plans)")
        connection.execute("DROP TABLE plans")


def indexes(store: JobStore) -> set[tuple[str, str | None]]:
    with store.engine.connect() as connection:
        looked = inspect(connection)
        tables = looked.get_table_names()
        return {(table, one["name"]) for table in tables for one in looked.get_indexes(table)}


def columns(store: JobStore) -> dict[str, set[tuple[str, str, bool]]]:
    with store.engine.connect() as connection:
        looked = inspect(connection)
        return {
            table: {
                (column["name"], str(column["type"]), column["nullable"])
                for column in looked.get_columns(table)
            }
            for table in looked.get_table_names()
        }


@pytest.mark.parametrize("change", [lambda path: None, with_plans_among_jobs], ids=["1b", "1a"])
def test_a_store_of_an_earlier_version_is_brought_up_to_date(
    old_store: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    change(old_store)
    with open_store(f"sqlite:///{old_store}") as store:
        with store.transaction() as connection:
            assert connection.execute(select(VERSION.c.version)).scalars().all() == [SCHEMA_VERSION]
        with open_store(f"sqlite:///{tmp_path}/new.db") as new:
            assert columns(store) == columns(new)
            assert indexes(store) == indexes(new)
        detail = store.job(JOB)
        assert detail is not None
        assert [attempt.predicted_bytes for attempt in detail.attempts] == [0] * 5
        assert {attempt.state for attempt in detail.attempts} == {"written", "running"}
        journal = Journal(store, JOB)
        assert [group.group_id for group in journal.plan().groups] == [
            group.group_id for group in journal.groups()
        ]
        assert sum(attempt.result is not None for attempt in journal.attempts()) == 2
        with claim(store, TABLE) as held:
            assert (held.job_id, held.is_resumable, held.fence) == (JOB, True, 2)


def test_a_program_of_before_that_still_runs_can_go_on(old_store: Path) -> None:
    with closing(sqlite3.connect(old_store)) as running, running:
        open_store(f"sqlite:///{old_store}").close()
        running.execute(
            "INSERT INTO attempts (attempt_id, job_id, group_id, number, state, error,"
            " cpu_seconds, granted_bytes, peak_memory_bytes, started_at_ms)"
            " VALUES ('new', ?, '0002', 2, 'running', '', 0, 0, 0, 1)",
            (JOB,),
        )
    with open_store(f"sqlite:///{old_store}") as store:
        assert "new" in {attempt.attempt_id for attempt in Journal(store, JOB).attempts()}


def test_a_step_that_fails_leaves_the_store_as_it_was(old_store: Path) -> None:
    def fail(connection: object) -> None:
        migrations._to_2(connection)
        raise OSError("the disk is gone")

    failing = replace(migrations.JOB_STORE, steps=(fail,))
    with closing(sqlite3.connect(old_store)) as connection:
        before = list(connection.iterdump())
    with pytest.raises(SettingsError, match="the disk is gone"):
        open_store(f"sqlite:///{old_store}", (failing,))
    with closing(sqlite3.connect(old_store)) as connection:
        assert list(connection.iterdump()) == before
    open_store(f"sqlite:///{old_store}").close()


def test_processes_that_open_it_at_once_change_it_once(old_store: Path) -> None:
    program = (
        "import sys; from compactor.jobs.store import open_store\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        f"print(open_store('sqlite:///{old_store}').job('{JOB}').job.job)"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program],
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
    answers = [child.communicate("go\n", timeout=60)[0] for child in children]
    assert answers == [f"{JOB}\n"] * 2


def test_a_new_store_is_made_once_by_many(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    with ThreadPoolExecutor(8) as pool:
        for store in pool.map(open_store, [url] * 8):
            assert store.jobs() == ()
            store.close()


def test_a_store_of_a_later_program_is_refused_and_left(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    with open_store(url) as store, store.transaction() as connection:
        connection.execute(update(VERSION).values(version=SCHEMA_VERSION + 1))
    for _ in range(2):
        with pytest.raises(SettingsError, match="belongs to a later version") as refused:
            open_store(url)
    assert "upgrade" in refused.value.hint


def test_an_interrupted_job_of_an_earlier_program_is_kept(old_store: Path) -> None:
    with open_store(f"sqlite:///{old_store}") as store:
        assert forget_old_jobs(store, 0.001) == 0
        assert store.job(JOB) is not None
