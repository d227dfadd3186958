"""What a table declares of nulls, where its files are written as if all columns could hold them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow import types

from catalog.schema import TableSchema, field_id
from compactor.merge.keys import whole


def declared(schema: TableSchema) -> pa.Schema:
    """Return the columns by their names in files, null where the table says that they may be."""
    if schema.shown is None:
        return schema.arrow
    known = {field_id(one): one for one in schema.shown}
    return pa.schema([_as(one, known.get(field_id(one), one)) for one in schema.arrow])


def undeclared(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return rows whose columns have the types that they have in files."""
    for place, field in enumerate(rows.schema):
        kind = schema.field(field.name).type if field.name in schema.names else field.type
        if field.type != kind:
            column = whole(rows.column(place)).cast(kind)
            rows = rows.set_column(place, field.with_type(kind), column)
    return rows


def _as(stored: pa.Field, shown: pa.Field) -> pa.Field:
    kind = _kind(stored.type, shown.type)
    return stored.with_type(kind).with_nullable(shown.nullable)


def _kind(stored: Any, shown: Any) -> pa.DataType:
    if types.is_struct(stored):
        return pa.struct(list(map(_as, stored.fields, shown.fields)))
    if types.is_map(stored):
        key, item = _as(stored.key_field, shown.key_field), _as(stored.item_field, shown.item_field)
        return pa.map_(key, item)
    if types.is_list(stored):
        return pa.list_(_as(stored.value_field, shown.value_field))
    kind: pa.DataType = stored
    return kind
