"""A sample of the keys of a file group: whole row groups, picked evenly over its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from catalog.layout import SortField
from catalog.model import FileSlice, Inventory
from catalog.table import TableFiles
from compactor.rewrite.cluster.external import put_together
from compactor.rewrite.cluster.row_order import key_schema
from compactor.rewrite.cluster.splitters import taken
from compactor.rewrite.input import row_groups
from compactor.rewrite.read import OpenSlice, SliceReader

# Each takes a request or two, and the decoding of its keys.
_ROW_GROUPS_MAX = 32
SAMPLE_ROWS = 1 << 16


def sample_keys(table: TableFiles, files: Inventory, fields: Sequence[SortField]) -> pa.RecordBatch:
    """Return the key columns of some rows; equal arguments give equal samples.

    Rows stand for the same number of others each, so large files have more of them.

    Raises:
        CatalogError: as reading the files raises it.
    """
    schema = key_schema(table.schema, fields)
    reader = SliceReader(table, {}, schema)
    rows_max = SAMPLE_ROWS // min(_ROW_GROUPS_MAX, max(files.file_count, 1)) + 1
    picked = [
        batch
        for file, places in _picks(files)
        for batch in _read(reader, file, places, rows_max * len(places))
    ]
    return put_together(picked, schema.arrow)


def _picks(files: Inventory) -> Iterator[tuple[FileSlice, list[int]]]:
    """Yield files and the positions of rows in them, as far from each other as can be."""
    ends = np.cumsum(files.files["row_count"].to_numpy())
    total = int(ends[-1]) if len(ends) else 0
    wanted = ((np.arange(_ROW_GROUPS_MAX) + 0.5) / _ROW_GROUPS_MAX * total).astype(np.int64)
    chosen = np.searchsorted(ends, wanted, side="right")
    for number, file in enumerate(files.take(np.unique(chosen)).slices() if total else ()):
        row = np.unique(chosen)[number]
        start = int(ends[row]) - file.row_count
        yield file, sorted(set((wanted[chosen == row] - start).tolist()))


def _read(
    reader: SliceReader, file: FileSlice, places: list[int], rows_max: int
) -> Iterator[pa.RecordBatch]:
    """Yield rows of the row groups that hold the places."""
    with reader.opened(file) as source:
        wanted = _row_groups_at(source, places)
        rows = sum(
            group.num_rows
            for index, group in enumerate(row_groups(source.source.metadata))
            if index in wanted
        )
        step = max(1, rows // rows_max)
        chance = np.random.default_rng(file.row_count)
        for batch in source.batches(wanted):
            starts = np.arange(0, batch.num_rows, step)
            chosen = starts + chance.integers(0, step, len(starts))
            yield taken(batch, chosen[chosen < batch.num_rows])


def _row_groups_at(source: OpenSlice, places: Sequence[int]) -> frozenset[int]:
    ends = np.cumsum([group.num_rows for group in row_groups(source.source.metadata)])
    return frozenset(np.searchsorted(ends, places, side="right").tolist())
