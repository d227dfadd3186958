"""Which entry of logs stays for each key, of all that they say of it.  Pure.

By commit time the last entry stays. By event time the one with the greatest ordering value does, of
equal ones the last; deletes without an ordering value take everything with them that was there.
Where rows have some of the columns only, several rows may stay, one upon the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.hudi.layers import Arrivals, stacked
from catalog.hudi.ordering import ranks

_Numbers = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]
_ORDERING = "ordering_"


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
            # Whether it is a row with some of the columns only.
            pa.field("is_partial", pa.bool_()),
            *ordering_fields(ordering),
        ]
    )


def ordering_fields(ordering: Sequence[pa.DataType]) -> list[pa.Field]:
    """Return the fields of the ordering columns."""
    return [pa.field(f"{_ORDERING}{number}", kind) for number, kind in enumerate(ordering)]


def ordering_columns(table: pa.Table) -> list[pa.Array]:
    """Return the ordering columns, each in one piece."""
    names = [name for name in table.column_names if name.startswith(_ORDERING)]
    return [
        pa.concat_arrays(table[name].chunks or [pa.array([], table[name].type)]) for name in names
    ]


def mask(table: pa.Table, name: str) -> _Mask:
    """Return a column of booleans without nulls."""
    return np.asarray(table[name].to_numpy(), np.bool_)


@dataclass(frozen=True, slots=True)
class Choice:
    """What stays of logs.

    Attributes:
        winners: the number of the entry of each key that base rows are compared with.
        lengths: how many rows each winner is put together from; 0 where it is the row as it is.
        rows: the numbers of these rows, winner by winner, the topmost first.
    """

    winners: _Numbers
    lengths: _Numbers
    rows: _Numbers


def choose(entries: pa.Table) -> Choice:
    """Return what stays of entries, of `entry_schema`, that are in the order in which they apply.

    Raises:
        UnsupportedTableError: a value is missing where it would have to be compared.
    """
    keys = pa.concat_arrays(entries["key"].dictionary_encode().unify_dictionaries().chunks)
    codes = np.asarray(keys.indices.to_numpy()).astype(np.int64)
    is_stacked = np.zeros(len(keys.dictionary), np.bool_)
    is_stacked[codes[mask(entries, "is_partial")]] = True
    winners = _last_of_each(codes, len(is_stacked))
    if ordering_columns(entries) and len(winners) < len(codes):
        several = np.flatnonzero((np.bincount(codes)[codes] > 1) & ~is_stacked[codes])
        chosen = several[_newest(codes[several], entries.take(pa.array(several)))]
        winners[codes[chosen]] = chosen
    lengths = np.zeros(len(winners), np.int64)
    if not is_stacked.any():
        return Choice(winners, lengths, np.empty(0, np.int64))
    return _with_stacks(entries, codes, np.flatnonzero(is_stacked[codes]), winners)


def _last_of_each(codes: _Numbers, count: int) -> _Numbers:
    last = np.zeros(count, np.int64)
    last[codes] = np.arange(len(codes))
    return last


def _with_stacks(
    entries: pa.Table, codes: _Numbers, several: _Numbers, winners: _Numbers
) -> Choice:
    """Put the stacks of partial rows in the places of their keys."""
    some = entries.take(pa.array(several))
    live = _live(codes[several], some)
    live = live[np.lexsort([live, codes[several[live]]])]
    found, numbers = some.take(pa.array(live)), several[live]
    rows = np.asarray(found["row"].to_numpy())
    arrivals = Arrivals(
        codes=codes[numbers],
        ranks=_together(found, mask(found, "is_default")),
        is_gone=rows < 0,
        is_whole=(rows >= 0) & ~mask(found, "is_partial"),
    )
    stacks = stacked(arrivals)
    owners = arrivals.codes[stacks.tops]
    winners[owners] = numbers[stacks.tops]
    lengths = np.zeros(len(winners), np.int64)
    # A whole row on top is that row.
    counts = np.diff(stacks.offsets)
    is_plain = (counts == 1) & arrivals.is_whole[stacks.tops]
    lengths[owners] = np.where(is_plain, 0, counts)
    kept = np.repeat(~is_plain, counts)
    return Choice(winners, lengths, rows[stacks.entries[kept]])


def _together(entries: pa.Table, is_default: _Mask) -> _Numbers:
    """Return one small number for all ordering columns of an entry."""
    columns = [ranks(column) for column in _filled(entries, is_default)]
    if not columns:
        return np.zeros(entries.num_rows, np.int64)
    _, numbers = np.unique(np.stack(columns), axis=1, return_inverse=True)
    return np.asarray(numbers, np.int64).reshape(-1)


def _newest(codes: _Numbers, entries: pa.Table) -> _Numbers:
    """Return the entry of each code that stays by event time."""
    live = _live(codes, entries)
    compared = entries.take(pa.array(live))
    keys = [ranks(column) for column in _filled(compared, mask(compared, "is_default"))]
    order = np.lexsort([live, *reversed(keys), codes[live]])
    ordered = codes[live][order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], [True] * bool(len(ordered))))
    chosen: _Numbers = live[order[last]]
    return chosen


def _live(codes: _Numbers, entries: pa.Table) -> _Numbers:
    """Return the entries that count, given that some deletes take everything before them along.

    What follows a delete without an ordering value replaces it, but for other deletes. Where
    nothing does, it stays alone.
    """
    is_default = mask(entries, "is_default")
    arrivals = np.arange(len(codes))
    resets = np.full(codes.max(initial=-1) + 1, -1, np.int64)
    np.maximum.at(resets, codes[is_default], arrivals[is_default])
    follows = ~mask(entries, "is_block") & (arrivals > resets[codes])
    firsts = np.full(len(resets), len(codes), np.int64)
    np.minimum.at(firsts, codes[follows], arrivals[follows])
    has_reset = resets[codes] >= 0
    is_live = (arrivals > resets[codes]) & (~has_reset | (arrivals >= firsts[codes]))
    is_alone = (arrivals == resets[codes]) & (firsts[codes] == len(codes))
    return np.flatnonzero(is_live | is_alone)


def _filled(entries: pa.Table, is_default: _Mask) -> list[pa.Array]:
    """Return the ordering columns; a delete without values is alone with its key by now."""
    filled = []
    for values in ordering_columns(entries):
        if is_default.any() and values.null_count:
            some = values.drop_null()
            fill = some[0] if len(some) else pa.scalar(_any(values.type), values.type)
            is_missing = pa.array(is_default & np.asarray(values.is_null()))
            filled.append(pc.if_else(is_missing, fill, values))
        else:
            filled.append(values)
    return filled


def _any(kind: pa.DataType) -> object:
    if pa.types.is_decimal(kind):
        return Decimal(0)
    return b"" if pa.types.is_binary(kind) else 0
