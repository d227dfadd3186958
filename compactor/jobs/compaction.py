"""Compacting a table from end to end: claim it, finish what was left, plan, run, plan again."""

from __future__ import annotations

import time
from dataclasses import replace

from catalog.errors import SnapshotNotFoundError
from catalog.model import Inventory, Snapshot
from catalog.table import Table
from compactor.errors import PlanStaleError
from compactor.jobs.contention import (
    in_small_steps,
    scattered,
    start_workers,
    wait_a_while,
    without_others,
)
from compactor.jobs.events import JobPlanned
from compactor.jobs.execution import execute
from compactor.jobs.failpoints import Failpoint, hit
from compactor.jobs.journal import JobStart, Journal
from compactor.jobs.lease import Lease, claim
from compactor.jobs.options import JobOptions
from compactor.jobs.planning import plan_snapshot, table_state
from compactor.jobs.report import JobReport
from compactor.jobs.resume import Ground, begin, take_up
from compactor.jobs.runner import JobEnvironment, Judge, RunningJob
from compactor.jobs.spread import spread
from compactor.jobs.staleness import outdated_groups
from compactor.jobs.starvation import Starvation, starving, without_starving
from compactor.jobs.state import JobState
from compactor.jobs.summary import Stopwatch, combine
from compactor.jobs.totals import TableTotals
from compactor.planner.plan import Plan
from compactor.planner.planfile import encode_plan
from compactor.planner.policy import Policy
from compactor.sort_keys import Strategy

# A table that none of so many jobs has lost a group of is left to its jobs.
_JOBS_REMEMBERED = 10
# Jobs of one command on a table that takes announced work, one kind at a time. Should ever more be
# due, the next command does it.
_STAGES_MAX = 100


def compact_table(
    table: Table, policy: Policy, *, environment: JobEnvironment, options: JobOptions
) -> JobReport:
    """Finish the job that an interrupted run left, or else plan and run; conflicts are replanned.

    Raises:
        TableBusyError: another job of the same store works on the table.
        CommitUnknownError: the outcome of a commit cannot be told, and the job was left
            unfinished. The same call continues it.
        JobFailedError: the job store does not answer; again, the same call continues the job.
        CatalogError: the table cannot be read.
    """
    with claim(environment.store, table.name) as lease:
        session = _Session(table, lease, environment, options)
        reports = [report] if (report := session.finish_unfinished()) else []
        is_stage = False
        while not reports or is_stage or _is_worth_another_round(reports, options):
            if reports and not is_stage:
                wait_a_while(reports[-1].seconds, len(reports))
            watch = Stopwatch.start()
            session.prepare()
            plan, before = session.plan(policy)
            if is_stage and not plan.groups:
                break
            reports.append(session.run_new(plan, before, watch))
            # One kind of work is done at a time, and so much of it: more may be due.
            is_done = reports[-1].status is JobState.SUCCEEDED
            is_staged = plan.announced is not None or policy.strategy is Strategy.AUTO
            is_stage = is_staged and bool(plan.groups) and is_done
            is_stage = is_stage and len(reports) < _STAGES_MAX
        return replace(combine(reports), starving=session.starving())


def apply_plan(
    table: Table, plan: Plan, *, environment: JobEnvironment, options: JobOptions
) -> JobReport:
    """Run a plan that was made before; an unfinished job of another plan is given up first.

    Raises:
        PlanStaleError: none of its groups is as it was planned any more, or its snapshot has
            expired.
        TableBusyError: another job of the same store works on the table.
        CommitUnknownError, JobFailedError: as for `compact_table`.
    """
    with claim(environment.store, table.name) as lease:
        session = _Session(table, lease, environment, options)
        report = session.finish_unfinished(wanted=plan)
        return report or session.run_saved(plan)


class _Session:
    """One claim on a table and the jobs that are run under it."""

    def __init__(
        self, table: Table, lease: Lease, environment: JobEnvironment, options: JobOptions
    ) -> None:
        self._table = table
        self._lease = lease
        self._environment = environment
        self._options = options
        self._ground = Ground(table, environment.store, lease, options)
        self._map = spread(environment.runtime)
        self._is_contended = False
        self._starving: dict[str, Starvation] = {}

    def finish_unfinished(self, wanted: Plan | None = None) -> JobReport | None:
        """Finish the job found with the table; None when there was none or it could not go on.

        Args:
            wanted: the only plan that is worth going on with; None for any.
        """
        if not self._lease.is_resumable:
            return None
        watch = Stopwatch.start()
        giving_up = ""
        if wanted is not None:
            recorded = Journal(self._environment.store, self._lease.job_id).plan()
            is_wanted = encode_plan(recorded) == encode_plan(wanted)
            giving_up = "" if is_wanted else "another plan was asked for"
        job = take_up(self._ground, giving_up=giving_up, map_function=self._map)
        report = self._run(job, watch)
        self._lease.next_job()
        # Changes that were merged on the way are no compaction yet.
        return None if job.is_given_up or job.plan.change is not None else report

    def prepare(self) -> None:
        """Where other writers have lately taken groups away, work in small steps."""
        store = self._environment.store
        lost = store.lost_partitions(self._table.name, jobs=_JOBS_REMEMBERED)
        self._is_contended = any(one.is_lost for one in lost)
        self._starving = starving(lost)
        options = self._options
        if self._is_contended:
            options = in_small_steps(options, self._environment.runtime)
            start_workers(self._environment.runtime)
        self._ground = replace(self._ground, options=options)

    def plan(self, policy: Policy) -> tuple[Plan, TableTotals]:
        """Plan against the current snapshot."""
        snapshot = self._table.snapshot()
        inventory = self._inventory(snapshot)
        state = replace(
            table_state(self._table, snapshot, inventory),
            halvings={name: one.halvings for name, one in self._starving.items()},
        )
        now_ms = time.time_ns() // 1_000_000
        files = self._table.files(snapshot)
        plan = plan_snapshot(state, files, policy, now_ms=now_ms, map_function=self._map)
        # What others have announced is carried out as a whole.
        if self._is_contended and not (plan.announced and plan.announced.work_id):
            plan = without_others(plan, inventory, self._our_jobs(), now_ms)
            plan = without_starving(plan, self._starving, now_ms)
            plan = scattered(plan, self._lease.job_id)
        return plan, TableTotals.of(inventory)

    def starving(self) -> tuple[Starvation, ...]:
        """Return the partitions that jobs keep losing, this one included, the worst first."""
        lost = self._environment.store.lost_partitions(self._table.name, jobs=_JOBS_REMEMBERED)
        known = [one for one in starving(lost).values() if one.losses > 1]
        return tuple(sorted(known, key=lambda one: (-one.losses, one.partition)))

    def _our_jobs(self) -> frozenset[str]:
        jobs = self._environment.store.jobs(table=self._table.name, limit=_JOBS_REMEMBERED)
        return frozenset(job.job for job in jobs)

    def run_new(
        self, plan: Plan, before: TableTotals, watch: Stopwatch, *, judge: Judge | None = None
    ) -> JobReport:
        """Record a plan as a job and run it."""
        job_id = self._lease.job_id
        self._environment.on_event(JobPlanned(job_id, plan))
        start = JobStart(job_id, self._lease.fence, self._options.proof, before)
        job = begin(self._ground, plan, start)
        job.judge = job.judge or judge
        hit(Failpoint.PLAN_JOURNALED)
        report = self._run(job, watch)
        self._lease.next_job()
        return report

    def run_saved(self, plan: Plan) -> JobReport:
        """Run a plan that may be old."""
        watch = Stopwatch.start()
        try:
            base = self._table.snapshot(plan.snapshot.snapshot_id)
        except SnapshotNotFoundError as error:
            raise PlanStaleError(
                f"the plan was made from snapshot {plan.snapshot.snapshot_id}, which has expired",
                hint="plan again",
            ) from error
        inventory = self._inventory(base)
        current = self._table.snapshot()
        is_moved = current != base
        outdated = outdated_groups(plan.groups, self._inventory(current)) if is_moved else {}
        if outdated and len(outdated) == len(plan.groups):
            raise PlanStaleError(
                f"no group of the plan fits `{plan.table}` any more: {min(outdated.values())}",
                hint="plan again",
            )
        before = TableTotals.of(inventory)
        return self.run_new(
            plan, before, watch, judge=lambda group: outdated.get(group.group_id, "")
        )

    def _inventory(self, snapshot: Snapshot) -> Inventory:
        return self._table.inventory(snapshot, map_function=self._map)

    def _run(self, job: RunningJob, watch: Stopwatch) -> JobReport:
        return execute(job, self._environment, watch, map_function=self._map)


def _is_worth_another_round(reports: list[JobReport], options: JobOptions) -> bool:
    last = reports[-1]
    has_ended = last.status in (JobState.SUCCEEDED, JobState.CANCELLED)
    return not has_ended and last.groups.dropped > 0 and len(reports) < options.rounds_max
