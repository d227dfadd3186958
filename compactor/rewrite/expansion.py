"""How many rows to decode at once, from what a footer admits and from what it hides.

A footer lies by omission: a dictionary and run lengths expand a few kilobytes into gigabytes.
The width of fixed types is known, and plain values are no larger than the pages that hold them.
What remains is a dictionary of long strings: where one could hide, it is read first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import mul

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from compactor.parquet import CODECS, HEADER_BYTES_MAX, DictionaryPage, find_dictionary

# Offset and length to bytes.
Read = Callable[[int, int], bytes]

MIB = 1 << 20
# Decoded size aimed at for one batch: small against a row group, large against the cost per batch.
BATCH_BYTES = 4 * MIB
BATCH_ROWS_MAX = 65_536
# What a batch may become if every value were the longest that its dictionary could hold; below
# this there is no need to look.
_UNSEEN_BYTES_MAX = 64 * MIB
_VARIABLE = "BYTE_ARRAY"
# In-memory bytes of one value: Arrow's decimals take 16 bytes whatever they take in the file.
_VALUE_BYTES = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
_VALUE_BYTES_MAX = 16


def batch_rows(group: pq.RowGroupMetaData, names: Sequence[str], read: Read) -> int:
    """Return the rows of one batch, so that it decodes into about `BATCH_BYTES`.

    Args:
        group: the row group to be read.
        names: the top-level columns to be read.
        read: reads bytes of the file, as many as there are of those wanted.

    Raises:
        CorruptTableError, OSError, pa.ArrowException: a dictionary is not what it should be.
    """
    if not group.num_rows:
        return 1
    columns = column_chunks(group, names)
    row_bytes = sum(map(_admitted_bytes, columns)) / group.num_rows
    rows = _rows_of(row_bytes)
    hiding = [one for one in columns if _has_dictionary(one)]
    # Together they could make a batch too large where none of them could alone.
    times = rows * len(hiding) / group.num_rows
    found = [
        (one, _dictionary(one, read))
        for one in hiding
        if one.total_uncompressed_size * one.num_values * times > _UNSEEN_BYTES_MAX
    ]
    shares = [one.num_values / group.num_rows for one, _ in found]
    pages = [page for _, page in found]
    # First what the values could be by the size of their dictionary, then what they are: of one
    # after the other, the largest first, as long as it matters.
    unseen = [0 if page is None else page.longest_bytes_max for page in pages]
    for at in sorted(range(len(unseen)), key=unseen.__getitem__, reverse=True):
        if not _is_too_large(rows, row_bytes, unseen, shares):
            return rows
        unseen[at] = _longest_value(*found[at], read)
    if not _is_too_large(rows, row_bytes, unseen, shares):
        return rows
    # Hardly a row holds the longest value: twice as much for one where every row does.
    return _rows_of((row_bytes + sum(map(mul, unseen, shares))) / 2)


def _is_too_large(
    rows: int, row_bytes: float, unseen: Sequence[int], shares: Sequence[float]
) -> bool:
    return rows * (row_bytes + sum(map(mul, unseen, shares), 0.0)) > _UNSEEN_BYTES_MAX


def column_chunks(group: pq.RowGroupMetaData, names: Sequence[str]) -> list[pq.ColumnChunkMetaData]:
    """Return the leaf columns of some top-level columns."""
    chunks = [group.column(index) for index in range(group.num_columns)]
    # A name with a dot in it may find one column too many, which does no harm.
    inner = tuple(f"{name}." for name in names)
    wanted = frozenset(names)
    return [
        chunk
        for chunk in chunks
        if chunk.path_in_schema in wanted or chunk.path_in_schema.startswith(inner)
    ]


def _rows_of(row_bytes: float) -> int:
    return max(1, min(BATCH_ROWS_MAX, int(BATCH_BYTES / max(row_bytes, 1.0))))


def _admitted_bytes(column: pq.ColumnChunkMetaData) -> int:
    width = _VALUE_BYTES.get(column.physical_type, _VALUE_BYTES_MAX)
    return max(int(column.total_uncompressed_size), int(column.num_values) * width)


def _has_dictionary(column: pq.ColumnChunkMetaData) -> bool:
    """Tell whether long values may be stored once and stand in many rows."""
    return bool(
        column.physical_type == _VARIABLE
        and any("DICTIONARY" in encoding for encoding in column.encodings)
    )


def _dictionary(column: pq.ColumnChunkMetaData, read: Read) -> DictionaryPage | None:
    offset = first_page(column)
    header = read(offset, min(HEADER_BYTES_MAX, column.total_compressed_size))
    return find_dictionary(header, offset)


def _longest_value(column: pq.ColumnChunkMetaData, page: DictionaryPage | None, read: Read) -> int:
    """Return the length in bytes of the longest value in a dictionary."""
    if page is None or page.entries <= 0:
        return 0
    if column.compression not in CODECS:
        return page.longest_bytes_max
    data = page.as_file(read(page.offset, page.compressed_bytes), column.compression)
    values = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False).read(use_threads=False)
    return int(pc.max(pc.binary_length(values.column(0))).as_py() or 0)


def first_page(column: pq.ColumnChunkMetaData) -> int:
    """Return where the first page of a column chunk begins."""
    offset = int(column.data_page_offset)
    if column.has_dictionary_page and column.dictionary_page_offset:
        return min(offset, int(column.dictionary_page_offset))
    return offset
