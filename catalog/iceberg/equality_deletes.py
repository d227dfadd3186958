"""Equality delete files read into positions: which rows of which data files they delete.

A delete applies to the rows of its partition, or of all, that are older than it is. So the deletes
of a partition that compare the same columns become one join: the youngest deletion of each key
against the keys of all its data files, in bounded memory.

Specification: https://iceberg.apache.org/spec/#equality-delete-files
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import CorruptTableError
from catalog.iceberg.keys import as_table_has_it, combined
from catalog.iceberg.parquet_columns import ParquetColumns, Path, open_columns, paths_by_id
from catalog.key_join import delete_schema, matches, row_schema
from catalog.location import Location
from catalog.model import DeleteFile, FileSlice, Inventory
from catalog.storage import Storage

_BATCH_BYTES = 4 << 20
_BATCH_ROWS_MAX = 1 << 16
_BATCH_ROWS_MIN = 1 << 8
_Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class KeySource:
    """What reading the keys of one table takes.

    Attributes:
        storage: where its files are.
        locate: finds a path of the metadata there.
        types: of the columns that keys may be made of, by id, those that were dropped included.
        mapping: field ids by path of names, for files that carry none.
        constants: what columns hold that a data file may lack, by id.
    """

    storage: Storage
    locate: Callable[[str], Location]
    types: Mapping[int, pa.DataType]
    mapping: Mapping[Path, int]
    constants: Callable[[FileSlice], Mapping[int, pa.Scalar]]


@dataclass(frozen=True, slots=True)
class _Join:
    """Data files of one partition and the deletes of one set of columns that apply to them."""

    ids: tuple[int, ...]
    files: dict[str, FileSlice] = field(default_factory=dict)
    deletes: dict[str, DeleteFile] = field(default_factory=dict)


def read_equality(files: Inventory, source: KeySource) -> Mapping[str, list[_Positions]]:
    """Return the positions of the rows that equality deletes drop, by path of the data file.

    Raises:
        CorruptTableError: a file cannot be read, or a delete file lacks one of its columns.
        StorageFullError: there is no room for keys that memory does not hold.
        UnsupportedTableError: a column is stored in a form that cannot be compared.
    """
    found: dict[str, list[_Positions]] = {}
    for join in _joins(files.slices()):
        for path, positions in _dropped(join, source):
            found.setdefault(path, []).append(positions)
    return found


def _joins(slices: Iterable[FileSlice]) -> Iterable[_Join]:
    joins: dict[tuple[str, tuple[int, ...]], _Join] = {}
    for one in slices:
        for delete in one.deletes:
            if delete.equality_ids is not None:
                ids = tuple(sorted(delete.equality_ids))
                join = joins.setdefault((one.partition_key, ids), _Join(ids))
                join.files[one.path] = one
                join.deletes[delete.path] = delete
    return joins.values()


def _dropped(join: _Join, source: KeySource) -> Iterator[tuple[str, _Positions]]:
    paths = list(join.files)
    ages = np.array([one.sequence_number for one in join.files.values()], np.int64)
    for batch, deleted_at in matches(_deletes(join, source), _rows(join, source)):
        numbers = batch.column("file").to_numpy()
        is_dropped = deleted_at > ages[numbers]
        numbers = numbers[is_dropped]
        positions = batch.column("position").to_numpy()[is_dropped]
        order = np.argsort(numbers, kind="stable")
        present, starts = np.unique(numbers[order], return_index=True)
        for number, some in zip(present, np.split(positions[order], starts[1:]), strict=False):
            yield paths[number], some


def _deletes(join: _Join, source: KeySource) -> Iterator[pa.RecordBatch]:
    for delete in join.deletes.values():
        name = f"the delete file {delete.path}"
        location = source.locate(delete.path)
        with source.storage.open_input(location, size_bytes=delete.size_bytes) as opened:
            file = _checked(open_columns(opened, name), delete.row_count)
            for _, keys in _keys(file, join.ids, source, constants=None):
                ages = pa.array(np.full(len(keys), delete.sequence_number))
                yield pa.record_batch([keys, ages], schema=delete_schema(keys.type))


def _rows(join: _Join, source: KeySource) -> Iterator[pa.RecordBatch]:
    for number, one in enumerate(join.files.values()):
        location = source.locate(one.path)
        with source.storage.open_input(location, size_bytes=one.size_bytes) as opened:
            file = _checked(open_columns(opened, one.path), one.row_count)
            for start, keys in _keys(file, join.ids, source, constants=source.constants(one)):
                numbers = pa.array(np.full(len(keys), number, np.int32))
                positions = pa.array(np.arange(start, start + len(keys)))
                yield pa.record_batch([keys, numbers, positions], schema=row_schema(keys.type))


def _checked(file: ParquetColumns, row_count: int) -> ParquetColumns:
    if file.metadata.num_rows != row_count:
        raise CorruptTableError(
            f"{file.name}: the metadata says {row_count} rows,"
            f" the footer of the file {file.metadata.num_rows}"
        )
    return file


def _keys(
    file: ParquetColumns,
    ids: Sequence[int],
    source: KeySource,
    *,
    constants: Mapping[int, pa.Scalar] | None,
) -> Iterator[tuple[int, pa.Array]]:
    """Yield the keys of a file, a batch at a time, each with the position of its first row.

    Args:
        file: a data file, or a delete file.
        ids: the columns of the key.
        source: of the table.
        constants: by id, what the file may lack; what is not among them is null then. None for a
            file that may lack nothing.
    """
    stored = paths_by_id(file.arrow, source.mapping)
    paths = {one: stored[one] for one in ids if one in stored}
    if constants is None and len(paths) < len(ids):
        raise CorruptTableError(f"{file.name} lacks a column of {list(ids)} that it deletes by")
    start = 0
    for batch in _batches(file, list(paths.values())):
        columns = [
            _column(file, batch, path=paths[one], kind=source.types[one])
            if one in paths
            else _constant((constants or {}).get(one), source.types[one], batch.num_rows)
            for one in ids
        ]
        yield start, combined(columns)
        start += batch.num_rows


def _batches(file: ParquetColumns, paths: Sequence[Path]) -> Iterator[pa.RecordBatch]:
    """Yield batches of some columns; just as many rows where the file has none of them."""
    if paths:
        rows = int(_BATCH_BYTES / max(1.0, file.row_bytes(paths)))
        yield from file.batches(paths, rows=max(_BATCH_ROWS_MIN, min(rows, _BATCH_ROWS_MAX)))
        return
    for start in range(0, file.metadata.num_rows, _BATCH_ROWS_MAX):
        count = min(_BATCH_ROWS_MAX, file.metadata.num_rows - start)
        yield pa.RecordBatch.from_arrays([pa.nulls(count)], names=[""])


def _column(
    file: ParquetColumns, batch: pa.RecordBatch, *, path: Path, kind: pa.DataType
) -> pa.Array:
    column = batch.column(path[0])
    for name in path[1:]:
        column = pc.struct_field(column, name)
    return as_table_has_it(column, kind, file=file.name, name=".".join(path))


def _constant(value: pa.Scalar | None, kind: pa.DataType, rows: int) -> pa.Array:
    storage = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    if value is None or not value.is_valid:
        return pa.nulls(rows, storage)
    plain = value.value if isinstance(value, pa.ExtensionScalar) else value
    return pa.repeat(plain, rows)
