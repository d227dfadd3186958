"""Which row groups, or files, can hold a changed key, by the bounds of the key columns.

One is ruled out when no key fits between its bounds in all columns at once. That is exact for one
column. For several, the keys that fit the narrowest of them are tried on the others while they are
few; where they are many, each column is tried by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
# Keys and row groups that are tried on each other at a time.
_PAIRS_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class _Window:
    """Which values of a key column fit row groups, as places in their order.

    Attributes:
        first: of the first value that is not below the least.
        last: behind the last that is not above the greatest.
        takes_nulls: where nulls fit.
        sizes: number of keys that fit.
    """

    first: Rows
    last: Rows
    takes_nulls: Flags
    sizes: Rows


class Probe:
    """Keys made ready to be looked for."""

    def __init__(self, keys: Keys, kinds: Sequence[pa.DataType]) -> None:
        """Sort the values of each column; `kinds` are their types."""
        self._columns = [_Values(*pair) for pair in zip(keys.columns, kinds, strict=True)]
        self._count = len(keys)

    def count(self, bounds: Sequence[ColumnBounds], group: int) -> int:
        """Return how many keys fit a row group at most, by each column alone."""
        place = np.array([group])
        pairs = zip(self._columns, bounds, strict=True)
        return min(int(values.window(one.take(place)).sizes[0]) for values, one in pairs)

    def may_hold_column(self, number: int, bounds: ColumnBounds) -> Flags:
        """Tell what may hold a key by the bounds of one of its columns alone."""
        found: Flags = self._columns[number].window(bounds).sizes > 0
        return found

    def may_hold(self, bounds: Sequence[ColumnBounds]) -> Flags:
        """Tell which row groups may hold a key.

        Args:
            bounds: of the columns of the key.
        """
        windows = [values.window(one) for values, one in zip(self._columns, bounds, strict=True)]
        found = np.full(len(bounds[0].is_known), self._count > 0)
        for window in windows:
            found &= window.sizes > 0
        if len(windows) > 1:
            self._try_together(windows, found)
        return found

    def _try_together(self, windows: Sequence[_Window], found: Flags) -> None:
        """Rule out, in `found`, where no key fits all columns together."""
        sizes = np.stack([window.sizes for window in windows])
        narrowest = np.argmin(sizes, axis=0)
        for column, window in enumerate(windows):
            is_tried = found & (narrowest == column) & (window.sizes <= _TRIED_MAX)
            groups = np.flatnonzero(is_tried)
            cuts = np.flatnonzero(np.diff(np.cumsum(window.sizes[groups]) // _PAIRS_MAX)) + 1
            for some in np.split(groups, cuts):
                pairs, keys = self._columns[column].inside(window, some)
                for values, other in zip(self._columns, windows, strict=True):
                    fits = values.fits(other, some[pairs], keys)
                    pairs, keys = pairs[fits], keys[fits]
                found[some] = np.bincount(pairs, minlength=len(some)) > 0

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
        self._place_of = np.full(len(column), -1)
        self._place_of[self._rows] = np.arange(len(self._rows))
        # Statistics do not speak of NaN: it may be in any row group.
        self._has_nan = _has_nan(self._sorted, kind)

    def window(self, bounds: ColumnBounds) -> _Window:
        """Return which values fit each row group."""
        first, last = self._places(bounds)
        is_open = ~bounds.is_known | self._has_nan | _is_inverted(bounds)
        first = np.where(is_open, 0, first)
        last = np.where(is_open, len(self._rows), last)
        last = np.where(bounds.has_values, np.maximum(first, last), first)
        sizes = last - first + np.where(bounds.has_nulls, len(self._nulls), 0)
        return _Window(first, last, bounds.has_nulls, sizes)

    def inside(self, window: _Window, groups: Rows) -> tuple[Rows, Rows]:
        """Return the keys that fit some row groups: for each its place in `groups`, and the key."""
        numbers, places = _spread(window.first[groups], window.last[groups])
        takes = np.flatnonzero(window.takes_nulls[groups])
        return (
            np.concatenate([numbers, np.repeat(takes, len(self._nulls))]),
            np.concatenate([self._rows[places], np.tile(self._nulls, len(takes))]),
        )

    def fits(self, window: _Window, groups: Rows, keys: Rows) -> Flags:
        """Tell for pairs of a row group and a key whether the key fits."""
        places = self._place_of[keys]
        is_inside = (window.first[groups] <= places) & (places < window.last[groups])
        found: Flags = np.where(places < 0, window.takes_nulls[groups], is_inside)
        return found

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


def _is_inverted(bounds: ColumnBounds) -> Flags:
    """Tell where bounds cannot be what they should be."""
    lower, upper = bounds.lower, bounds.upper
    if lower.numbers is not None and upper.numbers is not None:
        found: Flags = lower.numbers > upper.numbers
        return found
    ends = (one.texts.cast(pa.large_binary()) for one in (lower, upper))
    return np.asarray(pc.fill_null(pc.greater(*ends), False))


def _spread(first: Rows, last: Rows) -> tuple[Rows, Rows]:
    """Return every place of some ranges, each with the number of its range."""
    sizes = last - first
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.repeat(np.arange(len(sizes)), sizes), np.repeat(first, sizes) + within


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
