"""Committing a batch, and finding out what became of one.

Whatever a commit raises, the table decides: the commit is looked up by its id before anything is
called a failure. Where it cannot be looked up, the outcome is unknown and nothing is touched.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from catalog.commits import Commit, CommitKind, CommitResult, Rewrite
from catalog.errors import CatalogError, CommitConflictError, CommitUnknownError
from catalog.layout import Curve, SortField
from catalog.table import Table
from compactor import __version__
from compactor.clustering import Strategy
from compactor.jobs.failpoints import Failpoint, hit
from compactor.jobs.journal import Happened
from compactor.jobs.state import Absent, Settled, Unknown
from compactor.planner.plan import ClusterPlan, Plan, Rung
from compactor.rewrite.task import RewriteResult

_LOG = logging.getLogger(__name__)


def make_commit(
    plan: Plan, results: Mapping[str, RewriteResult], *, batch_id: str, job_id: str, fence: int
) -> Commit:
    """Make the commit of some groups of a plan; equal arguments make equal commits.

    Args:
        plan: the plan.
        results: what the attempts answered, by the ids of the groups.
        batch_id: the commit's id.
        job_id: recorded with the snapshot.
        fence: recorded with the snapshot.
    """
    change = plan.change
    rewrites = tuple(
        Rewrite(
            group_id=group.group_id,
            files=group.files,
            added=results[group.group_id].outputs,
            rows_dropped=results[group.group_id].rows_dropped,
            sort_order=_sort_order(plan.cluster),
            keeps_order=plan.cluster is None and change is None,
            curve=_curve(plan.cluster),
            rows_added=group.rows_added,
            marks=group.marks,
            partition_key=group.partition_key,
            records_deletes=group.rung is Rung.DELETES,
            rows_tail=results[group.group_id].rows_tail,
        )
        for group in plan.groups
        if group.group_id in results
    )
    properties = (
        ("compactor.job", job_id),
        ("compactor.fence", str(fence)),
        ("compactor.version", __version__),
    )
    if change is None:
        return Commit(batch_id, plan.snapshot, rewrites, properties)
    return Commit(
        batch_id,
        plan.snapshot,
        rewrites,
        properties,
        kind=CommitKind.CHANGE,
        watermarks=change.watermarks,
        partitions=None if change.partitions is None else frozenset(change.partitions),
    )


def _sort_order(cluster: ClusterPlan | None) -> tuple[SortField, ...]:
    """Return the order of columns that rows are in; along a curve they are in none."""
    is_sorted = cluster is not None and cluster.clustering.strategy is Strategy.SORT
    return cluster.clustering.fields if cluster is not None and is_sorted else ()


def _curve(cluster: ClusterPlan | None) -> Curve | None:
    if cluster is None or not cluster.clustering.strategy.is_curve:
        return None
    return Curve(cluster.clustering.strategy.value, cluster.clustering.fields)


def commit_batch(table: Table, commit: Commit) -> Happened:
    """Commit a batch; every way in which that can end is told as a fact."""
    try:
        return _settled(commit, table.commit(commit))
    except CommitUnknownError as error:
        return Happened(Unknown(commit.commit_id, _text(error)))
    except CommitConflictError as error:
        # Nothing of it is in the table, says the error: there is nothing to look up.
        return _absent(table, commit, reason=_text(error), is_retryable=True)
    except Exception as error:  # noqa: BLE001 - no error tells whether the commit happened
        _LOG.debug("commit %s raised", commit.commit_id, exc_info=error)
        is_retryable = isinstance(error, CatalogError) and error.retryable
        return look_up(table, commit, reason=_text(error), is_retryable=is_retryable)


def look_up(table: Table, commit: Commit, *, reason: str, is_retryable: bool) -> Happened:
    """Find out what became of a commit that is not running any more.

    Args:
        table: the table.
        commit: the commit.
        reason: why it is absent if it is.
        is_retryable: whether it is worth another try then.
    """
    try:
        found = table.find_commit(commit)
    except CatalogError as error:
        return Happened(Unknown(commit.commit_id, _text(error)))
    if found is not None:
        return _settled(commit, found)
    return _absent(table, commit, reason=reason, is_retryable=is_retryable)


def _settled(commit: Commit, result: CommitResult) -> Happened:
    dropped = tuple((conflict.group_id, conflict.reason) for conflict in result.conflicts)
    settled = Settled(commit.commit_id, result.committed, dropped)
    return Happened(settled, snapshot=result.snapshot, warnings=result.warnings)


def _absent(table: Table, commit: Commit, *, reason: str, is_retryable: bool) -> Happened:
    """Remove what a commit that never happened has left behind."""
    hit(Failpoint.BATCH_ABSENT)
    try:
        table.clean_commit(commit)
    except CatalogError as error:
        # Its files are listed by its id alone: the job must come back to remove them.
        return Happened(Unknown(commit.commit_id, _text(error)))
    return Happened(Absent(commit.commit_id, reason, is_retryable))


def _text(error: Exception) -> str:
    code = getattr(error, "code", type(error).__name__)
    return f"{code}: {error}"
