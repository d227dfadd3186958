"""Count the rows of a table with DuckDB in a gibibyte; runs in the judges' environment.

Usage: key_deletes_with_duckdb.py METADATA_LOCATION
"""

import resource
import sys
from pathlib import Path

import duckdb
import duckdb_extension_avro
import duckdb_extension_iceberg

# Its own limit is not kept where it reads delete files: without this one it takes gigabytes.
resource.setrlimit(resource.RLIMIT_DATA, (3 << 29, 3 << 29))
connection = duckdb.connect()
for package in (duckdb_extension_avro, duckdb_extension_iceberg):
    extension = next(Path(package.__file__).parent.rglob("*.duckdb_extension"))
    connection.execute(f"LOAD '{extension}'")
connection.execute("SET memory_limit = '1GiB'")
connection.execute("SET threads = 2")
location = sys.argv[1].removeprefix("file://")
print(connection.execute(f"SELECT count(*), sum(value) FROM iceberg_scan('{location}')").fetchall())
