"""Cuts tables by the hash of their keys and puts what belongs together end to end, vectorised.

A take at a time is hashed, sorted by bucket (by counting: bucket numbers are small) and gathered,
while it lies in the caches. No step looks at single rows, and none knows where its rows come from.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from runtime.hashing import hash_rows

BATCH_ROWS_MIN, BATCH_ROWS_MAX = 1 << 16, 1 << 18
"""Rows that are grouped by one take: few enough for the caches, so many buckets allowing."""

PIECE_ROWS = 1 << 12
"""What one take leaves in a bucket on average, at least: each piece costs its reader something."""

OFFSETS_BYTES_MAX = (1 << 31) - 1
"""The most that 32-bit offsets of one array can address."""


def partition(table: pa.Table, by: Sequence[str], buckets: int) -> list[pa.Table]:
    """Cut a table by the hash of its key columns; rows of a bucket keep their order."""
    pieces: list[list[pa.RecordBatch]] = [[] for _ in range(buckets)]
    batch_rows = min(max(BATCH_ROWS_MIN, buckets * PIECE_ROWS), BATCH_ROWS_MAX)
    for batch in _batches(table, batch_rows):
        for bucket, piece in _cut(batch, by, buckets):
            pieces[bucket].append(piece)
    return [pa.Table.from_batches(some, _schema(some, table)) for some in pieces]


def bucket_of(hashes: npt.NDArray[np.uint64], buckets: int) -> npt.NDArray[np.uint16]:
    """Return the bucket of each hash: its upper bits, scaled."""
    upper = hashes >> np.uint64(32)
    return ((upper * np.uint64(buckets)) >> np.uint64(32)).astype(np.uint16)


def concatenated(tables: Sequence[pa.Table]) -> pa.Table:
    """Put tables end to end without a copy, with 64-bit offsets where 32 bits are too few."""
    names = {
        name for table in tables for name, kind in _named_types(table) if _is_large(kind)
    } | _too_large(tables)
    return pa.concat_tables(_promoted(table, names) for table in tables)


def _cut(
    batch: pa.RecordBatch, by: Sequence[str], buckets: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    ids = bucket_of(hash_rows(pa.Table.from_batches([batch]), by), buckets)
    counts = np.bincount(ids, minlength=buckets)
    if buckets <= 1 << 8:
        ids = ids.astype(np.uint8)
    order = np.argsort(ids, kind="stable")  # a radix sort at this width
    grouped = pc.take(batch, pa.array(order.astype(np.uint32)), boundscheck=False)
    start = 0
    for bucket in np.flatnonzero(counts):
        yield int(bucket), grouped.slice(start, int(counts[bucket]))
        start += int(counts[bucket])


def _batches(table: pa.Table, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield batches of about as many rows as one take shall have; large ones uncopied."""
    for start in range(0, table.num_rows, rows):
        some = table.slice(start, rows)
        some = _promoted(some, _too_large([some])).combine_chunks()
        yield from some.to_batches()


def _too_large(tables: Sequence[pa.Table]) -> set[str]:
    """Return the columns whose bytes, put together, need 64-bit offsets."""
    sizes: dict[str, int] = {}
    for table in tables:
        for name, kind in _named_types(table):
            if _is_small(kind):
                sizes[name] = sizes.get(name, 0) + table.column(name).nbytes
    return {name for name, size_bytes in sizes.items() if size_bytes > OFFSETS_BYTES_MAX}


def _promoted(table: pa.Table, names: set[str]) -> pa.Table:
    """Give columns 64-bit offsets; their bytes are shared."""
    for place, (name, kind) in enumerate(_named_types(table)):
        if name in names and _is_small(kind):
            large = pa.large_string() if pa.types.is_string(kind) else pa.large_binary()
            field = table.schema.field(place).with_type(large)
            table = table.set_column(place, field, table.column(place).cast(large))
    return table


def _schema(batches: Sequence[pa.RecordBatch], table: pa.Table) -> pa.Schema:
    return batches[0].schema if batches else table.schema


def _named_types(table: pa.Table) -> list[tuple[str, pa.DataType]]:
    return list(zip(table.schema.names, table.schema.types, strict=True))


def _is_small(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind))


def _is_large(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_large_binary(kind))
