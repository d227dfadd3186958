"""Every engine that reads a snapshot of an Iceberg table, behind one function each."""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.table import StaticTable

from tests.judges.environment import JUDGES_PYTHON, ROOT
from tests.judges.spark_session import shared_session

Reader = Callable[[str, int, Path], pa.Table]


def read_with_pyiceberg(metadata_location: str, snapshot_id: int, scratch: Path) -> pa.Table:
    """Read through PyIceberg."""
    del scratch
    return StaticTable.from_metadata(metadata_location).scan(snapshot_id=snapshot_id).to_arrow()


def read_with_polars(metadata_location: str, snapshot_id: int, scratch: Path) -> pa.Table:
    """Read through Polars' own reader, planned by PyIceberg."""
    del scratch
    with warnings.catch_warnings():
        # It recommends a planner of its own.
        warnings.simplefilter("ignore")
        frame = pl.scan_iceberg(metadata_location, snapshot_id=snapshot_id).collect()
    return frame.to_arrow()


def read_with_duckdb(metadata_location: str, snapshot_id: int, scratch: Path) -> pa.Table:
    """Read through DuckDB's own Iceberg extension, of a version of its own."""
    assert JUDGES_PYTHON.exists(), "the judges are not installed: run `make judges`"
    output = scratch / f"duckdb-{snapshot_id}.parquet"
    reader = ROOT / "tests" / "judges" / "read_with_duckdb.py"
    subprocess.run(
        [JUDGES_PYTHON, reader, metadata_location, str(snapshot_id), output],
        check=True,
        timeout=300,
    )
    return pq.ParquetFile(output).read()


def read_with_spark(metadata_location: str, snapshot_id: int, scratch: Path) -> pa.Table:
    """Read through Spark and the reference implementation of Iceberg."""
    del scratch
    return shared_session().snapshot(metadata_location, snapshot_id)


READERS: dict[str, Reader] = {
    "pyiceberg": read_with_pyiceberg,
    "polars": read_with_polars,
    "duckdb": read_with_duckdb,
    "spark": read_with_spark,
}


def normalised(rows: pa.Table, schema: pa.Schema, key: str) -> pa.Table:
    """Return rows in one schema and one order, so that engines can be compared cell by cell."""
    plain = rows.select(schema.names).cast(pa.schema(_plain(field) for field in schema))
    return plain.take(pc.sort_indices(plain, [(key, "ascending")])).combine_chunks()


def _plain(field: pa.Field) -> pa.Field:
    """Forget what engines spell differently: nullability, metadata, names of list items."""
    kind = field.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = pa.list_(_plain(kind.value_field.with_name("element")))
    elif pa.types.is_struct(kind):
        kind = pa.struct([_plain(kind.field(index)) for index in range(kind.num_fields)])
    elif pa.types.is_map(kind):
        kind = pa.map_(_plain(kind.key_field).type, _plain(kind.item_field).type)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        kind = pa.string()
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        kind = pa.binary()
    return pa.field(field.name, kind)
