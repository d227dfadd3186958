"""Adds up what a job has done, from its journal and from the table, into its report."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from catalog.errors import CatalogError, SnapshotNotFoundError
from catalog.model import Inventory
from catalog.table import MapFunction
from compactor.jobs.journal import SETTLED, Attempt, Batch
from compactor.jobs.report import (
    CommitCounts,
    GroupCounts,
    GroupProblem,
    JobReport,
    OrderGain,
)
from compactor.jobs.runner import RunningJob
from compactor.jobs.state import Finish, GroupProgress, GroupState, JobState
from compactor.jobs.totals import (
    CommittedBatch,
    TableTotals,
    TotalsCheck,
    check_totals,
    visible_rows,
)
from compactor.planner.plan import ChangeCounts, ChangePlan
from compactor.rewrite.task import RewriteResult, merged_splices


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """When this process began with the job: monotonic and CPU seconds."""

    wall_seconds: float
    cpu_seconds: float

    @staticmethod
    def start() -> Stopwatch:
        """Begin now."""
        return Stopwatch(time.monotonic(), time.process_time())


def summarise(
    job: RunningJob, end: Finish, watch: Stopwatch, *, map_function: MapFunction
) -> JobReport:
    """Make the report of a job that has ended.

    Args:
        job: the job.
        end: how it ended.
        watch: when this process began with it.
        map_function: runs the reading of manifests.
    """
    groups, attempts = job.machine.groups, job.journal.attempts()
    answers = _answers(groups, attempts)
    results = [attempt.result for attempt in attempts if attempt.result]
    rows_dropped = sum(answer.rows_dropped for answer in answers.values())
    rows_added = sum(answer.rows_added for answer in answers.values())
    rows_tail = sum(answer.rows_tail for answer in answers.values())
    batches = [batch for batch in job.journal.batches() if batch.state == SETTLED]
    before = job.journal.before()
    totals = _check(job, _committed(batches, groups, answers), map_function)
    last = next((batch.snapshot for batch in reversed(batches) if batch.snapshot), None)
    return JobReport(
        job=job.journal.job_id,
        table=job.plan.table,
        status=end.status,
        reason=end.reason,
        snapshot_before=job.plan.snapshot.snapshot_id,
        snapshot_after=last.snapshot_id if last else job.plan.snapshot.snapshot_id,
        files_before=before.files,
        files_after=totals.after.files,
        bytes_read=sum(result.bytes_read for result in results),
        bytes_written=sum(result.bytes_written for result in results),
        bytes_spliced=sum(result.splice.copied_bytes for result in results),
        bytes_kept=job.plan.kept_bytes,
        rows_before=before.rows + rows_tail - (0 if job.plan.change else rows_dropped),
        rows_after=totals.after.rows,
        rows_dropped=rows_dropped,
        rows_added=rows_added,
        rows_tail=rows_tail,
        verified=totals.agrees,
        conflicts=sum(group.state is GroupState.DROPPED and group.attempts > 0 for group in groups),
        cpu_seconds=(
            time.process_time()
            - watch.cpu_seconds
            + sum(attempt.measured.cpu_seconds for attempt in attempts)
        ),
        peak_memory_bytes=max(
            (attempt.measured.peak_memory_bytes for attempt in attempts), default=0
        ),
        seconds=time.monotonic() - watch.wall_seconds,
        groups=_counts(groups),
        problems=_problems(job),
        warnings=tuple(sorted(job.warnings)),
        splice=merged_splices(result.splice for result in results),
        is_resumed=job.is_resumed,
        order=_order_gain(job, answers, map_function),
        change=job.plan.change if end.status is JobState.SUCCEEDED else _undone(job.plan.change),
        commits=_commit_counts(job.journal.batches()),
        rows_marked=sum(answer.rows_marked for answer in answers.values()),
    )


def _commit_counts(batches: Sequence[Batch]) -> CommitCounts:
    made = sum(batch.state == SETTLED and batch.snapshot is not None for batch in batches)
    return CommitCounts(made, len(batches) - made)


def _undone(change: ChangePlan | None) -> ChangePlan | None:
    """Return what a merge looked at and did not bring into the table."""
    return change and replace(change, watermarks=(), counts=ChangeCounts())


def _order_gain(
    job: RunningJob, answers: Mapping[str, RewriteResult], map_function: MapFunction
) -> OrderGain | None:
    """Measure what the order of rows spares readers now."""
    cluster = job.plan.cluster
    if cluster is None:
        return None
    from compactor.jobs.clustering import measure_gain  # lazy: seldom

    after = None
    if len(answers) == len(job.plan.groups):
        outputs = [output for answer in answers.values() for output in answer.outputs]
        # What is committed may have been rewritten by somebody else already.
        with suppress(CatalogError):
            after = measure_gain(job.work.files, cluster, outputs, read=map_function)
    return OrderGain(str(cluster.clustering), cluster.pruning.before, after)


def combine(rounds: Sequence[JobReport]) -> JobReport:
    """Add up the jobs of one command: each planned what the one before lost to conflicts."""
    first, last = rounds[0], rounds[-1]
    return replace(
        last,
        snapshot_before=first.snapshot_before,
        files_before=first.files_before,
        rows_before=first.rows_before
        + sum(one.rows_tail for one in rounds[1:])
        - sum(one.rows_dropped for one in rounds[1:] if one.change is None),
        rows_added=sum(one.rows_added for one in rounds),
        change=_combined([one.change for one in rounds if one.change is not None]),
        rows_dropped=sum(one.rows_dropped for one in rounds),
        rows_tail=sum(one.rows_tail for one in rounds),
        splice=merged_splices(one.splice for one in rounds),
        bytes_read=sum(one.bytes_read for one in rounds),
        bytes_written=sum(one.bytes_written for one in rounds),
        bytes_spliced=sum(one.bytes_spliced for one in rounds),
        bytes_kept=first.bytes_kept,
        order=_first_to_last(first.order, last.order),
        verified=all(one.verified for one in rounds),
        conflicts=sum(one.conflicts for one in rounds),
        cpu_seconds=sum(one.cpu_seconds for one in rounds),
        peak_memory_bytes=max(one.peak_memory_bytes for one in rounds),
        seconds=sum(one.seconds for one in rounds),
        groups=replace(last.groups, committed=sum(one.groups.committed for one in rounds)),
        commits=sum((one.commits for one in rounds), CommitCounts()),
        rows_marked=sum(one.rows_marked for one in rounds),
        is_resumed=any(one.is_resumed for one in rounds),
        warnings=tuple(sorted({text for one in rounds for text in one.warnings})),
    )


def _combined(changes: Sequence[ChangePlan]) -> ChangePlan | None:
    """Add up what was merged one after the other."""
    if not changes:
        return None
    watermarks = {mark.source: mark for one in changes for mark in one.watermarks}
    counts = sum((one.counts for one in changes), ChangeCounts())
    last = next((one for one in reversed(changes) if one.watermarks), changes[-1])
    return replace(last, watermarks=tuple(watermarks.values()), counts=counts)


def _first_to_last(first: OrderGain | None, last: OrderGain | None) -> OrderGain | None:
    return replace(last, before=first.before) if first and last else last


def _answers(
    groups: Sequence[GroupProgress], attempts: Sequence[Attempt]
) -> dict[str, RewriteResult]:
    """Return what was answered for the groups that are in the table, by group."""
    results = {attempt.attempt_id: attempt.result for attempt in attempts if attempt.result}
    return {
        group.group_id: results[group.attempt_id]
        for group in groups
        if group.state is GroupState.COMMITTED
    }


def _committed(
    batches: Sequence[Batch],
    groups: Sequence[GroupProgress],
    answers: Mapping[str, RewriteResult],
) -> list[CommittedBatch]:
    dropped: Counter[str] = Counter()
    added: Counter[str] = Counter()
    for group in groups:
        if group.group_id in answers:
            dropped[group.batch_id] += answers[group.group_id].rows_dropped
            answer = answers[group.group_id]
            added[group.batch_id] += answer.rows_added + answer.rows_tail
    return [
        CommittedBatch(batch.snapshot, dropped[batch.batch_id], added[batch.batch_id])
        for batch in batches
        if batch.snapshot
    ]


def _check(
    job: RunningJob, batches: Sequence[CommittedBatch], map_function: MapFunction
) -> TotalsCheck:
    def inventory(snapshot_id: str) -> Inventory:
        return job.table.inventory(job.table.snapshot(snapshot_id), map_function=map_function)

    before = job.journal.before()
    try:
        return check_totals(
            job.plan.snapshot,
            before,
            batches,
            totals_of=lambda snapshot_id: TableTotals.of(inventory(snapshot_id)),
            visible_of=lambda snapshot_id: visible_rows(inventory(snapshot_id)),
        )
    except SnapshotNotFoundError:
        # Expired behind our back: what cannot be looked at is not called verified.
        return TotalsCheck(agrees=False, after=before)


def _counts(groups: Sequence[GroupProgress]) -> GroupCounts:
    count = Counter(group.state for group in groups)
    return GroupCounts(
        committed=count[GroupState.COMMITTED],
        dropped=count[GroupState.DROPPED],
        failed=count[GroupState.FAILED],
    )


def _problems(job: RunningJob) -> tuple[GroupProblem, ...]:
    partitions = {group.group_id: group.partition for group in job.plan.groups}
    return tuple(
        GroupProblem(
            group_id=group.group_id,
            partition=partitions[group.group_id],
            is_conflict=group.state is GroupState.DROPPED,
            reason=group.reason,
        )
        for group in job.machine.groups
        if group.state in (GroupState.DROPPED, GroupState.FAILED)
    )
