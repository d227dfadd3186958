"""The workers' side of an Iceberg snapshot: plain values, so that no worker imports PyIceberg."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any
from uuid import UUID
from zlib import crc32

import pyarrow as pa

from catalog.commits import OutputFile
from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.iceberg.partition import Spec, Value, decode_key, directory
from catalog.iceberg.row_lineage import row_ids, without_lineage
from catalog.iceberg.transforms import partition_keys
from catalog.layout import FileLayout
from catalog.location import Confinement, Location
from catalog.model import FileSlice, Filling, Inventory, Selection
from catalog.schema import TableSchema
from catalog.storage import Storage

# As the reference implementation: 20 bits of a hash, as binary digits in directories of four.
_HASH_BITS = 20
_HASH_DIRECTORY_DIGITS = 4
_HASH_DIRECTORIES = 3


@dataclass(frozen=True, slots=True)
class Placement:
    """Where new data files go.

    Attributes:
        prefix: the data directory.
        is_hashed: whether files are spread over hashed directories below it.
        has_partitions: whether partition directories are part of the path.
    """

    prefix: Location
    is_hashed: bool
    has_partitions: bool

    def locate(self, partition: str, file_name: str) -> Location:
        """Return the location of a new file; equal arguments, equal result."""
        names = [*partition.split("/")] if partition and self.has_partitions else []
        if not self.is_hashed:
            return self.prefix.child(*names, file_name)
        hashed = _entropy("/".join([*names, file_name]))
        if self.has_partitions:
            return self.prefix.child(*hashed, *names, file_name)
        return self.prefix.child(*hashed[:-1], f"{hashed[-1]}-{file_name}")


@dataclass(frozen=True, slots=True)
class IcebergFiles:
    """Enough to read the file slices of one snapshot and to write new files.

    Attributes:
        spec_id: partition spec of new rows.
        dropped: plain columns that the schema no longer has: rows may be deleted by them.
        defaults: what columns hold in files that were written before they were added, by their ids.
        dropped_defaults: the same of the dropped columns.
        has_deletes_per_file: whether each data file is to have delete files of its own.
        tracks_rows: whether rows have ids, and are deleted by deletion vectors alone, as in format
            version 3.
    """

    storage: Storage
    schema: TableSchema
    layout: FileLayout
    confinement: Confinement
    placement: Placement
    specs: tuple[Spec, ...]
    spec_id: int
    dropped: pa.Schema = field(default_factory=lambda: pa.schema([]))
    defaults: tuple[tuple[int, pa.Scalar], ...] = ()
    dropped_defaults: tuple[tuple[int, pa.Scalar], ...] = ()
    has_deletes_per_file: bool = True
    tracks_rows: bool = False

    def locate(self, path: str) -> Location:
        """Return the location of a path found in metadata."""
        return self.confinement.parse(path)

    def selections(self, files: Inventory) -> Mapping[str, Selection]:
        """Read the delete files: the rows each data file loses, by its path."""
        if not files.delete_files.num_rows:
            return {}
        from catalog.iceberg.selections import read_selections  # lazy: seldom

        return read_selections(files, self)

    def record_deletes(
        self, selections: Mapping[str, Selection], locate: Callable[[int], Location]
    ) -> Mapping[str, OutputFile]:
        """Write position delete files, or deletion vectors, for data files of one partition."""
        from catalog.iceberg.delete_writing import write_position_deletes  # lazy: seldom
        from catalog.iceberg.vector_files import write_vectors

        if self.tracks_rows:
            return write_vectors(selections, self.storage, locate=locate)
        return write_position_deletes(
            selections, self.storage, locate=locate, is_per_file=self.has_deletes_per_file
        )

    def deletes_location(self, location: Location) -> Location:
        """Return where a delete file goes that is to have the name of a data file."""
        from catalog.iceberg.vector_files import beside  # lazy: seldom

        return beside(location) if self.tracks_rows else location

    def fillings(self, file: FileSlice) -> Mapping[int, Filling]:
        """Return what identity partition fields and defaults fix, and where ids count from."""
        fixed = self.fixed(file, types_by_id(self.schema.arrow))
        found = {number: Filling(value) for number, value in (*self.defaults, *fixed.items())}
        return {**found, **row_ids(file)} if self.tracks_rows else found

    def without_lineage(self) -> IcebergFiles:
        """Return the same without the columns that tell rows apart."""
        columns = without_lineage(self.schema.arrow)
        return replace(self, schema=replace(self.schema, arrow=columns), tracks_rows=False)

    def fixed(self, file: FileSlice, types: Mapping[int, pa.DataType]) -> dict[int, pa.Scalar]:
        """Return what the partition of a file fixes of columns of the given types, by their ids."""
        spec, values = self._partition(file.partition_key)
        return {
            field.source_id: _scalar(types[field.source_id], value)
            for field, value in zip(spec.fields, values, strict=True)
            if field.transform == "identity" and field.source_id in types
        }

    def key_types(self) -> Mapping[int, pa.DataType]:
        """Return the types of the columns that rows may be deleted by, by their ids."""
        return types_by_id(self.dropped) | types_by_id(self.schema.arrow)

    def partition_keys(self, rows: pa.Table) -> pa.Array:
        """Return the partition that each new row belongs to, by the table's current spec."""
        spec = next(one for one in self.specs if one.spec_id == self.spec_id)
        return partition_keys(spec, rows)

    def spec_of(self, partition_key: str) -> int:
        """Return the spec that a partition is of."""
        return decode_key(partition_key)[0]

    def in_spec(self, name: str) -> IcebergFiles:
        """Return the same with new rows parted by another spec: `current`, or its id."""
        known = {str(one.spec_id): one.spec_id for one in self.specs} | {"current": self.spec_id}
        if name not in known:
            raise UnsupportedTableError(
                f"the table has no partition spec `{name}`",
                hint=f"it has {', '.join(f'`{one}`' for one in sorted(known))}",
            )
        return replace(self, spec_id=known[name])

    def new_location(self, partition_key: str, file_name: str) -> Location:
        """Return where a new data file of the partition belongs; equal arguments, equal result."""
        return self.placement.locate(directory(*self._partition(partition_key)), file_name)

    def _partition(self, key: str) -> tuple[Spec, list[Value]]:
        spec_id, values = decode_key(key)
        for spec in self.specs:
            if spec.spec_id == spec_id:
                return spec, values
        raise CorruptTableError(f"the table has no partition spec {spec_id}")


def _entropy(path: str) -> list[str]:
    # Any even spread will do: readers take paths from manifests, never from a rule.
    digits = format(crc32(path.encode()) % (1 << _HASH_BITS), f"0{_HASH_BITS}b")
    length = _HASH_DIRECTORY_DIGITS
    heads = [digits[at * length : (at + 1) * length] for at in range(_HASH_DIRECTORIES)]
    return [*heads, digits[_HASH_DIRECTORIES * length :]]


def types_by_id(schema: pa.Schema) -> dict[int, pa.DataType]:
    """Return the types of columns and of the fields within structs, by their ids."""
    types: dict[int, pa.DataType] = {}
    pending: list[Any] = list(schema)
    while pending:
        field = pending.pop()
        types[int(field.metadata[b"PARQUET:field_id"])] = field.type
        if pa.types.is_struct(field.type):
            pending.extend(field.type)
    return types


def _scalar(kind: pa.DataType, value: Value) -> pa.Scalar:
    """Make the scalar of a column from a partition value; dates and times are counts."""
    match value:
        case None:
            return pa.scalar(None, kind)
        case UUID():
            return pa.scalar(value.bytes, kind)
        case Decimal() | str() | bytes() | float() | bool():
            return pa.scalar(value, kind)
    storage = pa.int32() if kind.bit_width == 32 else pa.int64()
    return pa.scalar(value, storage).cast(kind)
