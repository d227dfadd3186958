"""Attempts in the runtime: handed over, waited for, and told as facts once they end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from catalog.errors import AccessDeniedError, ExplainedError, StorageFullError
from catalog.table import TableFiles
from compactor.jobs.journal import Happened, Measured
from compactor.jobs.state import Broke, Start, Written
from compactor.jobs.totals import result_mistake
from compactor.planner.plan import ClusterPlan, FileGroup, Rung
from compactor.rewrite.group import rewrite_group
from compactor.rewrite.task import Proof, RewriteResult, RewriteTask
from compactor.splicing import SpliceLimits
from runtime import Infeasible, OutOfMemory, Ref, Retry, Runtime, RuntimeFailure, TaskError

if TYPE_CHECKING:
    from compactor.merge.group import MergeTask

# A taken file name is refused, so every try needs an id of its own: the job tries again, not the
# runtime.
_ONE_TRY = Retry(attempts=1)
# An attempt that outgrew its grant is given this much more the next time.
_MEMORY_GROWTH = 2
# No other group would fare better.
_STOPS_JOB = (AccessDeniedError, StorageFullError)
# Below this the rows of one range are too few for a sort to be worth its start.
_SORT_MEMORY_MIN_BYTES = 32 << 20
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """What all attempts of a job have in common.

    Attributes:
        table: name of the table, the first half of the key that grants are predicted by.
        files: the workers' side of the snapshot planned against.
        target_file_size_bytes: size of the outputs.
        proof: what is checked before an attempt may answer.
        splice: which row groups may be copied as they are; None for none.
        cluster: the order that rows are put in; None where they keep theirs.
        merges: what is merged into each group of a plan that changes rows, by group.
        is_one_file: whether each group becomes one file, whatever its size.
    """

    table: str
    files: TableFiles
    target_file_size_bytes: int
    proof: Proof
    splice: SpliceLimits | None = None
    cluster: ClusterPlan | None = None
    merges: Mapping[str, MergeTask] = field(default_factory=dict)
    is_one_file: bool = False


@dataclass(frozen=True, slots=True)
class _Running:
    start: Start
    group: FileGroup


class Attempts:
    """The attempts of one job that have not ended."""

    def __init__(self, runtime: Runtime, work: Work) -> None:
        self._runtime = runtime
        self._work = work
        self._running: dict[Ref[RewriteResult], _Running] = {}
        self._memory_bytes: dict[str, int] = {}
        stats = runtime.stats()
        self._memory_bytes_max = stats.total.memory_bytes
        self._is_in_process = stats.is_in_process

    def start(self, start: Start, group: FileGroup) -> Happened | None:
        """Hand an attempt to the runtime; return its end if it was refused at once."""
        wanted = self._memory_bytes.get(group.group_id, group.price.memory_bytes_estimate)
        function, arguments = self._order(start, group, wanted)
        try:
            ref = self._runtime.submit(
                function,
                *arguments,
                memory=min(wanted, self._memory_bytes_max),
                key=(self._work.table, group.rung.value),
                retry=_ONE_TRY,
            )
        except (Infeasible, TaskError) as failure:
            return Happened(_broke(start, failure))
        self._running[ref] = _Running(start, group)
        return None

    def _order(
        self, start: Start, group: FileGroup, wanted_bytes: int
    ) -> tuple[Callable[..., RewriteResult], tuple[Any, ...]]:
        """Return what an attempt runs, and its arguments."""
        merge = self._work.merges.get(group.group_id)
        if merge is not None:
            from compactor.merge.group import merge_group  # lazy: only merges

            rewrite = replace(merge.rewrite, attempt_id=start.attempt_id)
            return merge_group, (replace(merge, rewrite=rewrite),)
        task = RewriteTask(
            table=self._work.files,
            partition_key=group.partition_key,
            files=group.files,
            attempt_id=start.attempt_id,
            target_file_size_bytes=self._work.target_file_size_bytes,
            proof=self._work.proof,
            splice=self._work.splice,
            is_one_file=self._work.is_one_file,
        )
        if group.rung is Rung.DELETES:
            from compactor.rewrite.deletes import record_group  # lazy: seldom

            return record_group, (task,)
        if group.rung is Rung.REPARTITION:
            from compactor.rewrite.repartition import repartition_group  # lazy: seldom

            return repartition_group, (task,)
        cluster = self._work.cluster
        if cluster is None:
            return rewrite_group, (task,)
        from compactor.rewrite.cluster.group import cluster_group  # lazy: seldom

        # Sorting makes do with what is there: less memory means more ranges, and more on disk.
        missing_bytes = max(0, wanted_bytes - self._memory_bytes_max)
        memory_bytes = max(_SORT_MEMORY_MIN_BYTES, cluster.memory_bytes - missing_bytes)
        return cluster_group, (task, cluster.clustering, memory_bytes)

    def wait(self, timeout_seconds: float) -> list[Happened]:
        """Return the attempts that have ended, after some time at the latest."""
        if not self._running:
            return []
        done, _ = self._runtime.wait(list(self._running), timeout_seconds=timeout_seconds)
        return [self._ended(ref) for ref in done]

    def cancel(self, attempt_id: str) -> None:
        """Stop an attempt; its end is reported by `wait` like any other."""
        for ref, running in self._running.items():
            if running.start.attempt_id == attempt_id:
                self._runtime.cancel(ref)

    def cancel_all(self) -> None:
        """Stop every attempt and forget it: for leaving in a hurry."""
        for ref in self._running:
            self._runtime.cancel(ref)
        self._running.clear()

    def _ended(self, ref: Ref[RewriteResult]) -> Happened:
        running = self._running.pop(ref)
        start, group = running.start, running.group
        measured = self._measured(ref)
        try:
            result = self._runtime.get(ref)
        except RuntimeFailure as failure:
            if isinstance(failure, OutOfMemory):
                self._grow(group)
            return Happened(_broke(start, failure), measured=measured)
        mistake = result_mistake(group, result, self._work.proof)
        if mistake:
            error = f"verification failed: the attempt {mistake}"
            return Happened(
                Broke(start.group_id, start.attempt_id, error, is_retryable=False),
                measured=measured,
            )
        output_bytes = sum(output.size_bytes for output in result.outputs)
        written = Written(start.group_id, start.attempt_id, output_bytes)
        return Happened(written, result, measured)

    def _measured(self, ref: Ref[RewriteResult]) -> Measured:
        profile = self._runtime.profile(ref)
        if profile is None:
            return Measured()
        return Measured(
            # A report adds the CPU time of this process, which is counted once.
            cpu_seconds=0.0 if self._is_in_process else profile.cpu_seconds,
            predicted_bytes=profile.predicted_bytes,
            granted_bytes=profile.granted_bytes,
            peak_memory_bytes=profile.anonymous_peak_bytes,
        )

    def _grow(self, group: FileGroup) -> None:
        last = self._memory_bytes.get(group.group_id, group.price.memory_bytes_estimate)
        self._memory_bytes[group.group_id] = last * _MEMORY_GROWTH


def _broke(start: Start, failure: RuntimeFailure) -> Broke:
    """Say why an attempt failed: by the error of the task itself where there is one."""
    cause = failure.cause if isinstance(failure, TaskError) else None
    if isinstance(failure, TaskError):
        _LOG.debug("attempt %s raised\n%s", start.attempt_id, failure.remote_traceback)
    if isinstance(cause, ExplainedError):
        return Broke(
            start.group_id,
            start.attempt_id,
            error=f"{cause.code}: {cause}",
            is_retryable=cause.retryable,
            stops_job=isinstance(cause, _STOPS_JOB),
        )
    # A lost, cancelled or outgrown attempt says nothing about the data: another may do.
    is_retryable = not isinstance(failure, TaskError | Infeasible)
    error = f"{failure.code}: {failure}"
    return Broke(start.group_id, start.attempt_id, error, is_retryable)
