"""What is taken out of PyIceberg's table metadata, and what in it is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata, TableMetadataV3
from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.iceberg.partition import Spec, SpecField
from catalog.iceberg.properties import refuse_properties
from catalog.iceberg.row_lineage import refuse_reserved_names
from catalog.iceberg.schema import arrow_schema
from catalog.model import Snapshot

_FORMAT_VERSION_MAX = 3
# As PyIceberg 0.12 says it.
_UNKNOWN = re.compile(
    r"Unsupported field type: '(?P<type>\w+)'|Input tag '(?P<version>\d+)' found using"
    r"|Cannot deserialize bytes, type (?P<default>\w+) not supported"
)
_TRANSFORM = re.compile(r"identity|void|year|month|day|hour|(?:bucket|truncate)\[[0-9]+\]")


def refuse_unsupported(metadata: TableMetadata) -> None:
    """Refuse a table that has what we cannot keep intact.

    Raises:
        UnsupportedTableError: naming the feature.
    """
    if metadata.format_version > _FORMAT_VERSION_MAX:
        raise UnsupportedTableError(
            f"the table has Iceberg format version {metadata.format_version}; "
            f"versions 1 to {_FORMAT_VERSION_MAX} are supported",
            hint="compact it with an engine that knows this version; it was not touched",
        )
    refuse_properties(metadata.properties)
    for spec in specs(metadata):
        for field in spec.fields:
            _refuse_field(field)
    arrow_schema(metadata.schema())
    refuse_reserved_names(metadata)


def unknown(fault: CorruptTableError) -> UnsupportedTableError | None:
    """Return what a fault of reading metadata means that is no fault of the table, if it is none.

    A type of version 3 that the library does not know, a default of one that it does not read, or
    a format version after it.
    """
    found = _UNKNOWN.search(str(fault.__cause__))
    if found is None:
        return None
    whats = {"type": "columns of type", "version": "format version", "default": "a default of type"}
    what = next(f"{whats[name]} {text}" for name, text in found.groupdict().items() if text)
    return UnsupportedTableError(
        f"the table has {what}, which is not supported",
        hint="compact it with an engine that knows it; it was not touched",
    )


def refuse_contradictions(metadata: TableMetadata) -> None:
    """Refuse a table whose metadata would mislead a commit.

    Raises:
        CorruptTableError: the current snapshot is not there, one is its own ancestor, or one has a
            sequence number that is still to be given out: what is deleted next would not apply to
            our outputs.
    """
    if metadata.current_snapshot_id is not None and metadata.current_snapshot() is None:
        raise CorruptTableError(
            f"the metadata lacks its current snapshot {metadata.current_snapshot_id}",
            hint="roll the table back to a snapshot that it has",
        )
    if isinstance(metadata, TableMetadataV3) and metadata.next_row_id is None:
        raise CorruptTableError(
            "the table has format version 3 and no next-row-id",
            hint="the table was written by a faulty client; it was not touched",
        )
    _refuse_circles({one.snapshot_id: one.parent_snapshot_id for one in metadata.snapshots})
    following = metadata.next_sequence_number()
    for snapshot in metadata.snapshots if metadata.format_version > 1 else ():
        if (snapshot.sequence_number or 0) >= following:
            raise CorruptTableError(
                f"snapshot {snapshot.snapshot_id} has the sequence number"
                f" {snapshot.sequence_number}, the table's next one is {following}",
                hint="the table was written by a faulty client; it was not touched",
            )


def _refuse_circles(parents: Mapping[int, int | None]) -> None:
    """Refuse a history that goes round: whoever follows it never comes to an end."""
    done: set[int] = set()
    for first in parents:
        number: int | None = first
        way: set[int] = set()
        while number is not None and number in parents and number not in done:
            if number in way:
                raise CorruptTableError(
                    f"snapshot {number} is among its own ancestors",
                    hint="the table was written by a faulty client; it was not touched",
                )
            way.add(number)
            number = parents[number]
        done |= way


def _refuse_field(field: SpecField) -> None:
    if not _TRANSFORM.fullmatch(field.transform):
        raise UnsupportedTableError(
            f"the partition field {field.name} has the unknown transform {field.transform}",
            hint="compact it with an engine that knows the transform; it was not touched",
        )


def specs(metadata: TableMetadata) -> tuple[Spec, ...]:
    """Return every partition spec that files of the table may have."""
    return tuple(_spec(spec, metadata) for spec in metadata.partition_specs)


def _spec(spec: PartitionSpec, metadata: TableMetadata) -> Spec:
    # A column that was dropped since is found in the schema that still had it.
    schemas = [metadata.schema(), *reversed(metadata.schemas)]
    fields = tuple(
        SpecField(
            field.field_id,
            field.name,
            field.source_id,
            str(field.transform),
            _type_name(field.source_id, schemas),
        )
        for field in spec.fields
    )
    return Spec(spec.spec_id, fields)


def _type_name(field_id: int, schemas: list[Schema]) -> str:
    for schema in schemas:
        if schema.find_column_name(field_id) is not None:
            return str(schema.find_type(field_id))
    return ""


def snapshot_value(snapshot: IcebergSnapshot) -> Snapshot:
    """Return a snapshot as the model has it."""
    parent = snapshot.parent_snapshot_id
    operation = snapshot.summary.operation.value if snapshot.summary else ""
    return Snapshot(
        snapshot_id=str(snapshot.snapshot_id),
        sequence_number=snapshot.sequence_number or 0,
        timestamp_ms=snapshot.timestamp_ms,
        parent_id=None if parent is None else str(parent),
        operation=operation,
    )


def is_first(snapshot: IcebergSnapshot) -> bool:
    """Whether nothing was in the table before a snapshot.

    To lack a parent does not say so: clients take the parents away that they expire.
    """
    return snapshot.parent_snapshot_id is None and snapshot.sequence_number == 1


def empty_snapshot(metadata: TableMetadata) -> Snapshot:
    """Return the state of a table that has never been written to."""
    return Snapshot(
        snapshot_id="",
        sequence_number=0,
        timestamp_ms=metadata.last_updated_ms,
        parent_id=None,
        operation="",
    )
