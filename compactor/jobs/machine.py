"""The state machine of a job: facts in, actions out, no I/O.

`handle` takes one fact and returns the actions it calls for; the runner carries them out and
reports what came of them as new facts. The values and the transitions are in `state`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from compactor.jobs.state import (
    GROUP_TRANSITIONS,
    JOB_TRANSITIONS,
    Absent,
    Action,
    Began,
    Broke,
    Cancel,
    CommitAgain,
    CommitBatch,
    Discard,
    Fact,
    Finish,
    Gone,
    GroupProgress,
    GroupState,
    InvalidTransitionError,
    JobState,
    Limits,
    Outdated,
    Settled,
    Start,
    Stopped,
    Suspend,
    Unknown,
    Written,
)

STORY_FACTS_MAX = 20


class JobMachine:
    """All groups of one job and what is to be done about them."""

    def __init__(
        self,
        job_id: str,
        groups: Iterable[GroupProgress],
        *,
        limits: Limits,
        batches: int = 0,
    ) -> None:
        """Take a job up, wherever its groups are.

        Facts handed in before `Began` bring the groups up to date; nothing is started by them.
        What was being committed when the job was interrupted is committed again first.

        Args:
            job_id: prefix of the ids of attempts and batches.
            groups: in the order of work; of a resumed job with their progress so far.
            limits: the bounds to keep.
            batches: commit batches begun so far, so that ids are never used twice.
        """
        self.job_id = job_id
        self.state = JobState.PLANNED
        self._groups = {group.group_id: group for group in groups}
        # Ids by state, in the order in which they came there: thousands of groups, few moves each.
        self._ids: dict[GroupState, dict[str, None]] = {state: {} for state in GroupState}
        for group in self._groups.values():
            self._ids[group.state][group.group_id] = None
        self._changed: set[str] = set()
        self._limits = limits
        self._batches = batches
        self._begun = self._is_suspended = False
        self._is_cancelled = self._is_cancelling = False
        self._batch_failures = self._lost_batches = 0
        self._stop_reason = ""
        self._story: deque[str] = deque(maxlen=STORY_FACTS_MAX)

    @property
    def groups(self) -> tuple[GroupProgress, ...]:
        """All groups, in the order of work."""
        return tuple(self._groups.values())

    @property
    def is_stopping(self) -> bool:
        """Whether no further group is started."""
        return bool(self._stop_reason)

    @property
    def waiting(self) -> tuple[str, ...]:
        """Groups that have yet to be begun, or begun again."""
        return tuple(self._ids[GroupState.WAITING])

    def group(self, group_id: str) -> GroupProgress:
        """Return one group."""
        return self._groups[group_id]

    def take_changes(self) -> list[GroupProgress]:
        """Return the groups that have changed since this was last asked."""
        changed, self._changed = self._changed, set()
        return [self._groups[group_id] for group_id in changed]

    def handle(self, fact: Fact) -> list[Action]:
        """Take in a fact and return what it calls for, in the order in which to do it.

        Raises:
            InvalidTransitionError: the fact cannot follow what came before.
        """
        self._story.append(repr(fact))
        actions = list(self._react(fact))
        if self._begun and not self.state.is_final:
            actions += self._advance()
        return actions

    # One method per fact.

    def _react(self, fact: Fact) -> Iterator[Action]:
        match fact:
            case Began():
                self._begun = True
                self._move_job(JobState.REWRITING)
                yield from self._commit_again()
            case Written():
                self._wrote(fact)
            case Broke():
                yield from self._broke(fact)
            case Settled():
                yield from self._settled(fact)
            case Absent():
                yield from self._absent(fact)
            case Unknown():
                yield from self._unknown(fact)
            case Gone():
                group = self._groups[fact.group_id]
                yield self._discard(fact.group_id, group.attempt_id)
                self._move(replace(group, state=GroupState.WAITING, output_bytes=0))
            case Outdated():
                yield from self._outdated(fact)
            case Stopped():
                self._is_cancelled = True
                yield from self._stop(fact.reason)

    def _wrote(self, fact: Written) -> None:
        group = self._expect_attempt(fact.group_id, fact.attempt_id)
        self._move(replace(group, state=GroupState.WRITTEN, output_bytes=fact.output_bytes))

    def _broke(self, fact: Broke) -> Iterator[Action]:
        group = self._expect_attempt(fact.group_id, fact.attempt_id)
        # What a dying driver or a stop ends is not held against the group.
        is_excused = bool(self._stop_reason) or not self._begun
        if fact.is_retryable and (is_excused or group.attempts < self._limits.attempts_max):
            self._move(replace(group, state=GroupState.WAITING))
        else:
            self._move(replace(group, state=GroupState.FAILED, reason=fact.error))
            yield from self._judge_failures(fact)
        yield self._discard(fact.group_id, fact.attempt_id)

    def _judge_failures(self, fact: Broke) -> Iterator[Action]:
        failures = self._count(GroupState.FAILED)
        if fact.stops_job or self._limits.is_atomic:
            yield from self._stop(fact.error)
        elif failures > self._limits.failures_max and not self._stop_reason:
            self._stop_reason = f"{failures} groups failed, the last with: {fact.error}"

    def _settled(self, fact: Settled) -> Iterator[Action]:
        self._expect_batch(fact.batch_id, {*fact.committed, *(gid for gid, _ in fact.dropped)})
        self._batch_failures = 0
        for group_id in fact.committed:
            self._move(replace(self._groups[group_id], state=GroupState.COMMITTED))
        for group_id, reason in fact.dropped:
            self._move(replace(self._groups[group_id], state=GroupState.DROPPED, reason=reason))
            yield self._discard(group_id, self._groups[group_id].attempt_id)
        self._move_job(JobState.REWRITING)
        if not fact.committed:
            self._count_lost(fact.dropped[-1][1] if fact.dropped else "")

    def _count_lost(self, reason: str) -> None:
        """Start nothing more where commit after commit is lost."""
        self._lost_batches += 1
        if self._lost_batches > self._limits.commit_failures_max and not self._stop_reason:
            lost = (
                "1 commit was" if self._lost_batches == 1 else f"{self._lost_batches} commits were"
            )
            self._stop_reason = f"{lost} lost, the last one: {reason}"

    def _absent(self, fact: Absent) -> Iterator[Action]:
        batch = self._members(fact.batch_id)
        self._expect_batch(fact.batch_id, set(batch))
        self._batch_failures += 1
        is_given_up = self._batch_failures >= self._limits.batch_attempts_max
        if is_given_up:
            self._count_lost(fact.reason)
        for group_id in batch:
            if fact.is_retryable and not is_given_up:
                self._move(replace(self._groups[group_id], state=GroupState.WRITTEN, batch_id=""))
                continue
            end = GroupState.DROPPED if fact.is_retryable else GroupState.FAILED
            self._move(replace(self._groups[group_id], state=end, reason=fact.reason))
            yield self._discard(group_id, self._groups[group_id].attempt_id)
        self._move_job(JobState.REWRITING)
        if not fact.is_retryable:
            yield from self._stop(fact.reason)

    def _unknown(self, fact: Unknown) -> Iterator[Action]:
        self._expect_batch(fact.batch_id, set(self._members(fact.batch_id)))
        self._is_suspended = True
        yield from self._stop(fact.reason)

    def _outdated(self, fact: Outdated) -> Iterator[Action]:
        group = self._groups[fact.group_id]
        self._move(replace(group, state=GroupState.DROPPED, reason=fact.reason))
        if group.state is GroupState.WRITTEN:
            yield self._discard(fact.group_id, group.attempt_id)
        if self._limits.is_atomic:
            yield from self._stop(fact.reason)

    def _stop(self, reason: str) -> Iterator[Action]:
        self._stop_reason = self._stop_reason or reason
        # Before the work has begun, what seems to run died with another process.
        if self._begun and not self._is_cancelling:
            self._is_cancelling = True
            for group in self._in(GroupState.REWRITING):
                yield Cancel(group.attempt_id)

    # What to do next, whatever the fact was.

    def _advance(self) -> Iterator[Action]:
        yield from self._start_waiting()
        running = self._count(GroupState.REWRITING)
        if self._is_suspended:
            if not running:
                yield Suspend(self._stop_reason)
            return
        if self._count(GroupState.COMMITTING):
            return
        batch = self._next_batch(is_idle=not running)
        if batch:
            yield self._commit(batch)
        elif not running:
            yield from self._abandon()
            yield self._finish()

    def _start_waiting(self) -> Iterator[Action]:
        free = self._limits.in_flight_max - self._count(GroupState.REWRITING)
        if self._stop_reason or free <= 0:
            return
        # Thousands may wait: only the next few are looked at.
        for group_id in list(islice(self._ids[GroupState.WAITING], free)):
            group = self._groups[group_id]
            number = group.attempts + 1
            attempt_id = f"{self.job_id}-{group.group_id}-{number}"
            self._move(
                replace(group, state=GroupState.REWRITING, attempts=number, attempt_id=attempt_id)
            )
            yield Start(group.group_id, attempt_id, number)

    def _next_batch(self, *, is_idle: bool) -> list[GroupProgress]:
        written = self._in(GroupState.WRITTEN)
        if self._limits.is_atomic:
            return written if len(written) == len(self._groups) else []
        size_bytes = sum(group.output_bytes for group in written)
        is_full = (
            len(written) >= self._limits.commit_groups_max
            or size_bytes >= self._limits.commit_bytes_max
        )
        return written[: self._limits.commit_groups_max] if is_idle or is_full else []

    def _commit(self, batch: list[GroupProgress]) -> CommitBatch:
        self._batches += 1
        batch_id = f"{self.job_id}-commit-{self._batches}"
        for group in batch:
            self._move(replace(group, state=GroupState.COMMITTING, batch_id=batch_id))
        self._move_job(JobState.COMMITTING)
        return CommitBatch(batch_id, self._batches, tuple(group.group_id for group in batch))

    def _abandon(self) -> Iterator[Discard]:
        """Give up what is written and will not be committed, because it would be a part only."""
        for group in self._in(GroupState.WRITTEN):
            reason = self._stop_reason or "another group of the same changes was lost"
            self._move(replace(group, state=GroupState.DROPPED, reason=reason))
            yield self._discard(group.group_id, group.attempt_id)

    def _commit_again(self) -> Iterator[CommitAgain]:
        for batch_id in {group.batch_id: None for group in self._in(GroupState.COMMITTING)}:
            self._move_job(JobState.COMMITTING)
            yield CommitAgain(batch_id, tuple(self._members(batch_id)))

    def _finish(self) -> Finish:
        lost = [group for group in self.groups if group.state is not GroupState.COMMITTED]
        reasons = [group.reason for group in lost if group.reason]
        reason = self._stop_reason or (reasons[-1] if reasons else "")
        if self._is_cancelled and lost:
            status = JobState.CANCELLED
        elif not lost:
            status, reason = JobState.SUCCEEDED, ""
        else:
            status = JobState.PARTIAL if self._count(GroupState.COMMITTED) else JobState.FAILED
        self._move_job(status)
        return Finish(status, reason)

    # Bookkeeping.

    def _in(self, state: GroupState) -> list[GroupProgress]:
        return [self._groups[group_id] for group_id in self._ids[state]]

    def _count(self, state: GroupState) -> int:
        return len(self._ids[state])

    def _members(self, batch_id: str) -> list[str]:
        return [
            group.group_id
            for group in self._in(GroupState.COMMITTING)
            if group.batch_id == batch_id
        ]

    def _move(self, moved: GroupProgress) -> None:
        """Put a group in place of what it was."""
        group_id, before = moved.group_id, self._groups[moved.group_id]
        if moved.state not in GROUP_TRANSITIONS[before.state]:
            self._refuse(f"group {group_id} cannot go from {before.state} to {moved.state}")
        self._groups[group_id] = moved
        del self._ids[before.state][group_id]
        self._ids[moved.state][group_id] = None
        self._changed.add(group_id)

    def _move_job(self, state: JobState) -> None:
        if state is self.state:
            return
        if state not in JOB_TRANSITIONS[self.state]:
            self._refuse(f"the job cannot go from {self.state} to {state}")
        self.state = state

    def _discard(self, group_id: str, attempt_id: str) -> Discard:
        group = self._groups[group_id]
        is_in_use = group.state in (GroupState.COMMITTING, GroupState.COMMITTED)
        if is_in_use and group.attempt_id == attempt_id:
            self._refuse(f"attempt {attempt_id} is {group.state} and cannot be discarded")
        return Discard(group_id, attempt_id)

    def _expect_attempt(self, group_id: str, attempt_id: str) -> GroupProgress:
        group = self._groups[group_id]
        if group.attempt_id != attempt_id or group.state is not GroupState.REWRITING:
            self._refuse(f"attempt {attempt_id} is not running: {group}")
        return group

    def _expect_batch(self, batch_id: str, group_ids: set[str]) -> None:
        members = set(self._members(batch_id))
        if not members or members != group_ids:
            self._refuse(f"batch {batch_id} holds {sorted(members)}, not {sorted(group_ids)}")

    def _refuse(self, message: str) -> None:
        story = "\n  ".join(self._story)
        raise InvalidTransitionError(f"{message}\nthe last facts:\n  {story}")
