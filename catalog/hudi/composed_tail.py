"""Rows that partial updates make: columns of several rows of logs, the rest from base rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.hudi.avro_columns import promoted
from catalog.hudi.log_tail import LogTail, RowStore, joined
from catalog.hudi.open_logs import StoredFile
from catalog.hudi.winners import Composed
from catalog.storage import Storage

_BATCH_ROWS = 1 << 13

_Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the values of composed rows come from.

    Attributes:
        store: rows of logs.
        starts: numbers of the rows that begin another set of columns, ascending from 0.
        held: the columns that the rows from there on have values for.
        storage: where the base file is.
        base: the base file; None for none.
        fills_nulls: whether a null is no value.
    """

    store: RowStore
    starts: _Numbers
    held: tuple[frozenset[str], ...]
    storage: Storage
    base: StoredFile | None
    fills_nulls: bool = False


@dataclass(frozen=True, slots=True)
class ComposedTail:
    """The rows that logs add, some of them put together.

    Attributes:
        plain: those that are as they were logged.
        composed: the others.
        sources: where their values come from.
    """

    plain: LogTail
    composed: Composed
    sources: Sources

    @property
    def row_count(self) -> int:
        """How many they are."""
        return self.plain.row_count + len(self.composed.lengths)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield them with these columns."""
        yield from self.plain.batches(columns)
        yield from joined(self._composed(list(columns)))

    def _composed(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Put rows together in the order of the base rows that they replace."""
        logged = pa.Table.from_batches(self.sources.store.batches(), self.sources.store.schema)
        composed = self.composed
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(composed.lengths)])
        order = np.argsort(composed.positions, kind="stable")
        alone = int(np.count_nonzero(composed.positions < 0))
        for first in range(0, alone, _BATCH_ROWS):
            records = order[first : min(alone, first + _BATCH_ROWS)]
            yield self._rows(_Stack(offsets, records), None, logged, columns)
        met = order[alone:]
        for positions, rows in self._base_rows(composed.positions[met], columns):
            found = np.searchsorted(composed.positions[met], positions)
            yield self._rows(_Stack(offsets, met[found]), rows, logged, columns)

    def _rows(
        self, stack: _Stack, base: pa.RecordBatch | None, logged: pa.Table, columns: list[str]
    ) -> pa.RecordBatch:
        """Return some records."""
        schema = self.sources.store.schema
        arrays = []
        for name in columns:
            rows = stack.sources(self.composed.rows, self._holders(name, logged))
            values = logged[name].take(pa.array(rows, mask=rows < 0)).combine_chunks()
            if base is not None:
                is_top = self.composed.is_base_on_top[stack.records]
                is_open = (rows < 0) | (is_top & np.asarray(base.column(name).is_valid()))
                values = _filled(values, base.column(name), is_open)
            arrays.append(values)
        return pa.RecordBatch.from_arrays(
            arrays, schema=pa.schema([schema.field(name) for name in columns])
        )

    def _holders(self, name: str, logged: pa.Table) -> npt.NDArray[np.bool_]:
        """Return which rows of the store have a value for a column."""
        has = np.array([name in columns for columns in self.sources.held], np.bool_)
        starts = self.sources.starts
        lengths = np.diff(np.append(starts, self.sources.store.row_count))
        found: npt.NDArray[np.bool_] = np.repeat(has, lengths)
        return found & np.asarray(logged[name].is_valid()) if self.sources.fills_nulls else found

    def _base_rows(
        self, positions: _Numbers, columns: list[str]
    ) -> Iterator[tuple[_Numbers, pa.RecordBatch]]:
        """Yield the base rows at these ascending positions, with the positions."""
        base, schema = self.sources.base, self.sources.store.schema
        if base is None or not positions.size:
            return
        with self.sources.storage.open_input(base.location, size_bytes=base.size_bytes) as file:
            rows = pq.ParquetFile(file)
            held = [name for name in columns if name in rows.schema_arrow.names]
            at = 0
            for batch in rows.iter_batches(_BATCH_ROWS, columns=held, use_threads=False):
                first, last = np.searchsorted(positions, [at, at + batch.num_rows])
                if first < last:
                    wanted = positions[first:last]
                    some = batch.take(pa.array(wanted - at))
                    found = [
                        promoted(some.column(name), schema.field(name).type, name)
                        if name in held
                        else pa.nulls(some.num_rows, schema.field(name).type)
                        for name in columns
                    ]
                    yield wanted, pa.RecordBatch.from_arrays(found, names=columns)
                at += batch.num_rows


@dataclass(frozen=True, slots=True)
class _Stack:
    """Some records, and where the rows of all records begin."""

    offsets: _Numbers
    records: _Numbers

    def sources(self, rows: _Numbers, holders: npt.NDArray[np.bool_]) -> _Numbers:
        """Return the topmost row of each record that has a value; -1 for none."""
        starts, ends = self.offsets[self.records], self.offsets[self.records + 1]
        found = np.full(len(self.records), -1, np.int64)
        for depth in range(int((ends - starts).max(initial=0))):
            at = starts + depth
            open_ = np.flatnonzero((found < 0) & (at < ends))
            candidates = rows[at[open_]]
            has = holders[candidates]
            found[open_[has]] = candidates[has]
        return found


def _filled(values: pa.Array, below: pa.Array, is_open: npt.NDArray[np.bool_]) -> pa.Array:
    """Return values with those of the base where no row of logs has one."""
    both = pa.concat_arrays([values, below])
    places = np.arange(len(values)) + np.where(is_open, len(values), 0)
    return both.take(pa.array(places))
