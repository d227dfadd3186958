"""Decimals travel as the integers that files store of them: Arrow's own take 16 bytes each.

Only columns of at most 18 digits at the top level do. Nothing but the declaration in the footer
tells a decimal from its integer: `Encoding` sees to that.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from catalog.errors import CorruptTableError

# Digits that the format stores in 32 and in 64 bits.
_INT32_DIGITS, _INT64_DIGITS = 9, 18
_WORDS = 2


def integer_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the integers that a decimal is stored as; None for what is not stored so."""
    if not types.is_decimal128(kind) or kind.precision > _INT64_DIGITS:
        return None
    return pa.int32() if kind.precision <= _INT32_DIGITS else pa.int64()


def integer_columns(schema: pa.Schema) -> frozenset[str]:
    """Return the columns that can travel so."""
    return frozenset(field.name for field in schema if integer_type(field.type) is not None)


def with_integers(schema: pa.Schema, names: Collection[str]) -> pa.Schema:
    """Return the schema of rows whose decimals are integers, as far as they are named."""
    for index, field in enumerate(schema):
        kind = integer_type(field.type) if field.name in names else None
        if kind is not None:
            schema = schema.set(index, field.with_type(kind))
    return schema


def as_integers(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return rows with the types of a schema, decimals turned to integers where it says so.

    Raises:
        CorruptTableError: a number has more digits than its column.
    """
    columns = [as_integer(one, to.type) for one, to in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def as_integer(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return a decimal or integer column as integers of some type, any other as it is.

    Raises:
        CorruptTableError: a number does not fit.
    """
    if array.type == kind or not types.is_integer(kind):
        return array
    if types.is_decimal(array.type):
        array = _unscaled(array)
    try:
        return pc.cast(array, kind, safe=True)
    except pa.ArrowInvalid as error:
        raise CorruptTableError(f"a decimal has more digits than its column: {error}") from error


def as_decimals(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return rows with the types of a schema, integers turned back to its decimals."""
    columns = [
        _scaled(one, to.type) if types.is_decimal(to.type) and types.is_integer(one.type) else one
        for one, to in zip(batch.columns, schema, strict=True)
    ]
    fields = [to.with_type(one.type) for one, to in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


def _unscaled(array: pa.Array) -> pa.Array:
    """Return the numbers of decimals without their point."""
    validity, data = array.buffers()
    end = array.offset + len(array)
    words = np.frombuffer(data, np.int64, _WORDS * end)
    numbers = np.ascontiguousarray(words[::_WORDS])
    is_wide = words[1::_WORDS] != numbers >> 63
    if is_wide.any() and (is_wide[array.offset :] & ~_mask(array)).any():
        raise CorruptTableError(f"a number of type {array.type} exceeds 64 bits")
    buffers = [validity, pa.py_buffer(numbers)]
    return pa.Array.from_buffers(pa.int64(), len(array), buffers, offset=array.offset)


def _scaled(array: pa.Array, kind: pa.Decimal128Type) -> pa.Array:
    """Return integers with the point of a type of decimals."""
    numbers = np.asarray(pc.fill_null(array, 0), np.int64)
    words = np.empty((len(numbers), _WORDS), np.int64)
    words[:, 0] = numbers
    words[:, 1] = numbers >> 63
    validity = pa.array(~_mask(array)).buffers()[1] if array.null_count else None
    return pa.Array.from_buffers(kind, len(array), [validity, pa.py_buffer(words)])


def _mask(array: pa.Array) -> npt.NDArray[np.bool_]:
    """Tell which values are null."""
    return np.asarray(pc.is_null(array).to_numpy(zero_copy_only=False))
