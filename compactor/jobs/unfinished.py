"""Jobs of a table that have not ended: their files and the version they began at are in use."""

from __future__ import annotations

from sqlalchemy import select

from catalog.upkeep import UnfinishedJob
from compactor.jobs.schema import JOBS
from compactor.jobs.store import JobStore


def unfinished_jobs(store: JobStore, table: str) -> tuple[UnfinishedJob, ...]:
    """Return the jobs of a table that run or were interrupted.

    Raises:
        JobFailedError: the store cannot be read.
    """
    query = select(JOBS.c.job_id, JOBS.c.snapshot_before).where(
        JOBS.c.table_name == table, JOBS.c.finished_at_ms.is_(None)
    )
    with store.reading() as connection:
        rows = connection.execute(query).all()
    return tuple(UnfinishedJob(row.job_id, row.snapshot_before) for row in rows)
