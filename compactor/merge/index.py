"""Rows found by their keys: the last row of each key, rows put together, rows of other tables.

All by tables of row numbers, whole columns at a time: the upper bits of a hash name a slot, a slot
holds one row, and whoever finds another key there goes on to the next, smaller table with other
bits. Keys are compared by value before they count as one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from compactor.merge.keys import Keys, Rows
from compactor.rewrite.cluster.comparable import Comparable
from compactor.rewrite.cluster.permutation import Key, sort_permutation
from compactor.rewrite.fingerprint import Hashes, mix

# Few enough for the caches; with as many as these, nine of ten rows are done in the first table.
_SLOTS_PER_ROW, _SLOTS_PER_KEY = 2, 4
_SLOT_BITS_MIN, _SLOT_BITS_MAX = 8, 28
# Each table leaves an eighth of the rows to the next: what is left by then has one hash.
_TABLES_MAX = 16
_BLOCK_ROWS = 1 << 15
_ODD = np.uint64(0x9E3779B97F4A7C15)
_WORD_BITS = 64
_TAG_BITS, _TAKEN, _GOES_ON = np.uint64(0x3F), np.uint8(0x40), np.uint8(0x80)


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows put together by their keys.

    Attributes:
        rows: all rows, those of one key next to each other and in their order.
        starts: where in `rows` each key begins.
    """

    rows: Rows
    starts: Rows

    @property
    def ends(self) -> Rows:
        """Where in `rows` the last row of each key is."""
        return np.append(self.starts, len(self.rows))[1:] - 1


def last_alike(keys: Keys) -> npt.NDArray[np.int32]:
    """Return for each row the last one that has its key: itself where there is no later one."""
    found = np.empty(len(keys), np.int32)
    rows: npt.NDArray[Any] = np.arange(len(keys), dtype=np.int32)
    hashes = keys.hashes
    for _ in range(_TABLES_MAX):
        if not len(rows):
            return found
        bits = _slot_bits(_SLOTS_PER_ROW * len(rows))
        table: npt.NDArray[Any] = np.empty(1 << bits, np.int32)
        for some in _blocks(len(rows)):
            # Of several rows that are put into one slot, the last one stays.
            table[_slots(hashes[some], bits)] = rows[some]
        left = []
        for some in _blocks(len(rows)):
            mine, last = rows[some], table[_slots(hashes[some], bits)]
            is_known = mine == last
            others = np.flatnonzero(~is_known)
            is_known[others] = keys.equal(mine[others], keys, last[others])
            found[mine[is_known]] = last[is_known]
            left.append(np.flatnonzero(~is_known) + some.start)
        places = np.concatenate(left)
        rows, hashes = rows[places], _other_bits(hashes[places])
    found[rows] = rows[_last_alike_sorted(keys.take(rows))]
    return found


def _blocks(count: int) -> Iterator[slice]:
    """Yield pieces that are worked on while they lie in the caches."""
    for start in range(0, count, _BLOCK_ROWS):
        yield slice(start, start + _BLOCK_ROWS)


def last_of_each(keys: Keys) -> Rows:
    """Return the last row of each key, ascending."""
    return np.flatnonzero(last_alike(keys) == np.arange(len(keys)))


def grouped(keys: Keys) -> Groups:
    """Put rows of the same key together."""
    last = last_alike(keys)
    rows = sort_permutation([Key(Comparable(last.astype(np.uint64), None, None))])
    names = last[rows]
    return Groups(rows, np.flatnonzero(np.append(-1, names[:-1]) != names))


def _last_alike_sorted(keys: Keys) -> Rows:
    """Return the same as `last_alike`, by comparing values alone."""
    rows = sort_permutation([Key(_without_noise(one)) for one in keys.columns])
    is_last = np.append(~keys.equal(rows[:-1], keys, rows[1:]), True)
    ends = np.flatnonzero(is_last)
    found = np.empty(len(rows), np.int64)
    found[rows] = rows[ends[np.cumsum(is_last) - is_last]]
    return found


def _without_noise(column: Comparable) -> Comparable:
    """Return texts of which nulls have no bytes, so that nulls are tied."""
    if column.texts is None or column.is_null is None:
        return column
    return Comparable(None, column.texts.fill_null(b""), column.is_null)


def _slot_bits(slots: int) -> int:
    """Return the number of slots that there are, as a power of two: at least half of `slots`."""
    return min(_SLOT_BITS_MAX, max(_SLOT_BITS_MIN, slots.bit_length() - 1))


def _slots(hashes: Hashes, bits: int) -> Rows:
    found: Rows = (hashes >> np.uint64(_WORD_BITS - bits)).view(np.int64)
    return found


def _table(slots: Rows, rows: Rows, bits: int) -> npt.NDArray[Any]:
    """Return the last of the rows put into each slot, as 32-bit numbers; -1 where there is none."""
    table = np.full(1 << bits, -1, np.int32)
    table[slots] = rows
    return table


def _other_bits(hashes: Hashes) -> Hashes:
    """Return other hashes of the same keys."""
    return mix(hashes + _ODD)


@dataclass(frozen=True, slots=True)
class _Level:
    """One table of an index, in two arrays: the first is small, and answers nearly all.

    Attributes:
        tags: of each slot some bits of the key that has it, 0 when none has, and whether another
            key had to go on to the next table.
        rows: the row that has each slot.
    """

    tags: npt.NDArray[np.uint8]
    rows: npt.NDArray[Any]

    @property
    def slot_bits(self) -> int:
        """The number of slots, as a power of two."""
        return len(self.tags).bit_length() - 1


class KeyIndex:
    """Finds rows by their keys."""

    def __init__(self, keys: Keys) -> None:
        """Prepare to look among `keys`, each of which is there once."""
        self._keys = keys
        self._levels: list[_Level] = []
        rows, hashes = np.arange(len(keys)), keys.hashes
        while len(rows):
            bits = _slot_bits(_SLOTS_PER_KEY * len(rows))
            slots = _slots(hashes, bits)
            table = _table(slots, rows, bits)
            is_left = table[slots] != rows
            tags = np.zeros(1 << bits, np.uint8)
            tags[slots] = _tags(hashes)
            rows, hashes = rows[is_left], _other_bits(hashes[is_left])
            tags[slots[is_left]] |= _GOES_ON
            self._levels.append(_Level(tags, table))

    def find(self, keys: Keys) -> Rows:
        """Return, for each of some other keys, which row has it; -1 where none has."""
        found = np.full(len(keys), -1, np.int64)
        rows, hashes = np.arange(len(keys)), keys.hashes
        for level in self._levels:
            slots = _slots(hashes, level.slot_bits)
            tags = level.tags[slots]
            goes_on = tags >= _GOES_ON
            places = np.flatnonzero(goes_on | (tags == _tags(hashes)))
            there = level.rows[slots[places]]
            is_same = keys.equal(rows[places], self._keys, there)
            found[rows[places[is_same]]] = there[is_same]
            places = places[~is_same & goes_on[places]]
            rows, hashes = rows[places], _other_bits(hashes[places])
        return found


def _tags(hashes: Hashes) -> npt.NDArray[np.uint8]:
    """Return six bits of each hash, which are not those of its slot, and one that is set."""
    return (hashes & _TAG_BITS).astype(np.uint8) | _TAKEN
