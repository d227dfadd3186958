"""Leaf types: which stored type may be read as which table type, without changing any value.

The rules are the type promotions of Iceberg and Delta Lake (to longer integers and decimals, int
to double and to decimal, float to double, date to timestamp without zone) and the different
spellings of one type that writers leave in Parquet files: dictionaries, large strings, narrow
integers, other units of time, UUIDs without their annotation.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

_SIGNED_BITS = {pa.int8(): 8, pa.int16(): 16, pa.int32(): 32, pa.int64(): 64}
# An unsigned integer needs one more bit in a signed type.
_UNSIGNED_BITS = {pa.uint8(): 9, pa.uint16(): 17, pa.uint32(): 33}
_INTEGER_BITS = {**_SIGNED_BITS, **_UNSIGNED_BITS}
# Digits that hold every value of an integer type.
_DIGITS = {pa.int8(): 3, pa.int16(): 5, pa.int32(): 10, pa.int64(): 19}
# Integers that a double holds exactly.
_EXACT_IN_DOUBLE = (pa.int8(), pa.int16(), pa.int32())


def stored_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values themselves, without dictionary or extension around it."""
    if types.is_dictionary(kind):
        return stored_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return stored_type(kind.storage_type)
    return kind


def is_readable_as(source: pa.DataType, target: pa.DataType, *, is_int96: bool = False) -> bool:
    """Tell whether every value of a leaf type, or a refusal by value, fits the table's type.

    Args:
        source: type in the file.
        target: type in the table.
        is_int96: the file stores the old 96-bit timestamps, which are UTC by convention and
            carry no time zone.
    """
    source, target = stored_type(source), stored_type(target)
    if source == target or types.is_null(source):
        return True
    if target in _SIGNED_BITS:
        return source in _INTEGER_BITS and _INTEGER_BITS[source] <= _SIGNED_BITS[target]
    if types.is_floating(target):
        return _is_readable_as_float(source, target)
    if types.is_decimal(target):
        return _is_readable_as_decimal(source, target)
    if types.is_timestamp(target):
        return _is_readable_as_timestamp(source, target, is_int96=is_int96)
    if types.is_time(target):
        return bool(types.is_time(source))
    if types.is_date(target):
        return bool(types.is_date(source))
    # Text is checked to be UTF-8 by the conversion.
    return is_bytes(source) and is_bytes(target)


def convert(array: pa.Array, target: pa.DataType) -> pa.Array:
    """Return a leaf array in the table's type.

    Raises:
        pa.ArrowInvalid: a value has no equal in the target type.
    """
    if array.type == target:
        return array
    if types.is_dictionary(array.type):
        return convert(array.dictionary_decode(), target)
    if isinstance(array.type, pa.BaseExtensionType):
        return convert(array.storage, target)
    if isinstance(target, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(target, convert(array, target.storage_type))
    if types.is_timestamp(target) and types.is_timestamp(array.type):
        return _convert_timestamp(array, target)
    return pc.cast(array, target, safe=True)


def _convert_timestamp(array: pa.Array, target: pa.TimestampType) -> pa.Array:
    """Change the unit with a check and the zone by name alone: the instant is the stored number."""
    zoned = pa.timestamp(target.unit, array.type.tz)
    return pc.cast(array, zoned, safe=True).view(target)


def _is_readable_as_float(source: pa.DataType, target: pa.DataType) -> bool:
    if source in _EXACT_IN_DOUBLE:
        return bool(target == pa.float64())
    return bool(types.is_floating(source) and source.bit_width <= target.bit_width)


def _is_readable_as_decimal(source: pa.DataType, target: pa.DataType) -> bool:
    """Tell whether no digit is lost on either side of the point."""
    digits = target.precision - target.scale
    if types.is_decimal(source):
        return bool(source.scale <= target.scale and source.precision - source.scale <= digits)
    return source in _DIGITS and _DIGITS[source] <= digits


def _is_readable_as_timestamp(
    source: pa.DataType, target: pa.TimestampType, *, is_int96: bool
) -> bool:
    if types.is_timestamp(source):
        return is_int96 or (source.tz is None) == (target.tz is None)
    return bool(types.is_date(source)) and target.tz is None


def is_bytes(kind: pa.DataType) -> bool:
    """Tell a string or binary of variable length."""
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
    )
