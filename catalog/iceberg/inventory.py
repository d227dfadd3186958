"""The parts of all manifests put together: one inventory, with deletes attached to data files.

A position delete file applies to a data file when it names the file, or when it has the same spec
and partition and its path bounds allow the file; in both cases its sequence number must not be
lower. All of it is done on columns.

Specification: https://iceberg.apache.org/spec/#scan-planning
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import CorruptTableError
from catalog.iceberg.manifest import DELETE_FILES_SCOPED, FILES, ManifestPart
from catalog.model import DATA_FILES, DELETE_FILES, Inventory

_Rows = npt.NDArray[np.int64]
# Bounds the memory of matching: each pair takes two offsets and three paths for a moment.
_PAIRS_MAX = 1 << 18


def assemble(parts: Sequence[ManifestPart], written_at_ms: Mapping[int, int]) -> Inventory:
    """Make the inventory of a snapshot.

    Args:
        parts: what its manifests hold.
        written_at_ms: commit times by snapshot id.

    Raises:
        CorruptTableError: a data file is listed twice.
    """
    files = _concat([part.files for part in parts], FILES)
    deletes = _concat([part.delete_files for part in parts], DELETE_FILES_SCOPED)
    _refuse_duplicates(files["path"])
    columns = {
        **{name: files[name] for name in files.column_names},
        "written_at_ms": _times(files["snapshot_id"], written_at_ms),
        "first_row_id": pa.nulls(files.num_rows, pa.int64()),
        "row_version": pa.nulls(files.num_rows, pa.int64()),
        "is_clustered": pa.nulls(files.num_rows, pa.bool_()),
        "deletes": attach(files, deletes),
    }
    return Inventory(
        pa.table([columns[name] for name in DATA_FILES.names], schema=DATA_FILES).combine_chunks(),
        deletes.select(DELETE_FILES.names).cast(DELETE_FILES),
    )


def attach(files: pa.Table, deletes: pa.Table) -> pa.ListArray:
    """Return, for every data file, the rows of the delete files that apply to it."""
    pairs = [_by_target(files, deletes), *_by_partition(files, deletes)]
    file_rows = np.concatenate([pair[0] for pair in pairs])
    delete_rows = np.concatenate([pair[1] for pair in pairs])
    order = np.lexsort((delete_rows, file_rows))
    counts = np.bincount(file_rows, minlength=files.num_rows)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    values = pa.array(delete_rows[order].astype(np.int32))
    return pa.ListArray.from_arrays(
        pa.array(offsets), values, type=DATA_FILES.field("deletes").type
    )


def _concat(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    if not tables:
        return schema.empty_table()
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def _refuse_duplicates(paths: pa.ChunkedArray) -> None:
    if pc.count_distinct(paths).as_py() == len(paths):
        return
    counts = paths.value_counts()
    twice = counts.filter(pc.greater(counts.field(1), 1)).field(0)[0].as_py()
    raise CorruptTableError(
        f"the data file {twice} is listed more than once",
        hint="remove the second entry with the engine that wrote it",
    )


def _times(snapshot_ids: pa.ChunkedArray, written_at_ms: Mapping[int, int]) -> pa.ChunkedArray:
    known = pa.array(written_at_ms, pa.int64())
    times = pa.array(written_at_ms.values(), pa.int64())
    return times.take(pc.index_in(snapshot_ids, value_set=known).combine_chunks())


def _numbers(column: pa.ChunkedArray) -> _Rows:
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _by_target(files: pa.Table, deletes: pa.Table) -> tuple[_Rows, _Rows]:
    """Match the delete files that name their one data file."""
    delete_rows = np.flatnonzero(deletes["target"].is_valid().to_numpy())
    targets = deletes["target"].take(pa.array(delete_rows))
    found = pc.index_in(targets, value_set=files["path"].combine_chunks())
    is_live = found.is_valid().to_numpy()
    delete_rows = delete_rows[is_live]
    file_rows = _numbers(found.drop_null())
    applies = (
        _numbers(deletes["sequence_number"])[delete_rows]
        >= _numbers(files["sequence_number"])[file_rows]
    )
    return file_rows[applies], delete_rows[applies]


def _by_partition(files: pa.Table, deletes: pa.Table) -> Iterator[tuple[_Rows, _Rows]]:
    """Match the delete files that cover a partition, a bounded number of pairs at a time.

    Sorted by partition and sequence number, the deletes that may apply to a data file are one
    range: from its own sequence number to the end of its partition.
    """
    wide = np.flatnonzero(deletes["target"].is_null().to_numpy())
    if not len(wide) or not files.num_rows:
        return
    partitions = deletes["partition_key"].combine_chunks()
    codes = _codes(files["partition_key"].combine_chunks(), partitions.dictionary)
    sequences, ranks = np.unique(_numbers(deletes["sequence_number"])[wide], return_inverse=True)
    stride = len(sequences) + 1
    keys = _numbers(pa.chunked_array([partitions.indices]))[wide] * stride + ranks
    order = np.argsort(keys, kind="stable")
    keys, wide = keys[order], wide[order]
    first_rank = np.searchsorted(sequences, _numbers(files["sequence_number"]))
    starts = np.searchsorted(keys, codes * stride + first_rank)
    counts = np.searchsorted(keys, (codes + 1) * stride) - starts
    counts[codes < 0] = 0
    for file_rows in _runs(counts):
        sizes = counts[file_rows]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        pairs = np.repeat(file_rows, sizes), wide[np.repeat(starts[file_rows], sizes) + within]
        applies = _within_bounds(files, deletes, pairs)
        yield pairs[0][applies], pairs[1][applies]


def _codes(keys: pa.DictionaryArray, dictionary: pa.Array) -> _Rows:
    """Number the partition of each file as the deletes' dictionary does; -1 where it has none."""
    translation = pc.index_in(keys.dictionary, value_set=dictionary).fill_null(-1)
    codes: _Rows = translation.to_numpy().astype(np.int64)[keys.indices.to_numpy()]
    return codes


def _runs(counts: _Rows) -> Iterator[_Rows]:
    """Cut the data files that have candidates into runs of not too many pairs."""
    rows = np.flatnonzero(counts)
    runs = np.cumsum(counts[rows]) // _PAIRS_MAX
    cuts = np.flatnonzero(np.diff(runs)) + 1
    yield from (run for run in np.split(rows, cuts) if len(run))


def _within_bounds(
    files: pa.Table, deletes: pa.Table, pairs: tuple[_Rows, _Rows]
) -> npt.NDArray[np.bool_]:
    paths = files["path"].take(pa.array(pairs[0])).cast(pa.binary())
    lower = deletes["path_lower"].take(pa.array(pairs[1]))
    upper = deletes["path_upper"].take(pa.array(pairs[1]))
    # A bound that is not there excludes nothing.
    above = pc.greater_equal(paths, lower).fill_null(True)
    below = pc.less_equal(paths, upper).fill_null(True)
    result: npt.NDArray[np.bool_] = pc.and_(above, below).to_numpy()
    return result
