"""Runs a job: carries out what the state machine asks for, journals each step, tells what happens.

The driver's thread does everything but the rewriting: it waits for attempts, commits, deletes.
Every step is journaled before what it calls for begins, so that the process may die anywhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from catalog.commits import Commit
from catalog.errors import CatalogError
from catalog.table import Table
from compactor.jobs.attempts import Attempts, Work
from compactor.jobs.cleanup import Cleaner
from compactor.jobs.commits import commit_batch, make_commit
from compactor.jobs.contention import Lookout
from compactor.jobs.events import OnEvent, ignore
from compactor.jobs.failpoints import Failpoint, hit
from compactor.jobs.interrupts import Interrupts
from compactor.jobs.journal import Happened, Journal, Step
from compactor.jobs.lease import Lease
from compactor.jobs.machine import JobMachine
from compactor.jobs.narration import Narrator
from compactor.jobs.state import (
    Action,
    Began,
    Cancel,
    CommitAgain,
    CommitBatch,
    Discard,
    Finish,
    GroupProgress,
    GroupState,
    Outdated,
    Settled,
    Start,
    Stopped,
    Suspend,
    Written,
)
from compactor.jobs.store import JobStore
from compactor.planner.plan import Plan
from compactor.rewrite.task import RewriteResult
from runtime import Runtime

# How soon an interrupt is noticed while nothing else happens.
POLL_SECONDS = 0.2

Judge = Callable[[GroupProgress], str]
"""Says why a group that is not under way no longer fits the table; empty when it does."""


@dataclass(frozen=True, slots=True)
class JobEnvironment:
    """What jobs work with.

    Attributes:
        runtime: where attempts run, and where manifests are read.
        store: where jobs are recorded.
        on_event: told of everything that happens, in the thread that runs the job. What it raises
            ends the run and leaves the job to be resumed.
    """

    runtime: Runtime
    store: JobStore
    on_event: OnEvent = ignore


@dataclass(slots=True)
class RunningJob:
    """A job taken up by this process.

    Attributes:
        table: the table.
        plan: its plan.
        work: what its attempts have in common.
        journal: its journal.
        lease: the claim it runs under.
        machine: its state.
        cleaner: removes what its attempts leave behind.
        results: answers of the attempts whose files the groups have, by group.
        opening: what became of the things that were under way when it was interrupted.
        stale_attempts: (attempt, group) whose files are to be removed before anything else.
        stale_batches: batches of other processes, whose commits may have left files behind.
        warnings: what commits told of other writers of the table.
        judge: looks at every group that is not under way before the work begins.
        lookout: looks at groups that wait while the work goes on.
        is_resumed: whether another process has begun it.
        is_given_up: whether nothing more of it is done than settling and cleaning.
    """

    table: Table
    plan: Plan
    work: Work
    journal: Journal
    lease: Lease
    machine: JobMachine
    cleaner: Cleaner
    results: dict[str, RewriteResult] = field(default_factory=dict)
    opening: Sequence[Happened] = ()
    stale_attempts: Sequence[tuple[str, str]] = ()
    stale_batches: Sequence[str] = ()
    warnings: set[str] = field(default_factory=set)
    judge: Judge | None = None
    lookout: Lookout | None = None
    is_resumed: bool = False
    is_given_up: bool = False


def run(job: RunningJob, runtime: Runtime, narrator: Narrator) -> Finish | Suspend:
    """Run a job until it has ended or cannot go on now.

    Raises:
        JobFailedError: the job store failed or the claim was lost; the job can be resumed.
    """
    runner = _Runner(job, Attempts(runtime, job.work), narrator)
    try:
        with Interrupts() as interrupts:
            return runner.run(interrupts)
    finally:
        runner.attempts.cancel_all()


class _Runner:
    def __init__(self, job: RunningJob, attempts: Attempts, narrator: Narrator) -> None:
        self.attempts = attempts
        self._job = job
        self._narrator = narrator
        self._groups = {group.group_id: group for group in job.plan.groups}
        self._undeleted: list[tuple[str, str]] = list(job.stale_attempts)
        self._end: Finish | Suspend | None = None

    def run(self, interrupts: Interrupts) -> Finish | Suspend:
        """Go through the whole job."""
        self._open()
        is_stopping = False
        while self._end is None:
            if interrupts.requested and not is_stopping:
                is_stopping = True
                self._take(Happened(Stopped("interrupted")))
            for ended in self.attempts.wait(POLL_SECONDS):
                hit(Failpoint.RESULT_RECEIVED)
                self._drop_taken()
                self._take(ended)
        self._delete_again()
        if isinstance(self._end, Finish):
            self._clean_commits()
        return self._end

    def _open(self) -> None:
        """Bring the groups up to date, then let the work begin."""
        self._delete_again()
        for happened in self._job.opening:
            self._take(happened)
        judge = self._job.judge
        for group in self._job.machine.groups:
            if judge and group.state in (GroupState.WAITING, GroupState.WRITTEN):
                reason = judge(group)
                if reason:
                    self._take(Happened(Outdated(group.group_id, reason)))
        self._take(Happened(Began()))

    def _drop_taken(self) -> None:
        """Drop groups that others have done, before the end of an attempt makes them begin."""
        machine, lookout = self._job.machine, self._job.lookout
        if lookout is not None and not machine.is_stopping:
            for group_id, reason in lookout.taken(machine.waiting).items():
                self._take(Happened(Outdated(group_id, reason)))

    def _take(self, happened: Happened) -> None:
        """Take in one fact and everything that follows from it at once."""
        waiting = deque([happened])
        while waiting:
            happened = waiting.popleft()
            actions = self._job.machine.handle(happened.fact)
            self._record(happened, actions)
            self._narrator.happened(happened, self._job.machine)
            for action in actions:
                waiting.extend(self._do(action))

    def _record(self, happened: Happened, actions: Sequence[Action]) -> None:
        machine = self._job.machine
        # The job ends when all is cleaned and added up, not when the machine says so.
        state = None if machine.state.is_final else machine.state
        self._job.journal.record(Step(happened, actions, machine.take_changes(), state))
        self._job.warnings.update(happened.warnings)
        match happened.fact:
            case Written(group_id=group_id) if happened.result is not None:
                self._job.results[group_id] = happened.result
                hit(Failpoint.RESULT_JOURNALED)
            case Settled():
                hit(Failpoint.BATCH_SETTLED)

    def _do(self, action: Action) -> list[Happened]:
        """Carry out an action; return what has come of it by then."""
        match action:
            case Start():
                return self._start(action)
            case Cancel():
                self.attempts.cancel(action.attempt_id)
            case Discard():
                self._discard(action)
            case CommitBatch() | CommitAgain():
                return [self._commit(action)]
            case Finish() | Suspend():
                self._end = action
        return []

    def _start(self, start: Start) -> list[Happened]:
        hit(Failpoint.ATTEMPT_JOURNALED)
        self._narrator.started(start)
        refused = self.attempts.start(start, self._groups[start.group_id])
        hit(Failpoint.ATTEMPT_SUBMITTED)
        return [] if refused is None else [refused]

    def _commit(self, batch: CommitBatch | CommitAgain) -> Happened:
        hit(Failpoint.BATCH_JOURNALED)
        self._job.lease.check()
        outcome = commit_batch(self._job.table, self._commit_of(batch.batch_id, batch.group_ids))
        hit(Failpoint.BATCH_COMMITTED)
        return outcome

    def _commit_of(self, batch_id: str, group_ids: Sequence[str]) -> Commit:
        return make_commit(
            self._job.plan,
            {group_id: self._job.results[group_id] for group_id in group_ids},
            batch_id=batch_id,
            job_id=self._job.journal.job_id,
            fence=self._job.lease.fence,
        )

    def _discard(self, action: Discard) -> None:
        hit(Failpoint.DISCARD_BEGUN)
        partition_key = self._groups[action.group_id].partition_key
        try:
            self._job.cleaner.discard(action.attempt_id, partition_key)
        except CatalogError:
            # Deleting may wait, the work may not: tried again before the job ends.
            self._undeleted.append((action.attempt_id, action.group_id))
            return
        hit(Failpoint.DISCARD_DONE)
        self._job.journal.discarded(action.attempt_id)

    def _delete_again(self) -> None:
        """Remove what is known to be left.

        Raises:
            CatalogError: it still cannot be removed; the job stays unfinished, to do it later.
        """
        for attempt_id, group_id in self._undeleted:
            self._job.cleaner.discard(attempt_id, self._groups[group_id].partition_key)
            self._job.journal.discarded(attempt_id)
        self._undeleted.clear()

    def _clean_commits(self) -> None:
        """Remove what commits of processes that died have left behind; all are settled by now.

        Raises:
            CatalogError: it cannot be removed now; the job stays unfinished, to do it later.
        """
        for batch_id in self._job.stale_batches:
            self._job.table.clean_commit(self._commit_of(batch_id, ()))
