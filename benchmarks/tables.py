"""Iceberg tables for the benchmarks: data files made once, a fresh table of links per run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
    schema_to_pyarrow,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from catalog.iceberg.row_delta import PositionDeletes, commit_position_deletes

CATALOG = "bench"
NAMESPACE = "ns"
TABLE = f"{NAMESPACE}.t"
UNPARTITIONED = Record()


@dataclass(frozen=True, slots=True)
class Input:
    """Data files of one shape.

    Attributes:
        name: names the cached directory.
        make: (rows, seed) to rows.
        files: number of data files.
        rows_per_file: rows of each.
        row_groups: row groups of each.
    """

    name: str
    make: Callable[[int, int], pa.Table]
    files: int
    rows_per_file: int
    row_groups: int = 1


@dataclass(frozen=True, slots=True)
class Prepared:
    """A fresh table of one run.

    Attributes:
        directory: holds catalog and warehouse; removed after the run.
        data_files: paths of the input files.
        input_bytes: their bytes.
        target: the table, as `compact` takes it.
    """

    directory: Path
    data_files: tuple[Path, ...]
    input_bytes: int
    target: str = f"{CATALOG}.{TABLE}"

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that let any PyIceberg client find the catalog."""
        return environment_of(self.directory)


def properties(directory: Path) -> dict[str, str]:
    """Return the catalog properties of a run's directory."""
    return {
        "type": "sql",
        "uri": f"sqlite:///{directory}/catalog.db",
        "warehouse": f"file://{directory}/warehouse",
    }


def environment_of(directory: Path) -> dict[str, str]:
    """Return the variables that let any PyIceberg client find the catalog of a run."""
    prefix = f"PYICEBERG_CATALOG__{CATALOG.upper()}__"
    return {f"{prefix}{key.upper()}": value for key, value in properties(directory).items()}


def open_catalog(directory: Path) -> Catalog:
    """Open the SQL catalog of a run."""
    return load_catalog(CATALOG, **properties(directory))


def cached_files(source: Input, cache: Path) -> Path:
    """Write the data files of an input unless an earlier run has; return their directory."""
    cut = f"in{source.row_groups}" if source.row_groups > 1 else ""
    directory = cache / f"{source.name}-{source.files}x{source.rows_per_file}{cut}"
    if directory.exists():
        return directory
    partial = directory.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    schema = iceberg_arrow_schema(source)
    for index in range(source.files):
        rows = source.make(source.rows_per_file, index).cast(schema)
        pq.write_table(
            rows, partial / f"{index:05}.parquet", compression="zstd", compression_level=3,
            write_page_index=True, write_page_checksum=True,
            row_group_size=source.rows_per_file // source.row_groups,
        )  # fmt: skip
    partial.rename(directory)
    return directory


def iceberg_arrow_schema(source: Input) -> pa.Schema:
    """Return the Arrow schema with the field ids that a new Iceberg table gives the columns."""
    return schema_to_pyarrow(_iceberg_schema(source), include_field_ids=True)


def _iceberg_schema(source: Input) -> Schema:
    with tempfile.TemporaryDirectory() as scratch:
        catalog = open_catalog(Path(scratch))
        catalog.create_namespace(NAMESPACE)
        return catalog.create_table(TABLE, source.make(2, 0).schema).schema()


def prepare(source: Input, cache: Path, directory: Path) -> Prepared:
    """Make a fresh table in `directory` over hard links to the cached files."""
    files = cached_files(source, cache)
    catalog = open_catalog(_emptied(directory))
    catalog.create_namespace(NAMESPACE)
    table = catalog.create_table(TABLE, _iceberg_schema(source))
    data = directory / "warehouse" / NAMESPACE / "t" / "data"
    data.mkdir(parents=True, exist_ok=True)
    linked = tuple(_linked(path, data) for path in sorted(files.iterdir()))
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        for file in data_files(table, linked):
            append.append_data_file(file)
    return Prepared(directory, linked, sum(path.stat().st_size for path in linked))


def delete_rows(prepared: Prepared, source: Input, share: float) -> None:
    """Delete a row in this share of the row groups, spread evenly, by a delete file per file."""
    table = open_catalog(prepared.directory).load_table(TABLE)
    step = round(1 / share)
    rows_per_group = source.rows_per_file // source.row_groups
    deletes = []
    files = sorted((task.file for task in table.scan().plan_files()), key=lambda f: f.file_path)
    for number, file in enumerate(files):
        first = number * source.row_groups
        touched = [group - first for group in range(first, first + source.row_groups)
                   if group % step == 0]  # fmt: skip
        if touched:
            positions = [group * rows_per_group + 7 for group in touched]
            deletes.append(PositionDeletes(file, {file.file_path: positions}))
    commit_position_deletes(table, deletes)


def _emptied(directory: Path) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def _linked(path: Path, directory: Path) -> Path:
    target = directory / path.name
    os.link(path, target)
    return target


def data_files(
    table: Table, paths: tuple[Path, ...], partition: Record = UNPARTITIONED
) -> Iterator[DataFile]:
    """Describe Parquet files of one partition by their footers."""
    plan = compute_statistics_plan(table.schema(), table.properties)
    mapping = parquet_path_to_id_mapping(table.schema())
    for path in paths:
        statistics = data_file_statistics_from_parquet_metadata(
            pq.read_metadata(path), stats_columns=plan, parquet_column_mapping=mapping
        )
        file = DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=f"file://{path}",
            file_format=FileFormat.PARQUET,
            partition=partition,
            file_size_in_bytes=path.stat().st_size,
            **statistics.to_serialized_dict(),
        )
        file.spec_id = table.spec().spec_id
        yield file
