"""Changes brought into the types of the table's columns, value by value.

Streams spell types as their writers do: integers wider than the table's, decimals of another
scale, dictionaries, other units of time. A value is taken when the table's type has an equal one,
and refused otherwise; none is ever rounded. Columns are found by their names, nested ones too.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.schema import TableSchema, named_ids
from compactor.errors import ChangesRefusedError
from compactor.rewrite.conversion import is_readable_as, stored_type
from compactor.rewrite.projection import FileColumns, plan_projection

_DIGITS_MAX = 38


def conformed(rows: pa.Table, schema: pa.Schema, *, name: str) -> pa.Table:
    """Return the columns of `rows` that the table has, in its types and its order.

    All of them are nullable on top: who needs a value must look.

    Args:
        rows: the changes.
        schema: the table's columns, with field ids.
        name: of the changes, for messages.

    Raises:
        ChangesRefusedError: a type or a value has no equal in the table's type.
    """
    wanted = pa.schema([one.with_nullable(True) for one in schema if one.name in rows.schema.names])
    given = rows.select(wanted.names)
    if not wanted.names:
        return given
    for place, field in enumerate(wanted):
        column = _narrowed(given.column(place), field, name)
        given = given.set_column(place, field.name, column)
    table = TableSchema(wanted, name_mapping=tuple(named_ids(wanted)), has_field_ids=False)
    try:
        projection = plan_projection(FileColumns(name, given.schema), table, {})
        batches = [projection.apply(batch) for batch in given.to_batches()]
    except (CorruptTableError, UnsupportedTableError) as error:
        raise ChangesRefusedError(str(error)) from error
    return pa.Table.from_batches(batches, schema=wanted)


def _narrowed(column: pa.ChunkedArray, field: pa.Field, name: str) -> pa.ChunkedArray:
    """Return numbers in the table's type where only their values can tell that they fit it."""
    source, target = stored_type(column.type), stored_type(field.type)
    if is_readable_as(source, target) or not _is_narrowing(source, target):
        return column
    column = column.cast(source)
    try:
        if types.is_decimal(target) and not types.is_decimal(source):
            column = column.cast(pa.decimal128(_DIGITS_MAX, 0))
        return pc.cast(column, target, safe=True)
    except pa.ArrowInvalid as error:
        raise ChangesRefusedError(
            f"{name}: column {field.name!r} has a value that does not fit"
            f" the table's type {target}: {str(error).partition(chr(10))[0]}"
        ) from error


def _is_narrowing(source: Any, target: Any) -> bool:
    """Tell numbers that may be equal in both types; floats are taken as floats alone."""
    if types.is_floating(target):
        return bool(types.is_integer(source))
    is_exact = types.is_integer(target) or types.is_decimal(target)
    return bool(is_exact and (types.is_integer(source) or types.is_decimal(source)))
