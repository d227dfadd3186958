"""Nulls that no reader can see, where a file has no room for them: below a struct that is null.

A required field of an optional struct has no value where the struct is null. Arrow lets it be null
there, as rows do that were taken or joined; the Parquet writer takes no null of a required field.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import types

_Mask = npt.NDArray[np.bool_]


def without_hidden_nulls(rows: pa.Table) -> pa.Table:
    """Return rows in which required fields are null only where the struct they are in is not.

    What is null where it must not be stays so: it is for the writer to refuse.
    """
    for at, field in enumerate(rows.schema):
        if _requires_fields(field.type):
            chunks = [_covered(chunk, None) for chunk in rows.column(at).chunks]
            rows = rows.set_column(at, field, pa.chunked_array(chunks, field.type))
    return rows


@lru_cache(maxsize=1024)
def _requires_fields(kind: pa.DataType) -> bool:
    """Tell whether a struct at any depth has a field that cannot be null."""
    if types.is_struct(kind):
        return any(not one.nullable or _requires_fields(one.type) for one in kind.fields)
    if types.is_map(kind):
        return _requires_fields(kind.key_type) or _requires_fields(kind.item_type)
    return bool(types.is_list(kind)) and _requires_fields(kind.value_type)


def _covered(array: pa.Array, hidden: _Mask | None) -> pa.Array:
    """Return values of which required fields are not null below structs that are.

    Args:
        array: the values.
        hidden: which of them no reader sees; None for none.
    """
    kind = array.type
    if not _requires_fields(kind):
        return array
    if types.is_struct(kind):
        return _covered_struct(array, hidden)
    buffers = array.buffers()[:2]
    if types.is_map(kind):
        items = _covered(array.items, None)
        fields = [kind.key_field, kind.item_field]
        inner = pa.StructArray.from_arrays([_covered(array.keys, None), items], fields=fields)
    else:
        inner = _covered(array.values, None)
    return pa.Array.from_buffers(
        kind, len(array), buffers, array.null_count, array.offset, children=[inner]
    )


def _covered_struct(array: pa.Array, hidden: _Mask | None) -> pa.Array:
    is_null = np.asarray(array.is_null())
    below = is_null if hidden is None else is_null | hidden
    children = []
    for number, field in enumerate(array.type.fields):
        child = _covered(array.field(number), below)
        is_seen = np.asarray(child.is_null()) & ~below
        children.append(child if field.nullable or is_seen.any() else _as_valid(child))
    return pa.StructArray.from_arrays(
        children, fields=list(array.type.fields), mask=pa.array(is_null)
    )


def _as_valid(array: pa.Array) -> pa.Array:
    """Return values without nulls: what lies in their place is any value of the type."""
    if not array.null_count:
        return array
    if types.is_struct(array.type):
        fields = list(array.type.fields)
        return pa.StructArray.from_arrays(
            [array.field(number) for number in range(len(fields))], fields=fields
        )
    held = pa.concat_arrays([array])
    inner = _children(held)
    buffers = [None, *held.buffers()[1 : held.type.num_buffers]]
    return pa.Array.from_buffers(held.type, len(held), buffers, 0, held.offset, children=inner)


def _children(array: pa.Array) -> list[pa.Array]:
    if types.is_map(array.type):
        fields = [array.type.key_field, array.type.item_field]
        return [pa.StructArray.from_arrays([array.keys, array.items], fields=fields)]
    return [array.values] if types.is_list(array.type) else []
