"""A Delta table at a path: the coordinator's side, read here and committed by `commit`."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from catalog.commits import ChangeScope, Commit, CommitResult
from catalog.delta.checkpoints import DamagedCheckpointError
from catalog.delta.clustering import clustering_columns, known_names, wanted_order
from catalog.delta.file_columns import FileColumns
from catalog.delta.files import DeltaFiles
from catalog.delta.inventory import Assembly
from catalog.delta.log import LogSegment, list_segment
from catalog.delta.paths import Paths
from catalog.delta.properties import file_layout
from catalog.delta.protocol import refuse_unsupported, stores_partitions, tracks_rows
from catalog.delta.replay import advance_state, read_files, read_state
from catalog.delta.schema import Columns, read_columns
from catalog.delta.state import TableState
from catalog.errors import (
    CorruptTableError,
    SnapshotNotFoundError,
    TableNotFoundError,
    UnsupportedTableError,
)
from catalog.evolution import Evolution
from catalog.history import History
from catalog.location import Confinement, Location
from catalog.model import Inventory, Snapshot
from catalog.puffin import Blob
from catalog.routing import Routing
from catalog.sidecars import Sidecar
from catalog.storage import Storage
from catalog.table import MapFunction
from catalog.upkeep import UpkeepOperation

# Prefixes besides the table's own that its files may be read from, separated by commas: a property
# of whoever opens it, or else a variable of the environment; never a property of the table itself.
READ_PREFIXES = "delta.read-prefixes"
_READ_PREFIXES_VARIABLE = "DELTA_READ_PREFIXES"
# How writers agree on commits where the store could not; delta-rs reads it from here, too.
_LOCKING = "AWS_S3_LOCKING_PROVIDER"

_LOG = logging.getLogger(__name__)


class DeltaTable:
    """A table whose log is at a path; implements `catalog.table.Table`."""

    def __init__(self, name: str, root: Location, properties: Mapping[str, str]) -> None:
        """Open nothing yet.

        Args:
            name: the target it was opened by.
            root: its directory.
            properties: of the storage, and `READ_PREFIXES`.
        """
        self._name = name
        self._root = root
        self._storage = Storage.from_properties(properties)
        admitted = properties.get(READ_PREFIXES) or os.environ.get(_READ_PREFIXES_VARIABLE, "")
        prefixes = map(Location.parse, _listed(admitted))
        self._paths = Paths(root, Confinement((root, *prefixes)))
        # Names of checkpoints that cannot be read, and that older ones stand in for.
        self._damaged: frozenset[str] = frozenset()
        self._known: tuple[LogSegment, TableState] | None = None
        self._last: tuple[LogSegment, TableState] | None = None

    @property
    def name(self) -> str:
        """The target it was opened by."""
        return self._name

    @property
    def format(self) -> str:
        """`delta v3/7` and the like, for people."""
        protocol = self.current()[1].protocol
        return f"delta v{protocol.reader_version}/{protocol.writer_version}"

    @property
    def storage(self) -> Storage:
        """Where its log and its files are."""
        return self._storage

    @property
    def paths(self) -> Paths:
        """Where its files may lie."""
        return self._paths

    def load(self, version: int | None = None) -> tuple[LogSegment, TableState]:
        """Read the log anew: what a version is made of and its facts; the newest by default.

        Raises:
            TableNotFoundError: there is no log.
            SnapshotNotFoundError: no such version, or it has been cleaned.
            UnsupportedTableError: it has a feature that is not handled.
            CorruptTableError: the log cannot be read, or has gaps.
        """
        self._refuse_other_log_stores()
        segment = list_segment(self._storage, self._root, version, without=self._damaged)
        known = self._known
        state = advance_state(self._storage, segment, *known) if known else None
        if state is None:
            segment, state = self._read_state(segment)
        refuse_unsupported(state.protocol, state.metadata)
        self._last = segment, state
        if version is None:
            self._known = self._last
        return self._last

    def without_checkpoint(self, segment: LogSegment, error: DamagedCheckpointError) -> LogSegment:
        """Return what a version is made of without the checkpoint that cannot be read.

        Raises:
            DamagedCheckpointError: the same, because what is older does not add up to the version.
        """
        checkpoint = segment.checkpoint
        if checkpoint is None:
            raise error
        damaged = self._damaged | {part.name for part in checkpoint.parts}
        try:
            found = list_segment(self._storage, self._root, segment.version, without=damaged)
        except (CorruptTableError, SnapshotNotFoundError, TableNotFoundError):
            raise error from None
        self._damaged = damaged
        self._known, self._last = (
            (found, known[1]) if known is not None and known[0] == segment else known
            for known in (self._known, self._last)
        )
        _LOG.warning("the checkpoint of version %d was left aside: %s", checkpoint.version, error)
        return found

    def current(self) -> tuple[LogSegment, TableState]:
        """Return the newest version as it was last read."""
        return self._known or self.load()

    def snapshot(self, snapshot_id: str | None = None) -> Snapshot:
        """Return the newest version, read anew, or the one with the given number."""
        _, state = self.load(None if snapshot_id is None else self._version(snapshot_id))
        return Snapshot(
            snapshot_id=str(state.version),
            sequence_number=state.version,
            timestamp_ms=state.timestamp_ms,
            parent_id=str(state.version - 1) if state.version else None,
            operation=state.commit_info.operation,
        )

    def inventory(self, snapshot: Snapshot, *, map_function: MapFunction = map) -> Inventory:
        """Return every file slice; the parts of the checkpoint are read through `map_function`."""
        segment, state = self._at(snapshot)
        columns = self._columns(state)
        names = tuple(column.physical_name for column in columns.partitions)
        is_clustered = bool(clustering_columns(state))
        reader = FileColumns(self._paths, names, reads_cubes=is_clustered)
        files = self._read_files(segment, reader, map_function)
        assembly = Assembly(self._storage, self._paths, columns.partitions)
        return assembly.inventory(files, map_function)

    def files(self, snapshot: Snapshot) -> DeltaFiles:
        """Return the workers' side of a version, with the current schema and layout.

        Its own it keeps where its files cannot be seen in the current one: they were partitioned
        in another way, or their rows were not tracked yet.
        """
        state = self._at(snapshot)[1]
        newest = self.current()[1]
        if _grouping(newest) == _grouping(state):
            state = newest
        columns = self._columns(state)
        return DeltaFiles(
            storage=self._storage,
            schema=replace(columns.schema, known_as=known_names(state)),
            layout=replace(
                file_layout(state.metadata.configuration),
                sort_order=wanted_order(state, columns.schema.arrow),
            ),
            paths=self._paths,
            partitions=columns.partitions,
            tracks_rows=tracks_rows(state.protocol, state.metadata),
        )

    def sidecars(self) -> Sequence[Sidecar]:
        """Return the files of blobs that were added, the newest last."""
        from catalog.delta.sidecars import sidecars  # lazy: compaction needs none

        return sidecars(self)

    def add_sidecar(self, snapshot: Snapshot, blobs: Sequence[Blob]) -> bool:
        """Keep blobs that are about a snapshot; tell whether that was possible."""
        from catalog.delta.sidecars import add_sidecar  # lazy: compaction needs none

        return add_sidecar(self, snapshot, blobs)

    def evolve(self, evolution: Evolution) -> None:
        """Add and widen columns in a commit of their own; what is there already is left alone."""
        from catalog.delta.evolution import evolve  # lazy: compaction needs none

        evolve(self, evolution)

    def routing(self, snapshot: Snapshot) -> Routing:
        """Return what the log of a version tells of where rows are."""
        from catalog.delta.routing import DeltaRouting  # lazy: compaction needs none

        segment, state = self._at(snapshot)
        columns = self._columns(state)
        return DeltaRouting(self._storage, segment, self._paths, columns)

    def history(self, watermark: str | None, *, map_function: MapFunction = map) -> History:
        """Return what happened after a watermark; without one, all rows that are there."""
        from catalog.delta.history import read_history  # lazy: compaction needs none

        return read_history(self, watermark, map_function)

    @property
    def can_mark(self) -> bool:
        """Whether a change may mark rows: where the table has deletion vectors on."""
        from catalog.delta.change_rules import can_mark  # lazy: readers need none

        return can_mark(self.current()[1])

    def check_change(self, scope: ChangeScope) -> None:
        """Make sure that the table takes a change: some features ask for what we do not do."""
        from catalog.delta.change_rules import refuse_change  # lazy: readers need none

        refuse_change(self.load()[1], scope)

    def watermark(self, source: str) -> str | None:
        """Return how far a source has been merged."""
        from catalog.delta.watermarks import latest  # lazy: readers need none

        return latest(self.load()[1].txns, source)[1]

    def commit(self, commit: Commit) -> CommitResult:
        """Replace the slices of every rewrite that is still valid against the current version."""
        from catalog.delta.commit import commit_rewrites  # lazy: readers need none

        return commit_rewrites(self, commit)

    def find_commit(self, commit: Commit) -> CommitResult | None:
        """Return what became of a commit that was begun; None when it never happened."""
        from catalog.delta.commit import find_commit  # lazy: readers need none

        return find_commit(self, commit)

    def clean_commit(self, commit: Commit) -> None:
        """Remove metadata files that a commit left behind and that no version refers to."""
        from catalog.delta.commit import clean_commit  # lazy: readers need none

        clean_commit(self, commit)

    def upkeep(self) -> Sequence[UpkeepOperation]:
        """Return what can be done for the log and the directory, in order."""
        from catalog.delta.checkpoint import Checkpoint  # lazy: readers need none
        from catalog.delta.log_cleanup import LogCleanup
        from catalog.delta.log_compaction import LogCompaction
        from catalog.delta.vacuum import Vacuum

        return (
            Checkpoint(self),
            LogCompaction(self),
            LogCleanup(self),
            Vacuum(self),
            Vacuum(self, is_lite=True),
        )

    def _at(self, snapshot: Snapshot) -> tuple[LogSegment, TableState]:
        version = self._version(snapshot.snapshot_id)
        for known in (self._last, self._known):
            if known is not None and known[0].version == version:
                return known
        return self.load(version)

    def _version(self, snapshot_id: str) -> int:
        if not snapshot_id.isascii() or not snapshot_id.isdigit():
            raise SnapshotNotFoundError(
                f"{self._name} has no snapshot {snapshot_id!r}", hint="versions are numbers"
            )
        return int(snapshot_id)

    def _read_state(self, segment: LogSegment) -> tuple[LogSegment, TableState]:
        while True:
            try:
                return segment, read_state(self._storage, segment)
            except DamagedCheckpointError as error:
                segment = self.without_checkpoint(segment, error)

    def _read_files(
        self, segment: LogSegment, reader: FileColumns, map_function: MapFunction
    ) -> pa.Table:
        while True:
            try:
                return read_files(self._storage, segment, reader, map_function)
            except DamagedCheckpointError as error:
                segment = self.without_checkpoint(segment, error)

    def _columns(self, state: TableState) -> Columns:
        return read_columns(
            state.metadata,
            stores_partitions=stores_partitions(state.protocol, state.metadata),
            tracks_rows=tracks_rows(state.protocol, state.metadata),
        )

    def _refuse_other_log_stores(self) -> None:
        if self._root.scheme == "s3" and os.environ.get(_LOCKING):
            raise UnsupportedTableError(
                f"writers agree on commits by way of {os.environ[_LOCKING]} ({_LOCKING}),"
                " which is not supported",
                hint=f"have all of them write conditionally to S3, then unset {_LOCKING}",
            )


def _grouping(state: TableState) -> tuple[object, ...]:
    metadata = state.metadata
    tracked = tracks_rows(state.protocol, metadata)
    return metadata.table_id, metadata.partition_columns, tracked


def _listed(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]
