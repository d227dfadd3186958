"""Expires snapshots: takes them out of the metadata, then removes the files that only they had.

What is removed is told by the table as it is after the commit: whatever any snapshot of it refers
to stays, also one that was committed meanwhile. A process that dies before it has removed all
leaves files that nothing refers to, which the sweep for orphans finds.

Specification: https://iceberg.apache.org/spec/#snapshot-retention-policy
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import (
    RemovePartitionStatisticsUpdate,
    RemoveSnapshotRefUpdate,
    RemoveSnapshotsUpdate,
    TableUpdate,
)

from catalog.attempts import attempts
from catalog.errors import (
    CommitConflictError,
    CorruptTableError,
    LocationError,
    ObjectNotFoundError,
    UnsupportedTableError,
)
from catalog.iceberg.commit_properties import pace
from catalog.iceberg.reachable import MetadataFiles, Reachable, path_of, statistics_of
from catalog.iceberg.retention import MAIN, Expiry, Reference, Retention, Version, expiry
from catalog.iceberg.upkeep import Answer, UpkeepTarget, positive, refuse_shared_files, swap
from catalog.iceberg.watermarks import snapshots_to_keep
from catalog.location import Location
from catalog.sweeping import Names, Seen, Tally, batches
from catalog.upkeep import UnfinishedJob, UpkeepOrder, UpkeepResult

_AGE, _AGE_DEFAULT_MS = "history.expire.max-snapshot-age-ms", 5 * 24 * 3600 * 1000
_COUNT = "history.expire.min-snapshots-to-keep"
# What a metadata file of an expired snapshot may be: its files are left to the sweep for orphans.
_UNREADABLE = (ObjectNotFoundError, CorruptTableError, LocationError)
_REF_AGE = "history.expire.max-ref-age-ms"


@dataclass(frozen=True, slots=True)
class ExpireSnapshots:
    """Expires the snapshots that the table's retention lets go."""

    target: UpkeepTarget
    name: str = "expire-snapshots"
    is_usual: bool = True

    def check(self, order: UpkeepOrder) -> None:
        """Refuse to keep less than the table says, unless that is insisted on."""
        metadata = self.target.current().metadata
        refuse_shared_files(metadata)
        _retention(metadata, order)

    def run(self, order: UpkeepOrder) -> UpkeepResult:
        """Expire them, and remove their files.

        Raises:
            UnsupportedTableError: less is to be kept than the table says.
            CommitConflictError: other writers kept winning; nothing was removed.
            CatalogError: the table cannot be read, or its storage refuses.
        """
        table = self.target.load()
        self.check(order)
        going = _Going()
        going.add(table.metadata, _expiry(table.metadata, order))
        if not going.snapshots and not going.references:
            return UpkeepResult(self.name, 0, 0, "no snapshot is older than the table wants")
        kept = Reachable(MetadataFiles(self.target.storage, self.target.confinement))
        removal = _Removal(self.target, kept, Tally(self.name), order.is_dry_run)
        # Read before anything is changed: what cannot be read is found out in time.
        removal.keep(table.metadata, going)
        if not order.is_dry_run:
            table = self._commit(order, going)
            going.spare(table.metadata)
            removal.keep(table.metadata, going)
        unread = removal.remove(going)
        return removal.tally.result(_note(going, table.metadata, unread, removal.foreign))

    def _commit(self, order: UpkeepOrder, going: _Going) -> Table:
        """Take what is to go out of the metadata; return the table as it is then."""
        table = self.target.load()
        for attempt in attempts(pace(table.metadata.properties)):
            if attempt:
                table = self.target.load()
            found = _expiry(table.metadata, order)
            if not found.snapshot_ids and not found.references:
                return table
            going.add(table.metadata, found)
            if swap(self.target, table, _updates(table.metadata, found)) is Answer.TAKEN:
                return self.target.load()
        table = self.target.load()
        left = _expiry(table.metadata, order)
        if not left.snapshot_ids and not left.references:
            return table  # the last request was carried out, whatever the answer was
        raise CommitConflictError(
            f"no snapshot of {self.target.name} was expired: other writers won in every attempt",
            hint="try again when the table is less busy, or raise commit.retry.num-retries",
        )


@dataclass(slots=True)
class _Going:
    """What is to go, as it was in the table."""

    snapshots: dict[int, Snapshot] = field(default_factory=dict)
    references: set[str] = field(default_factory=set)
    statistics: dict[str, tuple[str, int]] = field(default_factory=dict)

    def add(self, metadata: TableMetadata, found: Expiry) -> None:
        by_id = {one.snapshot_id: one for one in metadata.snapshots}
        statistics = statistics_of(metadata)
        for one in found.snapshot_ids:
            self.snapshots[one] = by_id[one]
            places = statistics.get(one, ())
            self.statistics.update((path_of(path), (path, size)) for path, size in places)
        self.references.update(found.references)

    def spare(self, metadata: TableMetadata) -> None:
        """Take out what is still, or again, in the table."""
        for snapshot in metadata.snapshots:
            self.snapshots.pop(snapshot.snapshot_id, None)
        self.references.difference_update(metadata.refs)


@dataclass(slots=True)
class _Removal:
    """Removes what only expired snapshots refer to."""

    target: UpkeepTarget
    kept: Reachable
    tally: Tally
    is_dry_run: bool
    foreign: int = 0
    _known: set[int] = field(default_factory=set)
    _statistics: set[str] = field(default_factory=set)

    def keep(self, metadata: TableMetadata, going: _Going) -> None:
        """Learn what the snapshots that stay refer to."""
        staying = [one for one in metadata.snapshots if one.snapshot_id not in going.snapshots]
        ids = {one.snapshot_id for one in staying}
        if not self._known <= ids:  # some of those that were read have to go as well by now
            self.kept = Reachable(self.kept.files)
        self.kept.add(staying)
        self._known = ids
        self._statistics = {
            path_of(path)
            for number, places in statistics_of(metadata).items()
            if number not in going.snapshots
            for path, _ in places
        }
        self.kept.live()

    def remove(self, going: _Going) -> int:
        """Remove the files; return how many metadata files could not be read."""
        lists = {path_of(one.manifest_list): one.manifest_list for one in going.snapshots.values()}
        manifests, unread = self._manifests(going.snapshots.values())
        live = self.kept.live()
        unreadable: list[str] = []
        files = self._unkept(self._files(manifests.values(), unreadable), live)
        metadata = [
            *manifests.values(),
            *(path for key, path in lists.items() if key not in self.kept.lists),
        ]
        statistics = (
            place for key, place in going.statistics.items() if key not in self._statistics
        )
        self._delete(files)
        # What leads to the files goes after them.
        self._delete(iter([*statistics, *((path, 0) for path in metadata)]))
        return unread + len(unreadable)

    def _manifests(self, snapshots: Iterable[Snapshot]) -> tuple[Mapping[str, str], int]:
        """Return the manifests that only these snapshots list, and how many lists are broken."""
        expired, unread = Reachable(self.kept.files), 0
        for snapshot in snapshots:
            try:
                expired.add([snapshot])
            except _UNREADABLE:
                unread += 1
        own = {
            key: path for key, path in expired.manifests.items() if key not in self.kept.manifests
        }
        return own, unread

    def _files(self, manifests: Iterable[str], unreadable: list[str]) -> Iterator[tuple[str, int]]:
        for manifest in manifests:
            try:
                yield from self.kept.files.live_files(manifest)
            except _UNREADABLE:
                unreadable.append(manifest)

    def _unkept(self, found: Iterator[tuple[str, int]], live: Names) -> Iterator[tuple[str, int]]:
        seen = Seen()
        for batch in batches(found):
            keys = [path_of(path) for path, _ in batch]
            goes = seen.is_new(keys) & ~live.holds(keys)
            yield from (one for one, is_going in zip(batch, goes, strict=True) if is_going)

    def _delete(self, found: Iterator[tuple[str, int]]) -> None:
        for batch in batches(found):
            locations = [self._location(path) for path, _ in batch]
            own = [
                (one, location)
                for one, location in zip(batch, locations, strict=True)
                if location is not None
            ]
            self.foreign += len(batch) - len(own)
            self.tally.add([one for one, _ in own])
            if not self.is_dry_run:
                self.target.storage.delete([location for _, location in own])

    def _location(self, path: str) -> Location | None:
        """Return where a file is; None for one that lies outside of the table's prefixes."""
        try:
            return self.target.confinement.parse(path)
        except LocationError:
            return None


def _note(going: _Going, metadata: TableMetadata, unread: int, foreign: int) -> str:
    left = sum(one.snapshot_id not in going.snapshots for one in metadata.snapshots)
    parts = [f"{len(going.snapshots):,} snapshots expired, {left:,} kept"]
    if going.references:
        parts.append(f"references dropped: {', '.join(sorted(going.references))}")
    if foreign:
        parts.append(f"{foreign:,} files outside of the table's prefixes left alone")
    if unread:
        parts.append(f"{unread:,} of their metadata files could not be read, see orphan-files")
    return "; ".join(parts)


def _expiry(metadata: TableMetadata, order: UpkeepOrder) -> Expiry:
    """Return what goes by the retention, less what our own work stands on."""
    versions = [
        Version(one.snapshot_id, one.parent_snapshot_id, one.timestamp_ms)
        for one in metadata.snapshots
    ]
    references, retention = _references(metadata), _retention(metadata, order)
    known = {one.snapshot_id for one in versions}
    anchors = _bases(order.unfinished) & known
    now_ms = time.time_ns() // 1_000_000
    while True:
        found = expiry(versions, references, retention=retention, anchors=anchors, now_ms=now_ms)
        needed = snapshots_to_keep(metadata, known.difference(found.snapshot_ids))
        if needed.isdisjoint(found.snapshot_ids):
            return found
        anchors |= needed & known


def _bases(jobs: Iterable[UnfinishedJob]) -> set[int]:
    return {int(one.snapshot_id) for one in jobs if one.snapshot_id}


def _references(metadata: TableMetadata) -> list[Reference]:
    found = [
        Reference(
            name,
            ref.snapshot_id,
            is_branch=ref.snapshot_ref_type == SnapshotRefType.BRANCH,
            snapshots_min=ref.min_snapshots_to_keep,
            age_ms_max=ref.max_snapshot_age_ms,
            own_age_ms_max=ref.max_ref_age_ms,
        )
        for name, ref in metadata.refs.items()
    ]
    current = metadata.current_snapshot_id
    if MAIN not in metadata.refs and current is not None:
        found.append(Reference(MAIN, current))
    return found


def _retention(metadata: TableMetadata, order: UpkeepOrder) -> Retention:
    age_ms, count = positive(metadata, _AGE, _AGE_DEFAULT_MS), positive(metadata, _COUNT, 1)
    wanted_s, versions_min = order.retention_seconds, order.versions_min
    if not order.is_forced and wanted_s is not None and wanted_s * 1000 < age_ms:
        raise UnsupportedTableError(
            f"snapshots are to be kept for {wanted_s / 3600:g} hours,"
            f" the table says {age_ms / 3_600_000:g}",
            hint=f"change {_AGE}, or insist with --force if no reader needs them any more",
        )
    if not order.is_forced and versions_min is not None and versions_min < count:
        raise UnsupportedTableError(
            f"{versions_min} snapshots are to be kept, the table says {count}",
            hint=f"change {_COUNT}, or insist with --force",
        )
    has_own_age = _REF_AGE in metadata.properties
    return Retention(
        age_ms_max=age_ms if wanted_s is None else wanted_s * 1000,
        snapshots_min=count if versions_min is None else versions_min,
        own_age_ms_max=positive(metadata, _REF_AGE, 1) if has_own_age else None,
    )


def _updates(metadata: TableMetadata, found: Expiry) -> tuple[TableUpdate, ...]:
    with_statistics = {one.snapshot_id for one in metadata.partition_statistics}
    return (
        *(RemoveSnapshotRefUpdate.model_validate({"ref-name": one}) for one in found.references),
        *(
            RemovePartitionStatisticsUpdate.model_validate({"snapshot-id": one})
            for one in found.snapshot_ids
            if one in with_statistics
        ),
        # Catalogs of older versions take one snapshot in each.
        *(
            RemoveSnapshotsUpdate.model_validate({"snapshot-ids": [one]})
            for one in found.snapshot_ids
        ),
    )
