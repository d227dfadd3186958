"""The peers: what else can merge small Parquet files; each runs alone in a fresh process.

Usage: python -m benchmarks.peers NAME DIRECTORY OUTPUT
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

ROW_GROUP_ROWS = 1_000_000


def pyiceberg_overwrite(directory: Path, output: Path) -> None:
    """Read the whole table and overwrite it: what PyIceberg offers today."""
    from benchmarks.tables import TABLE, open_catalog

    del output
    table = open_catalog(directory).load_table(TABLE)
    table.overwrite(table.scan().to_arrow())


def pyiceberg_plan(directory: Path, output: Path) -> None:
    """List every file of the table."""
    from benchmarks.tables import TABLE, open_catalog

    del output
    tasks = list(open_catalog(directory).load_table(TABLE).scan().plan_files())
    print(len(tasks))


def pyarrow_copy(directory: Path, output: Path) -> None:
    """Decode and encode with PyArrow alone, one row group of rows in memory: the floor."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = inputs(directory)
    waiting: list[pa.Table] = []
    rows = 0
    with pq.ParquetWriter(
        output, pq.read_schema(paths[0]), compression="zstd", compression_level=3
    ) as writer:
        for path in paths:
            table = pq.ParquetFile(path).read(use_threads=False)
            waiting.append(table)
            rows += table.num_rows
            if rows >= ROW_GROUP_ROWS:
                writer.write_table(pa.concat_tables(waiting), row_group_size=rows)
                waiting, rows = [], 0
        if waiting:
            writer.write_table(pa.concat_tables(waiting), row_group_size=rows)


def duckdb_copy(directory: Path, output: Path) -> None:
    """Decode and encode with DuckDB; field ids and nullability are lost."""
    import duckdb

    paths = [str(path) for path in inputs(directory)]
    connection = duckdb.connect(config={"threads": 1})
    connection.read_parquet(paths).write_parquet(str(output), compression="zstd")


def polars_copy(directory: Path, output: Path) -> None:
    """Decode and encode with Polars; field ids and nullability are lost."""
    import polars

    paths = [str(path) for path in inputs(directory)]
    polars.scan_parquet(paths).sink_parquet(output, compression="zstd", compression_level=3)


def copy_bytes(directory: Path, output: Path) -> None:
    """Copy the bytes, as `cp` does."""
    import shutil

    with output.open("wb") as sink:
        for path in inputs(directory):
            with path.open("rb") as source:
                shutil.copyfileobj(source, sink, 1 << 20)


def inputs(directory: Path) -> list[Path]:
    """Return the data files of a prepared table in the order of their names."""
    return sorted((directory / "warehouse" / "ns" / "t" / "data").glob("[0-9]*.parquet"))


PEERS: dict[str, Callable[[Path, Path], None]] = {
    "pyiceberg-overwrite": pyiceberg_overwrite,
    "pyiceberg-plan": pyiceberg_plan,
    "pyarrow": pyarrow_copy,
    "duckdb": duckdb_copy,
    "polars": polars_copy,
    "cp": copy_bytes,
}

if __name__ == "__main__":
    PEERS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
