"""Which rows are deleted by their keys: a join of any size in bounded memory.

Deletes whose keys fit are held, and the rows stream past them. Else both sides are cut by a hash of
their keys into buckets on local disk, and each bucket is joined by itself, cut again if need be.
Keys are compared by value; the hash only decides on buckets. Nulls are equal to each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import chain

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.spill import SpillFile

# What the distinct keys of a bucket may take; their hash table, and the keys while they are made
# distinct, take some times as much.
_HELD_BYTES_MAX = 12 << 20
# Rows looked up at a time: the hash table is built anew for each such run.
_RUN_ROWS = 1 << 17
_RUN_BYTES = 8 << 20
# Bytes of keys hashed at once: their intermediate results are 32 times that.
_HASHED_BYTES = 128 << 10
_BUCKET_BITS = 5
_BUCKETS = 1 << _BUCKET_BITS
# Where the bits of the hash are used up.
_LEVELS_MAX = 64 // _BUCKET_BITS
_BASE = 0x9E3779B97F4A7C15
# Its inverse modulo 2**64.
_BASE_INVERSE = pow(_BASE, -1, 1 << 64)
_MIX = np.uint64(0xBF58476D1CE4E5B9)

_Numbers = npt.NDArray[np.int64]
_Hashes = npt.NDArray[np.uint64]


def delete_schema(key: pa.DataType) -> pa.Schema:
    """Return the columns of deletes: a key and the sequence number of its deletion."""
    return pa.schema([pa.field("key", key), pa.field("sequence_number", pa.int64())])


def row_schema(key: pa.DataType) -> pa.Schema:
    """Return the columns of rows: a key, the number of a file, and the position in it."""
    return pa.schema(
        [pa.field("key", key), pa.field("file", pa.int32()), pa.field("position", pa.int64())]
    )


def matches(
    deletes: Iterator[pa.RecordBatch], rows: Iterable[pa.RecordBatch], *, level: int = 0
) -> Iterator[tuple[pa.RecordBatch, _Numbers]]:
    """Yield the rows whose key is deleted, with the greatest sequence number of its deletions.

    Args:
        deletes: keys that are deleted, of `delete_schema`, consumed once; of type int64 or binary.
        rows: of `row_schema`; not asked for when nothing is deleted.
        level: how many times both sides were cut.

    Raises:
        StorageFullError: the disk for temporary files is full.
    """
    held = _Held()
    for batch in deletes:
        held.add(batch)
        if held.is_full and level < _LEVELS_MAX:
            yield from _apart(chain(held.take(), deletes), rows, level)
            return
    if (table := held.distinct()) is not None:
        for run in runs(rows, rows_max=_RUN_ROWS, bytes_max=_RUN_BYTES):
            yield from _looked_up(run, table)


class _Held:
    """Deletes in memory, each key once."""

    def __init__(self) -> None:
        self._table: pa.Table | None = None
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether the keys take more than they may."""
        if self._waiting_bytes <= _HELD_BYTES_MAX:
            return False
        table = self.distinct()
        # Half: else every few keys more would have all of them made distinct.
        return table is not None and table.nbytes > _HELD_BYTES_MAX // 2

    def add(self, batch: pa.RecordBatch) -> None:
        """Take up some deletes."""
        if batch.num_rows:
            self._waiting.append(batch)
            self._waiting_bytes += batch.nbytes

    def distinct(self) -> pa.Table | None:
        """Return the keys with their greatest sequence numbers; None for no key."""
        if self._waiting:
            new = pa.Table.from_batches(self._waiting)
            both = new if self._table is None else pa.concat_tables([self._table, new])
            grouped = both.group_by("key", use_threads=False)
            found = grouped.aggregate([("sequence_number", "max")])
            self._table = found.rename_columns({"sequence_number_max": "sequence_number"}).select(
                ["key", "sequence_number"]
            )
            self._waiting, self._waiting_bytes = [], 0
        return self._table

    def take(self) -> Iterator[pa.RecordBatch]:
        """Yield the deletes and let go of them."""
        table, self._table = self.distinct(), None
        if table is not None:
            yield from table.to_batches(max_chunksize=_RUN_ROWS)


def _looked_up(run: pa.Table, deletes: pa.Table) -> Iterator[tuple[pa.RecordBatch, _Numbers]]:
    numbers = deletes["sequence_number"].to_numpy()
    places = pc.index_in(run["key"], value_set=deletes["key"].combine_chunks())
    found = run.filter(places.is_valid())
    if found.num_rows:
        (batch,) = found.combine_chunks().to_batches()
        yield batch, numbers[places.drop_null().to_numpy()]


def runs(rows: Iterable[pa.RecordBatch], *, rows_max: int, bytes_max: int) -> Iterator[pa.Table]:
    """Join batches to runs that are worth a hash table; one ends once it has so much."""
    waiting: list[pa.RecordBatch] = []
    count = size_bytes = 0
    for batch in rows:
        waiting.append(batch)
        count, size_bytes = count + batch.num_rows, size_bytes + batch.nbytes
        if count >= rows_max or size_bytes >= bytes_max:
            yield pa.Table.from_batches(waiting)
            waiting, count, size_bytes = [], 0, 0
    if waiting:
        yield pa.Table.from_batches(waiting)


def _apart(
    deletes: Iterator[pa.RecordBatch], rows: Iterable[pa.RecordBatch], level: int
) -> Iterator[tuple[pa.RecordBatch, _Numbers]]:
    """Join bucket by bucket."""
    with ExitStack() as stack:
        keys = spread(deletes, level, stack=stack, is_wanted=lambda bucket: True)
        found = spread(rows, level, stack=stack, is_wanted=keys.__contains__)
        for bucket in sorted(keys):
            if bucket in found:
                yield from matches(keys[bucket].batches(), found[bucket].batches(), level=level + 1)
                found[bucket].close()
            keys[bucket].close()


def spread(
    batches: Iterable[pa.RecordBatch],
    level: int,
    *,
    stack: ExitStack,
    is_wanted: Callable[[int], bool],
) -> dict[int, SpillFile]:
    """Write each batch apart by the hash of its column `key`, buckets that nobody wants left out.

    Rows keep their order within a bucket.
    """
    files: dict[int, SpillFile] = {}
    for batch in batches:
        for bucket, part in _scattered(batch, level):
            if not is_wanted(bucket):
                continue
            if bucket not in files:
                files[bucket] = SpillFile(batch.schema)
                stack.callback(files[bucket].close)
            files[bucket].append(part)
    return files


def _scattered(batch: pa.RecordBatch, level: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    shift = np.uint64(64 - _BUCKET_BITS * (level + 1))
    buckets = (_hashes(batch.column("key")) >> shift).astype(np.int64) & (_BUCKETS - 1)
    order = np.argsort(buckets, kind="stable")
    ordered = batch.take(pa.array(order))
    present, starts = np.unique(buckets[order], return_index=True)
    ends = [*starts[1:].tolist(), len(order)]
    for bucket, start, end in zip(present.tolist(), starts.tolist(), ends, strict=True):
        yield bucket, ordered.slice(start, end - start)


def _hashes(keys: pa.Array) -> _Hashes:
    """Hash keys so that equal ones have equal hashes, and that the high bits are spread."""
    if keys.type == pa.int64():
        hashes = keys.fill_null(0).to_numpy(zero_copy_only=False).view(np.uint64)
    else:
        hashes = _polynomials(keys.fill_null(b""))
    hashes = (hashes ^ (hashes >> np.uint64(32))) * _MIX
    result: _Hashes = (hashes ^ (hashes >> np.uint64(29))) * _MIX
    return result


def _polynomials(keys: pa.BinaryArray) -> _Hashes:
    """Read the bytes of each key as the coefficients of a polynomial modulo 2**64."""
    _, offsets_buffer, data_buffer = keys.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[keys.offset :][: len(keys) + 1]
    if data_buffer is None or offsets[0] == offsets[-1]:
        return np.zeros(len(keys), np.uint64)
    if offsets[-1] - offsets[0] > _HASHED_BYTES and len(keys) > 1:
        half = len(keys) // 2
        return np.concatenate([_polynomials(keys[:half]), _polynomials(keys[half:])])
    terms = np.frombuffer(data_buffer, np.uint8)[offsets[0] : offsets[-1]].astype(np.uint64)
    terms += np.uint64(1)
    terms *= _powers(_BASE, len(terms))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms)])
    offsets = offsets - offsets[0]
    back = _powers(_BASE_INVERSE, len(terms) + 1)[offsets[:-1]]
    result: _Hashes = (sums[offsets[1:]] - sums[offsets[:-1]]) * back
    return result


def _powers(base: int, count: int) -> _Hashes:
    factors = np.full(count, np.uint64(base))
    factors[:1] = 1
    return np.cumprod(factors, dtype=np.uint64)
