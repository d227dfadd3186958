"""A file slice with logs, reduced to what a rewrite needs: dropped base rows, and rows behind them.

Logs are read once, block by block; their rows go to a store and what they say of keys to the merge,
which the keys of the base file stream past. Memory holds a bounded part of each, disk the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import CorruptTableError, UnsupportedTableError
from catalog.hudi.avro_columns import promoted
from catalog.hudi.choosing import entry_schema
from catalog.hudi.composed_tail import ComposedTail, Sources
from catalog.hudi.delete_records import DeletedKey, read_deletes
from catalog.hudi.log_blocks import BlockKind, LogBlock
from catalog.hudi.log_records import block_columns, read_rows
from catalog.hudi.log_scan import LogScope, PlacedBlock, valid_blocks
from catalog.hudi.log_tail import LogTail, RowStore
from catalog.hudi.open_logs import OpenLogs, StoredFile
from catalog.hudi.ordering import comparable, comparable_type, is_default, of_deletes
from catalog.hudi.protocol import MergeRule
from catalog.hudi.schema import OPERATION, RECORD_KEY
from catalog.hudi.winners import Composed, Manner, base_schema, merged
from catalog.model import Selection
from catalog.storage import Storage

_IS_DELETED = "_hoodie_is_deleted"
# Operations of change streams after which a row is gone.
_GONE = pa.array(["D", "-U"])
_BASE_BATCH_ROWS = 1 << 16
_DELETE_BATCH = 1 << 14
# Shares of the memory: entries are some times as large while they are merged.
_ENTRIES_SHARE = 8
_ROWS_SHARE = 4

_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SliceFiles:
    """The files of a file slice.

    Attributes:
        base: the base file; None where there are only logs.
        logs: the log files in the order in which they are merged.
    """

    base: StoredFile | None
    logs: tuple[StoredFile, ...]


@dataclass(frozen=True, slots=True)
class Merging:
    """How slices of a table are merged.

    Attributes:
        schema: the columns of the table, meta columns included.
        rule: which of several records stays.
        scope: which instants' blocks count.
        memory_bytes: what a merge may hold in memory, about.
    """

    schema: pa.Schema
    rule: MergeRule
    scope: LogScope
    memory_bytes: int = 256 << 20


def merge_slice(storage: Storage, files: SliceFiles, merging: Merging) -> Selection:
    """Return which rows of the base file survive, and which rows the logs add.

    Raises:
        CorruptTableError: a file is damaged.
        StorageFullError: the disk for temporary files is full.
        UnsupportedTableError: a log has something that is not handled; it is named.
    """
    with OpenLogs(storage, files.logs) as logs:
        blocks = valid_blocks(logs, merging.scope)
        store = RowStore(merging.schema, merging.memory_bytes // _ROWS_SHARE)
        entries = _Entries(logs, merging, store)
        is_kept, dropped, composed = np.zeros(0, np.bool_), [np.empty(0, np.int64)], []
        for one in merged(
            entries.read(blocks),
            _base_rows(storage, files.base, merging),
            manner=Manner(merging.memory_bytes // _ENTRIES_SHARE, merging.rule.fills_nulls),
        ):
            # All entries were read before the first result.
            is_kept = is_kept if is_kept.size else np.zeros(store.row_count, np.bool_)
            is_kept[one.kept] = True
            dropped.append(one.dropped)
            composed.append(one.composed)
    plain, together = LogTail(store, is_kept), Composed.joined(composed)
    selection = Selection(np.sort(np.concatenate(dropped)), plain)
    if not together.lengths.size:
        return selection
    held = entries.held()
    sources = Sources(store, *held, storage, files.base, merging.rule.fills_nulls)
    return replace(selection, tail=ComposedTail(plain, together, sources))


def ordering_types(merging: Merging) -> list[pa.DataType]:
    """Return the types of the ordering columns.

    Raises:
        UnsupportedTableError: one is no top-level column.
    """
    found = []
    for name in merging.rule.ordering:
        if name not in merging.schema.names:
            raise UnsupportedTableError(f"the ordering field {name} is no column of the table")
        found.append(merging.schema.field(name).type)
    return found


class _Entries:
    """Reads blocks of logs: rows go to a store, what is said of keys is handed on."""

    def __init__(self, logs: OpenLogs, merging: Merging, store: RowStore) -> None:
        self._logs = logs
        self._merging = merging
        self._store = store
        self._types = ordering_types(merging)
        self._schema = entry_schema([comparable_type(kind) for kind in self._types])
        self._starts: list[int] = []
        self._held: list[frozenset[str]] = []

    def read(self, blocks: list[PlacedBlock]) -> Iterator[pa.RecordBatch]:
        """Yield entries in the order in which they apply."""
        for placed in blocks:
            file, block = self._logs[placed.file], placed.block
            if block.kind is BlockKind.DELETE:
                yield from self._deletes(file, block)
            else:
                yield from self._rows(file, block)

    def _rows(self, file: pa.NativeFile, block: LogBlock) -> Iterator[pa.RecordBatch]:
        fills_nulls = self._merging.rule.fills_nulls
        if fills_nulls and block.is_partial:
            raise UnsupportedTableError("a log has partial updates of two kinds")
        is_partial = block.is_partial or fills_nulls
        if is_partial or self._held:
            self._note(block)
        for batch in read_rows(file, block, self._merging.schema):
            keys = batch.column(RECORD_KEY)
            if keys.null_count:
                raise CorruptTableError("a row of a log has no record key")
            is_gone = _gone(batch, self._merging.rule)
            numbers = self._stored(batch, is_gone)
            columns = [batch.column(name) for name in self._merging.rule.ordering]
            defaults = pa.array(is_gone & _says_nothing(columns, batch.num_rows))
            ordering = [comparable(one) for one in columns]
            yield self._batch(
                keys, numbers, defaults=defaults, ordering=ordering, is_partial=is_partial
            )

    def _note(self, block: LogBlock) -> None:
        """Note which columns the rows of a block have, from the first partial one on."""
        everything = frozenset(self._merging.schema.names)
        if not self._held:
            self._starts, self._held = [0], [everything]
        self._starts.append(self._store.row_count)
        self._held.append(block_columns(block) if block.is_partial else everything)

    def held(self) -> tuple[npt.NDArray[np.int64], tuple[frozenset[str], ...]]:
        """Return the numbers of rows from which on other columns have values, and these."""
        return np.array(self._starts, np.int64), tuple(self._held)

    def _stored(self, batch: pa.RecordBatch, is_gone: _Mask) -> npt.NDArray[np.int64]:
        """Store the rows that are not deletes; return the number of each, -1 for the others."""
        first = self._store.row_count
        if not is_gone.any():
            self._store.append(batch)
            return np.arange(first, first + batch.num_rows)
        self._store.append(batch.filter(pa.array(~is_gone)))
        return np.where(is_gone, -1, first + np.cumsum(~is_gone) - 1)

    def _deletes(self, file: pa.NativeFile, block: LogBlock) -> Iterator[pa.RecordBatch]:
        waiting: list[DeletedKey] = []
        for one in read_deletes(block.read_content(file).to_pybytes()):
            waiting.append(one)
            if len(waiting) == _DELETE_BATCH:
                yield self._deleted(waiting)
                waiting = []
        if waiting:
            yield self._deleted(waiting)

    def _deleted(self, deletes: list[DeletedKey]) -> pa.RecordBatch:
        keys = pa.array([one.key for one in deletes], pa.string())
        ordering, defaults = of_deletes(deletes, self._types)
        numbers = np.full(len(deletes), -1, np.int64)
        return self._batch(
            keys, numbers, defaults=pa.array(defaults), ordering=ordering, is_partial=None
        )

    def _batch(
        self,
        keys: pa.Array,
        numbers: npt.NDArray[np.int64],
        *,
        defaults: pa.Array,
        ordering: list[pa.Array],
        is_partial: bool | None,
    ) -> pa.RecordBatch:
        """Return entries; where `is_partial` says nothing, they come from a delete block."""
        marks = (is_partial is None, bool(is_partial))
        columns = [keys.cast(pa.binary()), pa.array(numbers), defaults]
        columns += [pa.array(np.full(len(keys), mark)) for mark in marks]
        columns += ordering
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)


def _gone(batch: pa.RecordBatch, rule: MergeRule) -> _Mask:
    """Return which rows say that the record is gone."""
    names = batch.schema.names
    found: _Mask = np.zeros(batch.num_rows, np.bool_)
    if _IS_DELETED in names:
        found |= _is_true(batch.column(_IS_DELETED))
    if OPERATION in names:
        found |= _is_true(pc.is_in(batch.column(OPERATION), value_set=_GONE))
    if rule.delete_field in names:
        marks = batch.column(rule.delete_field).cast(pa.string())
        found |= _is_true(pc.equal(marks, rule.delete_marker))
    return found


def _is_true(values: pa.Array) -> _Mask:
    return np.asarray(values.cast(pa.bool_()).fill_null(False).to_numpy(zero_copy_only=False))


def _says_nothing(ordering: list[pa.Array], count: int) -> _Mask:
    """Return which rows have no ordering value that could be compared."""
    if not ordering:
        return np.ones(count, np.bool_)
    return is_default(ordering[0], is_only=len(ordering) == 1)


def _base_rows(
    storage: Storage, base: StoredFile | None, merging: Merging
) -> Iterator[pa.RecordBatch]:
    """Yield keys, positions and ordering values of the rows of a base file."""
    if base is None:
        return
    with storage.open_input(base.location, size_bytes=base.size_bytes) as file:
        try:
            yield from _keys(file, merging)
        except (OSError, pa.ArrowException) as error:
            raise CorruptTableError(f"{base.location} cannot be read: {error}") from error


def _keys(file: pa.NativeFile, merging: Merging) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    types = ordering_types(merging)
    schema = base_schema([comparable_type(kind) for kind in types])
    rows = pq.ParquetFile(file)
    held = set(rows.schema_arrow.names)
    if RECORD_KEY not in held:
        raise UnsupportedTableError(f"a base file has no column {RECORD_KEY}")
    wanted = [RECORD_KEY, *(name for name in merging.rule.ordering if name in held)]
    position = 0
    for batch in rows.iter_batches(_BASE_BATCH_ROWS, columns=wanted, use_threads=False):
        count = batch.num_rows
        columns = [
            comparable(promoted(batch.column(name), kind, name))
            if name in held
            else comparable(pa.nulls(count, kind))
            for name, kind in zip(merging.rule.ordering, types, strict=True)
        ]
        positions = pa.array(np.arange(position, position + count))
        keys = batch.column(RECORD_KEY).cast(pa.binary())
        yield pa.RecordBatch.from_arrays([keys, positions, *columns], schema=schema)
        position += count
