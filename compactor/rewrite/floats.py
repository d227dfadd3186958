"""Floating columns with values by which some readers would skip rows that they should find.

NaN: statistics leave it out. Engines to whom it is the greatest of all values skip a row group
whose greatest number is too small, and with it the rows that they would have found.
Negative zero: some readers look for 0.0 in a dictionary bit by bit, and skip the -0.0 there.

Such columns are written without statistics, or without a dictionary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types


def nan_paths(
    batches: Iterable[pa.RecordBatch], known: frozenset[str] = frozenset()
) -> frozenset[str]:
    """Return the paths of the floating columns, also in structs, that have a NaN in them.

    Lists and maps are left out: nobody skips rows by what is in them.

    Args:
        batches: the rows.
        known: paths that need not be looked at.
    """
    return _paths_of(batches, pc.is_nan, known)


def negative_zero_paths(
    batches: Iterable[pa.RecordBatch], known: frozenset[str] = frozenset()
) -> frozenset[str]:
    """Return the paths of the floating columns, as above, that have a -0.0 in them."""
    return _paths_of(batches, _are_negative, known)


def _are_negative(array: pa.Array) -> pa.BooleanArray:
    """Tell of each zero in an array whether it is negative."""
    # Zeros are equal to each other; what they make of one is not.
    zeros = array.filter(pc.equal(array, 0.0))
    return pc.less(pc.divide(1.0, zeros), 0.0)


def _paths_of(
    batches: Iterable[pa.RecordBatch],
    are_odd: Callable[[pa.Array], pa.BooleanArray],
    known: frozenset[str],
) -> frozenset[str]:
    return frozenset(
        path
        for batch in batches
        for field, column in zip(batch.schema, batch.columns, strict=True)
        for path, leaf in _floats(column, field.name)
        if path not in known and pc.any(are_odd(leaf)).as_py()
    )


def _floats(array: pa.Array, path: str) -> Iterator[tuple[str, pa.Array]]:
    if types.is_struct(array.type):
        for index in range(array.type.num_fields):
            name = array.type.field(index).name
            yield from _floats(array.field(index), f"{path}.{name}")
    elif types.is_floating(array.type):
        yield path, array
