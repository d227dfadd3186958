"""Telling tables of work before its files are written, where they want to be told."""

from __future__ import annotations

from collections.abc import Sequence

from catalog.announcing import Announcement, Standing, WorkKind
from catalog.errors import CommitConflictError
from catalog.model import Snapshot
from catalog.table import AnnouncingTable, Table, TableFiles
from compactor.jobs.state import GroupProgress, GroupState
from compactor.planner.plan import Plan

TAKEN_BACK = "what was announced has been taken back by another writer"


def standing_of(table: Table, snapshot: Snapshot) -> Standing | None:
    """Return what is announced on a table; None for one that is not told of plans."""
    return table.standing(snapshot) if isinstance(table, AnnouncingTable) else None


def without_work(standing: Standing) -> Standing:
    """Return what stands announced where the work that comes first is left to its owner."""
    return Standing(planned=standing.planned, bound=standing.bound, slices_max=standing.slices_max)


def announce(table: Table, plan: Plan, job_id: str) -> tuple[TableFiles, str]:
    """Announce a plan, if the table wants that.

    Returns:
        What files are written by, and why none may be; empty where they may.
    """
    announcement = _announcement(plan, job_id)
    if announcement is None or not isinstance(table, AnnouncingTable):
        return table.files(plan.snapshot), ""
    try:
        return table.announce(announcement), ""
    except CommitConflictError as error:
        return table.files(plan.snapshot), str(error)


def announced_before(
    table: Table, plan: Plan, job_id: str, groups: Sequence[GroupProgress]
) -> tuple[TableFiles | None, str]:
    """Find what an interrupted job has announced, or announce it if nothing was begun.

    Returns:
        What files are written by, None where nothing is announced, and why none may be written.
    """
    announcement = _announcement(plan, job_id)
    if announcement is None or not isinstance(table, AnnouncingTable):
        return None, ""
    found = table.announced(announcement)
    if found is not None:
        return found, ""
    # The rows of a change died with the process that was to announce it.
    is_begun = any(group.state is not GroupState.WAITING for group in groups)
    if is_begun or announcement.announced.kind is WorkKind.CHANGE:
        return None, TAKEN_BACK
    try:
        return table.announce(announcement), ""
    except CommitConflictError as error:
        return None, str(error)


def withdraw(table: Table, plan: Plan, job_id: str, groups: Sequence[GroupProgress]) -> None:
    """Take back what a job announced and will not do.

    Folding stays announced, for whoever comes next, unless it is ours and a group of it cannot be
    rewritten: that would hold up all other work on the table. Replacing that others have announced
    is for them, the table sees to that.

    Raises:
        CatalogError: it cannot be taken back now.
    """
    announcement = _announcement(plan, job_id)
    if announcement is None or not isinstance(table, AnnouncingTable):
        return
    told = announcement.announced
    is_hopeless = any(group.state is GroupState.FAILED for group in groups)
    if told.kind is not WorkKind.FOLD or (is_hopeless and not told.work_id):
        table.withdraw(announcement)


def _announcement(plan: Plan, job_id: str) -> Announcement | None:
    if plan.announced is None or not plan.groups:
        return None
    groups = {group.group_id: group.files for group in plan.groups}
    return Announcement(job_id, plan.snapshot, plan.announced, groups, plan.cluster is not None)
