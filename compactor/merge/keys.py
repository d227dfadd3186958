"""Keys of rows: hashed by whole columns, and compared exactly wherever hashes agree.

Values are compared by what they are: NaN is NaN whatever its bits, -0.0 is 0.0, null is a value of
its own, different from zero and from the empty text. Both sides are in the table's types already,
so that wide and narrow integers, decimals of any scale, dictionaries and time zones are no matter.

Two keys of one hash are never taken for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from compactor.rewrite.cluster.comparable import Comparable, comparable
from compactor.rewrite.fingerprint import Hashes, combine, hash_array, mix

Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
# Rows that are hashed at once, while they lie in the caches.
_BLOCK_ROWS = 1 << 15
# Stands for null; arbitrary.
_NULL = np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of some rows.

    Attributes:
        columns: their values in comparable form.
        hashes: 64 bits of each.
        is_exact: whether keys are equal when their hashes are: one number of up to 64 bits, never
            null, goes through hashing one to one.
    """

    columns: tuple[Comparable, ...]
    hashes: Hashes
    is_exact: bool = False

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.hashes)

    def take(self, rows: Rows) -> Keys:
        """Return the keys of some of the rows."""
        columns = tuple(one.take(rows) for one in self.columns)
        return Keys(columns, self.hashes[rows], self.is_exact)

    def equal(self, rows: Rows, other: Keys, other_rows: Rows) -> Flags:
        """Tell for pairs of rows, one of these and one of other keys, which are equal."""
        found: Flags = self.hashes[rows] == other.hashes[other_rows]
        if self.is_exact and other.is_exact:
            return found
        places = np.flatnonzero(found)
        rows, other_rows = rows[places], other_rows[places]
        is_same = np.ones(len(places), np.bool_)
        for left, right in zip(self.columns, other.columns, strict=True):
            is_same &= equal_values(left.take(rows), right.take(other_rows))
        found[places] = is_same
        return found


def keys_of(rows: pa.Table | pa.RecordBatch, names: Sequence[str]) -> Keys:
    """Return the keys of rows that are in the table's types."""
    columns = columns_of(rows, names)
    return Keys(columns, hashes_of(columns, rows.num_rows), _is_one_to_one(columns))


def hashes_of(columns: Sequence[Comparable], rows: int) -> Hashes:
    """Return the hashes of the keys that columns make together, in this order of the columns."""
    hashes = np.empty(rows, np.uint64)
    for start in range(0, rows, _BLOCK_ROWS):
        found = [_hash(column.slice(start, _BLOCK_ROWS)) for column in columns]
        hashes[start : start + _BLOCK_ROWS] = mix(combine(found, len(found[0]), seed=0))
    return hashes


def _is_one_to_one(columns: Sequence[Comparable]) -> bool:
    return len(columns) == 1 and columns[0].numbers is not None and columns[0].is_null is None


def columns_of(rows: pa.Table | pa.RecordBatch, names: Sequence[str]) -> tuple[Comparable, ...]:
    """Return columns in comparable form."""
    return tuple(comparable_key(whole(rows.column(name))) for name in names)


def comparable_key(array: pa.Array) -> Comparable:
    """Return values in a form in which those that count as one key are equal."""
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if types.is_floating(array.type):
        array = _plain_floats(array)
    return comparable(array)


def _plain_floats(array: pa.Array) -> pa.Array:
    is_null = np.asarray(pc.is_null(array))
    values = np.asarray(array.fill_null(0)) + array.type.to_pandas_dtype()(0)
    values[np.isnan(values)] = np.nan
    return pa.array(values, array.type, mask=is_null)


def whole(column: Any) -> pa.Array:
    """Return a column in one piece."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    found = column.combine_chunks()
    if isinstance(found, pa.ChunkedArray):
        found = pa.concat_arrays(found.chunks) if found.num_chunks else pa.nulls(0, column.type)
    return found


def _hash(column: Comparable) -> Hashes:
    hashes = hash_array(column.texts) if column.numbers is None else mix(column.numbers)
    if column.is_null is not None:
        hashes[column.is_null] = _NULL
    return hashes


def equal_values(left: Comparable, right: Comparable) -> Flags:
    """Tell for pairs of values which are equal."""
    if left.numbers is not None and right.numbers is not None:
        found: Flags = left.numbers == right.numbers
    else:
        texts = (one.texts.cast(pa.large_binary()) for one in (left, right))
        found = np.asarray(pc.fill_null(pc.equal(*texts), False))
    if left.is_null is None and right.is_null is None:
        return found
    left_null, right_null = _nulls(left), _nulls(right)
    return np.where(left_null | right_null, left_null & right_null, found)


def _nulls(column: Comparable) -> Flags:
    return np.zeros(len(column), np.bool_) if column.is_null is None else column.is_null
