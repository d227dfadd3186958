"""The file slices of a table as they are now: listing, timeline, plans and archive put together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import ObjectNotFoundError, StorageError, UnsupportedTableError
from catalog.hudi.archived import completion_times
from catalog.hudi.archived_commits import archived_commits
from catalog.hudi.config import TableConfig
from catalog.hudi.details import (
    CommitDetails,
    PlannedSlice,
    read_clustering_plan,
    read_commit,
    read_compaction_plan,
)
from catalog.hudi.slices import (
    FileGroup,
    Pending,
    Slices,
    View,
    file_places,
    file_slices,
    log_instants,
    rival_bases,
)
from catalog.hudi.timeline import Action, Instant, State, Timeline, read_instant
from catalog.location import Location
from catalog.storage import Storage


@dataclass(frozen=True, slots=True)
class Source:
    """A table at one moment.

    Attributes:
        storage: where it is.
        root: its location.
        config: its settings.
        timeline: its active instants, up to the one that is read.
    """

    storage: Storage
    root: Location
    config: TableConfig
    timeline: Timeline


def read_slices(source: Source, listing: pa.Table) -> Slices:
    """Return the file slices that readers see.

    Args:
        source: the table.
        listing: its files, listed after the timeline was read; schema `LISTING`.

    Raises:
        CorruptTableError: metadata cannot be read, or it cannot be told what belongs to a slice.
        UnsupportedTableError: the table has files that others wrote.
    """
    return file_slices(_without_failed(source, listing), read_view(source, listing))


def read_places(source: Source, listing: pa.Table) -> pa.Table:
    """Return all files of all visible slices with the slices that they belong to.

    Returns:
        Schema `PLACES`; base files of attempts that failed are not among them.
    """
    return file_places(_without_failed(source, listing), read_view(source, listing))


def read_view(source: Source, listing: pa.Table) -> View:
    """Return what the files of a table are seen against."""
    return View(
        timeline=source.timeline,
        pending=read_pending(source),
        replaced=read_replaced(source),
        archived=_archived_times(source, listing),
        extension=source.config.base_file_format,
    )


def read_pending(source: Source) -> Pending:
    """Return the file groups of plans that are not carried out."""
    timeline = source.timeline
    return Pending(
        compactions=_compactions(source, timeline.pending(Action.COMPACTION)),
        log_compactions=_compactions(source, timeline.pending(Action.LOGCOMPACTION)),
        clusterings=_clusterings(source),
    )


def read_replaced(source: Source) -> frozenset[FileGroup]:
    """Return the file groups that completed instants have replaced."""
    found: set[FileGroup] = set()
    for instant in source.timeline.completed(Action.REPLACECOMMIT):
        for partition_path, file_ids in read_details(source, instant).replaced.items():
            found.update((partition_path, file_id) for file_id in file_ids)
    return frozenset(found)


def read_details(source: Source, instant: Instant) -> CommitDetails:
    """Return what a completed write did; it may have been archived meanwhile.

    Raises:
        CorruptTableError: it does not decode.
        StorageError: it went away and is not in the archive.
    """
    try:
        return read_commit(instant.file_name, _content(source, instant.file_name))
    except StorageError:
        archive = (source.storage, source.root, source.config)
        if (found := archived_commits(*archive, [instant.time]).get(instant.time)) is None:
            raise
        return found


def read_commits(source: Source, instants: Iterable[str]) -> Iterator[tuple[str, CommitDetails]]:
    """Yield what completed writes did, active or archived; those that are unknown are left out."""
    missing = set()
    for time in sorted(set(instants)):
        instant = source.timeline.find(time)
        if instant is None:
            missing.add(time)
        elif instant.is_completed:
            yield time, read_details(source, instant)
    yield from archived_commits(source.storage, source.root, source.config, missing).items()


def latest_schema(source: Source) -> str:
    """Return the Avro schema of the newest commit that has one; that of the table's creation.

    Raises:
        UnsupportedTableError: columns go by ids, as with `hoodie.schema.on.read.enable`.
    """
    said = (one.schema for one in newest_commits(source) if one.schema)
    return next(said, source.config.create_schema)


def newest_commits(source: Source) -> Iterator[CommitDetails]:
    """Yield what completed writes did, the newest first.

    Raises:
        UnsupportedTableError: columns go by ids, as with `hoodie.schema.on.read.enable`.
    """
    for instant in reversed(source.timeline.completed(*_WITH_SCHEMA)):
        details = read_details(source, instant)
        if details.extra.get(_SCHEMA_WITH_IDS):
            raise UnsupportedTableError(
                "the table has a feature that is not handled: columns that were renamed or dropped"
                " (hoodie.schema.on.read.enable)"
            )
        yield details


# Where commits keep the schema whose columns have ids.
_SCHEMA_WITH_IDS = "latest_schema"
_WITH_SCHEMA = (Action.COMMIT, Action.DELTACOMMIT, Action.REPLACECOMMIT)


def _content(source: Source, file_name: str) -> bytes:
    try:
        return read_instant(source.storage, source.root, source.config, file_name)
    except ObjectNotFoundError as error:
        raise StorageError(
            f"{file_name} went away while the timeline was read", hint="try again"
        ) from error


def _compactions(source: Source, instants: Iterable[Instant]) -> dict[FileGroup, str]:
    found = {}
    for instant in instants:
        name = instant.named(State.REQUESTED)
        plan = read_compaction_plan(name, _content(source, name))
        found.update(_groups(plan.slices, instant.time))
    return found


def _clusterings(source: Source) -> dict[FileGroup, str]:
    # In layout 1 a clustering is called a replacement; one without a plan is none.
    action = Action.REPLACECOMMIT if source.timeline.layout == 1 else Action.CLUSTERING
    found = {}
    for instant in source.timeline.pending(action):
        name = instant.named(State.REQUESTED)
        plan = read_clustering_plan(name, _content(source, name))
        found.update(_groups(plan.slices if plan else (), instant.time))
    return found


def _groups(slices: Iterable[PlannedSlice], time: str) -> dict[FileGroup, str]:
    return {(one.partition_path, one.file_id): time for one in slices}


def _archived_times(source: Source, listing: pa.Table) -> dict[str, str]:
    """Return when the archived instants were completed that logs are named after.

    Any instant that is not active may be archived: cleanings, rollbacks and savepoints stay active
    while writes that came later are not.
    """
    active = {one.time for one in source.timeline.instants}
    unknown = log_instants(listing) - active
    return dict(completion_times(source.storage, source.root, source.config, unknown))


def _without_failed(source: Source, listing: pa.Table) -> pa.Table:
    """Leave out base files of attempts that failed, where the commit names the one that counts."""
    rivals = rival_bases(listing, source.config.base_file_format)
    if not rivals.num_rows:
        return listing
    commits = dict(read_commits(source, rivals["instant"].unique().to_pylist()))
    written = {one.name for details in commits.values() for one in details.write_stats}
    is_written = pc.is_in(rivals["name"], value_set=pa.array(sorted(written), pa.string()))
    keys = ["partition_path", "file_id", "instant"]
    told = rivals.filter(is_written).select(keys)
    failed = rivals.filter(pc.invert(is_written)).join(told, keys, join_type="left semi")
    is_failed = pc.is_in(listing["name"], value_set=failed["name"].combine_chunks())
    return listing.filter(pc.invert(is_failed))
