"""The rows that logs add to a slice: held in memory, or on disk where they are too many."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from catalog.spill import SpillFile

# Rows and bytes of a batch that is handed out, unless fewer are left: with either it is complete.
_BATCH_ROWS = 1 << 14
_BATCH_BYTES = 16 << 20


class RowStore:
    """Rows by number, in the order they were added."""

    def __init__(self, schema: pa.Schema, memory_bytes_max: int) -> None:
        """Begin without rows; beyond so many bytes all of them go to disk."""
        self.schema = schema
        self.row_count = 0
        self._memory_bytes_max = memory_bytes_max
        self._held: list[pa.RecordBatch] = []
        self._held_bytes = 0
        self._spilled: SpillFile | None = None

    def append(self, batch: pa.RecordBatch) -> None:
        """Add some rows.

        Raises:
            StorageFullError: the disk for temporary files is full.
        """
        self.row_count += batch.num_rows
        if self._spilled is not None:
            self._spilled.append(batch)
            return
        self._held.append(batch)
        self._held_bytes += batch.nbytes
        if self._held_bytes > self._memory_bytes_max:
            self._spilled = SpillFile(self.schema)
            weakref.finalize(self, self._spilled.close)
            for one in self._held:
                self._spilled.append(one)
            self._held = []

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all rows; none can be added any more where they are on disk."""
        return iter(self._held) if self._spilled is None else self._spilled.batches()


@dataclass(frozen=True, slots=True)
class LogTail:
    """Those of the stored rows that no later record has replaced.

    Attributes:
        store: rows of logs.
        is_kept: which of them.
    """

    store: RowStore
    is_kept: npt.NDArray[np.bool_]

    @property
    def row_count(self) -> int:
        """How many they are."""
        return int(np.count_nonzero(self.is_kept))

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield them with these columns."""
        return joined(self._kept(list(columns)))

    def _kept(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        at = 0
        for batch in self.store.batches():
            mask = self.is_kept[at : at + batch.num_rows]
            at += batch.num_rows
            if mask.any():
                chosen = batch.select(columns)
                yield chosen if mask.all() else chosen.filter(pa.array(mask))


def joined(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Put small batches together."""
    waiting: list[pa.RecordBatch] = []
    count = size = 0
    for batch in batches:
        waiting.append(batch)
        count += batch.num_rows
        size += batch.nbytes
        if count >= _BATCH_ROWS or size >= _BATCH_BYTES:
            yield _one(waiting)
            waiting, count, size = [], 0, 0
    if waiting:
        yield _one(waiting)


def _one(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
