"""Forgetting jobs that ended long ago, some at the end of each job: the store stays of one size.

A job that has not ended is never forgotten, whatever its age: its journal is how it is finished and
cleaned up. Nor are fences, which must not go back.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from compactor.jobs.lease import FINAL_STATES, job_id_beginning
from compactor.jobs.schema import ATTEMPTS, BATCHES, GROUPS, JOBS, PLANS
from compactor.jobs.store import JobStore, now_ms

# One job is added at a time: a backlog shrinks, and no job waits long for it.
_JOBS_AT_ONCE_MAX = 50


def forget_old_jobs(store: JobStore, history_seconds: float) -> int:
    """Delete some of the jobs that ended longer ago; return how many.

    Args:
        store: the job store.
        history_seconds: how long jobs are kept after their end; 0 keeps them all.

    Raises:
        JobFailedError: the store cannot be read or written.
    """
    if not history_seconds:
        return 0
    with store.transaction() as connection:
        ends_before_ms = now_ms(connection) - int(history_seconds * 1000)
        job_ids = _ended_before(connection, ends_before_ms)
        if job_ids:
            for rows in (PLANS, GROUPS, ATTEMPTS, BATCHES, JOBS):
                connection.execute(delete(rows).where(rows.c.job_id.in_(job_ids)))
    return len(job_ids)


def _ended_before(connection: Connection, ends_before_ms: int) -> list[str]:
    # What ended before was begun before: ids tell that, and are indexed.
    begun_before = JOBS.c.job_id < job_id_beginning(max(0, ends_before_ms))
    ended = JOBS.c.state.in_(FINAL_STATES), JOBS.c.finished_at_ms < ends_before_ms
    query = select(JOBS.c.job_id).where(begun_before, *ended).order_by(JOBS.c.job_id)
    # Two processes at once take different jobs.
    query = query.limit(_JOBS_AT_ONCE_MAX).with_for_update(skip_locked=True)
    return list(connection.execute(query).scalars())
