"""An inventory as numpy columns: what selection, packing and health compute with.

Nothing here depends on the order of the inventory's rows but the order of the arrays themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.model import Inventory

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# Stands for an unknown commit time: older than any limit.
_LONG_AGO_MS = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class DeleteLinks:
    """Which delete file applies to which data file: one entry per pair.

    Attributes:
        file: row of the data file.
        delete: row of the delete file.
        row_count: rows of the delete file; 0 where it names another data file as its target.
        is_shared: whether the rows spread over all the data files that it applies to.
        file_count: number of data files in the inventory.
    """

    file: Ints
    delete: Ints
    row_count: Ints
    is_shared: Flags
    file_count: int

    def delete_files(self) -> Ints:
        """Return the number of delete files per data file."""
        return np.bincount(self.file, minlength=self.file_count)

    def rows_dropped(self, is_present: Flags) -> Floats:
        """Estimate the deleted rows per data file, as if only the present files were there.

        A delete file that applies to several files and names none counts evenly for each.
        """
        entries = np.flatnonzero(is_present[self.file])
        file, delete = self.file[entries], self.delete[entries]
        sharers = np.bincount(delete)[delete] if len(delete) else delete
        rows = self.row_count[entries] / np.where(self.is_shared[entries], sharers, 1)
        return np.bincount(file, weights=rows, minlength=self.file_count).astype(np.float64)


@dataclass(frozen=True, slots=True)
class FileColumns:
    """The data files of an inventory, in its order.

    Attributes:
        size_bytes: bytes per file.
        row_count: stored rows per file.
        sequence_number: data sequence number per file.
        written_at_ms: commit time per file; far in the past where unknown.
        partition: number of the file's partition, by the order of the keys.
        partition_keys: key of each partition.
        partition_labels: the partitions as people read them.
        paths: path per file; in pieces, since it is much and mostly not looked at.
        links: the delete files that apply.
        is_clustered: whether the format holds the file in an order.
    """

    size_bytes: Ints
    row_count: Ints
    sequence_number: Ints
    written_at_ms: Ints
    partition: Ints
    partition_keys: pa.Array
    partition_labels: pa.Array
    paths: pa.ChunkedArray
    links: DeleteLinks
    is_clustered: Flags

    @property
    def partition_count(self) -> int:
        """Number of partitions that have files."""
        return len(self.partition_keys)

    def per_partition(self, is_counted: Flags, weights: Floats | None = None) -> Floats:
        """Count the given files of each partition, or add up their weights."""
        return np.bincount(
            self.partition[is_counted],
            weights=None if weights is None else weights[is_counted],
            minlength=self.partition_count,
        ).astype(np.float64)


def read_columns(inventory: Inventory) -> FileColumns:
    """Return the columns of an inventory."""
    files = inventory.files
    # Made one, the pieces have one dictionary: to look for differences first takes much longer.
    keys = one_array(files["partition_key"])
    partition = _ranks(keys)
    first = _firsts(partition)
    return FileColumns(
        size_bytes=files["size_bytes"].to_numpy(),
        row_count=files["row_count"].to_numpy(),
        sequence_number=files["sequence_number"].to_numpy(),
        written_at_ms=pc.fill_null(files["written_at_ms"], _LONG_AGO_MS).to_numpy(),
        partition=partition,
        partition_keys=keys.take(pa.array(first)).dictionary_decode(),
        partition_labels=one_array(files["partition"]).take(pa.array(first)).dictionary_decode(),
        paths=files["path"],
        links=_read_links(inventory, files),
        is_clustered=pc.fill_null(files["is_clustered"], False).to_numpy(),
    )


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def take_texts(column: pa.ChunkedArray, rows: Ints) -> pa.Array:
    """Return some texts of a column in pieces; Arrow itself would put all pieces together first."""
    chunks = column.chunks
    if len(chunks) == 1:
        return chunks[0].take(pa.array(rows))
    order = np.argsort(rows, kind="stable")
    ends = np.cumsum([len(chunk) for chunk in chunks], dtype=np.int64)
    cuts = np.searchsorted(rows[order], ends)
    parts = [pa.array([], column.type)]
    for chunk, end, (first, last) in zip(chunks, ends, pairwise([0, *cuts.tolist()]), strict=True):
        if first < last:
            parts.append(chunk.take(pa.array(rows[order[first:last]] - (end - len(chunk)))))
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return pa.concat_arrays(parts).take(pa.array(places))


def _ranks(values: pa.DictionaryArray) -> Ints:
    """Number the distinct values of the rows by their order, without gaps."""
    codes = values.indices.to_numpy()
    by_code = pc.rank(values.dictionary, tiebreaker="dense").to_numpy().astype(np.int64)
    is_used = np.zeros(int(by_code.max(initial=0)) + 1, np.bool_)
    is_used[by_code[np.bincount(codes, minlength=len(by_code)) > 0]] = True
    ranks: Ints = (np.cumsum(is_used) - 1)[by_code][codes]
    return ranks


def _firsts(numbers: Ints) -> Ints:
    """Return the first row of each number, all of which occur."""
    firsts = np.zeros(int(numbers.max(initial=-1)) + 1, np.int64)
    rows = np.arange(len(numbers))
    # Of several values for one place, the last one stays.
    firsts[numbers[::-1]] = rows[::-1]
    return firsts


def _read_links(inventory: Inventory, files: pa.Table) -> DeleteLinks:
    lists = one_array(files["deletes"])
    file = pc.list_parent_indices(lists).to_numpy()
    delete = pc.list_flatten(lists)
    targets = one_array(inventory.delete_files["target"]).take(delete)
    is_shared = targets.is_null().to_numpy(zero_copy_only=False)
    rows = inventory.delete_files["row_count"].to_numpy()[delete.to_numpy()]
    if not is_shared.all():
        is_own = pc.equal(targets, take_texts(files["path"], file))
        rows = np.where(is_shared | pc.fill_null(is_own, False).to_numpy(False), rows, 0)
    return DeleteLinks(
        file=file,
        delete=delete.to_numpy().astype(np.int64),
        row_count=rows,
        is_shared=is_shared,
        file_count=files.num_rows,
    )
