"""What is taken out of PyIceberg's table metadata, and what in it is refused."""

from __future__ import annotations

from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot
from pyiceberg.transforms import UnknownTransform

from catalog.errors import UnsupportedTableError
from catalog.iceberg.partition import Spec, SpecField
from catalog.iceberg.properties import refuse_properties
from catalog.iceberg.schema import arrow_schema
from catalog.model import Snapshot

_FORMAT_VERSION_MAX = 2


def refuse_unsupported(metadata: TableMetadata) -> None:
    """Refuse a table that has what we cannot keep intact.

    Raises:
        UnsupportedTableError: naming the feature.
    """
    if metadata.format_version > _FORMAT_VERSION_MAX:
        raise UnsupportedTableError(
            f"the table has Iceberg format version {metadata.format_version}; "
            f"versions 1 and {_FORMAT_VERSION_MAX} are supported",
            hint="compact it with an engine that knows this version; it was not touched",
        )
    refuse_properties(metadata.properties)
    for spec in metadata.partition_specs:
        for field in spec.fields:
            if isinstance(field.transform, UnknownTransform):
                raise UnsupportedTableError(
                    f"the partition field {field.name} has the unknown transform {field.transform}",
                    hint="compact it with an engine that knows the transform; it was not touched",
                )
    arrow_schema(metadata.schema())


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


def empty_snapshot(metadata: TableMetadata) -> Snapshot:
    """Return the state of a table that has never been written to."""
    return Snapshot(
        snapshot_id="",
        sequence_number=0,
        timestamp_ms=metadata.last_updated_ms,
        parent_id=None,
        operation="",
    )
