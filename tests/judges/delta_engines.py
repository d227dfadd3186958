"""Engines in this process that read a Delta table, behind one function each."""

from __future__ import annotations

import json
from collections.abc import Callable

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
from deltalake import DeltaTable as PeerTable

from catalog.delta.table import DeltaTable
from catalog.model import KEEP_ALL
from catalog.open import open_table

Reader = Callable[[str], pa.Table]


def read_with_deltalake(path: str) -> pa.Table:
    """Read through delta-rs."""
    return pa.table(PeerTable(path).scan())


def read_with_polars(path: str) -> pa.Table:
    """Read through Polars' own reader, planned by delta-rs."""
    return pl.scan_delta(path).collect().to_arrow()


def read_ids_with_duckdb(path: str) -> pa.Table:
    """Read the column `id` from the files that we take for live, with DuckDB."""
    table = open_table(path)
    assert isinstance(table, DeltaTable)
    snapshot = table.snapshot()
    files, inventory = table.files(snapshot), table.inventory(snapshot)
    selections = files.selections(inventory)
    schema = json.loads(table.load()[1].metadata.schema_text)
    column = files.schema.arrow[[one["name"] for one in schema["fields"]].index("id")]
    parts = [pa.table({"id": pa.array([], pa.int64())})]
    for one in inventory.slices():
        rows = duckdb.sql(
            f'SELECT "{column.name}" AS id, file_row_number AS position '
            f"FROM read_parquet('{_quoted(files.locate(one.path).path)}', file_row_number = true)"
        ).to_arrow_table()
        dropped = selections.get(one.path, KEEP_ALL).dropped
        kept = ~np.isin(rows["position"].to_numpy(), dropped)
        parts.append(rows.select(["id"]).filter(pa.array(kept)))
    return pa.concat_tables(parts)


def _quoted(path: str) -> str:
    return path.replace("'", "''")


READERS: dict[str, Reader] = {"deltalake": read_with_deltalake, "polars": read_with_polars}
# What an engine does not read, by the name of the table.
_MAPPED = {
    "column_mapping_name",
    "column_mapping_id",
    "column_mapping_upgraded",
    "column_mapping_partitioned",
    "lakehouse",
    "iceberg_compat",
}
UNREADABLE: dict[str, set[str]] = {
    "deltalake": {"type_widening", "vacuum_protocol_check"},
    # Partition values that are binary are beyond it.
    "polars": {
        "type_widening",
        "vacuum_protocol_check",
        "v2_checkpoint",
        "partitioned",
        *_MAPPED,
    },
}
