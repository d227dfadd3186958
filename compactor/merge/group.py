"""Merge changes into one file group: what a worker runs.

The group goes through the rewrite engine like any other: the rows that changes hit are dropped as
if deletes had dropped them, row groups without a hit are copied, and the new rows follow, or take
their place in the order of the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from catalog.layout import FileLayout
from catalog.location import Location
from catalog.model import KEEP_ALL, FileSlice, Filling, Inventory, Selection
from catalog.schema import TableSchema
from catalog.storage import Storage
from catalog.table import OutputMarker, RowKeeper, TableFiles
from catalog.tails import ThinnedTail
from compactor.clustering import Clustering
from compactor.merge.keys import Rows
from compactor.rewrite.cluster.group import cluster_group
from compactor.rewrite.group import rewrite_group
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
        for file in files.slices():
            going = self.replaced.get(file.path)
            if going is not None:
                base = found.get(file.path, KEEP_ALL)
                found[file.path] = _less(base, going.dropped, file.row_count)
        return found

    def fillings(self, file: FileSlice) -> Mapping[int, Filling]:
        """Return what columns hold that the file may lack or hold nulls of."""
        return self.base.fillings(file)

    def partition_keys(self, rows: pa.Table) -> pa.Array:
        """Return the partition that each new row belongs to."""
        return self.base.partition_keys(rows)

    def new_location(self, partition_key: str, file_name: str) -> Location:
        """Return where a new data file of the partition belongs."""
        return self.base.new_location(partition_key, file_name)

    def mark_output(self, location: Location) -> None:
        """Note that a data file is about to be written, where the table is told of that."""
        if isinstance(self.base, OutputMarker):
            self.base.mark_output(location)


@dataclass(frozen=True, slots=True)
class MergeTask:
    """Everything a worker needs for one attempt at merging into one file group.

    Attributes:
        rewrite: the group and the rows that come in, all of one partition. There need not be
            files: then there are only new rows.
        replaced: by path, the stored rows that go.
        clustering: the order that the rows of the group are put in; None to keep theirs, new ones
            last.
        memory_bytes: what sorting may take.
        marks: by path, rows that go from files which stay: all files of the group, or none. Then
            nothing is read, and only the rows that come in are written.
    """

    rewrite: RewriteTask
    replaced: Mapping[str, Selection]
    clustering: Clustering | None = None
    memory_bytes: int = 256 << 20
    marks: Mapping[str, Selection] = field(default_factory=dict)


def merge_group(task: MergeTask) -> RewriteResult:
    """Write the surviving rows of a file group, and the new ones, into files of the target size.

    Raises:
        CatalogError, VerificationError: as `rewrite_group` raises them.
    """
    rewrite = replace(task.rewrite, table=Replacing(task.rewrite.table, task.replaced))
    if rewrite.added is not None and isinstance(task.rewrite.table, RowKeeper):
        rewrite = replace(
            rewrite, added=task.rewrite.table.written(rewrite.added, rewrite.attempt_id)
        )
    if task.marks:
        rewrite = replace(rewrite, files=rewrite.files.take(np.empty(0, np.int64)))
    if task.clustering is None or (task.marks and not rewrite.rows_added):
        return rewrite_group(rewrite)
    return cluster_group(rewrite, clustering=task.clustering, memory_bytes=task.memory_bytes)


def _less(selection: Selection, going: Rows, stored: int) -> Selection:
    """Return what is left of a slice whose file stores so many rows; its tail comes behind them."""
    is_stored = going < stored
    dropped = np.concatenate([selection.dropped, going[is_stored]])
    if is_stored.all():
        return Selection(np.unique(dropped), selection.tail)
    return Selection(np.unique(dropped), ThinnedTail(selection.tail, going[~is_stored] - stored))
