"""What stands announced on a table, and what may not be touched because of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.announcing import Standing
from catalog.errors import CorruptTableError
from catalog.hudi.file_names import HASHING, is_bucket, read_name
from catalog.hudi.partitions import is_named
from catalog.hudi.reading import Source
from catalog.hudi.scheduling import pending_slices
from catalog.hudi.slices import Slices
from catalog.hudi.timeline import Action, Instant
from catalog.model import Inventory


def standing_of(source: Source, slices: Slices, inventory: Inventory) -> Standing:
    """Return the plans that are not carried out, the first that can be with its files.

    Args:
        source: the table.
        slices: its file slices.
        inventory: the same, as planners read them.

    Raises:
        CorruptTableError: a pending compaction names what is not there.
    """
    paths = inventory.files["path"]
    planned = paths.filter(pc.invert(pc.and_(_is_free(slices.slices), is_named(paths))))
    bound = _bound(source, slices.slices, paths)
    found = Standing(planned=frozenset(planned.to_pylist()), bound=bound)
    if pending := source.timeline.pending(Action.COMPACTION):
        files = _planned(source, inventory, pending[0])
        return replace(found, work_id=pending[0].time, files=files)
    if not source.timeline.pending(Action.CLUSTERING, Action.REPLACECOMMIT):
        return found
    from catalog.hudi.others_clustering import with_clustering  # lazy: seldom

    return with_clustering(found, source, inventory)


def _is_free(slices: pa.Table) -> pa.ChunkedArray:
    """Tell which slices no plan names."""
    names = [name for name in slices.column_names if name.startswith("pending_")]
    found = slices[names[0]].is_null()
    for name in names[1:]:
        found = pc.and_(found, slices[name].is_null())
    return found


def _bound(source: Source, slices: pa.Table, paths: pa.ChunkedArray) -> frozenset[str]:
    """Return the slices that an index binds to their file groups."""
    if any(True for _ in source.storage.list(source.root.child(".hoodie", HASHING))):
        return frozenset(paths.to_pylist())
    return _bucketed(slices, paths)


def _bucketed(slices: pa.Table, paths: pa.ChunkedArray) -> frozenset[str]:
    """Return the slices of partitions in which every file id may be that of a bucket."""
    partitions = slices["partition_path"].to_pylist()
    bucketed = [is_bucket(one) for one in slices["file_id"].to_pylist()]
    others = {one for one, found in zip(partitions, bucketed, strict=True) if not found}
    rows = zip(partitions, paths.to_pylist(), strict=True)
    return frozenset(path for partition, path in rows if partition not in others)


def _planned(source: Source, inventory: Inventory, instant: Instant) -> Inventory:
    """Return the slices of a pending compaction as it names them.

    Raises:
        CorruptTableError: one of them is not there.
    """
    wanted = {(one.partition_path, one.file_id): one for one in pending_slices(source, instant)}
    files = inventory.files.select(["path", "partition_key"]).to_pylist()
    rows = {
        (one["partition_key"], read_name(one["path"]).file_id): row for row, one in enumerate(files)
    }
    if missing := [key for key in wanted if key not in rows]:
        raise CorruptTableError(
            f"the compaction {instant.time} names the file group {missing[0][1]}, which is"
            " not in the table"
        )
    chosen = inventory.take(np.array([rows[key] for key in wanted], np.int64))
    logs = {name for one in wanted.values() for name in one.log_files}
    return _with_logs(chosen, logs)


def _with_logs(inventory: Inventory, names: set[str]) -> Inventory:
    """Return slices with just those of their logs that have one of some names."""
    is_named = [
        path.rpartition("/")[2] in names for path in inventory.delete_files["path"].to_pylist()
    ]
    column = inventory.files.schema.field("deletes")
    kept = [
        [row for row in rows if is_named[row]] for rows in inventory.files["deletes"].to_pylist()
    ]
    at = inventory.files.schema.get_field_index("deletes")
    files = inventory.files.set_column(at, column, [pa.array(kept, column.type)])
    trimmed = Inventory(files, inventory.delete_files)
    return trimmed.take(np.arange(trimmed.file_count))
