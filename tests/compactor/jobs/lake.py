"""An Iceberg table of small files with position deletes, and what must hold of it after a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table as PyIcebergTable
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import LongType, NestedField, StringType

from catalog.iceberg.table import IcebergTable
from compactor.jobs.store import JobStore, open_store
from compactor.planner.policy import Policy
from tests.iceberg_tables import data_files, delete_positions, make_table, rows, sql_catalog
from tests.orphans import unreferenced_files

PARTITIONS = 5
FILES_PER_PARTITION = 3
ROWS_PER_FILE = 40
POLICY = Policy(min_input_files=2)
_SCHEMA = Schema(
    NestedField(1, "n", LongType(), required=True),
    NestedField(2, "day", LongType(), required=True),
    NestedField(3, "text", StringType(), required=False),
)
_SPEC = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "day"))


def make_lake(directory: Path) -> PyIcebergTable:
    """Make `ns.t`: small files in a few partitions, every third with deleted rows."""
    table = make_table(directory, _SCHEMA, spec=_SPEC)
    for number in range(FILES_PER_PARTITION):
        table.append(_rows(number, table.schema().as_arrow()))
    for file in data_files(table)[::3]:
        delete_positions(table, file, [0, 7, 39])
    return table.refresh()


def _rows(number: int, schema: pa.Schema) -> pa.Table:
    count = PARTITIONS * ROWS_PER_FILE
    numbers = range(number * count, (number + 1) * count)
    columns = {
        "n": list(numbers),
        "day": [n % PARTITIONS for n in numbers],
        "text": [f"row {n}" if n % 11 else None for n in numbers],
    }
    return pa.table(columns, schema=schema)


def open_lake(directory: Path) -> IcebergTable:
    """Open the table as the program does."""
    return IcebergTable("lake.ns.t", sql_catalog(directory), ("ns", "t"))


def open_jobs(directory: Path) -> JobStore:
    """Open the job store beside the table."""
    return open_store(f"sqlite:///{directory}/state/jobs.db")


def contents(directory: Path) -> list[dict[str, Any]]:
    """Read every row through PyIceberg."""
    return rows(sql_catalog(directory).load_table("ns.t"))


def orphans(directory: Path) -> list[str]:
    """Return the files under the table that nothing refers to."""
    return unreferenced_files(sql_catalog(directory).load_table("ns.t"))
