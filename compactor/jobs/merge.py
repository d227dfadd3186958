"""Merging changes into a table from end to end: claim it, read what is new, match, write, commit.

Everything that is merged is committed at once, together with how far its sources were read. So a
merge that died is either in the table as a whole, or is done again from what the table says; what
it had written and not committed is committed where all of it is there, else removed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from catalog.table import MapFunction, Table
from compactor.jobs.contention import wait_a_while
from compactor.jobs.events import ChangesRead, JobPlanned, OnEvent, ignore
from compactor.jobs.execution import execute
from compactor.jobs.failpoints import Failpoint, MergeFailpoint, hit
from compactor.jobs.journal import JobStart, Journal
from compactor.jobs.lease import Lease, claim
from compactor.jobs.merge_changes import Arrived, MergeRequest, as_stored, find_arrivals
from compactor.jobs.merge_evolving import evolved, narrowed
from compactor.jobs.merge_filters import keep_new_filters
from compactor.jobs.merge_planning import (
    MergeGround,
    PlannedMerge,
    Writing,
    plan_changes,
    plan_nothing,
)
from compactor.jobs.merge_proof import MergeProof, prove
from compactor.jobs.merge_rounds import ChangeRounds
from compactor.jobs.options import JobOptions
from compactor.jobs.report import JobReport
from compactor.jobs.resume import Ground, begin, take_up
from compactor.jobs.runner import JobEnvironment
from compactor.jobs.spread import spread
from compactor.jobs.state import JobState
from compactor.jobs.summary import Stopwatch, combine
from compactor.proof import Proof
from runtime import Runtime

_OTHER_PLAN = "changes are to be merged"


def plan_merge(
    table: Table, request: MergeRequest, *, writing: Writing, runtime: Runtime
) -> PlannedMerge:
    """Plan a merge into the current snapshot; nothing is written anywhere.

    Raises:
        ChangesRefusedError: the changes cannot be merged.
        UnsupportedTableError: the table does not take them.
        CatalogError: the table or a source cannot be read.
    """
    return _Planner(table, request, writing, runtime, prepare=narrowed).plan()


def merge_into(
    table: Table,
    request: MergeRequest,
    *,
    writing: Writing,
    environment: JobEnvironment,
    options: JobOptions,
) -> JobReport:
    """Merge what is new; what another writer's commit got in the way of is matched again.

    An interrupted merge is finished first, or what it has left behind is removed.

    Args:
        table: the table.
        request: where the changes come from, and how they are read.
        writing: how files are written.
        environment: what jobs work with.
        options: limits of each job.

    Raises:
        ChangesRefusedError: the changes cannot be merged; nothing was written.
        UnsupportedTableError: the table does not take them; nothing was written.
        TableBusyError: another job of the same store works on the table.
        CommitUnknownError: the outcome of a commit cannot be told, and the job was left
            unfinished. The same call continues it.
        JobFailedError: the job store does not answer; again, the same call continues the job.
        VerificationError: a full proof was asked for, and the table does not hold what it must.
        CatalogError: the table or a source cannot be read.
    """
    planner = _Planner(
        table,
        request,
        writing,
        environment.runtime,
        prepare=evolved,
        on_event=environment.on_event,
    )
    with claim(environment.store, table.name) as lease:
        session = _Session(planner, lease, environment, options)
        reports = [report] if (report := session.finish_unfinished()) else []
        tried, is_done = 0, False
        while not is_done:
            if tried:
                wait_a_while(reports[-1].seconds, tried)
            watch = Stopwatch.start()
            planned = planner.plan()
            report = session.run_new(planned, watch)
            reports.append(report)
            is_merged = report.status is JobState.SUCCEEDED
            if is_merged and planned.filtering is not None:
                keep_new_filters(table, planned.filtering, map_function=planner.map)
            tried = 0 if is_merged else tried + 1
            is_done = planned.is_last if is_merged else not _is_worth_a_try(report, tried, options)
        report = combine(reports)
        if options.proof is not Proof.FULL:
            return report
        return prove(MergeProof(table, request, environment.runtime), reports, report)


@dataclass(slots=True)
class _Planner:
    """Plans a merge round by round, and each round as often as it takes.

    Attributes:
        table: the table.
        request: what is merged.
        writing: how files are written.
        runtime: runs the reading.
        prepare: makes the table and the changes fit each other.
        on_event: told when changes were read.
    """

    table: Table
    request: MergeRequest
    writing: Writing
    runtime: Runtime
    prepare: Callable[[Table, MergeRequest, Arrived], Arrived]
    on_event: OnEvent = ignore
    _rounds: ChangeRounds = field(init=False)

    def __post_init__(self) -> None:
        """Prepare to read."""
        self._rounds = ChangeRounds(self.runtime, self.table.name)

    @property
    def map(self) -> MapFunction:
        """How catalog work is spread."""
        return spread(self.runtime)

    def plan(self) -> PlannedMerge:
        """Plan what is new against the current snapshot."""
        arrived = find_arrivals(self.table, self.request)
        arrived = self.prepare(self.table, self.request, arrived)
        snapshot = self.table.snapshot()
        ground = MergeGround(
            table=self.table,
            snapshot=snapshot,
            inventory=self.table.inventory(snapshot, map_function=self.map),
            files=self.table.files(snapshot),
        )
        if not arrived.news:
            return plan_nothing(ground, arrived.merged, writing=self.writing)
        schema = ground.files.schema
        changes = self._rounds.read(*as_stored(self.request, arrived, schema), schema)
        reading = changes.reading
        self.table.check_change(reading.scope)
        self.on_event(ChangesRead(reading.upserts, reading.deleting, reading.superseded))
        hit(MergeFailpoint.CHANGES_READ)
        planned = plan_changes(ground, changes, writing=self.writing, runtime=self.runtime)
        hit(MergeFailpoint.CHANGES_MATCHED)
        return planned


class _Session:
    """One claim on a table and the jobs that are run under it."""

    def __init__(
        self, planner: _Planner, lease: Lease, environment: JobEnvironment, options: JobOptions
    ) -> None:
        self._planner = planner
        self._lease = lease
        self._environment = environment
        self._ground = Ground(planner.table, environment.store, lease, options)

    def finish_unfinished(self) -> JobReport | None:
        """Finish or give up the job found with the table; None unless changes were merged."""
        if not self._lease.is_resumable:
            return None
        watch = Stopwatch.start()
        recorded = Journal(self._environment.store, self._lease.job_id).plan()
        giving_up = "" if recorded.change is not None else _OTHER_PLAN
        job = take_up(self._ground, giving_up=giving_up, map_function=self._planner.map)
        report = execute(job, self._environment, watch, map_function=self._planner.map)
        self._lease.next_job()
        is_merged = recorded.change is not None and report.status is JobState.SUCCEEDED
        return report if is_merged else None

    def run_new(self, planned: PlannedMerge, watch: Stopwatch) -> JobReport:
        """Record a plan as a job and run it."""
        job_id, plan = self._lease.job_id, planned.plan
        self._environment.on_event(JobPlanned(job_id, plan))
        start = JobStart(job_id, self._lease.fence, self._ground.options.proof, planned.before)
        job = begin(self._ground, plan, start, merges=planned.merges)
        hit(Failpoint.PLAN_JOURNALED)
        report = execute(job, self._environment, watch, map_function=self._planner.map)
        self._lease.next_job()
        return report


def _is_worth_a_try(last: JobReport, tried: int, options: JobOptions) -> bool:
    """Whether a merge was lost to another writer's commit, and nothing else."""
    is_lost = last.groups.dropped > 0 and not last.groups.failed
    is_ended = last.status is JobState.CANCELLED
    return is_lost and not is_ended and tried < options.merge_attempts_max
