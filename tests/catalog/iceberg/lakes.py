"""Iceberg tables under test, each with PyIceberg as the other writer at its side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.memory import InMemoryCatalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.expressions import In
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import CommitTableRequest, TableIdentifier
from pyiceberg.table import Table as PyIcebergTable
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import LongType, NestedField, StringType

from catalog.iceberg.table import IcebergTable
from tests.catalog.conformance import Row, expected
from tests.iceberg_tables import (
    NAMESPACE,
    commit_deletes,
    data_files,
    sql_catalog,
    write_position_deletes,
)

SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=False),
    NestedField(2, "part", StringType(), required=False),
    NestedField(3, "text", StringType(), required=False),
)
BY_PART = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "part"), spec_id=0)


def in_memory_catalog(directory: Path) -> Catalog:
    """Open PyIceberg's in-memory catalog over a directory."""
    catalog = InMemoryCatalog("memory", warehouse=f"file://{directory}/warehouse")
    catalog.create_namespace(NAMESPACE)
    return catalog


class WireCatalog(SqlCatalog):
    """A catalog that gets every commit as JSON, as a REST catalog does."""

    def commit_table(self, table: Any, requirements: Any, updates: Any) -> Any:
        identifier = TableIdentifier(namespace=["ns"], name="t")
        request = CommitTableRequest(
            identifier=identifier, requirements=requirements, updates=updates
        )
        received = CommitTableRequest.model_validate_json(request.model_dump_json())
        return super().commit_table(table, received.requirements, received.updates)


def rows_of(ids: Sequence[int], part: str) -> pa.Table:
    """Return rows whose text follows from their id."""
    columns = zip(*expected(ids, part), strict=True)
    return pa.table([*map(list, columns)], names=["id", "part", "text"])


class IcebergLake:
    """A partitioned table in a catalog."""

    has_sequence_numbers = True
    first_snapshot_id = ""

    def __init__(
        self, directory: Path, format_version: int, catalog: Catalog | None = None
    ) -> None:
        self.has_deletes = format_version > 1
        self.catalog = catalog or sql_catalog(directory)
        self.catalog.create_table(
            f"{NAMESPACE}.t",
            SCHEMA,
            partition_spec=BY_PART,
            properties={
                "format-version": str(format_version),
                "commit.retry.min-wait-ms": "1",
                "commit.retry.max-wait-ms": "20",
                "commit.retry.num-retries": "20",
            },
        )

    @property
    def other(self) -> PyIcebergTable:
        """The table as the other writer sees it."""
        return self.catalog.load_table(f"{NAMESPACE}.t")

    @property
    def table(self) -> IcebergTable:
        return IcebergTable("lake.ns.t", self.catalog, (NAMESPACE, "t"))

    def append(self, ids: Sequence[int], part: str = "a") -> str:
        before = {file.file_path for file in data_files(self.other)}
        self.other.append(rows_of(ids, part))
        (path,) = {file.file_path for file in data_files(self.other)} - before
        return path

    def data_file(self, path: str) -> DataFile:
        return next(file for file in data_files(self.other) if file.file_path == path)

    def delete(self, positions: Mapping[str, Sequence[int]]) -> None:
        like = self.data_file(next(iter(positions)))
        commit_deletes(self.other, write_position_deletes(self.other, positions, like=like))

    def remove(self, path: str) -> None:
        table = self.other
        with (
            table.transaction() as transaction,
            transaction.update_snapshot().overwrite() as update,
        ):
            update.delete_data_file(self.data_file(path))

    def delete_where(self, ids: Sequence[int]) -> None:
        """Delete rows copy-on-write, as PyIceberg does."""
        self.other.delete(In("id", list(ids)))

    def expire(self) -> None:
        table = self.other
        current = table.metadata.current_snapshot_id
        ids = [one.snapshot_id for one in table.snapshots() if one.snapshot_id != current]
        table.maintenance.expire_snapshots().by_ids(ids).commit()

    def rows(self, snapshot_id: str | None = None) -> list[Row]:
        scan = self.other.scan(snapshot_id=int(snapshot_id) if snapshot_id else None)
        return sorted(tuple(row.values()) for row in scan.to_arrow().to_pylist())
