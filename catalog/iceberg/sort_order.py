"""Sort orders of Iceberg tables: as fields of our model, and the id that a file may claim.

Specification: https://iceberg.apache.org/spec/#sorting
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pyiceberg.types import NestedField, StructType

from catalog.errors import CorruptTableError
from catalog.layout import SortField

if TYPE_CHECKING:
    from pyiceberg.schema import Schema
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.sorting import SortOrder


def default_order(metadata: TableMetadata) -> tuple[SortField, ...]:
    """Return the order that writers of the table should keep; empty for none.

    Raises:
        CorruptTableError: it names a column that the schema does not have.
    """
    order = metadata.sort_order_by_id(metadata.default_sort_order_id)
    return () if order is None else _fields(order, metadata.schema())


def order_id(metadata: TableMetadata, fields: tuple[SortField, ...]) -> int | None:
    """Return the id of a table's order that rows in the order of `fields` are in; None for none.

    Rows that are ordered by more columns are in every order by the first of them, too.
    """
    if not fields:
        return None
    wanted = [_term(field) for field in fields]
    found = [
        order
        for order in metadata.sort_orders
        if order.fields
        and [_term_of(order, i) for i in range(len(order.fields))] == wanted[: len(order.fields)]
    ]
    return max(found, key=lambda order: len(order.fields)).order_id if found else None


def _fields(order: SortOrder, schema: Schema) -> tuple[SortField, ...]:
    return tuple(
        SortField(
            field_id=field.source_id,
            path=_path(schema, field.source_id),
            is_descending=field.direction.value == "desc",
            is_nulls_first=field.null_order.value == "nulls-first",
            transform=str(field.transform),
        )
        for field in order.fields
    )


def _path(schema: Schema, field_id: int) -> tuple[str, ...]:
    """Return the names down to a column; those of columns may have dots in them."""
    found = _below(schema.fields, field_id)
    if found is None:
        raise CorruptTableError(f"the sort order names the column {field_id}, which does not exist")
    return found


def _below(fields: Iterable[NestedField], field_id: int) -> tuple[str, ...] | None:
    for field in fields:
        if field.field_id == field_id:
            return (field.name,)
        if isinstance(field.field_type, StructType):
            below = _below(field.field_type.fields, field_id)
            if below is not None:
                return (field.name, *below)
    return None


def _term(field: SortField) -> tuple[int, str, bool, bool]:
    return field.field_id, field.transform, field.is_descending, field.is_nulls_first


def _term_of(order: SortOrder, place: int) -> tuple[int, str, bool, bool]:
    field = order.fields[place]
    is_descending = field.direction.value == "desc"
    is_nulls_first = field.null_order.value == "nulls-first"
    return field.source_id, str(field.transform), is_descending, is_nulls_first
