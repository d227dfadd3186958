"""An Iceberg table of a catalog: the coordinator's side, read here and committed by `commit`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from catalog.commits import ChangeScope, Commit, CommitResult
from catalog.errors import CorruptTableError, SnapshotNotFoundError, UnsupportedTableError
from catalog.evolution import Evolution
from catalog.history import History
from catalog.iceberg.branches import MAIN, on_branch, refuse_branch
from catalog.iceberg.catalogs import catalog_errors
from catalog.iceberg.credentials import storage_of
from catalog.iceberg.files import IcebergFiles, Placement
from catalog.iceberg.inventory import assemble, refuse_keys
from catalog.iceberg.manifest import DELETES, Manifest, ManifestPart, ManifestReader
from catalog.iceberg.metadata import (
    empty_snapshot,
    refuse_contradictions,
    refuse_unsupported,
    snapshot_value,
    specs,
    unknown,
)
from catalog.iceberg.properties import (
    confinement,
    data_prefix,
    file_layout,
    has_deletes_per_file,
    is_object_layout,
    is_set,
    refuse_remote_signing,
)
from catalog.iceberg.row_lineage import tracks_rows, with_lineage
from catalog.iceberg.schema import (
    arrow_schema,
    defaults,
    dropped_columns,
    dropped_defaults,
    name_mapping,
)
from catalog.iceberg.sort_order import default_order
from catalog.location import Confinement
from catalog.model import Inventory, Snapshot
from catalog.puffin import Blob
from catalog.routing import Routing
from catalog.schema import TableSchema
from catalog.sidecars import Sidecar
from catalog.storage import Storage
from catalog.table import MapFunction
from catalog.upkeep import UpkeepOperation

if TYPE_CHECKING:
    from pathlib import Path

    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table as PyIcebergTable
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot

    from catalog.iceberg.key_bounds import KeyColumn


class IcebergTable:
    """A table in a catalog that PyIceberg can talk to; implements `catalog.table.Table`."""

    def __init__(
        self, name: str, catalog: Catalog, identifier: tuple[str, ...], branch: str = MAIN
    ) -> None:
        self._name = name
        self.branch = branch
        # Where on this machine what was read of manifests is kept; None for nowhere.
        self.kept: Path | None = None
        self._catalog = catalog
        self._identifier = identifier
        self._loaded: PyIcebergTable | None = None
        self._storage: Storage | None = None

    @property
    def name(self) -> str:
        """The target it was opened by."""
        return self._name

    @property
    def format(self) -> str:
        """`iceberg v2` and the like, for people."""
        return f"iceberg v{self.current().metadata.format_version}"

    def load(self) -> PyIcebergTable:
        """Read the table anew from its catalog, and refuse it when it is not for us.

        Raises:
            TableNotFoundError: it does not exist, or no longer.
            UnsupportedTableError: it has a feature that is not handled.
            CorruptTableError: its metadata cannot be read, or contradicts itself.
        """
        loaded = self.read()
        refuse_unsupported(loaded.metadata)
        refuse_contradictions(loaded.metadata)
        refuse_remote_signing(loaded.io.properties)
        self._loaded = loaded
        self._storage = storage_of(self._catalog, self._identifier, loaded)
        return loaded

    def read(self) -> PyIcebergTable:
        """Read the table anew from its catalog, whatever is in it: to look, not to change.

        Raises:
            TableNotFoundError: it does not exist, or no longer.
            CorruptTableError: its metadata cannot be read.
            UnsupportedTableError: it has a column of a type that the library does not know.
        """
        try:
            with catalog_errors(self._name):
                loaded = self._catalog.load_table(self._identifier)
        except CorruptTableError as fault:
            raise unknown(fault) or fault from fault.__cause__
        return on_branch(loaded, self.branch)

    def current(self) -> PyIcebergTable:
        """Return the table as it was last read."""
        return self._loaded or self.load()

    @property
    def storage(self) -> Storage:
        """Where its files are, with the credentials that the catalog gave out last."""
        self.current()
        assert self._storage is not None, "it comes with the table"  # noqa: S101 - for the types
        return self._storage

    @property
    def confinement(self) -> Confinement:
        """The prefixes that its files may lie below."""
        metadata = self.current().metadata
        return confinement(metadata.location, metadata.properties)

    def snapshot(self, snapshot_id: str | None = None) -> Snapshot:
        """Return the current snapshot, read anew from the catalog, or the one with the given id."""
        metadata = self.load().metadata
        if snapshot_id is None:
            head = metadata.current_snapshot()
            return empty_snapshot(metadata) if head is None else snapshot_value(head)
        if not snapshot_id and not metadata.snapshots:
            return empty_snapshot(metadata)
        return snapshot_value(self._find(metadata, snapshot_id))

    def inventory(self, snapshot: Snapshot, *, map_function: MapFunction = map) -> Inventory:
        """Return every file slice; the manifests are read through `map_function`."""
        if not snapshot.snapshot_id:
            return Inventory.empty()
        metadata = self._metadata_with(snapshot)
        manifest_list = self._find(metadata, snapshot.snapshot_id).manifest_list
        if not manifest_list:
            raise UnsupportedTableError(
                f"snapshot {snapshot.snapshot_id} has no manifest list",
                hint="append to the table once with a current writer",
            )
        reader = ManifestReader(self.storage, self.confinement, specs(metadata))
        manifests = reader.manifests(manifest_list)
        # Delete manifests first: what is refused is found there, before the bulk is read.
        manifests.sort(key=lambda manifest: manifest.content != DELETES)
        parts = self._read(reader, manifests, map_function)
        times = {one.snapshot_id: one.timestamp_ms for one in metadata.snapshots}

        def key_columns(files: pa.Table, deletes: pa.Table) -> Sequence[KeyColumn]:
            from catalog.iceberg.bounds import BoundsReader  # lazy: few tables need it
            from catalog.iceberg.key_bounds import KeyColumns

            kinds = self.files(snapshot).key_types()
            bounds = KeyColumns(BoundsReader(reader), manifests, kinds, map_function)
            return bounds.of(files, deletes)

        inventory = assemble(parts, times, key_columns=key_columns)
        refuse_keys(inventory, lambda: self.files(snapshot).key_types())
        return inventory

    def _read(
        self, reader: ManifestReader, manifests: list[Manifest], map_function: MapFunction
    ) -> list[ManifestPart]:
        """Read manifests, those of a large table from what was kept of them."""
        from catalog.iceberg.manifest_cache import MANIFESTS_BYTES_MIN, ManifestCache

        size_bytes = sum(manifest.size_bytes for manifest in manifests)
        if self.kept is None or size_bytes < MANIFESTS_BYTES_MIN:
            return list(map_function(reader, manifests))
        cache = ManifestCache(self.kept, str(self.current().metadata.table_uuid))
        return cache.read(reader, manifests, map_function)

    def files(self, snapshot: Snapshot) -> IcebergFiles:
        """Return the workers' side of the snapshot, with the current schema and layout."""
        metadata = self._metadata_with(snapshot)
        properties = metadata.properties
        columns, is_tracked = arrow_schema(metadata.schema()), tracks_rows(metadata)
        partitioned_paths = "write.object-storage.partitioned-paths"
        return IcebergFiles(
            storage=self.storage,
            schema=TableSchema(
                with_lineage(columns) if is_tracked else columns,
                name_mapping(properties.get("schema.name-mapping.default")),
            ),
            layout=replace(file_layout(properties), sort_order=default_order(metadata)),
            confinement=self.confinement,
            placement=Placement(
                data_prefix(metadata.location, properties),
                is_hashed=is_object_layout(properties),
                has_partitions=not is_object_layout(properties)
                or is_set(properties, partitioned_paths, default=True),
            ),
            specs=specs(metadata),
            spec_id=metadata.default_spec_id,
            dropped=dropped_columns(metadata),
            defaults=defaults(metadata.schema()),
            dropped_defaults=dropped_defaults(metadata),
            has_deletes_per_file=has_deletes_per_file(properties),
            tracks_rows=is_tracked,
        )

    def sidecars(self) -> Sequence[Sidecar]:
        """Return the files of blobs that were added, the newest last."""
        from catalog.iceberg.sidecars import sidecars  # lazy: compaction needs none

        return sidecars(self, self.load())

    def add_sidecar(self, snapshot: Snapshot, blobs: Sequence[Blob]) -> bool:
        """Keep blobs that are about a snapshot; tell whether that was possible."""
        from catalog.iceberg.sidecars import add_sidecar  # lazy: compaction needs none

        return add_sidecar(self, snapshot, blobs)

    def evolve(self, evolution: Evolution) -> None:
        """Add and widen columns in a commit of their own; what is there already is left alone."""
        from catalog.iceberg.evolution import evolve  # lazy: compaction needs none

        evolve(self, evolution)

    def routing(self, snapshot: Snapshot) -> Routing:
        """Return what the metadata of a snapshot tell of where rows are."""
        from catalog.iceberg.bounds import BoundsReader  # lazy: compaction needs none
        from catalog.iceberg.routing import IcebergRouting

        metadata = self._metadata_with(snapshot)
        reader = ManifestReader(self.storage, self.confinement, specs(metadata))
        found = self._find(metadata, snapshot.snapshot_id) if snapshot.snapshot_id else None
        manifest_list = "" if found is None else found.manifest_list or ""
        schema = arrow_schema(metadata.schema())
        return IcebergRouting(BoundsReader(reader), manifest_list, schema, metadata.default_spec_id)

    def history(self, watermark: str | None, *, map_function: MapFunction = map) -> History:
        """Return what happened after a watermark; without one, all rows that are there."""
        from catalog.iceberg.history import read_history  # lazy: compaction needs none

        return read_history(self, watermark, map_function)

    @property
    def can_mark(self) -> bool:
        """Whether a change may mark rows: by position delete files, which version 1 has not."""
        from catalog.iceberg.marking import can_mark  # lazy: readers need none

        return can_mark(self.current().metadata)

    def check_change(self, scope: ChangeScope) -> None:
        """Make sure that the table takes a change: what it does not take is refused on loading.

        Raises:
            UnsupportedTableError: rows that come in lack a column that has a default for them.
        """
        refuse_branch(self.branch, "to merge changes")
        fields = self.load().schema().fields
        filled = {one.name for one in fields if one.write_default is not None}
        if lacking := sorted(filled & scope.lacking):
            raise UnsupportedTableError(
                f"{self._name}: new rows have a default for {lacking[0]!r}, which changes lack",
                hint="give every row a value, null as well",
            )

    def watermark(self, source: str) -> str | None:
        """Return how far a source has been merged."""
        from catalog.iceberg.watermarks import watermark_of  # lazy: readers need none

        metadata = self.load().metadata
        return watermark_of(metadata, metadata.current_snapshot(), source)

    def commit(self, commit: Commit) -> CommitResult:
        """Replace the slices of every rewrite that is still valid against the current snapshot."""
        from catalog.iceberg.commit import commit_rewrites  # lazy: readers need none

        return commit_rewrites(self, commit)

    def find_commit(self, commit: Commit) -> CommitResult | None:
        """Return what became of a commit that was begun; None when it never happened."""
        from catalog.iceberg.commit import find_commit  # lazy: readers need none

        return find_commit(self, commit)

    def clean_commit(self, commit: Commit) -> None:
        """Remove metadata files that a commit left behind and that no snapshot refers to."""
        from catalog.iceberg.commit import clean_commit  # lazy: readers need none

        clean_commit(self, commit)

    def upkeep(self) -> Sequence[UpkeepOperation]:
        """Return what can be done for the metadata and the directory, in order."""
        from catalog.iceberg.dangling import DanglingDeletes  # lazy: readers need none
        from catalog.iceberg.expire import ExpireSnapshots
        from catalog.iceberg.manifest_rewriting import RewriteManifests
        from catalog.iceberg.metadata_files import OldMetadata
        from catalog.iceberg.orphans import OrphanFiles
        from catalog.iceberg.partition_statistics import PartitionStatistics

        refuse_branch(self.branch, "upkeep")
        return (
            DanglingDeletes(self),
            RewriteManifests(self),
            RewriteManifests(self, is_whole=True),
            PartitionStatistics(self),
            ExpireSnapshots(self),
            OldMetadata(self),
            OrphanFiles(self),
        )

    def _metadata_with(self, snapshot: Snapshot) -> TableMetadata:
        """Return the metadata as last read, or read anew when it lacks the snapshot."""
        metadata = self.current().metadata
        known = {str(one.snapshot_id) for one in metadata.snapshots}
        return metadata if snapshot.snapshot_id in known else self.load().metadata

    def _find(self, metadata: TableMetadata, snapshot_id: str) -> IcebergSnapshot:
        for snapshot in metadata.snapshots:
            if str(snapshot.snapshot_id) == snapshot_id:
                return snapshot
        raise SnapshotNotFoundError(
            f"{self._name} has no snapshot {snapshot_id or 'with an empty id'}",
            hint=f"it may have expired; the current one is {metadata.current_snapshot_id}",
        )
