"""The job store: one database with every job, its groups, attempts and commit batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, Row, func, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError, OperationalError, SQLAlchemyError

from compactor.errors import JobFailedError, SettingsError
from compactor.jobs.database import READING, connect, make_engine
from compactor.jobs.migrations import JOB_STORE, Lineage, prepare
from compactor.jobs.outcomes import GroupOutcome
from compactor.jobs.owner import Owner
from compactor.jobs.schema import (
    ATTEMPTS,
    BATCHES,
    GROUPS,
    JOBS,
    LEASES,
)
from compactor.jobs.state import GroupState, JobState


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as the history shows it.

    Attributes:
        job: its id.
        table: the target.
        format: format of the table, for people.
        state: where it is, or how it ended.
        reason: why it ended so.
        is_running: whether a process holds its table now; an unfinished job that does not run
            was interrupted and is taken up by the next run of its table.
        groups: file groups of its plan.
        groups_committed: those in the table.
        input_bytes: bytes of the data files to be rewritten.
        snapshot_before: the snapshot that was planned against.
        created_at_ms: when it was recorded.
        updated_at_ms: when it last made a step.
        finished_at_ms: when it ended; None before.
    """

    job: str
    table: str
    format: str
    state: JobState
    reason: str
    is_running: bool
    groups: int
    groups_committed: int
    input_bytes: int
    snapshot_before: str
    created_at_ms: int
    updated_at_ms: int
    finished_at_ms: int | None


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """A file group of a job as the history shows it."""

    group_id: str
    partition: str
    state: GroupState
    attempts: int
    input_files: int
    input_bytes: int
    output_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try at a group; `state` is running, written, failed or discarded."""

    attempt_id: str
    group_id: str
    state: str
    error: str
    cpu_seconds: float
    predicted_bytes: int
    granted_bytes: int
    peak_memory_bytes: int
    started_at_ms: int
    finished_at_ms: int | None


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """One commit batch; `state` is committing, settled, absent or unknown."""

    batch_id: str
    state: str
    groups: int
    snapshot_id: str
    reason: str
    started_at_ms: int
    finished_at_ms: int | None


@dataclass(frozen=True, slots=True)
class JobDetail:
    """A job with everything it did.

    Attributes:
        job: the job.
        report: its report as JSON; None before it ended.
        groups: in the order of work.
        attempts: in the order they were begun.
        batches: in the order they were begun.
    """

    job: JobRecord
    report: str | None
    groups: tuple[GroupRecord, ...]
    attempts: tuple[AttemptRecord, ...]
    batches: tuple[BatchRecord, ...]


class JobStore:
    """A connection to the store; made by `open_store`, safe to use from several threads."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __enter__(self) -> JobStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Run statements that become durable together when the block ends.

        Raises:
            JobFailedError: the store cannot be read or written.
        """
        try:
            with connect(self.engine) as connection, connection.begin():
                yield connection
        except SQLAlchemyError as error:
            raise JobFailedError(
                f"the job store failed: {error.__cause__ or error}",
                hint="check the disk and `store.url`; the same command continues the job",
            ) from error

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Run statements that only read, all of them of one state, and keep no writer waiting.

        Raises:
            JobFailedError: the store cannot be read.
        """
        try:
            with (
                connect(self.engine).execution_options(**READING) as connection,
                connection.begin(),
            ):
                yield connection
        except SQLAlchemyError as error:
            raise JobFailedError(f"the job store failed: {error.__cause__ or error}") from error

    def jobs(self, *, table: str | None = None, limit: int = 50) -> tuple[JobRecord, ...]:
        """Return the newest jobs, newest first, of one table or of all."""
        query = _jobs_query().order_by(JOBS.c.created_at_ms.desc(), JOBS.c.job_id.desc())
        if table is not None:
            query = query.where(JOBS.c.table_name == table)
        with self.transaction() as connection:
            now = now_ms(connection)
            return tuple(_job(row, now) for row in connection.execute(query.limit(limit)))

    def lost_partitions(self, table: str, *, jobs: int) -> tuple[GroupOutcome, ...]:
        """Return what became of the partitions of which the newest jobs of a table lost groups.

        Newest first. Groups that nobody has worked on, and those that failed, are left out.
        """
        newest = (
            select(JOBS.c.job_id, JOBS.c.created_at_ms)
            .where(JOBS.c.table_name == table)
            .order_by(JOBS.c.created_at_ms.desc())
            .limit(jobs)
            .subquery()
        )
        lost, committed = GroupState.DROPPED.value, GroupState.COMMITTED.value
        of_newest = GROUPS.c.job_id == newest.c.job_id
        hit = select(GROUPS.c.partition).where(of_newest, GROUPS.c.state == lost).correlate(None)
        query = (
            select(
                GROUPS.c.job_id,
                newest.c.created_at_ms,
                GROUPS.c.partition,
                GROUPS.c.state == lost,
                GROUPS.c.reason,
            )
            .where(of_newest, GROUPS.c.state.in_((lost, committed)), GROUPS.c.partition.in_(hit))
            .order_by(newest.c.created_at_ms.desc(), GROUPS.c.job_id.desc(), GROUPS.c.position)
        )
        with self.transaction() as connection:
            rows = connection.execute(query).all()
        return tuple(GroupOutcome(*row) for row in rows)

    def job(self, job_id: str) -> JobDetail | None:
        """Return one job by its id or an unambiguous beginning of it; None when there is none."""
        with self.transaction() as connection:
            query = _jobs_query().add_columns(JOBS.c.report)
            rows = connection.execute(query.where(JOBS.c.job_id == job_id)).all()
            # The bounds are for the index; ids are letters up to `f` and digits.
            begins = JOBS.c.job_id.startswith(job_id, autoescape=True)
            within = JOBS.c.job_id.between(job_id, f"{job_id}z")
            rows = rows or connection.execute(query.where(within, begins).limit(2)).all()
            return _detail(connection, rows[0]) if len(rows) == 1 else None

    def owner(self, job_id: str) -> Owner | None:
        """Return the process that holds the table of a job for it; None when none does."""
        query = select(LEASES).where(LEASES.c.job_id == job_id)
        with self.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else Owner(row.host, row.pid, row.process_started_at)


def open_store(url: str, lineages: Sequence[Lineage] = (JOB_STORE,)) -> JobStore:
    """Open the store at a SQLAlchemy URL; its tables are made, or brought up to date.

    Args:
        url: the database.
        lineages: the tables that are wanted in it.

    Raises:
        SettingsError: the URL cannot be used, or the store belongs to a later program.
    """
    with ExitStack() as opening:
        try:
            engine = make_engine(url)
            opening.callback(engine.dispose)
            with engine.begin() as connection:
                versions = [prepare(connection, lineage) for lineage in lineages]
        except (SQLAlchemyError, OSError, ImportError) as error:
            hint = "set `store.url` to a place that can be written to"
            if _is_damaged(error) and url.startswith("sqlite"):
                hint = "move the file away: a new one is made, without the history"
            message = f"cannot open the job store `{shown_url(url)}`: {error.__cause__ or error}"
            raise SettingsError(message, hint=hint) from error
        _check_versions(url, versions, lineages)
        opening.pop_all()
    return JobStore(engine)


def _check_versions(url: str, versions: Sequence[int], lineages: Sequence[Lineage]) -> None:
    for version, lineage in zip(versions, lineages, strict=True):
        if version > lineage.version:
            raise SettingsError(
                f"the job store `{shown_url(url)}` belongs to a later version of compact: its"
                f" schema version is {version}, and this program knows {lineage.version} at most",
                hint="upgrade compact, or use another `store.url`",
            )


def _is_damaged(error: Exception) -> bool:
    """Tell a file that is no store from one that cannot be reached or written to."""
    return isinstance(error, DatabaseError) and not isinstance(error, OperationalError)


def shown_url(url: str) -> str:
    """Return the URL of a store as it may be told: without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return "store.url"


def now_ms(connection: Connection) -> int:
    """Return the time by the clock of the database, the one clock that leases are judged by."""
    if connection.dialect.name == "sqlite":
        days = text("SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)")
        return int(connection.execute(days).scalar_one())
    epoch = select(func.extract("epoch", func.clock_timestamp()))
    return int(float(connection.execute(epoch).scalar_one()) * 1000)


def _jobs_query() -> Any:
    committed = (
        select(func.count())
        .where(GROUPS.c.job_id == JOBS.c.job_id, GROUPS.c.state == GroupState.COMMITTED.value)
        .scalar_subquery()
        .label("groups_committed")
    )
    columns = [column for column in JOBS.c if column.name != "report"]
    holder = [LEASES.c.expires_at_ms, LEASES.c.host, LEASES.c.pid, LEASES.c.process_started_at]
    return select(*columns, committed, *holder).outerjoin(LEASES, LEASES.c.job_id == JOBS.c.job_id)


def _job(row: Row[Any], now: int) -> JobRecord:
    return JobRecord(
        job=row.job_id,
        table=row.table_name,
        format=row.format,
        state=JobState(row.state),
        reason=row.reason,
        is_running=_is_running(row, now),
        groups=row.group_count,
        groups_committed=row.groups_committed,
        input_bytes=row.input_bytes,
        snapshot_before=row.snapshot_before,
        created_at_ms=row.created_at_ms,
        updated_at_ms=row.updated_at_ms,
        finished_at_ms=row.finished_at_ms,
    )


def _is_running(row: Row[Any], now: int) -> bool:
    if row.expires_at_ms is None or row.expires_at_ms <= now:
        return False
    return not Owner(row.host, row.pid, row.process_started_at).is_known_dead()


def _detail(connection: Connection, row: Row[Any]) -> JobDetail:
    groups = select(GROUPS).where(GROUPS.c.job_id == row.job_id).order_by(GROUPS.c.position)
    attempts = (
        select(ATTEMPTS)
        .where(ATTEMPTS.c.job_id == row.job_id)
        .order_by(ATTEMPTS.c.started_at_ms, ATTEMPTS.c.attempt_id)
    )
    batches = select(BATCHES).where(BATCHES.c.job_id == row.job_id).order_by(BATCHES.c.number)
    return JobDetail(
        job=_job(row, now_ms(connection)),
        report=row.report,
        groups=tuple(_group(found) for found in connection.execute(groups)),
        attempts=tuple(_attempt(found) for found in connection.execute(attempts)),
        batches=tuple(_batch(found) for found in connection.execute(batches)),
    )


def _group(row: Row[Any]) -> GroupRecord:
    return GroupRecord(
        group_id=row.group_id,
        partition=row.partition,
        state=GroupState(row.state),
        attempts=row.attempts,
        input_files=row.input_files,
        input_bytes=row.input_bytes,
        output_bytes=row.output_bytes,
        reason=row.reason,
    )


def _attempt(row: Row[Any]) -> AttemptRecord:
    return AttemptRecord(
        attempt_id=row.attempt_id,
        group_id=row.group_id,
        state=row.state,
        error=row.error,
        cpu_seconds=row.cpu_seconds,
        predicted_bytes=row.predicted_bytes,
        granted_bytes=row.granted_bytes,
        peak_memory_bytes=row.peak_memory_bytes,
        started_at_ms=row.started_at_ms,
        finished_at_ms=row.finished_at_ms,
    )


def _batch(row: Row[Any]) -> BatchRecord:
    snapshot = msgspec.json.decode(row.snapshot) if row.snapshot else None
    return BatchRecord(
        batch_id=row.batch_id,
        state=row.state,
        groups=len(msgspec.json.decode(row.group_ids)),
        snapshot_id=snapshot["snapshot_id"] if snapshot else "",
        reason=row.reason,
        started_at_ms=row.started_at_ms,
        finished_at_ms=row.finished_at_ms,
    )
