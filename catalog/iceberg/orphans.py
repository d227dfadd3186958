"""Removes files below a table that no snapshot of it refers to: what failed writers left behind.

The table's own location is listed, nothing else: data and metadata paths that are configured to be
elsewhere may be shared with other tables. What is kept: all that a snapshot refers to, whatever
scheme or bucket it is spelled with; what is younger than the minimum age, for a writer may be about
to commit it; what jobs of ours have written that have not ended; what lies in another table; and
whatever is not called as files of tables are. Before anything is removed the table is read anew.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from catalog.errors import UnsupportedTableError
from catalog.iceberg.metadata_files import is_table_metadata, logged, others_metadata
from catalog.iceberg.reachable import MetadataFiles, Reachable, path_of, statistics_of
from catalog.iceberg.under_way import metadata_directory
from catalog.iceberg.upkeep import UpkeepTarget, refuse_shared_files
from catalog.location import Location
from catalog.storage import Storage
from catalog.storage.values import ObjectInfo
from catalog.sweeping import Names, Tally, batches, latest_ms
from catalog.upkeep import UpkeepOrder, UpkeepResult

_AGE_DEFAULT_SECONDS = 3 * 24 * 3600
_AGE_MIN_SECONDS = 3600
# A request for a commit may outlive its sender: what it names has to be there when it arrives.
_STAGED_AGE_MIN_SECONDS = 2 * 3600
_STAGED = (".avro", ".metadata.json")
_OURS = re.compile(r".+\.(?:parquet|orc|avro|puffin|stats|metadata\.json(?:\.gz)?)", re.ASCII)
# Where tables of other formats have their logs: there are tools that keep those beside Iceberg's.
_LOGS = ("_delta_log", ".hoodie")
# Directories by which files are spread: by partition, and by digits of a hash.
_SPREADING = re.compile(r".*=.*|[01]{4}|[01]{8}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class OrphanFiles:
    """Removes the files of a table that nothing refers to."""

    target: UpkeepTarget
    name: str = "orphan-files"
    is_usual: bool = True

    def check(self, order: UpkeepOrder) -> None:
        """Refuse files that are hardly older than a commit takes, unless that is insisted on."""
        refuse_shared_files(self.target.current().metadata)
        _age_seconds(order)

    def run(self, order: UpkeepOrder) -> UpkeepResult:
        """Remove the files.

        Raises:
            UnsupportedTableError: too young files are asked for, or another table lies there.
            CatalogError: the table cannot be read, or its storage refuses.
        """
        started = time.time()
        table = self.target.load()
        self.check(order)
        age_seconds = _age_seconds(order)
        known = _Known(self.target, Reachable(self._files()))
        known.learn(table)
        if not order.is_forced:
            self._refuse_others(table)
        walk = _Walk(self.target, table, tuple(one.job_id for one in order.unfinished))
        tally = Tally(self.name)
        staged_seconds = (
            age_seconds if order.is_forced else max(age_seconds, _STAGED_AGE_MIN_SECONDS)
        )
        cutoffs_ms = [int((started - one) * 1000) for one in (age_seconds, staged_seconds)]
        for batch in batches(walk.older_than(*cutoffs_ms)):
            if not order.is_dry_run:
                known.learn(self.target.load())
            gone = known.unknown(batch)
            tally.add([(walk.shown(one), one.size_bytes) for one in gone])
            if not order.is_dry_run:
                self.target.storage.delete([one.location for one in gone])
        return tally.result(f"older than {age_seconds / 3600:g} hours")

    def _files(self) -> MetadataFiles:
        return MetadataFiles(self.target.storage, self.target.confinement)

    def _refuse_others(self, table: Table) -> None:
        directory = metadata_directory(table, self.target.confinement)
        found = others_metadata(self.target.storage, table, directory)
        if found is None:
            root = self.target.confinement.parse(table.metadata.location)
            found = _log_in(self.target.storage, root)
        if found is not None:
            raise UnsupportedTableError(
                f"another table has its metadata in the directory of this one: {found}",
                hint="its files would look like orphans; insist with --force if it was dropped",
            )


@dataclass(slots=True)
class _Known:
    """What a table refers to, as far as it has been read."""

    target: UpkeepTarget
    reachable: Reachable
    _metadata_files: set[str] = field(default_factory=set)
    _version: str = ""
    _live: Names = field(default_factory=lambda: Names.of(()))

    def learn(self, table: Table) -> None:
        """Add what the table refers to as it is now; what it did before stays known.

        Raises:
            UnsupportedTableError: its catalog does not say which file its metadata are in.
        """
        if not table.metadata_location:
            raise UnsupportedTableError(
                "the catalog does not tell the location of the table's metadata",
                hint="they would look like an orphan; nothing was removed",
            )
        if table.metadata_location == self._version:
            return
        self._version = table.metadata_location
        self._metadata_files |= logged(table) | _statistics(table.metadata)
        self.reachable.add(table.metadata.snapshots)
        self._live = self.reachable.live()

    def unknown(self, batch: list[ObjectInfo]) -> list[ObjectInfo]:
        """Return those that it does not refer to."""
        keys = [path_of(str(one.location)) for one in batch]
        lives = self._live.holds(keys)
        return [
            one
            for one, key, is_live in zip(batch, keys, lives, strict=True)
            if not (is_live or self._has(key))
        ]

    def _has(self, key: str) -> bool:
        return (
            key in self._metadata_files
            or key in self.reachable.manifests
            or key in self.reachable.lists
        )


@dataclass(slots=True)
class _Walk:
    """The files below a table's location that may be orphans by their name and age."""

    target: UpkeepTarget
    table: Table
    jobs: tuple[str, ...]
    _tables: dict[str, bool] = field(default_factory=dict)

    @property
    def root(self) -> Location:
        """The table's location."""
        return self.target.confinement.parse(self.table.metadata.location)

    def shown(self, info: ObjectInfo) -> str:
        """Return how a file is called."""
        return info.location.relative_to(self.root)

    def older_than(self, cutoff_ms: int, staged_cutoff_ms: int) -> Iterator[ObjectInfo]:
        """Yield the files that were last written before a time, metadata before another."""
        root = self.root
        for info in self.target.storage.list(root):
            *directories, name = info.location.relative_to(root).split("/")
            latest_allowed_ms = staged_cutoff_ms if name.endswith(_STAGED) else cutoff_ms
            if (
                latest_ms(info.modified_at) < latest_allowed_ms
                and _is_removable(directories, name)
                and not any(job in name for job in self.jobs)
                and not self._is_in_another_table(directories)
            ):
                yield info

    def _is_in_another_table(self, directories: list[str]) -> bool:
        """Whether a directory on the way to a file has table metadata below."""
        path = ""
        for segment in directories:
            path = f"{path}/{segment}" if path else segment
            if _SPREADING.fullmatch(segment):
                continue
            if path not in self._tables:
                self._tables[path] = self._is_table(self.root.child(path))
            if self._tables[path]:
                return True
        return False

    def _is_table(self, root: Location) -> bool:
        directory = root.child("metadata")
        if directory == metadata_directory(self.table, self.target.confinement):
            return False
        found = self.target.storage.list(directory)
        return (
            any(is_table_metadata(one.location.name) for one in found)
            or _log_in(self.target.storage, root) is not None
        )


def _log_in(storage: Storage, root: Location) -> str | None:
    """Return a file of the log that a table of another format has in a directory."""
    for name in _LOGS:
        for info in storage.list(root.child(name)):
            return str(info.location)
    return None


def _is_removable(directories: list[str], name: str) -> bool:
    """Whether a file is called as those of tables are, and not hidden."""
    is_hidden = any(one.startswith((".", "_")) and "=" not in one for one in [*directories, name])
    return not is_hidden and _OURS.fullmatch(name) is not None


def _statistics(metadata: TableMetadata) -> set[str]:
    return {path_of(path) for places in statistics_of(metadata).values() for path, _ in places}


def _age_seconds(order: UpkeepOrder) -> int:
    wanted = order.retention_seconds
    if wanted is None:
        return _AGE_DEFAULT_SECONDS
    if wanted < _AGE_MIN_SECONDS and not order.is_forced:
        raise UnsupportedTableError(
            f"files of the last {wanted / 3600:g} hours may be about to be committed",
            hint="keep them for an hour at least, or insist with --force if nobody writes",
        )
    return wanted
