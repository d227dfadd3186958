"""Which files can hold rows with given values, as far as a table's metadata tells.

What is in doubt is held possible: a file that is ruled out by mistake hides a row from its change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.model import Inventory, Snapshot
from catalog.table import MapFunction

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FileBounds:
    """What metadata say of one column in each of some files.

    Attributes:
        lower: the least value in the column's plain type, texts as binary, or what is below it;
            null where it is not known. NaN is between no bounds.
        upper: the greatest value, or what is above it.
        null_count: number of nulls; null where it is not known.
    """

    lower: pa.Array
    upper: pa.Array
    null_count: pa.Int64Array

    def take(self, rows: pa.Array) -> FileBounds:
        """Return those of some files; of nulls, nothing is known."""
        return FileBounds(*(one.take(rows) for one in (self.lower, self.upper, self.null_count)))


class Routing(Protocol):
    """What the metadata of one snapshot tell of where rows are."""

    def partitions(self, keys: pa.Array, rows: pa.Table) -> Flags:
        """Tell which partitions may hold a row that has the same values as one of the given rows.

        Args:
            keys: `partition_key` of the inventory.
            rows: some columns of the table, in its types. Null is a value, -0.0 equals 0.0.
        """
        ...

    def reach(self, rows: pa.Table) -> frozenset[str] | None:
        """Return the keys of all partitions that such rows can be in when they are written now.

        Args:
            rows: as `partitions` has them.

        Returns:
            None where they can be anywhere, or in too many partitions to be worth telling.
        """
        ...

    def bounds(
        self, files: Inventory, columns: Sequence[str], *, map_function: MapFunction = map
    ) -> tuple[FileBounds, ...]:
        """Return the bounds of some columns in each of some files of the snapshot.

        Raises:
            CorruptTableError: the metadata cannot be read.
        """
        ...


@runtime_checkable
class RoutableTable(Protocol):
    """A table whose metadata tell where rows are."""

    def routing(self, snapshot: Snapshot) -> Routing:
        """Return what the metadata of a snapshot tell."""
        ...


def among(partitions: Sequence[pa.Array], rows: Sequence[pa.Array]) -> Flags:
    """Tell which partitions have the values of some row, all columns together.

    Args:
        partitions: a column of partition values per partition field.
        rows: the values that rows have there, in the same types.
    """
    codes, wanted = np.zeros(len(partitions[0]), np.int64), np.zeros(len(rows[0]), np.int64)
    left = np.arange(len(wanted))
    for mine, theirs in zip(partitions, rows, strict=True):
        encoded = _plain(mine).dictionary_encode(null_encoding="encode")
        found = pc.index_in(_plain(theirs.take(pa.array(left))), value_set=encoded.dictionary)
        width = len(encoded.dictionary)
        is_there = found.is_valid().to_numpy(False)
        left, wanted = left[is_there], wanted[is_there]
        wanted = wanted * width + np.asarray(found.drop_null())
        # Numbered anew every time, so that codes stay below partitions times values.
        known, codes = np.unique(codes * width + np.asarray(encoded.indices), return_inverse=True)
        places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        is_there = known[places] == wanted
        left, wanted = left[is_there], places[is_there]
    return np.isin(codes, wanted)


def _plain(values: pa.Array) -> pa.Array:
    """Return values of which those that count as one key have one form."""
    if not pa.types.is_floating(values.type):
        return values
    plain = pc.add(values, pa.scalar(0, values.type))
    return pc.if_else(pc.is_nan(plain), pa.scalar(float("nan"), values.type), plain)
