"""What every table format implements: the coordinator's side and the workers' side of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from catalog.announcing import Announcement, Standing
from catalog.commits import ChangeScope, Commit, CommitResult, OutputFile
from catalog.layout import FileLayout
from catalog.location import Location
from catalog.model import FileSlice, Filling, Inventory, Selection, Snapshot
from catalog.schema import TableSchema
from catalog.storage import Storage
from catalog.upkeep import UpkeepOperation

# How the caller runs independent pieces of catalog work: results come in the order of the items.
# The function and the items can be pickled, so a caller may spread them over processes.
MapFunction = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


class TableFiles(Protocol):
    """The workers' side of one snapshot: enough to read its file slices and to write new files.

    Values of this type can be pickled and hold no connection.
    """

    @property
    def storage(self) -> Storage:
        """Where the files are."""
        ...

    @property
    def schema(self) -> TableSchema:
        """The columns that readers see; outputs have those of them that are stored."""
        ...

    @property
    def layout(self) -> FileLayout:
        """How outputs are to be written."""
        ...

    def locate(self, path: str) -> Location:
        """Return the location of a path found in metadata.

        Raises:
            LocationError: it lies outside the table's own prefixes.
        """
        ...

    def selections(self, files: Inventory) -> Mapping[str, Selection]:
        """Read the delete files of `files`: the rows each data file loses, by its path.

        Files that lose nothing may be left out.

        Raises:
            CorruptTableError: a delete file cannot be read, or names rows that do not exist.
        """
        ...

    def fillings(self, file: FileSlice) -> Mapping[int, Filling]:
        """Return, by field id, what columns hold that the file may lack or hold nulls of.

        These are values that its partition fixes, defaults of the table, ids and versions of rows.
        """
        ...

    def partition_keys(self, rows: pa.Table) -> pa.Array:
        """Return the partition that each new row belongs to, as a dictionary array of its keys.

        Args:
            rows: with the columns of `schema` that partitions are computed from, at least.

        Raises:
            UnsupportedTableError: a value cannot be told from another one in the partition.
        """
        ...

    def new_location(self, partition_key: str, file_name: str) -> Location:
        """Return where a new data file of the partition belongs; equal arguments, equal result."""
        ...


@runtime_checkable
class DeleteRecorder(Protocol):
    """The workers' side of a table whose deletes may be recorded anew without touching data."""

    def record_deletes(
        self, selections: Mapping[str, Selection], locate: Callable[[int], Location]
    ) -> Mapping[str, OutputFile]:
        """Write delete files for data files of one partition; no snapshot refers to them yet.

        Nothing is left where one cannot be written. Returned is, by the path of each data file that
        loses rows, the delete file that says which; several may share one.

        Args:
            selections: the rows that each data file loses, by its path.
            locate: names the files by number, counted from 0.
        """
        ...

    def deletes_location(self, location: Location) -> Location:
        """Return where `record_deletes` puts a file that `locate` says is to be at a location."""
        ...


@runtime_checkable
class OutputMarker(Protocol):
    """The workers' side of a table that is told of each new file before it exists."""

    def mark_output(self, location: Location) -> None:
        """Note that a data file is about to be written at a location."""
        ...


@runtime_checkable
class RowKeeper(Protocol):
    """The workers' side of a table whose rows carry columns that changes do not have.

    They follow from the others, and from the commit that brings a row in.
    """

    def arriving(self, rows: pa.Table, files: Inventory) -> pa.Table:
        """Return rows that come in with what follows from their other columns.

        Args:
            rows: with all columns that changes have.
            files: of the snapshot.

        Raises:
            UnsupportedTableError: it does not follow from them, or the rows cannot be stored.
        """
        ...

    def check_new(self, files: Inventory) -> None:
        """Make sure that rows may come in which take no other's place in their partition.

        Args:
            files: of the snapshot.

        Raises:
            UnsupportedTableError: it cannot be told where they belong.
        """
        ...

    def written(self, rows: pa.Table, attempt_id: str) -> pa.Table:
        """Return such rows as an attempt is to write them, once the work is announced."""
        ...


@runtime_checkable
class AnnouncingTable(Protocol):
    """The coordinator's side of a table that is told of rewrites before files are written.

    What is announced is one commit: all groups or none. A folding that fails stays announced, for
    whoever carries it out next; replacing is withdrawn.
    """

    def standing(self, snapshot: Snapshot) -> Standing:
        """Return what is announced and not done yet."""
        ...

    def announce(self, announcement: Announcement) -> TableFiles:
        """Put work on the table, or find it there; return what its files are written by.

        Raises:
            CommitConflictError: the slices are no longer as planned; nothing was announced.
            UnsupportedTableError: the table does not take it.
        """
        ...

    def announced(self, announcement: Announcement) -> TableFiles | None:
        """Return what files of work are written by that was announced; None where it is not."""
        ...

    def withdraw(self, announcement: Announcement) -> None:
        """Take back what was announced and is not done, with all of its files.

        Raises:
            CatalogError: it cannot be taken back now; call it again later.
        """
        ...


@runtime_checkable
class PartitionedFiles(Protocol):
    """The workers' side of a table whose files may be parted by different specs."""

    spec_id: int

    def spec_of(self, partition_key: str) -> int:
        """Return the spec that a partition is of."""
        ...

    def in_spec(self, name: str) -> PartitionedFiles:
        """Return the same with new rows parted by another spec: `current`, or its id.

        Raises:
            UnsupportedTableError: the table has none of this name.
        """
        ...


class Table(Protocol):
    """The coordinator's side of a table.

    Reading methods raise the errors of `catalog.errors`: `AccessDeniedError`, `StorageError`,
    `CorruptTableError`, and `UnsupportedTableError` for what the format has and we do not handle.
    """

    @property
    def name(self) -> str:
        """A target that names it; equal however it was spelled, where it lies at a path."""
        ...

    @property
    def format(self) -> str:
        """`iceberg v2` and the like, for people."""
        ...

    def snapshot(self, snapshot_id: str | None = None) -> Snapshot:
        """Return the current snapshot, read anew from the catalog, or the one with the given id.

        A table that has never been written to has a snapshot with an empty id.

        Raises:
            SnapshotNotFoundError: no such snapshot, or it has been expired.
        """
        ...

    def inventory(self, snapshot: Snapshot, *, map_function: MapFunction = map) -> Inventory:
        """Return every file slice of the snapshot; `map_function` runs the reading of manifests."""
        ...

    def files(self, snapshot: Snapshot) -> TableFiles:
        """Return the workers' side of the snapshot, with the table's current schema and layout."""
        ...

    @property
    def can_mark(self) -> bool:
        """Whether a change may leave files in place and mark rows of them as deleted."""
        ...

    def check_change(self, scope: ChangeScope) -> None:
        """Make sure that the table, read anew, takes a change; `commit` does so in any case.

        Raises:
            UnsupportedTableError: naming what it asks of writers and we do not do.
        """
        ...

    def watermark(self, source: str) -> str | None:
        """Return how far a source has been merged, read anew; None for not at all.

        Raises:
            CorruptTableError: it was recorded, and it cannot be told any more whether what it
                stands for is still in the table.
        """
        ...

    def commit(self, commit: Commit) -> CommitResult:
        """Replace the slices of every rewrite that is still valid against the current snapshot.

        A change is committed if all of its rewrites are, and if nobody but rewrites has added rows
        since its base. Else all of its groups are conflicts.

        A lost reply is resolved by looking for the commit id before anything is retried. Called
        again with the same commit, by another process as well, it happens once: that is how to
        settle a commit whose request may be on its way still.

        Raises:
            CommitConflictError: other writers kept winning until the attempts were used up.
            CommitUnknownError: it cannot be told whether the commit happened.
            CorruptTableError: outputs or numbers of rows are not what was announced; nothing was
                committed.
            UnsupportedTableError: the table does not take the change; nothing was committed.
        """
        ...

    def find_commit(self, commit: Commit) -> CommitResult | None:
        """Return what became of a commit that was begun, by its id.

        None when it never happened and never will.

        Raises:
            CommitUnknownError: the catalog cannot be asked, or a request of a process that died
                may still arrive: commit again, or ask later.
        """
        ...

    def clean_commit(self, commit: Commit) -> None:
        """Remove metadata files that a commit left behind and that no snapshot refers to.

        Call it only for a commit of ours that is not running.

        Raises:
            CommitUnknownError: a request for it may still arrive; nothing was removed.
        """
        ...

    def upkeep(self) -> Sequence[UpkeepOperation]:
        """Return what can be done for the table besides rewriting its data files, in order."""
        ...
