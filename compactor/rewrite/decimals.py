"""Decimals of a row group read as integers, beside the other columns of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from compactor.parquet import DecimalChunk, as_integer_file, bytes_of
from compactor.rewrite.expansion import first_page
from compactor.rewrite.stretch import StretchFile

# Below this the file of integers costs more than it saves.
_ROWS_MIN = 16_384
# It is made in memory, beside what of the row group is held.
_STORED_BYTES_MAX = 8 << 20


def integer_file(
    stretch: StretchFile, metadata: pq.FileMetaData, row_group: int, names: Collection[str]
) -> tuple[frozenset[str], pq.ParquetFile] | None:
    """Return a file of those decimals that can be read as integers, and their names.

    Args:
        stretch: the file that they are in.
        metadata: its footer.
        row_group: number of the row group.
        names: of columns at the top level that are decimals of at most 18 digits.

    Raises:
        CatalogError, OSError: the file cannot be read.
    """
    group = metadata.row_group(row_group)
    chunks = {
        leaf: chunk
        for leaf, chunk in enumerate(map(group.column, range(group.num_columns)))
        if chunk.path_in_schema in names
    }
    stored_bytes = sum(int(chunk.total_compressed_size) for chunk in chunks.values())
    # A name with a dot in it may be that of two columns.
    is_one_each = len(chunks) == len(names)
    if group.num_rows < _ROWS_MIN or stored_bytes > _STORED_BYTES_MAX or not is_one_each:
        return None
    found, data = as_integer_file(
        [_chunk(stretch, metadata, leaf, chunk) for leaf, chunk in chunks.items()], group.num_rows
    )
    if not found:
        return None
    file = pa.BufferReader(data)
    return found, pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True)


def _chunk(
    stretch: StretchFile, metadata: pq.FileMetaData, leaf: int, chunk: pq.ColumnChunkMetaData
) -> DecimalChunk:
    column = metadata.schema.column(leaf)
    stretch.seek(first_page(chunk))
    return DecimalChunk(
        name=chunk.path_in_schema,
        is_nullable=column.max_definition_level > 0,
        stored=chunk.physical_type,
        value_bytes=column.length,
        codec=chunk.compression,
        values=chunk.num_values,
        data=bytes_of(stretch.read_buffer(chunk.total_compressed_size)),
    )


def side_by_side(sides: Sequence[Iterator[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """Yield the columns of several readers of the same rows as one batch after the other."""
    waiting = [next(side, None) for side in sides]
    while all(waiting):
        rows = min(batch.num_rows for batch in waiting if batch)
        found = [_joined([batch.slice(0, rows) for batch in waiting if batch])]
        waiting = [
            batch.slice(rows) if batch and batch.num_rows > rows else None for batch in waiting
        ]
        # Whoever takes a batch may let go of it before the next one is decoded.
        yield found.pop()
        waiting = [batch or next(side, None) for batch, side in zip(waiting, sides, strict=True)]


def _joined(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    fields = [field for batch in batches for field in batch.schema]
    columns = [column for batch in batches for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))
