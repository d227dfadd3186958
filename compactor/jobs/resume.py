"""Taking a job up: a new one from its plan, an interrupted one from its journal.

Of an interrupted job everything that was under way is settled first: what was being committed is
committed again under its id, attempts have died with their process, files that were written are
looked at. What was written and not committed is committed, not written again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from catalog.errors import ObjectNotFoundError, SnapshotNotFoundError
from catalog.model import Inventory
from catalog.table import MapFunction, Table, TableFiles
from compactor.jobs.announcing import announce, announced_before
from compactor.jobs.attempts import Work
from compactor.jobs.cleanup import Cleaner, LiveFiles
from compactor.jobs.journal import (
    DISCARDED,
    Happened,
    JobStart,
    Journal,
)
from compactor.jobs.lease import Lease
from compactor.jobs.machine import JobMachine
from compactor.jobs.options import JobOptions
from compactor.jobs.partitions import in_spec
from compactor.jobs.runner import Judge, RunningJob
from compactor.jobs.staleness import outdated_groups
from compactor.jobs.state import Broke, Gone, GroupProgress, GroupState, Limits
from compactor.jobs.store import JobStore
from compactor.planner.plan import Plan, Rung
from compactor.rewrite.task import Proof, RewriteResult

if TYPE_CHECKING:
    from compactor.merge.group import MergeTask

_IN_USE = frozenset((GroupState.WRITTEN, GroupState.COMMITTING, GroupState.COMMITTED))
INTERRUPTED = "its process died"
# A number of commits leaves it open how large they are.
_UNBOUNDED = 1 << 62


@dataclass(frozen=True, slots=True)
class Ground:
    """What a job stands on.

    Attributes:
        table: the table.
        store: where it is recorded.
        lease: the claim it runs under.
        options: its limits.
    """

    table: Table
    store: JobStore
    lease: Lease
    options: JobOptions


def begin(
    ground: Ground, plan: Plan, start: JobStart, *, merges: Mapping[str, MergeTask] | None = None
) -> RunningJob:
    """Record a new job.

    Args:
        ground: what it stands on.
        plan: its plan.
        start: what it begins with.
        merges: what is merged into each of its groups, where it changes rows.
    """
    journal = Journal.begin(ground.store, plan, start)
    files, refusal = announce(ground.table, plan, start.job_id)
    machine = JobMachine(
        start.job_id,
        [GroupProgress(group.group_id) for group in plan.groups],
        limits=_limits(ground.options, plan),
    )
    return RunningJob(
        table=ground.table,
        plan=plan,
        work=replace(
            _work(plan, files, start.proof), merges=_announced_merges(plan, files, merges)
        ),
        journal=journal,
        lease=ground.lease,
        machine=machine,
        cleaner=Cleaner(files),
        judge=(lambda _: refusal) if refusal else None,
    )


def _announced_merges(
    plan: Plan, files: TableFiles, merges: Mapping[str, MergeTask] | None
) -> Mapping[str, MergeTask]:
    """Return what is merged, written by what was announced where anything was."""
    if not merges or plan.announced is None:
        return merges or {}
    return {
        group_id: replace(one, rewrite=replace(one.rewrite, table=files))
        for group_id, one in merges.items()
    }


def take_up(ground: Ground, *, giving_up: str, map_function: MapFunction) -> RunningJob:
    """Read an interrupted job from its journal and settle what was under way.

    Args:
        ground: what it stands on; the lease names the job.
        giving_up: why nothing more of it is to be done than settling and cleaning; empty to go on.
        map_function: runs the reading of manifests.
    """
    journal = Journal(ground.store, ground.lease.job_id, fence=ground.lease.fence)
    plan, groups, attempts = journal.plan(), journal.groups(), journal.attempts()
    live = LiveFiles(ground.table, map_function)
    inventory = live.read()
    expired = _expired(ground.table, plan)
    announced, refusal = announced_before(ground.table, plan, journal.job_id, groups)
    # Where files are to be found does not depend on the snapshot.
    files = announced or ground.table.files(ground.table.snapshot() if expired else plan.snapshot)
    answers = {attempt.attempt_id: attempt.result for attempt in attempts}
    results = {
        group.group_id: result
        for group in groups
        if group.state in _IN_USE and (result := answers.get(group.attempt_id))
    }
    batches = journal.batches()
    giving_up = giving_up or expired or refusal
    return RunningJob(
        table=ground.table,
        plan=plan,
        work=_work(plan, files, journal.proof()),
        journal=journal,
        lease=ground.lease,
        machine=JobMachine(
            journal.job_id, groups, limits=_limits(ground.options, plan), batches=len(batches)
        ),
        cleaner=Cleaner(files, live),
        results=results,
        opening=list(_look_at(files, groups, results)),
        stale_attempts=_stale_attempts(journal, groups),
        stale_batches=[batch.batch_id for batch in batches],
        judge=_judge(plan, inventory, giving_up),
        is_resumed=True,
        is_given_up=bool(giving_up),
    )


def _look_at(
    files: TableFiles, groups: Sequence[GroupProgress], results: dict[str, RewriteResult]
) -> Iterator[Happened]:
    """Tell of attempts that died, and of written files that are not as they were written."""
    for group in groups:
        if group.state is GroupState.REWRITING:
            broke = Broke(group.group_id, group.attempt_id, INTERRUPTED, is_retryable=True)
            yield Happened(broke)
        elif group.state is GroupState.WRITTEN:
            reason = _damage(files, results.get(group.group_id))
            if reason:
                yield Happened(Gone(group.group_id, reason))


def _damage(files: TableFiles, result: RewriteResult | None) -> str:
    if result is None:
        return "its answer is not in the journal"
    for output in result.outputs:
        try:
            size_bytes = files.storage.size(files.locate(output.path))
        except ObjectNotFoundError:
            return f"{output.path} is gone"
        if size_bytes != output.size_bytes:
            return f"{output.path} has {size_bytes} bytes, not {output.size_bytes}"
    return ""


def _stale_attempts(journal: Journal, groups: Sequence[GroupProgress]) -> list[tuple[str, str]]:
    """Return attempts whose files nobody needs and that nothing else will discard."""
    current = {
        group.attempt_id
        for group in groups
        if group.state in _IN_USE or group.state is GroupState.REWRITING
    }
    return [
        (attempt.attempt_id, attempt.group_id)
        for attempt in journal.attempts()
        if attempt.state != DISCARDED and attempt.attempt_id not in current
    ]


def _expired(table: Table, plan: Plan) -> str:
    try:
        table.snapshot(plan.snapshot.snapshot_id)
    except SnapshotNotFoundError:
        return f"snapshot {plan.snapshot.snapshot_id} that it was planned against has expired"
    return ""


def _judge(plan: Plan, live: Inventory, giving_up: str) -> Judge:
    if giving_up:
        return lambda group: giving_up
    if plan.change is not None:
        # The rows that were to come in died with the process; what it wrote can be committed.
        return lambda group: INTERRUPTED if group.state is GroupState.WAITING else ""
    # What is announced is carried out as it was planned, whatever came to the slices since.
    outdated = {} if plan.announced else outdated_groups(plan.groups, live)

    def judge(group: GroupProgress) -> str:
        # Written groups are left to the commit, which judges by the table as it is then.
        return outdated.get(group.group_id, "") if group.state is GroupState.WAITING else ""

    return judge


def _work(plan: Plan, files: TableFiles, proof: Proof) -> Work:
    target_bytes = plan.target_file_size_bytes
    files = in_spec(files, plan.output_spec)
    return Work(
        plan.table,
        files,
        target_bytes,
        proof,
        splice=plan.splice,
        cluster=plan.cluster,
        is_one_file=plan.folds_logs,
    )


def _limits(options: JobOptions, plan: Plan) -> Limits:
    return Limits(
        attempts_max=options.attempts_max,
        in_flight_max=options.in_flight_max,
        commit_groups_max=_commit_groups_max(options, plan),
        commit_bytes_max=options.commit_bytes_max if options.commits_max is None else _UNBOUNDED,
        failures_max=options.failures_max,
        is_atomic=plan.is_atomic,
        commit_failures_max=options.commit_failures_max,
    )


def _commit_groups_max(options: JobOptions, plan: Plan) -> int:
    if any(group.rung is Rung.DELETES for group in plan.groups):
        # Keys that apply to several groups leave only with the last of them, and only at once:
        # of what was recorded by an earlier commit nothing tells that it does not need them.
        return len(plan.groups)
    if options.commits_max is None:
        return options.commit_groups_max
    return max(1, -(-len(plan.groups) // options.commits_max))
