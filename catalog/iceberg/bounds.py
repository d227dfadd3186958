"""Least and greatest values of columns out of manifests, a column of all files at a time.

Bounds stand in maps from the id of a column to the single-value serialization of its type. Only
the columns that are asked for are read out of them, and no Python object per file is left.

Specification: https://iceberg.apache.org/spec/#binary-single-value-serialization
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from catalog.iceberg.manifest import Manifest, ManifestReader
from catalog.routing import FileBounds

# Field ids of manifest entries.
_PATH, _NULL_COUNTS, _LOWER, _UPPER = 100, 110, 125, 128
_DECIMAL_BYTES = 16
_LONG_BITS = 64


@dataclass(frozen=True, slots=True)
class BoundsReader:
    """Reads manifests; a function that can be sent to another process.

    Attributes:
        manifests: how manifests are opened.
        columns: ids of the columns whose bounds are read.
    """

    manifests: ManifestReader
    columns: tuple[int, ...] = ()

    def of(self, columns: Sequence[int]) -> BoundsReader:
        """Return the reader of some columns."""
        return replace(self, columns=tuple(columns))

    @property
    def schema(self) -> pa.Schema:
        """What is read of each file: its path, and per column its bounds and null count."""
        return pa.schema(
            [pa.field("path", pa.string())]
            + [
                pa.field(f"{name} {number}", kind)
                for number in range(len(self.columns))
                for name, kind in (
                    ("lower", pa.binary()),
                    ("upper", pa.binary()),
                    ("nulls", pa.int64()),
                )
            ]
        )

    def __call__(self, manifest: Manifest) -> pa.Table:
        """Read one manifest.

        Raises:
            CorruptTableError: it cannot be read as a manifest.
        """
        file = self.manifests.open(manifest.path)
        maps = dict.fromkeys((_NULL_COUNTS, _LOWER, _UPPER), self.columns)
        found = file.columns((_PATH,), picked=maps)
        paths = found[_PATH]
        columns: list[pa.Array] = [pa.array(paths, pa.string())]
        for number in range(len(self.columns)):
            for source, kind in (
                (_LOWER, pa.binary()),
                (_UPPER, pa.binary()),
                (_NULL_COUNTS, pa.int64()),
            ):
                picked = found.get(source)
                values = [None] * len(paths) if picked is None else [one[number] for one in picked]
                columns.append(pa.array(values, kind))
        return pa.table(columns, schema=self.schema)


def decoded(table: pa.Table, number: int, kind: pa.DataType) -> FileBounds:
    """Return the bounds of one column.

    Args:
        table: with the columns of `BoundsReader.schema`.
        number: of the column.
        kind: its type in the table.
    """
    storage = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    ends = (table[f"{name} {number}"].combine_chunks() for name in ("lower", "upper"))
    if kind == pa.uuid():
        # There are writers that compare the halves of identifiers as signed numbers.
        lower = upper = pa.nulls(len(table), storage)
    else:
        lower, upper = (_values(one, storage) for one in ends)
    return FileBounds(lower, upper, table[f"nulls {number}"].combine_chunks())


def _values(raw: pa.BinaryArray, kind: pa.DataType) -> pa.Array:
    """Decode values of a type; null where the bytes are none."""
    if types.is_string(kind) or types.is_binary(kind):
        return raw
    widths = np.asarray(pc.binary_length(raw).fill_null(-1))
    if types.is_fixed_size_binary(kind):
        fits = pa.array(widths == kind.byte_width)
        return pc.if_else(fits, raw, pa.scalar(None, pa.binary())).cast(kind)
    if types.is_decimal(kind):
        return _decimals(raw, widths, kind)
    if types.is_boolean(kind):
        return _words(raw, widths, letter="u", width=1).cast(pa.bool_())
    if types.is_floating(kind):
        values = _words(raw, widths, letter="f", width=kind.bit_width // 8)
        return pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    if kind.bit_width == _LONG_BITS and not types.is_integer(kind):
        # A date that became a timestamp counted days, and has half the bytes.
        raw = pc.if_else(pa.array(widths == _LONG_BITS // 8), raw, pa.scalar(None, raw.type))
        widths = np.asarray(pc.binary_length(raw).fill_null(-1))
    return _words(raw, widths, letter="i", width=kind.bit_width // 8).view(kind)


def _words(
    raw: pa.BinaryArray, widths: npt.NDArray[np.int32], *, letter: str, width: int
) -> pa.Array:
    """Decode numbers; those of four bytes may be from before the column was widened to eight."""
    values, is_known = np.zeros(len(raw), f"<{letter}{width}"), np.zeros(len(raw), np.bool_)
    for each in {min(width, 4), width}:
        rows = np.flatnonzero(widths == each)
        values[rows] = np.frombuffer(_bytes(raw, rows), f"<{letter}{each}")
        is_known[rows] = True
    return pa.array(values, mask=~is_known)


def _decimals(
    raw: pa.BinaryArray, widths: npt.NDArray[np.int32], kind: pa.Decimal128Type
) -> pa.Array:
    """Decode unscaled values in two's complement, the most significant byte first."""
    words = np.zeros((len(raw), _DECIMAL_BYTES), np.uint8)
    is_known = (widths > 0) & (widths <= _DECIMAL_BYTES)
    for width in np.unique(widths[is_known]).tolist():
        rows = np.flatnonzero(widths == width)
        given = np.frombuffer(_bytes(raw, rows), np.uint8).reshape(len(rows), width)
        words[rows] = np.where(given[:, :1] >= 0x80, 0xFF, 0)
        words[rows, :width] = given[:, ::-1]
    valid = pa.array(is_known).buffers()[1]
    data = pa.py_buffer(np.ascontiguousarray(words).tobytes())
    return pa.Array.from_buffers(kind, len(raw), [valid, data])


def _bytes(raw: pa.BinaryArray, rows: npt.NDArray[np.int64]) -> bytes:
    """Return the bytes of some values, one after the other."""
    chosen = raw.take(pa.array(rows))
    _, offsets, data = chosen.buffers()
    bounds = np.frombuffer(offsets, np.int32)[chosen.offset :][: len(chosen) + 1]
    return b"" if data is None else data.to_pybytes()[bounds[0] : bounds[-1]]
