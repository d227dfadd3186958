"""Rows of a file slice that its data file does not store: what log files bring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa


class Tail(Protocol):
    """Rows behind the stored ones of a file slice.

    They come behind the stored ones, in an order that is the same each time.
    """

    @property
    def row_count(self) -> int:
        """How many they are."""

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield them with these top-level columns, in the types of the table's schema."""


@dataclass(frozen=True, slots=True)
class NoTail:
    """The tail of a data file that is all there is of its slice."""

    row_count: int = 0

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield nothing."""
        del columns
        return iter(())


NO_TAIL = NoTail()


@dataclass(frozen=True, slots=True)
class ThinnedTail:
    """A tail without some of its rows.

    Attributes:
        whole: the tail.
        dropped: places of the rows that are gone, ascending and unique (int64).
    """

    whole: Tail
    dropped: npt.NDArray[np.int64]

    @property
    def row_count(self) -> int:
        """How many rows are left."""
        return self.whole.row_count - len(self.dropped)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield those that are left."""
        start = 0
        for batch in self.whole.batches(columns):
            first, last = np.searchsorted(self.dropped, [start, start + batch.num_rows])
            is_kept = np.ones(batch.num_rows, np.bool_)
            is_kept[self.dropped[first:last] - start] = False
            start += batch.num_rows
            yield batch if first == last else batch.filter(pa.array(is_kept))
