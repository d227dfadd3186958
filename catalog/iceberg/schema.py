"""An Iceberg schema as Arrow columns with field ids, and a name mapping as pairs of path and id."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import product
from typing import Any
from uuid import UUID

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import (
    DecimalType,
    FixedType,
    IcebergType,
    ListType,
    MapType,
    NestedField,
    PrimitiveType,
    StructType,
    UnknownType,
)

from catalog.errors import CorruptTableError, UnsupportedTableError

_PLAIN = {
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "timestamp_ns": pa.timestamp("ns"),
    "timestamptz_ns": pa.timestamp("ns", "UTC"),
    "string": pa.string(),
    "binary": pa.binary(),
    # The extension type, so that Parquet files keep the logical type.
    "uuid": pa.uuid(),
}


def arrow_schema(schema: Schema) -> pa.Schema:
    """Return the schema with an id on every field, nested ones included.

    Columns of the type `unknown` are left out: they are null everywhere, and no file has them.

    Raises:
        UnsupportedTableError: a column has a type that is not handled.
    """
    return pa.schema([_field(field) for field in _stored(schema.fields)])


def defaults(schema: Schema) -> tuple[tuple[int, pa.Scalar], ...]:
    """Return what columns hold in files that were written before the columns were there, by id."""
    return tuple(
        (field.field_id, _default(field))
        for field in schema.fields
        if field.initial_default is not None
    )


def dropped_columns(metadata: TableMetadata) -> pa.Schema:
    """Return the plain columns of older schemas that the current one lacks, as they were last."""
    found: dict[int, pa.Field] = {}
    for field, is_nested in _dropped(metadata):
        with suppress(UnsupportedTableError):
            found[field.field_id] = _field(_without_default(field) if is_nested else field)
    return pa.schema(list(found.values()))


def dropped_defaults(metadata: TableMetadata) -> tuple[tuple[int, pa.Scalar], ...]:
    """Return what those columns hold in files that were written before the columns were there."""
    found: dict[int, pa.Scalar] = {}
    for field, is_nested in _dropped(metadata):
        if field.initial_default is not None and not is_nested:
            with suppress(UnsupportedTableError):
                found[field.field_id] = _default(field)
    return tuple(found.items())


def _dropped(metadata: TableMetadata) -> Iterator[tuple[NestedField, bool]]:
    """Yield such columns, the newest schema last, and whether each was within another."""
    known = metadata.schema().field_ids
    for schema in metadata.schemas:
        outermost = {field.field_id for field in schema.fields}
        for number in schema.field_ids - known:
            field = schema.find_field(number)
            if isinstance(field.field_type, PrimitiveType):
                yield field, number not in outermost


def arrow_type(kind: IcebergType) -> pa.DataType:
    """Return the Arrow type of an Iceberg type.

    Raises:
        UnsupportedTableError: as `arrow_schema`.
    """
    match kind:
        case StructType():
            return pa.struct([_field(_without_default(one)) for one in _stored(kind.fields)])
        case ListType():
            return pa.list_(_field(kind.element_field))
        case MapType():
            return pa.map_(_field(kind.key_field), _field(kind.value_field))
        case DecimalType():
            return pa.decimal128(kind.precision, kind.scale)
        case FixedType():
            return pa.binary(len(kind))
    plain = _PLAIN.get(str(kind))
    if plain is None:
        raise UnsupportedTableError(
            f"columns of type {kind} are not supported",
            hint="compact it with an engine that knows the type; it was not touched",
        )
    return plain


def _stored(fields: Iterable[NestedField]) -> Iterator[NestedField]:
    return (field for field in fields if not isinstance(field.field_type, UnknownType))


def _without_default(field: NestedField) -> NestedField:
    """Refuse a field within a column that files may lack and that is not null then."""
    if field.initial_default is not None:
        raise UnsupportedTableError(
            f"the field {field.name}, which is within a column, has a default value",
            hint="compact it with an engine that knows such defaults; it was not touched",
        )
    return field


def _default(field: NestedField) -> pa.Scalar:
    kind, value = arrow_type(field.field_type), field.initial_default
    if isinstance(value, UUID):
        return pa.scalar(value.bytes, kind)
    return pa.scalar(value).cast(kind)


def _field(field: NestedField) -> pa.Field:
    metadata = {b"PARQUET:field_id": str(field.field_id).encode()}
    return pa.field(
        field.name, arrow_type(field.field_type), nullable=not field.required, metadata=metadata
    )


def name_mapping(text: str | None) -> tuple[tuple[tuple[str, ...], int], ...]:
    """Read the table property `schema.name-mapping.default`.

    Raises:
        CorruptTableError: it is not a name mapping.

    Specification: https://iceberg.apache.org/spec/#name-mapping-serialization
    """
    if not text:
        return ()
    try:
        return tuple(_mapped(json.loads(text), [()]))
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise CorruptTableError(
            f"the property schema.name-mapping.default is malformed: {fault}"
        ) from fault


def _mapped(
    fields: list[Mapping[str, Any]], parents: list[tuple[str, ...]]
) -> Iterator[tuple[tuple[str, ...], int]]:
    for field in fields:
        paths = [(*parent, name) for parent, name in product(parents, field["names"])]
        if "field-id" in field:
            yield from ((path, int(field["field-id"])) for path in paths)
        yield from _mapped(field.get("fields", []), paths)
