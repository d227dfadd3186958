"""Position delete files read into selections: which rows of which data files are gone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.errors import CorruptTableError
from catalog.location import Location
from catalog.model import FileSlice, Inventory, Selection
from catalog.storage import Storage

# Reserved field ids of the two columns, and their names.
_PATH = (2147483546, "file_path")
_POSITION = (2147483545, "pos")
# Rows decoded at a time: bounds the memory of a delete file that covers a whole partition.
_BATCH_ROWS = 1 << 18
_Positions = npt.NDArray[np.int64]


def read_selections(
    files: Inventory, storage: Storage, locate: Callable[[str], Location]
) -> Mapping[str, Selection]:
    """Return the rows that each data file loses; every delete file is read once.

    Raises:
        CorruptTableError: a delete file cannot be read, or names rows that do not exist.
    """
    slices = {one.path: one for one in files.slices() if one.deletes}
    sizes = {file.path: file.size_bytes for one in slices.values() for file in one.deletes}
    users: dict[str, list[str]] = defaultdict(list)
    for path, one in slices.items():
        for delete_file in one.deletes:
            users[delete_file.path].append(path)
    found: dict[str, list[_Positions]] = defaultdict(list)
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
    try:
        metadata = pq.read_metadata(source)
        columns = [_column(metadata, delete_path, *one) for one in (_PATH, _POSITION)]
        file = pq.ParquetFile(
            source,
            metadata=metadata,
            read_dictionary=columns[:1],
            page_checksum_verification=True,
        )
        rows_missing = metadata.num_rows
        for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
            rows_missing -= batch.num_rows
            paths, positions = (batch.column(name) for name in columns)
            if paths.null_count or positions.null_count:
                raise CorruptTableError(f"the delete file {delete_path} has null values")
            yield from _by_file(paths, positions, wanted, data_paths)
        if rows_missing:
            # A page whose header is damaged is passed over without a word.
            raise CorruptTableError(
                f"{rows_missing} rows of the delete file {delete_path} are gone"
            )
    except pa.ArrowMemoryError:
        raise  # it says nothing about the file
    except (pa.ArrowException, OSError) as fault:
        raise CorruptTableError(f"the delete file {delete_path} cannot be read: {fault}") from fault


def _column(metadata: pq.FileMetaData, delete_path: str, field_id: int, name: str) -> str:
    """Find a column by its reserved id, or by name where the writer kept no ids."""
    schema = metadata.schema.to_arrow_schema()
    for field in schema:
        if (field.metadata or {}).get(b"PARQUET:field_id") == str(field_id).encode():
            return str(field.name)
    if name not in schema.names:
        raise CorruptTableError(f"the delete file {delete_path} has no column {name}")
    return name


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
