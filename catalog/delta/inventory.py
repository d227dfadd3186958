"""The files of a version as the inventory that every format has; row counts that the log lacks.

A deletion vector is a delete file with one target.  Its path is its identity: kind, place and
offset, which is all that reading it takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.delta.deletion_vectors import DeletionVector
from catalog.delta.file_columns import partition_name
from catalog.delta.gathering import in_one_piece
from catalog.delta.partition import Partition, PartitionColumn
from catalog.delta.paths import Paths, string_parts
from catalog.errors import CorruptTableError
from catalog.location import Location
from catalog.model import DATA_FILES, DELETE_FILES, DeleteFile, Inventory
from catalog.storage import Storage
from catalog.table import MapFunction

_FOOTERS_PER_TASK = 256
_SHARE_ROWS = 64 << 10
_SHARES = 16
_Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Assembly:
    """What making the inventory of one version takes.

    Attributes:
        storage: where its files are, for those whose rows the log does not count.
        paths: where its files may lie.
        partitions: its partition columns.
    """

    storage: Storage
    paths: Paths
    partitions: tuple[PartitionColumn, ...]

    def inventory(self, files: pa.Table, map_function: MapFunction) -> Inventory:
        """Make the inventory of live files.

        Raises:
            CorruptTableError: a file is listed twice, or its rows cannot be counted.
            LocationError: a file lies outside of the table's prefixes.
        """
        paths = in_one_piece(files["path"])
        self.paths.confine(paths)
        _refuse_twice(paths)
        keys, labels = self._partitions(files)
        vectors = np.flatnonzero(files["vector"].is_valid().to_numpy())
        columns = {
            **{name: files[name] for name in ("path", "size_bytes", "first_row_id", "row_version")},
            "row_count": self._row_counts(files, map_function),
            "is_clustered": files["is_clustered"],
            "partition_key": keys,
            "partition": labels,
            "sequence_number": pc.fill_null(files["modified_ms"], 0),
            "written_at_ms": files["modified_ms"],
            "deletes": _lists(vectors, files.num_rows),
        }
        return Inventory(
            pa.table([columns[name] for name in DATA_FILES.names], schema=DATA_FILES),
            _delete_files(files.take(pa.array(vectors))),
        )

    def _partitions(self, files: pa.Table) -> tuple[pa.DictionaryArray, pa.DictionaryArray]:
        """Return key and label of each file; made once for each combination of values."""
        names = (partition_name(at) for at in range(len(self.partitions)))
        columns = [in_one_piece(files[name]) for name in names]
        is_foreign = self.paths.is_foreign(in_one_piece(files["path"]))
        codes, first = _combinations(
            [*(_codes(column) for column in columns), is_foreign.astype(np.int64)]
        )
        rows = pa.array(first)
        texts = [column.take(rows).cast(pa.string()).to_pylist() for column in columns]
        partitions = [
            Partition(tuple(text[at] for text in texts), is_foreign=bool(is_foreign[row]))
            for at, row in enumerate(first)
        ]
        indices = pa.array(codes.astype(np.int32))
        keys = [partition.key for partition in partitions]
        labels = [partition.label(self.partitions) for partition in partitions]
        return (
            pa.DictionaryArray.from_arrays(indices, pa.array(keys, pa.string())),
            pa.DictionaryArray.from_arrays(indices, pa.array(labels, pa.string())),
        )

    def _row_counts(self, files: pa.Table, map_function: MapFunction) -> pa.ChunkedArray:
        counts = files["row_count"]
        if not counts.null_count:
            return counts
        is_missing = counts.is_null()
        missing = files.filter(is_missing)
        paths, sizes = missing["path"].to_pylist(), missing["size_bytes"].to_pylist()
        pairs = list(zip(paths, sizes, strict=True))
        tasks = [
            pairs[start : start + _FOOTERS_PER_TASK]
            for start in range(0, len(pairs), _FOOTERS_PER_TASK)
        ]
        found = [count for some in map_function(RowCounter(self.storage), tasks) for count in some]
        return pc.replace_with_mask(
            counts.combine_chunks(), is_missing.combine_chunks(), pa.array(found, pa.int64())
        )


@dataclass(frozen=True, slots=True)
class RowCounter:
    """Counts the rows of files by their footers; a function that other processes can run."""

    storage: Storage

    def __call__(self, files: Sequence[tuple[str, int]]) -> list[int]:
        """Return the number of rows of each file, given by path and size.

        Raises:
            ObjectNotFoundError: one does not exist.
            CorruptTableError: one is no Parquet file.
        """
        return [self._count(path, size_bytes) for path, size_bytes in files]

    def _count(self, path: str, size_bytes: int) -> int:
        with self.storage.open_input(Location.parse(path), size_bytes=size_bytes) as source:
            try:
                return int(pq.read_metadata(source).num_rows)
            except (pa.ArrowException, OSError, ValueError) as fault:
                raise CorruptTableError(f"{path} cannot be read as Parquet: {fault}") from fault


def vector_of(delete: DeleteFile) -> DeletionVector:
    """Return the deletion vector that a delete file of the inventory stands for."""
    return DeletionVector.of_id(
        delete.path, size_bytes=delete.size_bytes, cardinality=delete.row_count
    )


def _refuse_twice(paths: pa.Array) -> None:
    """Refuse a path that is there twice; looked for in shares, to keep the look-up table small."""
    for share in _shares(paths):
        if pc.count_distinct(share).as_py() < len(share):
            counts = share.value_counts()
            twice = counts.filter(pc.greater(counts.field(1), 1)).field(0)[0].as_py()
            raise CorruptTableError(
                f"the data file {twice} is in the table more than once",
                hint="remove it with the engine that wrote it: its rows are doubled",
            )


def _shares(paths: pa.Array) -> Iterator[pa.Array]:
    """Divide paths so that equal ones stay together, by characters near their ends."""
    if len(paths) <= _SHARE_ROWS:
        yield paths
        return
    data, offsets = string_parts(paths)
    marks = np.zeros(len(paths), np.uint8)
    for distance in range(12, 60, 7):
        marks ^= data[np.maximum(offsets[1:] - distance, offsets[:-1])]
    order = np.argsort(marks % _SHARES, kind="stable")
    cuts = np.flatnonzero(np.diff(marks[order] % _SHARES)) + 1
    for rows in np.split(order, cuts):
        yield paths.take(pa.array(rows))


def _codes(column: pa.DictionaryArray) -> _Codes:
    """Number the values of a column; null is a value of its own."""
    codes: _Codes = column.indices.fill_null(len(column.dictionary)).to_numpy().astype(np.int64)
    return codes


def _combinations(columns: Sequence[_Codes]) -> tuple[_Codes, _Codes]:
    """Number the combinations of values: one number per row, and the first row of each number."""
    combined = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        # Renumbered after each column, so that numbers stay below the square of the rows.
        combined = combined * (int(column.max(initial=0)) + 1) + column
        _, first, combined = np.unique(combined, return_index=True, return_inverse=True)
    return combined, first


def _lists(rows: _Codes, count: int) -> pa.ListArray:
    """Return one list per file: the number of its deletion vector, or nothing."""
    offsets = np.zeros(count + 1, np.int32)
    offsets[rows + 1] = 1
    kind = DATA_FILES.field("deletes").type
    values = pa.array(np.arange(len(rows), dtype=np.int32))
    return pa.ListArray.from_arrays(pa.array(np.cumsum(offsets, dtype=np.int32)), values, type=kind)


def _delete_files(files: pa.Table) -> pa.Table:
    columns = {
        "path": files["vector"],
        "size_bytes": files["vector_bytes"],
        "row_count": files["vector_rows"],
        "sequence_number": pc.fill_null(files["modified_ms"], 0),
        "target": files["path"],
        "equality_ids": pa.nulls(len(files), DELETE_FILES.field("equality_ids").type),
    }
    if any(columns[name].null_count for name in ("size_bytes", "row_count")):
        raise CorruptTableError("the log has a deletion vector without size or cardinality")
    return pa.table([columns[name] for name in DELETE_FILES.names], schema=DELETE_FILES)
