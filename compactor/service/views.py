"""What the service can tell of itself: frozen values for pages, the job API and metrics.

Everything is read in transactions that keep no writer waiting. Lists come in pages: each page is
found by the key that the one before it has ended with, so that the last one is as quick as the
first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, select

from compactor.jobs.store import JobDetail, JobStore, now_ms
from compactor.service.config import Budget, ServiceOptions
from compactor.service.due import day_ends_ms
from compactor.service.queue import RowState, situation
from compactor.service.schema import (
    AUDIT,
    DELIVERIES,
    DUTIES,
    HEALTH,
    INSTANCES,
    TABLES,
    TOTALS,
    TRIGGERS,
)
from compactor.service.waiting import Situation, Waiter, why

PAGE_MAX = 500
GOOD_HEALTH, FAIR_HEALTH = 80, 50
_RECENT = 20


@dataclass(frozen=True, slots=True)
class TableView:
    """A registered table.

    Attributes:
        target: its name.
        namespace: what quotas are counted by.
        location: where it lies; empty until that is known.
        format: for people; empty until it was looked into.
        health: score; None until it was looked into.
        health_reasons: what takes points away.
        health_at_ms: when it was looked into.
        files: data files.
        small_files: those below the wanted size.
        delete_files: delete files that apply.
        size_bytes: bytes of the data files.
        rows: rows stored.
        snapshot_id: the snapshot of these figures.
        schedule: when a job is due; empty for none.
        window: when jobs may begin; empty for any time.
        due_at_ms: when its schedule is due next.
        is_enabled: whether its configuration wants jobs.
        is_paused: whether somebody has paused it.
        is_missing: whether it is gone.
        trouble: why it cannot be looked at; empty when it can.
        compacted_at_ms: when a job of it last succeeded.
        state: of its row in the queue: `running`, `pending`, or `idle`.
        why: why nothing happens; empty while something does.
    """

    target: str
    namespace: str
    location: str
    format: str
    health: int | None
    health_reasons: tuple[str, ...]
    health_at_ms: int | None
    files: int
    small_files: int
    delete_files: int
    size_bytes: int
    rows: int
    snapshot_id: str
    schedule: str
    window: str
    due_at_ms: int | None
    is_enabled: bool
    is_paused: bool
    is_missing: bool
    trouble: str
    compacted_at_ms: int | None
    state: str
    why: str


@dataclass(frozen=True, slots=True)
class TriggerView:
    """A row of the queue: a job that waits, runs, or has ended.

    Attributes:
        trigger_id: its number; later rows have higher ones.
        target: the table.
        state: of the row.
        status: how its last try ended; empty before.
        why: why it waits, or why it ended as it did.
        source: what made the last trigger of it.
        cause: the same, for people.
        hints: triggers that became part of it.
        priority: 0 comes first.
        attempts: tries so far.
        error_class: of the last error; empty for none.
        job_id: the job of the job store; empty until it has one.
        first_at_ms: when its first trigger came.
        last_at_ms: when its last trigger came.
        claimed_at_ms: when its last try began.
        finished_at_ms: when it ended.
        bytes_moved: bytes read and written.
        cpu_seconds: CPU time.
        is_cancelling: whether its end was asked for.
    """

    trigger_id: int
    target: str
    state: str
    status: str
    why: str
    source: str
    cause: str
    hints: int
    priority: int
    attempts: int
    error_class: str
    job_id: str
    first_at_ms: int
    last_at_ms: int
    claimed_at_ms: int | None
    finished_at_ms: int | None
    bytes_moved: int
    cpu_seconds: float
    is_cancelling: bool


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """A delivery and its answer."""

    source: str
    delivery_id: str
    received_at_ms: int
    kind: str
    trigger_ids: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class HealthPoint:
    """Health of a table at a moment."""

    at_ms: int
    score: int
    files: int
    small_files: int
    delete_files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class InstanceView:
    """An instance of the service."""

    instance: str
    host: str
    pid: int
    started_at_ms: int
    seen_at_ms: int
    jobs_max: int
    is_draining: bool


@dataclass(frozen=True, slots=True)
class DutyView:
    """Work that one instance does for all: when it was done last, and what came of it."""

    duty: str
    instance: str
    done_at_ms: int
    result: str


@dataclass(frozen=True, slots=True)
class AuditView:
    """An entry of the audit log."""

    entry_id: int
    at_ms: int
    actor: str
    action: str
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole service at a moment.

    Attributes:
        now_ms: the moment, by the clock of the database.
        tables: tables by health: `good`, `fair`, `poor`, `unknown`.
        files: data files of all tables.
        small_files: those below the wanted size.
        size_bytes: their bytes.
        queue: rows that wait and rows that run.
        oldest_waiting_ms: how long the row that waits longest has waited; 0 without one.
        jobs_max: jobs that may run at once.
        bytes_today: bytes that jobs moved today.
        jobs_today: jobs begun today.
        budget_bytes_left: bytes that may be moved until midnight; None for no limit.
        day_ends_ms: that midnight.
        totals: what all jobs together have done, by name and label.
    """

    now_ms: int
    tables: Mapping[str, int]
    files: int
    small_files: int
    size_bytes: int
    queue: Mapping[str, int]
    oldest_waiting_ms: int
    jobs_max: int
    bytes_today: int
    jobs_today: int
    budget_bytes_left: int | None
    day_ends_ms: int
    totals: Mapping[tuple[str, str], float]


class Views:
    """Reads the store of the service."""

    def __init__(self, store: JobStore, options: ServiceOptions, budget: Budget) -> None:
        self._store = store
        self._options = options
        self._budget = budget

    def overview(self) -> Overview:
        """Return the whole service at this moment."""
        with self._store.reading() as connection:
            now = situation(connection, self._options, self._budget)
            sums = connection.execute(_SUMS).one()
            by_state = connection.execute(
                select(TRIGGERS.c.state, func.count(), func.min(TRIGGERS.c.first_at_ms))
                .where(TRIGGERS.c.state.in_(("pending", "running")))
                .group_by(TRIGGERS.c.state)
            ).all()
            totals = {(row.name, row.label): row.value for row in connection.execute(_TOTALS)}
        first = min((row[2] for row in by_state if row[0] == "pending"), default=now.now_ms)
        limit = self._budget.bytes_per_day
        return Overview(
            now_ms=now.now_ms,
            tables={name: int(getattr(sums, name)) for name in ("good", "fair", "poor", "unknown")},
            files=int(sums.files),
            small_files=int(sums.small_files),
            size_bytes=int(sums.size_bytes),
            queue={row[0]: row[1] for row in by_state},
            oldest_waiting_ms=now.now_ms - first,
            jobs_max=now.jobs_max,
            bytes_today=now.bytes_today,
            jobs_today=now.jobs_today,
            budget_bytes_left=None if limit is None else max(0, limit - now.bytes_today),
            day_ends_ms=day_ends_ms(now.now_ms, self._budget.zone),
            totals=totals,
        )

    def tables(
        self, *, after: str = "", matching: str = "", health_below: int | None = None,
        limit: int = 100,
    ) -> tuple[TableView, ...]:  # fmt: skip
        """Return tables by name.

        Args:
            after: the last name of the page before.
            matching: text within the name.
            health_below: only tables with a lower score.
            limit: tables at most, up to `PAGE_MAX`.
        """
        query = select(TABLES).where(TABLES.c.target > after).order_by(TABLES.c.target)
        if matching:
            query = query.where(TABLES.c.target.contains(matching, autoescape=True))
        if health_below is not None:
            query = query.where(TABLES.c.health < health_below)
        return self._tables(query.limit(min(limit, PAGE_MAX)))

    def worst_tables(self, limit: int = 10) -> tuple[TableView, ...]:
        """Return the tables with the lowest scores, the lowest first."""
        query = select(TABLES).where(TABLES.c.health.is_not(None)).order_by(TABLES.c.health)
        return self._tables(query.limit(min(limit, PAGE_MAX)))

    def table(self, target: str) -> TableView | None:
        """Return a table by its name; None when it is not registered."""
        found = self._tables(select(TABLES).where(TABLES.c.target == target))
        return found[0] if found else None

    def health_of(self, target: str, *, limit: int = 200) -> tuple[HealthPoint, ...]:
        """Return the newest points of the health of a table, the oldest of them first."""
        query = (
            select(HEALTH)
            .join(TABLES, TABLES.c.table_id == HEALTH.c.table_id)
            .where(TABLES.c.target == target)
            .order_by(HEALTH.c.at_ms.desc())
            .limit(min(limit, PAGE_MAX))
        )
        with self._store.reading() as connection:
            rows = connection.execute(query).all()
        return tuple(_health_point(row) for row in reversed(rows))

    def triggers(
        self, *, target: str | None = None, states: Sequence[str] = (),
        before: int | None = None, limit: int = 50,
    ) -> tuple[TriggerView, ...]:  # fmt: skip
        """Return rows of the queue, the newest first.

        Args:
            target: of this table only.
            states: in one of these states only; empty for all.
            before: the last `trigger_id` of the page before.
            limit: rows at most, up to `PAGE_MAX`.
        """
        limit = min(limit, PAGE_MAX)
        query = _TRIGGERS.order_by(TRIGGERS.c.trigger_id.desc()).limit(limit)
        if target is not None:
            query = query.where(TABLES.c.target == target)
        if before is not None:
            query = query.where(TRIGGERS.c.trigger_id < before)
        # A question for each state: an index has the rows of one state in order, not of several.
        questions = [query.where(TRIGGERS.c.state == one) for one in states] or [query]
        with self._store.reading() as connection:
            now = situation(connection, self._options, self._budget)
            found = [row for one in questions for row in connection.execute(one)]
            rows = sorted(found, key=lambda row: -row.trigger_id)[:limit]
            running = _running(connection, [row.table_id for row in rows])
        return tuple(_trigger(row, now, running.get(row.table_id)) for row in rows)

    def trigger(self, trigger_id: int) -> TriggerView | None:
        """Return a row of the queue; None when there is none."""
        with self._store.reading() as connection:
            now = situation(connection, self._options, self._budget)
            row = connection.execute(_TRIGGERS.where(TRIGGERS.c.trigger_id == trigger_id)).first()
            running = _running(connection, [row.table_id]) if row else {}
        return _trigger(row, now, running.get(row.table_id)) if row else None

    def trigger_of_job(self, job_id: str) -> TriggerView | None:
        """Return the row that a job of the job store belongs to."""
        query = select(TRIGGERS.c.trigger_id).where(TRIGGERS.c.job_id == job_id)
        with self._store.reading() as connection:
            found = connection.execute(query).scalar()
        return None if found is None else self.trigger(found)

    def job(self, job_id: str) -> JobDetail | None:
        """Return a job of the job store with its groups, attempts and batches."""
        return self._store.job(job_id)

    def deliveries(self, *, source: str | None = None, limit: int = 50) -> tuple[DeliveryView, ...]:
        """Return the newest deliveries, newest first, of one source or of all."""
        query = select(DELIVERIES).order_by(DELIVERIES.c.received_at_ms.desc())
        if source is not None:
            query = query.where(DELIVERIES.c.source == source)
        with self._store.reading() as connection:
            rows = connection.execute(query.limit(min(limit, PAGE_MAX))).all()
        return tuple(_delivery(row) for row in rows)

    def instances(self) -> tuple[InstanceView, ...]:
        """Return the instances of the service, those that were seen lately first."""
        query = select(INSTANCES).order_by(INSTANCES.c.seen_at_ms.desc()).limit(PAGE_MAX)
        with self._store.reading() as connection:
            return tuple(InstanceView(*row) for row in connection.execute(query))

    def duties(self) -> tuple[DutyView, ...]:
        """Return the work that is done for all instances."""
        columns = DUTIES.c.duty, DUTIES.c.instance, DUTIES.c.done_at_ms, DUTIES.c.result
        query = select(*columns).where(DUTIES.c.done_at_ms > 0).order_by(DUTIES.c.duty)
        with self._store.reading() as connection:
            return tuple(DutyView(*row) for row in connection.execute(query))

    def audit(self, *, before: int | None = None, limit: int = 100) -> tuple[AuditView, ...]:
        """Return entries of the audit log, the newest first; `before` as in `triggers`."""
        query = select(AUDIT).order_by(AUDIT.c.entry_id.desc())
        if before is not None:
            query = query.where(AUDIT.c.entry_id < before)
        with self._store.reading() as connection:
            rows = connection.execute(query.limit(min(limit, PAGE_MAX))).all()
        return tuple(AuditView(*row) for row in rows)

    def is_answering(self) -> bool:
        """Whether the store can be read now.

        Raises:
            JobFailedError: it cannot.
        """
        with self._store.reading() as connection:
            return now_ms(connection) > 0

    def _tables(self, query: Any) -> tuple[TableView, ...]:
        with self._store.reading() as connection:
            rows = connection.execute(query).all()
            now = situation(connection, self._options, self._budget)
            ids = [row.table_id for row in rows]
            running = _running(connection, ids)
            pending = {
                row.table_id: row
                for row in connection.execute(
                    select(TRIGGERS).where(
                        TRIGGERS.c.table_id.in_(ids), TRIGGERS.c.state == RowState.PENDING.value
                    )
                )
            }
        return tuple(
            _table(row, now, pending.get(row.table_id), running.get(row.table_id)) for row in rows
        )


def _count_if(condition: Any) -> Any:
    return func.count().filter(condition)


_SUMS = select(
    _count_if(TABLES.c.health >= GOOD_HEALTH).label("good"),
    _count_if((TABLES.c.health < GOOD_HEALTH) & (TABLES.c.health >= FAIR_HEALTH)).label("fair"),
    _count_if(TABLES.c.health < FAIR_HEALTH).label("poor"),
    _count_if(TABLES.c.health.is_(None)).label("unknown"),
    func.coalesce(func.sum(TABLES.c.files), 0).label("files"),
    func.coalesce(func.sum(TABLES.c.small_files), 0).label("small_files"),
    func.coalesce(func.sum(TABLES.c.size_bytes), 0).label("size_bytes"),
).select_from(TABLES)
_TOTALS = select(TOTALS)
_OF_TABLE = ("target", "namespace", "window", "is_enabled", "is_paused", "is_missing")
_TRIGGERS = select(TRIGGERS, *(TABLES.c[name] for name in _OF_TABLE)).join(
    TABLES, TABLES.c.table_id == TRIGGERS.c.table_id
)


def _running(connection: Connection, table_ids: Sequence[int]) -> dict[int, str]:
    """Return, by table, the job that works on it, or the number of its row before it has one."""
    found = connection.execute(
        select(TRIGGERS.c.table_id, TRIGGERS.c.job_id, TRIGGERS.c.trigger_id).where(
            TRIGGERS.c.table_id.in_(table_ids), TRIGGERS.c.state == RowState.RUNNING.value
        )
    )
    return {row.table_id: row.job_id or f"trigger {row.trigger_id}" for row in found}


def _waiter(table: Any, trigger: Any, running_job: str | None) -> Waiter:
    return Waiter(
        namespace=table.namespace,
        not_before_ms=trigger.not_before_ms,
        attempts=trigger.attempts,
        error=trigger.reason,
        window=table.window,
        is_enabled=table.is_enabled,
        is_paused=table.is_paused,
        is_missing=table.is_missing,
        running_job=running_job or "",
    )


def _table(row: Any, now: Situation, pending: Any, running_job: str | None) -> TableView:
    state = "running" if running_job else ("pending" if pending is not None else "idle")
    names = TableView.__dataclass_fields__.keys() - {"health_reasons", "state", "why"}
    return TableView(
        **{name: getattr(row, name) for name in names},
        health_reasons=tuple(msgspec.json.decode(row.health_reasons)),
        state=state,
        why=_why_table(row, now, pending, running_job),
    )


def _why_table(row: Any, now: Situation, pending: Any, running_job: str | None) -> str:
    if running_job:
        return ""
    if row.trouble:
        return str(row.trouble)
    if pending is not None:
        return why(_waiter(row, pending, running_job), now)
    if not row.is_enabled:
        return "disabled by its configuration"
    if row.is_paused:
        return "paused"
    return "nothing has asked for a job"


def _trigger(row: Any, now: Situation, running_job: str | None) -> TriggerView:
    names = TriggerView.__dataclass_fields__.keys() - {"why", "is_cancelling"}
    is_pending = row.state == RowState.PENDING.value
    return TriggerView(
        **{name: getattr(row, name) for name in names},
        why=why(_waiter(row, row, running_job), now) if is_pending else row.reason,
        is_cancelling=row.cancel_asked_ms is not None and row.state == RowState.RUNNING.value,
    )


def _delivery(row: Row[Any]) -> DeliveryView:
    return DeliveryView(
        row.source,
        row.delivery_id,
        row.received_at_ms,
        row.kind,
        tuple(msgspec.json.decode(row.trigger_ids)),
        row.reason,
    )


def _health_point(row: Row[Any]) -> HealthPoint:
    return HealthPoint(
        row.at_ms, row.score, row.files, row.small_files, row.delete_files, row.size_bytes
    )
