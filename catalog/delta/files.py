"""The workers' side of one version of a Delta table: plain values that can be pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from catalog.delta.partition import Partition, PartitionColumn
from catalog.delta.paths import Paths
from catalog.delta.schema import ROW_ID, ROW_VERSION
from catalog.errors import CorruptTableError
from catalog.layout import FileLayout
from catalog.location import Location
from catalog.model import FileSlice, Filling, Inventory, Selection
from catalog.partitioning import keys_of_rows
from catalog.schema import TableSchema
from catalog.storage import Storage


@dataclass(frozen=True, slots=True)
class DeltaFiles:
    """Enough to read the file slices of one version and to write new files."""

    storage: Storage
    schema: TableSchema
    layout: FileLayout
    paths: Paths
    partitions: tuple[PartitionColumn, ...]
    tracks_rows: bool

    def locate(self, path: str) -> Location:
        """Return the location of a path of the inventory."""
        return self.paths.confinement.parse(path)

    def selections(self, files: Inventory) -> Mapping[str, Selection]:
        """Read the deletion vectors: the rows each data file loses, by its path."""
        if not files.delete_files.num_rows:
            return {}
        from catalog.delta.deletion_vectors import read_vectors  # lazy: seldom
        from catalog.delta.inventory import vector_of

        deletes = {one.path: one.deletes for one in files.slices() if one.deletes}
        vectors = {path: [vector_of(delete) for delete in some] for path, some in deletes.items()}
        try:
            read = read_vectors(
                self.storage,
                (vector for some in vectors.values() for vector in some),
                table=self.paths.root,
                confinement=self.paths.confinement,
            )
        except CorruptTableError as fault:
            raise CorruptTableError(f"{min(vectors)}: {fault}") from fault
        return {
            path: Selection.of(read[vector]) for path, some in vectors.items() for vector in some
        }

    def fillings(self, file: FileSlice) -> Mapping[int, Filling]:
        """Return the values that its partition fixes, and where its rows count from."""
        partition = Partition.of(file.partition_key)
        values = zip(self.partitions, partition.values, strict=True)
        found = {column.field_id: Filling(column.scalar(text)) for column, text in values}
        if not self.tracks_rows:
            return found
        if file.first_row_id is None or file.row_version is None:
            raise CorruptTableError(f"the table tracks rows, but the log gives {file.path} no ids")
        first, version = pa.scalar(file.first_row_id), pa.scalar(file.row_version)
        found[ROW_ID] = Filling(first, step=1, fills_nulls=True)
        found[ROW_VERSION] = Filling(version, fills_nulls=True)
        return found

    def partition_keys(self, rows: pa.Table) -> pa.Array:
        """Return the partition that each new row belongs to."""
        return keys_of_rows(
            [rows[column.name].combine_chunks() for column in self.partitions],
            lambda values: Partition(tuple(map(PartitionColumn.text, self.partitions, values))).key,
            rows=rows.num_rows,
        )

    def new_location(self, partition_key: str, file_name: str) -> Location:
        """Return where a new data file of the partition belongs; equal arguments, equal result."""
        directories = Partition.of(partition_key).directories(self.partitions)
        return self.paths.root.child(*directories, file_name)
