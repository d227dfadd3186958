"""The parts of all manifests put together: one inventory, with deletes attached to data files.

A position delete file applies to a data file when it names the file, or when it has the same spec
and partition and its path bounds allow the file; in both cases its sequence number must not be
lower. An equality delete file applies to the files of its spec and partition, or to all files when
its spec parts nothing; its sequence number must be higher, and its bounds
must meet those of the file. All of it is done on columns.

Specification: https://iceberg.apache.org/spec/#scan-planning
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.duplicates import find_alike
from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.iceberg.manifest import DELETE_FILES_SCOPED, FILES, ManifestPart
from catalog.model import DATA_FILES, DELETE_FILES, Inventory

_Rows = npt.NDArray[np.int64]


class KeyBounds(Protocol):
    """What is known of one column that rows are deleted by."""

    def may_agree(self, file_rows: _Rows, delete_rows: _Rows) -> npt.NDArray[np.bool_]:
        """Tell for pairs of a data file and a delete file whether they may have a value alike."""


ReadKeyColumns = Callable[[pa.Table, pa.Table], Sequence[KeyBounds]]
# Bounds the memory of matching: each pair takes two offsets and three paths for a moment.
_PAIRS_MAX = 1 << 18
# Bounds the memory of an inventory: each pair takes about 40 bytes while they are put in order.
_PAIRS_IN_ALL_MAX = 1 << 24


def assemble(
    parts: Sequence[ManifestPart],
    written_at_ms: Mapping[int, int],
    *,
    key_columns: ReadKeyColumns = lambda files, deletes: (),
) -> Inventory:
    """Make the inventory of a snapshot.

    Args:
        parts: what its manifests hold.
        written_at_ms: commit times by snapshot id.
        key_columns: reads the bounds of the columns that rows are deleted by: what they rule out
            is not attached.

    Raises:
        CorruptTableError: a data file is listed twice.
    """
    # In pieces: paths are most of it, and seldom looked at.
    files = _concat([part.files for part in parts], FILES)
    deletes = _concat([part.delete_files for part in parts], DELETE_FILES_SCOPED).combine_chunks()
    _refuse_duplicates(files)
    columns = {
        **{name: files[name] for name in files.column_names},
        "written_at_ms": _times(files["snapshot_id"], written_at_ms),
        # Of the rows that have ids: others have no version either.
        "row_version": pc.if_else(files["first_row_id"].is_valid(), files["sequence_number"], None),
        "is_clustered": pa.nulls(files.num_rows, pa.bool_()),
        "deletes": attach(files, deletes, key_columns),
    }
    return Inventory(
        pa.table([columns[name] for name in DATA_FILES.names], schema=DATA_FILES),
        deletes.select(DELETE_FILES.names).cast(DELETE_FILES),
    )


def refuse_keys(inventory: Inventory, types: Callable[[], Mapping[int, pa.DataType]]) -> None:
    """Refuse equality deletes by columns that cannot be compared here.

    Args:
        inventory: of a snapshot.
        types: returns those of the columns that can, by their ids.

    Raises:
        UnsupportedTableError: one is no column of any schema of the table, or is not primitive.
    """
    if not inventory.has_equality_deletes:
        return
    known = types()
    for one in pc.unique(pc.list_flatten(inventory.delete_files["equality_ids"])).to_pylist():
        if one not in known or pa.types.is_nested(known[one]):
            raise UnsupportedTableError(
                f"the table has equality deletes by the field {one}, which is no plain column of"
                " any of its schemas",
                hint="rewrite them with the engine that wrote them, then compact",
            )


def attach(files: pa.Table, deletes: pa.Table, key_columns: ReadKeyColumns) -> pa.ListArray:
    """Return, for every data file, the rows of the delete files that apply to it."""
    if not deletes.num_rows:  # most tables; indexing all paths takes memory and a while
        offsets = pa.array(np.zeros(files.num_rows + 1, np.int32))
        return pa.ListArray.from_arrays(
            offsets, pa.array([], pa.int32()), type=DATA_FILES.field("deletes").type
        )
    pairs = [
        _by_target(files, deletes),
        *_by_partition(files, deletes),
        *_bounded(_by_values(files, deletes, key_columns)),
    ]
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
    return pa.concat_tables(tables).unify_dictionaries()


def _refuse_duplicates(files: pa.Table) -> None:
    twice = find_alike(files["path_hash"].to_numpy(), lambda: files["path"].chunks)
    if twice is None:
        return
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
    """Match the position delete files that name their one data file."""
    names_one = pc.and_(deletes["target"].is_valid(), deletes["equality_ids"].is_null())
    delete_rows = np.flatnonzero(names_one.to_numpy())
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
    """Match the position delete files that cover a partition."""
    is_wide = pc.and_(deletes["target"].is_null(), deletes["equality_ids"].is_null())
    wide = np.flatnonzero(is_wide.to_numpy())
    for pairs in _in_partitions(files, deletes, _numbers(files["sequence_number"]), rows=wide):
        applies = _within_bounds(files, deletes, pairs)
        yield pairs[0][applies], pairs[1][applies]


def _by_values(
    files: pa.Table, deletes: pa.Table, key_columns: ReadKeyColumns
) -> Iterator[tuple[_Rows, _Rows]]:
    """Match the equality delete files that may have a key of a file."""
    is_equality = deletes["equality_ids"].is_valid().to_numpy()
    if not is_equality.any():
        return
    columns = key_columns(files, deletes)
    for file_rows, delete_rows in _by_age(files, deletes, is_equality):
        is_hit = np.ones(len(file_rows), np.bool_)
        for column in columns:
            is_hit &= column.may_agree(file_rows, delete_rows)
        yield file_rows[is_hit], delete_rows[is_hit]


def _by_age(
    files: pa.Table, deletes: pa.Table, is_equality: npt.NDArray[np.bool_]
) -> Iterator[tuple[_Rows, _Rows]]:
    """Match the equality delete files, which apply to what is older than they are."""
    is_global = deletes["is_global"].to_numpy()
    least = _numbers(files["sequence_number"]) + 1
    yield from _in_partitions(files, deletes, least, rows=np.flatnonzero(is_equality & ~is_global))
    everywhere = np.flatnonzero(is_equality & is_global)
    ages = _numbers(deletes["sequence_number"])[everywhere]
    yield from _pairs(
        np.zeros(files.num_rows, np.int64), least, _Scoped(everywhere, np.zeros_like(ages), ages)
    )


def _bounded(pairs: Iterator[tuple[_Rows, _Rows]]) -> Iterator[tuple[_Rows, _Rows]]:
    """Pass pairs on, and refuse tables of which there are too many to be held."""
    count = 0
    for some in pairs:
        count += len(some[0])
        if count > _PAIRS_IN_ALL_MAX:
            raise UnsupportedTableError(
                f"equality delete files apply to data files more than {_PAIRS_IN_ALL_MAX:,} times",
                hint="rewrite the oldest files with the engine that wrote the deletes",
            )
        yield some


def _in_partitions(
    files: pa.Table, deletes: pa.Table, least: _Rows, *, rows: _Rows
) -> Iterator[tuple[_Rows, _Rows]]:
    """Match some delete files with the data files of their partitions.

    Args:
        files: the data files.
        deletes: the delete files.
        least: per data file, the least sequence number of what applies to it.
        rows: the delete files in question.
    """
    partitions = deletes["partition_key"].combine_chunks()
    codes = _codes(files["partition_key"].combine_chunks(), partitions.dictionary)
    scopes = _numbers(pa.chunked_array([partitions.indices]))[rows]
    yield from _pairs(
        codes, least, _Scoped(rows, scopes, _numbers(deletes["sequence_number"])[rows])
    )


@dataclass(frozen=True, slots=True)
class _Scoped:
    """Delete files with the numbers of their partitions, and their sequence numbers."""

    rows: _Rows
    codes: _Rows
    sequence_numbers: _Rows


def _pairs(codes: _Rows, least: _Rows, deletes: _Scoped) -> Iterator[tuple[_Rows, _Rows]]:
    """Pair data files with deletes of their partition, a bounded number of pairs at a time.

    Sorted by partition and sequence number, the deletes that may apply to a data file are one
    range: from the least sequence number that does to the end of its partition.
    """
    if not len(deletes.rows) or not len(codes):
        return
    sequences, ranks = np.unique(deletes.sequence_numbers, return_inverse=True)
    stride = len(sequences) + 1
    keys = deletes.codes * stride + ranks
    order = np.argsort(keys, kind="stable")
    keys, rows = keys[order], deletes.rows[order]
    starts = np.searchsorted(keys, codes * stride + np.searchsorted(sequences, least))
    counts = np.searchsorted(keys, (codes + 1) * stride) - starts
    counts[codes < 0] = 0
    for file_rows in _runs(counts):
        sizes = counts[file_rows]
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        yield np.repeat(file_rows, sizes), rows[np.repeat(starts[file_rows], sizes) + within]


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
