"""Manifests of every format version, made of entries, and what the manifest list says of them.

Specification: https://iceberg.apache.org/spec/#manifests
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from pyiceberg.manifest import (
    UNASSIGNED_SEQ,
    ManifestContent,
    ManifestEntryStatus,
    construct_partition_summaries,
    data_file_with_partition,
    manifest_entry_schema_with_data_file,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.typedef import Record, TableVersion
from pyiceberg.types import IntegerType, ListType, NestedField, StructType
from pyiceberg.utils.schema_conversion import AvroSchemaConversion

from catalog.avro.container_writing import Container
from catalog.avro.read import Schema as AvroSchema
from catalog.iceberg.manifest_entries import Entry, Layout, encode_entry, with_unknown_fields
from catalog.iceberg.manifest_lists import ListedManifest

# The reference implementation reads 32-bit ids alone; those of the library have 64.
_EQUALITY_IDS = NestedField(
    135, "equality_ids", ListType(136, IntegerType(), element_required=True), required=False
)


# That of rows of manifest lists in memory, whatever the table's.
_LISTED_VERSION: TableVersion = 3


@dataclass(frozen=True, slots=True)
class ManifestForm:
    """What manifests of one snapshot have in common.

    Attributes:
        format_version: of the table.
        spec: that the files are partitioned by.
        schema: one with the columns that the spec is computed from.
        content: whether the files have data or deletes.
        snapshot_id: the snapshot that adds the manifests.
        codec: how they are compressed, as Avro calls it.
    """

    format_version: TableVersion
    spec: PartitionSpec
    schema: Schema
    content: ManifestContent
    snapshot_id: int
    codec: str

    @property
    def metadata(self) -> dict[str, str]:
        """The header of a manifest."""
        fields = (one.model_dump_json() for one in self.spec.fields)
        found = {
            "schema": self.schema.model_dump_json(),
            "partition-spec": f"[{','.join(fields)}]",
            "partition-spec-id": str(self.spec.spec_id),
            "format-version": str(self.format_version),
        }
        if self.format_version > 1:
            found["content"] = "data" if self.content == ManifestContent.DATA else "deletes"
        return found

    def avro_schema(self) -> AvroSchema:
        """Return the schema that the specification has for the entries."""
        data_file = data_file_with_partition(
            self.spec.partition_type(self.schema), self.format_version
        )
        fields = (
            _EQUALITY_IDS if one.field_id == _EQUALITY_IDS.field_id else one
            for one in data_file.fields
        )
        entry = manifest_entry_schema_with_data_file(self.format_version, StructType(*fields))
        return AvroSchemaConversion().iceberg_to_avro(entry, schema_name="manifest_entry")


@dataclass(slots=True)
class _Count:
    files: int = 0
    rows: int = 0


@dataclass(slots=True)
class ManifestInMaking:
    """A manifest that is being written.

    Attributes:
        form: of the manifest.
        layout: of its entries.
    """

    form: ManifestForm
    layout: Layout
    _file: Container = field(init=False)
    _counts: dict[ManifestEntryStatus, _Count] = field(init=False)
    _partitions: dict[bytes, Record] = field(default_factory=dict)
    _least: int | None = None

    def __post_init__(self) -> None:
        self._file = Container(self.layout.schema, self.form.metadata, self.form.codec)
        self._counts = {status: _Count() for status in ManifestEntryStatus}

    @property
    def size_bytes(self) -> int:
        """What it takes so far."""
        return self._file.size_bytes

    def add(self, entry: Entry) -> None:
        """Add an entry."""
        count = self._counts[entry.status]
        count.files += 1
        count.rows += entry.row_count
        if entry.partition_bytes not in self._partitions:
            self._partitions[entry.partition_bytes] = entry.data_file.partition
        number = entry.sequence_number
        is_live = entry.status != ManifestEntryStatus.DELETED
        if is_live and number is not None and (self._least is None or number < self._least):
            self._least = number
        self._file.append(encode_entry(entry, self.layout))

    def finish(self, path: str) -> tuple[bytes, ListedManifest]:
        """Return the file, and its row in the manifest list."""
        content = self._file.finish()
        form = self.form
        added, existing, deleted = (
            self._counts[status]
            for status in (
                ManifestEntryStatus.ADDED,
                ManifestEntryStatus.EXISTING,
                ManifestEntryStatus.DELETED,
            )
        )
        listed = ListedManifest.from_args(
            _LISTED_VERSION,
            manifest_path=path,
            manifest_length=len(content),
            partition_spec_id=form.spec.spec_id,
            content=form.content,
            sequence_number=UNASSIGNED_SEQ,
            min_sequence_number=UNASSIGNED_SEQ if self._least is None else self._least,
            added_snapshot_id=form.snapshot_id,
            added_files_count=added.files,
            existing_files_count=existing.files,
            deleted_files_count=deleted.files,
            added_rows_count=added.rows,
            existing_rows_count=existing.rows,
            deleted_rows_count=deleted.rows,
            partitions=self._summaries(),
        )
        return content, cast(ListedManifest, listed)  # the library says what it is made from

    def _summaries(self) -> list[Any]:
        partitions = list(self._partitions.values())
        return construct_partition_summaries(self.form.spec, self.form.schema, partitions)


def begin(form: ManifestForm, entries: Sequence[Entry]) -> ManifestInMaking:
    """Begin a manifest that has room for whatever is known of some entries."""
    schema = with_unknown_fields(form.avro_schema(), entries)
    return ManifestInMaking(form, Layout.of(schema))
