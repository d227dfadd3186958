"""Changes for tests of commits: rows of a lake upserted and deleted by their id, plainly."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.commits import Commit, CommitKind, OutputFile, Rewrite, Watermark
from catalog.model import KEEP_ALL, Inventory, Selection, Snapshot
from catalog.table import Table, TableFiles
from tests.catalog.groups import filled, partitions, pick, write_output

Row = tuple[int, str, str]
MARK = Watermark("orders", "1")


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a lake.

    Attributes:
        upserts: rows that take the place of those with the same id.
        deletes: ids of rows that go.
        watermarks: what is recorded with it.
    """

    upserts: Sequence[Row] = ()
    deletes: Collection[int] = ()
    watermarks: tuple[Watermark, ...] = (MARK,)

    @property
    def ids(self) -> frozenset[int]:
        """All ids it speaks of."""
        return frozenset([*self.deletes, *(identity for identity, *_ in self.upserts)])

    def apply(self, rows: Sequence[Row]) -> list[Row]:
        """Return what a dictionary of the rows would hold."""
        kept = {row[0]: row for row in rows if row[0] not in self.deletes}
        return sorted((kept | {row[0]: row for row in self.upserts}).values())


def hits_of(files: TableFiles, inventory: Inventory, ids: Collection[int]) -> dict[str, Selection]:
    """Return the live rows with some ids, by file."""
    selections, wanted = files.selections(inventory), pa.array(ids, pa.int64())
    found = {}
    for one in inventory.slices():
        stored = filled(files.schema, pq.ParquetFile(files.locate(one.path).path).read(), {})
        is_hit = np.isin(stored["id"].to_numpy(), wanted.to_numpy())
        rows = np.setdiff1d(np.flatnonzero(is_hit), selections.get(one.path, KEEP_ALL).dropped)
        if len(rows):
            found[one.path] = Selection(rows)
    return found


def new_rows(files: TableFiles, rows: Sequence[Row]) -> dict[str, pa.Table]:
    """Return rows that come in, by the key of their partition: they have no ids of rows yet."""
    names = ("id", "part", "text")
    table = pa.Table.from_pylist(
        [dict(zip(names, row, strict=True)) for row in rows], files.schema.arrow
    )
    keys = np.array(files.partition_keys(table).to_pylist())
    return {key: table.filter(pa.array(keys == key)) for key in dict.fromkeys(keys.tolist())}


def plan_change(table: Table, change: Change, *, marks: bool = False) -> Commit:
    """Match a change against the current snapshot, and write what it needs."""
    snapshot = table.snapshot()
    files, inventory = table.files(snapshot), table.inventory(snapshot)
    hits = hits_of(files, inventory, change.ids)
    groups = partitions(pick(inventory, *hits)) if hits else {}
    added = new_rows(files, change.upserts) if change.upserts else {}
    make = _marking if marks else _rewriting
    rewrites = [
        make(
            Rewrite(f"g{key}", groups.get(key, Inventory.empty()), (), 0, partition_key=key),
            files,
            hits=hits,
            added=added.get(key, files.schema.arrow.empty_table()),
        )
        for key in dict.fromkeys([*groups, *added])
    ]
    return change_commit(snapshot, *rewrites, watermarks=change.watermarks)


def change_commit(
    snapshot: Snapshot, *rewrites: Rewrite, watermarks: tuple[Watermark, ...] = (MARK,)
) -> Commit:
    """Return a commit of a change under a new id."""
    return Commit(
        str(uuid.uuid4()), snapshot, rewrites, kind=CommitKind.CHANGE, watermarks=watermarks
    )


def _marking(
    group: Rewrite, files: TableFiles, *, hits: Mapping[str, Selection], added: pa.Table
) -> Rewrite:
    marks = {one.path: hits[one.path] for one in group.files.slices()}
    outputs = _written(files, group, added)
    return replace(group, added=outputs, marks=marks, rows_added=added.num_rows)


def _rewriting(
    group: Rewrite, files: TableFiles, *, hits: Mapping[str, Selection], added: pa.Table
) -> Rewrite:
    deleted, parts, dropped = files.selections(group.files), [], 0
    for one in group.files.slices():
        stored = pq.ParquetFile(files.locate(one.path).path).read()
        rows = filled(files.schema, stored, files.fillings(one))
        before = deleted.get(one.path, KEEP_ALL).dropped
        gone = Selection.of(np.concatenate([before, hits[one.path].dropped]))
        dropped += len(gone.dropped)
        parts.append(rows.filter(pa.array(gone.kept(0, rows.num_rows))))
    outputs = _written(files, group, pa.concat_tables([*parts, added]))
    return replace(group, added=outputs, rows_dropped=dropped, rows_added=added.num_rows)


def _written(files: TableFiles, group: Rewrite, rows: pa.Table) -> tuple[OutputFile, ...]:
    return (write_output(files, group.target_key, rows),) if rows.num_rows else ()
