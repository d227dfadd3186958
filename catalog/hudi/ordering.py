"""Ordering values: which of two records is the newer one, compared as Hudi's reader does.  Pure.

Columns are brought into forms that compare as Java's values do: numbers, dates and times as 64-bit
integers, fractions by their bits so that NaN is the greatest, texts by their bytes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import UnsupportedTableError
from catalog.hudi.delete_records import DeletedKey, Ordering

_Mask = npt.NDArray[np.bool_]
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
# The scale that decimals have in delete blocks.
_DELETE_SCALE = 15


def comparable_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the comparable form of a column.

    Raises:
        UnsupportedTableError: the type has no order.
    """
    if pa.types.is_decimal(kind) or pa.types.is_binary(kind):
        return kind
    if pa.types.is_string(kind):
        return pa.binary()
    if pa.types.is_nested(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_null(kind):
        raise UnsupportedTableError(f"an ordering field is of the type {kind}")
    return pa.int64()


def comparable(values: pa.Array) -> pa.Array:
    """Return the comparable form of a column; nulls of plain ints and dates are 0."""
    kind = values.type
    if comparable_type(kind) == kind:
        return values
    if pa.types.is_string(kind):
        return values.cast(pa.binary())
    if pa.types.is_floating(kind):
        return _by_bits(values.cast(pa.float64()))
    if pa.types.is_timestamp(kind):
        return values.cast(pa.timestamp("us", kind.tz)).cast(pa.int64())
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        numbers = values.cast(pa.int64())
    else:
        narrow = pa.int32() if kind.bit_width == 32 else pa.int64()
        numbers = values.cast(narrow).cast(pa.int64())
    # A missing value is the Java Integer 0, which compares with Integers alone.
    return numbers.fill_null(0) if _is_java_integer(kind) else numbers


def is_default(values: pa.Array, *, is_only: bool) -> _Mask:
    """Return where an ordering value says nothing: it is the Java Integer 0, or missing.

    Args:
        values: an ordering column as it is stored.
        is_only: whether there is no other ordering column.
    """
    if not is_only:
        return np.zeros(len(values), np.bool_)
    found: _Mask = np.asarray(values.is_null())
    if _is_java_integer(values.type):
        found = found | (comparable(values).to_numpy() == 0)
    return found


def at_least(newer: Sequence[pa.Array], older: Sequence[pa.Array]) -> _Mask:
    """Return where the values of `newer` are not before those of `older`, compared in turn.

    Raises:
        UnsupportedTableError: a value is missing where it would have to be compared.
    """
    count = len(newer[0]) if newer else 0
    found: _Mask = np.ones(count, np.bool_)
    for one, other in zip(reversed(newer), reversed(older), strict=True):
        if one.null_count or other.null_count:
            raise UnsupportedTableError("records are to be compared by an ordering value of null")
        is_greater = np.asarray(pc.greater(one, other))
        found = is_greater | (np.asarray(pc.equal(one, other)) & found)
    return found


def ranks(values: pa.Array) -> npt.NDArray[np.int64]:
    """Return numbers that are in the order of the values, equal ones for equal values.

    Raises:
        UnsupportedTableError: a value is missing.
    """
    if values.null_count:
        raise UnsupportedTableError("records are to be compared by an ordering value of null")
    if values.type == pa.int64():
        return np.asarray(values.to_numpy())
    return np.asarray(pc.rank(values, tiebreaker="dense").to_numpy()).astype(np.int64)


def of_deletes(
    deletes: Sequence[DeletedKey], types: Sequence[pa.DataType]
) -> tuple[list[pa.Array], _Mask]:
    """Return the comparable ordering columns of deletes, and which of them have no ordering value.

    Raises:
        UnsupportedTableError: an ordering value is of another type than the column.
    """
    if not types:
        return [], np.ones(len(deletes), np.bool_)
    defaults = np.array([_is_default_delete(one) for one in deletes], np.bool_)
    values: list[list[Any]] = [[] for _ in types]
    for one, has_none in zip(deletes, defaults.tolist(), strict=True):
        pairs = one.value if one.kind is Ordering.SEVERAL else [(one.kind, one.value)]
        if not has_none and len(pairs) != len(types):
            raise UnsupportedTableError("a delete has another number of ordering values")
        for column, kind in enumerate(types):
            found, value = pairs[column] if not has_none else (Ordering.NONE, None)
            values[column].append(None if has_none else _converted(found, value, kind))
    return [
        pa.array(column, comparable_type(kind)) for column, kind in zip(values, types, strict=True)
    ], defaults


def _is_default_delete(one: DeletedKey) -> bool:
    return one.kind is Ordering.NONE or (one.kind is Ordering.INT and one.value == 0)


def _converted(kind: Ordering, value: Any, column: pa.DataType) -> Any:
    """Return the ordering value of a delete in the comparable form of the column."""
    if kind not in _kinds_of(column):
        raise UnsupportedTableError(
            f"a delete has an ordering value of {kind.name} where the column is {column}"
        )
    if kind is Ordering.STRING:
        return value.encode()
    if kind is Ordering.DECIMAL:
        return _decimal(value, column)
    if kind in (Ordering.FLOAT, Ordering.DOUBLE):
        return _by_bits(pa.array([value], pa.float64()))[0].as_py()
    if kind is Ordering.LONG and pa.types.is_timestamp(column):
        # As many units as the column counts, where columns are compared by microseconds.
        return int(value) * (1000 if column.unit == "ms" else 1)
    return value if kind is Ordering.BYTES else int(value)


def _kinds_of(column: pa.DataType) -> tuple[Ordering, ...]:
    if pa.types.is_date32(column) or pa.types.is_int32(column):
        return (Ordering.INT, Ordering.DATE)
    if pa.types.is_timestamp(column):
        return (Ordering.LONG, Ordering.TIMESTAMP_MICROS)
    if pa.types.is_time64(column):
        return (Ordering.LONG, Ordering.TIME_MICROS)
    if pa.types.is_decimal(column):
        return (Ordering.DECIMAL,)
    return _PLAIN.get(str(column), ())


_PLAIN = {
    "int64": (Ordering.LONG,),
    "float": (Ordering.FLOAT,),
    "double": (Ordering.DOUBLE,),
    "string": (Ordering.STRING,),
    "binary": (Ordering.BYTES,),
    "bool": (Ordering.BOOLEAN,),
}


def _decimal(data: bytes, column: pa.DataType) -> Decimal:
    number = int.from_bytes(data, "big", signed=True)
    excess = 10 ** max(0, _DELETE_SCALE - column.scale)
    if number % excess or column.scale > _DELETE_SCALE:
        raise UnsupportedTableError(f"a delete has an ordering value that is no {column}")
    return Decimal((number < 0, _digits(abs(number) // excess), -column.scale))


def _digits(number: int) -> tuple[int, ...]:
    return tuple(int(digit) for digit in str(number))


def _is_java_integer(kind: pa.DataType) -> bool:
    return bool(pa.types.is_int32(kind) or pa.types.is_date32(kind))


def _by_bits(values: pa.Array) -> pa.Array:
    """Return doubles as integers in their order: -0.0 before 0.0, NaN last."""
    mask = np.asarray(values.is_null())
    numbers = values.fill_null(0.0).to_numpy()
    bits = np.where(np.isnan(numbers), np.nan, numbers).view(np.int64)
    ordered = bits ^ ((bits >> np.int64(63)) & np.int64(0x7FFFFFFFFFFFFFFF))
    return pa.array(ordered, mask=mask)
