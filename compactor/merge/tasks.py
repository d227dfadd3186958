"""Tasks of a merge: for each partition that loses or gains rows, groups of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from catalog.model import Inventory, Selection
from catalog.table import RowKeeper, TableFiles
from compactor.clustering import Clustering
from compactor.merge.choice import WriteMode, marked
from compactor.merge.completing import as_stored
from compactor.merge.group import MergeTask
from compactor.merge.keys import Rows
from compactor.merge.outcome import Outcome
from compactor.rewrite.task import Proof, RewriteTask
from compactor.splicing import SpliceLimits

# Files that are written anew together, in targets of their size: enough for the last output, which
# is smaller than the others, not to count; few enough for several workers to have some.
_GROUP_TARGETS = 4


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """How the groups of a merge are written.

    Attributes:
        attempt_id: beginning of the names of outputs; the number of the group follows.
        target_file_size_bytes: size of the outputs.
        proof: what is checked of each group.
        splice: which row groups may be copied as they are; None for none.
        clustering: the order of rows within a group; None to keep it.
        write_mode: how rows that go are taken out of the table.
        can_mark: whether the table takes deletes that are recorded beside data files.
    """

    attempt_id: str
    target_file_size_bytes: int
    proof: Proof
    splice: SpliceLimits | None = None
    clustering: Clustering | None = None
    write_mode: WriteMode = WriteMode.AUTO
    can_mark: bool = False


def merge_tasks(
    table: TableFiles, files: Inventory, outcome: Outcome, rows: pa.Table, *, options: MergeOptions
) -> Iterator[MergeTask]:
    """Yield the tasks that bring an outcome about.

    Files without a row that goes are in none. A row that comes in where it belongs now drops the
    one that it replaces where that was: these may be two tasks.

    Args:
        table: the workers' side of the snapshot.
        files: those that were matched.
        outcome: what was made of them.
        rows: the rows that come in, completed.
        options: how groups are written.

    Raises:
        ChangesRefusedError: a required column cannot have a value.
        UnsupportedTableError: a value cannot be told from another one in its partition, or the
            table cannot record deletes as is asked for.
    """
    staying = marked(
        {path: (one, len(outcome.dropped[path].dropped)) for path, one in outcome.touched.items()},
        options.write_mode,
        can_mark=options.can_mark,
        is_sorted=options.clustering is not None,
    )
    every = files
    if isinstance(table, RowKeeper):
        rows = table.arriving(rows, files)
    touched = [path in outcome.dropped for path in files.files["path"].to_pylist()]
    files = files.take(np.flatnonzero(np.array(touched, np.bool_)))
    stored = as_stored(rows, table.schema)
    maker = _Maker(table, outcome, options, staying, every)
    keys = [files.files["partition_key"].combine_chunks(), table.partition_keys(rows)]
    both = pa.concat_arrays([one.cast(pa.string()) for one in keys]).dictionary_encode()
    of_files, of_rows = np.split(np.asarray(both.indices), [files.file_count])
    parts = zip(_members(of_files, both), _members(of_rows, both), strict=True)
    number = 0
    for key, (some, members) in zip(both.dictionary.to_pylist(), parts, strict=True):
        for task in _of_partition(maker, key, files.take(some), (stored, members)):
            name = f"{options.attempt_id}-{number}"
            yield replace(task, rewrite=replace(task.rewrite, attempt_id=name))
            number += 1


def _of_partition(
    maker: _Maker, key: str, files: Inventory, incoming: tuple[pa.Table, Rows]
) -> Iterator[MergeTask]:
    """Yield the tasks of one partition; what comes in are some of these rows."""
    rows, members = incoming
    if maker.table.layout.changes_in_place:
        return maker.in_place(key, files, rows, members)
    some = rows if len(members) == len(rows) else rows.take(pa.array(members))
    return maker.of_partition(key, files, some)


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes tasks; `staying` are the paths of files that have deletes recorded for them.

    `every` are all files that were matched.
    """

    table: TableFiles
    outcome: Outcome
    options: MergeOptions
    staying: frozenset[str]
    every: Inventory

    def of_partition(self, key: str, files: Inventory, rows: pa.Table) -> Iterator[MergeTask]:
        """Yield the tasks of one partition.

        New rows go into the first group that is written anyhow, so that small files grow with
        them; what is more than a group has room for comes in tasks of its own.
        """
        stays = np.array([path in self.staying for path in files.files["path"].to_pylist()], bool)
        rewritten, marked_files = (
            files.take(np.flatnonzero(~stays)),
            files.take(np.flatnonzero(stays)),
        )
        parts = self._parts(rows, files)
        first = next(parts, None)
        if stays.any():
            marks = {path: self.outcome.dropped[path] for path in _paths(marked_files)}
            own = None if rewritten.file_count else first
            yield self._task(key, marked_files, own, marks=marks)
            first = first if rewritten.file_count else next(parts, None)
        for group in self._groups(rewritten):
            yield self._task(key, group, first)
            first = next(parts, None)
        while first is not None:
            yield self._task(key, files.take(np.empty(0, np.int64)), first)
            first = next(parts, None)

    def in_place(
        self, key: str, files: Inventory, rows: pa.Table, members: Rows
    ) -> Iterator[MergeTask]:
        """Yield a task for each file of a partition, and tasks for what is new.

        A row that takes the place of another in the partition stays with its file. New rows go
        into the smallest file that is written anyhow if it has room for all of them.
        """
        places = {path: at for at, path in enumerate(_paths(files))}
        of_paths = np.array([*(places.get(path, -1) for path in self.outcome.paths), -1], np.int64)
        homes = of_paths[self.outcome.stored[0][members]]
        new = rows.take(pa.array(members[homes < 0]))
        if len(new) and isinstance(self.table, RowKeeper):
            self.table.check_new(self.every)
        if files.file_count and len(new):
            sizes = files.files["size_bytes"].to_numpy()
            row_bytes = files.size_bytes / files.row_count if files.row_count else _row_bytes(new)
            if sizes.min() + len(new) * row_bytes <= self.options.target_file_size_bytes:
                homes[homes < 0] = int(np.argmin(sizes))
                new = new.slice(0, 0)
        order = np.argsort(homes, kind="stable")
        bounds = np.searchsorted(homes[order], np.arange(files.file_count + 1))
        for at in range(files.file_count):
            own = rows.take(pa.array(members[order[bounds[at] : bounds[at + 1]]]))
            task = self._task(key, files.take(np.array([at])), own if len(own) else None)
            yield replace(task, rewrite=replace(task.rewrite, is_one_file=True))
        for part in self._parts(new, files):
            yield self._task(key, files.take(np.empty(0, np.int64)), part)

    def _groups(self, files: Inventory) -> Iterator[Inventory]:
        """Cut the files that are written anew into groups of about the same size."""
        if not files.file_count:
            return
        ends = np.cumsum(files.files["size_bytes"].to_numpy())
        room = _GROUP_TARGETS * self.options.target_file_size_bytes
        count = max(1, round(ends[-1] / room))
        numbers = ((ends - 1) * count // ends[-1]).astype(np.int64)
        for some in np.split(np.arange(files.file_count), np.flatnonzero(np.diff(numbers)) + 1):
            yield files.take(some)

    def _parts(self, rows: pa.Table, files: Inventory) -> Iterator[pa.Table]:
        """Cut new rows into what one task takes."""
        if not len(rows):
            return
        row_bytes = files.size_bytes / files.row_count if files.row_count else _row_bytes(rows)
        room = _GROUP_TARGETS * self.options.target_file_size_bytes
        count = max(1, round(len(rows) * row_bytes / room))
        size = -(-len(rows) // count)
        for start in range(0, len(rows), size):
            yield rows.slice(start, size)

    def _task(
        self,
        key: str,
        files: Inventory,
        rows: pa.Table | None,
        *,
        marks: dict[str, Selection] | None = None,
    ) -> MergeTask:
        rewrite = RewriteTask(
            table=self.table,
            partition_key=key,
            files=files,
            attempt_id=self.options.attempt_id,
            target_file_size_bytes=self.options.target_file_size_bytes,
            proof=self.options.proof,
            splice=self.options.splice,
            added=rows,
        )
        if marks is not None:
            return MergeTask(rewrite, {}, self.options.clustering, marks=marks)
        replaced = {path: self.outcome.dropped[path] for path in _paths(files)}
        return MergeTask(rewrite, replaced, self.options.clustering)


def _paths(files: Inventory) -> list[str]:
    found: list[str] = files.files["path"].to_pylist()
    return found


def _row_bytes(rows: pa.Table) -> float:
    """Return what a row takes stored, about: half of what it takes in memory."""
    return float(rows.nbytes / len(rows) / 2)


def _members(codes: Rows, keys: pa.DictionaryArray) -> list[Rows]:
    """Return the places of each code, one list per key."""
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(1, len(keys.dictionary)))
    return np.split(order, bounds) if len(keys.dictionary) else []
