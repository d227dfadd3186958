"""The journal of one job: every step is durable before its effect begins.

Before a task starts, its attempt is recorded, so that whatever it writes can be found. Before a
commit begins, its batch is recorded, so that it can be looked up. What came of either is
recorded together with the state that it leads to, in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, insert, select, update

from catalog.model import Snapshot
from compactor.errors import JobFailedError
from compactor.jobs.report import JobReport
from compactor.jobs.schema import ATTEMPTS, BATCHES, GROUPS, JOBS, LEASES, PLANS
from compactor.jobs.state import (
    Absent,
    Action,
    Broke,
    CommitBatch,
    Fact,
    GroupProgress,
    GroupState,
    JobState,
    Settled,
    Start,
    Unknown,
    Written,
)
from compactor.jobs.store import JobStore, now_ms
from compactor.jobs.totals import TableTotals
from compactor.planner.plan import Plan
from compactor.planner.planfile import decode_plan, encode_plan
from compactor.rewrite.task import Proof, RewriteResult

RUNNING, WRITTEN, FAILED, DISCARDED = "running", "written", "failed", "discarded"
COMMITTING, SETTLED, ABSENT, UNKNOWN = "committing", "settled", "absent", "unknown"


@dataclass(frozen=True, slots=True)
class Measured:
    """What an attempt took as the runtime measured it, and what it was thought to take."""

    cpu_seconds: float = 0.0
    predicted_bytes: int = 0
    granted_bytes: int = 0
    peak_memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Happened:
    """A fact with what the machine does not need to know of it.

    Attributes:
        fact: what has happened.
        result: what the attempt of a `Written` fact answered.
        measured: what the attempt of a `Written` or `Broke` fact took.
        snapshot: the snapshot that a `Settled` batch made, if it made one.
        warnings: what the table told of its other writers on that occasion.
    """

    fact: Fact
    result: RewriteResult | None = None
    measured: Measured = Measured()
    snapshot: Snapshot | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """Something that has happened with all that follows from it, to be recorded as one.

    Attributes:
        happened: what it is.
        actions: what is to be done next.
        changed: the groups that it moved.
        state: the job's state after it; None leaves it.
    """

    happened: Happened
    actions: Sequence[Action]
    changed: Sequence[GroupProgress]
    state: JobState | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt as recorded."""

    attempt_id: str
    group_id: str
    state: str
    result: RewriteResult | None
    measured: Measured


@dataclass(frozen=True, slots=True)
class Batch:
    """A commit batch as recorded."""

    batch_id: str
    state: str
    group_ids: tuple[str, ...]
    snapshot: Snapshot | None


@dataclass(frozen=True, slots=True)
class JobStart:
    """What a job begins with.

    Attributes:
        job_id: a new id.
        fence: of the claim it is made under.
        proof: what is checked before a commit.
        before: totals of the snapshot planned against.
    """

    job_id: str
    fence: int
    proof: Proof
    before: TableTotals


class Journal:
    """Writes and reads the steps of one job.

    Steps are written under the claim whose fence is given, and refused once another process has
    taken the table: a process that was held up must not write into what another one goes on with.
    """

    def __init__(self, store: JobStore, job_id: str, *, fence: int | None = None) -> None:
        self.job_id = job_id
        self._store = store
        self._fence = fence

    @staticmethod
    def begin(store: JobStore, plan: Plan, start: JobStart) -> Journal:
        """Record a new job with its whole plan.

        Raises:
            JobFailedError: the claim was lost, or the store failed; nothing was recorded.
        """
        with _claimed(store, start.job_id, start.fence) as connection:
            now = now_ms(connection)
            connection.execute(insert(JOBS).values(_job_row(plan, start, now)))
            recorded = {"job_id": start.job_id, "plan": encode_plan(plan)}
            connection.execute(insert(PLANS).values(recorded))
            rows = _group_rows(plan, start.job_id)
            if rows:
                connection.execute(insert(GROUPS), rows)
        return Journal(store, start.job_id, fence=start.fence)

    def record(self, step: Step) -> None:
        """Make a step durable.

        Raises:
            JobFailedError: the claim was lost, or the store failed; nothing was recorded.
        """
        with _claimed(self._store, self.job_id, self._fence) as connection:
            now = now_ms(connection)
            _record_fact(connection, step.happened, now)
            _record_groups(connection, self.job_id, step.changed)
            for action in step.actions:
                self._record_action(connection, action, now)
            values = {"updated_at_ms": now} | ({"state": step.state.value} if step.state else {})
            connection.execute(update(JOBS).where(JOBS.c.job_id == self.job_id).values(values))

    def discarded(self, attempt_id: str) -> None:
        """Record that every file of an attempt is gone."""
        with _claimed(self._store, self.job_id, self._fence) as connection:
            _change_attempt(connection, attempt_id, {"state": DISCARDED})

    def finish(self, status: JobState, reason: str, report: JobReport | None) -> None:
        """Record the end of the job; without a report when it is given up."""
        encoded = None if report is None else _json(report)
        with _claimed(self._store, self.job_id, self._fence) as connection:
            now = now_ms(connection)
            connection.execute(
                update(JOBS)
                .where(JOBS.c.job_id == self.job_id)
                .values(
                    state=status.value,
                    reason=reason,
                    report=encoded,
                    updated_at_ms=now,
                    finished_at_ms=now,
                )
            )

    def plan(self) -> Plan:
        """Read the plan back."""
        with self._store.transaction() as connection:
            query = select(PLANS.c.plan).where(PLANS.c.job_id == self.job_id)
            return decode_plan(connection.execute(query).scalar_one())

    def proof(self) -> Proof:
        """Read what is to be checked before a commit."""
        with self._store.transaction() as connection:
            query = select(JOBS.c.proof).where(JOBS.c.job_id == self.job_id)
            return Proof(connection.execute(query).scalar_one())

    def before(self) -> TableTotals:
        """Read the totals of the snapshot planned against."""
        with self._store.transaction() as connection:
            query = select(JOBS.c.files_before, JOBS.c.rows_before)
            row = connection.execute(query.where(JOBS.c.job_id == self.job_id)).one()
        return TableTotals(files=row.files_before, rows=row.rows_before)

    def groups(self) -> list[GroupProgress]:
        """Read the groups, in the order of work."""
        query = select(GROUPS).where(GROUPS.c.job_id == self.job_id).order_by(GROUPS.c.position)
        with self._store.transaction() as connection:
            return [
                GroupProgress(
                    group_id=row.group_id,
                    state=GroupState(row.state),
                    attempts=row.attempts,
                    attempt_id=row.attempt_id,
                    output_bytes=row.output_bytes,
                    batch_id=row.batch_id,
                    reason=row.reason,
                )
                for row in connection.execute(query)
            ]

    def attempts(self) -> list[Attempt]:
        """Read all attempts, in no order."""
        with self._store.transaction() as connection:
            query = select(ATTEMPTS).where(ATTEMPTS.c.job_id == self.job_id)
            return [_attempt(row) for row in connection.execute(query)]

    def batches(self) -> list[Batch]:
        """Read all commit batches, in the order they were begun."""
        query = select(BATCHES).where(BATCHES.c.job_id == self.job_id).order_by(BATCHES.c.number)
        with self._store.transaction() as connection:
            return [_batch(row) for row in connection.execute(query)]

    def _record_action(self, connection: Connection, action: Action, now: int) -> None:
        match action:
            case Start():
                values = {
                    "attempt_id": action.attempt_id,
                    "job_id": self.job_id,
                    "group_id": action.group_id,
                    "number": action.number,
                    "state": RUNNING,
                    "started_at_ms": now,
                }
                connection.execute(insert(ATTEMPTS).values(values))
            case CommitBatch():
                values = {
                    "batch_id": action.batch_id,
                    "job_id": self.job_id,
                    "number": action.number,
                    "state": COMMITTING,
                    "group_ids": _json(action.group_ids),
                    "started_at_ms": now,
                }
                connection.execute(insert(BATCHES).values(values))


# Made once: every step of every job asks this.
_CLAIM = (
    select(LEASES.c.fence).where(LEASES.c.job_id == bindparam("of_job")).with_for_update(read=True)
)


@contextmanager
def _claimed(store: JobStore, job_id: str, fence: int | None) -> Iterator[Connection]:
    """Write in a transaction that nobody can take the job's table over in."""
    with store.transaction() as connection:
        held = connection.execute(_CLAIM, {"of_job": job_id}).scalar()
        if held is None or held != fence:
            raise JobFailedError(
                f"lost the claim on the table of job {job_id}: another process took over",
                hint="this process was held up for too long; `compact jobs list` shows the other",
            )
        yield connection


def _job_row(plan: Plan, start: JobStart, now: int) -> dict[str, Any]:
    return {
        "job_id": start.job_id,
        "table_name": plan.table,
        "format": plan.format,
        "state": JobState.PLANNED.value,
        "proof": start.proof.value,
        "fence": start.fence,
        "snapshot_before": plan.snapshot.snapshot_id,
        "files_before": start.before.files,
        "rows_before": start.before.rows,
        "group_count": len(plan.groups),
        "input_bytes": sum(group.files.size_bytes for group in plan.groups),
        "created_at_ms": now,
        "updated_at_ms": now,
    }


def _group_rows(plan: Plan, job_id: str) -> list[dict[str, Any]]:
    return [
        {
            "job_id": job_id,
            "group_id": group.group_id,
            "position": position,
            "partition": group.partition,
            "input_files": group.files.file_count,
            "input_bytes": group.files.size_bytes,
            "state": GroupState.WAITING.value,
            "attempts": 0,
            "attempt_id": "",
            "output_bytes": 0,
            "batch_id": "",
            "reason": "",
        }
        for position, group in enumerate(plan.groups)
    ]


def _record_groups(connection: Connection, job_id: str, changed: Sequence[GroupProgress]) -> None:
    if not changed:
        return
    statement = (
        update(GROUPS)
        .where(GROUPS.c.job_id == job_id, GROUPS.c.group_id == bindparam("of_group"))
        .values({name: bindparam(name) for name in _PROGRESS_COLUMNS})
    )
    rows = [
        {"of_group": group.group_id} | {name: getattr(group, name) for name in _PROGRESS_COLUMNS}
        for group in changed
    ]
    connection.execute(statement, rows)


_PROGRESS_COLUMNS = ("state", "attempts", "attempt_id", "output_bytes", "batch_id", "reason")


def _record_fact(connection: Connection, happened: Happened, now: int) -> None:
    match happened.fact:
        case Written(attempt_id=attempt_id):
            result = _json(happened.result)
            ended = {"state": WRITTEN, "result": result, "finished_at_ms": now}
            _change_attempt(connection, attempt_id, ended | asdict(happened.measured))
        case Broke(attempt_id=attempt_id, error=error):
            ended = {"state": FAILED, "error": error, "finished_at_ms": now}
            _change_attempt(connection, attempt_id, ended | asdict(happened.measured))
        case Settled(batch_id=batch_id):
            snapshot = _json(happened.snapshot) if happened.snapshot else None
            known = {"state": SETTLED, "snapshot": snapshot, "finished_at_ms": now}
            _change_batch(connection, batch_id, known)
        case Absent(batch_id=batch_id, reason=reason):
            known = {"state": ABSENT, "reason": reason, "finished_at_ms": now}
            _change_batch(connection, batch_id, known)
        case Unknown(batch_id=batch_id, reason=reason):
            _change_batch(connection, batch_id, {"state": UNKNOWN, "reason": reason})


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _change_attempt(connection: Connection, attempt_id: str, values: dict[str, Any]) -> None:
    connection.execute(update(ATTEMPTS).where(ATTEMPTS.c.attempt_id == attempt_id).values(values))


def _change_batch(connection: Connection, batch_id: str, values: dict[str, Any]) -> None:
    connection.execute(update(BATCHES).where(BATCHES.c.batch_id == batch_id).values(values))


def _attempt(row: Row[Any]) -> Attempt:
    return Attempt(
        attempt_id=row.attempt_id,
        group_id=row.group_id,
        state=row.state,
        result=msgspec.json.decode(row.result, type=RewriteResult) if row.result else None,
        measured=Measured(
            cpu_seconds=row.cpu_seconds,
            predicted_bytes=row.predicted_bytes,
            granted_bytes=row.granted_bytes,
            peak_memory_bytes=row.peak_memory_bytes,
        ),
    )


def _batch(row: Row[Any]) -> Batch:
    return Batch(
        batch_id=row.batch_id,
        state=row.state,
        group_ids=msgspec.json.decode(row.group_ids, type=tuple[str, ...]),
        snapshot=msgspec.json.decode(row.snapshot, type=Snapshot) if row.snapshot else None,
    )
