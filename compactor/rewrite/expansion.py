"""How many rows to decode at once, from what a footer admits and from what it hides.

A footer lies by omission: a dictionary and run lengths expand a few kilobytes into gigabytes.
The width of fixed types is known, and plain values are no larger than the pages that hold them.
What remains is a dictionary of long strings: where one could hide, it is read first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import types

MIB = 1 << 20
# Decoded size aimed at for one batch: small against a row group, large against the cost per batch.
BATCH_BYTES = 8 * MIB
BATCH_ROWS_MAX = 65_536
# What a batch may become if every value were the longest that its dictionary could hold; below
# this there is no need to look.
_UNSEEN_BYTES_MAX = 64 * MIB
_VARIABLE = "BYTE_ARRAY"
# In-memory bytes of one value: Arrow's decimals take 16 bytes whatever they take in the file.
_VALUE_BYTES = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
_VALUE_BYTES_MAX = 16


def batch_rows(
    file: pq.ParquetFile,
    row_group: int,
    names: Sequence[str],
    *,
    dictionaries: Callable[[Sequence[str]], pq.ParquetFile],
) -> int:
    """Return the rows of one batch, so that it decodes into about `BATCH_BYTES`.

    Args:
        file: the file.
        row_group: index of the row group to be read.
        names: the top-level columns to be read.
        dictionaries: opens the file with the given leaf columns left as dictionaries.
    """
    group = file.metadata.row_group(row_group)
    if not group.num_rows:
        return 1
    columns = column_chunks(group, names)
    row_bytes = sum(map(_admitted_bytes, columns)) / group.num_rows
    rows = _rows_of(row_bytes)
    suspects = [column for column in columns if _could_expand(column, rows)]
    if suspects:
        paths = [column.path_in_schema for column in suspects]
        longest = _longest_values(dictionaries(paths), row_group, paths)
        row_bytes += sum(
            value_bytes * column.num_values / group.num_rows
            for value_bytes, column in zip(longest, suspects, strict=True)
        )
        rows = _rows_of(row_bytes) if rows * row_bytes > _UNSEEN_BYTES_MAX else rows
    return rows


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


def _could_expand(column: pq.ColumnChunkMetaData, rows: int) -> bool:
    """Tell whether the longest dictionary entry there can be would make a batch too large."""
    return bool(
        column.physical_type == _VARIABLE
        and any("DICTIONARY" in encoding for encoding in column.encodings)
        and column.total_uncompressed_size * rows > _UNSEEN_BYTES_MAX
    )


def _longest_values(file: pq.ParquetFile, row_group: int, names: Sequence[str]) -> list[int]:
    """Return the length in bytes of the longest value in each column's dictionary."""
    batches = file.iter_batches(
        batch_size=1, row_groups=[row_group], columns=list(names), use_threads=False
    )
    first = next(batches, None)
    if first is None:
        return [0] * len(names)
    found = [max(_dictionary_lengths(column), default=0) for column in first.columns]
    # The columns come by their top-level field: take the worst of all for each of its leaves.
    return [max(found)] * len(names)


def _dictionary_lengths(array: pa.Array) -> Iterator[int]:
    if types.is_dictionary(array.type):
        yield pc.max(pc.binary_length(array.dictionary)).as_py() or 0
    elif types.is_struct(array.type):
        for index in range(array.type.num_fields):
            yield from _dictionary_lengths(array.field(index))
    elif types.is_map(array.type):
        yield from _dictionary_lengths(array.keys)
        yield from _dictionary_lengths(array.items)
    elif types.is_list(array.type) or types.is_large_list(array.type):
        yield from _dictionary_lengths(array.values)
