"""Columns added to an Iceberg table, or widened, by a new schema of the table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from typing import Protocol

import pyarrow as pa
from pyarrow import types
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    PrimitiveType,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from catalog.attempts import attempts
from catalog.errors import CommitConflictError, UnsupportedTableError
from catalog.evolution import Evolution
from catalog.iceberg.catalogs import catalog_errors
from catalog.iceberg.commit_properties import pace

_PLAIN: dict[pa.DataType, PrimitiveType] = {
    pa.bool_(): BooleanType(),
    pa.int32(): IntegerType(),
    pa.int64(): LongType(),
    pa.float32(): FloatType(),
    pa.float64(): DoubleType(),
    pa.date32(): DateType(),
    pa.time64("us"): TimeType(),
    pa.timestamp("us"): TimestampType(),
    pa.timestamp("us", "UTC"): TimestamptzType(),
    pa.string(): StringType(),
    pa.binary(): BinaryType(),
    pa.uuid(): UUIDType(),
}


class EvolutionTarget(Protocol):
    """The table that evolves."""

    @property
    def name(self) -> str:
        """How messages call it."""

    def load(self) -> Table:
        """Read the table anew from its catalog."""


def evolve(target: EvolutionTarget, evolution: Evolution) -> None:
    """Add and widen columns; see `catalog.evolution.EvolvableTable`."""
    table = target.load()
    for _ in attempts(pace(table.metadata.properties)):
        added, widened = _left(table.schema(), evolution, target.name)
        if not added and not widened:
            return
        with catalog_errors(target.name), suppress(CommitFailedException):
            with table.update_schema() as update:
                for name, kind in added.items():
                    update.add_column(name, kind)
                for name, wide in widened.items():
                    update.update_column(name, field_type=wide)
            target.load()
            return
        table = target.load()
    raise CommitConflictError(
        f"{target.name}: other writers kept changing the columns", hint="try again later"
    )


def _left(
    schema: Schema, evolution: Evolution, name: str
) -> tuple[dict[str, IcebergType], dict[str, PrimitiveType]]:
    """Return what of an evolution has not happened yet."""
    known = {field.name: field.field_type for field in schema.fields}
    numbers = count(1)
    wanted = {one.name: iceberg_type(one.type, numbers) for one in evolution.added}
    for column in wanted.keys() & known.keys():
        if str(known[column]) != str(wanted[column]) and isinstance(known[column], PrimitiveType):
            raise UnsupportedTableError(
                f"{name}: another writer has just added {column!r} as {known[column]},"
                f" not as {wanted[column]}"
            )
    added = {column: kind for column, kind in wanted.items() if column not in known}
    wide = {one.name: iceberg_type(one.type, numbers) for one in evolution.widened}
    widened = {
        column: kind
        for column, kind in wide.items()
        if isinstance(kind, PrimitiveType) and _is_wider(known.get(column), kind)
    }
    return added, widened


def _is_wider(known: IcebergType | None, kind: PrimitiveType) -> bool:
    """Tell the promotions of the format (table spec, schema evolution)."""
    if isinstance(known, DecimalType) and isinstance(kind, DecimalType):
        return known.scale == kind.scale and known.precision < kind.precision
    pairs = ((IntegerType, LongType), (FloatType, DoubleType))
    return any(isinstance(known, one) and isinstance(kind, other) for one, other in pairs)


def iceberg_type(kind: pa.DataType, numbers: Iterator[int]) -> IcebergType:
    """Return the type of a new column; its fields are numbered, to be numbered anew by the table.

    Raises:
        UnsupportedTableError: the format has no such type.
    """
    if kind in _PLAIN:
        return _PLAIN[kind]
    if types.is_decimal128(kind):
        return DecimalType(kind.precision, kind.scale)
    if types.is_fixed_size_binary(kind):
        return FixedType(kind.byte_width)
    if types.is_struct(kind):
        fields = [(one.name, one.type) for one in kind.fields]
        return StructType(
            *(
                NestedField(next(numbers), name, iceberg_type(inner, numbers), required=False)
                for name, inner in fields
            )
        )
    if types.is_list(kind):
        number, inner = next(numbers), iceberg_type(kind.value_type, numbers)
        return ListType(number, inner, element_required=False)
    if types.is_map(kind):
        key_id, value_id = next(numbers), next(numbers)
        key, value = (iceberg_type(one, numbers) for one in (kind.key_type, kind.item_type))
        return MapType(key_id, key, value_id, value, value_required=False)
    raise UnsupportedTableError(f"Iceberg tables have no columns of type {kind}")
