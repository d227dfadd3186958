"""What has happened to a job between two looks at its record, as the events it told then.  Pure.

Whoever watches a job that runs elsewhere sees its record change; told again as events, the change
is shown as if the job ran here.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from compactor.jobs.events import (
    AttemptFailed,
    BatchCommitted,
    Event,
    GroupDropped,
    GroupFailed,
    GroupFinished,
    JobFinished,
    JobStarted,
)
from compactor.jobs.state import GroupState
from compactor.jobs.store import AttemptRecord, GroupRecord, JobDetail

_WRITTEN = frozenset(
    {GroupState.WRITTEN, GroupState.COMMITTING, GroupState.COMMITTED, GroupState.DROPPED}
)


def retold(before: JobDetail | None, after: JobDetail) -> Iterator[Event]:
    """Yield the events between two looks at one job.

    Args:
        before: the look before; None for the first one, or when that saw another job.
        after: this look.
    """
    job = after.job.job
    if before is None or before.job.job != job:
        before = None
        yield JobStarted(job, after.job.table, after.job.groups, after.job.input_bytes)
    known = {group.group_id: group for group in before.groups} if before else {}
    yield from _attempts(before, after)
    for group in after.groups:
        yield from _group(job, known.get(group.group_id), group)
    yield from _batches(before, after)
    if after.job.state.is_final and not (before and before.job.state.is_final):
        yield JobFinished(job, after.job.state, after.job.reason)


def _attempts(before: JobDetail | None, after: JobDetail) -> Iterator[Event]:
    known = {one.attempt_id: one.state for one in before.attempts} if before else {}
    numbers: dict[str, int] = {}
    for one in after.attempts:
        numbers[one.group_id] = number = numbers.get(one.group_id, 0) + 1
        if one.state == "failed" and known.get(one.attempt_id) != "failed":
            later = any(other.group_id == one.group_id for other in _since(after, one.attempt_id))
            yield AttemptFailed(after.job.job, one.group_id, number, one.error, is_retried=later)


def _since(detail: JobDetail, attempt_id: str) -> Iterator[AttemptRecord]:
    ids = [one.attempt_id for one in detail.attempts]
    yield from detail.attempts[ids.index(attempt_id) + 1 :]


def _group(job: str, before: GroupRecord | None, after: GroupRecord) -> Iterator[Event]:
    was = before.state if before else GroupState.WAITING
    if after.state is was:
        return
    if after.state in _WRITTEN and was not in _WRITTEN:
        yield GroupFinished(
            job, after.group_id, after.partition, after.input_bytes, after.output_bytes, 0
        )
    if after.state is GroupState.DROPPED:
        yield GroupDropped(job, after.group_id, after.partition, after.reason)
    if after.state is GroupState.FAILED:
        yield GroupFailed(job, after.group_id, after.partition, after.reason)


def _batches(before: JobDetail | None, after: JobDetail) -> Iterator[Event]:
    known = {one.batch_id: one.state for one in before.batches} if before else {}
    left = iter(sorted(_committed(after) - (_committed(before) if before else set())))
    for one in after.batches:
        is_new = one.state == "settled" and known.get(one.batch_id) != "settled"
        if is_new and one.snapshot_id:
            yield BatchCommitted(after.job.job, tuple(islice(left, one.groups)), one.snapshot_id)


def _committed(detail: JobDetail) -> set[str]:
    return {one.group_id for one in detail.groups if one.state is GroupState.COMMITTED}
