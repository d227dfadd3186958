"""Many small tables of files put together in little more memory than the result takes.

Paths are most of it. They are collected in one buffer that grows in place: chunks that are put
together at the end would stand in memory twice, and allocators keep what chunks leave behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from catalog.delta.paths import string_parts
from catalog.errors import UnsupportedTableError

_PATH = "path"
_GROWTH = 1.25
_BYTES_MIN = 1 << 20
_BYTES_MAX = (1 << 31) - 1


def gather(tables: Iterable[pa.Table], schema: pa.Schema) -> pa.Table:
    """Return all rows in one table whose columns are in one piece each.

    Raises:
        UnsupportedTableError: the paths together take more than Arrow's 2 GiB.
    """
    paths = _Texts()
    rest = list(_without_paths(tables, paths))
    names = [name for name in schema.names if name != _PATH]
    whole = pa.concat_tables([schema.empty_table().select(names), *rest]).unify_dictionaries()
    del rest
    columns = {name: in_one_piece(whole[name]) for name in names}
    del whole
    columns[_PATH] = paths.finish()
    return pa.table([columns[name] for name in schema.names], schema=schema)


def in_one_piece(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array, without a copy where it is one; Arrow itself copies."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _without_paths(tables: Iterable[pa.Table], paths: _Texts) -> Iterator[pa.Table]:
    for table in tables:
        for chunk in table[_PATH].chunks:
            paths.append(chunk)
        yield table.drop_columns([_PATH])


class _Texts:
    """A column of texts that grows."""

    def __init__(self) -> None:
        self._data = np.empty(0, np.uint8)
        self._used_bytes = 0
        self._ends = [np.zeros(1, np.int32)]

    def append(self, texts: pa.StringArray) -> None:
        data, offsets = string_parts(texts)
        end_bytes = self._used_bytes + len(data)
        if end_bytes > _BYTES_MAX:
            raise UnsupportedTableError(
                "the paths of the table's files take more than 2 GiB",
                hint="compact it partition by partition with the engine that wrote it",
            )
        if end_bytes > len(self._data):
            self._resize(int(max(end_bytes * _GROWTH, _BYTES_MIN)))
        self._data[self._used_bytes : end_bytes] = data
        self._ends.append((offsets[1:] + self._used_bytes).astype(np.int32))
        self._used_bytes = end_bytes

    def finish(self) -> pa.StringArray:
        self._resize(self._used_bytes)
        offsets = np.concatenate(self._ends)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(self._data)]
        return pa.Array.from_buffers(pa.string(), len(offsets) - 1, buffers)

    def _resize(self, size_bytes: int) -> None:
        # Nobody else has seen the array: it may move.
        self._data.resize(size_bytes, refcheck=False)
