"""Which row groups can hold a changed key, by the bounds of the key columns.

A row group is ruled out when no key fits between its bounds in all columns at once. That is exact
for one column. For several, the keys that fit the first of them are tried on the others while they
are few; where they are many, each column is tried by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from compactor.merge.bounds import ColumnBounds
from compactor.merge.keys import Flags, Keys, Rows, comparable_key
from compactor.rewrite.cluster.comparable import Comparable
from compactor.rewrite.cluster.permutation import Key, sort_permutation

# Keys that are tried one by one on a row group.
_TRIED_MAX = 1 << 14


class Probe:
    """Keys made ready to be looked for."""

    def __init__(self, keys: Keys, kinds: Sequence[pa.DataType]) -> None:
        """Sort the values of each column; `kinds` are their types."""
        self._columns = [_Values(*pair) for pair in zip(keys.columns, kinds, strict=True)]
        self._count = len(keys)

    def may_hold(self, bounds: Sequence[ColumnBounds]) -> Flags:
        """Tell which row groups may hold a key.

        Args:
            bounds: of the columns of the key.
        """
        found = np.full(len(bounds[0].is_known), self._count > 0)
        for values, one in zip(self._columns, bounds, strict=True):
            found &= values.may_be_in(one)
        if len(bounds) > 1:
            for group in np.flatnonzero(found):
                rows = self.fitting(bounds, int(group))
                found[group] = rows is None or len(rows) > 0
        return found

    def fitting(self, bounds: Sequence[ColumnBounds], group: int) -> Rows | None:
        """Return the keys that fit all columns of a row group; None when they are too many."""
        rows: Rows | None = None
        for values, one in zip(self._columns, bounds, strict=True):
            fitting = values.fitting(one, group)
            if fitting is None or len(fitting) > _TRIED_MAX:
                continue
            rows = fitting if rows is None else np.intersect1d(rows, fitting)
        return rows


class _Values:
    """The values of one key column, in order."""

    def __init__(self, column: Comparable, kind: pa.DataType) -> None:
        is_null = np.zeros(len(column), np.bool_) if column.is_null is None else column.is_null
        self._nulls = np.flatnonzero(is_null)
        rows = np.flatnonzero(~is_null)
        plain = column.take(rows)
        plain = Comparable(plain.numbers, plain.texts, None)
        order = sort_permutation([Key(plain)]) if len(rows) else rows
        self._sorted, self._rows = plain.take(order), rows[order]
        # Statistics do not speak of NaN: it may be in any row group.
        self._has_nan = _has_nan(self._sorted, kind)

    def may_be_in(self, bounds: ColumnBounds) -> Flags:
        """Tell for each row group whether a value may be in it."""
        first, last = self._places(bounds)
        is_inside = ~bounds.is_known | (first < last) | self._has_nan
        found: Flags = bounds.has_values & is_inside & (len(self._rows) > 0)
        return found | (bounds.has_nulls & (len(self._nulls) > 0))

    def fitting(self, bounds: ColumnBounds, group: int) -> Rows | None:
        """Return the keys whose value may be in a row group; None for any."""
        if self._has_nan or (bounds.has_values[group] and not bounds.is_known[group]):
            return None
        first, last = self._places(bounds.take(np.array([group])))
        rows = self._rows[first[0] : last[0]] if bounds.has_values[group] else _NONE
        return np.concatenate([rows, self._nulls]) if bounds.has_nulls[group] else rows

    def _places(self, bounds: ColumnBounds) -> tuple[Rows, Rows]:
        """Return where the values between the bounds begin and end."""
        return (
            _search(self._sorted, bounds.lower, side="left"),
            _search(self._sorted, bounds.upper, side="right"),
        )


_NONE: Rows = np.empty(0, np.int64)


def _search(values: Comparable, ends: Comparable, *, side: str) -> Rows:
    if values.numbers is not None and ends.numbers is not None:
        found: npt.NDArray[np.int64] = np.searchsorted(
            values.numbers, ends.numbers, side="left" if side == "left" else "right"
        )
        return found
    texts = values.texts.cast(pa.large_binary())
    places = pc.search_sorted(texts, ends.texts.cast(pa.large_binary()), side=side)
    return np.asarray(places.fill_null(0)).astype(np.int64)


def _has_nan(values: Comparable, kind: pa.DataType) -> bool:
    if not types.is_floating(kind) or values.numbers is None or not len(values):
        return False
    infinity = comparable_key(pa.array([np.inf], kind)).numbers
    return infinity is not None and bool(values.numbers[-1] > infinity[0])
