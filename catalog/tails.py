"""Rows of a file slice that its data file does not store: what log files bring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

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
