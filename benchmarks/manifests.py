"""A table of many data files that exist in its metadata alone: the input of the planning case."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pyarrow as pa
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.typedef import Record

from benchmarks.tables import TABLE, Prepared, open_catalog

COLUMNS = 20
FILE_BYTES = 2_500_000
FILE_ROWS = 75_000


def prepare_manifests(directory: Path, manifests: int, files_per_manifest: int) -> Prepared:
    """Make a table of `manifests` appends of `files_per_manifest` files, unless it is there."""
    prepared = Prepared(directory, (), manifests * files_per_manifest * FILE_BYTES)
    ready = directory / "ready"
    if ready.exists():
        return prepared
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    catalog = open_catalog(directory)
    catalog.create_namespace("ns")
    names = [f"column_{index:02}" for index in range(COLUMNS)]
    table = catalog.create_table(TABLE, pa.schema([(name, pa.int64()) for name in names]))
    for manifest in range(manifests):
        with table.transaction() as change, change.update_snapshot().fast_append() as append:
            for index in range(files_per_manifest):
                append.append_data_file(_file(table.location(), manifest, index))
    ready.touch()
    return prepared


def _file(location: str, manifest: int, index: int) -> DataFile:
    ids = range(1, COLUMNS + 1)
    low = struct.pack("<q", manifest * 1_000_000 + index)
    high = struct.pack("<q", manifest * 1_000_000 + index + FILE_ROWS)
    file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=f"{location}/data/00000-{manifest}-{index:08}-0000000000000000.parquet",
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=FILE_ROWS,
        file_size_in_bytes=FILE_BYTES,
        column_sizes=dict.fromkeys(ids, FILE_BYTES // COLUMNS),
        value_counts=dict.fromkeys(ids, FILE_ROWS),
        null_value_counts=dict.fromkeys(ids, 0),
        nan_value_counts={},
        lower_bounds=dict.fromkeys(ids, low),
        upper_bounds=dict.fromkeys(ids, high),
        split_offsets=[4],
    )
    file.spec_id = 0
    return file
