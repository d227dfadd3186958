"""Runs one job, new or taken up, to its end, and records what came of it."""

from __future__ import annotations

from catalog.errors import CommitUnknownError
from catalog.table import MapFunction
from compactor.jobs.announcing import withdraw
from compactor.jobs.contention import Lookout
from compactor.jobs.events import JobFinished, JobStarted
from compactor.jobs.failpoints import Failpoint, hit
from compactor.jobs.narration import Narrator
from compactor.jobs.report import JobReport
from compactor.jobs.runner import JobEnvironment, RunningJob, run
from compactor.jobs.state import GroupState, JobState, Suspend
from compactor.jobs.summary import Stopwatch, summarise


def execute(
    job: RunningJob, environment: JobEnvironment, watch: Stopwatch, *, map_function: MapFunction
) -> JobReport:
    """Run a job to its end and record that.

    Raises:
        CommitUnknownError: it cannot go on before it knows what became of a commit.
        JobFailedError: the job store does not answer.
    """
    emit = environment.on_event
    emit(_started(job))
    job.lookout = Lookout(job.table, job.plan, map_function)
    narrator = Narrator(job.journal.job_id, job.plan, emit)
    end = run(job, environment.runtime, narrator)
    if isinstance(end, Suspend):
        raise CommitUnknownError(
            f"job {job.journal.job_id} cannot tell what became of a commit: {end.reason}",
            hint="nothing was removed; the same command looks the commit up and goes on",
        )
    hit(Failpoint.JOB_ENDING)
    if end.status is not JobState.SUCCEEDED:
        withdraw(job.table, job.plan, job.journal.job_id, job.machine.groups)
    report = summarise(job, end, watch, map_function=map_function)
    job.journal.finish(end.status, end.reason, report)
    hit(Failpoint.JOB_ENDED)
    emit(JobFinished(job.journal.job_id, end.status, end.reason))
    return report


def _started(job: RunningJob) -> JobStarted:
    groups = job.machine.groups
    is_open = (GroupState.WAITING, GroupState.REWRITING)
    return JobStarted(
        job=job.journal.job_id,
        table=job.plan.table,
        groups=len(groups),
        input_bytes=sum(group.files.size_bytes for group in job.plan.groups),
        groups_done=sum(group.state not in is_open for group in groups),
        is_resumed=job.is_resumed,
    )
