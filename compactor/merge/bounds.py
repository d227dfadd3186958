"""What footers say of the key columns of row groups: the least and the greatest value, and nulls.

A bound that is wrong hides a stored row from its change, and the row would be doubled. So raw
physical values are taken, never what a library made of them, and what leaves a doubt is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from catalog.footer_statistics import decimal_value
from compactor.merge.keys import Flags, Rows, comparable_key
from compactor.parquet.pages import Pages
from compactor.rewrite.cluster.comparable import Comparable
from compactor.rewrite.conversion import convert, is_bytes, stored_type
from compactor.rewrite.projection import Column
from compactor.rewrite.read import OpenSlice
from compactor.rewrite.steps import Fill, Nulls


@dataclass(frozen=True, slots=True)
class ColumnBounds:
    """One column of the row groups of a file.

    Attributes:
        lower: the least value of each, or what is below it.
        upper: the greatest value of each, or what is above it.
        is_known: whether these are known; where they are not, any value may be there.
        has_values: whether a value that is not null may be there.
        has_nulls: whether a null may be there.
    """

    lower: Comparable
    upper: Comparable
    is_known: Flags
    has_values: Flags
    has_nulls: Flags

    def take(self, groups: Rows) -> ColumnBounds:
        """Return those of some row groups."""
        return ColumnBounds(
            self.lower.take(groups),
            self.upper.take(groups),
            self.is_known[groups],
            self.has_values[groups],
            self.has_nulls[groups],
        )


def column_bounds(source: OpenSlice) -> tuple[ColumnBounds, ...]:
    """Return the bounds of each column of a slice that was opened, in the table's types."""
    metadata = source.source.metadata
    paths = [metadata.schema.column(at).path for at in range(metadata.num_columns)]
    # A dot may be part of a name or stand between two.
    leaves = {path: at for at, path in enumerate(paths) if "." not in path}
    return tuple(
        _bounds(source, column, field.type, leaves)
        for field, column in zip(source.projection.target, source.projection.outcome, strict=True)
    )


def page_bounds(pages: Pages, stored: pa.DataType, kind: pa.DataType) -> ColumnBounds | None:
    """Return the bounds of the pages of a column chunk; None when they cannot be understood.

    Args:
        pages: by the page index.
        stored: the column's type in the file.
        kind: its type in the table.
    """
    rows = np.flatnonzero(~pages.is_null)
    stored = stored_type(stored)
    raw = [_physical([ends[row] for row in rows], stored) for ends in (pages.minima, pages.maxima)]
    if raw[0] is None or raw[1] is None:
        return None
    ends = _ends([*raw[0], *raw[1]], stored, kind)
    if ends is None:
        return None
    # Pages of nulls take the place of any other: they have no values.
    place = np.zeros(len(pages.is_null), np.int64)
    place[rows] = np.arange(len(rows))
    has_nulls = np.ones(len(place), np.bool_)
    if pages.null_counts is not None:
        has_nulls = pages.is_null | (pages.null_counts != 0)
    known = pa.concat_arrays([ends, pa.nulls(2, ends.type)])
    lower, upper = (known.take(pa.array(place + start)) for start in (0, len(rows)))
    return ColumnBounds(
        comparable_key(lower), comparable_key(upper), ~pages.is_null, ~pages.is_null, has_nulls
    )


def _physical(values: list[bytes], stored: pa.DataType) -> list[Any] | None:
    """Decode values as they are stored plainly; None for types whose form is not one."""
    if is_bytes(stored):
        return list(values)
    if types.is_floating(stored):
        letter = "f"
    elif types.is_integer(stored) or types.is_temporal(stored):
        letter = "i"
    else:
        return None
    width = max(4, stored.bit_width // 8)
    if width > 8 or (stored.bit_width == 16 and letter == "f"):
        return None
    if any(len(one) != width for one in values):
        return None
    found: list[Any] = np.frombuffer(b"".join(values), f"<{letter}{width}").tolist()
    return found


@dataclass(slots=True)
class _Found:
    """Bounds of one row group; none when `ends` is None."""

    ends: pa.Array | None = None
    has_values: bool = True
    has_nulls: bool = True


def _bounds(
    source: OpenSlice, column: Column, kind: pa.DataType, leaves: dict[str, int]
) -> ColumnBounds:
    metadata = source.source.metadata
    count = metadata.num_row_groups
    found = [_Found() for _ in range(count)]
    if column.source is None:
        found = [_constant(column) for _ in range(count)]
    elif column.is_by_value and column.source in leaves:
        stored = source.source.file.schema_arrow.field(column.source).type
        chunks = (metadata.row_group(at).column(leaves[column.source]) for at in range(count))
        found = [_stated(chunk, stored, kind) for chunk in chunks]
    ends = [one.ends for one in found]
    known = pa.binary() if is_bytes(kind) else stored_type(kind)
    unknown = pa.nulls(2, known)
    both = pa.concat_arrays([unknown, *(unknown if one is None else one for one in ends)])
    return ColumnBounds(
        comparable_key(both.take(pa.array(np.arange(2, len(both), 2), pa.int64()))),
        comparable_key(both.take(pa.array(np.arange(3, len(both), 2), pa.int64()))),
        np.array([one is not None for one in ends], np.bool_),
        np.array([one.has_values for one in found], np.bool_),
        np.array([one.has_nulls for one in found], np.bool_),
    )


def _constant(column: Column) -> _Found:
    """Return the bounds of a column that the file lacks."""
    if isinstance(column.step, Nulls):
        return _Found(has_values=False)
    if not isinstance(column.step, Fill):
        return _Found()
    ends = column.step.apply(pa.nulls(2))
    ends = ends.storage if isinstance(ends, pa.ExtensionArray) else ends
    return _Found(_as_bytes(ends), has_nulls=False)


def _stated(chunk: pq.ColumnChunkMetaData, stored: pa.DataType, kind: pa.DataType) -> _Found:
    statistics = chunk.statistics
    if statistics is None:
        return _Found()
    nulls = statistics.null_count if statistics.has_null_count else None
    found = _Found(has_values=nulls != chunk.num_values, has_nulls=nulls != 0)
    if statistics.has_min_max and found.has_values:
        found.ends = _ends([statistics.min_raw, statistics.max_raw], stored_type(stored), kind)
    return found


def _ends(raw: list[Any], stored: pa.DataType, kind: pa.DataType) -> pa.Array | None:
    """Return two physical values in the table's type; None when they cannot be understood."""
    target = stored_type(kind)
    try:
        ends = _logical(raw, stored)
        if ends is None or is_bytes(target):
            return ends
        return convert(ends, target)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return None


def _logical(raw: list[Any], stored: pa.DataType) -> pa.Array | None:
    if is_bytes(stored):
        # Truncated text need not be UTF-8 any more; it still compares byte by byte.
        return pa.array(raw, pa.binary())
    if types.is_decimal(stored):
        return pa.array([_decimal(decimal_value(one), stored.scale) for one in raw], stored)
    if types.is_floating(stored):
        return None if np.isnan(raw).any() else pa.array(raw, stored)
    if types.is_boolean(stored) or types.is_fixed_size_binary(stored):
        return pa.array(raw, stored)
    if types.is_unsigned_integer(stored):
        return pa.array([one % (1 << stored.bit_width) for one in raw], stored)
    if types.is_integer(stored):
        return pa.array(raw, stored)
    if types.is_temporal(stored) and stored.bit_width in (32, 64):
        whole = pa.int32() if stored.bit_width == 32 else pa.int64()
        return pa.array(raw, whole).view(stored)
    return None


def _decimal(unscaled: int, scale: int) -> Decimal:
    return Decimal((int(unscaled < 0), tuple(map(int, str(abs(unscaled)))), -scale))


def _as_bytes(ends: pa.Array) -> pa.Array:
    return ends.cast(pa.binary()) if is_bytes(ends.type) else ends
