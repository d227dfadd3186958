"""Cutting rows into ranges of about equal size, by keys that a sample has shown.

A row's *position* among the splitters of one key is an even number between two of them and an odd
number on one; null has a position of its own. Positions of several keys are joined one key at a
time and renumbered by what the splitters themselves have, so that they stay small whatever the
number and the types of the keys.

A key that the sample shows more than once in the space of a range is *heavy*: its rows get a range
of their own, however many they are. They are all equal, so nobody has to hold them to sort them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from compactor.rewrite.cluster.comparable import Comparable
from compactor.rewrite.cluster.permutation import Key, Rows, sort_permutation

Positions = npt.NDArray[np.int64]
RANGES_MAX = 256


@dataclass(frozen=True, slots=True)
class _KeySplitters:
    """The different values that the splitters have in one key, as positions are found by.

    Attributes:
        values: ascending; without nulls.
        renumbered: by joined position, its place among those that the splitters have.
    """

    values: Comparable
    renumbered: Positions


class Splitters:
    """Where ranges begin.

    Attributes:
        range_count: how many ranges there are; 1 when there is nothing to split by.
        uniform: the ranges whose rows are all equal in all keys.
    """

    def __init__(self, sample: Sequence[Key], ranges: int) -> None:
        """Choose splitters.

        Args:
            sample: keys of some rows, at least one.
            ranges: how many ranges of about equal size are wanted.
        """
        order = sort_permutation(sample)
        wanted = min(ranges, RANGES_MAX)
        # A row of a small sample is picked more than once, and so gets a range for its equals.
        picks = order[(np.arange(1, wanted) * len(order)) // wanted]
        chosen = [
            Key(key.column.take(picks), key.is_descending, key.is_nulls_first) for key in sample
        ]
        self._keys: list[_KeySplitters] = []
        positions, splitters = np.zeros(len(picks), dtype=np.int64), 0
        for key in chosen:
            values = _distinct(key.column)
            joined = _joined(positions, _positions(key, values), values)
            distinct = np.unique(joined)
            every = np.arange((2 * splitters + 1) * _own_positions(values))
            self._keys.append(_KeySplitters(values, _among(every, distinct)))
            positions, splitters = self._keys[-1].renumbered[joined], len(distinct)
        self._range_of, self.uniform = _ranges(positions, splitters)
        self.range_count = int(self._range_of[-1]) + 1

    def range_of(self, keys: Sequence[Key]) -> npt.NDArray[np.uint16]:
        """Return the number of the range of each row; ranges are numbered in order."""
        positions = np.zeros(len(keys[0].column), dtype=np.int64)
        for key, splitters in zip(keys, self._keys, strict=True):
            joined = _joined(positions, _positions(key, splitters.values), splitters.values)
            positions = splitters.renumbered[joined]
        return self._range_of[positions]

    def cut(
        self, batch: pa.RecordBatch, keys: Sequence[Key]
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the rows of each range that has some, in their order."""
        ranges = self.range_of(keys)
        counts = np.bincount(ranges, minlength=self.range_count)
        if self.range_count <= 1 << 8:
            ranges = ranges.astype(np.uint8)
        order = np.argsort(ranges, kind="stable")  # a radix sort at this width
        grouped = taken(batch, order)
        start = 0
        for number in np.flatnonzero(counts).tolist():
            yield number, grouped.slice(start, int(counts[number]))
            start += int(counts[number])


def taken(batch: pa.RecordBatch, rows: Rows) -> pa.RecordBatch:
    """Return rows of a batch in another order."""
    indices = pa.array(rows.astype(np.int32) if batch.num_rows < 1 << 31 else rows)
    return pc.take(batch, indices, boundscheck=False)


def _distinct(column: Comparable) -> Comparable:
    rows = np.arange(len(column))
    values = column.take(rows if column.is_null is None else rows[~column.is_null])
    if values.numbers is not None:
        return Comparable(np.unique(values.numbers), None, None)
    texts = values.texts.unique()
    return Comparable(None, texts.take(pc.sort_indices(texts)), None)


def _positions(key: Key, values: Comparable) -> Positions:
    """Return positions among ascending values, 0 to twice their number; nulls beyond either end."""
    column, last = key.column, 2 * len(values)
    if column.numbers is not None and values.numbers is not None:
        found = _among(column.numbers, values.numbers)
    else:
        known = values.texts.cast(column.texts.type)
        left = pc.search_sorted(known, column.texts, side="left")
        right = pc.search_sorted(known, column.texts, side="right")
        found = pc.add(left, right).fill_null(0).to_numpy().astype(np.int64)
    found = (last - found if key.is_descending else found) + 1
    if column.is_null is not None:
        found[column.is_null] = 0 if key.is_nulls_first else last + 2
    return found.astype(np.int64, copy=False)


def _own_positions(values: Comparable) -> int:
    """Return how many different positions `_positions` can give."""
    return 2 * len(values) + 3


def _joined(before: Positions, own: Positions, values: Comparable) -> Positions:
    return before * _own_positions(values) + own


def _among(numbers: npt.NDArray[Any], known: npt.NDArray[Any]) -> Positions:
    """Return positions among known numbers, which ascend."""
    if not len(known):
        return np.zeros(len(numbers), dtype=np.int64)
    left = np.searchsorted(known, numbers)
    positions: Positions = 2 * left + (known[np.minimum(left, len(known) - 1)] == numbers)
    return positions


def _ranges(picks: Positions, splitters: int) -> tuple[npt.NDArray[np.uint16], frozenset[int]]:
    """Number the ranges: one begins at every splitter, and one behind every heavy one."""
    times = np.bincount(picks, minlength=2 * splitters + 1)
    begins = np.zeros(2 * splitters + 1, dtype=np.int64)
    begins[1::2] = 1
    begins[2::2] = times[1::2] > 1
    numbers = np.cumsum(begins)
    heavy = numbers[1::2][times[1::2] > 1]
    return numbers.astype(np.uint16), frozenset(heavy.tolist())
