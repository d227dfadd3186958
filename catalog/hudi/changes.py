"""Changes of rows as instants: announced like Hudi's own writes, and judged before they end.

A change was made by looking for rows in one state of the table. It stands if nobody has written
since, but for rewrites, and if no plan of others names its file slices. What had been written when
it was announced is noted with it: names of instants do not tell which of two was completed first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from catalog.announcing import Announcement
from catalog.commits import Commit
from catalog.errors import CommitConflictError
from catalog.hudi.commit_bodies import planned_body
from catalog.hudi.config import TableConfig
from catalog.hudi.instants import InstantWriter
from catalog.hudi.plan_bodies import planned_slices
from catalog.hudi.reading import Source, read_commits, read_details
from catalog.hudi.scheduling import (
    JOB,
    pending_extra,
    require_as_planned,
    require_untouched,
)
from catalog.hudi.slices import Slices
from catalog.hudi.states import order_of
from catalog.hudi.timeline import WRITES, Action, Instant, Timeline
from catalog.model import Inventory, Snapshot

# Instants that had been completed when a change was announced, and those that were running.
SEEN, RUNNING = "compactor.seen", "compactor.running"
_REWRITES = frozenset(("COMPACT", "LOG_COMPACT", "CLUSTER"))


def change_action(config: TableConfig) -> Action:
    """Return what a write is called in a table."""
    return Action.DELTACOMMIT if config.is_merge_on_read else Action.COMMIT


def find_change(source: Source, announcement: Announcement) -> Instant | None:
    """Return the instant of the change that a job has announced; None for none."""
    action = change_action(source.config)
    for instant in source.timeline.pending(action):
        if pending_extra(source, instant).get(JOB) == announcement.job_id:
            return instant
    for instant in source.timeline.completed(action):
        is_later = order_of(instant) > announcement.base.snapshot_id
        if is_later and read_details(source, instant).extra.get(JOB) == announcement.job_id:
            return instant
    return None


def announce_change(
    source: Source,
    present: tuple[Slices, Inventory],
    announcement: Announcement,
    seen: Timeline,
    time: str,
) -> Instant:
    """Put a change on the timeline.

    Args:
        source: the table, read under its lock.
        present: its file slices, and as planners read them.
        announcement: what is to be done.
        seen: the timeline that the change was made with.
        time: of its instant.

    Raises:
        CommitConflictError: the table is not as it was, or a write has to come to its end first.
    """
    slices, inventory = present
    groups = announcement.groups
    require_as_planned(inventory, groups.items())
    _require_free(slices, groups.values())
    _require_nothing_new(source, announcement.base, seen.written, seen.running)
    require_untouched(source, groups.values())
    _require_alone(source.timeline)
    done, begun = source.timeline.written, source.timeline.running
    noted = {SEEN: ",".join(sorted(done)), RUNNING: ",".join(sorted(begun))}
    extra = {JOB: announcement.job_id, **noted}
    planned = (one for files in groups.values() for one in planned_slices(files))
    body = planned_body(planned, layout=source.config.layout, extra=extra)
    writer = InstantWriter(source.storage, source.root, source.config)
    instant = writer.request(time, change_action(source.config), body)
    return writer.begin(instant, body)


def require_standing(
    source: Source, present: tuple[Slices, Inventory], commit: Commit, instant: Instant
) -> None:
    """Make sure that a change stands as if it had been made now.

    Args:
        source: the table, read under its lock.
        present: its file slices, and as planners read them.
        commit: the change.
        instant: of it.

    Raises:
        CommitConflictError: it does not.
    """
    slices, inventory = present
    groups = [(one.group_id, one.files) for one in commit.rewrites]
    require_as_planned(inventory, groups)
    files = [one for _, one in groups]
    _require_free(slices, files)
    noted = pending_extra(source, instant)
    seen, running = (frozenset(noted.get(one, "").split(",")) for one in (SEEN, RUNNING))
    _require_nothing_new(source, commit.base, seen, running - {""})
    require_untouched(source, files, but=instant.time)
    _require_alone(source.timeline, but=instant.time)


def _require_nothing_new(
    source: Source, base: Snapshot, seen: frozenset[str], running: frozenset[str]
) -> None:
    """Make sure that nobody has written but those that were seen, and those who only rewrite.

    A write that was running then may have been completed and archived at once: being the oldest, it
    is the first one to leave the timeline.
    """
    if base.snapshot_id and all(
        order_of(one) != base.snapshot_id for one in source.timeline.completed(*WRITES)
    ):
        raise CommitConflictError(f"the state {base.snapshot_id} is not on the timeline any more")
    for time, details in read_commits(source, (source.timeline.written | running) - seen):
        if details.operation not in _REWRITES and not details.is_compacted:
            raise CommitConflictError(f"the write {time} came meanwhile")


def _require_free(slices: Slices, groups: Iterable[Inventory]) -> None:
    """Make sure that no plan of others names slices that a change writes anew."""
    wanted = {
        (one.partition_path, one.file_id) for files in groups for one in planned_slices(files)
    }
    if not wanted:
        return
    for kind, owner in _planned(slices, wanted):
        raise CommitConflictError(
            f"the {kind} {owner} is planned and has a file group that is to be changed",
            hint="have it carried out first: compact run does that with compactions",
        )


def _planned(slices: Slices, wanted: Collection[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    found = slices.slices
    pairs = zip(found["partition_path"].to_pylist(), found["file_id"].to_pylist(), strict=True)
    is_wanted = [pair in wanted for pair in pairs]
    for name in found.column_names:
        if name.startswith("pending_"):
            owners = zip(found[name].to_pylist(), is_wanted, strict=True)
            kind = name.removeprefix("pending_").replace("_", " ")
            yield from ((kind, one) for one, wants in owners if wants and one is not None)


def _require_alone(timeline: Timeline, *, but: str = "") -> None:
    """In layout 1 nothing tells when a write that runs was completed: it has to end first.

    Its logs are named after the slices that it saw, whatever it has written of them by now: in
    those that a change has written anew meanwhile nobody would read them.
    """
    pending = timeline.pending(Action.COMMIT, Action.DELTACOMMIT)
    running = [one for one in pending if one.time != but]
    if timeline.layout == 1 and running:
        raise CommitConflictError(
            f"the write {running[0].time} is not completed",
            hint="merge again when it is, or have it rolled back",
        )
