"""Lists and maps taken apart into offsets, values and the places of nulls; types without views."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types


def is_list(kind: pa.DataType) -> bool:
    """Tell a list in any of Arrow's spellings; a map is none."""
    return bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def plain_list(array: pa.Array) -> pa.Array:
    """Return any spelling of a list as the one with 32-bit offsets."""
    if types.is_list(array.type):
        return array
    return pc.cast(array, pa.list_(array.type.value_field), safe=True)


def without_views(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch whose texts and binaries are no views, at any depth.

    Some writers have their files read so, and nothing can be selected from views.
    """
    for at, field in enumerate(schema_without_views(batch.schema)):
        if field.type != batch.schema.field(at).type:
            batch = batch.set_column(at, field, batch.column(at).cast(field.type))
    return batch


def schema_without_views(schema: pa.Schema) -> pa.Schema:
    """Return the columns of batches that have gone through `without_views`."""
    return pa.schema(map(_viewless_field, schema), schema.metadata)


def _viewless(kind: pa.DataType) -> pa.DataType:
    if types.is_string_view(kind):
        return pa.string()
    if types.is_binary_view(kind):
        return pa.binary()
    if types.is_struct(kind):
        return pa.struct(map(_viewless_field, kind.fields))
    if types.is_map(kind):
        key, item = _viewless_field(kind.key_field), _viewless_field(kind.item_field)
        return pa.map_(key, item, keys_sorted=kind.keys_sorted)
    if types.is_list(kind):
        return pa.list_(_viewless_field(kind.value_field))
    return kind


def _viewless_field(field: pa.Field) -> pa.Field:
    return field.with_type(_viewless(field.type))


def list_parts(
    array: pa.Array, values: pa.Array
) -> tuple[npt.NDArray[np.int64], pa.Array, pa.Array | None]:
    """Return the parts of a list or map array, whatever slice of a larger one it is.

    Args:
        array: the lists.
        values: all their values, or the keys or items of maps.

    Returns:
        Offsets that begin at zero, just the values that they cover, and the mask of null lists.
    """
    offsets: npt.NDArray[np.int64] = np.asarray(array.offsets).astype(np.int64)
    covered = values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    mask = pc.is_null(array) if array.null_count else None
    return offsets - offsets[0], covered, mask


def null_array(kind: pa.DataType, count: int) -> pa.Array:
    """Return nulls of any type; below a null struct, required fields hold some value.

    Writers take what lies there for data, and refuse nulls in it.
    """
    if not types.is_struct(kind):
        return pa.nulls(count, kind)
    return _structs(kind, count, mask=pa.repeat(True, count))


def _blank_array(kind: pa.DataType, count: int) -> pa.Array:
    """Return values of no meaning, none of them null."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, _blank_array(kind.storage_type, count))
    if types.is_struct(kind):
        return _structs(kind, count, mask=None)
    offsets = pa.repeat(pa.scalar(0, pa.int32()), count + 1)
    if types.is_map(kind):
        keys, items = pa.nulls(0, kind.key_type), pa.nulls(0, kind.item_type)
        return pa.MapArray.from_arrays(offsets, keys, items, type=kind)
    if types.is_list(kind):
        return pa.ListArray.from_arrays(offsets, pa.nulls(0, kind.value_type), type=kind)
    # Arrow makes one itself below a null that is given as a Python object.
    holder = pa.array([None], pa.struct([pa.field("", kind, nullable=False)]))
    return pa.repeat(holder.field(0)[0], count)


def _structs(kind: pa.StructType, count: int, *, mask: pa.Array | None) -> pa.Array:
    children = [
        null_array(one.type, count) if one.nullable else _blank_array(one.type, count)
        for one in kind.fields
    ]
    return pa.StructArray.from_arrays(children, type=kind, mask=mask)
