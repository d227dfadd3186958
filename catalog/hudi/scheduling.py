"""Putting work on the timeline before its files are written: compaction and clustering.

All of it happens under the lock of the table. A plan names the logs that it takes up; what was
completed before its instant and is not named would be lost. So the timeline is read once more
after the request: a write that came in between by a writer that takes no lock takes it back.
Hudi's rules: "Compaction" and "Clustering" of its technical specification.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.announcing import Announcement, WorkKind
from catalog.commits import Rewrite
from catalog.conflicts import LiveFile, split
from catalog.errors import CommitConflictError
from catalog.hudi.details import (
    PlannedSlice,
    read_clustering_plan,
    read_commit,
    read_compaction_plan,
)
from catalog.hudi.file_names import read_name
from catalog.hudi.files import Outputs
from catalog.hudi.instants import InstantWriter, new_instant
from catalog.hudi.markers import touched_files
from catalog.hudi.metadata_table.table import open_metadata_table
from catalog.hudi.plan_bodies import clustering_plan, compaction_plan, planned_slices
from catalog.hudi.reading import Source, read_details, read_pending
from catalog.hudi.timeline import (
    WRITES,
    Action,
    Instant,
    State,
    Timeline,
    read_instant,
    read_timeline,
)
from catalog.model import FileSlice, Inventory

JOB = "compactor.job"


def action_of(kind: WorkKind, layout: int) -> Action:
    """Return what a kind of work is called while it is pending."""
    if kind is WorkKind.FOLD:
        return Action.COMPACTION
    return Action.REPLACECOMMIT if layout == 1 else Action.CLUSTERING


def find_work(source: Source, announcement: Announcement) -> Instant | None:
    """Return the instant of what a job has announced, or was to carry out; None for none."""
    timeline, kind = source.timeline, announcement.announced.kind
    if announcement.announced.work_id:
        return timeline.find(announcement.announced.work_id)
    for instant in timeline.pending(action_of(kind, timeline.layout)):
        if pending_extra(source, instant).get(JOB) == announcement.job_id:
            return instant
    done = Action.COMMIT if kind is WorkKind.FOLD else Action.REPLACECOMMIT
    for instant in timeline.completed(done):
        is_later = instant.time > announcement.base.snapshot_id[: len(instant.time)]
        if is_later and read_details(source, instant).extra.get(JOB) == announcement.job_id:
            return instant
    return None


def pending_extra(source: Source, instant: Instant) -> Mapping[str, str]:
    """Return the further pairs of a plan, or of a change of ours."""
    name = instant.named(State.REQUESTED)
    data = read_instant(source.storage, source.root, source.config, name)
    if instant.action is Action.COMPACTION:
        return read_compaction_plan(name, data).extra
    if instant.action in (Action.COMMIT, Action.DELTACOMMIT):
        return read_commit(name, data).extra
    plan = read_clustering_plan(name, data)
    return {} if plan is None else plan.extra


def pending_slices(source: Source, instant: Instant) -> tuple[PlannedSlice, ...]:
    """Return the slices of a pending plan."""
    name = instant.named(State.REQUESTED)
    data = read_instant(source.storage, source.root, source.config, name)
    if instant.action is Action.COMPACTION:
        return read_compaction_plan(name, data).slices
    plan = read_clustering_plan(name, data)
    return () if plan is None else plan.slices


def carry_on(source: Source, announcement: Announcement, instant: Instant) -> None:
    """Make sure that a pending plan is what was planned from it, and say that it is under way.

    Raises:
        CommitConflictError: it is not, or somebody has completed it.
    """
    if instant.is_completed:
        raise CommitConflictError(f"the compaction {instant.time} has been completed by others")
    planned = {identity(one) for one in pending_slices(source, instant)}
    wanted = {
        identity(one) for files in announcement.groups.values() for one in planned_slices(files)
    }
    if planned != wanted:
        raise CommitConflictError(f"the plan of {instant.time} is not what was planned from it")
    _writer(source).begin(instant)


def schedule(
    source: Source, inventory: Inventory, announcement: Announcement, *, target_bytes: int
) -> Instant:
    """Put the work of a job on the timeline.

    Args:
        source: the table, read under its lock.
        inventory: its slices, by the same timeline.
        announcement: what is to be done.
        target_bytes: size of new base files.

    Raises:
        CommitConflictError: slices are not as planned, or a write has to come to its end first.
    """
    kind = announcement.announced.kind
    require_as_planned(inventory, announcement.groups.items())
    _require_unplanned(source, announcement.groups.values())
    if kind is WorkKind.REPLACE:
        require_untouched(source, announcement.groups.values())
    _require_no_older_write(source.timeline, kind)
    time = next_time(source)
    extra, groups = {JOB: announcement.job_id}, announcement.groups.values()
    body = (
        compaction_plan(groups, extra)
        if kind is WorkKind.FOLD
        else clustering_plan(groups, extra, target_bytes=target_bytes)
    )
    writer = _writer(source)
    instant = writer.request(time, action_of(kind, source.timeline.layout), body)
    try:
        _require_nothing_between(source, groups, instant)
    except CommitConflictError:
        writer.remove(instant)
        raise
    return writer.begin(instant)


def next_time(source: Source) -> str:
    """Return a time that neither the table nor its metadata table, which has its own, has given."""
    metadata = open_metadata_table(source.storage, source.root, source.config)
    instants = source.timeline.instants
    if metadata is not None:
        instants += metadata.timeline().instants
    return new_instant(replace(source.timeline, instants=instants), source.config)


def outputs_of(instant: Instant, announcement: Announcement) -> Outputs:
    """Return how the files of announced work are named."""
    kind = announcement.announced.kind
    if kind is WorkKind.REPLACE:
        return Outputs(instant.time, {})
    file_ids = {
        group_id: read_name(files.files["path"][0].as_py()).file_id
        for group_id, files in announcement.groups.items()
        if files.file_count
    }
    return Outputs(instant.time, file_ids, makes_partitions=kind is WorkKind.CHANGE)


def require_as_planned(inventory: Inventory, groups: Iterable[tuple[str, Inventory]]) -> None:
    """Make sure that slices are in a table exactly as they were planned.

    Raises:
        CommitConflictError: one is not; all of the work is lost.
    """
    rewrites = [Rewrite(group_id, files, (), 0) for group_id, files in groups]
    wanted = [path for one in rewrites for path in one.files.files["path"].to_pylist()]
    is_wanted = pc.is_in(inventory.files["path"], value_set=pa.array(wanted, pa.string()))
    rows = np.flatnonzero(is_wanted.to_numpy())
    live = {one.path: _live(one) for one in inventory.take(rows).slices()}
    _, conflicts = split(rewrites, live)
    if conflicts:
        raise CommitConflictError(conflicts[0].reason)


def _require_unplanned(source: Source, groups: Iterable[Inventory]) -> None:
    """Make sure that no plan names slices: whoever planned them may have come after our look.

    Hudi's readers and writers refuse a table with two plans for one file group.

    Raises:
        CommitConflictError: one does.
    """
    pending = read_pending(source)
    plans = (pending.compactions, pending.log_compactions, pending.clusterings)
    if not any(plans):
        return
    for one in (one for files in groups for one in planned_slices(files)):
        for planned in plans:
            if time := planned.get((one.partition_path, one.file_id)):
                raise CommitConflictError(
                    f"the file group {one.file_id} is part of the plan of {time}",
                    hint="try again when that is carried out",
                )


def require_untouched(source: Source, groups: Iterable[Inventory], *, but: str = "") -> None:
    """Make sure that no write that runs has begun files of slices that are to be replaced.

    A writer that takes no lock would complete it in file groups that are gone by then. One that
    replaces partitions names the file groups of the time when it began: ours would stay beside.

    Args:
        source: the table, read under its lock.
        groups: the slices.
        but: the write that replaces them.

    Raises:
        CommitConflictError: one has, as its markers tell; or it replaces what it does not say yet.
    """
    _require_no_replacement(source)
    writes = source.timeline.pending(Action.DELTACOMMIT, Action.COMMIT)
    running = [one for one in writes if one.time != but]
    if not running:
        return
    slices = (one for files in groups for one in planned_slices(files))
    wanted = {(one.partition_path, one.file_id) for one in slices}
    for write in running:
        for path in touched_files(source.storage, source.root, write.time):
            folder, _, name = path.rpartition("/")
            # Both kinds of names begin with the file group.
            if (folder, name.removeprefix(".").partition("_")[0]) in wanted:
                raise CommitConflictError(
                    f"the write {write.time} changes {path}, which is to be replaced",
                    hint="try again when it is completed, or have it rolled back",
                )


def _require_no_replacement(source: Source) -> None:
    """Make sure that no partition is being overwritten or deleted."""
    for one in source.timeline.pending(Action.REPLACECOMMIT):
        name = one.named(State.REQUESTED)
        data = read_instant(source.storage, source.root, source.config, name)
        # In layout 1 clusterings are called the same.
        if read_clustering_plan(name, data) is None:
            raise CommitConflictError(
                f"the write {one.time} replaces file groups and is not completed",
                hint="try again when it is completed, or have it rolled back",
            )


def _live(file: FileSlice) -> LiveFile:
    deletes = frozenset(one.path for one in file.deletes)
    return LiveFile(file.size_bytes, file.row_count, file.sequence_number, deletes)


_RUNNING = (Action.DELTACOMMIT, Action.COMMIT, Action.ROLLBACK, Action.RESTORE)


def _require_no_older_write(timeline: Timeline, kind: WorkKind) -> None:
    """In layout 1, a write that runs would put its rows into logs that the plan has counted.

    What is being rolled back is still there; that it goes would not be noticed later on.
    """
    running = timeline.pending(*_RUNNING)
    if timeline.layout == 1 and kind is WorkKind.FOLD and running:
        raise CommitConflictError(
            f"the {running[0].action} {running[0].time} is not completed",
            hint="compact again when it is, or have it rolled back",
        )


def _require_nothing_between(source: Source, groups: Iterable[Inventory], instant: Instant) -> None:
    """Make sure that no writer without the lock came between a look at the table and a request."""
    now = read_timeline(source.storage, source.root, source.config)
    if others := _came_between(source.timeline, now, instant.time):
        raise CommitConflictError(f"a write came meanwhile: {', '.join(sorted(others))}")
    theirs = tuple(one for one in now.instants if one.time != instant.time)
    _require_unplanned(replace(source, timeline=replace(now, instants=theirs)), groups)


def _came_between(before: Timeline, after: Timeline, time: str) -> frozenset[str]:
    """Return writes that a plan cannot know and that are older than its instant."""
    return frozenset(_writes(after, time)) - frozenset(_writes(before, time))


def _writes(timeline: Timeline, time: str) -> Iterator[str]:
    for one in timeline.instants:
        if one.action in WRITES and one.time != time:
            if timeline.layout == 1 and one.time < time:
                yield f"{one.time} ({one.state})"
            elif timeline.layout > 1 and one.completion_time and one.completion_time < time:
                yield one.time


def identity(one: PlannedSlice) -> tuple[object, ...]:
    """Return what a plan says that its slice is."""
    return one.partition_path, one.file_id, one.base_file, frozenset(one.log_files)


def _writer(source: Source) -> InstantWriter:
    return InstantWriter(source.storage, source.root, source.config)
