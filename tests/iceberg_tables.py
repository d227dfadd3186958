"""Real Iceberg tables for tests: a SQL catalog in a directory, appends, delete files, rows back.

PyIceberg writes no delete files: those of every kind are written here.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import ValidationException
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestFile,
)
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from catalog.iceberg import key_deletes
from catalog.iceberg.delete_writing import FILE_PATH_ID, POSITION_DELETES
from catalog.iceberg.row_delta import RowDelta, commit_row_delta

NAMESPACE = "ns"


def catalog_properties(directory: Path) -> dict[str, str]:
    """Return the properties of the SQL catalog in a directory, as a configuration holds them."""
    return {
        "type": "sql",
        "uri": f"sqlite:///{directory}/catalog.db",
        "warehouse": f"file://{directory}/warehouse",
    }


def sql_catalog(directory: Path, name: str = "lake") -> SqlCatalog:
    """Open the SQL catalog in a directory; it is created with the namespace `ns` when missing."""
    catalog = SqlCatalog(name, **catalog_properties(directory))
    catalog.create_namespace_if_not_exists(NAMESPACE)
    return catalog


def make_table(
    directory: Path,
    schema: Any,
    *,
    name: str = "t",
    spec: PartitionSpec | None = None,
    properties: Mapping[str, str] | None = None,
) -> Table:
    """Create `ns.<name>` in the SQL catalog of a directory; `schema` is Arrow's or PyIceberg's."""
    catalog = sql_catalog(directory)
    extra: dict[str, Any] = {} if spec is None else {"partition_spec": spec}
    return catalog.create_table(
        f"{NAMESPACE}.{name}", schema, properties=dict(properties or {}), **extra
    )


def data_files(table: Table) -> list[DataFile]:
    """Return the live data files, with their delete files left out, sorted by path."""
    tasks = table.refresh().scan().plan_files()
    return sorted((task.file for task in tasks), key=lambda file: file.file_path)


def rows(table: Table, snapshot_id: int | None = None) -> list[dict[str, Any]]:
    """Read every row through PyIceberg, in an order that does not depend on the files."""
    return sorted(
        table.refresh().scan(snapshot_id=snapshot_id).to_arrow().to_pylist(),
        key=lambda row: repr(sorted(row.items())),
    )


def write_position_deletes(
    table: Table,
    positions: Mapping[str, Sequence[int]],
    *,
    like: DataFile,
    bounds: bool = True,
) -> DataFile:
    """Write a position delete file, not yet part of the table.

    Args:
        table: the table it will belong to.
        positions: row positions by path of the data file.
        like: a data file of the spec and partition that the deletes are scoped to.
        bounds: whether to record the bounds of the paths, from which readers learn a single target.
    """
    pairs = sorted((path, position) for path, some in positions.items() for position in some)
    content = pa.table(
        {"file_path": [path for path, _ in pairs], "pos": [position for _, position in pairs]},
        schema=POSITION_DELETES,
    )
    path = f"{table.location()}/data/{uuid.uuid4()}-deletes.parquet"
    edges = (pairs[0][0].encode(), pairs[-1][0].encode())
    return _write_delete_file(
        table,
        content,
        path=path,
        like=like,
        content_kind=DataFileContent.POSITION_DELETES,
        bounds=({FILE_PATH_ID: edges[0]}, {FILE_PATH_ID: edges[1]}) if bounds else None,
    )


def write_equality_deletes(table: Table, column: str, values: Sequence[Any]) -> DataFile:
    """Write an equality delete file over one column of an unpartitioned table."""
    kind = table.schema().as_arrow().field(column).type
    return write_key_deletes(table, pa.table({column: pa.array(values, kind)}))


def write_key_deletes(
    table: Table, keys: pa.Table, *, like: DataFile | None = None, has_bounds: bool = False
) -> DataFile:
    """Write an equality delete file over columns of the table, not yet part of it.

    Args:
        table: the table it will belong to.
        keys: columns by the names that they have now.
        like: a data file of the partition that the deletes are scoped to; None for no partition.
        has_bounds: whether to record the bounds of the keys and their nulls, as Flink does.
    """
    return key_deletes.write_key_deletes(table, key_deletes.KeyDeletes(keys, like, has_bounds))


def _write_delete_file(
    table: Table,
    content: pa.Table,
    *,
    path: str,
    like: DataFile | None,
    content_kind: DataFileContent,
    bounds: tuple[dict[int, bytes], dict[int, bytes]] | None,
) -> DataFile:
    with table.io.new_output(path).create() as sink:
        pq.write_table(content, sink)
    lower, upper = bounds or (None, None)
    file = DataFile.from_args(
        content=content_kind,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=Record() if like is None else like.partition,
        record_count=content.num_rows,
        file_size_in_bytes=len(table.io.new_input(path)),
        lower_bounds=lower,
        upper_bounds=upper,
        split_offsets=[4],
    )
    file.spec_id = table.spec().spec_id if like is None else like.spec_id
    return file


def commit_deletes(table: Table, *delete_files: DataFile) -> Table:
    """Commit delete files in one snapshot, as a merge-on-read writer does."""
    commit_row_delta(table, delete_files)
    return table.refresh()


def delete_positions(table: Table, file: DataFile, positions: Sequence[int]) -> DataFile:
    """Delete rows of one data file with a position delete file of its own; return that file."""
    deletes = write_position_deletes(table, {file.file_path: positions}, like=file)
    commit_deletes(table, deletes)
    return deletes


class _RowDeltaIfLive(RowDelta):
    """As a careful merge-on-read writer: the data file must still be live at every attempt."""

    def __init__(self, transaction: Any, io: Any, deletes: DataFile, target: str) -> None:
        super().__init__(transaction, io, [deletes])
        self._target = target

    def _manifests(self) -> list[ManifestFile]:
        head = self._transaction.table_metadata.snapshot_by_id(self._parent_snapshot_id)
        assert head is not None
        live = {
            entry.data_file.file_path
            for manifest in head.manifests(self._io)
            for entry in manifest.fetch_manifest_entry(self._io, discard_deleted=True)
        }
        if self._target not in live:
            raise ValidationException(f"{self._target} is no longer live")
        return super()._manifests()


def commit_deletes_if_live(table: Table, deletes: DataFile, target: str) -> Table:
    """Commit position deletes of one data file, unless a commit has removed that file meanwhile.

    Raises:
        ValidationException: it has.
    """
    transaction = table.transaction()
    _RowDeltaIfLive(transaction, table.io, deletes, target).commit()
    transaction.commit_transaction()
    return table.refresh()
