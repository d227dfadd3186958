"""Tells what happens to a job: facts and starts of the machine become events."""

from __future__ import annotations

from compactor.jobs.events import (
    AttemptFailed,
    BatchCommitted,
    GroupDropped,
    GroupFailed,
    GroupFinished,
    GroupStarted,
    JobStopping,
    OnEvent,
)
from compactor.jobs.journal import Happened
from compactor.jobs.machine import JobMachine
from compactor.jobs.state import (
    Absent,
    Broke,
    GroupState,
    Outdated,
    Settled,
    Start,
    Stopped,
    Unknown,
    Written,
)
from compactor.planner.plan import Plan


class Narrator:
    """Makes the events of one job and hands them to a callback."""

    def __init__(self, job_id: str, plan: Plan, on_event: OnEvent) -> None:
        self._job = job_id
        self._groups = {group.group_id: group for group in plan.groups}
        self._emit = on_event

    def started(self, start: Start) -> None:
        """Tell that an attempt is handed to the runtime."""
        group = self._groups[start.group_id]
        self._emit(
            GroupStarted(
                job=self._job,
                group_id=start.group_id,
                partition=group.partition,
                attempt=start.number,
                input_bytes=group.files.size_bytes,
            )
        )

    def happened(self, happened: Happened, machine: JobMachine) -> None:
        """Tell a fact that the machine has taken in."""
        match happened.fact:
            case Written(group_id=group_id):
                self._finished(group_id, happened)
            case Broke(group_id=group_id):
                self._broke(happened.fact, machine)
            case Settled(committed=committed, dropped=dropped):
                if committed:
                    snapshot_id = happened.snapshot.snapshot_id if happened.snapshot else ""
                    self._emit(BatchCommitted(self._job, committed, snapshot_id))
                for group_id, reason in dropped:
                    self._dropped(group_id, reason)
            case Outdated(group_id=group_id, reason=reason):
                self._dropped(group_id, reason)
            case Absent(reason=reason) | Unknown(reason=reason):
                self._absent(reason, machine)
            case Stopped(reason=reason):
                self._emit(JobStopping(self._job, reason))

    def _finished(self, group_id: str, happened: Happened) -> None:
        group = self._groups[group_id]
        outputs = happened.result.outputs if happened.result else ()
        self._emit(
            GroupFinished(
                job=self._job,
                group_id=group_id,
                partition=group.partition,
                input_bytes=group.files.size_bytes,
                output_bytes=sum(output.size_bytes for output in outputs),
                output_files=len(outputs),
            )
        )

    def _broke(self, fact: Broke, machine: JobMachine) -> None:
        group = machine.group(fact.group_id)
        is_failed = group.state is GroupState.FAILED
        # The machine may have begun the next attempt already.
        number = group.attempts - (group.state is GroupState.REWRITING)
        self._emit(AttemptFailed(self._job, fact.group_id, number, fact.error, not is_failed))
        if is_failed:
            partition = self._groups[fact.group_id].partition
            self._emit(GroupFailed(self._job, fact.group_id, partition, fact.error))

    def _dropped(self, group_id: str, reason: str) -> None:
        partition = self._groups[group_id].partition
        self._emit(GroupDropped(self._job, group_id, partition, reason))

    def _absent(self, reason: str, machine: JobMachine) -> None:
        """Tell of a commit that did not happen: the job goes on with it, or stops."""
        if machine.is_stopping:
            self._emit(JobStopping(self._job, reason))
