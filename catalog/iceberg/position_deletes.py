"""Position delete files and deletion vectors read into selections: which rows are gone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import CorruptTableError
from catalog.iceberg.deletion_vectors import read_vectors
from catalog.iceberg.parquet_columns import ParquetColumns, decoding, open_columns, paths_by_id
from catalog.location import Location
from catalog.model import FileSlice, Inventory, Selection
from catalog.storage import Storage

# Reserved field ids of the two columns, and their names.
_PATH = (2147483546, "file_path")
_POSITION = (2147483545, "pos")
# Rows decoded at a time: bounds the memory of a delete file that covers a whole partition.
_BATCH_ROWS = 1 << 18
_Positions = npt.NDArray[np.int64]


def read_positions(
    files: Inventory, storage: Storage, locate: Callable[[str], Location]
) -> Mapping[str, Selection]:
    """Return the rows that each data file loses; every delete file is read once.

    Raises:
        CorruptTableError: a delete file cannot be read, or names rows that do not exist.
    """
    slices = {one.path: one for one in files.slices() if one.deletes}
    found: dict[str, list[_Positions]] = defaultdict(list)
    vectors = read_vectors(
        (delete for one in slices.values() for delete in one.deletes), storage, locate
    )
    sizes: dict[str, int] = {}
    users: dict[str, list[str]] = defaultdict(list)
    for path, one in slices.items():
        for delete_file in one.deletes:
            if delete_file.path in vectors:
                found[path].append(vectors[delete_file.path])
            elif delete_file.equality_ids is None:
                sizes[delete_file.path] = delete_file.size_bytes
                users[delete_file.path].append(path)
    for delete_path, data_paths in users.items():
        location, size_bytes = locate(delete_path), sizes[delete_path]
        with storage.open_input(location, size_bytes=size_bytes) as source:
            for path, positions in _positions(source, delete_path, data_paths):
                found[path].append(positions)
    return {path: _selection(slices[path], parts) for path, parts in found.items()}


def _selection(file: FileSlice, parts: list[_Positions]) -> Selection:
    selection = Selection.of(np.concatenate(parts))
    if selection.dropped[0] < 0 or selection.dropped[-1] >= file.row_count:
        raise CorruptTableError(
            f"a delete file drops row {selection.dropped[-1]} of {file.path}, "
            f"which has {file.row_count} rows"
        )
    return selection


def _positions(
    source: Any, delete_path: str, data_paths: list[str]
) -> Iterator[tuple[str, _Positions]]:
    """Yield what a delete file says of the wanted data files."""
    wanted = pa.array(data_paths, pa.string())
    file = open_columns(source, f"the delete file {delete_path}")
    columns = [_column(file, *one) for one in (_PATH, _POSITION)]
    batches = file.batches(
        [(name,) for name in columns], rows=_BATCH_ROWS, dictionaries=columns[:1]
    )
    for batch in batches:
        paths, positions = (batch.column(name) for name in columns)
        if paths.null_count or positions.null_count:
            raise CorruptTableError(f"{file.name} has null values")
        with decoding(file.name):
            found = list(_by_file(paths, positions, wanted, data_paths))
        yield from found


def _column(file: ParquetColumns, field_id: int, name: str) -> str:
    """Find a column by its reserved id, or by name where the writer kept no ids."""
    found = paths_by_id(file.arrow, {}).get(field_id)
    if found is None and name not in file.arrow.names:
        raise CorruptTableError(f"{file.name} has no column {name}")
    return name if found is None else found[0]


def _by_file(
    paths: pa.Array, positions: pa.Array, wanted: pa.Array, data_paths: list[str]
) -> Iterator[tuple[str, _Positions]]:
    owners = _owners(paths, wanted)
    is_wanted = owners.is_valid()
    rows = positions.cast(pa.int64()).filter(is_wanted).to_numpy(zero_copy_only=False)
    codes = owners.filter(is_wanted).to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    present, starts = np.unique(codes[order], return_index=True)
    for code, part in zip(present, np.split(rows[order], starts[1:]), strict=False):
        yield data_paths[code], part


def _owners(paths: pa.Array, wanted: pa.Array) -> pa.Array:
    """Number each path as `wanted` does, null for others; repeated paths are looked up once."""
    if not isinstance(paths, pa.DictionaryArray):
        return pc.index_in(paths.cast(pa.string()), value_set=wanted)
    distinct = pc.index_in(paths.dictionary.cast(pa.string()), value_set=wanted)
    return distinct.take(paths.indices)
