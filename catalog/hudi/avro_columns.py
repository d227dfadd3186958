"""Many Avro records decoded at once into Arrow columns: field by field over all records.

Each record has a cursor into one buffer. A field is read for all of them in a few operations on
arrays, and the cursors move on; the rest of a number that takes more bytes, and values of unions
that are not null, are read for those records that have them. So decoding costs some nanoseconds a
value instead of a Python step.

What does not decode within its record raises `ValueError` or `IndexError`.
Specification: https://avro.apache.org/docs/1.12.0/specification/#binary-encoding
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.avro.schema import Schema
from catalog.errors import UnsupportedTableError
from catalog.hudi.schema import arrow_type, is_nullable

_Numbers = npt.NDArray[np.int64]
_Bytes = npt.NDArray[np.uint8]
# Texts up to this many bytes are kept in the view itself.
_INLINE_BYTES = 12
_VARINT_BYTES_MAX = 10
_LEAVES = ("null", "boolean", "int", "long", "float", "double", "string", "bytes", "fixed", "enum")
_TYPES = frozenset((*_LEAVES, "record", "array", "map"))


class Records:
    """The encoded records of a buffer, each with a cursor that moves as fields are read."""

    def __init__(self, buffer: pa.Buffer, at: _Numbers, ends: _Numbers) -> None:
        """Begin at the offsets `at`; each record ends at its offset in `ends`."""
        self._buffer = buffer
        self._data: _Bytes = np.frombuffer(buffer, np.uint8)
        self._at = at
        self._limit = int(ends.max(initial=0))
        self._ends = ends

    def column(self, kind: Schema) -> pa.Array:
        """Read the next field of every record."""
        values, self._at = self._read(kind, self._at)
        return values

    def skip(self, kind: Schema) -> None:
        """Step over the next field of every record."""
        self._at = self._read(kind, self._at)[1]

    def finish(self) -> None:
        """Make sure that every record was read to its end.

        Raises:
            ValueError: one was not.
        """
        if not np.array_equal(self._at, self._ends):
            raise ValueError("a record does not end where its length says")

    def _read(self, kind: Schema, at: _Numbers) -> tuple[pa.Array, _Numbers]:
        if isinstance(kind, list):
            return self._union(kind, at)
        if isinstance(kind, str):
            kind = {"type": kind}
        name = kind["type"]
        if isinstance(name, dict | list):
            return self._read(name, at)
        if name not in _TYPES:
            raise UnsupportedTableError(f"the Avro type {name} is not known")
        read: Callable[[Schema, _Numbers], tuple[pa.Array, _Numbers]] = getattr(self, f"_{name}")
        return read(kind, at)

    def _null(self, _: Schema, at: _Numbers) -> tuple[pa.Array, _Numbers]:
        return pa.nulls(len(at)), at

    def _boolean(self, _: Schema, at: _Numbers) -> tuple[pa.Array, _Numbers]:
        return pa.array(self._data[at] != 0), at + 1

    def _int(self, kind: Schema, at: _Numbers) -> tuple[pa.Array, _Numbers]:
        values, at = self._longs(at)
        narrow = values.astype(np.int32)
        if not np.array_equal(narrow, values):
            raise ValueError("a number is too large")
        return pa.array(narrow).cast(arrow_type(kind)), at

    def _long(self, kind: Schema, at: _Numbers) -> tuple[pa.Array, _Numbers]:
        values, at = self._longs(at)
        return pa.array(values).cast(arrow_type(kind)), at

    def _float(self, _: Schema, at: _Numbers) -> tuple[pa.Array, _Numbers]:
        return pa.array(self._gathered(at, 4).view("<f4")[:, 0]), at + 4

    def _double(self, _: Schema, at: _Numbers) -> tuple[pa.Array, _Numbers]:
        return pa.array(self._gathered(at, 8).view("<f8")[:, 0]), at + 8

    def _string(self, _: Schema, at: _Numbers) -> tuple[pa.Array, _Numbers]:
        starts, lengths, at = self._extents(at)
        values = self._texts(starts, lengths, pa.string_view()).cast(pa.string())
        values.validate(full=True)
        return values, at

    def _bytes(self, kind: Schema, at: _Numbers) -> tuple[pa.Array, _Numbers]:
        starts, lengths, at = self._extents(at)
        if kind.get("logicalType") == "decimal":
            return self._decimals(kind, starts, lengths), at
        return self._texts(starts, lengths, pa.binary_view()).cast(pa.binary()), at

    def _fixed(self, kind: Schema, at: _Numbers) -> tuple[pa.Array, _Numbers]:
        size = int(kind["size"])
        lengths = np.full(len(at), size, np.int64)
        self._require_within(at + size)
        if kind.get("logicalType") == "decimal":
            return self._decimals(kind, at, lengths), at + size
        data = pa.py_buffer(np.ascontiguousarray(self._gathered(at, size)))
        return pa.Array.from_buffers(pa.binary(size), len(at), [None, data]), at + size

    def _enum(self, kind: Schema, at: _Numbers) -> tuple[pa.Array, _Numbers]:
        numbers, at = self._longs(at)
        return pa.array(kind["symbols"], pa.string()).take(pa.array(numbers)), at

    def _record(self, kind: Schema, at: _Numbers) -> tuple[pa.Array, _Numbers]:
        columns = []
        for field in kind["fields"]:
            values, at = self._read(field["type"], at)
            columns.append(values)
        fields = list(arrow_type(kind).fields)
        if not fields:
            return pa.array([{}] * len(at), pa.struct([])), at
        return pa.StructArray.from_arrays(columns, fields=fields), at

    def _array(self, kind: Schema, at: _Numbers) -> tuple[pa.Array, _Numbers]:
        item_type = arrow_type(kind).value_field
        items, offsets, at = self._items((kind["items"],), (item_type.type,), at)
        return pa.ListArray.from_arrays(offsets, items[0], type=arrow_type(kind)), at

    def _map(self, kind: Schema, at: _Numbers) -> tuple[pa.Array, _Numbers]:
        found = arrow_type(kind)
        kinds = ("string", kind["values"])
        (keys, values), offsets, at = self._items(kinds, (found.key_type, found.item_type), at)
        return pa.MapArray.from_arrays(offsets, keys, values, type=found), at

    def _union(self, kinds: Schema, at: _Numbers) -> tuple[pa.Array, _Numbers]:
        branches, at = self._longs(at)
        if ((branches < 0) | (branches >= len(kinds))).any():
            raise ValueError("a union has no such branch")
        value = next(number for number, kind in enumerate(kinds) if kind != "null")
        found = arrow_type(kinds)
        has_value = branches == value
        if has_value.all():
            return self._read(kinds[value], at)
        rows = np.flatnonzero(has_value)
        values, at[rows] = self._read(kinds[value], at[rows])
        places = np.zeros(len(at), np.int64)
        places[rows] = np.arange(len(rows))
        if not is_nullable(kinds) or not len(rows):
            return pa.nulls(len(at), found), at
        return values.take(pa.array(places, mask=~has_value)), at

    def _items(
        self, kinds: tuple[Schema, ...], types: tuple[pa.DataType, ...], at: _Numbers
    ) -> tuple[list[pa.Array], pa.Array, _Numbers]:
        """Read the items of arrays, or keys and values of maps, one of each record at a time."""
        counts = np.zeros(len(at), np.int64)
        owners: list[_Numbers] = []
        parts: list[list[pa.Array]] = [[pa.array([], one)] for one in types]
        left, at = self._item_run(np.zeros(len(at), np.int64), at.copy())
        while (rows := np.flatnonzero(left)).size:
            inner = at[rows]
            for kind, found in zip(kinds, parts, strict=True):
                values, inner = self._read(kind, inner)
                found.append(values)
            at[rows] = inner
            owners.append(rows)
            counts[rows] += 1
            left[rows] -= 1
            # A run that ends is followed by another one, or by an empty one.
            ended = rows[left[rows] == 0]
            left[ended], at[ended] = self._item_run(left[ended], at[ended])
        order = np.argsort(np.concatenate([np.empty(0, np.int64), *owners]), kind="stable")
        columns = [pa.concat_arrays(found).take(pa.array(order)) for found in parts]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        return columns, pa.array(offsets, pa.int32()), at

    def _item_run(self, left: _Numbers, at: _Numbers) -> tuple[_Numbers, _Numbers]:
        counts, at = self._longs(at)
        sized = np.flatnonzero(counts < 0)
        if sized.size:
            at[sized] = self._longs(at[sized])[1]
        counts = np.abs(counts)
        if (counts > self._limit).any():
            raise ValueError("a list ends outside of its record")
        return left + counts, at

    def _longs(self, at: _Numbers) -> tuple[_Numbers, _Numbers]:
        """Read numbers of variable length."""
        first = self._data[at]
        at = at + 1
        values = (first & 0x7F).astype(np.uint64)
        rows = np.flatnonzero(first > 0x7F)
        for shift in range(7, 7 * _VARINT_BYTES_MAX, 7):
            if not rows.size:
                break
            byte = self._data[at[rows]]
            at[rows] += 1
            values[rows] |= (byte & 0x7F).astype(np.uint64) << np.uint64(shift)
            rows = rows[byte > 0x7F]
        if rows.size:
            raise ValueError("a number is too long")
        signed = (values >> np.uint64(1)).astype(np.int64) ^ -(values & np.uint64(1)).astype(
            np.int64
        )
        return signed, at

    def _extents(self, at: _Numbers) -> tuple[_Numbers, _Numbers, _Numbers]:
        """Return where values begin that are preceded by their length, and their lengths."""
        lengths, starts = self._longs(at)
        if (lengths < 0).any():
            raise ValueError("a value has a negative length")
        ends = starts + lengths
        self._require_within(ends)
        return starts, lengths, ends

    def _require_within(self, ends: _Numbers) -> None:
        if ends.size and int(ends.max()) > self._limit:
            raise ValueError("a value ends outside of its record")

    def _gathered(self, at: _Numbers, width: int) -> _Bytes:
        """Return this many bytes of each record, as rows."""
        found: _Bytes = self._data[at[:, None] + np.arange(width)]
        return found

    def _texts(self, starts: _Numbers, lengths: _Numbers, kind: pa.DataType) -> pa.Array:
        """Return values where they lie; short ones are copied."""
        views = np.zeros((len(starts), 4), np.int32)
        views[:, 0] = lengths
        padded = np.minimum(starts[:, None] + np.arange(_INLINE_BYTES), len(self._data) - 1)
        inline = self._data[padded] if len(self._data) else np.zeros((len(starts), 12), np.uint8)
        inline[np.arange(_INLINE_BYTES) >= lengths[:, None]] = 0
        views[:, 1:] = inline.view(np.int32)
        long = np.flatnonzero(lengths > _INLINE_BYTES)
        views[long, 2] = 0
        views[long, 3] = starts[long]
        buffers = [None, pa.py_buffer(views), self._buffer]
        return pa.Array.from_buffers(kind, len(starts), buffers)

    def _decimals(self, kind: Schema, starts: _Numbers, lengths: _Numbers) -> pa.Array:
        """Return numbers that are kept as bytes, high ones first, in two's complement."""
        if lengths.size and (lengths.min() < 1 or lengths.max() > 16):
            raise ValueError("a decimal has a length that none has")
        places = starts[:, None] + lengths[:, None] - 1 - np.arange(16)
        is_inside = places >= starts[:, None]
        digits = self._data[np.maximum(places, starts[:, None])]
        sign = np.where(self._data[starts] > 0x7F, 0xFF, 0).astype(np.uint8)
        digits = np.ascontiguousarray(np.where(is_inside, digits, sign[:, None]))
        return pa.Array.from_buffers(arrow_type(kind), len(starts), [None, pa.py_buffer(digits)])


def promoted(values: pa.Array, target: pa.DataType, name: str) -> pa.Array:
    """Return values as the type that a column has by now.

    Raises:
        UnsupportedTableError: the change of the type is not one that is known to keep values.
    """
    if values.type.equals(target):
        return values
    if pa.types.is_null(values.type):
        return pa.nulls(len(values), target)
    if (str(values.type), str(target)) in _PROMOTIONS or _is_wider_decimal(values.type, target):
        # Large integers become the floats next to them.
        return pc.cast(values, target, safe=not pa.types.is_floating(target))
    if pa.types.is_nested(target) and type(values.type) is type(target):
        return _promoted_nested(values, target, name)
    raise UnsupportedTableError(
        f"the column {name} is {values.type} in a log and {target} in the table"
    )


_PROMOTIONS = frozenset(
    (
        ("int32", "int64"),
        ("int32", "double"),
        ("int64", "double"),
        ("int32", "float"),
        ("int64", "float"),
        ("float", "double"),
        ("string", "binary"),
        ("binary", "string"),
        ("timestamp[ms, tz=UTC]", "timestamp[us, tz=UTC]"),
        ("timestamp[ms]", "timestamp[us]"),
    )
)


def _is_wider_decimal(kind: pa.DataType, target: pa.DataType) -> bool:
    return (
        isinstance(kind, pa.Decimal128Type)
        and isinstance(target, pa.Decimal128Type)
        and kind.scale <= target.scale
        and kind.precision - kind.scale <= target.precision - target.scale
    )


def _promoted_nested(values: pa.Array, target: pa.DataType, name: str) -> pa.Array:
    if isinstance(target, pa.StructType):
        held = {field.name for field in values.type.fields}
        children = [
            promoted(pc.struct_field(values, field.name), field.type, f"{name}.{field.name}")
            if field.name in held
            else pa.nulls(len(values), field.type)
            for field in target.fields
        ]
        return pa.StructArray.from_arrays(
            children, fields=list(target.fields), mask=values.is_null()
        )
    if isinstance(target, pa.MapType):
        keys = promoted(values.keys, target.key_type, f"{name}.key")
        items = promoted(values.items, target.item_type, f"{name}.value")
        return pa.MapArray.from_arrays(
            values.offsets, keys, items, type=target, mask=values.is_null()
        )
    items = promoted(values.values, target.value_type, f"{name}.element")
    return pa.ListArray.from_arrays(values.offsets, items, type=target, mask=values.is_null())
