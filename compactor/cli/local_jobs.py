"""The jobs of a job store, and how one that runs on this machine is ended."""

from __future__ import annotations

import os
import signal

from compactor.errors import JobFailedError
from compactor.jobs.store import JobDetail, JobRecord, JobStore


class LocalJobs:
    """What `compact jobs` shows and ends without a service."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def jobs(self, *, table: str | None, limit: int) -> tuple[JobRecord, ...]:
        """Return the newest jobs, newest first, of one table or of all."""
        return self._store.jobs(table=table, limit=limit)

    def job(self, job: str) -> JobDetail | None:
        """Return one job by its id or an unambiguous beginning of it."""
        return self._store.job(job)

    def cancel(self, detail: JobDetail, *, reason: str) -> None:
        """Interrupt the process that runs a job, as ^C does.

        Raises:
            JobFailedError: nobody runs it, or a process elsewhere does.
        """
        job = detail.job
        owner = self._store.owner(job.job)
        if owner is None or not job.is_running:
            raise JobFailedError(
                f"job {job.job} does not run",
                hint=f"the next run of the table goes on with it: compact run {job.table}"
                if not job.state.is_final
                else f"it has ended: {job.state}",
            )
        if not owner.is_here:
            raise JobFailedError(
                f"job {job.job} runs as process {owner.pid} on {owner.host.split()[0]}",
                hint="end it there, or through the service that runs it: `--server`",
            )
        os.kill(owner.pid, signal.SIGINT)
