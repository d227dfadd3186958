"""Which files can hold a changed key, by the table's metadata alone: no file is opened.

Partitions come first, then the bounds of the key columns in each file that is left. Both are
columns of all files at once; what is in doubt stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.model import Inventory, Snapshot
from catalog.routing import FileBounds, RoutableTable, Routing
from catalog.table import MapFunction, Table
from compactor.merge.bounds import ColumnBounds
from compactor.merge.changes import ChangeSet
from compactor.merge.deletes import KeyedDeletes
from compactor.merge.keys import Flags, Rows, comparable_key, keys_of
from compactor.merge.routing import Probe
from compactor.merge.rules import MergeRules, Mode


@dataclass(frozen=True, slots=True)
class FilesLeft:
    """What a stage of routing left over.

    Attributes:
        stage: its name: `table`, `partitions`, `bounds`.
        files: data files.
        row_count: rows stored in them.
        size_bytes: bytes of them.
    """

    stage: str
    files: int
    row_count: int
    size_bytes: int

    @staticmethod
    def of(stage: str, files: Inventory) -> FilesLeft:
        """Count files."""
        return FilesLeft(stage, files.file_count, files.row_count, files.size_bytes)


@dataclass(frozen=True, slots=True)
class Routed:
    """What has to be looked at.

    Attributes:
        files: that may hold a changed key.
        stages: what each stage left over, the whole table first.
        reach: keys of all partitions that rows with these keys can be in, those included that
            others have yet to make; None where they can be anywhere.
    """

    files: Inventory
    stages: tuple[FilesLeft, ...]
    reach: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Snapshotted:
    """A table as it was when changes were read.

    Attributes:
        table: the coordinator's side.
        snapshot: the snapshot.
        files: all of its slices, or those in question.
        schema: the columns that changes may have, with field ids.
    """

    table: Table
    snapshot: Snapshot
    files: Inventory
    schema: pa.Schema


def looked_for(
    changes: ChangeSet, deletes: Sequence[KeyedDeletes], rules: MergeRules
) -> list[pa.Table]:
    """Return the values that stored rows are looked for by, a table for each set of columns."""
    found = [] if rules.mode is Mode.APPEND else [changes.table.select(rules.key)]
    return found + [one.table.select(one.columns) for one in deletes]


def route(
    base: Snapshotted, wanted: Sequence[pa.Table], *, map_function: MapFunction = map
) -> Routed:
    """Rule out files by metadata.

    Args:
        base: where to look.
        wanted: what is looked for, see `looked_for`.
        map_function: runs the reading of manifests.

    Raises:
        CatalogError: the metadata cannot be read.
    """
    files, stages = base.files, [FilesLeft.of("table", base.files)]
    reach: frozenset[str] | None = None
    wanted = [_with_ids(one, base.schema) for one in wanted if one.num_rows]
    if not wanted:
        files = files.take(np.empty(0, np.int64))
    if isinstance(base.table, RoutableTable) and files.file_count:
        routing = base.table.routing(base.snapshot)
        reach = _reach(routing, wanted)
        files = files.take(np.flatnonzero(_in_partitions(routing, files, wanted)))
        stages.append(FilesLeft.of("partitions", files))
        if files.file_count:
            is_inside = _within_bounds(routing, files, wanted, map_function)
            files = files.take(np.flatnonzero(is_inside))
        stages.append(FilesLeft.of("bounds", files))
    return Routed(files, tuple(stages), reach)


def _reach(routing: Routing, wanted: Sequence[pa.Table]) -> frozenset[str] | None:
    found: frozenset[str] = frozenset()
    for rows in wanted:
        one = routing.reach(rows)
        if one is None:
            return None
        found |= one
    return found


def _with_ids(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    fields = [schema.field(name).with_nullable(True) for name in rows.schema.names]
    return pa.table(rows.columns, schema=pa.schema(fields))


def _in_partitions(routing: Routing, files: Inventory, wanted: Sequence[pa.Table]) -> Flags:
    keys = files.files["partition_key"].combine_chunks()
    found = np.zeros(len(keys.dictionary), np.bool_)
    for rows in wanted:
        found |= routing.partitions(keys.dictionary, rows)
    possible: Flags = found[np.asarray(keys.indices)]
    return possible


def _within_bounds(
    routing: Routing, files: Inventory, wanted: Sequence[pa.Table], map_function: MapFunction
) -> Flags:
    names = list(dict.fromkeys(name for rows in wanted for name in rows.schema.names))
    stated = routing.bounds(files, names, map_function=map_function)
    counts = np.asarray(files.files["row_count"].to_numpy())
    by_name = {name: _column_bounds(one, counts) for name, one in zip(names, stated, strict=True)}
    found = np.zeros(files.file_count, np.bool_)
    for rows in wanted:
        kinds = [field.type for field in rows.schema]
        probe = Probe(keys_of(rows, rows.schema.names), kinds)
        found |= probe.may_hold([by_name[name] for name in rows.schema.names])
    return found


def _column_bounds(stated: FileBounds, row_counts: Rows) -> ColumnBounds:
    """Return what metadata say as footers would say it."""
    nulls = np.asarray(stated.null_count.fill_null(-1))
    is_known = np.asarray(pc.and_(stated.lower.is_valid(), stated.upper.is_valid()))
    lower, upper = comparable_key(stated.lower), comparable_key(stated.upper)
    return ColumnBounds(
        lower, upper, is_known, has_values=nulls != row_counts, has_nulls=nulls != 0
    )
