"""Merge changes into one file group: what a worker runs.

The group goes through the rewrite engine like any other: the rows that changes hit are dropped as
if deletes had dropped them, row groups without a hit are copied, and the new rows follow, or take
their place in the order of the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from pyarrow import types

from catalog.location import Location
from catalog.model import FileLayout, FileSlice, Filling, Inventory, Selection, TableSchema
from catalog.storage import Storage
from catalog.table import TableFiles
from compactor.clustering import Clustering
from compactor.errors import ChangesRefusedError
from compactor.merge.changes import ChangeSet
from compactor.merge.keys import Rows, whole
from compactor.merge.outcome import filled
from compactor.rewrite.cluster.group import cluster_group
from compactor.rewrite.group import rewrite_group
from compactor.rewrite.read import SliceReader
from compactor.rewrite.task import RewriteResult, RewriteTask


@dataclass(frozen=True, slots=True)
class Replacing:
    """The workers' side of a snapshot less the rows that a merge replaces.

    Attributes:
        base: the snapshot.
        replaced: by path, the rows that go.
    """

    base: TableFiles
    replaced: Mapping[str, Selection]

    @property
    def storage(self) -> Storage:
        """Where the files are."""
        return self.base.storage

    @property
    def schema(self) -> TableSchema:
        """The columns that readers see."""
        return self.base.schema

    @property
    def layout(self) -> FileLayout:
        """How outputs are to be written."""
        return self.base.layout

    def locate(self, path: str) -> Location:
        """Return the location of a path found in metadata."""
        return self.base.locate(path)

    def selections(self, files: Inventory) -> Mapping[str, Selection]:
        """Return the rows each data file loses, by deletes and by the merge."""
        found = dict(self.base.selections(files))
        for path in files.files["path"].to_pylist():
            both = [one[path].dropped for one in (found, self.replaced) if path in one]
            if both:
                found[path] = Selection.of(np.concatenate(both))
        return found

    def fillings(self, file: FileSlice) -> Mapping[int, Filling]:
        """Return what columns hold that the file may lack or hold nulls of."""
        return self.base.fillings(file)

    def new_location(self, partition_key: str, file_name: str) -> Location:
        """Return where a new data file of the partition belongs."""
        return self.base.new_location(partition_key, file_name)


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


@dataclass(frozen=True, slots=True)
class MergeTask:
    """Everything a worker needs for one attempt at merging into one file group.

    Attributes:
        rewrite: the group; `files` may be empty, then there are only new rows. The partition is
            that of the new rows, too.
        replaced: by path, the rows that go.
        upserts: the changes whose rows come in.
        stored: where the rows are that they replace, in this group or in another one: what they
            lack is read there.
        clustering: the order that the rows of the group are put in; None to keep theirs, new ones
            last.
        memory_bytes: what sorting may take.
    """

    rewrite: RewriteTask
    replaced: Mapping[str, Selection]
    upserts: ChangeSet
    stored: StoredRows
    clustering: Clustering | None = None
    memory_bytes: int = 256 << 20


def merge_group(task: MergeTask) -> RewriteResult:
    """Write the surviving rows of a file group, and the new ones, into files of the target size.

    Raises:
        ChangesRefusedError: a required column of a new row has no value.
        CatalogError, VerificationError: as `rewrite_group` raises them.
    """
    rewrite = replace(
        task.rewrite,
        table=Replacing(task.rewrite.table, task.replaced),
        added=_new_rows(task),
    )
    if task.clustering is None:
        return rewrite_group(rewrite)
    return cluster_group(rewrite, clustering=task.clustering, memory_bytes=task.memory_bytes)


def _new_rows(task: MergeTask) -> pa.Table | None:
    """Return the rows that come in, with the columns that outputs store."""
    if not len(task.upserts):
        return None
    schema = task.rewrite.table.schema.arrow
    has_stored = task.stored.file >= 0
    stored = _stored_rows(task) if task.upserts.is_partial else None
    rows = filled(task.upserts, stored, has_stored, schema=schema)
    wanted = task.rewrite.table.schema.stored.arrow
    columns = [
        whole(rows[field.name]) if field.name in rows.schema.names else _absent(field, len(rows))
        for field in wanted
    ]
    return pa.Table.from_arrays(columns, schema=wanted)


def _absent(field: pa.Field, count: int) -> pa.Array:
    """Return the values of a column that is not for changes: ids of rows, which are given later.

    Raises:
        ChangesRefusedError: there must be values.
    """
    if not field.nullable:
        raise ChangesRefusedError(f"the column {field.name!r} is required, and changes lack it")
    return pa.nulls(count, field.type)


def _stored_rows(task: MergeTask) -> pa.Table:
    """Read what upserts lack from the rows that they replace, in the order of the upserts."""
    table, stored = task.rewrite.table, task.stored
    lacking = frozenset().union(*task.upserts.shapes)
    fields = [field for field in table.schema.arrow if field.name in lacking]
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
    """Yield the rows of a file at some positions, which ascend."""
    with reader.opened(file) as source:
        groups = np.unique(np.searchsorted(source.starts, positions, side="right") - 1)
        for place, batch in source.placed(groups.tolist()):
            rows = np.flatnonzero(np.isin(place.positions(), positions, assume_unique=True))
            taken = batch.take(pa.array(rows))
            columns = [
                one.dictionary_decode() if types.is_dictionary(one.type) else one
                for one in taken.columns
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=reader.schema.arrow)
