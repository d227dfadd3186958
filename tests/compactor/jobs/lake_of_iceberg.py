"""The Iceberg table of crash tests, in a SQL catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyiceberg.catalog import MetastoreCatalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import ForbiddenError
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import LongType, NestedField, StringType

from catalog.iceberg.table import IcebergTable
from compactor.jobs.failpoints import Failpoint
from tests.compactor.jobs.crashes import COMMIT_ANSWERED, COMMIT_STAGED, dying_after, refusing
from tests.compactor.jobs.lake import DELETED, FILES_PER_PARTITION, rows_of
from tests.iceberg_tables import data_files, delete_positions, make_table, rows, sql_catalog
from tests.orphans import unreferenced_files

_SCHEMA = Schema(
    NestedField(1, "n", LongType(), required=True),
    NestedField(2, "day", LongType(), required=True),
    NestedField(3, "text", StringType(), required=False),
)
_SPEC = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "day"))


class Lake:
    """The table `ns.t`; deleted rows are in position delete files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def make(self) -> None:
        table = make_table(self.directory, _SCHEMA, spec=_SPEC)
        for number in range(FILES_PER_PARTITION):
            table.append(rows_of(number, table.schema().as_arrow()))
        for file in data_files(table)[::3]:
            delete_positions(table, file, list(DELETED))

    def open(self) -> IcebergTable:
        return IcebergTable("lake.ns.t", sql_catalog(self.directory), ("ns", "t"))

    def contents(self) -> list[dict[str, Any]]:
        return rows(sql_catalog(self.directory).load_table("ns.t"))

    def orphans(self) -> list[str]:
        return unreferenced_files(sql_catalog(self.directory).load_table("ns.t"))

    def arm(self) -> None:
        MetastoreCatalog._write_metadata = staticmethod(
            dying_after(MetastoreCatalog._write_metadata, COMMIT_STAGED)
        )
        commit = refusing(
            SqlCatalog.commit_table, Failpoint.BATCH_ABSENT, ForbiddenError("no commits today")
        )
        SqlCatalog.commit_table = dying_after(commit, COMMIT_ANSWERED)
