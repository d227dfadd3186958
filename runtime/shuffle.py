"""Brings the rows of many tables together by key: a hash shuffle on the programming model.

    refs = shuffle(rt, inputs, Shuffle(by=("id",), buckets=16, read=read_file, reduce=merge))

Each input is read, combined and cut into buckets by one task, which returns one object with a
segment per bucket; each bucket is reduced by one task, which maps its segments and gives their
memory back when it is done. Rows of one key keep their order: that of the inputs, then of rows.
Objects beyond the memory budget are spilled by the backend like any other.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from runtime.api import Gather, Key, Ref, Runtime, Segments
from runtime.hashing import hash_rows

BATCH_ROWS_MIN, BATCH_ROWS_MAX = 1 << 16, 1 << 18
"""Rows that are grouped by one take: few enough for the caches, so many buckets allowing."""

PIECE_ROWS = 1 << 12
"""What one take leaves in a bucket on average, at least: each piece costs its reader something."""

OFFSETS_BYTES_MAX = (1 << 31) - 1
"""The most that 32-bit offsets of one array can address."""

_BUCKETS_MAX = 1 << 16


def identity(value: Any) -> Any:
    """Return what was given."""
    return value


@dataclass(frozen=True, slots=True)
class Shuffle:
    """How to bring rows together.

    Attributes:
        by: Key columns: rows that are equal in them meet in one bucket.
        buckets: How many; a power of two lets buckets be split and joined by hash prefix later.
        read: Makes the table of an input, in the map task.
        combine: Shrinks that table before it is cut, as by keeping the last row of each key.
        reduce: Makes the result of a bucket from all its rows.
        key: (table, operation) of the profiles; the operation gets `-map` and `-reduce` added.
    """

    by: tuple[str, ...]
    buckets: int
    read: Callable[[Any], pa.Table] = identity
    combine: Callable[[pa.Table], pa.Table] = identity
    reduce: Callable[[pa.Table], Any] = identity
    key: Key | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.buckets <= _BUCKETS_MAX:
            raise ValueError(f"buckets must be 1 to {_BUCKETS_MAX}, not {self.buckets}")
        if not self.by:
            raise ValueError("a shuffle needs at least one key column")


def shuffle(
    rt: Runtime, inputs: Sequence[object], plan: Shuffle, *, memory: int | None = None
) -> list[Ref[Any]]:
    """Queue a shuffle; returns the results of the buckets, in their order.

    Args:
        rt: Where it runs.
        inputs: What `plan.read` makes tables of; refs as well. At least one.
        plan: How.
        memory: Expected peak of a task in bytes; None: it is predicted from its inputs.

    Raises:
        ValueError: There are no inputs.
    """
    if not inputs:
        raise ValueError("a shuffle needs at least one input")
    maps = [
        rt.submit(map_task, plan, each, memory=memory, key=_key(plan, "map")) for each in inputs
    ]
    return [
        rt.submit(
            reduce_task,
            plan.reduce,
            Gather(maps, bucket, frees=True),
            Gather(maps[:1], plan.buckets),
            memory=memory,
            key=_key(plan, "reduce"),
        )
        for bucket in range(plan.buckets)
    ]


def map_task(plan: Shuffle, each: object) -> Segments:
    """Read one input and cut it: a segment per bucket (None if it is empty), then no rows."""
    table = plan.combine(plan.read(each))
    parts = partition(table, plan.by, plan.buckets)
    return Segments([*(part if part.num_rows else None for part in parts), table.slice(0, 0)])


def reduce_task(
    reduce: Callable[[pa.Table], Any], parts: list[pa.Table | None], empty: list[pa.Table]
) -> Any:
    """Reduce one bucket."""
    tables = [part for part in parts if part is not None]
    return reduce(concatenated(tables or empty))


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


def _key(plan: Shuffle, step: str) -> Key | None:
    return None if plan.key is None else (plan.key[0], f"{plan.key[1]}-{step}")
