"""An order of rows put to work: the keys that a batch is ordered by, and the frame of a curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.layout import SortField
from catalog.schema import TableSchema
from compactor.clustering import Clustering, Frame, Strategy
from compactor.rewrite.cluster.comparable import (
    Comparable,
    comparable,
    encoded,
    find_leaf,
    is_text,
    leaf_of,
)
from compactor.rewrite.cluster.curves import Cells, cell_bits, hilbert, zorder
from compactor.rewrite.cluster.permutation import Key, Rows, sort_permutation

# Longer texts are cut where they only mark a place: in frames, stamps and bounds.
TEXT_BYTES_MAX = 64
# Stands for nulls in the comparable form of a whole row, below and above all values.
_NULL_LOW, _VALUE, _NULL_HIGH = b"\x00", b"\x01", b"\x02"


class RowOrder:
    """Computes the keys of rows.

    Raises `UnsupportedTableError` when the schema lacks a column or its values have no order.
    """

    def __init__(self, clustering: Clustering, schema: pa.Schema) -> None:
        """Prepare for batches of a schema."""
        self.clustering = clustering
        self.leaves = tuple(find_leaf(schema, field) for field in clustering.fields)

    def keys(self, batch: pa.RecordBatch) -> tuple[Key, ...]:
        """Return what the rows of a batch are ordered by, the most significant key first."""
        fields = self.clustering.fields
        columns = [comparable(leaf_of(batch, field)) for field in fields]
        if self.clustering.strategy.is_curve:
            return (Key(Comparable(self._places(columns), None, None)),)
        return tuple(
            Key(column, field.is_descending, field.is_nulls_first)
            for column, field in zip(columns, fields, strict=True)
        )

    def permutation(self, batch: pa.RecordBatch) -> Rows:
        """Return the rows of a batch in order."""
        return sort_permutation(self.keys(batch))

    def place(self, batch: pa.RecordBatch, row: int) -> bytes:
        """Return the place of a row, in bytes that compare as the places do."""
        keys = self.keys(batch.slice(row, 1))
        return b"".join(map(place_of, keys))

    def _places(self, columns: Sequence[Comparable]) -> Cells:
        cells = [self._cells(*pair) for pair in zip(columns, self._boundaries, strict=True)]
        return hilbert(cells) if self.clustering.strategy is Strategy.HILBERT else zorder(cells)

    def _cells(self, column: Comparable, boundaries: Any) -> Cells:
        """Return the cell of each value; those in use are spread over the whole range."""
        if column.numbers is not None:
            found = np.searchsorted(boundaries, column.numbers, side="right").astype(np.uint64)
        else:
            places = pc.search_sorted(
                boundaries.cast(column.texts.type), column.texts, side="right"
            )
            found = places.fill_null(0).to_numpy()
        found = found + np.uint64(1)
        if column.is_null is not None:
            found[column.is_null] = 0
        bits = cell_bits(len(self.clustering.fields))
        return (found << np.uint64(bits)) // np.uint64(len(boundaries) + 2)

    @cached_property
    def _boundaries(self) -> list[Any]:
        frame = self.clustering.frame or Frame(tuple(() for _ in self.leaves))
        return [
            pa.array(some, pa.large_binary())
            if is_text(leaf.type)
            else np.array([int.from_bytes(one, "big") for one in some], dtype=np.uint64)
            for leaf, some in zip(self.leaves, frame.boundaries, strict=True)
        ]


def place_of(key: Key) -> bytes:
    """Return the first of some values in bytes that compare as its key does."""
    value = encoded(key.column, text_bytes_max=TEXT_BYTES_MAX)[0]
    if value is None:
        return _NULL_LOW if key.is_nulls_first else _NULL_HIGH
    # A text ends with a zero, and zeros in it are escaped: the next key must not run into it.
    if key.column.texts is not None:
        value = value.replace(b"\x00", b"\x00\xff") + b"\x00\x00"
    if key.is_descending:
        value = bytes(255 - byte for byte in value)
    return _VALUE + value


def make_frame(sample: pa.RecordBatch, fields: Sequence[SortField]) -> Frame:
    """Choose the quantiles of each column from a sample of rows."""
    count = (1 << cell_bits(len(fields))) - 2
    return Frame(tuple(_quantiles(comparable(leaf_of(sample, f)), count) for f in fields))


def _quantiles(column: Comparable, count: int) -> tuple[bytes, ...]:
    rows = np.arange(len(column))
    if column.is_null is not None:
        rows = rows[~column.is_null]
    values = column.take(rows)
    if not len(values):
        return ()
    order = sort_permutation([Key(values)])
    picks = order[(np.arange(1, count + 1) * len(order)) // (count + 1)]
    chosen = encoded(values.take(picks), text_bytes_max=TEXT_BYTES_MAX)
    return tuple(dict.fromkeys(value for value in chosen if value is not None))


def key_schema(schema: TableSchema, fields: Sequence[SortField]) -> TableSchema:
    """Return just the top-level columns that hold the keys."""
    names = dict.fromkeys(field.path[0] for field in fields)
    arrow = pa.schema([schema.arrow.field(name) for name in names])
    return replace(schema, arrow=arrow, unstored=frozenset())
