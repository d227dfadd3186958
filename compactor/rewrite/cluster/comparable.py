"""Values of any type that has an order, in one of two forms that compare as they should.

*Numbers* are unsigned 64-bit integers, *texts* are byte strings compared byte by byte. Both forms
are exact: different values stay different. So the order of rows is total over all bits:

* floats by IEEE 754's total order: -NaN < -inf < ... < -0.0 < 0.0 < ... < inf < NaN;
* text by its UTF-8 bytes, which is the order of code points; binary and UUIDs byte by byte;
* decimals, dates, times and timestamps by value; a time zone is no part of the value.

Lists, maps and structs have no order here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from catalog.errors import UnsupportedTableError
from catalog.layout import SortField
from compactor.rewrite.conversion import is_bytes, stored_type
from compactor.rewrite.fingerprint import fixed_width

Numbers = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]
_SIGN = np.uint64(1 << 63)
_WORD = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
# Decimals of so many digits fit 64 bits.
_NARROW_DIGITS_MAX = 18


@dataclass(frozen=True, slots=True)
class Comparable:
    """One column of some rows.

    Attributes:
        numbers: a number per row; None for texts. What stands for a null does not matter.
        texts: a binary array; None for numbers.
        is_null: which rows are null; None when none is.
    """

    numbers: Numbers | None
    texts: Any
    is_null: Flags | None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.texts) if self.numbers is None else len(self.numbers)

    def take(self, rows: npt.NDArray[np.int64]) -> Comparable:
        """Return some of the rows."""
        return Comparable(
            None if self.numbers is None else self.numbers[rows],
            None if self.texts is None else self.texts.take(pa.array(rows)),
            None if self.is_null is None else self.is_null[rows],
        )

    def slice(self, start: int, count: int) -> Comparable:
        """Return a run of rows, without a copy."""
        return Comparable(
            None if self.numbers is None else self.numbers[start : start + count],
            None if self.texts is None else self.texts.slice(start, count),
            None if self.is_null is None else self.is_null[start : start + count],
        )


def is_orderable(kind: pa.DataType) -> bool:
    """Tell whether values of a type can be compared."""
    kind = stored_type(kind)
    return bool(
        types.is_boolean(kind)
        or types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_temporal(kind)
        or (types.is_decimal(kind) and kind.bit_width <= 128)
        or types.is_fixed_size_binary(kind)
        or is_bytes(kind)
    ) and not types.is_interval(kind)


def is_text(kind: pa.DataType) -> bool:
    """Tell whether values of a type are compared as texts."""
    kind = stored_type(kind)
    return bool(
        is_bytes(kind)
        or types.is_fixed_size_binary(kind)
        or (types.is_decimal(kind) and kind.bit_width == 128 and not _is_narrow(kind))
    )


def _is_narrow(kind: Any) -> bool:
    return bool(kind.bit_width <= 64 or kind.precision <= _NARROW_DIGITS_MAX)


def find_leaf(schema: pa.Schema, field: SortField) -> pa.Field:
    """Return the column that a term orders by.

    Raises:
        UnsupportedTableError: there is none, or its values have no order.
    """
    found: Any = None
    fields: Any = schema
    for depth, name in enumerate(field.path, start=1):
        place = fields.get_field_index(name)
        if place < 0:
            raise UnsupportedTableError(f"the table has no column {field.name!r} to order rows by")
        found = fields.field(place)
        if depth < len(field.path):
            fields = found.type
            if not types.is_struct(fields):
                raise UnsupportedTableError(
                    f"rows cannot be ordered by {field.name!r}: {found.name!r} is a"
                    f" {fields}, and only fields of structs have one value per row"
                )
    if not is_orderable(found.type):
        raise UnsupportedTableError(
            f"rows cannot be ordered by {field.name!r}: values of type {found.type} have no order",
            hint="order by columns of plain types, also within structs",
        )
    return found


def leaf_of(batch: pa.RecordBatch, field: SortField) -> pa.Array:
    """Return the column of a batch that a term orders by; under a null struct it is null."""
    array = batch.column(field.path[0])
    for name in field.path[1:]:
        array = pc.struct_field(array, name)
    return array


def comparable(array: pa.Array) -> Comparable:
    """Return a column in comparable form."""
    if isinstance(array.type, pa.BaseExtensionType):
        return comparable(array.storage)
    if types.is_dictionary(array.type):
        return comparable(array.dictionary_decode())
    is_null = pc.is_null(array).to_numpy(zero_copy_only=False) if array.null_count else None
    if is_text(array.type):
        return Comparable(None, _texts(array), is_null)
    return Comparable(_numbers(array), None, is_null)


def _texts(array: pa.Array) -> pa.Array:
    kind = array.type
    if types.is_decimal(kind):
        return _wide_decimals(array)
    is_large = types.is_large_string(kind) or types.is_large_binary(kind)
    return array.cast(pa.large_binary() if is_large else pa.binary())


def _wide_decimals(array: pa.Array) -> pa.Array:
    """Return sixteen bytes per value, the highest first, the sign turned."""
    words = fixed_width(array, "<u8", values_per_row=2).reshape(-1, 2)
    turned = np.empty((len(array), 2), dtype=">u8")
    turned[:, 0] = words[:, 1] ^ _SIGN
    turned[:, 1] = words[:, 0]
    width = 16
    offsets = np.arange(len(array) + 1, dtype=np.int64) * width
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(array), [None, pa.py_buffer(offsets), pa.py_buffer(turned.tobytes())]
    )


def _numbers(array: pa.Array) -> Numbers:
    kind = array.type
    if types.is_boolean(kind):
        return fixed_width(pc.cast(array, pa.uint8()), "<u1").astype(np.uint64)
    if types.is_decimal128(kind):
        return fixed_width(array, "<u8", values_per_row=2)[0::2] ^ _SIGN
    width_bytes = kind.bit_width // 8
    if types.is_floating(kind):
        return _total_order(fixed_width(array, f"<u{width_bytes}"), kind.bit_width)
    if types.is_unsigned_integer(kind):
        return fixed_width(array, f"<u{width_bytes}").astype(np.uint64)
    signed: npt.NDArray[np.int64] = fixed_width(array, f"<i{width_bytes}").astype(np.int64)
    return signed.view(np.uint64) ^ _SIGN


def _total_order(bits: npt.NDArray[Any], width_bits: int) -> Numbers:
    """Return the bits of floats so that they compare by IEEE 754's total order."""
    words = bits.astype(np.uint64)
    sign = np.uint64(1 << (width_bits - 1))
    mask = _WORD >> np.uint64(64 - width_bits)
    return np.where(words & sign, ~words & mask, words | sign)


def encoded(column: Comparable, *, text_bytes_max: int) -> list[bytes | None]:
    """Return the values as bytes that compare as the values do: for few rows, one by one.

    Texts are cut to `text_bytes_max`: different ones may become equal, but never change places.
    """
    nulls = [False] * len(column) if column.is_null is None else column.is_null.tolist()
    values: list[bytes]
    if column.numbers is not None:
        values = [number.to_bytes(8, "big") for number in column.numbers.tolist()]
    else:
        texts = column.texts.to_pylist() if column.texts is not None else []
        values = [(text or b"")[:text_bytes_max] for text in texts]
    return [None if null else value for null, value in zip(nulls, values, strict=True)]
