"""Sort any number of rows in bounded memory: cut into ranges, set aside, sort range by range.

    add(batch) -> cut by splitters -> rows of each range, in memory or on disk
    batches()  -> for each range in order: sort it; cut it again if it is too large

Rows that are equal in all keys stay in the order they were added. Ranges of equal rows only are
passed on without being sorted, so no key is too frequent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from catalog.spill import SpillFile
from compactor.rewrite.cluster.row_order import RowOrder
from compactor.rewrite.cluster.splitters import Splitters, taken
from compactor.rewrite.repetition import dictionary_columns, united, with_dictionaries

# A range is sorted with its rows, their keys and a sorted copy in memory.
_RANGE_SHARE = 1 / 4
# Rows that wait in memory before all of them are set aside.
_WAITING_SHARE = 1 / 2
# Ranges are never quite even: a sample is no census.
_EVENNESS = 0.75
# Rows of the sample that a range which came out too large is cut by.
_SAMPLE_ROWS = 1 << 14
# Rows handed on at once.
_BATCH_ROWS = 1 << 16
# Fewer ranges than this would not tell a frequent key from others.
_RANGES_MIN = 4
# The text of a column is addressed by 32 bits, also when all the rows of a range are put together.
MEMORY_BYTES_MAX = 2 << 30


@dataclass(slots=True)
class _Range:
    """The rows of one range: those on disk come before those in memory.

    Columns may be dictionaries in some of its rows and plain in others: each spelling that
    follows another gets a file of its own.
    """

    waiting: list[pa.RecordBatch] = field(default_factory=list)
    spilled: list[SpillFile] = field(default_factory=list)
    size_bytes: int = 0
    rows: int = 0

    def add(self, rows: pa.RecordBatch, size_bytes: int) -> None:
        self.waiting.append(rows)
        self.size_bytes += size_bytes
        self.rows += rows.num_rows

    def spill(self, schema: pa.Schema) -> None:
        if not self.waiting:
            return
        batch = put_together(self.waiting, schema)
        self.waiting = []
        if not self.spilled or self.spilled[-1].schema != batch.schema:
            self.spilled.append(SpillFile(batch.schema))
        self.spilled[-1].append(batch)

    def batches(self) -> Iterator[pa.RecordBatch]:
        for file in self.spilled:
            yield from file.batches()
        yield from self.waiting

    def close(self) -> None:
        for file in self.spilled:
            file.close()
        self.waiting = []


class ExternalSort:
    """Takes rows in any order and gives them back sorted, once."""

    def __init__(
        self, order: RowOrder, schema: pa.Schema, *, sample: Callable[[], pa.RecordBatch],
        memory_bytes: int, rows: int,
    ) -> None:  # fmt: skip
        """Prepare to sort.

        Args:
            order: the order.
            schema: of the rows.
            sample: returns some of the rows, at least with the columns that hold the keys; not
                called when all rows fit one range.
            memory_bytes: what all of it may take in memory.
            rows: how many there will be, about.
        """
        self._order = order
        self._schema = schema
        self._sample = sample
        self._memory_bytes = min(memory_bytes, MEMORY_BYTES_MAX)
        self._rows = rows
        self._splitters: Splitters | None = None
        self._ranges: list[_Range] = []
        self._waiting_bytes = 0
        self.spilled_bytes = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Take rows.

        Raises:
            StorageFullError: they need room on disk, and there is none.
        """
        if not batch.num_rows:
            return
        if not self._ranges:
            self._begin(batch)
        row_bytes = batch.nbytes / batch.num_rows
        for number, rows in self._cut(batch):
            self._ranges[number].add(rows, round(rows.num_rows * row_bytes))
        self._waiting_bytes += batch.nbytes
        if self._waiting_bytes > self._memory_bytes * _WAITING_SHARE:
            self._spill()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all rows in order; what has been yielded is forgotten."""
        for number, one in enumerate(self._ranges):
            if one.rows:
                is_uniform = self._splitters is not None and number in self._splitters.uniform
                yield from one.batches() if is_uniform else self._sorted(one)
            one.close()

    def _begin(self, batch: pa.RecordBatch) -> None:
        """Choose the ranges, now that the size of a row is known."""
        total_bytes = batch.nbytes / batch.num_rows * self._rows
        wanted = int(np.ceil(total_bytes / (self._range_bytes_max * _EVENNESS)))
        count = 1
        if wanted > 1:
            # A sample is taken before deletes: where they leave all of it out, these rows must do.
            sample = self._sample()
            keys = self._order.keys(sample if sample.num_rows else batch)
            self._splitters = Splitters(keys, max(wanted, _RANGES_MIN))
            count = self._splitters.range_count
        self._ranges = [_Range() for _ in range(count)]

    @property
    def _range_bytes_max(self) -> float:
        return self._memory_bytes * _RANGE_SHARE

    def _cut(self, batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
        if self._splitters is None:
            return iter([(0, batch)])
        return self._splitters.cut(batch, self._order.keys(batch))

    def _spill(self) -> None:
        # All at once: rows of one batch share its memory, which is free only when all are gone.
        for one in self._ranges:
            one.spill(self._schema)
        self.spilled_bytes += self._waiting_bytes
        self._waiting_bytes = 0

    def _sorted(self, one: _Range) -> Iterator[pa.RecordBatch]:
        if one.rows > 1 and one.size_bytes > 2 * self._range_bytes_max:
            yield from self._cut_again(one)
            return
        batch = put_together(list(one.batches()), self._schema)
        one.close()
        permutation = self._order.permutation(batch)
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            yield taken(batch, permutation[start : start + _BATCH_ROWS])

    def _cut_again(self, one: _Range) -> Iterator[pa.RecordBatch]:
        """Sort a range that came out too large for the memory by smaller ranges."""
        one.spill(self._schema)
        inner = ExternalSort(
            self._order,
            self._schema,
            sample=lambda: _sample(one, self._schema),
            memory_bytes=self._memory_bytes,
            rows=one.rows,
        )
        for batch in one.batches():
            for start in range(0, batch.num_rows, _BATCH_ROWS):
                inner.add(batch.slice(start, _BATCH_ROWS))
        one.close()
        yield from inner.batches()
        self.spilled_bytes += inner.spilled_bytes


def _sample(one: _Range, schema: pa.Schema) -> pa.RecordBatch:
    """Return rows of a range from its whole length, one of every few at random."""
    step = max(1, one.rows // _SAMPLE_ROWS)
    chance = np.random.default_rng(one.rows)
    picked = []
    for batch in one.batches():
        starts = np.arange(0, batch.num_rows, step)
        rows = starts + chance.integers(0, step, len(starts))
        picked.append(taken(batch, rows[rows < batch.num_rows]))
    return put_together(picked, schema)


def put_together(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    """Return rows as one batch; columns that are dictionaries in all of them stay so.

    Args:
        batches: the rows.
        schema: what their columns are without dictionaries.
    """
    table = _table(batches, schema)
    found = table.combine_chunks().to_batches()
    if len(found) > 1:
        raise pa.ArrowCapacityError("the rows of a range do not fit one batch")
    return found[0] if found else pa.RecordBatch.from_pylist([], table.schema)


def _table(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    if not batches:
        return schema.empty_table()
    try:
        return pa.Table.from_batches(batches).unify_dictionaries()
    except pa.ArrowInvalid:
        # Some column is a dictionary in one batch and plain in another.
        return united(batches, with_dictionaries(schema, dictionary_columns(batches)))
