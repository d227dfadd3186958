"""Read a snapshot with DuckDB's own Iceberg extension into a Parquet file.

Usage: read_with_duckdb.py METADATA_LOCATION SNAPSHOT_ID OUTPUT
"""

import sys
from pathlib import Path

import duckdb
import duckdb_extension_avro
import duckdb_extension_iceberg

metadata_location, snapshot_id, output = sys.argv[1:]
connection = duckdb.connect()
for package in (duckdb_extension_avro, duckdb_extension_iceberg):
    extension = next(Path(package.__file__).parent.rglob("*.duckdb_extension"))
    connection.execute(f"LOAD '{extension}'")
connection.execute("SET TimeZone = 'UTC'")
connection.execute(
    f"COPY (FROM iceberg_scan('{metadata_location.removeprefix('file://')}', "
    f"snapshot_from_id => {snapshot_id})) TO '{output}' (FORMAT parquet)"
)
