"""Which rows stay, of what logs say of keys and of the rows of a base file.

Entries are what logs say of keys, in the order in which they apply: a row, or that there is none.
Those that fit are held, and the rows of the base file stream past them; else both sides are cut by
a hash of their keys into buckets on local disk, and each bucket is merged by itself.

What stays of logs replaces the base row with its key, unless that is newer by event time. Of rows
of a base file with equal keys only the first one is merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.hudi.choosing import Choice, choose, mask, ordering_columns, ordering_fields
from catalog.hudi.ordering import at_least
from catalog.key_join import runs, spread

# Where the bits of the hash are used up.
_LEVELS_MAX = 12
# Base rows looked up at a time: the hash table of the entries is built anew for each such run.
_RUN_ROWS = 1 << 20
_RUN_BYTES = 48 << 20

_Numbers = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]


def base_schema(ordering: Sequence[pa.DataType]) -> pa.Schema:
    """Return the columns of the rows of a base file."""
    fields = [pa.field("key", pa.binary()), pa.field("position", pa.int64())]
    return pa.schema([*fields, *ordering_fields(ordering)])


@dataclass(frozen=True, slots=True)
class Composed:
    """Records, each put together from rows of logs and perhaps a base row.

    Attributes:
        lengths: how many rows of logs each has.
        rows: numbers of these, record by record, the topmost first.
        positions: of the base row that lies below; -1 for none.
        is_base_on_top: whether the base row lies above the others instead.
    """

    lengths: _Numbers
    rows: _Numbers
    positions: _Numbers
    is_base_on_top: _Mask

    @staticmethod
    def joined(parts: Sequence[Composed]) -> Composed:
        """Return the records of all parts."""
        nothing = np.empty(0, np.int64)
        return Composed(
            np.concatenate([nothing, *(one.lengths for one in parts)]),
            np.concatenate([nothing, *(one.rows for one in parts)]),
            np.concatenate([nothing, *(one.positions for one in parts)]),
            np.concatenate([np.empty(0, np.bool_), *(one.is_base_on_top for one in parts)]),
        )


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of some keys.

    Attributes:
        dropped: positions of base rows that are replaced or deleted.
        kept: numbers of the rows of logs that stay as they are.
        composed: records that are put together from several rows.
    """

    dropped: _Numbers
    kept: _Numbers
    composed: Composed


@dataclass(frozen=True, slots=True)
class Manner:
    """How entries are merged.

    Attributes:
        held_bytes_max: what the entries may take that are held.
        fills_nulls: whether a base row that is newer takes values that it lacks from logs.
    """

    held_bytes_max: int
    fills_nulls: bool = False


def merged(
    entries: Iterator[pa.RecordBatch],
    base: Iterable[pa.RecordBatch],
    *,
    manner: Manner,
    level: int = 0,
) -> Iterator[Merged]:
    """Merge entries with each other and with the rows of a base file, some keys at a time.

    Args:
        entries: of `entry_schema`, in the order in which they apply; consumed once.
        base: of `base_schema`, by ascending position; not asked for where there is no entry.
        manner: of merging.
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
        if held_bytes > manner.held_bytes_max and level < _LEVELS_MAX:
            yield from _apart(chain(held, entries), base, manner=manner, level=level)
            return
    if held:
        yield _merged_held(pa.Table.from_batches(held), base, manner)


class _Standing:
    """What stays of logs while base rows stream past it."""

    def __init__(self, entries: pa.Table, choice: Choice, manner: Manner) -> None:
        self._entries = entries.take(pa.array(choice.winners))
        self._choice = choice
        self._manner = manner
        self._dropped: list[_Numbers] = []
        self._keys = pa.concat_arrays(self._entries["key"].chunks)
        # Of the base row that each has met; -1 for none.
        self._positions = np.full(len(self._keys), -1, np.int64)
        self._has_lost = np.zeros(len(self._keys), np.bool_)
        self._is_below = np.zeros(len(self._keys), np.bool_)

    def meet(self, rows: pa.Table) -> None:
        """Merge some base rows with the entries of their keys."""
        places = pc.index_in(rows["key"], value_set=self._keys).combine_chunks()
        met = np.flatnonzero(np.asarray(places.is_valid()))
        found, first = np.unique(
            np.asarray(places.drop_null().to_numpy()).astype(np.int64), return_index=True
        )
        is_new = self._positions[found] < 0
        found, met = found[is_new], met[first[is_new]]
        if not found.size:
            return
        positions = np.asarray(rows["position"].to_numpy())[met]
        self._positions[found] = positions
        has_won = self._has_won(found, rows.take(pa.array(met)))
        if self._manner.fills_nulls:
            is_row = np.asarray(self._entries["row"].take(pa.array(found)).to_numpy()) >= 0
            self._is_below[found[~has_won & is_row]] = True
            has_won |= is_row
        self._has_lost[found[~has_won]] = True
        self._dropped.append(positions[has_won])

    def _has_won(self, found: _Numbers, rows: pa.Table) -> _Mask:
        entries = self._entries.take(pa.array(found))
        has_won = mask(entries, "is_default").copy()
        compared = np.flatnonzero(~has_won)
        taken = pa.array(compared)
        newer = [column.take(taken) for column in ordering_columns(entries)]
        older = [column.take(taken) for column in ordering_columns(rows)]
        has_won[compared] = at_least(newer, older) if newer else True
        return has_won

    def result(self) -> Merged:
        """Return what became of the keys."""
        rows = np.asarray(self._entries["row"].to_numpy())
        lengths = self._choice.lengths
        is_kept = (rows >= 0) & ~self._has_lost
        is_composed = is_kept & (lengths > 0)
        composed = Composed(
            lengths[is_composed],
            self._choice.rows[np.repeat(is_composed, lengths)],
            self._positions[is_composed],
            self._is_below[is_composed],
        )
        dropped = np.concatenate([np.empty(0, np.int64), *self._dropped])
        return Merged(dropped, rows[is_kept & ~is_composed], composed)


def _merged_held(entries: pa.Table, base: Iterable[pa.RecordBatch], manner: Manner) -> Merged:
    standing = _Standing(entries, choose(entries), manner)
    del entries
    for run in runs(base, rows_max=_RUN_ROWS, bytes_max=_RUN_BYTES):
        standing.meet(run)
    return standing.result()


def _apart(
    entries: Iterator[pa.RecordBatch],
    base: Iterable[pa.RecordBatch],
    *,
    manner: Manner,
    level: int,
) -> Iterator[Merged]:
    """Merge bucket by bucket."""
    with ExitStack() as stack:
        ours = spread(entries, level, stack=stack, is_wanted=lambda bucket: True)
        theirs = spread(base, level, stack=stack, is_wanted=ours.__contains__)
        for bucket, file in sorted(ours.items()):
            rows = theirs[bucket].batches() if bucket in theirs else iter(())
            yield from merged(file.batches(), rows, manner=manner, level=level + 1)
