"""Completing announced work: its base files become visible, all of them or none.

Under the lock of the table: the work must still stand on the timeline as it was planned, the
metadata table takes in the change under the same instant, and then the instant is completed.
A process that dies in between leaves the instant pending: the next one does the same again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from catalog.commits import Commit, CommitKind, CommitResult, OutputFile
from catalog.conflicts import all_conflict
from catalog.errors import CommitConflictError, CommitUnknownError
from catalog.hudi.changes import require_standing
from catalog.hudi.commit_bodies import UPSERT, WrittenBase, folded, replacing, write_body
from catalog.hudi.details import CommitDetails
from catalog.hudi.file_names import job_of, read_name
from catalog.hudi.files import require_one_output
from catalog.hudi.instants import InstantWriter
from catalog.hudi.live_keys import keys_before
from catalog.hudi.locking import Lock
from catalog.hudi.markers import marked_files, remove_failed, rivals
from catalog.hudi.metadata_table.change import AddedFile, MetadataChange
from catalog.hudi.metadata_table.column_ranges import ColumnRange, footer_ranges
from catalog.hudi.metadata_table.table import Operation, open_metadata_table
from catalog.hudi.plan_bodies import planned_slice
from catalog.hudi.reading import Source, latest_schema, read_commits, read_details
from catalog.hudi.rolled_back import rolled_back, undone_by
from catalog.hudi.scheduling import (
    JOB,
    pending_extra,
    require_as_planned,
    require_untouched,
)
from catalog.hudi.slices import Slices
from catalog.hudi.timeline import Action, Instant
from catalog.hudi.watermarks import note_merge, read_merged
from catalog.location import Confinement
from catalog.model import Inventory
from catalog.outputs import read_outputs

COMMIT_ID = "compactor.commit"
_PENDING = (
    Action.COMPACTION,
    Action.CLUSTERING,
    Action.REPLACECOMMIT,
    Action.COMMIT,
    Action.DELTACOMMIT,
)
_OPERATIONS = {
    Action.COMPACTION: Operation.COMPACTION,
    Action.COMMIT: Operation.UPSERT,
    Action.DELTACOMMIT: Operation.UPSERT,
}
# What Hudi calls them.
_NAMES = {
    Operation.COMPACTION: "COMPACT",
    Operation.CLUSTERING: "CLUSTER",
    Operation.UPSERT: UPSERT,
}
_COMPLETED = (Action.COMMIT, Action.REPLACECOMMIT, Action.DELTACOMMIT)


@dataclass(frozen=True, slots=True)
class Present:
    """A table as it is under its lock.

    Attributes:
        source: the table.
        slices: its file slices.
        inventory: the same as planners read them.
        lock: what keeps others from changing it.
    """

    source: Source
    slices: Slices
    inventory: Inventory
    lock: Lock


def work_of(source: Source, commit: Commit) -> Instant | None:
    """Return the instant that a commit completes or has completed; None where there is none."""
    names = [one.path for rewrite in commit.rewrites for one in rewrite.added]
    if names:
        return source.timeline.find(read_name(names[0]).instant)
    job_id = dict(commit.properties).get(JOB, "")
    for instant in source.timeline.instants:
        if instant.is_completed and instant.action in _COMPLETED:
            if read_details(source, instant).extra.get(COMMIT_ID) == commit.commit_id:
                return instant
        elif instant.action in _PENDING and pending_extra(source, instant).get(JOB) == job_id:
            return instant
    return None


def known_result(source: Source, commit: Commit, instant: Instant | None) -> CommitResult | None:
    """Return what became of a commit whose instant is completed; None for one that is pending.

    Raises:
        CommitUnknownError: its instant is neither on the timeline nor in the archive.
    """
    if instant is None:
        return _result_without_instant(source, commit)
    if not instant.is_completed:
        return None
    return _result_of(commit, instant.time, read_details(source, instant))


def _result_without_instant(source: Source, commit: Commit) -> CommitResult:
    """Tell an instant that was archived from one that was taken back, as a restore does."""
    names = [read_name(one.path) for rewrite in commit.rewrites for one in rewrite.added]
    for time, details in read_commits(source, {one.instant for one in names}):
        return _result_of(commit, time, details)
    first = min((one.time for one in source.timeline.instants), default="")
    if any(one.instant < first for one in names):
        raise CommitUnknownError("the instant of the commit cannot be told: it is not archived")
    reason = "what was announced has been taken back by another writer"
    return CommitResult(None, (), all_conflict(commit.rewrites, reason))


def _result_of(commit: Commit, time: str, details: CommitDetails) -> CommitResult:
    if details.extra.get(COMMIT_ID) != commit.commit_id:
        reason = f"the work of {time} was carried out by another writer"
        return CommitResult(None, (), all_conflict(commit.rewrites, reason))
    return CommitResult(None, tuple(one.group_id for one in commit.rewrites), ())


def outputs_seen(source: Source, commit: Commit) -> Mapping[str, tuple[ColumnRange, ...]]:
    """Read the footers of what was written: the ranges of its columns, by path.

    Raises:
        CorruptTableError: an output is not what was announced.
    """

    def describe(output: OutputFile, footer: Any) -> tuple[ColumnRange, ...]:
        del output
        return footer_ranges(footer)

    confinement = Confinement((source.root,))
    return read_outputs(commit, source.storage, confinement=confinement, describe=describe)


def why_outdated(present: Present, commit: Commit, instant: Instant) -> CommitResult | None:
    """Return the conflicts of a commit that replaces slices which have changed; None for none.

    Folding goes on whatever came: its logs are named, and others belong to the next slice. But a
    writer that takes the instant back, to begin it anew, deletes our files by their markers; and
    one of its logs may be that of a write that was rolled back. And whoever knows no signs of life
    may have begun the instant beside us: what that one writes is not ours to delete.
    """
    source = present.source
    marked = {one.name for one in marked_files(source.storage, source.root, instant.time)}
    names = {read_name(one.path).name for rewrite in commit.rewrites for one in rewrite.added}
    if not names <= marked:
        reason = f"another writer has taken back the files of {instant.time}"
        return CommitResult(None, (), all_conflict(commit.rewrites, reason))
    if time := undone_by(source, instant):
        reason = f"another writer is taking {instant.time} back, by {time}"
        return CommitResult(None, (), all_conflict(commit.rewrites, reason))
    if rivals(source.storage, source.root, instant.time, own={job_of(one) for one in names}):
        reason = f"another writer is carrying out {instant.time}, too"
        return CommitResult(None, (), all_conflict(commit.rewrites, reason))
    if instant.action is Action.COMPACTION:
        if not (time := rolled_back(source, commit, instant)):
            return None
        reason = f"the write {time} was rolled back, whose rows are among those of {instant.time}"
        return CommitResult(None, (), all_conflict(commit.rewrites, reason))
    try:
        if commit.kind is CommitKind.CHANGE:
            require_standing(source, (present.slices, present.inventory), commit, instant)
            return None
        groups = ((one.group_id, one.files) for one in commit.rewrites)
        require_as_planned(present.inventory, groups)
        require_untouched(source, [one.files for one in commit.rewrites])
    except CommitConflictError as error:
        return CommitResult(None, (), all_conflict(commit.rewrites, str(error)))
    return None


def complete(
    present: Present,
    commit: Commit,
    instant: Instant,
    ranges: Mapping[str, tuple[ColumnRange, ...]],
) -> Instant:
    """Complete the work of a commit and return its instant.

    Raises:
        UnsupportedTableError: an index of the table cannot be kept right.
    """
    source, operation = present.source, operation_of(instant)
    written = list(_written(commit, operation))
    replaced = _replaced(commit) if operation is Operation.CLUSTERING else None
    names = {one.name for one in written}
    remove_failed(source.storage, source.root, instant.time, written=names)
    schema = latest_schema(source)
    _write_metadata(present, instant, commit, written, ranges=ranges, schema=schema)
    extra = {"schema": schema, COMMIT_ID: commit.commit_id, **dict(commit.properties)}
    if commit.kind is CommitKind.CHANGE:
        merged = read_merged(source)
        # Whoever has the lock by now may have noted a later merge.
        present.lock.require()
        extra |= merged.pairs(commit.watermarks)
        note_merge(source, merged, instant.time)
    name = _NAMES[operation]
    body = write_body(written, name, layout=source.config.layout, extra=extra, replaced=replaced)
    writer = InstantWriter(source.storage, source.root, source.config)
    present.lock.require()
    return writer.complete(instant, body, source.timeline)


def _written(commit: Commit, operation: Operation) -> Iterable[WrittenBase]:
    for rewrite in commit.rewrites:
        is_in_place = operation is not Operation.CLUSTERING and rewrite.files.file_count > 0
        if is_in_place:
            require_one_output(rewrite.group_id, len(rewrite.added))
        yield from folded(rewrite) if is_in_place else replacing(rewrite)


def _replaced(commit: Commit) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for rewrite in commit.rewrites:
        for one in map(planned_slice, rewrite.files.slices()):
            found.setdefault(one.partition_path, []).append(one.file_id)
    return found


def _write_metadata(
    present: Present,
    instant: Instant,
    commit: Commit,
    written: list[WrittenBase],
    *,
    ranges: Mapping[str, tuple[ColumnRange, ...]],
    schema: str,
) -> None:
    """Have the metadata table take in the change, if there is one."""
    source = present.source
    metadata = open_metadata_table(source.storage, source.root, source.config)
    if metadata is None:
        return
    from catalog.hudi.metadata_table.writing import write_metadata  # lazy: some tables have none

    operation = operation_of(instant)
    metadata.require_writable(operation)
    keys = keys_before(source, schema, commit) if operation is Operation.UPSERT else {}
    added = tuple(
        AddedFile(
            one.partition_path,
            one.name,
            one.file.size_bytes,
            one.file_id,
            one.previous_name,
            ranges[one.file.path],
            keys.get(one.folded.path) if one.folded else None,
        )
        for one in written
    )
    live = live_names(present.slices, commit, written)
    change = MetadataChange(operation, added=added, live=live, schema=schema)
    write_metadata(metadata, source.timeline, instant=instant.time, change=change)


def operation_of(instant: Instant) -> Operation:
    """Return what pending work does to the table."""
    return _OPERATIONS.get(instant.action, Operation.CLUSTERING)


def live_names(
    slices: Slices, commit: Commit, written: Iterable[WrittenBase]
) -> dict[str, frozenset[str]]:
    """Return the names of all files of the partitions that a commit adds to, after it.

    Files of several partitions may have one name: Flink gives buckets file ids by their numbers.
    """
    taken = (planned_slice(one) for rewrite in commit.rewrites for one in rewrite.files.slices())
    gone = {(one.partition_path, name) for one in taken for name in (one.base_file, *one.log_files)}
    found: dict[str, set[str]] = {}
    for one in written:
        found.setdefault(one.partition_path, set()).add(one.name)
    logs = slices.logs["name"].to_pylist()
    columns = (slices.slices[name].to_pylist() for name in ("partition_path", "base_name", "logs"))
    for partition, base, own in zip(*columns, strict=True):
        if partition in found:
            names = {logs[at] for at in own} | ({base} if base else set())
            found[partition] |= {one for one in names if (partition, one) not in gone}
    return {partition: frozenset(names) for partition, names in found.items()}
