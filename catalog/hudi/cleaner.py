"""Upkeep that deletes the files of old file slices, as Hudi's cleaner does, and tells of it.

A plan goes onto the timeline before a file is deleted, and what was deleted is completed after the
metadata table has taken it in. A cleaning that died is finished by the next one, whoever's it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pyarrow as pa

from catalog.avro.container import AvroFile
from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.hudi.avro_schemas import Kind
from catalog.hudi.avro_writing import container
from catalog.hudi.cleaning import (
    CleanPolicy,
    Kept,
    Replaced,
    earliest_by_age,
    earliest_by_commits,
    first_replacing,
    not_after,
    planned_groups,
    read_since,
    unneeded_files,
)
from catalog.hudi.config import TableConfig
from catalog.hudi.instants import InstantWriter
from catalog.hudi.locking import Lock
from catalog.hudi.metadata_table.change import MetadataChange
from catalog.hudi.metadata_table.table import Operation, open_metadata_table
from catalog.hudi.metadata_table.writing import write_metadata
from catalog.hudi.reading import (
    Source,
    read_details,
    read_pending,
    read_places,
    read_slices,
)
from catalog.hudi.scheduling import next_time
from catalog.hudi.timeline import Action, Instant, State, instant_time, read_instant, state_files
from catalog.location import Location
from catalog.storage import Storage
from catalog.sweeping import Tally, batches
from catalog.upkeep import UpkeepOrder, UpkeepResult

# What Hudi's writers keep where nothing is said.
_COMMITS_KEPT = 10
_VERSIONS_KEPT = 3
_HOURS_KEPT = 24
_VERSION = 2
_POLICY = ("hoodie.clean.policy", "hoodie.cleaner.policy")
_COMMITS = ("hoodie.clean.commits.retained", "hoodie.cleaner.commits.retained")
_VERSIONS = ("hoodie.clean.fileversions.retained", "hoodie.cleaner.fileversions.retained")
_HOURS = ("hoodie.clean.hours.retained", "hoodie.cleaner.hours.retained")
_SAVEPOINTS = "savepointed_timestamps"
_CDC = "hoodie.table.cdc.enabled"
_META_FOLDER = ".hoodie"


class CleanTarget(Protocol):
    """What a table is for its cleaner."""

    @property
    def storage(self) -> Storage:
        """Where it is."""

    @property
    def root(self) -> Location:
        """Its directory."""

    def source(self) -> Source:
        """Read settings and timeline anew."""

    def listing(self, source: Source) -> pa.Table:
        """Return its files, listed after the timeline was read."""

    def locked(self) -> AbstractContextManager[tuple[Lock, Source]]:
        """Hold its lock, and read it anew."""


@dataclass(frozen=True, slots=True)
class Clean:
    """Deletes what no kept commit's readers need."""

    target: CleanTarget

    @property
    def name(self) -> str:
        """`clean`."""
        return "clean"

    @property
    def is_usual(self) -> bool:
        """It is what most of a Hudi table's upkeep is."""
        return True

    def check(self, order: UpkeepOrder) -> None:
        """Refuse what cannot be done as it is ordered.

        Raises:
            UnsupportedTableError: the number of kept commits is none, files of change data would
                be left behind, or an index could not be kept right.
        """
        source = self.target.source()
        if source.config.get(_CDC).lower() == "true":
            raise UnsupportedTableError(
                "the table keeps change data beside its files, which is not cleaned",
                hint="leave cleaning to the writers of the table",
            )
        if order.versions_min is not None and order.versions_min < 1:
            raise UnsupportedTableError("one commit at least is to be kept")
        metadata = open_metadata_table(self.target.storage, self.target.root, source.config)
        if metadata is not None:
            metadata.require_writable(Operation.CLEAN)
        _policy(source.config, order)

    def run(self, order: UpkeepOrder) -> UpkeepResult:
        """Finish cleanings that died, and clean.

        Raises:
            UnsupportedTableError: as `check` does.
            CatalogError: the table cannot be read, or its storage refuses.
        """
        self.check(order)
        tally = Tally(self.name)
        if order.is_dry_run:
            source = self.target.source()
            kept = _kept(source, order)
            found = unneeded_files(read_places(source, self.target.listing(source)), kept)
            for batch in batches(_described(found)):
                tally.add(batch)
            return tally.result(_note(kept))
        for instant in self.target.source().timeline.pending(Action.CLEAN):
            self._require_unneeded(instant)
            self._carry_out(instant, tally)
        with self.target.locked() as (lock, source):
            kept = _kept(source, order)
            found = unneeded_files(read_places(source, self.target.listing(source)), kept)
            if found.num_rows:
                lock.require()
                planned = self._plan(source, kept, found)
        if found.num_rows:
            self._carry_out(planned, tally)
        return tally.result(_note(kept))

    def _plan(self, source: Source, kept: Kept, found: pa.Table) -> Instant:
        """Put the plan onto the timeline."""
        writer = InstantWriter(source.storage, source.root, source.config)
        plan = container(Kind.CLEAN_PLAN, [_plan_record(source, kept, found)])
        return writer.request(next_time(source), Action.CLEAN, plan)

    def _require_unneeded(self, instant: Instant) -> None:
        """Make sure that a plan names no file that is seen by now: the table may be restored.

        Raises:
            UnsupportedTableError: it does.
        """
        source = self.target.source()
        planned = _planned_files(_plan_of(source, instant), source.root)
        slices = read_slices(source, self.target.listing(source))
        needed = {*slices.slices["base_name"].to_pylist(), *slices.logs["name"].to_pylist()}
        needed |= _savepoint_files(source)
        for path in planned:
            if path.rpartition("/")[2] in needed:
                raise UnsupportedTableError(
                    f"the pending cleaning {instant.time} deletes {path}, which is part of the"
                    " table by now, or of a savepoint",
                    hint="take its files off the timeline",
                )

    def _carry_out(self, instant: Instant, tally: Tally) -> None:
        """Delete the files of a plan, and complete it."""
        source = self.target.source()
        plan = _plan_of(source, instant)
        planned = _planned_files(plan, source.root)
        writer = InstantWriter(source.storage, source.root, source.config)
        inflight = writer.begin(instant)
        started = time.monotonic()
        for batch in batches(planned):
            source.storage.delete([source.root.child(path) for path in batch])
            tally.add([(path, 0) for path in batch])
        seconds = time.monotonic() - started
        with self.target.locked() as (lock, source):
            found = source.timeline.find(instant.time)
            if found is not None and found.is_completed:
                return
            self._tell_metadata(source, instant.time, planned)
            lock.require()
            done = container(Kind.CLEAN, [_done_record(instant.time, plan, planned, seconds)])
            writer.complete(inflight, done, source.timeline)

    def _tell_metadata(self, source: Source, instant: str, planned: Sequence[str]) -> None:
        metadata = open_metadata_table(source.storage, source.root, source.config)
        if metadata is None:
            return
        deleted = {path: tuple(names) for path, names in _by_partition(planned).items()}
        change = MetadataChange(Operation.CLEAN, deleted=deleted)
        write_metadata(metadata, source.timeline, instant=instant, change=change)


def _policy(config: TableConfig, order: UpkeepOrder) -> CleanPolicy:
    """Return what is ordered, else what the table says."""
    if order.versions_min is not None and order.retention_seconds is None:
        return CleanPolicy.COMMITS
    if order.retention_seconds is not None:
        return CleanPolicy.HOURS
    named = _setting(config, _POLICY, CleanPolicy.COMMITS)
    try:
        return CleanPolicy(named.upper())
    except ValueError:
        raise UnsupportedTableError(
            f"the table is cleaned by {named}, which is not known",
            hint="choose with --keep-last or --retention",
        ) from None


def _kept(source: Source, order: UpkeepOrder) -> Kept:
    policy = _policy(source.config, order)
    timeline = source.timeline
    pending, replaced = read_pending(source), tuple(replaced_groups(source))
    since = read_since(timeline, [one.snapshot_id for one in order.unfinished if one.snapshot_id])
    # Whoever archives takes it that all that was replaced before the earliest commit is deleted.
    planned = planned_groups(pending)
    held = [
        one.instant
        for one in replaced
        if one.group in planned or (since is not None and one.instant >= since)
    ]
    if policy is CleanPolicy.VERSIONS:
        earliest = first_replacing(timeline, held)
    else:
        held += [] if since is None else [since]
        earliest = not_after(timeline, _earliest(source, policy, order), held)
    return Kept(
        policy=policy,
        versions=source.config.count(*_VERSIONS, default=_VERSIONS_KEPT),
        earliest=earliest,
        pending=pending,
        replaced=replaced,
        savepoint_files=_savepoint_files(source),
        read_since=since,
    )


def _earliest(source: Source, policy: CleanPolicy, order: UpkeepOrder) -> Instant | None:
    """Return the earliest commit that stays readable by the policy; None where all do."""
    timeline = source.timeline
    commits = order.versions_min or source.config.count(*_COMMITS, default=_COMMITS_KEPT)
    if policy is CleanPolicy.COMMITS:
        return earliest_by_commits(timeline, commits)
    earliest = earliest_by_hours(source, order)
    if order.versions_min is None:
        return earliest
    by_commits = earliest_by_commits(timeline, order.versions_min)
    return None if by_commits is None else not_after(timeline, earliest, [by_commits.time])


def earliest_by_hours(source: Source, order: UpkeepOrder) -> Instant | None:
    """Return the earliest commit that stays readable by its age: by its name, or by its file's."""
    seconds = order.retention_seconds
    if seconds is None:
        seconds = 3600 * source.config.count(*_HOURS, default=_HOURS_KEPT)
    oldest = datetime.now(UTC) - timedelta(seconds=seconds)
    files = state_files(source.storage, source.root, source.config)
    young = {one.instant.time for one in files if one.modified_at >= oldest}
    return earliest_by_age(source.timeline, instant_time(oldest, source.config), young)


def earliest_kept(source: Source) -> Instant | None:
    """Return the earliest commit that cleaning keeps readable; None where it gives none up."""
    return _kept(source, UpkeepOrder()).earliest


def cleaned_until(source: Source) -> str | None:
    """Return the instant before which all that was replaced is deleted; None where nothing is."""
    cleans = source.timeline.completed(Action.CLEAN)
    if not cleans:
        return None
    plan = _plan_of(source, cleans[-1])
    saved = (plan.get("extraMetadata") or {}).get(_SAVEPOINTS) or ""
    earliest = (plan.get("earliestInstantToRetain") or {}).get("timestamp") or cleans[-1].time
    return min(earliest, *(one for one in saved.split(",") if one)) if saved else earliest


def _setting(config: TableConfig, names: Sequence[str], default: str) -> str:
    return next((found for name in names if (found := config.get(name))), default)


def replaced_groups(source: Source) -> Iterator[Replaced]:
    """Yield the file groups that are gone, as far as the timeline tells of it."""
    for instant in source.timeline.completed(Action.REPLACECOMMIT):
        for path, file_ids in read_details(source, instant).replaced.items():
            yield from (Replaced((path, file_id), instant.time) for file_id in file_ids)


def _savepoint_files(source: Source) -> frozenset[str]:
    names: set[str] = set()
    for instant in source.timeline.completed(Action.SAVEPOINT):
        data = read_instant(source.storage, source.root, source.config, instant.file_name)
        record = _record(instant.file_name, data)
        for partition in (record.get("partitionMetadata") or {}).values():
            names.update(partition.get("savepointDataFile") or ())
    return frozenset(names)


def _plan_of(source: Source, instant: Instant) -> dict[str, Any]:
    name = instant.named(State.REQUESTED)
    return _record(name, read_instant(source.storage, source.root, source.config, name))


def _record(name: str, data: bytes) -> dict[str, Any]:
    return AvroFile.parse(name, data).the_record()


def _described(found: pa.Table) -> Iterator[tuple[str, int]]:
    for batch in found.to_batches(max_chunksize=4096):
        columns = (batch.column(name).to_pylist() for name in ("partition_path", "name"))
        for path, name, size in zip(*columns, batch.column("size_bytes").to_pylist(), strict=True):
            yield _path(path, name), size


def _path(partition_path: str, name: str) -> str:
    return f"{partition_path}/{name}" if partition_path else name


def _plan_record(source: Source, kept: Kept, found: pa.Table) -> Mapping[str, Any]:
    completed = source.timeline.completed(Action.COMMIT, Action.DELTACOMMIT, Action.REPLACECOMMIT)
    by_partition = _by_partition(path for path, _ in _described(found))
    earliest = kept.earliest
    return {
        "earliestInstantToRetain": None
        if earliest is None
        else {"timestamp": earliest.time, "action": str(earliest.action), "state": "COMPLETED"},
        "lastCompletedCommitTimestamp": completed[-1].time if completed else "",
        "policy": str(kept.policy),
        "filesToBeDeletedPerPartition": {},
        "version": _VERSION,
        "filePathsToBeDeletedPerPartition": {
            path: [
                {
                    "filePath": str(source.root.child(_path(path, name))),
                    "isBootstrapBaseFile": False,
                }
                for name in names
            ]
            for path, names in by_partition.items()
        },
        "partitionsToBeDeleted": [],
        "extraMetadata": _savepoint_note(source),
    }


def _savepoint_note(source: Source) -> Mapping[str, str]:
    """Say which savepoints held files back, for whoever archives once they are deleted."""
    times = [one.time for one in source.timeline.completed(Action.SAVEPOINT)]
    return {_SAVEPOINTS: ",".join(times)} if times else {}


def _planned_files(plan: Mapping[str, Any], root: Location) -> list[str]:
    """Return the files of a plan, by their paths below the table.

    Raises:
        UnsupportedTableError: the plan is of an old form, or does more than delete files.
    """
    if plan.get("partitionsToBeDeleted"):
        raise UnsupportedTableError(
            "a pending cleaning deletes whole partitions, which is not done",
            hint="have a writer of the table finish it",
        )
    by_partition = plan.get("filePathsToBeDeletedPerPartition") or {}
    if plan.get("filesToBeDeletedPerPartition") and not by_partition:
        raise UnsupportedTableError("a pending cleaning has a plan of an old form")
    found = []
    for path, files in by_partition.items():
        for one in files:
            if one.get("isBootstrapBaseFile"):
                raise UnsupportedTableError("a pending cleaning deletes files of another table")
            name = str(one["filePath"]).rpartition("/")[2]
            if not name or name in (".", "..") or path.split("/")[0] == _META_FOLDER:
                raise CorruptTableError(f"a pending cleaning of {root} names no file of its data")
            found.append(_path(path, name))
    return found


def _by_partition(paths: Iterator[str] | Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in paths:
        path, _, name = one.rpartition("/")
        found.setdefault(path, []).append(name)
    return found


def _done_record(
    instant: str, plan: Mapping[str, Any], planned: Sequence[str], seconds: float
) -> Mapping[str, Any]:
    earliest = plan.get("earliestInstantToRetain") or {}
    return {
        "startCleanTime": instant,
        "timeTakenInMillis": int(seconds * 1000),
        "totalFilesDeleted": len(planned),
        "earliestCommitToRetain": earliest.get("timestamp", ""),
        "lastCompletedCommitTimestamp": plan.get("lastCompletedCommitTimestamp") or "",
        "partitionMetadata": {
            path: {
                "partitionPath": path,
                "policy": plan["policy"],
                "deletePathPatterns": names,
                "successDeleteFiles": names,
                "failedDeleteFiles": [],
                "isPartitionDeleted": False,
            }
            for path, names in _by_partition(planned).items()
        },
        "version": _VERSION,
        "bootstrapPartitionMetadata": {},
        "extraMetadata": plan.get("extraMetadata") or {},
    }


def _note(kept: Kept) -> str:
    if kept.policy is CleanPolicy.VERSIONS:
        return f"the newest {kept.versions} slices of each file group stay"
    if kept.earliest is None:
        return "no commit is old enough"
    return f"readers of commit {kept.earliest.time} and later ones are not disturbed"
