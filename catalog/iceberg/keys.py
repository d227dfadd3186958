"""Keys of rows as single values that are equal when the rows are equal in the key's columns.

One column becomes 64-bit integers or bytes, several become bytes: each value with its length before
it, so that no two keys run together. Null is equal to null, NaN to every NaN. Zero and minus zero
differ, as they do for the reference implementation.

Specification: https://iceberg.apache.org/spec/#equality-delete-files
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from catalog.errors import UnsupportedTableError

_NULL_LENGTH = -1
# What is stored, and what the table may have it as.
_SAME_VALUES = {
    (pa.int32(), pa.int64()),
    (pa.float32(), pa.float64()),
    (pa.large_string(), pa.string()),
    (pa.string_view(), pa.string()),
    (pa.large_binary(), pa.binary()),
    (pa.binary_view(), pa.binary()),
}


def key_type(kinds: Sequence[pa.DataType]) -> pa.DataType:
    """Return the type of the keys of some columns."""
    return combined([pa.nulls(0, kind) for kind in kinds]).type


def combined(columns: Sequence[pa.Array]) -> pa.Array:
    """Return the key of each row.

    Args:
        columns: of the key, as the table has them, of primitive types.
    """
    plain = [_plain(column) for column in columns]
    if len(plain) == 1:
        return plain[0]
    parts = [part for column in plain for part in (_lengths(column), _bytes(column))]
    return pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.binary()))


def as_table_has_it(column: pa.Array, kind: pa.DataType, *, file: str, name: str) -> pa.Array:
    """Return a column of a file as the table's type, which may have been widened since.

    Raises:
        UnsupportedTableError: it is stored in a form whose values may be others in the table.
    """
    column, wanted = _storage(column), _storage_type(kind)
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.type == wanted:
        return column
    if not _is_widened(column.type, wanted):
        raise UnsupportedTableError(
            f"{file}: column {name!r} is stored as {column.type}, and rows are deleted by it as"
            f" {kind}",
            hint="rewrite the file with the engine that wrote it",
        )
    return column.cast(wanted)


def _storage(column: pa.Array) -> pa.Array:
    return column.storage if isinstance(column, pa.ExtensionArray) else column


def _storage_type(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _is_widened(stored: pa.DataType, wanted: pa.DataType) -> bool:
    """Tell the promotions of the specification, and other layouts of the same values."""
    if types.is_decimal(stored) and types.is_decimal(wanted):
        return bool(stored.scale == wanted.scale and stored.precision <= wanted.precision)
    return (stored, wanted) in _SAME_VALUES


def _plain(column: pa.Array) -> pa.Array:
    """Return values as 64-bit integers or as bytes."""
    column = _storage(column)
    kind = column.type
    if types.is_floating(kind):
        return _float_bits(column)
    if types.is_boolean(kind):
        return column.cast(pa.int8()).cast(pa.int64())
    if types.is_integer(kind):
        return column.cast(pa.int64())
    if types.is_date32(kind):
        return column.view(pa.int32()).cast(pa.int64())
    if types.is_time64(kind) or types.is_timestamp(kind):
        return column.view(pa.int64())
    if types.is_decimal(kind):
        return column.view(pa.binary(16)).cast(pa.binary())
    return column.cast(pa.binary())


def _float_bits(column: pa.Array) -> pa.Array:
    """Return the bits of numbers, one and the same for all NaNs."""
    values = column.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False)
    bits = np.where(np.isnan(values), np.float64("nan"), values).view(np.int64)
    return pc.if_else(column.is_valid(), pa.array(bits), pa.scalar(None, pa.int64()))


def _bytes(column: pa.Array) -> pa.Array:
    if column.type == pa.binary():
        return column.fill_null(b"")
    return column.fill_null(0).view(pa.binary(8)).cast(pa.binary())


def _lengths(column: pa.Array) -> pa.Array:
    if column.type == pa.binary():
        lengths = pc.binary_length(column).fill_null(_NULL_LENGTH)
    else:
        lengths = pc.if_else(column.is_valid(), pa.scalar(8, pa.int32()), _NULL_LENGTH)
    return lengths.cast(pa.int32()).view(pa.binary(4)).cast(pa.binary())
