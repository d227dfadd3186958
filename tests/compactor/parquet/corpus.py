"""Parquet files of many writers: types, codecs, page versions, indexes, filters, nesting."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.location import Location
from catalog.storage import Storage
from compactor.parquet import (
    Assembly,
    Footer,
    SpliceSource,
    plan_splice,
    read_footer,
    write_splice,
)

STORAGE = Storage()


def rows(seed: int, count: int = 600) -> pa.Table:
    """Return rows of every type that a lakehouse table may have; nulls in all but `id`."""
    step = range(seed * count, seed * count + count)

    def some(make: Callable[[int], Any], every: int = 7) -> list[Any]:
        return [None if i % every == 3 else make(i) for i in step]

    day = datetime.date(2020, 1, 1)
    moment = datetime.datetime(2020, 1, 1)
    utc = moment.replace(tzinfo=datetime.UTC)
    second = datetime.timedelta(seconds=1)
    return pa.table(
        {
            "id": pa.array(step, pa.int64()),
            "flag": pa.array(some(lambda i: i % 3 == 0), pa.bool_()),
            "small": pa.array(some(lambda i: i % 100), pa.int8()),
            "unsigned": pa.array(some(lambda i: i + 2**31), pa.uint32()),
            "float": pa.array(some(lambda i: i / 3), pa.float32()),
            "double": pa.array(some(lambda i: float("nan") if i % 50 == 9 else i / 7)),
            "price": pa.array(some(lambda i: decimal.Decimal(i) / 100), pa.decimal128(12, 2)),
            "huge": pa.array(some(lambda i: decimal.Decimal(i) ** 4), pa.decimal128(38, 0)),
            "day": pa.array(some(lambda i: day + datetime.timedelta(days=i % 900)), pa.date32()),
            "clock": pa.array(some(lambda i: i * 1000), pa.time64("us")),
            "at": pa.array(some(lambda i: moment + i * second), pa.timestamp("us")),
            "at_utc": pa.array(some(lambda i: utc + i * second), pa.timestamp("us", "UTC")),
            "at_ns": pa.array(some(lambda i: i * 1000), pa.timestamp("ns")),
            "name": pa.array(some(lambda i: f"name-{i:07}"), pa.string()),
            "tag": pa.array(some(lambda i: f"tag-{i % 5}"), pa.string()),
            "blob": pa.array(some(lambda i: bytes([i % 256]) * (i % 9)), pa.binary()),
            "fixed": pa.array(some(lambda i: i.to_bytes(16, "big")), pa.binary(16)),
            "empty": pa.array([None] * count, pa.int32()),
            "list": pa.array(some(lambda i: [i] * (i % 4)), pa.list_(pa.int64())),
            "point": pa.array(
                some(lambda i: {"x": i, "y": None if i % 5 == 0 else str(i)}),
                pa.struct([("x", pa.int32()), ("y", pa.string())]),
            ),
            "labels": pa.array(
                some(lambda i: [(f"k{j}", i * j) for j in range(i % 3)]),
                pa.map_(pa.string(), pa.int64()),
            ),
            "deep": pa.array(
                some(lambda i: [[{"a": [i]}], [], [{"a": None}]][: i % 4]),
                pa.list_(pa.list_(pa.struct([("a", pa.list_(pa.int32()))]))),
            ),
        }
    )


def with_pyarrow(path: Path, table: pa.Table, **options: Any) -> None:
    settings: dict[str, Any] = {"row_group_size": 250, "data_page_size": 700} | options
    pq.write_table(table, path, write_batch_size=50, **settings)


def _duckdb(options: str) -> Callable[[Path, pa.Table], None]:
    def write(path: Path, table: pa.Table) -> None:
        # PyArrow cannot read the delta encoding that DuckDB gives to unsigned integers.
        wide = pa.concat_tables([table] * 8).drop_columns(["empty", "unsigned"])
        with duckdb.connect() as connection:
            connection.register("wide", wide)
            connection.execute(
                f"COPY wide TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 2048, {options})"
            )

    return write


def _polars(path: Path, table: pa.Table) -> None:
    frame = pl.DataFrame(table.drop_columns(["labels", "empty"]))
    frame.write_parquet(path, row_group_size=250, data_page_size=700, compression="zstd")


def _pyarrow(**options: Any) -> Callable[[Path, pa.Table], None]:
    def write(path: Path, table: pa.Table) -> None:
        with_pyarrow(path, table, **options)

    return write


FILTERS = {"id": {"ndv": 300}, "name": {"ndv": 300, "fpp": 0.01}}
WRITERS: dict[str, Callable[[Path, pa.Table], None]] = {
    "plain": _pyarrow(compression="none", use_dictionary=False, write_statistics=False),
    "snappy": _pyarrow(compression="snappy"),
    "index": _pyarrow(compression="zstd", write_page_index=True, write_page_checksum=True),
    "filters": _pyarrow(
        compression="lz4",
        write_page_index=True,
        bloom_filter_options=FILTERS,
        store_decimal_as_integer=True,
    ),
    "filters-alone": _pyarrow(compression="gzip", bloom_filter_options=FILTERS),
    "pages-v2": _pyarrow(
        compression="brotli",
        data_page_version="2.0",
        write_page_index=True,
        write_page_checksum=True,
        use_dictionary=["tag"],
        column_encoding={"id": "DELTA_BINARY_PACKED", "name": "DELTA_BYTE_ARRAY"},
    ),
    "no-schema": _pyarrow(compression="zstd", store_schema=False, write_page_index=True),
    "int96": _pyarrow(compression="snappy", use_deprecated_int96_timestamps=True),
    "version-1": _pyarrow(compression="snappy", version="1.0", write_page_index=True),
    "one-group": _pyarrow(compression="zstd", row_group_size=10_000, write_page_index=True),
    "duckdb": _duckdb("COMPRESSION zstd"),
    "duckdb-v2": _duckdb("COMPRESSION snappy, PARQUET_VERSION v2"),
    "polars": _polars,
}


def written(directory: Path, writer: str, files: int) -> list[Path]:
    """Write files of one writer."""
    paths = [directory / f"{writer}-{index}.parquet" for index in range(files)]
    for index, path in enumerate(paths):
        WRITERS[writer](path, rows(index))
    return paths


def opened(path: Path) -> Footer:
    return read_footer(STORAGE, Location.parse(str(path)), path.stat().st_size)


def whole(path: Path) -> SpliceSource:
    footer = opened(path)
    return SpliceSource(footer, range(footer.row_group_count))


def spliced(
    sources: Sequence[SpliceSource | Assembly], output: Path, *, like: Footer | None = None
) -> Path:
    """Splice and check what the result says of itself."""
    plan = plan_splice(sources, like=like)
    result = write_splice(STORAGE, plan, Location.parse(str(output)))
    assert result.size_bytes == output.stat().st_size
    metadata = pq.read_metadata(output)
    assert tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)) == (
        result.row_counts
    )
    assert metadata.num_rows == sum(result.row_counts)
    return output


def read(path: Path) -> pa.Table:
    return pq.ParquetFile(path, page_checksum_verification=True).read()


def row_groups(path: Path, indexes: list[int]) -> pa.Table:
    return pq.ParquetFile(path).read_row_groups(indexes)
