"""The model of a table that every format speaks: frozen values, per-file facts as Arrow columns.

A *file slice* is a data file with everything that changes what a reader sees of it. The inventory
holds one row per file slice and one row per delete file; a Python object per file exists only while
one is being read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from catalog.tails import NO_TAIL, Tail

DATA_FILES = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        # Rows stored in the file, before any delete is applied.
        pa.field("row_count", pa.int64(), nullable=False),
        # Files may share a file group when their keys are equal: opaque to all but the format.
        pa.field("partition_key", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        # The partition as people read it, `day=2026-11-20/bucket=3`; empty when unpartitioned.
        pa.field("partition", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        # Data sequence number: orders a file among its table's deletes and other files.
        pa.field("sequence_number", pa.int64(), nullable=False),
        # Commit time of the snapshot that added the file; null when that snapshot is gone.
        pa.field("written_at_ms", pa.int64()),
        # Where the format tells rows apart: the id of the file's first row, and the version that
        # last changed its rows. Rows that store their own have that instead.
        pa.field("first_row_id", pa.int64()),
        pa.field("row_version", pa.int64()),
        # Whether the format holds the file in an order that packing would undo; null for unknown.
        pa.field("is_clustered", pa.bool_()),
        # Rows of the delete files table that apply to this file.
        pa.field("deletes", pa.list_(pa.field("item", pa.int32(), nullable=False)), nullable=False),
    ]
)

DELETE_FILES = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("row_count", pa.int64(), nullable=False),
        pa.field("sequence_number", pa.int64(), nullable=False),
        # The one data file that it refers to, where the metadata says so.
        pa.field("target", pa.string()),
        # Ids of the columns that it names rows by the values of; null where it names positions.
        pa.field("equality_ids", pa.list_(pa.field("item", pa.int32(), nullable=False))),
    ]
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One committed state of a table.

    Attributes:
        snapshot_id: the format's own id as text (Iceberg snapshot id, Delta version, Hudi instant).
        sequence_number: grows with every commit of the table.
        timestamp_ms: commit time in milliseconds since the epoch, by the committer's clock.
        parent_id: the snapshot it was made from; None for the first one.
        operation: the format's name for what the commit did; empty for the state of an empty table.
    """

    snapshot_id: str
    sequence_number: int
    timestamp_ms: int
    parent_id: str | None
    operation: str


@dataclass(frozen=True, slots=True)
class DeleteFile:
    """A delete file as a reader meets it; the fields are the columns of `DELETE_FILES`."""

    path: str
    size_bytes: int
    row_count: int
    sequence_number: int
    target: str | None
    equality_ids: tuple[int, ...] | None = None

    @staticmethod
    def of(row: Mapping[str, Any]) -> DeleteFile:
        """Return a row of the table of delete files."""
        ids = row["equality_ids"]
        return DeleteFile(**{**row, "equality_ids": None if ids is None else tuple(ids)})


@dataclass(frozen=True, slots=True)
class FileSlice:
    """A data file and the delete files that apply to it; fields are the columns of `DATA_FILES`."""

    path: str
    size_bytes: int
    row_count: int
    partition_key: str
    sequence_number: int
    deletes: tuple[DeleteFile, ...]
    first_row_id: int | None = None
    row_version: int | None = None


@dataclass(frozen=True, slots=True)
class Filling:
    """The value that a column has where its data file does not store one.

    It may grow with the position of the row in the file, counted from 0 before any delete drops
    rows: then it is a 64-bit integer of a top-level column.

    Attributes:
        start: the value of the first row; a null fills nothing.
        step: what it grows by from row to row; 0 for a constant.
        fills_nulls: whether it also takes the place of nulls in files that have the column, which
            must be a top-level one; else it is for files that lack the column.
    """

    start: pa.Scalar
    step: int = 0
    fills_nulls: bool = False


@dataclass(frozen=True, slots=True)
class Inventory:
    """All file slices of a snapshot, or a part of them.

    Attributes:
        files: one row per data file, schema `DATA_FILES`.
        delete_files: one row per delete file, schema `DELETE_FILES`; `files.deletes` holds row
            numbers of this table.
    """

    files: pa.Table
    delete_files: pa.Table

    @staticmethod
    def empty() -> Inventory:
        """Return the inventory of a table without files."""
        return Inventory(DATA_FILES.empty_table(), DELETE_FILES.empty_table())

    @property
    def file_count(self) -> int:
        """Number of data files."""
        return cast(int, self.files.num_rows)

    @property
    def has_equality_deletes(self) -> bool:
        """Whether rows are deleted by their values, so that only reading tells how many."""
        ids = self.delete_files["equality_ids"]
        return bool(ids.null_count < len(ids))

    @property
    def size_bytes(self) -> int:
        """Bytes of all data files together, delete files not included."""
        return int(np.sum(self.files["size_bytes"].to_numpy()))

    @property
    def row_count(self) -> int:
        """Stored rows of all data files together, before deletes."""
        return int(np.sum(self.files["row_count"].to_numpy()))

    def take(self, rows: npt.NDArray[np.int64]) -> Inventory:
        """Return the given rows of `files`, in this order, with just the delete files they need."""
        files = self.files.take(pa.array(rows, pa.int64())).combine_chunks()
        deletes = files["deletes"].combine_chunks()
        used, renumbered = np.unique(
            deletes.values.slice(deletes.offsets[0].as_py(), len(deletes.flatten())).to_numpy(),
            return_inverse=True,
        )
        offsets = pa.array(np.asarray(deletes.offsets) - deletes.offsets[0].as_py(), pa.int32())
        field = DATA_FILES.field("deletes")
        lists = pa.ListArray.from_arrays(
            offsets, pa.array(renumbered.astype(np.int32)), type=field.type
        )
        position = DATA_FILES.get_field_index("deletes")
        return Inventory(
            files.set_column(position, field, lists),
            self.delete_files.take(pa.array(used, pa.int64())),
        )

    def slices(self) -> Iterator[FileSlice]:
        """Yield the file slices one by one, in order: for reading a group, never for planning."""
        deletes = list(map(DeleteFile.of, self.delete_files.to_pylist()))
        for batch in self.files.to_batches(max_chunksize=1024):
            for row in batch.to_pylist():
                yield FileSlice(
                    path=row["path"],
                    size_bytes=row["size_bytes"],
                    row_count=row["row_count"],
                    partition_key=row["partition_key"],
                    sequence_number=row["sequence_number"],
                    deletes=tuple(deletes[index] for index in row["deletes"]),
                    first_row_id=row["first_row_id"],
                    row_version=row["row_version"],
                )


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows of one data file survive, and which come behind them.

    Attributes:
        dropped: positions of the rows that readers no longer see, ascending and unique (int64).
        tail: rows of the slice that are not stored in the data file.
    """

    dropped: npt.NDArray[np.int64]
    tail: Tail = NO_TAIL

    @staticmethod
    def of(positions: npt.NDArray[np.int64]) -> Selection:
        """Return the selection that drops `positions`, given in any order and with repetitions."""
        positions = positions.astype(np.int64, copy=False)
        # Delete files list them in order, as their formats ask for.
        is_in_order = bool((positions[1:] > positions[:-1]).all())
        return Selection(positions if is_in_order else np.unique(positions))

    def kept(self, start: int, count: int) -> npt.NDArray[np.bool_] | None:
        """Return the mask of surviving rows in `[start, start + count)`; None when all survive."""
        first, last = np.searchsorted(self.dropped, [start, start + count])
        if first == last:
            return None
        mask = np.ones(count, dtype=np.bool_)
        mask[self.dropped[first:last] - start] = False
        return mask


KEEP_ALL = Selection(np.empty(0, dtype=np.int64))
