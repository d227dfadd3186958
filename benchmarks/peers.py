"""The peers: what else can merge small Parquet files; each runs alone in a fresh process.

Usage: python -m benchmarks.peers NAME DIRECTORY OUTPUT
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

ROW_GROUP_ROWS = 1_000_000
SORT_KEYS = ("l_shipdate", "l_partkey")


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


def duckdb_sort(directory: Path, output: Path) -> None:
    """Sort with DuckDB, in as much memory as it likes; field ids and nullability are lost."""
    _duckdb_sorted(directory, output, {"threads": 1})


def duckdb_sort_small(directory: Path, output: Path) -> None:
    """Sort with DuckDB in 1 GiB, the rest on disk."""
    spill = str(directory / "spill")
    _duckdb_sorted(
        directory, output, {"threads": 1, "memory_limit": "1GiB", "temp_directory": spill}
    )


def _duckdb_sorted(directory: Path, output: Path, config: dict[str, str | int]) -> None:
    import duckdb

    paths = [str(path) for path in inputs(directory)]
    rows = duckdb.connect(config=config).read_parquet(paths).order(", ".join(SORT_KEYS))
    rows.write_parquet(str(output), compression="zstd")


def deltalake_plan(directory: Path, output: Path) -> None:
    """Load a Delta table and list every file of it with its size and partition."""
    from deltalake import DeltaTable

    del output
    print(DeltaTable(directory).get_add_actions(flatten=True).num_rows)


def deltalake_optimize(directory: Path, output: Path) -> None:
    """Compact a Delta table as it is done by default: to zstd."""
    from deltalake import DeltaTable

    from benchmarks.delta_tables import TABLE

    del output
    DeltaTable(directory / TABLE).optimize.compact()


def deltalake_optimize_to_zstd_1(directory: Path, output: Path) -> None:
    """Compact a Delta table to zstd of the level that ours writes: its own default is 4."""
    from deltalake import DeltaTable, WriterProperties

    from benchmarks.delta_tables import TABLE

    del output
    writer = WriterProperties(compression="ZSTD", compression_level=1)
    DeltaTable(directory / TABLE).optimize.compact(writer_properties=writer)


def deltalake_optimize_to_snappy(directory: Path, output: Path) -> None:
    """Compact a Delta table, and leave the codec as it is."""
    from deltalake import DeltaTable, WriterProperties

    from benchmarks.delta_tables import TABLE

    del output
    writer = WriterProperties(compression="SNAPPY")
    DeltaTable(directory / TABLE).optimize.compact(writer_properties=writer)


def deltalake_zorder(directory: Path, output: Path) -> None:
    """Z-order a Delta table over the same files."""
    from deltalake import DeltaTable, WriterProperties, convert_to_deltalake

    data = str(inputs(directory)[0].parent)
    convert_to_deltalake(data)
    properties = WriterProperties(compression="ZSTD", compression_level=3)
    DeltaTable(data).optimize.z_order(
        list(SORT_KEYS), target_size=512 << 20, writer_properties=properties
    )


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
    "duckdb-sort": duckdb_sort,
    "duckdb-sort in 1 GiB": duckdb_sort_small,
    "deltalake-plan": deltalake_plan,
    "deltalake-optimize": deltalake_optimize,
    "deltalake-optimize to zstd 1": deltalake_optimize_to_zstd_1,
    "deltalake-optimize to snappy": deltalake_optimize_to_snappy,
    "deltalake-zorder": deltalake_zorder,
    "cp": copy_bytes,
}

if __name__ == "__main__":
    PEERS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
