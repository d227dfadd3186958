"""Changes made into whole rows: what they lack is read from the rows that they replace."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from pyarrow import types

from catalog.model import FileSlice, Inventory
from catalog.schema import ROW_ID_FIELD, TableSchema, field_id
from catalog.table import TableFiles
from compactor.errors import ChangesRefusedError
from compactor.merge.changes import ChangeSet, changeable
from compactor.merge.declared import undeclared
from compactor.merge.keys import Flags, Rows, whole
from compactor.merge.outcome import Outcome
from compactor.rewrite.read import SliceReader


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Where the rows are that upserts replace.

    Attributes:
        files: the files they are in.
        file: for each upsert, its row of `files`; -1 when the table has no row of its key.
        position: where the row stands in its file; -1 as well.
    """

    files: Inventory
    file: Rows
    position: Rows

    @classmethod
    def of(cls, files: Inventory, outcome: Outcome) -> StoredRows:
        """Return where the rows are that the upserts of an outcome replace."""
        places = {path: at for at, path in enumerate(files.files["path"].to_pylist())}
        numbers = np.array([*(places[path] for path in outcome.paths), -1], np.int64)
        file, position = outcome.stored
        return cls(files, numbers[file], position)


def completed(
    table: TableFiles, changes: ChangeSet, outcome: Outcome, files: Inventory
) -> pa.Table:
    """Return the rows that come in, in the order of `outcome.upserts`.

    Where the format tells rows apart, one that takes the place of another has its id.

    Args:
        table: the workers' side of the snapshot.
        changes: one per key, as they were matched.
        outcome: what was made of them.
        files: those that were matched.

    Raises:
        ChangesRefusedError: a new row lacks a required column.
        CatalogError: as reading the rows that are replaced raises it.
    """
    upserts = changes.take(outcome.upserts)
    upserts = replace(upserts, table=undeclared(upserts.table, table.schema.arrow))
    ids = [one.name for one in table.schema.arrow if field_id(one) == ROW_ID_FIELD]
    names = frozenset(ids).union(*(upserts.shapes if upserts.is_partial else ()))
    if not names or not len(upserts):
        return upserts.rows
    stored = StoredRows.of(files, outcome)
    has_stored = stored.file >= 0
    found = _stored_columns(table, names, stored)
    rows = upserts.rows
    if upserts.is_partial:
        rows = filled(upserts, found, has_stored, schema=changeable(table.schema))
    places = pa.array(np.cumsum(has_stored) - 1, mask=~has_stored)
    for name in ids:
        rows = rows.append_column(found.schema.field(name), found[name].take(places))
    return rows


def as_stored(rows: pa.Table, schema: TableSchema) -> pa.Table:
    """Return rows with the columns that outputs store.

    Raises:
        ChangesRefusedError: one of them is required, and changes cannot have it.
    """
    wanted = schema.stored.arrow
    columns = [
        whole(rows[field.name]) if field.name in rows.schema.names else _absent(field, len(rows))
        for field in wanted
    ]
    return pa.Table.from_arrays(columns, schema=wanted)


def filled(
    changes: ChangeSet, stored: pa.Table, has_stored: Flags, *, schema: pa.Schema
) -> pa.Table:
    """Return changes as rows of the table, what they lack taken from the rows they replace.

    Args:
        changes: upserts.
        stored: one row for each change that replaces one, in their order, with the columns that
            any of them lacks at least.
        has_stored: which of the changes replace a row.
        schema: of the table.

    Raises:
        ChangesRefusedError: a new row lacks a required column.
    """
    rows = changes.rows
    lacking = sorted(frozenset().union(*changes.shapes)) if len(changes) else []
    places = len(changes) + np.cumsum(has_stored) - 1
    for name in lacking:
        lacks = changes.lacks(name)
        if not schema.field(name).nullable and (lacks & ~has_stored).any():
            raise ChangesRefusedError(
                f"the column {name!r} is required, and changes of new keys lack it"
            )
        if not (lacks & has_stored).any():
            continue
        place = rows.schema.get_field_index(name)
        field = rows.schema.field(place)
        both = pa.concat_arrays([whole(rows[name]), whole(stored[name]).cast(field.type)])
        taken = np.where(lacks & has_stored, places, np.arange(len(changes)))
        rows = rows.set_column(place, field, both.take(pa.array(taken)))
    return rows


def _absent(field: pa.Field, count: int) -> pa.Array:
    """Return the values of a column that is not for changes: ids of rows, which are given later.

    Raises:
        ChangesRefusedError: there must be values.
    """
    if not field.nullable:
        raise ChangesRefusedError(f"the column {field.name!r} is required, and changes lack it")
    return pa.nulls(count, field.type)


def _stored_columns(table: TableFiles, names: Collection[str], stored: StoredRows) -> pa.Table:
    """Read columns of the rows that upserts replace, in the order of the upserts."""
    fields = [field for field in table.schema.arrow if field.name in names]
    schema = replace(table.schema, arrow=pa.schema(fields))
    rows = np.flatnonzero(stored.file >= 0)
    if not len(rows):
        return schema.arrow.empty_table()
    rows = rows[np.lexsort((stored.position[rows], stored.file[rows]))]
    reader = replace(SliceReader.of(table, stored.files, schema), reads_ahead=False)
    numbers, starts = np.unique(stored.file[rows], return_index=True)
    wanted = dict(zip(numbers.tolist(), np.split(stored.position[rows], starts[1:]), strict=True))
    parts = [
        batch
        for number, file in enumerate(stored.files.slices())
        if number in wanted
        for batch in _rows_at(reader, file, wanted[number])
    ]
    found = pa.Table.from_batches(parts, schema=schema.arrow)
    return found.take(pa.array(np.argsort(rows)))


def _rows_at(reader: SliceReader, file: FileSlice, positions: Rows) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a slice at some positions, which ascend."""
    stored, behind = np.split(positions, [np.searchsorted(positions, file.row_count)])
    if len(stored):
        with reader.opened(file) as source:
            groups = np.unique(np.searchsorted(source.starts, stored, side="right") - 1)
            for place, batch in source.placed(groups.tolist()):
                rows = np.flatnonzero(np.isin(place.positions(), stored, assume_unique=True))
                yield _decoded(batch.take(pa.array(rows)), reader.schema.arrow)
    start = file.row_count
    for batch in reader.tail(file) if len(behind) else ():
        first, last = np.searchsorted(behind, [start, start + batch.num_rows])
        yield _decoded(batch.take(pa.array(behind[first:last] - start)), reader.schema.arrow)
        start += batch.num_rows


def _decoded(rows: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        one.dictionary_decode() if types.is_dictionary(one.type) else one for one in rows.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
