"""Rows out of the pages that may hold a changed key, where a file has an index of its pages.

A row group is read by pages where few of its rows are in question and it is large enough for the
index to pay. Pages of different columns end at different rows: each column gives those of its own
that cover the rows, and of these the rows in question are taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from catalog.storage import Storage
from catalog.table import TableFiles
from compactor.merge.bounds import page_bounds
from compactor.merge.keys import Flags, Rows
from compactor.merge.routing import Probe
from compactor.parquet.footer import Footer
from compactor.parquet.making import CODECS, MadeColumn
from compactor.parquet.pages import Pages, read_pages, some_pages
from compactor.parquet.reading import read_footer
from compactor.rewrite.conversion import is_bytes
from compactor.rewrite.input import decoding
from compactor.rewrite.read import OpenSlice

# Reading an index and a few pages costs about as much as decoding so many rows.
ROWS_MIN = 1 << 16
# More of a row group than this is read at once.
_SHARE_MAX = 0.25
# Describing a column chunk in a footer takes as long as decoding so many rows.
_ROWS_PER_CHUNK = 1000
_PHYSICAL = {"INT32": 1, "INT64": 2, "FLOAT": 4, "DOUBLE": 5, "BYTE_ARRAY": 6}


@dataclass(frozen=True, slots=True)
class PagedRows:
    """Surviving rows of a row group.

    Attributes:
        positions: where they stand in the file.
        rows: the columns that were asked for, in the table's types.
        rows_spared: rows of the row group that were not looked at.
    """

    positions: Rows
    rows: pa.RecordBatch
    rows_spared: int


class PagedFile:
    """The pages of one file; its footer is read again, and once, when pages are first asked for."""

    def __init__(self, table: TableFiles, source: OpenSlice) -> None:
        """Take an open file."""
        self._storage: Storage = table.storage
        self._location = table.locate(source.source.name)
        self._source = source
        self._known: Footer | None = None
        metadata = source.source.metadata
        paths = [metadata.schema.column(at).path for at in range(metadata.num_columns)]
        self._leaves = {path: at for at, path in enumerate(paths) if "." not in path}

    def pays(self, row_group: int) -> bool:
        """Tell whether a row group may be worth reading by pages, before any index is read."""
        metadata = self._source.source.metadata
        chunks = metadata.num_columns * metadata.num_row_groups
        rows = metadata.row_group(row_group).num_rows
        names = self._source.projection.columns
        return (
            rows >= max(ROWS_MIN, chunks * _ROWS_PER_CHUNK)
            and bool(names)
            and not self._source.decimals
            and all(self._is_paged(name, row_group) for name in names)
        )

    def read(
        self, row_group: int, probes: Sequence[tuple[Sequence[int], Probe]]
    ) -> PagedRows | None:
        """Read the rows of a row group that may have a key; None where pages do not pay.

        Args:
            row_group: its number.
            probes: keys, with the places of their columns among those that are read.

        Raises:
            CorruptTableError: an index or a page is damaged.
            AccessDeniedError, StorageError: they cannot be read.
        """
        pages = self._pages(row_group)
        rows = int(np.diff(self._source.starts)[row_group])
        wanted = None if pages is None else self._wanted(pages, rows, probes)
        if pages is None or wanted is None or wanted.mean() > _SHARE_MAX:
            return None
        return self._read(row_group, pages, wanted)

    def _is_paged(self, name: str, row_group: int) -> bool:
        if name not in self._leaves:
            return False
        chunk = self._source.source.metadata.row_group(row_group).column(self._leaves[name])
        kind = self._source.source.file.schema_arrow.field(name).type
        return (
            chunk.has_column_index
            and chunk.has_offset_index
            and chunk.physical_type in _PHYSICAL
            and chunk.compression in CODECS
            and _is_plain(kind)
        )

    @property
    def _footer(self) -> Footer:
        if self._known is None:
            size = self._source.source.stretch.size()
            self._known = read_footer(self._storage, self._location, size)
        return self._known

    def _pages(self, row_group: int) -> Mapping[str, Pages] | None:
        names = self._source.projection.columns
        found = {
            name: read_pages(self._storage, self._footer, row_group, self._leaves[name])
            for name in names
        }
        known = {name: one for name, one in found.items() if one is not None}
        return known if len(known) == len(found) else None

    def _wanted(
        self, pages: Mapping[str, Pages], rows: int, probes: Sequence[tuple[Sequence[int], Probe]]
    ) -> Flags | None:
        """Tell which rows of a row group may have a key, by the bounds of pages."""
        found = np.zeros(rows, np.bool_)
        for places, probe in probes:
            fits = np.ones(rows, np.bool_)
            for number, place in enumerate(places):
                fits &= self._fits(pages, place, (probe, number), rows=rows)
            found |= fits
        return found

    def _fits(
        self, pages: Mapping[str, Pages], place: int, key: tuple[Probe, int], *, rows: int
    ) -> Flags:
        """Tell which rows may have a value of one column of a key."""
        probe, number = key
        column = self._source.projection.outcome[place]
        kind = self._source.projection.target.field(place).type
        if column.source is None or not column.is_by_value:
            return np.ones(rows, np.bool_)
        stored = self._source.source.file.schema_arrow.field(column.source).type
        bounds = page_bounds(pages[column.source], stored, kind)
        if bounds is None:
            return np.ones(rows, np.bool_)
        return np.repeat(
            probe.may_hold_column(number, bounds), np.diff(pages[column.source].first_rows)
        )

    def _read(self, row_group: int, pages: Mapping[str, Pages], wanted: Flags) -> PagedRows:
        start = int(self._source.starts[row_group])
        dropped = self._source.selection.dropped
        first, last = np.searchsorted(dropped, [start, start + len(wanted)])
        spared = int((~wanted).sum())
        wanted[dropped[first:last] - start] = False
        rows = np.flatnonzero(wanted)
        arrays = []
        names = self._source.projection.columns
        for name in names:
            one = pages[name]
            chosen = np.unique(np.searchsorted(one.first_rows, rows, side="right") - 1)
            arrays.append(self._column(row_group, name, one, chosen, rows=rows))
        schema = self._source.source.file.schema_arrow
        fields = [schema.field(name) for name in names]
        batch = pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
        positions = rows + start
        numbers = pa.array(positions) if self._source.projection.needs_positions else None
        projected = self._source.projection.apply(batch, numbers)
        return PagedRows(positions, projected, spared)

    def _column(
        self, row_group: int, name: str, pages: Pages, chosen: Rows, *, rows: Rows
    ) -> pa.Array:
        """Return a column of some rows, all of which are in the chosen pages."""
        source = self._source.source
        kind = source.file.schema_arrow.field(name).type
        if not len(chosen):
            return pa.array([], kind)
        leaf = self._leaves[name]
        chunk = source.metadata.row_group(row_group).column(leaf)
        column = MadeColumn(
            name=name,
            is_nullable=source.metadata.schema.column(leaf).max_definition_level > 0,
            physical_type=_PHYSICAL[chunk.physical_type],
            codec=chunk.compression,
            values=0,
            dictionary_bytes=0,
            data=b"",
        )
        made = some_pages(self._storage, self._footer, pages, chosen, column=column)
        with decoding(source.name):
            options = {"page_checksum_verification": True, "pre_buffer": False}
            table = pq.ParquetFile(pa.BufferReader(made), **options).read(use_threads=False)
            values = _typed(table.column(0).combine_chunks(), kind)
        lengths = pages.first_rows[chosen + 1] - pages.first_rows[chosen]
        before = np.cumsum(lengths) - lengths
        at = np.searchsorted(pages.first_rows[chosen], rows, side="right") - 1
        return values.take(pa.array(before[at] + rows - pages.first_rows[chosen][at]))


def _is_plain(kind: pa.DataType) -> bool:
    """Tell types whose values follow from what is stored without what the footer declares."""
    if isinstance(kind, pa.BaseExtensionType) or types.is_dictionary(kind):
        return False
    if is_bytes(kind):
        return not (types.is_string_view(kind) or types.is_binary_view(kind))
    is_number = types.is_integer(kind) or types.is_float32(kind) or types.is_float64(kind)
    is_time = types.is_temporal(kind) and kind != pa.date64()
    return bool(is_number or (is_time and not types.is_duration(kind)))


def _typed(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return physical values in the type that the file declares."""
    if values.type == kind:
        return values
    if is_bytes(kind):
        return values.cast(kind)
    if kind.bit_width < 32:
        return values.cast(kind, safe=False)
    return values.view(kind)
