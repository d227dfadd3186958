"""The queue: one pending row per table, one running, claims with a fence, and how each one ends.

    pending -> running -> done | failed | dead | cancelled
       ^          |
       +----------+  tried again: after a delay, or at once after a conflict

Triggers for a table that already waits become part of its row. A row runs under a claim: the
table's fence, raised in the job store, and a moment until which nobody else may take the row. Its
process renews that, and who finishes the row must still have its fence. All functions work within
the transaction of their caller.

What must not break: a trigger that was accepted is followed by a claim of its table that is later
than it, or by a row that is dead, failed or cancelled and says why.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, and_, case, delete, func, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from compactor.jobs.lease import raise_fence
from compactor.jobs.owner import Owner
from compactor.jobs.store import now_ms
from compactor.service.config import Budget, ServiceOptions
from compactor.service.due import day_begins_ms
from compactor.service.schema import DELIVERIES, DUTIES, HEALTH, INSTANCES, TABLES, TOTALS, TRIGGERS
from compactor.service.waiting import Situation, closed_until

# A claim that its process does not renew for so long is anybody's.
CLAIM_SECONDS = 30.0
RENEWALS_PER_CLAIM = 3
# An instance that was not seen for so long takes no jobs.
INSTANCE_SECONDS = 30.0
# Looked at by one claim; those of a closed window are put off, so many at a time.
_CANDIDATES_MAX = 200
_CLAIMING = "claim"
# Rows deleted in one transaction.
_FORGOTTEN_MAX = 500
_REASON_CHARACTERS_MAX = 2000
_LABEL_CHARACTERS_MAX = 64


class RowState(StrEnum):
    """Where a row of the queue is."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    DEAD = "dead"
    CANCELLED = "cancelled"


class ErrorClass(StrEnum):
    """What an error means for the next try."""

    RETRYABLE = "retryable"
    CONFLICT = "conflict"
    FATAL = "fatal"
    POISON = "poison"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Triggers for one table, to be put into the queue together.

    Attributes:
        table_id: the table.
        source: what made the last of them.
        cause: the same, for people.
        hints: how many there are.
        is_due: whether the job is to start without waiting for more triggers.
    """

    table_id: int
    source: str
    cause: str
    hints: int = 1
    is_due: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """A row that this process may work on.

    Attributes:
        trigger_id: the row.
        table_id: its table.
        target: the table's name.
        fence: raised for this claim.
        attempt: which try it is, from 1.
    """

    trigger_id: int
    table_id: int
    target: str
    fence: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Work:
    """What a try has moved, and what became of its file groups.

    Attributes:
        bytes_read: bytes fetched.
        bytes_written: bytes of the files written.
        bytes_copied: those of them that were never decoded.
        files_removed: data files that the table has fewer.
        groups_committed: file groups in the table.
        groups_dropped: those lost to other writers.
        groups_failed: those that no attempt could rewrite.
        granted_bytes: memory granted, over all attempts whose peak is known.
        taken_bytes: what they took of it.
    """

    bytes_read: int = 0
    bytes_written: int = 0
    bytes_copied: int = 0
    files_removed: int = 0
    groups_committed: int = 0
    groups_dropped: int = 0
    groups_failed: int = 0
    granted_bytes: int = 0
    taken_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a try ended.

    Attributes:
        status: `succeeded`, `partial`, `skipped`, `failed`, `cancelled`.
        error_class: what an error means; None without one.
        reason: the error, for people.
        job_id: the job of the job store.
        snapshot_id: the snapshot that it committed last; empty for none.
        bytes_moved: bytes read and written.
        cpu_seconds: CPU time.
        work: more of what it did.
        is_interrupted: whether it was stopped for the service to end: it goes on later.
    """

    status: str
    error_class: ErrorClass | None = None
    reason: str = ""
    job_id: str = ""
    snapshot_id: str = ""
    bytes_moved: int = 0
    cpu_seconds: float = 0.0
    work: Work = Work()
    is_interrupted: bool = False


def enqueue(
    connection: Connection, wanted: Iterable[Wanted], options: ServiceOptions
) -> dict[int, int]:
    """Add triggers to the rows that wait, or make such rows; return the row of each table."""
    by_table = {one.table_id: one for one in wanted}
    if not by_table:
        return {}
    now = now_ms(connection)
    columns = (TABLES.c.table_id, TABLES.c.priority, TABLES.c.debounce_ms, TABLES.c.debounce_max_ms)
    tables = connection.execute(select(*columns).where(TABLES.c.table_id.in_(by_table))).all()
    # In one order everywhere, so that two instances cannot wait for each other.
    rows = [_new_row(by_table[row.table_id], row, now, options) for row in sorted(tables)]
    return _upsert(connection, rows) if rows else {}


def _new_row(wanted: Wanted, table: Any, now: int, options: ServiceOptions) -> dict[str, Any]:
    return {
        "table_id": wanted.table_id,
        "state": RowState.PENDING.value,
        "rank_ms": now + int(table.priority * options.aging_seconds * 1000),
        "priority": table.priority,
        "not_before_ms": now if wanted.is_due else now + table.debounce_ms,
        "latest_ms": now + table.debounce_max_ms,
        "first_at_ms": now,
        "last_at_ms": now,
        "hints": wanted.hints,
        "source": wanted.source,
        "cause": wanted.cause,
    }


def _upsert(connection: Connection, rows: Sequence[dict[str, Any]]) -> dict[int, int]:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(TRIGGERS)
    new, latest = statement.excluded, TRIGGERS.c.latest_ms
    put_off = case((new.not_before_ms < latest, new.not_before_ms), else_=latest)
    statement = statement.on_conflict_do_update(
        index_elements=["table_id"],
        index_where=text("state = 'pending'"),
        set_={
            "hints": TRIGGERS.c.hints + new.hints,
            "last_at_ms": new.last_at_ms,
            "source": new.source,
            "cause": new.cause,
            # A delay after an error is not cut short by what comes in meanwhile.
            "not_before_ms": case(
                (TRIGGERS.c.attempts > 0, TRIGGERS.c.not_before_ms), else_=put_off
            ),
        },
    )
    answer = connection.execute(
        statement.returning(TRIGGERS.c.table_id, TRIGGERS.c.trigger_id), list(rows)
    )
    return {row.table_id: row.trigger_id for row in answer}


def situation(connection: Connection, options: ServiceOptions, budget: Budget) -> Situation:
    """Return what holds for all rows now, over all instances that live and take jobs."""
    now = now_ms(connection)
    alive = INSTANCES.c.seen_at_ms > now - int(INSTANCE_SECONDS * 1000)
    capacity = select(func.coalesce(func.sum(INSTANCES.c.jobs_max), 0)).where(
        alive, INSTANCES.c.is_draining.is_(False)
    )
    by_namespace = connection.execute(
        select(TABLES.c.namespace, func.count())
        .join(TRIGGERS, TRIGGERS.c.table_id == TABLES.c.table_id)
        .where(TRIGGERS.c.state == RowState.RUNNING.value)
        .group_by(TABLES.c.namespace)
    )
    running = {row[0]: row[1] for row in by_namespace}
    bytes_today, jobs_today = _spent_today(connection, day_begins_ms(now, budget.zone))
    return Situation(
        now_ms=now,
        jobs_max=int(connection.execute(capacity).scalar_one()),
        running=sum(running.values()),
        namespace_max=options.jobs_per_namespace_max,
        running_by_namespace=running,
        budget=budget,
        bytes_today=bytes_today,
        jobs_today=jobs_today,
    )


def _spent_today(connection: Connection, since_ms: int) -> tuple[int, int]:
    moved = select(func.coalesce(func.sum(TRIGGERS.c.bytes_moved), 0)).where(
        TRIGGERS.c.finished_at_ms >= since_ms
    )
    begun = select(func.count()).where(TRIGGERS.c.claimed_at_ms >= since_ms)
    return int(connection.execute(moved).scalar_one()), int(connection.execute(begun).scalar_one())


def claim(
    connection: Connection, instance: str, options: ServiceOptions, budget: Budget
) -> Claim | None:
    """Take the row that comes first of those that may start; None when none may.

    The claim is the instance's until `CLAIM_SECONDS` are over or the job's process takes it up.
    """
    _claim_alone(connection)
    now = situation(connection, options, budget)
    mine = and_(TRIGGERS.c.state == RowState.RUNNING.value, TRIGGERS.c.instance == instance)
    running_here = connection.execute(select(func.count()).where(mine)).scalar_one()
    if running_here >= options.jobs_max:
        return None
    if now.spent:
        return None
    for row in connection.execute(_candidates(now)).all():
        until_ms = closed_until(row.window, now.now_ms)
        if until_ms is None:
            return _take(connection, row, instance, now.now_ms)
        # Not looked at again before then: with the next claims, what cannot start hides nothing.
        put_off = update(TRIGGERS).where(TRIGGERS.c.trigger_id == row.trigger_id)
        connection.execute(put_off.values(not_before_ms=until_ms))
    return None


def _claim_alone(connection: Connection) -> None:
    """Let one instance claim at a time, so that quotas hold; SQLite's transactions do so anyway."""
    if connection.dialect.name == "sqlite":
        return
    new = postgresql.insert(DUTIES).values(duty=_CLAIMING).on_conflict_do_nothing()
    connection.execute(new)
    connection.execute(select(DUTIES.c.duty).where(DUTIES.c.duty == _CLAIMING).with_for_update())


def _candidates(now: Situation) -> Any:
    running = TRIGGERS.alias()
    is_running = (
        select(running.c.trigger_id)
        .where(running.c.table_id == TRIGGERS.c.table_id, running.c.state == RowState.RUNNING.value)
        .exists()
    )
    columns = TABLES.c.namespace, TABLES.c.target, TABLES.c.window
    return (
        select(TRIGGERS, *columns)
        .join(TABLES, TABLES.c.table_id == TRIGGERS.c.table_id)
        .where(
            TRIGGERS.c.state == RowState.PENDING.value,
            TRIGGERS.c.not_before_ms <= now.now_ms,
            TABLES.c.is_enabled.is_(True),
            TABLES.c.is_paused.is_(False),
            TABLES.c.is_missing.is_(False),
            TABLES.c.namespace.not_in(now.full_namespaces),
            ~is_running,
        )
        .order_by(TRIGGERS.c.rank_ms, TRIGGERS.c.trigger_id)
        .limit(_CANDIDATES_MAX)
    )


def _take(connection: Connection, row: Row[Any], instance: str, now: int) -> Claim:
    fence = raise_fence(connection, row.target)
    owner = Owner.current()
    connection.execute(
        update(TRIGGERS)
        .where(TRIGGERS.c.trigger_id == row.trigger_id)
        .values(
            state=RowState.RUNNING.value,
            attempts=row.attempts + 1,
            fence=fence,
            instance=instance,
            host=owner.host,
            pid=owner.pid,
            process_started_at=owner.started_at,
            claimed_at_ms=now,
            claim_ends_ms=now + int(CLAIM_SECONDS * 1000),
        )
    )
    return Claim(row.trigger_id, row.table_id, row.target, fence, row.attempts + 1)


def take_up(connection: Connection, held: Claim, owner: Owner) -> bool:
    """Make the process of the job the owner of its claim; False when it is not ours any more."""
    values = {"host": owner.host, "pid": owner.pid, "process_started_at": owner.started_at}
    return _renewed(connection, held, values)


def renew(connection: Connection, held: Claim) -> bool:
    """Keep a claim for as long again; False when it is not ours any more."""
    return _renewed(connection, held, {})


def _renewed(connection: Connection, held: Claim, values: Mapping[str, object]) -> bool:
    ends_ms = now_ms(connection) + int(CLAIM_SECONDS * 1000)
    renewal = update(TRIGGERS).where(*_ours(held)).values(claim_ends_ms=ends_ms, **values)
    return connection.execute(renewal).rowcount == 1


def finish(connection: Connection, held: Claim, outcome: Outcome, options: ServiceOptions) -> bool:
    """Record how a try ended; False when somebody else has the row by now."""
    row = connection.execute(
        select(TRIGGERS).where(*_ours(held)).with_for_update(of=TRIGGERS)
    ).first()
    if row is None:
        return False
    _end(connection, row, outcome, options)
    return True


def reap(connection: Connection, options: ServiceOptions) -> int:
    """Put back what runs no more: its process is dead, or has not renewed; return how many."""
    now = now_ms(connection)
    running = connection.execute(
        select(TRIGGERS)
        .where(TRIGGERS.c.state == RowState.RUNNING.value)
        .with_for_update(of=TRIGGERS, skip_locked=True)
    ).all()
    lost = [row for row in running if row.claim_ends_ms < now or _owner(row).is_known_dead()]
    for row in lost:
        reason = f"the process of the job died (attempt {row.attempts})"
        outcome = Outcome("failed", ErrorClass.RETRYABLE, reason, row.job_id)
        if row.attempts >= options.attempts_max:
            outcome = replace(outcome, error_class=ErrorClass.POISON)
        _end(connection, row, outcome, options)
    return len(lost)


def _owner(row: Row[Any]) -> Owner:
    return Owner(row.host, row.pid, row.process_started_at)


def _ours(held: Claim) -> tuple[Any, ...]:
    return (
        TRIGGERS.c.trigger_id == held.trigger_id,
        TRIGGERS.c.state == RowState.RUNNING.value,
        TRIGGERS.c.fence == held.fence,
    )


def _end(connection: Connection, row: Row[Any], outcome: Outcome, options: ServiceOptions) -> None:
    now = now_ms(connection)
    state = _state_after(row, outcome, options)
    values: dict[str, Any] = {
        "state": state.value,
        "status": outcome.status,
        "error_class": outcome.error_class.value if outcome.error_class else "",
        # Errors quote what they have read, and not every database takes every text.
        "reason": outcome.reason[:_REASON_CHARACTERS_MAX].replace("\0", "\ufffd"),
        "job_id": outcome.job_id or row.job_id,
        "bytes_moved": row.bytes_moved + outcome.bytes_moved,
        "cpu_seconds": row.cpu_seconds + outcome.cpu_seconds,
        "finished_at_ms": now,
    }
    if state is RowState.PENDING:
        attempts = row.attempts - 1 if outcome.is_interrupted else row.attempts
        not_before = now + _delay_ms(outcome, attempts, options)
        if _pass_on(connection, row, attempts, not_before):
            reason = f"{values['reason']}; the row that waits goes on with it"
            values |= {"state": RowState.FAILED.value, "reason": reason}
        else:
            again = {"finished_at_ms": None, "attempts": attempts, "not_before_ms": not_before}
            values |= again | {"cancel_asked_ms": None, "fence": None}
    connection.execute(
        update(TRIGGERS).where(TRIGGERS.c.trigger_id == row.trigger_id).values(values)
    )
    _note_on_table(connection, row.table_id, outcome, now)
    _count(connection, row, state, outcome)


def _state_after(row: Row[Any], outcome: Outcome, options: ServiceOptions) -> RowState:
    is_stopped = outcome.is_interrupted or outcome.status == "cancelled"
    if outcome.error_class is None and not is_stopped:
        return RowState.DONE
    if row.cancel_asked_ms is not None:
        # Whether it stopped well or died over it: it does not come back.
        return RowState.CANCELLED
    if is_stopped:
        return RowState.PENDING if outcome.is_interrupted else RowState.CANCELLED
    if outcome.error_class is ErrorClass.FATAL:
        return RowState.FAILED
    is_last = row.attempts >= options.attempts_max
    is_dead = is_last or outcome.error_class is ErrorClass.POISON
    return RowState.DEAD if is_dead else RowState.PENDING


def _delay_ms(outcome: Outcome, attempts: int, options: ServiceOptions) -> int:
    """Draw the delay before the next try: full jitter, so that no two tables keep step."""
    if outcome.is_interrupted or outcome.error_class is ErrorClass.CONFLICT:
        return 0
    bound = options.retry_delay_seconds * 2 ** max(0, min(attempts, 32) - 1)
    return int(random.uniform(0, min(bound, options.retry_delay_max_seconds)) * 1000)


def _pass_on(connection: Connection, row: Row[Any], attempts: int, not_before_ms: int) -> bool:
    """Let the row that waits for the same table go on in place of this one, if there is one."""
    waiting = and_(TRIGGERS.c.table_id == row.table_id, TRIGGERS.c.state == RowState.PENDING.value)
    later = case((TRIGGERS.c.not_before_ms > not_before_ms, TRIGGERS.c.not_before_ms))
    values = {
        "attempts": attempts,
        "not_before_ms": func.coalesce(later, not_before_ms),
        "first_at_ms": row.first_at_ms,
        "rank_ms": row.rank_ms,
        "hints": TRIGGERS.c.hints + row.hints,
    }
    return connection.execute(update(TRIGGERS).where(waiting).values(values)).rowcount == 1


def _note_on_table(connection: Connection, table_id: int, outcome: Outcome, now: int) -> None:
    values: dict[str, Any] = {}
    if outcome.error_class is None and outcome.status in ("succeeded", "partial", "skipped"):
        values["compacted_at_ms"] = now
    if outcome.snapshot_id:
        values["own_snapshot_id"] = outcome.snapshot_id
    if values:
        table = update(TABLES).where(TABLES.c.table_id == table_id)
        connection.execute(table.values(values))


def _count(connection: Connection, row: Row[Any], state: RowState, outcome: Outcome) -> None:
    """Add a try to the totals: its end by source, and what it took."""
    ended = "retried" if state is RowState.PENDING else outcome.status
    work = outcome.work
    added = {
        ("jobs", f"{ended} {row.source}"[:_LABEL_CHARACTERS_MAX]): 1.0,
        ("first_tries", ended): 1.0 if row.attempts == 1 else 0.0,
        ("bytes_moved", ""): float(outcome.bytes_moved),
        ("bytes_read", ""): float(work.bytes_read),
        ("bytes_written", ""): float(work.bytes_written),
        ("groups", "committed"): float(work.groups_committed),
        ("groups", "dropped"): float(work.groups_dropped),
        ("groups", "failed"): float(work.groups_failed),
        ("bytes_copied", ""): float(work.bytes_copied),
        ("files_removed", ""): float(work.files_removed),
        ("memory", "granted"): float(work.granted_bytes),
        ("memory", "taken"): float(work.taken_bytes),
        ("cpu_seconds", ""): outcome.cpu_seconds,
        ("job_seconds", ""): max(0, now_ms(connection) - row.claimed_at_ms) / 1000,
    }
    if outcome.error_class is not None:
        added["errors", outcome.error_class.value] = 1.0
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(TOTALS)
    statement = statement.on_conflict_do_update(
        index_elements=["name", "label"], set_={"value": TOTALS.c.value + statement.excluded.value}
    )
    # In one order everywhere, so that two instances cannot wait for each other.
    told = sorted((name, label, value) for (name, label), value in added.items() if value)
    rows = [{"name": name, "label": label, "value": value} for name, label, value in told]
    connection.execute(statement, rows)


def cancel(connection: Connection, trigger_id: int, reason: str) -> RowState | None:
    """End a row that waits, or ask for the end of one that runs; None when it is over anyway."""
    now = now_ms(connection)
    is_row = TRIGGERS.c.trigger_id == trigger_id
    waiting = update(TRIGGERS).where(is_row, TRIGGERS.c.state == RowState.PENDING.value)
    ended = {"state": RowState.CANCELLED.value, "status": "cancelled", "finished_at_ms": now}
    if connection.execute(waiting.values(reason=reason, **ended)).rowcount:
        return RowState.CANCELLED
    running = update(TRIGGERS).where(is_row, TRIGGERS.c.state == RowState.RUNNING.value)
    if connection.execute(running.values(cancel_asked_ms=now)).rowcount:
        return RowState.RUNNING
    return None


def forget(connection: Connection, options: ServiceOptions, history_seconds: float) -> int:
    """Delete some of what is older than it need be: deliveries, rows, health; return how many."""
    now = now_ms(connection)
    kept_ms = int(options.deliveries_kept_seconds * 1000)
    keys = DELIVERIES.c.source, DELIVERIES.c.delivery_id
    old = select(*keys).where(DELIVERIES.c.received_at_ms < now - kept_ms).limit(_FORGOTTEN_MAX)
    found = [tuple(row) for row in connection.execute(old)]
    for source, delivery_id in found:
        is_it = (keys[0] == source, keys[1] == delivery_id)
        connection.execute(delete(DELIVERIES).where(*is_it))
    if not history_seconds:
        return len(found)
    since = now - int(history_seconds * 1000)
    ended = select(TRIGGERS.c.trigger_id).where(TRIGGERS.c.finished_at_ms < since)
    ids = list(connection.execute(ended.limit(_FORGOTTEN_MAX)).scalars())
    connection.execute(delete(TRIGGERS).where(TRIGGERS.c.trigger_id.in_(ids)))
    connection.execute(delete(HEALTH).where(HEALTH.c.at_ms < since))
    return len(found) + len(ids)
