"""Processes of jobs: how they end is recorded, by themselves or by whoever sees them end."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from sqlalchemy import insert

from catalog.errors import (
    AccessDeniedError,
    CommitConflictError,
    CommitUnknownError,
    CorruptTableError,
    ExplainedError,
    StorageError,
    TableNotFoundError,
)
from compactor.errors import TableBusyError
from compactor.jobs.owner import Owner
from compactor.jobs.report import GroupCounts, GroupProblem, JobReport
from compactor.jobs.state import JobState
from compactor.jobs.store import JobStore
from compactor.service.config import ServiceConfig
from compactor.service.duties import show_up
from compactor.service.executor import Executor
from compactor.service.job_process import class_of, outcome_of
from compactor.service.queue import ErrorClass, cancel
from compactor.service.registry import Registry
from compactor.service.schema import INSTANCES
from runtime.errors import TaskError
from tests.compactor.service.conftest import Configure
from tests.compactor.service.rows import INSTANCE, change_row, claimed, row_of, trigger
from tests.iceberg_tables import catalog_properties, make_table


def executor_of(store: JobStore, config: ServiceConfig, instance: str = INSTANCE) -> Executor:
    registry = Registry(store, config)
    registry.apply_configuration()
    with store.transaction() as connection:
        show_up(connection, instance, config.service, is_draining=False)
    return Executor(store, config, registry, instance=instance)


@pytest.fixture
def config(configure: Configure, tmp_path: Path) -> ServiceConfig:
    return configure(
        f'[service]\ndebounce = "0s"\nattempts_max = 2\nretry_delay = "0s"\nlogs = "{tmp_path}/l"\n'
        '[[tables]]\ntarget = "nowhere.a.one"\n'
    )


def children() -> list[psutil.Process]:
    found = psutil.Process().children()
    return [one for one in found if "compactor.service.job_process" in one.cmdline()]


def watched(executor: Executor, is_over: Callable[[], bool], seconds: float = 60) -> None:
    ends_at = time.monotonic() + seconds
    while not is_over():
        assert time.monotonic() < ends_at, "it does not end"
        executor.watch()
        time.sleep(0.05)


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_job_of_a_table_that_is_not_there_fails_for_good(
    store: JobStore, config: ServiceConfig
) -> None:
    executor = executor_of(store, config)
    trigger_id = trigger(store, config, "nowhere.a.one")
    assert (executor.fill(), executor.running) == (1, 1)
    watched(executor, lambda: executor.running == 0)
    row = row_of(store, trigger_id)
    assert (row.state, row.error_class) == ("failed", "fatal")
    assert row.reason.startswith("table-not-found: no catalog is named `nowhere`")
    assert "table-not-found" in executor.log_of(trigger_id).read_text()


def test_a_process_that_dies_is_tried_again_and_then_given_up(
    store: JobStore, config: ServiceConfig
) -> None:
    executor = executor_of(store, config)
    trigger_id = trigger(store, config, "nowhere.a.one")
    for state in ("pending", "dead"):
        assert executor.fill() == 1
        for child in children():
            child.kill()
        watched(executor, lambda: executor.running == 0)
        assert row_of(store, trigger_id).state == state
    assert "ended with -9" in row_of(store, trigger_id).reason


def test_an_instance_that_drains_gives_back_what_it_cannot_end(
    store: JobStore, config: ServiceConfig
) -> None:
    executor = executor_of(store, config)
    trigger_id = trigger(store, config, "nowhere.a.one")
    assert executor.fill() == 1
    executor.drain(wait_seconds=0)
    assert executor.running == 0
    row = row_of(store, trigger_id)
    # It may have ended just before, as it would have anyway.
    assert (row.state, row.attempts) in (("pending", 0), ("failed", 1))


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_job_that_runs_is_cancelled(
    store: JobStore, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in catalog_properties(tmp_path).items():
        monkeypatch.setenv(f"PYICEBERG_CATALOG__LAKE__{key.upper()}", value)
    table = make_table(tmp_path, pa.schema([("id", pa.int64())]))
    config = configure(
        f'[service]\ndebounce = "0s"\nlogs = "{tmp_path}/l"\n[[tables]]\ntarget = "lake.ns.t"\n'
    )
    executor = executor_of(store, config)
    trigger_id = trigger(store, config, "lake.ns.t")
    # Its process waits for the catalog as long as it is asked to end.
    with closing(sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)) as catalog:
        catalog.execute("BEGIN EXCLUSIVE")
        assert executor.fill() == 1
        watched(executor, lambda: row_of(store, trigger_id).pid != os.getpid())
        with store.transaction() as connection:
            assert cancel(connection, trigger_id, "asked by ada") is not None
        watched(executor, lambda: executor.running == 0)
        catalog.execute("ROLLBACK")
    assert row_of(store, trigger_id).state == "cancelled"
    assert executor.fill() == 0
    assert table.refresh().metadata.snapshots == []


def test_a_policy_that_makes_no_sense_starts_no_process(
    store: JobStore, config: ServiceConfig
) -> None:
    executor = executor_of(store, config)
    registry = Registry(store, config)
    # Each makes sense by itself.
    registry.set_policy("nowhere.*", policy={"strategy": "sort"}, care={}, actor="ada")
    registry.set_policy(
        "nowhere.a.*", policy={"strategy": "sort", "sort_by": "x"}, care={}, actor="ada"
    )
    registry.set_policy("nowhere.a.one", policy={"strategy": "binpack"}, care={}, actor="ada")
    trigger_id = trigger(store, config, "nowhere.a.one")
    executor.fill()
    assert executor.running == 0
    row = row_of(store, trigger_id)
    assert (row.state, row.error_class) == ("failed", "fatal")
    assert "sort_by names x" in row.reason


def test_what_instances_that_are_gone_left_running_is_adopted(
    store: JobStore, config: ServiceConfig
) -> None:
    trigger_id = trigger(store, config, "nowhere.a.one") if executor_of(store, config) else 0
    assert claimed(store, config, instance="gone") is not None
    with store.transaction() as connection:
        connection.execute(INSTANCES.delete())
        times = {"started_at_ms": 1, "seen_at_ms": 1, "jobs_max": 1, "is_draining": False}
        host = Owner.current().host
        gone = {"instance": "gone", "host": host, "pid": 1 << 22, **times}
        connection.execute(insert(INSTANCES).values(gone))
    assert executor_of(store, config, "new").adopt() == 1
    assert row_of(store, trigger_id).instance == "new"
    change_row(store, trigger_id, host="elsewhere", instance="gone")
    assert executor_of(store, config, "newer").adopt() == 0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TableNotFoundError("x"), ErrorClass.FATAL),
        (AccessDeniedError("x"), ErrorClass.FATAL),
        (StorageError("x"), ErrorClass.RETRYABLE),
        (CommitUnknownError("x"), ErrorClass.RETRYABLE),
        (TableBusyError("x"), ErrorClass.RETRYABLE),
        (CommitConflictError("x"), ErrorClass.CONFLICT),
        (CorruptTableError("x"), ErrorClass.POISON),
    ],
)
def test_errors_say_what_the_next_try_is_worth(error: ExplainedError, kind: ErrorClass) -> None:
    assert class_of(error) is kind
    wrapped = TaskError("in a task")
    wrapped.__cause__ = error
    assert class_of(wrapped) is kind


def report(status: JobState, committed: int = 0, *problems: GroupProblem) -> JobReport:
    figures = dict.fromkeys(("files_after", "rows_before", "rows_after"), 1)
    moved = {"bytes_read": 2, "bytes_written": 3, "bytes_spliced": 0, "bytes_kept": 0}
    rest = {"verified": True, "conflicts": 0, "cpu_seconds": 1.0, "peak_memory_bytes": 1}
    return JobReport(
        job="j",
        table="t",
        status=status,
        reason="",
        snapshot_before="1",
        snapshot_after="2",
        files_before=2,
        seconds=1.0,
        groups=GroupCounts(committed=committed),
        problems=problems,
        **figures,
        **moved,
        **rest,  # type: ignore[arg-type]
    )


def test_a_report_becomes_an_outcome() -> None:
    done = outcome_of(report(JobState.SUCCEEDED, 1))
    assert (done.status, done.error_class, done.snapshot_id) == ("succeeded", None, "2")
    assert done.bytes_moved == 5
    assert done.work.files_removed == 1
    idle = outcome_of(report(JobState.SUCCEEDED))
    assert (idle.status, idle.snapshot_id) == ("skipped", "")
    lost = GroupProblem("g", "", is_conflict=True, reason="lost")
    broken = GroupProblem("g", "", is_conflict=False, reason="broken")
    assert outcome_of(report(JobState.PARTIAL, 1, lost)).error_class is ErrorClass.CONFLICT
    mixed = outcome_of(report(JobState.PARTIAL, 1, lost, broken))
    assert (mixed.error_class, mixed.reason) == (ErrorClass.RETRYABLE, "lost; broken")
