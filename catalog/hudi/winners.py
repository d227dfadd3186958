"""Which entry of each key stays, of logs among themselves and against the rows of a base file.

Entries are what logs say of keys, in the order in which they apply: a row, or that there is none.
Those that fit are held, and the rows of the base file stream past them; else both sides are cut by
a hash of their keys into buckets on local disk, and each bucket is merged by itself.

By commit time the last entry stays. By event time the one with the greatest ordering value does, of
equal ones the last; deletes without an ordering value take everything with them that was there, the
base row included. Of rows of a base file with equal keys only the first one is merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.hudi.ordering import at_least, ranks
from catalog.key_join import spread

# Where the bits of the hash are used up.
_LEVELS_MAX = 12
# Base rows looked up at a time: the hash table of the entries is built anew for each such run.
_RUN_ROWS = 1 << 19
_RUN_BYTES = 24 << 20

_Numbers = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]


def entry_schema(ordering: Sequence[pa.DataType]) -> pa.Schema:
    """Return the columns of entries, given the comparable types of the ordering columns."""
    return pa.schema(
        [
            pa.field("key", pa.binary()),
            # The number of the row in the store; -1 where there is none any more.
            pa.field("row", pa.int64()),
            # Whether it is a delete without an ordering value.
            pa.field("is_default", pa.bool_()),
            # Whether it comes from a delete block.
            pa.field("is_block", pa.bool_()),
            *_ordering_fields(ordering),
        ]
    )


def base_schema(ordering: Sequence[pa.DataType]) -> pa.Schema:
    """Return the columns of the rows of a base file."""
    fields = [pa.field("key", pa.binary()), pa.field("position", pa.int64())]
    return pa.schema([*fields, *_ordering_fields(ordering)])


def _ordering_fields(ordering: Sequence[pa.DataType]) -> list[pa.Field]:
    return [pa.field(f"ordering_{number}", kind) for number, kind in enumerate(ordering)]


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of some keys.

    Attributes:
        dropped: positions of base rows that are replaced or deleted.
        kept: numbers of the rows of logs that stay.
    """

    dropped: _Numbers
    kept: _Numbers


def merged(
    entries: Iterator[pa.RecordBatch],
    base: Iterable[pa.RecordBatch],
    *,
    held_bytes_max: int,
    level: int = 0,
) -> Iterator[Merged]:
    """Merge entries with each other and with the rows of a base file, some keys at a time.

    Args:
        entries: of `entry_schema`, in the order in which they apply; consumed once.
        base: of `base_schema`, by ascending position; not asked for where there is no entry.
        held_bytes_max: what the entries may take that are held.
        level: how many times both sides were cut.

    Raises:
        StorageFullError: the disk for temporary files is full.
        UnsupportedTableError: a value is missing where it would have to be compared.
    """
    held: list[pa.RecordBatch] = []
    held_bytes = 0
    for batch in entries:
        held.append(batch)
        held_bytes += batch.nbytes
        if held_bytes > held_bytes_max and level < _LEVELS_MAX:
            everything = chain(held, entries)
            yield from _apart(everything, base, held_bytes_max=held_bytes_max, level=level)
            return
    if held:
        yield _merged_held(pa.Table.from_batches(held), base)


def winning(entries: pa.Table) -> _Numbers:
    """Return the number of the entry of each key that stays, of those of logs alone."""
    keys = pa.concat_arrays(entries["key"].dictionary_encode().unify_dictionaries().chunks)
    codes = np.asarray(keys.indices.to_numpy()).astype(np.int64)
    ordering = _ordering(entries)
    last = np.zeros(len(keys.dictionary), np.int64)
    last[codes] = np.arange(len(codes))
    if not ordering or len(last) == len(codes):
        return last
    rows = np.flatnonzero(np.bincount(codes)[codes] > 1)
    some = entries.take(pa.array(rows))
    chosen = _newest(codes[rows], some)
    last[codes[rows[chosen]]] = rows[chosen]
    return last


def _newest(codes: _Numbers, entries: pa.Table) -> _Numbers:
    """Return the entry of each code that stays by event time."""
    is_default = _mask(entries, "is_default")
    arrivals = np.arange(len(codes))
    resets = np.full(codes.max() + 1, -1, np.int64)
    np.maximum.at(resets, codes[is_default], arrivals[is_default])
    # What follows a delete without an ordering value always replaces it, but for other deletes.
    is_row = ~_mask(entries, "is_block")
    counts = is_row & (arrivals > resets[codes])
    first_rows = np.full(len(resets), len(codes), np.int64)
    np.minimum.at(first_rows, codes[counts], arrivals[counts])
    has_reset = resets[codes] >= 0
    is_live = (arrivals > resets[codes]) & (~has_reset | (arrivals >= first_rows[codes]))
    is_only_reset = (arrivals == resets[codes]) & (first_rows[codes] == len(codes))
    live = np.flatnonzero(is_live | is_only_reset)
    compared = entries.take(pa.array(live))
    keys = [ranks(column) for column in _ranked(compared, is_default[live])]
    order = np.lexsort([arrivals[live], *reversed(keys), codes[live]])
    ordered = codes[live][order]
    is_last = np.append(ordered[1:] != ordered[:-1], [True] * bool(len(ordered)))
    chosen: _Numbers = live[order[is_last]]
    return chosen


def _ranked(entries: pa.Table, is_default: _Mask) -> list[pa.Array]:
    """Return the ordering columns; a delete without values is alone with its key by now."""
    filled = []
    for column in _ordering(entries):
        values = column
        if is_default.any() and values.null_count:
            some = values.drop_null()
            fill = some[0] if len(some) else pa.scalar(_any(values.type), values.type)
            values = pc.if_else(pa.array(is_default & np.asarray(values.is_null())), fill, values)
        filled.append(values)
    return filled


def _any(kind: pa.DataType) -> object:
    if pa.types.is_decimal(kind):
        return Decimal(0)
    return b"" if pa.types.is_binary(kind) else 0


def _mask(table: pa.Table, name: str) -> _Mask:
    return np.asarray(table[name].to_numpy(), np.bool_)


def _ordering(table: pa.Table) -> list[pa.Array]:
    names = [name for name in table.column_names if name.startswith("ordering_")]
    return [
        pa.concat_arrays(table[name].chunks or [pa.array([], table[name].type)]) for name in names
    ]


class _Standing:
    """The winners of logs while base rows stream past them."""

    def __init__(self, entries: pa.Table) -> None:
        self._entries = entries
        self._dropped: list[_Numbers] = []
        self._keys = pa.concat_arrays(entries["key"].chunks)
        self._was_met = np.zeros(len(self._keys), np.bool_)
        self._has_lost = np.zeros(len(self._keys), np.bool_)

    def meet(self, rows: pa.Table) -> None:
        """Merge some base rows with the entries of their keys."""
        places = pc.index_in(rows["key"], value_set=self._keys).combine_chunks()
        met = np.flatnonzero(np.asarray(places.is_valid()))
        found, first = np.unique(
            np.asarray(places.drop_null().to_numpy()).astype(np.int64), return_index=True
        )
        is_new = ~self._was_met[found]
        found, met = found[is_new], met[first[is_new]]
        if not found.size:
            return
        self._was_met[found] = True
        has_won = self._has_won(found, rows.take(pa.array(met)))
        self._has_lost[found[~has_won]] = True
        positions = np.asarray(rows["position"].to_numpy())
        self._dropped.append(positions[met[has_won]])

    def _has_won(self, found: _Numbers, rows: pa.Table) -> _Mask:
        entries = self._entries.take(pa.array(found))
        has_won = _mask(entries, "is_default").copy()
        compared = np.flatnonzero(~has_won)
        taken = pa.array(compared)
        newer = [column.take(taken) for column in _ordering(entries)]
        older = [column.take(taken) for column in _ordering(rows)]
        has_won[compared] = at_least(newer, older) if newer else True
        return has_won

    def result(self) -> Merged:
        """Return what became of the keys."""
        rows = np.asarray(self._entries["row"].to_numpy())
        empty = np.empty(0, np.int64)
        return Merged(np.concatenate([empty, *self._dropped]), rows[(rows >= 0) & ~self._has_lost])


def _merged_held(entries: pa.Table, base: Iterable[pa.RecordBatch]) -> Merged:
    standing = _Standing(entries.take(pa.array(winning(entries))))
    del entries
    for run in _runs(base):
        standing.meet(run)
    return standing.result()


def _runs(rows: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Join batches to runs that are worth a hash table."""
    waiting: list[pa.RecordBatch] = []
    count = size_bytes = 0
    for batch in rows:
        waiting.append(batch)
        count, size_bytes = count + batch.num_rows, size_bytes + batch.nbytes
        if count >= _RUN_ROWS or size_bytes >= _RUN_BYTES:
            yield pa.Table.from_batches(waiting)
            waiting, count, size_bytes = [], 0, 0
    if waiting:
        yield pa.Table.from_batches(waiting)


def _apart(
    entries: Iterator[pa.RecordBatch],
    base: Iterable[pa.RecordBatch],
    *,
    held_bytes_max: int,
    level: int,
) -> Iterator[Merged]:
    """Merge bucket by bucket."""
    with ExitStack() as stack:
        ours = spread(entries, level, stack=stack, is_wanted=lambda bucket: True)
        theirs = spread(base, level, stack=stack, is_wanted=ours.__contains__)
        for bucket, file in sorted(ours.items()):
            rows = theirs[bucket].batches() if bucket in theirs else iter(())
            yield from merged(file.batches(), rows, held_bytes_max=held_bytes_max, level=level + 1)
