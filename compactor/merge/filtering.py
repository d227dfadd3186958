"""Which row groups can hold a changed key, by the Bloom filters of the key columns.

A filter is asked for the keys that the bounds of a row group let through, while they are few: many
keys always find a row group that seems to hold one, and filters are larger than bounds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from catalog.storage import ByteRange
from catalog.table import TableFiles
from compactor.merge.keys import Keys, Rows
from compactor.parquet.bloom import VALUE_BYTES_MAX, BloomFilter, Hashes, hash_fixed, hash_spans
from compactor.rewrite.cluster.comparable import Comparable
from compactor.rewrite.conversion import is_bytes, stored_type
from compactor.rewrite.read import OpenSlice

# The filter of a row group of a million rows has a megabyte or two; ten keys out of a thousand
# pass one by mistake.
KEYS_MAX = 1000
_SIGN = np.uint64(1 << 63)
_WIDTHS = {"INT32": np.int32, "INT64": np.int64}


class FilterProbe:
    """Keys to be looked for in filters."""

    def __init__(self, table: TableFiles, keys: Keys, kinds: Sequence[pa.DataType]) -> None:
        """Prepare to look; `kinds` are the types of the key columns."""
        self._table = table
        self._keys = keys
        self._kinds = kinds

    def may_hold(self, source: OpenSlice, columns: Sequence[int], group: int, rows: Rows) -> bool:
        """Tell whether a row group may hold one of some keys.

        Args:
            source: the file.
            columns: places of the key columns among those that are read.
            group: the row group.
            rows: the keys in question.

        Raises:
            AccessDeniedError, StorageError: a filter cannot be read.
            CorruptTableError: a filter is none.
        """
        if len(rows) > KEYS_MAX:
            return True
        for place, column, kind in zip(columns, self._keys.columns, self._kinds, strict=True):
            chunk = _filtered_chunk(source, place, group, kind)
            if chunk is None:
                continue
            hashes = _hashes(column.take(rows), kind, chunk.physical_type)
            if hashes is not None:
                rows = rows[self._read(source, chunk).may_hold(hashes)]
            if not len(rows):
                return False
        return True

    def _read(self, source: OpenSlice, chunk: pq.ColumnChunkMetaData) -> BloomFilter:
        name = source.source.name
        wanted = ByteRange(chunk.bloom_filter_offset, chunk.bloom_filter_length)
        (data,) = self._table.storage.read_ranges(self._table.locate(name), [wanted])
        return BloomFilter(bytes(data), name=name)


def _filtered_chunk(
    source: OpenSlice, place: int, group: int, kind: pa.DataType
) -> pq.ColumnChunkMetaData | None:
    """Return the chunk of a key column if a filter tells what values of the table's type it has."""
    column = source.projection.outcome[place]
    if column.source is None or not column.is_by_value:
        return None
    stored = stored_type(source.source.file.schema_arrow.field(column.source).type)
    target = stored_type(kind)
    if stored != target and not (is_bytes(stored) and is_bytes(target)):
        return None
    metadata = source.source.metadata
    paths = [metadata.schema.column(at).path for at in range(metadata.num_columns)]
    if "." in column.source or column.source not in paths:
        return None
    chunk = metadata.row_group(group).column(paths.index(column.source))
    return chunk if chunk.bloom_filter_offset and chunk.bloom_filter_length else None


def _hashes(column: Comparable, kind: pa.DataType, physical_type: str) -> Hashes | None:
    """Return the hashes of values as a file stores them; None if they have no single form."""
    if column.is_null is not None and column.is_null.any():
        return None
    if column.numbers is not None:
        if physical_type not in _WIDTHS or not _is_whole(kind):
            return None
        is_unsigned = types.is_unsigned_integer(stored_type(kind))
        numbers = column.numbers if is_unsigned else column.numbers ^ _SIGN
        plain = np.ascontiguousarray(numbers.view(np.int64).astype(_WIDTHS[physical_type]))
        return hash_fixed(plain.view(np.uint8).reshape(len(plain), -1))
    if types.is_decimal(stored_type(kind)):
        return None
    texts = column.texts.cast(pa.large_binary())
    if not len(texts):
        return None
    _, offsets_buffer, data_buffer = texts.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[texts.offset :][: len(texts) + 1]
    if np.diff(offsets).max() > VALUE_BYTES_MAX:
        return None
    data = np.frombuffer(data_buffer or b"", np.uint8)
    return hash_spans(data[offsets[0] : offsets[-1]], offsets - offsets[0])


def _is_whole(kind: pa.DataType) -> bool:
    """Tell types whose values are stored as the numbers that they compare by."""
    kind = stored_type(kind)
    return bool(types.is_integer(kind) or types.is_temporal(kind))
