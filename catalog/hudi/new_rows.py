"""Rows that a change brings in: their record keys, partition paths and other meta columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.errors import LocationError, UnsupportedTableError
from catalog.hudi.file_names import HASHING, AttemptName, is_low_bucket, read_name
from catalog.hudi.key_rules import NO_PARTITION, key_rule
from catalog.hudi.metadata_table.table import RECORD_INDEX, open_metadata_table
from catalog.hudi.partitions import METADATA
from catalog.hudi.protocol import merge_rule
from catalog.hudi.schema import COMMIT_SEQNO, COMMIT_TIME, IS_DELETED, PARTITION_PATH, RECORD_KEY
from catalog.model import Inventory

if TYPE_CHECKING:
    from catalog.hudi.files import HudiFiles

# Stored rows that the rule of keys is held against: the first ones of a few files.
_SAMPLES = 4
_SAMPLE_ROWS = 1000
# What file systems take.
_NAME_BYTES_MAX = 255
_DELETE_FIELD = "hoodie.record.merge.property.hoodie.payload.delete.field"
_DELETE_MARKER = "hoodie.record.merge.property.hoodie.payload.delete.marker"


def keyed(files: HudiFiles, rows: pa.Table, inventory: Inventory) -> pa.Table:
    """Return rows with their record keys and partition paths.

    Args:
        files: the workers' side of the table.
        rows: with the columns of users.
        inventory: slices of the table.

    Raises:
        UnsupportedTableError: keys cannot be told, or a row stands for a delete.
    """
    schema = files.schema.arrow
    _require_no_deletes(files, rows)
    _require_ordered(files, rows)
    _require_readable(files, rows)
    rule = key_rule(files.config, schema, _samples(files, inventory))
    rule.require_own(rows)
    paths = rule.paths(rows)
    _require_folders(files, paths)
    _require_indexed(files, paths, inventory)
    for name, values in ((RECORD_KEY, rule.keys(rows)), (PARTITION_PATH, paths)):
        rows = rows.append_column(schema.field(name), values)
    return rows


def stamped(rows: pa.Table, instant: str, attempt_id: str) -> pa.Table:
    """Return rows with the instant that brings them, and numbers that no others in it have."""
    group = AttemptName.parse(f"{attempt_id}-0").group_id
    numbers = pa.array(np.arange(rows.num_rows)).cast(pa.string())
    made = {
        COMMIT_TIME: pa.repeat(pa.scalar(instant, pa.string()), rows.num_rows),
        COMMIT_SEQNO: pc.binary_join_element_wise(f"{instant}_{group}", numbers, "_"),
    }
    for name, values in made.items():
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.schema.field(at), values)
    return rows


def _require_no_deletes(files: HudiFiles, rows: pa.Table) -> None:
    """Refuse rows that Hudi's writers would take for deletes."""
    marks = [(IS_DELETED, "true")]
    if field := files.config.get(_DELETE_FIELD):
        marks.append((field, files.config.get(_DELETE_MARKER)))
    for name, marker in marks:
        if name in rows.schema.names:
            is_marked = pc.equal(rows[name].cast(pa.string()), marker)
            if pc.any(is_marked, min_count=0).as_py():
                raise UnsupportedTableError(
                    f"a row that comes in has {marker} in {name}, which means a delete to Hudi",
                    hint=f"say so: --op-column {name}" if name == IS_DELETED else "",
                )


def _require_ordered(files: HudiFiles, rows: pa.Table) -> None:
    """Refuse rows that no later record of their key could be compared with."""
    for name in merge_rule(files.config).ordering:
        if name in rows.schema.names and rows[name].null_count:
            raise UnsupportedTableError(
                f"a row that comes in has no {name}, by which the table tells which of two records"
                " is newer"
            )


def _require_readable(files: HudiFiles, rows: pa.Table) -> None:
    """Refuse what Spark, which reads partition columns from paths, takes for null in vain."""
    for name in files.config.partition_fields:
        if name not in rows.schema.names:
            continue
        values = rows[name].cast(pa.string())
        if _has(values, NO_PARTITION):
            raise UnsupportedTableError(
                f"a row that comes in has {NO_PARTITION} in {name}: its partition is that of null"
            )
        if not files.schema.arrow.field(name).nullable and _has(values, ""):
            raise UnsupportedTableError(
                f"a row that comes in has an empty {name}: its partition is that of null, and"
                " the column is required"
            )


def _has(values: pa.ChunkedArray, text: str) -> bool:
    return bool(pc.any(pc.equal(values, text), min_count=0).as_py())


def _require_folders(files: HudiFiles, paths: pa.Array) -> None:
    """Refuse partition paths that are no folders below the table, before they are announced."""
    for path in paths.unique().to_pylist():
        names = [name for name in path.split("/") if name]
        try:
            files.root.child(*names, METADATA)
        except LocationError as error:
            raise UnsupportedTableError(f"{path!r} is no path of a partition: {error}") from error
        if any(len(name.encode()) > _NAME_BYTES_MAX for name in names):
            raise UnsupportedTableError(f"{path!r} is no path of a partition: a name is too long")


def _require_indexed(files: HudiFiles, paths: pa.Array, inventory: Inventory) -> None:
    """Refuse rows of new partitions where each partition has a record index of its own."""
    metadata = open_metadata_table(files.storage, files.root, files.config)
    if metadata is None or RECORD_INDEX not in metadata.partitions:
        return
    known = set(inventory.files["partition_key"].unique().to_pylist())
    new = sorted(set(paths.unique().to_pylist()) - known)
    if new and metadata.is_record_index_divided:
        raise UnsupportedTableError(
            f"rows come into the new partition {new[0]!r}, and the record index of the table is"
            " divided by partitions: it would have to be begun for it",
            hint="have the first rows of a partition come by Hudi's own writers",
        )


def _samples(files: HudiFiles, inventory: Inventory) -> Iterator[pa.Table]:
    """Yield some stored rows with the columns of keys and paths."""
    fields = (*files.config.record_key_fields, *files.config.partition_fields)
    wanted = [name for name in dict.fromkeys(fields) if name in files.schema.arrow.names]
    stored = np.flatnonzero(inventory.files["row_count"].to_numpy() > 0)
    chosen = stored[np.linspace(0, len(stored) - 1, min(_SAMPLES, len(stored)), dtype=int)]
    for file in inventory.take(chosen).slices():
        location = files.locate(file.path)
        with files.storage.open_input(location, size_bytes=file.size_bytes) as source:
            columns = [*wanted, RECORD_KEY, PARTITION_PATH]
            batches = pq.ParquetFile(source).iter_batches(_SAMPLE_ROWS, columns=columns)
            rows = next(batches, None)
            if rows is not None and set(columns) <= set(rows.schema.names):
                yield pa.Table.from_batches([rows])


def require_unbound(files: HudiFiles, inventory: Inventory) -> None:
    """Make sure that a row may come into any file group of its partition, or one of its own.

    Raises:
        UnsupportedTableError: an index by buckets says into which.
    """
    folder = files.root.child(".hoodie", HASHING)
    names = (read_name(path).file_id for path in inventory.files["path"].to_pylist())
    is_hashed = any(True for _ in files.storage.list(folder))
    if is_hashed or (inventory.file_count and all(map(is_low_bucket, names))):
        raise UnsupportedTableError(
            "rows with new keys cannot be merged into a table with an index by buckets: how many"
            " buckets there are stands with its writers",
            hint="updates and deletes can; leave new keys to Hudi's own writers",
        )
